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

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Timing;
use crate::code::Code;
use crate::identity::{IdentityError, Peer, Role, ServerIdentity, hash_secret, request_key_hash, server_tls};
use crate::message::{
    EnrolRequest, FRAME_BYTES_MAX, Hello, HelloAck, Kind, Refusal, RefusalCode, RenewRequest, SignReply, Signed,
    StreamHead,
};
use crate::outbox::Outbox;
use crate::session::{Conversation, End, Pulse};
use crate::streams::{Incoming, Listener, Outgoing, converse, lock, read_head, send_receipt, serve_streams};
use crate::transport::quic::{QuicConnection, server_config, server_endpoint};
use crate::transport::{Connection, Ending, Stream, StreamError, read_frame, write_frame};

pub use crate::streams::PublishError;

/// Events that wait for the owner. A few hundred cover a burst of a fleet that reconnects while the owner is busy for a
/// moment; beyond that sessions wait by themselves, and what they hold is bounded each.
const EVENTS_MAX: usize = 256;
/// Handshakes at once: a handshake is 1 to 2 ms of CPU and some tens of KiB, so this is 20 MiB and two seconds of work.
const HANDSHAKES_MAX: usize = 1024;
/// Handshakes at once from one address, so that one stalling host leaves room for the rest; a whole site of agents
/// behind one NAT fits.
const HANDSHAKES_PER_ADDRESS_MAX: u32 = 256;
/// From so many handshakes on an address must prove itself by a retry first (RFC 9000 §8.1.2): a round trip more for
/// honest peers, and forged senders hold nothing.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Connections without a certificate at once: enrolments are rare, and these hold a place for seconds.
const UNKNOWN_MAX: usize = 128;
/// An instance or boot id.
const ID_BYTES_MAX: usize = 128;
/// Clocks jump: a certificate's end is looked at again at least so often.
const WALL_CLOCK_STEP: Duration = Duration::from_secs(60);
/// How long a draining stub waits for its peers to leave by themselves.
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
        let accepting = tokio::spawn(accept(shared.clone()));
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

/// Takes connections for ever. Never waits for a peer or for the owner.
async fn accept(shared: Arc<Shared>) {
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

async fn enrol(shared: &Shared, remote: SocketAddr, stream: &mut Stream) {
    let request = match read_frame::<EnrolRequest>(&mut *stream.recv, "enrolment", FRAME_BYTES_MAX).await {
        Ok(request) => request,
        Err(error) => return stream.abort(error.code()),
    };
    let token = request.token.clone();
    let result = match request_key_hash(&request.csr) {
        Ok(key_hash) => {
            let EnrolRequest { token, secret, csr, uid } = request;
            let secret_hash = hash_secret(&secret);
            shared.backend.enrol(Enrolment { token, secret_hash, csr, key_hash, uid, remote }).await
        }
        Err(error) => Err(Refusal::new(RefusalCode::Malformed, error.to_string())),
    };
    match &result {
        Ok(signed) => match Peer::from_pem(&signed.chain_pem, SystemTime::now()) {
            Ok(peer) => {
                tracing::info!(%remote, %peer, token, "enrolled");
                // In front of the answer: when the peer knows, the owner does.
                let _ = shared.events.send(StubEvent::Enrolled { peer, token, remote }).await;
            }
            Err(error) => tracing::error!(%remote, token, %error, "the backend signed a certificate that names nobody"),
        },
        Err(refusal) => {
            tracing::warn!(%remote, token, code = ?refusal.reason(), message = refusal.message, "enrolment refused");
        }
    }
    if let Err(error) = reply(stream, result).await {
        tracing::debug!(%remote, %error, "answer to an enrolment not delivered");
    }
}

/// The peer as its new certificate says, if it got one.
async fn renew(shared: &Shared, peer: &Peer, stream: &mut Stream) -> Option<Peer> {
    let request = match read_frame::<RenewRequest>(&mut *stream.recv, "renewal", FRAME_BYTES_MAX).await {
        Ok(request) => request,
        Err(error) => {
            stream.abort(error.code());
            return None;
        }
    };
    let result = match request_key_hash(&request.csr) {
        // Asked again: a session may be older than the revocation.
        Ok(_) if shared.backend.revoked(peer) => Err(Refusal::new(
            RefusalCode::Revoked,
            "the hub has revoked this certificate; enrol again with a new token",
        )),
        Ok(_) => shared.backend.renew(peer, &request.csr).await,
        Err(error) => Err(Refusal::new(RefusalCode::Malformed, error.to_string())),
    };
    let renewed = match &result {
        Ok(signed) => Peer::from_pem(&signed.chain_pem, SystemTime::now()).ok(),
        Err(refusal) => {
            tracing::warn!(%peer, code = ?refusal.reason(), message = refusal.message, "renewal refused");
            None
        }
    };
    if let Err(error) = reply(stream, result).await {
        // It may have the answer or not; if not, it asks again with its old certificate.
        tracing::debug!(%peer, %error, "answer to a renewal not delivered");
    }
    renewed
}

async fn reply(stream: &mut Stream, result: Result<Signed, Refusal>) -> Result<(), StreamError> {
    let reply = match result {
        Ok(signed) => SignReply { signed: Some(signed), refusal: None },
        Err(refusal) => SignReply { signed: None, refusal: Some(refusal) },
    };
    write_frame(&mut *stream.send, &reply).await?;
    stream.send.finish();
    stream.send.delivered().await
}

/// The hub's half of the greeting.
struct Greeting<'a> {
    backend: &'a dyn Backend,
    peer: &'a Peer,
    hello: Option<Hello>,
    opened: Option<oneshot::Sender<Hello>>,
}

