//! The hub's end: a [`Stub`] accepts agents and DNS nodes, and gives its owner one [`Session`] for each.
//!
//! What a connection may do depends on what it has shown:
//!
//! | certificate | served |
//! |---|---|
//! | none | one enrolment, then it ends |
//! | expired, within the grace | renewal only |
//! | valid, not revoked | control first; then publications, fetches, renewal |
//!
//! Accepting never waits for anybody: handshakes run by themselves, are counted, and have a deadline; what only the owner
//! can say is asked of its [`Backend`]; and events go through a bounded channel into which only a session's own task
//! waits. An owner that reads slowly thereby slows publications (each waits for its receipt), enrolments and the
//! announcement of new sessions, each for itself; accepting, beats and renewals of open sessions go on.
//!
//! A session ends when its peer says goodbye, is silent, is revoked, lets its certificate run out, or comes again: a new
//! session of the same role, name, uid and instance ends the old one at once, because QUIC has no FIN from a killed
//! process. The owner sees the old one's `Left` before the new one's `Joined`.

mod admission;
mod serving;
mod signing;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::Timing;
use crate::code::Code;
use crate::identity::{IdentityError, Peer, Role, ServerIdentity, server_tls};
use crate::message::{Hello, HelloAck, Refusal, Signed};
use crate::session::Pulse;
use crate::streams::{Outgoing, lock};
use crate::transport::Connection;
use crate::transport::quic::{server_config, server_endpoint};

pub use crate::streams::PublishError;

/// Events that wait for the owner. A few hundred cover a burst of a fleet that reconnects while the owner is busy for a
/// moment; beyond that sessions wait by themselves, and what they hold is bounded each.
const EVENTS_MAX: usize = 256;
/// Connections without a certificate at once: enrolments are rare, and these hold a place for seconds.
const UNKNOWN_MAX: usize = 128;
/// How long a draining stub waits for its peers to leave by themselves: each answers within a round trip, and those of a
/// process that is being replaced shall not wait for the slowest.
const DRAIN: Duration = Duration::from_secs(2);

/// A token's bearer asks for a certificate. What the owner must decide on, without the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Which token.
    pub token: String,
    /// Of the secret that was shown; compare with [`Token::secret_hash`](crate::identity::Token::secret_hash).
    pub secret_hash: [u8; 32],
    /// The signing request, whose signature is checked.
    pub csr: Vec<u8>,
    /// SHA-256 of its public key. A used token with the same key is a retry; with another it is refused.
    pub key_hash: [u8; 32],
    /// Who asks to be named so, unchecked: the cluster's UID, or a DNS node's own id.
    pub uid: String,
    /// Where the request came from.
    pub remote: SocketAddr,
}

/// What only the stub's owner knows. Called by many sessions at once.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Signs for a token's bearer, or says why not.
    async fn enrol(&self, request: Enrolment) -> Result<Signed, Refusal>;
    /// Signs the peer's next certificate, for the same subject, or says why not.
    async fn renew(&self, peer: &Peer, csr: &[u8]) -> Result<Signed, Refusal>;
    /// Whether the peer's certificate, or the peer, is no longer welcome. Must not wait.
    fn revoked(&self, peer: &Peer) -> bool;
    /// The blob of a digest, if the peer may have it.
    async fn blob(&self, peer: &Peer, digest: &[u8]) -> Option<Bytes>;
    /// The answer to a peer's hello; with a refusal in it the session does not begin. Must not wait.
    fn hello_ack(&self, peer: &Peer, hello: &Hello) -> HelloAck;
}

/// What a stub needs.
#[derive(Clone, Debug)]
pub struct StubConfig {
    /// Where to listen, UDP. One process per address: two that share one steal each other's connections.
    pub addr: SocketAddr,
    /// What to serve with.
    pub identity: ServerIdentity,
    /// The times to keep.
    pub timing: Timing,
}

