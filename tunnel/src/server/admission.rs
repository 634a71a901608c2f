//! Who connects: handshakes that are counted and have a deadline, and what a peer may do by the certificate it shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::serving::session;
use super::signing::{enrol, renew};
use crate::code::Code;
use crate::identity::Peer;
use crate::message::Kind;
use crate::streams::{lock, read_head};
use crate::transport::Connection;
use crate::transport::quic::QuicConnection;

/// Handshakes at once: a handshake is 1 to 2 ms of CPU and some tens of KiB, so this is 20 MiB and two seconds of work.
const HANDSHAKES_MAX: usize = 1024;
/// Handshakes at once from one address, so that one stalling host leaves room for the rest; a whole site of agents
/// behind one NAT fits.
const HANDSHAKES_PER_ADDRESS_MAX: u32 = 256;
/// From so many handshakes on an address must prove itself by a retry first (RFC 9000 §8.1.2): a round trip more for
/// honest peers, and forged senders hold nothing.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;

/// Takes connections for ever. Never waits for a peer or for the owner.
pub(super) async fn accept(shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let addresses = Arc::new(Addresses::default());
    while let Some(incoming) = shared.endpoint.accept().await {
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= HANDSHAKES_UNPROVEN_MAX && !incoming.remote_address_validated() && incoming.may_retry() {
            // Fails only where a retry is not possible, which was just asked.
            let _ = incoming.retry();
            continue;
        }
        let place = addresses.enter(incoming.remote_address().ip());
        let (Ok(permit), Some(place)) = (handshakes.clone().try_acquire_owned(), place) else {
            incoming.refuse();
            continue;
        };
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => {
                tracing::debug!(%error, "not a connection");
                continue;
            }
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let connection = tokio::time::timeout(shared.timing.handshake, connecting).await;
            drop((permit, place));
            match connection {
                Ok(Ok(connection)) => admit(shared, Arc::new(QuicConnection(connection))).await,
                Ok(Err(error)) => tracing::debug!(%error, "handshake failed"),
                Err(_) => tracing::debug!("handshake took too long"),
            }
        });
    }
}

/// Handshakes per address.
#[derive(Default)]
struct Addresses(Mutex<BTreeMap<IpAddr, u32>>);

struct Place {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

impl Addresses {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut counts = lock(&self.0);
        let count = counts.entry(ip).or_default();
        if *count >= HANDSHAKES_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.addresses.0);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

/// Who is it, and what may it do?
async fn admit(shared: Arc<Shared>, connection: Arc<dyn Connection>) {
    let remote = connection.remote();
    let Some(certificate) = connection.peer_certificate() else {
        return match shared.unknown.clone().try_acquire_owned() {
            Ok(place) => limited(&shared, &*connection, Kind::Enrol, None, place).await,
            Err(_) => connection.close(Code::Busy, "too many enrolments at once; try again"),
        };
    };
    let peer = match Peer::from_certificate(&certificate, SystemTime::now()) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%remote, %error, "a certificate of ours that names nobody");
            return connection.close(Code::BadCertificate, "enrol again with a new token");
        }
    };
    if shared.backend.revoked(&peer) {
        tracing::warn!(%remote, %peer, serial = peer.serial, "revoked peer turned away");
        return connection.close(Code::Revoked, "the hub has revoked this certificate; enrol again with a new token");
    }
    if peer.expired {
        return match shared.unknown.clone().try_acquire_owned() {
            Ok(place) => limited(&shared, &*connection, Kind::Renew, Some(&peer), place).await,
            Err(_) => connection.close(Code::Busy, "too many renewals at once; try again"),
        };
    }
    session(&shared, connection, peer).await;
}

/// Serves one stream of one kind; any other ends the connection.
async fn limited(
    shared: &Shared,
    connection: &dyn Connection,
    allowed: Kind,
    peer: Option<&Peer>,
    _place: OwnedSemaphorePermit,
) {
    let wrong = if peer.is_some() { Code::ExpiredCertificate } else { Code::NoCertificate };
    let serving = async {
        let Ok(mut stream) = connection.accept_bi().await else {
            return;
        };
        match read_head(&mut stream, &shared.timing).await {
            Some((kind, _)) if kind == allowed => {}
            Some(_) => return connection.close(wrong, "this stream needs a valid certificate"),
            None => return connection.close(Code::Protocol, "no such stream"),
        }
        let work = async {
            match peer {
                Some(peer) => drop(renew(shared, peer, &mut stream).await),
                None => enrol(shared, connection.remote(), &mut stream).await,
            }
            // Closing now would drop the answer; the peer closes once it has it.
            connection.closed().await;
        };
        tokio::select! {
            () = work => {}
            Ok(_) = connection.accept_bi() => connection.close(wrong, "one stream only without a valid certificate"),
        }
    };
    // Head, request with the backend's work, farewell.
    if tokio::time::timeout(shared.timing.handshake * 3, serving).await.is_err() {
        connection.close(Code::TooSlow, "");
    }
}
