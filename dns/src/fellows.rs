//! DNS nodes tell each other what they found, over QUIC, with the hub or without it.
//!
//! Each node dials every other one of the snapshot's list and publishes its findings there; what a node hears comes over
//! the sessions that others opened to it. So a pair that can be dialled in one direction only still tells in that one.
//! Both ends show the certificate that the hub gave them, and each knows the other by the name in it.
//!
//! Findings are whole and level-triggered: the newest takes the place of one that waits, and one that is lost is made
//! good a second later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::wire::{Findings, topic};
use async_trait::async_trait;
use bytes::Bytes;
use policies::failover::traffic::NodeId;
use prost::Message as _;
use tokio::sync::mpsc;
use tunnel::Timing;
use tunnel::client::{Link, LinkConfig, LinkError, LinkEvent, Toward};
use tunnel::dial::Backoff;
use tunnel::identity::{Identity, IdentityError, Peer, Revocation, Role, ServerIdentity, random_id};
use tunnel::message::{Hello, HelloAck, Refusal, RefusalCode, Signed};
use tunnel::server::{Backend, Enrolment, Stub, StubConfig, StubError, StubEvent};

/// A fellow that was cut off shall be heard within seconds of its return; there are few, so dialling costs nothing.
const REDIAL: Duration = Duration::from_secs(2);

/// Why a node cannot talk to its fellows.
#[derive(Debug, thiserror::Error)]
pub enum FellowError {
    /// Its own certificate.
    #[error("this node's certificate cannot serve its fellows")]
    Identity(#[from] IdentityError),
    /// The socket.
    #[error("cannot listen on UDP {listen} for fellow DNS nodes: choose another address with --peering")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: StubError,
    },
    /// A newer certificate.
    #[error("cannot serve fellow DNS nodes with the renewed certificate")]
    Renew(#[source] StubError),
}

/// This node among its fellows.
pub struct Fellows {
    me: NodeId,
    source: Option<IpAddr>,
    identity: Identity,
    stub: Stub,
    backend: Arc<Reception>,
    dialled: BTreeMap<NodeId, Dialled>,
    told: u64,
}

struct Dialled {
    addresses: Vec<String>,
    link: Link,
}

impl Fellows {
    /// Listens on `listen`, and will speak from `source`; dials nobody yet. What fellows say comes out of the channel.
    ///
    /// # Errors
    /// [`FellowError`].
    pub fn bind(
        me: &str,
        listen: SocketAddr,
        source: Option<IpAddr>,
        identity: Identity,
    ) -> Result<(Self, mpsc::Receiver<StubEvent>), FellowError> {
        let config = StubConfig { addr: listen, identity: ServerIdentity::of(&identity)?, timing: timing() };
        let backend = Arc::new(Reception { me: me.to_owned(), revoked: Mutex::default() });
        let bound = Stub::bind(config, backend.clone());
        let (stub, events) = bound.map_err(|source| FellowError::Listen { listen, source })?;
        Ok((Self { me: me.to_owned(), source, identity, stub, backend, dialled: BTreeMap::new(), told: 0 }, events))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.stub.local_addr()
    }

    /// Listens to nobody with one of these certificates from now on.
    pub fn revoke(&self, revoked: BTreeSet<Revocation>) {
        *self.backend.revoked.lock().unwrap_or_else(PoisonError::into_inner) = revoked;
        self.stub.drop_revoked();
    }

    /// Tells these nodes from now on, and no others.
    pub fn dial(&mut self, peering: &BTreeMap<NodeId, Vec<String>>) {
        self.dialled.retain(|node, dialled| peering.get(node) == Some(&dialled.addresses));
        for (node, addresses) in peering {
            if *node == self.me || addresses.is_empty() || self.dialled.contains_key(node) {
                continue;
            }
            match self.link(node, addresses.clone()) {
                Ok(link) => _ = self.dialled.insert(node.clone(), Dialled { addresses: addresses.clone(), link }),
                Err(error) => tracing::error!(node, error = %admin::chain(&error), "cannot dial a fellow node"),
            }
        }
    }