impl Listener for Greeting<'_> {
    fn greeted(&mut self, hello: Hello) -> HelloAck {
        let ack = self.backend.hello_ack(self.peer, &hello);
        let id_is_valid = |id: &str| (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        if !id_is_valid(&hello.instance) || !id_is_valid(&hello.boot) {
            let message = "instance and boot id are 1 to 128 visible ASCII characters each";
            return HelloAck { refusal: Some(Refusal::new(RefusalCode::Malformed, message)), ..ack };
        }
        self.hello = Some(hello);
        ack
    }

    fn open(&mut self, _ack: Option<HelloAck>) {
        if let (Some(opened), Some(hello)) = (self.opened.take(), self.hello.take()) {
            let _ = opened.send(hello);
        }
    }
}

/// A peer with a valid certificate, from its first stream to its end.
async fn session(shared: &Arc<Shared>, connection: Arc<dyn Connection>, mut peer: Peer) {
    let first = tokio::time::timeout(shared.timing.handshake, control_stream(shared, &*connection, &mut peer)).await;
    let stream = match first {
        Ok(Some(stream)) => stream,
        Ok(None) => return,
        Err(_) => return connection.close(Code::TooSlow, "no control stream came"),
    };
    let origin = Instant::now();
    let (pulse, pulse_seen) = watch::channel(Pulse::default());
    let (leave, leaving) = watch::channel(None);
    let (opened, open) = oneshot::channel();
    let greeter = peer.clone();
    let mut listener = Greeting { backend: &*shared.backend, peer: &greeter, hello: None, opened: Some(opened) };
    let conversation = Conversation::serve(Duration::ZERO, shared.timing);
    let control = converse(&*connection, stream, conversation, origin, &mut listener, &pulse, leaving);
    tokio::pin!(control);
    let hello = tokio::select! {
        biased;
        Ok(hello) = open => hello,
        end = &mut control => return not_begun(&*connection, &peer, end),
    };
    connection.admit();
    let (session, before) = enter(shared, |id| {
        Session(Arc::new(Inner {
            id,
            peer: Mutex::new(peer),
            hello,
            connection: connection.clone(),
            outgoing: Outgoing::new(Outbox::for_session()),
            origin,
            pulse: pulse_seen,
            leave,
            closed: Mutex::default(),
            gone: watch::channel(false).0,
        }))
    });
    let mut joined = false;
    let end = tokio::select! {
        end = &mut control => end,
        never = work(shared, &session, before, &mut joined) => match never {},
    };
    let why = why_left(&session, end);
    connection.close(farewell(&why), "");
    leave_registry(shared, &session);
    tracing::info!(peer = %session.peer(), session = session.id().0, ?why, "session ended");
    if joined {
        let left = StubEvent::Left { id: session.id(), peer: session.peer(), why };
        let _ = shared.events.send(left).await;
    }
    session.0.gone.send_replace(true);
}

/// The control stream; renewals may come before it.
async fn control_stream(shared: &Shared, connection: &dyn Connection, peer: &mut Peer) -> Option<Stream> {
    loop {
        let mut stream = connection.accept_bi().await.ok()?;
        match read_head(&mut stream, &shared.timing).await {
            Some((Kind::Control, _)) => return Some(stream),
            Some((Kind::Renew, _)) => {
                if let Some(renewed) = renew(shared, peer, &mut stream).await {
                    *peer = renewed;
                }
            }
            Some((Kind::Unspecified | Kind::Enrol | Kind::Publish | Kind::Fetch, _)) => stream.abort(Code::NotAllowed),
            None => {}
        }
    }
}

