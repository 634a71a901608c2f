//! Both ends over real QUIC on loopback. No test waits for a time; each waits for events, within one generous limit.

mod certificates;
mod enrolment;
mod pressure;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::Timing;
use crate::client::{EnrolError, FetchError, Link, LinkConfig, LinkEvent, PublishError, Toward, enrol};
use crate::code::Code;
use crate::dial::Backoff;
use crate::identity::{
    Authority, CLIENT_LIFETIME, Identity, Key, Peer, Role, SERVER_NAME, ServerIdentity, Subject, Token, client_tls,
    enrol_tls,
};
use crate::message::{
    Control, ControlBody, FRAME_BYTES_MAX, HEAD_BYTES_MAX, Hello, HelloAck, Kind, PAYLOAD_BYTES_MAX, RECEIPT, Refusal,
    RefusalCode, Signed, StreamHead,
};
use crate::server::{Backend, Enrolment, Left, Session, SessionId, Stub, StubConfig, StubEvent};
use crate::streams::lock;
use crate::transport::quic::{QuicConnection, client_config, client_endpoint, ending};
use crate::transport::{Connection, Ending, Stream, StreamError, read_all, read_frame, write_frame};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Only for a test that would otherwise hang.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), work).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

fn timing() -> Timing {
    Timing {
        beat: Duration::from_millis(100),
        backoff: Backoff {
            first: Duration::from_millis(20),
            cap: Duration::from_millis(200),
            steady: Duration::from_millis(500),
        },
        ..Timing::default()
    }
}

fn new_authority() -> Authority {
    Authority::generate(SystemTime::now()).expect("authority")
}

struct Given {
    hash: [u8; 32],
    role: Role,
    name: String,
    used_by: Option<[u8; 32]>,
}

/// A small hub: tokens, blobs and revocations in memory.
struct TestBackend {
    authority: Authority,
    tokens: Mutex<BTreeMap<String, Given>>,
    revoked: Mutex<BTreeSet<String>>,
    blobs: Mutex<BTreeMap<Vec<u8>, Bytes>>,
    lifetime: Mutex<Duration>,
}

impl TestBackend {
    fn new(authority: Authority) -> Arc<Self> {
        Arc::new(Self {
            authority,
            tokens: Mutex::default(),
            revoked: Mutex::default(),
            blobs: Mutex::default(),
            lifetime: Mutex::new(CLIENT_LIFETIME),
        })
    }

    fn sign(&self, csr: &[u8], subject: &Subject) -> Result<Signed, Refusal> {
        let lifetime = *lock(&self.lifetime);
        let chain_pem = self
            .authority
            .sign(csr, subject, SystemTime::now(), lifetime)
            .map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string()))?;
        Ok(Signed { chain_pem, ca_pem: self.authority.certificate_pem().to_owned() })
    }
}

#[async_trait]
impl Backend for TestBackend {
    async fn enrol(&self, request: Enrolment) -> Result<Signed, Refusal> {
        let subject = {
            let mut tokens = lock(&self.tokens);
            let unknown = || Refusal::new(RefusalCode::UnknownToken, "no such token; get a new one");
            let given = tokens.get_mut(&request.token).ok_or_else(unknown)?;
            if given.hash != request.secret_hash {
                return Err(unknown());
            }
            if given.used_by.is_some_and(|key| key != request.key_hash) {
                return Err(Refusal::new(RefusalCode::UsedToken, "this token was used; get a new one"));
            }
            let subject = Subject::new(given.role, &given.name, &request.uid)
                .map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string()))?;
            given.used_by = Some(request.key_hash);
            subject
        };
        self.sign(&request.csr, &subject)
    }

    async fn renew(&self, peer: &Peer, csr: &[u8]) -> Result<Signed, Refusal> {
        self.sign(csr, &peer.subject())
    }

    fn revoked(&self, peer: &Peer) -> bool {
        lock(&self.revoked).contains(&peer.name)
    }

    async fn blob(&self, _peer: &Peer, digest: &[u8]) -> Option<Bytes> {
        lock(&self.blobs).get(digest).cloned()
    }

    fn hello_ack(&self, _peer: &Peer, hello: &Hello) -> HelloAck {
        let refusal =
            (hello.software == "ancient").then(|| Refusal::new(RefusalCode::Incompatible, "upgrade the agent"));
        HelloAck { hub: "hub-0".into(), term: 7, refusal }
    }
}

struct Hub {
    backend: Arc<TestBackend>,
    stub: Stub,
    events: mpsc::Receiver<StubEvent>,
    addr: SocketAddr,
}

impl Hub {
    fn start() -> Self {
        Self::start_with(TestBackend::new(new_authority()), timing())
    }

    fn start_with(backend: Arc<TestBackend>, timing: Timing) -> Self {
        let identity = server_identity(&backend.authority);
        let config = StubConfig { addr: (Ipv4Addr::LOCALHOST, 0).into(), identity, timing };
        let (stub, events) = Stub::bind(config, backend.clone()).expect("bound");
        let addr = stub.local_addr().expect("address");
        Self { backend, stub, events, addr }
    }

    fn token(&self, name: &str) -> Token {
        let token = Token::generate(Role::Agent, name, self.backend.authority.pin(), vec![self.addr.to_string()]);
        let given = Given { hash: token.secret_hash(), role: token.role, name: token.name.clone(), used_by: None };
        lock(&self.backend.tokens).insert(token.id.clone(), given);
        token
    }

    /// An identity signed `age` ago for `life`.
    fn identity(&self, name: &str, age: Duration, life: Duration) -> Identity {
        identity(&self.backend.authority, name, age, life)
    }