/// Why a stub cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StubError {
    /// The address cannot be had.
    #[error("cannot listen on {addr}/udp for agents and DNS nodes")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The identity is unusable.
    #[error("the hub's server identity cannot be used")]
    Identity(#[source] IdentityError),
    /// QUIC does not take the settings.
    #[error("the hub's server identity cannot carry QUIC")]
    Quic(#[source] io::Error),
}

/// Names a session within this stub, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What happened at a stub.
#[derive(Clone, Debug)]
pub enum StubEvent {
    /// A session began.
    Joined(Session),
    /// A session that had joined ended; nothing of it follows.
    Left {
        /// Which.
        id: SessionId,
        /// Whose.
        peer: Peer,
        /// Why.
        why: Left,
    },
    /// A peer published. Only the newest payload of a topic counts.
    Published {
        /// In which session.
        id: SessionId,
        /// Who.
        peer: Peer,
        /// Its topic.
        topic: String,
        /// The peer's number.
        number: u64,
        /// The bytes.
        payload: Bytes,
    },
    /// A peer got its first certificate (or, by a retry, got it again).
    Enrolled {
        /// Who, as the certificate says.
        peer: Peer,
        /// By which token.
        token: String,
        /// From where.
        remote: SocketAddr,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The peer left on purpose; its words.
    Goodbye(String),
    /// Nothing came from it for too long.
    Silent,
    /// The same instance has a new session.
    Replaced,
    /// Revoked while it was connected.
    Revoked,
    /// Its certificate ran out and was not renewed.
    Expired,
    /// The owner, or the stub, closed it.
    Closed {
        /// With this.
        code: Code,
        /// And these words.
        reason: String,
    },
    /// The connection broke, or the peer broke the protocol.
    Lost(String),
}

/// One peer's session; a handle, cheap to clone. It stays usable after the end, without effect.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    id: SessionId,
    peer: Mutex<Peer>,
    hello: Hello,
    connection: Arc<dyn Connection>,
    outgoing: Outgoing,
    origin: Instant,
    pulse: watch::Receiver<Pulse>,
    leave: watch::Sender<Option<(Code, String)>>,
    closed: Mutex<Option<(Code, String)>>,
    gone: watch::Sender<bool>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.0.id).field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Whose it is, by its newest certificate.
    pub fn peer(&self) -> Peer {
        lock(&self.0.peer).clone()
    }

    /// How the peer introduced itself.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// The peer's current address.
    pub fn remote(&self) -> SocketAddr {
        self.0.connection.remote()
    }

    /// The round trip, as we measure it.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// How long ago the peer's last beat (or its hello) came.
    pub fn last_beat(&self) -> Duration {
        let last = self.pulse().last_beat.unwrap_or_default();
        self.0.origin.elapsed().saturating_sub(last)
    }

    /// All that beats tell.
    pub fn pulse(&self) -> Pulse {
        *self.0.pulse.borrow()
    }

    /// The topic's newest payload for this peer is this one; it takes the place of one that still waits. Not kept beyond
    /// the session: publish again when the peer joins again.
    ///
    /// # Errors
    /// If the topic or the payload cannot be sent.
    pub fn publish(&self, topic: &str, number: u64, payload: Bytes) -> Result<(), PublishError> {
        self.0.outgoing.publish(topic, number, payload)
    }

    /// Tells the peer to dial another hub, and ends the session once it knows (or after a second).
    pub fn go_away(&self, code: Code, reason: &str) {
        self.0.leave.send_replace(Some((code, reason.to_owned())));
    }

    /// Ends it now. The first reason counts.
    pub fn close(&self, code: Code, reason: &str) {
        lock(&self.0.closed).get_or_insert_with(|| (code, reason.to_owned()));
        self.0.connection.close(code, reason);
    }

    /// Waits until it has ended and its `Left` is with the owner.
    async fn gone(&self) {
        let _ = self.0.gone.subscribe().wait_for(|gone| *gone).await;
    }
}

/// The hub's listening end. Dropped, it stops at once.
pub struct Stub {
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    endpoint: quinn::Endpoint,
    backend: Arc<dyn Backend>,
    events: mpsc::Sender<StubEvent>,
    timing: Timing,
    sessions: Mutex<Sessions>,
    unknown: Arc<Semaphore>,
}