fn not_begun(connection: &dyn Connection, peer: &Peer, end: Result<End, StreamError>) {
    match end {
        Ok(end) => {
            let reason = match &end {
                End::Refused(ack) => ack.refusal.clone().unwrap_or_default().message,
                End::Violation(what) => (*what).to_owned(),
                End::PeerLeaves(_) | End::WeLeave | End::NoHello | End::Silent(_) => String::new(),
            };
            tracing::info!(%peer, ?end, "no session");
            connection.close(end.code(), &reason);
        }
        Err(error) => {
            tracing::info!(%peer, error = &error as &dyn std::error::Error, "no session");
            connection.close(Code::Protocol, &error.to_string());
        }
    }
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

/// What goes on beside the beats; the control stream ends it.
async fn work(
    shared: &Shared,
    session: &Session,
    before: Option<Session>,
    joined: &mut bool,
) -> std::convert::Infallible {
    if let Some(before) = before {
        before.close(Code::Replaced, "a newer session of this instance has begun");
        before.gone().await;
    }
    if let Ok(place) = shared.events.reserve().await {
        tracing::info!(peer = %session.peer(), session = session.id().0, remote = %session.remote(), "session began");
        // With the place in hand nothing can end us between the two, so that `Left` follows exactly when `Joined` went.
        place.send(StubEvent::Joined(session.clone()));
        *joined = true;
    }
    let incoming = Incoming::new();
    let incoming = &incoming;
    let connection = &*session.0.connection;
    let streams = serve_streams(connection, |stream| Box::pin(serve_stream(shared, session, incoming, stream)));
    tokio::join!(streams, session.0.outgoing.run(connection), end_with_certificate(session));
    // Each of the three ends at most with the connection, and then so does the control stream.
    std::future::pending().await
}

async fn serve_stream(shared: &Shared, session: &Session, incoming: &Incoming, mut stream: Stream) {
    let Some((kind, head)) = read_head(&mut stream, &shared.timing).await else {
        return;
    };
    match kind {
        Kind::Publish => publication(shared, session, incoming, head, &mut stream).await,
        Kind::Fetch => fetch(shared, session, &head, &mut stream).await,
        Kind::Renew => {
            let peer = session.peer();
            if let Some(renewed) = renew(shared, &peer, &mut stream).await {
                // The registry finds a session by who its peer is: a backend that renews into somebody else does not
                // change that.
                if renewed.subject() == peer.subject() {
                    *lock(&session.0.peer) = renewed;
                }
            }
        }
        Kind::Unspecified | Kind::Enrol | Kind::Control => stream.abort(Code::NotAllowed),
    }
}

async fn publication(shared: &Shared, session: &Session, incoming: &Incoming, head: StreamHead, stream: &mut Stream) {
    match incoming.receive(&mut *stream.recv).await {
        Ok(payload) => {
            let (id, peer) = (session.id(), session.peer());
            let event = StubEvent::Published { id, peer, topic: head.topic, number: head.number, payload };
            if shared.events.send(event).await.is_ok() {
                send_receipt(stream).await;
            }
        }
        Err(error) => stream.abort(error.code()),
    }
}

async fn fetch(shared: &Shared, session: &Session, head: &StreamHead, stream: &mut Stream) {
    let Some(blob) = shared.backend.blob(&session.peer(), &head.digest).await else {
        return stream.send.reset(Code::NotFound);
    };
    if blob.is_empty() || stream.send.write(blob).await.is_ok() {
        stream.send.finish();
    }
}

/// A certificate that runs out ends its session, however long it has been open.
async fn end_with_certificate(session: &Session) {
    loop {
        let not_after = session.peer().not_after;
        match not_after.duration_since(SystemTime::now()) {
            Ok(rest) if !rest.is_zero() => tokio::time::sleep(rest.min(WALL_CLOCK_STEP)).await,
            Ok(_) | Err(_) => return session.close(Code::ExpiredCertificate, "the certificate has run out"),
        }
    }
}

/// What the connection is closed with; without effect where the peer or the owner closed it.
fn farewell(why: &Left) -> Code {
    match why {
        Left::Goodbye(_) => Code::Goodbye,
        Left::Silent => Code::Silent,
        Left::Replaced => Code::Replaced,
        Left::Revoked => Code::Revoked,
        Left::Expired => Code::ExpiredCertificate,
        Left::Closed { code, .. } => *code,
        Left::Lost(_) => Code::Protocol,
    }
}

fn why_left(session: &Session, end: Result<End, StreamError>) -> Left {
    if let Some((code, reason)) = lock(&session.0.closed).clone() {
        let ours = [
            (Code::Replaced, Left::Replaced),
            (Code::Revoked, Left::Revoked),
            (Code::ExpiredCertificate, Left::Expired),
        ];
        let known = ours.into_iter().find_map(|(its, why)| (its == code).then_some(why));
        return known.unwrap_or(Left::Closed { code, reason });
    }
    match end {
        Ok(End::PeerLeaves(go_away)) => Left::Goodbye(go_away.reason),
        Ok(End::WeLeave) => {
            let told = session.0.leave.borrow().clone();
            told.map_or(Left::Goodbye(String::new()), |(code, reason)| Left::Closed { code, reason })
        }
        Ok(End::Silent(_)) => Left::Silent,
        Ok(End::Violation(what)) => Left::Lost(format!("the peer broke the protocol: {what}")),
        Ok(End::Refused(_) | End::NoHello) => Left::Lost("the session did not begin".to_owned()),
        Err(StreamError::Connection(Ending::Idle)) => Left::Silent,
        Err(StreamError::Connection(Ending::Peer { code, reason }))
            if Code::from_number(code) == Some(Code::Goodbye) =>
        {
            Left::Goodbye(reason)
        }
        Err(StreamError::Connection(ending)) => Left::Lost(ending.to_string()),
        Err(error) => Left::Lost(error.to_string()),
    }
}
