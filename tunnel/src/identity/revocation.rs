//! Certificates that are not welcome any more although they have not run out.

use std::time::{Duration, SystemTime};

use super::{CLIENT_LIFETIME, Peer, RENEWAL_GRACE, Role};

/// Every certificate of one name up to some moment is revoked. By time and not by serial number, since nobody keeps a
/// list of the certificates that were renewed; whoever joins again with a new token gets a later one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revocation {
    /// What it was issued to.
    pub role: Role,
    /// The cluster's or the DNS node's name.
    pub name: String,
    /// Certificates that began at this moment or earlier are revoked, seconds since 1970.
    pub until_s: u64,
}

impl Revocation {
    /// Whether it is about the certificate that this peer has shown.
    pub fn covers(&self, peer: &Peer) -> bool {
        let began = peer.not_before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.role == peer.role && self.name == peer.name && began.as_secs() <= self.until_s
    }

    /// Whether every certificate that it covers has run out by itself, renewal included: then it says nothing more.
    pub fn is_over(&self, now_s: u64) -> bool {
        const LONGEST: Duration = CLIENT_LIFETIME.saturating_add(RENEWAL_GRACE);
        now_s > self.until_s.saturating_add(LONGEST.as_secs())
    }
}