    /// Goes on with a newer certificate.
    ///
    /// # Errors
    /// [`FellowError`]; fellows are then served with the old one.
    pub fn renew(&mut self, identity: Identity) -> Result<(), FellowError> {
        self.identity = identity;
        // Each link shows the certificate that it began with.
        let peering = std::mem::take(&mut self.dialled).into_iter().map(|(node, d)| (node, d.addresses)).collect();
        self.dial(&peering);
        self.stub.set_identity(&ServerIdentity::of(&self.identity)?).map_err(FellowError::Renew)
    }

    /// Tells every fellow.
    pub fn tell(&mut self, findings: &Findings) {
        self.told += 1;
        let payload = Bytes::from(findings.encode_to_vec());
        for (node, dialled) in &self.dialled {
            if let Err(error) = dialled.link.publish(topic::FINDINGS, self.told, payload.clone()) {
                tracing::error!(node, %error, "cannot tell a fellow node");
            }
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        const WHY: &str = "the DNS node is stopping";
        let links = futures::future::join_all(self.dialled.into_values().map(|dialled| dialled.link.close(WHY)));
        futures::join!(links, self.stub.close(WHY));
    }

    fn link(&self, node: &NodeId, addresses: Vec<String>) -> Result<Link, LinkError> {
        let hello = Hello {
            software: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.me.clone(),
            boot: random_id(),
            ..Hello::default()
        };
        let toward = Toward::Fellow { role: Role::Dns, name: node.clone() };
        let identity = self.identity.clone();
        let (link, mut events) = Link::start(LinkConfig {
            toward,
            hubs: addresses,
            identity,
            hello,
            source: self.source,
            timing: timing(),
        })?;
        let node = node.clone();
        // Ends with the link. Nothing that happens on it changes what this node does: it tells whoever can be told.
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    LinkEvent::Connected { .. } => tracing::info!(node, "fellow node connected"),
                    LinkEvent::Disconnected { why } => tracing::warn!(node, why, "fellow node disconnected"),
                    LinkEvent::Refused { message, .. } => {
                        tracing::error!(node, message, "fellow node refuses this one")
                    }
                    LinkEvent::Published { .. } | LinkEvent::Renewed(_) => {}
                }
            }
        });
        Ok(link)
    }
}

/// What a fellow said in a publication of its session; `None` for anything else.
pub fn heard(event: StubEvent) -> Option<(NodeId, Findings)> {
    match event {
        StubEvent::Published { peer, topic, payload, .. } if topic == topic::FINDINGS => {
            match Findings::decode(payload) {
                Ok(findings) => Some((peer.name, findings)),
                Err(error) => {
                    tracing::warn!(%peer, %error, "a fellow node's findings cannot be read");
                    None
                }
            }
        }
        StubEvent::Published { .. } | StubEvent::Joined(_) | StubEvent::Left { .. } | StubEvent::Enrolled { .. } => {
            None
        }
    }
}

fn timing() -> Timing {
    Timing { backoff: Backoff { cap: REDIAL, ..Backoff::default() }, ..Timing::default() }
}

/// Lets DNS nodes in, to talk and to nothing else.
struct Reception {
    me: NodeId,
    revoked: Mutex<BTreeSet<Revocation>>,
}

impl Reception {
    fn nothing() -> Refusal {
        Refusal::new(RefusalCode::Foreign, "this is a DNS node: ask the hub")
    }
}

#[async_trait]
impl Backend for Reception {
    async fn enrol(&self, _request: Enrolment) -> Result<Signed, Refusal> {
        Err(Self::nothing())
    }

    async fn renew(&self, _peer: &Peer, _csr: &[u8]) -> Result<Signed, Refusal> {
        Err(Self::nothing())
    }

    fn revoked(&self, peer: &Peer) -> bool {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|revoked| revoked.covers(peer))
    }

    async fn blob(&self, _peer: &Peer, _digest: &[u8]) -> Option<Bytes> {
        None
    }

    fn hello_ack(&self, peer: &Peer, _hello: &Hello) -> HelloAck {
        let refusal = match peer.role {
            Role::Dns => None,
            Role::Agent => Some(Self::nothing()),
        };
        HelloAck { hub: self.me.clone(), term: 0, refusal }
    }
}

#[cfg(test)]
mod tests;