    fn fresh(&self, name: &str) -> Identity {
        self.identity(name, Duration::ZERO, CLIENT_LIFETIME)
    }

    fn blob(&self, digest: &[u8], blob: Bytes) {
        lock(&self.backend.blobs).insert(digest.to_vec(), blob);
    }

    fn link(&self, identity: Identity) -> (Link, mpsc::Receiver<LinkEvent>) {
        self.link_with(identity, hello("i1"), timing())
    }

    fn link_with(&self, identity: Identity, hello: Hello, timing: Timing) -> (Link, mpsc::Receiver<LinkEvent>) {
        let hubs = vec![self.addr.to_string()];
        Link::start(LinkConfig { toward: Toward::Hub, hubs, identity, hello, source: None, timing }).expect("started")
    }

    async fn event(&mut self) -> StubEvent {
        soon("a stub event", self.events.recv()).await.expect("the stub lives")
    }

    async fn joined(&mut self) -> Session {
        match self.event().await {
            StubEvent::Joined(session) => session,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    /// An agent whose session is open, as both ends know.
    async fn agent(&mut self, name: &str) -> (Link, mpsc::Receiver<LinkEvent>, Session) {
        let (link, mut events) = self.link(self.fresh(name));
        connected(&mut events).await;
        let session = self.joined().await;
        (link, events, session)
    }

    /// Whose publication came.
    async fn published(&mut self) -> SessionId {
        match self.event().await {
            StubEvent::Published { id, .. } => id,
            other => panic!("expected a publication, got {other:?}"),
        }
    }

    async fn left(&mut self) -> Left {
        match self.event().await {
            StubEvent::Left { why, .. } => why,
            other => panic!("expected an end, got {other:?}"),
        }
    }
}

fn server_identity(authority: &Authority) -> ServerIdentity {
    authority.issue_server(&["hub-0".to_owned(), "127.0.0.1".to_owned()], SystemTime::now()).expect("issued")
}

fn identity(authority: &Authority, name: &str, age: Duration, life: Duration) -> Identity {
    identity_as(authority, Role::Agent, name, age, life)
}

fn identity_as(authority: &Authority, role: Role, name: &str, age: Duration, life: Duration) -> Identity {
    let key = Key::generate().expect("key");
    let subject = Subject::new(role, name, &format!("uid-of-{name}")).expect("subject");
    let csr = key.request().expect("request");
    let pem = authority.sign(&csr, &subject, SystemTime::now() - age, life).expect("signed");
    Identity::new(key.to_pem(), pem, authority.certificate_pem().to_owned()).expect("fits")
}

fn hello(instance: &str) -> Hello {
    Hello { software: "1.0".into(), instance: instance.into(), boot: "b1".into(), notes: BTreeMap::new() }
}

async fn next(events: &mut mpsc::Receiver<LinkEvent>) -> LinkEvent {
    soon("a link event", events.recv()).await.expect("the link lives")
}

async fn connected(events: &mut mpsc::Receiver<LinkEvent>) -> u64 {
    match next(events).await {
        LinkEvent::Connected { generation, hub } => {
            assert_eq!((hub.hub.as_str(), hub.term), ("hub-0", 7));
            generation
        }
        other => panic!("expected a connection, got {other:?}"),
    }
}

async fn refused(events: &mut mpsc::Receiver<LinkEvent>) -> (RefusalCode, String) {
    match next(events).await {
        LinkEvent::Refused { code, message } => (code, message),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A peer that does only what the test says.
struct Raw {
    _endpoint: quinn::Endpoint,
    connection: QuicConnection,
}

impl Raw {
    async fn dial(hub: &Hub, tls: rustls::ClientConfig) -> Result<Self, Ending> {
        let endpoint = client_endpoint((Ipv4Addr::LOCALHOST, 0).into()).expect("socket");
        let config = client_config(tls, &timing()).expect("settings");
        let connecting = endpoint.connect_with(config, hub.addr, SERVER_NAME).expect("dialled");
        let connection = soon("a handshake", connecting).await.map_err(ending)?;
        Ok(Self { _endpoint: endpoint, connection: QuicConnection(connection) })
    }

    async fn with(hub: &Hub, identity: &Identity) -> Self {
        Self::dial(hub, client_tls(identity).expect("tls")).await.expect("connected")
    }

    async fn open(&self, head: &StreamHead) -> Stream {
        let mut stream = soon("a stream", self.connection.open_bi()).await.expect("open");
        write_frame(&mut *stream.send, head).await.expect("written");
        stream
    }

    /// Greets; the hub's answer is read.
    async fn greet(&self, instance: &str) -> Stream {
        let mut stream = self.open(&StreamHead::of(Kind::Control)).await;
        let frame = Control::from(ControlBody::Hello(hello(instance)));
        write_frame(&mut *stream.send, &frame).await.expect("written");
        let answer = read_frame::<Control>(&mut *stream.recv, "answer", FRAME_BYTES_MAX);
        let answer = soon("an answer to hello", answer).await.expect("answered");
        assert!(matches!(answer.body, Some(ControlBody::HelloAck(HelloAck { refusal: None, .. }))));
        stream
    }

    async fn closed(&self) -> Option<Code> {
        soon("the end of the connection", self.connection.closed()).await.code()
    }
}

async fn reset_code(stream: &mut Stream) -> Option<Code> {
    match soon("the end of the stream", read_all(&mut *stream.recv, 1 << 20)).await {
        Err(StreamError::Reset(code)) => Code::from_number(code),
        other => panic!("expected a reset, got {other:?}"),
    }
}