type InstanceKey = (Role, String, String, String);

#[derive(Default)]
struct Sessions {
    next: u64,
    by_id: BTreeMap<SessionId, Session>,
    by_instance: BTreeMap<InstanceKey, SessionId>,
}

fn instance_key(peer: &Peer, hello: &Hello) -> InstanceKey {
    (peer.role, peer.name.clone(), peer.uid.clone(), hello.instance.clone())
}

/// Into the registry, and the session of the same instance that was there.
fn enter(shared: &Shared, make: impl FnOnce(SessionId) -> Session) -> (Session, Option<Session>) {
    let mut sessions = lock(&shared.sessions);
    sessions.next += 1;
    let id = SessionId(sessions.next);
    let session = make(id);
    let key = instance_key(&session.peer(), session.hello());
    let before = sessions.by_instance.insert(key, id).and_then(|before| sessions.by_id.get(&before).cloned());
    sessions.by_id.insert(id, session.clone());
    (session, before)
}

fn leave_registry(shared: &Shared, session: &Session) {
    let mut sessions = lock(&shared.sessions);
    sessions.by_id.remove(&session.id());
    let key = instance_key(&session.peer(), session.hello());
    if sessions.by_instance.get(&key) == Some(&session.id()) {
        sessions.by_instance.remove(&key);
    }
}

impl Stub {
    /// Listens, on the current tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be had or the identity is unusable.
    pub fn bind(config: StubConfig, backend: Arc<dyn Backend>) -> Result<(Self, mpsc::Receiver<StubEvent>), StubError> {
        let StubConfig { addr, identity, timing } = config;
        let tls = server_tls(&identity).map_err(StubError::Identity)?;
        let endpoint = server_endpoint(addr, tls, &timing, identity.reset_key())
            .map_err(|source| StubError::Bind { addr, source })?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(Shared {
            endpoint,
            backend,
            events,
            timing,
            sessions: Mutex::default(),
            unknown: Arc::new(Semaphore::new(UNKNOWN_MAX)),
        });
        let accepting = tokio::spawn(admission::accept(shared.clone()));
        Ok((Self { shared, accepting }, received))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.endpoint.local_addr()
    }

    /// Serves new connections with a newer certificate; those that are open go on.
    ///
    /// # Errors
    /// If the identity is unusable.
    pub fn set_identity(&self, identity: &ServerIdentity) -> Result<(), StubError> {
        let tls = server_tls(identity).map_err(StubError::Identity)?;
        let config = server_config(tls, &self.shared.timing).map_err(StubError::Quic)?;
        self.shared.endpoint.set_server_config(Some(config));
        Ok(())
    }

    /// The sessions that are open, by id.
    pub fn sessions(&self) -> Vec<Session> {
        lock(&self.shared.sessions).by_id.values().cloned().collect()
    }

    /// Ends every session whose peer the backend now calls revoked.
    pub fn drop_revoked(&self) {
        for session in self.sessions() {
            if self.shared.backend.revoked(&session.peer()) {
                session.close(Code::Revoked, "the hub has revoked this certificate");
            }
        }
    }

    /// Drains: accepts nobody, asks every peer to dial another hub, waits a little for their goodbyes, and closes.
    pub async fn close(self, reason: &str) {
        self.accepting.abort();
        let sessions = self.sessions();
        for session in &sessions {
            session.go_away(Code::Draining, reason);
        }
        let until = Instant::now() + DRAIN;
        let all_gone = async {
            for session in &sessions {
                session.gone().await;
            }
        };
        let _ = tokio::time::timeout_at(until, all_gone).await;
        self.shared.endpoint.close(quinn::VarInt::from_u32(Code::Draining.number()), reason.as_bytes());
        // What is said last is on its way; nobody is waited for who does not confirm it.
        let _ = tokio::time::timeout_at(until, self.shared.endpoint.wait_idle()).await;
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.endpoint.close(quinn::VarInt::from_u32(Code::Draining.number()), b"stopped");
    }
}
