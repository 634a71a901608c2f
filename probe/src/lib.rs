//! Whether a cluster's ingress answers, as its users would find it.
//!
//! A probe is a whole HTTP exchange on a connection of its own: what only accepts, or answers half, is no sign of life,
//! and neither is an old connection that still works where new ones fail. The outcome keeps apart what the *target
//! itself* said (it refused, it answered 5xx) and silence, since the two count differently in the vote
//! ([`policies::failover::vote`]).
//!
//! * [`ask`] asks once; [`Prober`] asks a set of clusters each second and hands over what it found.
//!
//! Deliberately absent: any judgement (that is the traffic clock's), certificate checks (nothing that a probe is told is
//! believed beyond "somebody answered", and the ingress's default certificate is self-signed on most clusters), and
//! redirects (one is an answer).

mod ask;
mod prober;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use policies::failover::traffic::Probe;

pub use ask::ask;
pub use prober::Prober;
pub use tls::Tls;

/// Between two probes of a cluster. Two refused in a row are a vote, so a crash shows after two of these.
pub const EVERY: Duration = Duration::from_secs(1);

/// A probe that takes longer is silence. As long as the silence that makes a cluster suspect: a slower answer could not
/// keep it from being so.
pub const LIMIT: Duration = policies::failover::vote::SILENT_SUSPECT;

/// What to ask of one cluster. An answer on any address and port is the cluster's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub addresses: Vec<IpAddr>,
    /// TCP ports, each with whether TLS comes first.
    pub ports: Vec<(u16, bool)>,
    /// Path and query of the request; anything that is none is asked as `/`.
    pub path: String,
    /// Host header and TLS server name; empty: the address, and no server name.
    pub host: String,
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For the vote.
    pub outcome: Probe,
    /// How long it took.
    pub took: Duration,
    /// What was found, for people: `192.0.2.1:80 said 404`.
    pub words: String,
}
