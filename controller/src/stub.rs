//! What the hub answers on its tunnels: enrolment, renewal, and blobs by digest to those who may have them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use api::wire::Digest;
use async_trait::async_trait;
use bytes::Bytes;
use tunnel::identity::{Authority, Peer, Revocation, Role};
use tunnel::message::{Hello, HelloAck, Refusal, Signed};
use tunnel::server::{Backend, Enrolment};

use crate::core::Decision;
use crate::credentials::Credentials;

/// Blobs that peers may fetch, swapped whole with each decision.
#[derive(Clone, Default)]
pub struct Blobs(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    renders: BTreeMap<Digest, Bytes>,
    /// Which renders each cluster's desired state names: no cluster may read another's.
    allowed: BTreeMap<String, BTreeSet<Digest>>,
    /// Snapshots (the current one and the one before, which a node may still be fetching) and geo data.
    dns: BTreeMap<Digest, Bytes>,
    snapshots: Vec<Digest>,
}

impl Blobs {
    /// Offers geo databases to DNS nodes, for good.
    pub fn offer_geo(&self, blobs: impl IntoIterator<Item = (Digest, Bytes)>) {
        self.shelf(|shelf| shelf.dns.extend(blobs));
    }

    /// Offers what a decision names.
    pub fn offer(&self, decision: &Decision) {
        self.shelf(|shelf| {
            let named = |app: &api::wire::DesiredApp| (!app.render.is_empty()).then(|| app.render.clone());
            let allowed: BTreeMap<String, BTreeSet<Digest>> = decision
                .desired
                .iter()
                .map(|(id, desired)| (id.to_string(), desired.apps.iter().filter_map(named).collect()))
                .collect();
            for (digest, bytes) in &decision.renders {
                shelf.renders.entry(digest.clone()).or_insert_with(|| Bytes::copy_from_slice(bytes));
            }
            shelf.renders.retain(|digest, _| allowed.values().any(|set| set.contains(digest)));
            shelf.allowed = allowed;
            let head = &decision.head.digest;
            if shelf.snapshots.last() != Some(head) {
                shelf.dns.insert(head.clone(), Bytes::copy_from_slice(&decision.snapshot));
                shelf.snapshots.push(head.clone());
                if shelf.snapshots.len() > 2 {
                    let old = shelf.snapshots.remove(0);
                    shelf.dns.remove(&old);
                }
            }
        });
    }

    fn find(&self, peer: &Peer, digest: &[u8]) -> Option<Bytes> {
        self.shelf(|shelf| match peer.role {
            Role::Agent => {
                let allowed = shelf.allowed.get(&peer.name).is_some_and(|set| set.contains(digest));
                allowed.then(|| shelf.renders.get(digest).cloned()).flatten()
            }
            Role::Dns => shelf.dns.get(digest).cloned(),
        })
    }

    fn shelf<T>(&self, act: impl FnOnce(&mut Shelf) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The hub's side of the tunnel protocol.
pub struct HubBackend {
    /// Name of this process, for people.
    pub hub: String,
    /// The leader's term.
    pub term: AtomicU64,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Knows the tokens.
    pub credentials: Credentials,
    /// What may be fetched.
    pub blobs: Blobs,
    /// Who is not welcome, replaced whole.
    pub revoked: Mutex<BTreeSet<Revocation>>,
}

impl HubBackend {
    /// Refuses these from now on; true when they are others than before.
    pub fn revoke(&self, revoked: &BTreeSet<Revocation>) -> bool {
        let mut now = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *now != *revoked;
        if news {
            now.clone_from(revoked);
        }
        news
    }
}

#[async_trait]
impl Backend for HubBackend {
    async fn enrol(&self, request: Enrolment) -> Result<Signed, Refusal> {
        let token = request.token.clone();
        let done = self.credentials.enrol(&self.authority, &request).await;
        match &done {
            Ok(_) => tracing::info!(%token, uid = %request.uid, "enrolled"),
            Err(refusal) => tracing::warn!(%token, uid = %request.uid, why = %refusal.message, "enrolment refused"),
        }
        done
    }

    async fn renew(&self, peer: &Peer, csr: &[u8]) -> Result<Signed, Refusal> {
        tracing::info!(%peer, "certificate renewed");
        self.credentials.sign(&self.authority, csr, &peer.subject())
    }

    fn revoked(&self, peer: &Peer) -> bool {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|revoked| revoked.covers(peer))
    }

    async fn blob(&self, peer: &Peer, digest: &[u8]) -> Option<Bytes> {
        self.blobs.find(peer, digest)
    }

    fn hello_ack(&self, _peer: &Peer, _hello: &Hello) -> HelloAck {
        HelloAck { hub: self.hub.clone(), term: self.term.load(Ordering::Relaxed), refusal: None }
    }
}
