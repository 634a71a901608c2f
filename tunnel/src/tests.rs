//! Both ends over real QUIC on loopback. No test waits for a time; each waits for events, within one generous limit.

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
use crate::server::{Backend, Enrolment, Left, Session, Stub, StubConfig, StubEvent};
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
        Link::start(LinkConfig { toward: Toward::Hub, hubs, identity, hello, timing }).expect("started")
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

#[tokio::test]
async fn a_whole_life_enrol_connect_publish_fetch_goodbye() {
    let mut hub = Hub::start();
    let token = Token::parse(&hub.token("eu-1").to_string()).expect("token");
    let dir = tempfile::tempdir().expect("directory");
    let key = Key::load_or_create(dir.path()).expect("key");
    let identity = soon("enrolment", enrol(&token, "kube-system-uid", &key, &timing())).await.expect("enrolled");
    identity.save(dir.path()).expect("saved");
    match hub.event().await {
        StubEvent::Enrolled { peer, token: by, remote } => {
            assert_eq!((peer.name.as_str(), peer.uid.as_str()), ("eu-1", "kube-system-uid"));
            assert_eq!(by, token.id);
            assert!(remote.ip().is_loopback());
        }
        other => panic!("expected an enrolment, got {other:?}"),
    }

    let (link, mut events) = hub.link(Identity::load(dir.path()).expect("kept").expect("there"));
    link.publish("ledger", 1, Bytes::from_static(b"before the first connection")).expect("taken");
    assert_eq!(connected(&mut events).await, 1);
    let session = hub.joined().await;
    assert_eq!(session.peer().name, "eu-1");
    assert_eq!(session.hello(), &hello("i1"));
    match hub.event().await {
        StubEvent::Published { id, topic, number, payload, peer } => {
            assert_eq!((id, topic.as_str(), number), (session.id(), "ledger", 1));
            assert_eq!(payload, &b"before the first connection"[..]);
            assert_eq!(peer.role, Role::Agent);
        }
        other => panic!("expected a publication, got {other:?}"),
    }
    session.publish("desired", 9, Bytes::from(vec![5; 3_000_000])).expect("taken");
    session.publish("empty", 10, Bytes::new()).expect("taken");
    let mut got = BTreeMap::new();
    for _ in 0..2 {
        match next(&mut events).await {
            LinkEvent::Published { topic, number, payload } => got.insert(topic, (number, payload.len())),
            other => panic!("expected a publication, got {other:?}"),
        };
    }
    assert_eq!(got, BTreeMap::from([("desired".to_owned(), (9, 3_000_000)), ("empty".to_owned(), (10, 0))]));

    let blob = Bytes::from(vec![42; 5_000_000]);
    let digest = Sha256::digest(&blob);
    hub.blob(&digest, blob.clone());
    hub.blob(&[1; 32], Bytes::from_static(b"not what the digest says"));
    let minute = Duration::from_secs(60);
    assert_eq!(link.fetch(&digest, minute).await.expect("fetched"), blob);
    assert!(matches!(link.fetch(&[0; 32], minute).await, Err(FetchError::NotFound(_))));
    assert!(matches!(link.fetch(&[1; 32], minute).await, Err(FetchError::Corrupt(_))));
    assert!(matches!(link.fetch(&[1; 31], minute).await, Err(FetchError::Digest(31))));
    assert_eq!(link.publish("a b", 1, Bytes::new()), Err(PublishError::Topic));
    let huge = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert_eq!(link.publish("a", 1, huge), Err(PublishError::TooLarge(PAYLOAD_BYTES_MAX + 1)));

    soon("the goodbye", link.close("upgrade")).await;
    assert_eq!(hub.left().await, Left::Goodbye("upgrade".into()));
    assert_eq!(soon("the end of events", events.recv()).await, None);
    assert!(hub.stub.sessions().is_empty());
}

#[tokio::test]
async fn a_dropped_link_is_seen_as_goodbye() {
    let mut hub = Hub::start();
    let (link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    hub.joined().await;
    drop(link);
    assert!(matches!(hub.left().await, Left::Goodbye(_)));
}

#[tokio::test]
async fn tokens_work_once_and_only_at_their_hub() {
    let hub = Hub::start();
    let (token, key) = (hub.token("eu-1"), Key::generate().expect("key"));
    let enrol = |token: Token, key: Key| async move {
        match soon("enrolment", enrol(&token, "uid", &key, &timing())).await {
            Ok(identity) => Ok(identity),
            Err(EnrolError::Refused { code, .. }) => Err(Some(code)),
            Err(EnrolError::WrongHub { .. }) => Err(None),
            Err(other) => panic!("{other:?}"),
        }
    };
    let again = || Key::from_pem(&key.to_pem()).expect("key");
    let other = || Key::generate().expect("key");

    let wrong = Token { secret: [0; 32], ..token.clone() };
    assert_eq!(enrol(wrong, again()).await, Err(Some(RefusalCode::UnknownToken)));
    let unknown = Token { id: "nobody".into(), ..token.clone() };
    assert_eq!(enrol(unknown, again()).await, Err(Some(RefusalCode::UnknownToken)));
    let foreign = Token { pin: new_authority().pin(), ..token.clone() };
    assert_eq!(enrol(foreign, again()).await, Err(None), "a hub with another authority gets no secret");

    let first = enrol(token.clone(), again()).await.expect("enrolled");
    assert_eq!(enrol(token.clone(), other()).await, Err(Some(RefusalCode::UsedToken)));
    let retry = enrol(token.clone(), again()).await.expect("a retry");
    assert_eq!(
        retry.peer(SystemTime::now()).expect("peer").subject(),
        first.peer(SystemTime::now()).expect("peer").subject()
    );
    // A name that the token did not give is not taken from the answer.
    let renamed = Token { name: "us-1".into(), ..token };
    let error = soon("enrolment", crate::client::enrol(&renamed, "uid", &again(), &timing())).await;
    assert!(matches!(error, Err(EnrolError::Unusable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_unreachable_and_the_next_is_asked() {
    let hub = Hub::start();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let token = hub.token("eu-1");
    let token = Token { hubs: vec![silent.local_addr().expect("address").to_string(), token.hubs[0].clone()], ..token };
    let quick = Timing { handshake: Duration::from_secs(2), ..timing() };
    let key = Key::generate().expect("key");
    soon("enrolment", enrol(&token, "uid", &key, &quick)).await.expect("enrolled at the second");
    let token = Token { hubs: vec![token.hubs[0].clone()], ..token };
    let error = soon("enrolment", enrol(&token, "uid", &key, &quick)).await;
    assert!(matches!(error, Err(EnrolError::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_foreign_authority_is_refused_by_both_ends() {
    let hub = Hub::start();
    let foreign = identity(&new_authority(), "eu-1", Duration::ZERO, CLIENT_LIFETIME);

    // The client does not trust the hub.
    let (_link, mut events) = hub.link(foreign.clone());
    let (code, message) = refused(&mut events).await;
    assert_eq!(code, RefusalCode::Certificate);
    assert!(message.contains("refused here"), "{message}");

    // The hub does not trust the client.
    let ca_pem = hub.backend.authority.certificate_pem().to_owned();
    let (_link, mut events) = hub.link(Identity { ca_pem, ..foreign });
    let (code, message) = refused(&mut events).await;
    assert_eq!(code, RefusalCode::Certificate);
    assert!(message.contains("the peer refused our certificate"), "{message}");
    assert!(hub.stub.sessions().is_empty());
}

#[tokio::test]
async fn a_hubs_certificate_is_no_clients() {
    let hub = Hub::start();
    let tls = server_identity(&hub.backend.authority).tls_as_client();
    // The client's half of a TLS 1.3 handshake ends before the server has judged its certificate.
    let end = match Raw::dial(&hub, tls).await {
        Ok(raw) => soon("the end of the connection", raw.connection.closed()).await,
        Err(ending) => ending,
    };
    assert!(matches!(end, Ending::Untrusted(_)), "{end:?}");
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_renewal_only() {
    let mut hub = Hub::start();
    let expired = hub.identity("eu-1", 100 * DAY, 90 * DAY);

    let raw = Raw::with(&hub, &expired).await;
    let _stream = raw.open(&StreamHead::of(Kind::Control)).await;
    assert_eq!(raw.closed().await, Some(Code::ExpiredCertificate));

    let (_link, mut events) = hub.link(expired.clone());
    match next(&mut events).await {
        LinkEvent::Renewed(identity) => {
            let peer = identity.peer(SystemTime::now()).expect("peer");
            assert!(!peer.expired);
            assert_eq!(peer.subject(), expired.peer(SystemTime::now()).expect("peer").subject());
            assert_ne!(identity.key_pem, expired.key_pem);
        }
        other => panic!("expected a renewal, got {other:?}"),
    }
    connected(&mut events).await;
    assert!(!hub.joined().await.peer().expired);

    let (_link, mut events) = hub.link(hub.identity("us-1", 121 * DAY, 90 * DAY));
    let (code, message) = refused(&mut events).await;
    assert_eq!(code, RefusalCode::Certificate);
    assert!(message.contains("expired"), "{message}");
}

#[tokio::test]
async fn a_certificate_of_a_hub_whose_clock_is_ahead_is_accepted() {
    let mut hub = Hub::start();
    let ahead = SystemTime::now() + Duration::from_secs(120);
    let key = Key::generate().expect("key");
    let subject = Subject::new(Role::Agent, "eu-1", "u").expect("subject");
    let csr = key.request().expect("request");
    let pem = hub.backend.authority.sign(&csr, &subject, ahead, CLIENT_LIFETIME).expect("signed");
    let ca = hub.backend.authority.certificate_pem().to_owned();
    let (_link, mut events) = hub.link(Identity::new(key.to_pem(), pem, ca).expect("fits"));
    connected(&mut events).await;
    hub.joined().await;
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_is_served() {
    let hub = Hub::start();
    let pin = hub.backend.authority.pin();
    for kind in [Kind::Control, Kind::Renew, Kind::Publish, Kind::Fetch] {
        let raw = Raw::dial(&hub, enrol_tls(pin).expect("tls")).await.expect("connected");
        let _stream = raw.open(&StreamHead { topic: "t".into(), ..StreamHead::of(kind) }).await;
        assert_eq!(raw.closed().await, Some(Code::NoCertificate), "{kind:?}");
    }
    let raw = Raw::dial(&hub, enrol_tls(pin).expect("tls")).await.expect("connected");
    let _first = raw.open(&StreamHead::of(Kind::Enrol)).await;
    let _second = raw.open(&StreamHead::of(Kind::Enrol)).await;
    assert_eq!(raw.closed().await, Some(Code::NoCertificate), "one stream only");
}

#[tokio::test]
async fn certificates_of_two_seconds_are_renewed_while_the_session_goes_on() {
    let mut hub = Hub::start();
    *lock(&hub.backend.lifetime) = Duration::from_secs(2);
    let first = hub.identity("eu-1", Duration::ZERO, Duration::from_secs(2));
    let (_, first_ends) = first.validity().expect("validity");
    let (link, mut events) = hub.link(first);
    connected(&mut events).await;
    let session = hub.joined().await;
    let first_serial = session.peer().serial;
    // Until well after the first certificate's end, by events alone.
    loop {
        match next(&mut events).await {
            LinkEvent::Renewed(identity) => {
                let (start, _) = identity.validity().expect("validity");
                if start > first_ends + Duration::from_secs(1) {
                    break;
                }
            }
            other => panic!("expected only renewals, got {other:?}"),
        }
    }
    assert_ne!(session.peer().serial, first_serial);
    link.publish("t", 1, Bytes::from_static(b"still here")).expect("taken");
    match hub.event().await {
        StubEvent::Published { id, .. } => assert_eq!(id, session.id(), "the same session"),
        other => panic!("expected a publication, got {other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_renewed_ends_its_session() {
    let mut hub = Hub::start();
    let raw = Raw::with(&hub, &hub.identity("eu-1", Duration::ZERO, Duration::from_secs(1))).await;
    let _control = raw.greet("i1").await;
    hub.joined().await;
    assert_eq!(hub.left().await, Left::Expired);
    assert_eq!(raw.closed().await, Some(Code::ExpiredCertificate));
}

#[tokio::test]
async fn a_revoked_peer_is_dropped_and_turned_away_until_it_is_welcome_again() {
    let mut hub = Hub::start();
    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    let (_other, mut other_events) = hub.link(hub.fresh("us-1"));
    connected(&mut events).await;
    connected(&mut other_events).await;
    hub.joined().await;
    hub.joined().await;
    lock(&hub.backend.revoked).insert("eu-1".to_owned());
    hub.stub.drop_revoked();
    assert_eq!(hub.left().await, Left::Revoked);
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { .. }));
    assert_eq!(refused(&mut events).await.0, RefusalCode::Revoked);
    assert_eq!(refused(&mut events).await.0, RefusalCode::Revoked, "it goes on trying");
    assert_eq!(hub.stub.sessions().len(), 1, "the other one stays");
    lock(&hub.backend.revoked).clear();
    loop {
        match next(&mut events).await {
            LinkEvent::Refused { .. } => {}
            LinkEvent::Connected { generation, .. } => break assert_eq!(generation, 2),
            other => panic!("expected a connection, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_refused_hello_says_why() {
    let hub = Hub::start();
    let ancient = Hello { software: "ancient".into(), ..hello("i1") };
    let (_link, mut events) = hub.link_with(hub.fresh("eu-1"), ancient, timing());
    assert_eq!(refused(&mut events).await, (RefusalCode::Incompatible, "upgrade the agent".to_owned()));
    let (_link, mut events) = hub.link_with(hub.fresh("eu-1"), hello(""), timing());
    assert_eq!(refused(&mut events).await.0, RefusalCode::Malformed);
}

#[tokio::test]
async fn a_changed_address_is_survived() {
    let mut hub = Hub::start();
    let (link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    let session = hub.joined().await;
    let before = session.remote();
    link.rebind().expect("rebound");
    link.publish("t", 1, Bytes::from_static(b"from a new port")).expect("taken");
    match hub.event().await {
        StubEvent::Published { id, .. } => assert_eq!(id, session.id()),
        other => panic!("expected a publication, got {other:?}"),
    }
    assert_ne!(session.remote(), before);
    session.publish("u", 1, Bytes::from_static(b"to a new port")).expect("taken");
    assert!(matches!(next(&mut events).await, LinkEvent::Published { .. }));
}

#[tokio::test]
async fn a_stalled_peer_holds_up_nobody_and_gets_the_newest() {
    let mut hub = Hub::start();
    let raw = Raw::with(&hub, &hub.fresh("slow")).await;
    let control = tokio::spawn(beating(raw.greet("i1").await));
    let slow = hub.joined().await;
    let (_link, mut events) = hub.link(hub.fresh("quick"));
    connected(&mut events).await;
    let quick = hub.joined().await;

    // Larger than a stream's window: the first stays under way, its place is not left.
    let big = |n: u8| Bytes::from(vec![n; 8 << 20]);
    slow.publish("big", 1, big(1)).expect("taken");
    let mut first = soon("the first", raw.connection.accept_bi()).await.expect("accepted");
    let head = read_frame::<StreamHead>(&mut *first.recv, "head", HEAD_BYTES_MAX).await.expect("head");
    assert_eq!((head.topic.as_str(), head.number), ("big", 1));
    for number in 2..=50u8 {
        slow.publish("big", number.into(), big(number)).expect("taken");
    }

    // Another topic of the same peer, and another peer, pass.
    slow.publish("small", 1, Bytes::from_static(b"x")).expect("taken");
    let mut small = soon("the small one", raw.connection.accept_bi()).await.expect("accepted");
    let head = read_frame::<StreamHead>(&mut *small.recv, "head", HEAD_BYTES_MAX).await.expect("head");
    assert_eq!(head.topic, "small");
    quick.publish("t", 1, big(0)).expect("taken");
    assert!(matches!(next(&mut events).await, LinkEvent::Published { .. }));

    // The peer reads at last: after the first comes the last, and nothing between.
    for expected in [1u8, 50] {
        let mut stream = match expected {
            1 => Stream { send: first.send, recv: first.recv },
            _ => {
                let mut stream = soon("the newest", raw.connection.accept_bi()).await.expect("accepted");
                let head = read_frame::<StreamHead>(&mut *stream.recv, "head", HEAD_BYTES_MAX).await.expect("head");
                assert_eq!((head.topic.as_str(), head.number), ("big", 50));
                stream
            }
        };
        let (payload, _) = soon("a payload", read_all(&mut *stream.recv, PAYLOAD_BYTES_MAX)).await.expect("read");
        assert_eq!(payload, big(expected));
        stream.send.write(Bytes::from_static(&[RECEIPT])).await.expect("receipt");
        stream.send.finish();
        first = stream;
    }
    control.abort();
}

/// Beats for as long as the hub listens; reads nothing.
async fn beating(mut control: Stream) {
    for sequence in 1.. {
        let beat = Control::from(ControlBody::Beat(crate::message::Beat { sequence, rtt_us: 0 }));
        if write_frame(&mut *control.send, &beat).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_owner_that_does_not_read_gets_the_newest_later() {
    let mut hub = Hub::start();
    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    let session = hub.joined().await;
    // More than the event channel holds, one by one under way.
    for number in 1..=500 {
        session.publish(&format!("t{}", number % 100), number, Bytes::new()).expect("taken");
    }
    let mut newest = BTreeMap::new();
    while newest.values().filter(|&&number| number > 400).count() < 100 {
        match next(&mut events).await {
            LinkEvent::Published { topic, number, .. } => {
                let before = newest.insert(topic, number);
                assert!(before < Some(number), "a topic's payloads come in order");
            }
            other => panic!("expected publications, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn garbage_harms_nothing() {
    let mut hub = Hub::start();
    let (link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    let session = hub.joined().await;

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    for n in 0..2000u32 {
        let mut datagram: Vec<u8> = (0..n % 1400 + 1).map(|_| rand::random()).collect();
        if n % 2 == 0 && datagram.len() > 6 {
            // The face of a QUIC v1 Initial.
            let first = 0xc0 | (datagram[0] & 0x0f);
            datagram[..6].copy_from_slice(&[first, 0, 0, 0, 1, 8]);
        }
        socket.send_to(&datagram, hub.addr).expect("sent");
    }

    // A stream of garbage ends alone; the connection serves the next.
    let raw = Raw::with(&hub, &hub.fresh("odd")).await;
    let _control = raw.greet("i1").await;
    let odd = hub.joined().await;
    let unknown_kind = StreamHead { kind: 99, ..StreamHead::of(Kind::Fetch) };
    let unknown_version = StreamHead { version: 2, ..StreamHead::of(Kind::Fetch) };
    let no_topic = StreamHead::of(Kind::Publish);
    for (head, code) in [
        (unknown_kind, Code::UnknownKind),
        (unknown_version, Code::UnknownVersion),
        (no_topic, Code::Malformed),
        (StreamHead::of(Kind::Control), Code::NotAllowed),
        (StreamHead::of(Kind::Enrol), Code::NotAllowed),
        (StreamHead::fetch(b"short"), Code::NotFound),
    ] {
        let mut stream = raw.open(&head).await;
        assert_eq!(reset_code(&mut stream).await, Some(code), "{head:?}");
    }
    for _ in 0..100 {
        let mut stream = soon("a stream", raw.connection.open_bi()).await.expect("open");
        let bytes: Vec<u8> = (0..rand::random::<u8>()).map(|_| rand::random()).collect();
        // The hub may have ended the stream already.
        let _ = stream.send.write(Bytes::from(bytes)).await;
        stream.send.finish();
        let _ = soon("the end of the stream", read_all(&mut *stream.recv, 1 << 20)).await;
    }
    let mut stream = raw.open(&StreamHead::publish("t", 3)).await;
    stream.send.write(Bytes::from_static(b"sane again")).await.expect("written");
    stream.send.finish();
    loop {
        match hub.event().await {
            // Random bytes may have been a publication.
            StubEvent::Published { id, number: 3, payload, .. } if payload == b"sane again"[..] => {
                break assert_eq!(id, odd.id());
            }
            StubEvent::Published { .. } => {}
            other => panic!("expected a publication, got {other:?}"),
        }
    }

    // Garbage on the control stream ends that session, and no other.
    let raw = Raw::with(&hub, &hub.fresh("mad")).await;
    let mut control = raw.greet("i1").await;
    let mad = hub.joined().await;
    control.send.write(Bytes::from_static(&[0xff; 64])).await.expect("written");
    assert_eq!(raw.closed().await, Some(Code::Protocol));
    match hub.event().await {
        StubEvent::Left { id, why: Left::Lost(_), .. } => assert_eq!(id, mad.id()),
        other => panic!("expected an end, got {other:?}"),
    }
    link.publish("t", 1, Bytes::new()).expect("taken");
    match hub.event().await {
        StubEvent::Published { id, .. } => assert_eq!(id, session.id()),
        other => panic!("expected a publication, got {other:?}"),
    }
}

/// Four hundred greetings of TLS to which nobody answers further: more than one address may have under way.
#[tokio::test]
async fn stalled_handshakes_keep_nobody_out() {
    const STALLED: usize = 400;
    let mut hub = Hub::start();
    let relay = crate::transport::quic::bind_udp((Ipv4Addr::LOCALHOST, 0).into()).expect("socket");
    relay.set_nonblocking(true).expect("set");
    let relay = tokio::net::UdpSocket::from_std(relay).expect("socket");
    let endpoint = client_endpoint((Ipv4Addr::LOCALHOST, 0).into()).expect("socket");
    let tls = enrol_tls(hub.backend.authority.pin()).expect("tls");
    let config = client_config(tls, &timing()).expect("settings");
    let mut stalled = Vec::new();
    let mut seen = BTreeSet::new();
    let mut datagram = [0; 2048];
    while seen.len() < STALLED {
        let to = relay.local_addr().expect("address");
        stalled.push(endpoint.connect_with(config.clone(), to, SERVER_NAME).expect("dialled"));
        // The first flight may be several datagrams; later ones are forwarded with the next rounds.
        let length = soon("a first flight", relay.recv(&mut datagram)).await.expect("received");
        relay.send_to(&datagram[..length], hub.addr).await.expect("sent");
        seen.insert(datagram[6..14].to_vec());
    }
    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    hub.joined().await;
}

#[tokio::test]
async fn a_new_session_of_an_instance_ends_the_old_one_first() {
    let mut hub = Hub::start();
    let raw = Raw::with(&hub, &hub.fresh("eu-1")).await;
    let _control = raw.greet("i1").await;
    let old = hub.joined().await;
    let other = Raw::with(&hub, &hub.fresh("eu-1")).await;
    let _other_control = other.greet("i2").await;
    let second = hub.joined().await;

    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    match hub.event().await {
        StubEvent::Left { id, why, .. } => assert_eq!((id, why), (old.id(), Left::Replaced)),
        other => panic!("the old one ends first, got {other:?}"),
    }
    let new = hub.joined().await;
    assert_eq!(raw.closed().await, Some(Code::Replaced));
    let open: Vec<_> = hub.stub.sessions().iter().map(Session::id).collect();
    assert_eq!(open, [second.id(), new.id()], "the other instance stays");
}

#[tokio::test]
async fn a_peer_that_lives_but_does_not_beat_is_silent() {
    let backend = TestBackend::new(new_authority());
    let mut hub = Hub::start_with(backend, Timing { silence: Duration::from_millis(500), ..timing() });
    let raw = Raw::with(&hub, &hub.fresh("eu-1")).await;
    let _control = raw.greet("i1").await;
    hub.joined().await;
    assert_eq!(hub.left().await, Left::Silent);
    assert_eq!(raw.closed().await, Some(Code::Silent));
}

#[tokio::test]
async fn beats_tell_both_ends_that_the_other_lives() {
    let mut hub = Hub::start();
    let (link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    let session = hub.joined().await;
    soon("three beats each way", async {
        while session.pulse().sequence < 3 || link.pulse().sequence < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(session.last_beat() < Duration::from_secs(60));
    assert!(session.pulse().peer_rtt.is_some());
}

#[tokio::test]
async fn a_draining_hub_sends_its_peers_to_the_next() {
    let mut first = Hub::start();
    let authority = first.backend.authority.to_pem();
    let authority = Authority::from_pem(&authority.0, &authority.1).expect("kept");
    let mut second = Hub::start_with(TestBackend::new(authority), timing());
    let hubs = vec![first.addr.to_string(), second.addr.to_string()];
    let config =
        LinkConfig { toward: Toward::Hub, hubs, identity: first.fresh("eu-1"), hello: hello("i1"), timing: timing() };
    let (link, mut events) = Link::start(config).expect("started");
    link.publish("t", 4, Bytes::from_static(b"kept")).expect("taken");
    connected(&mut events).await;
    // Which of the two it dialled is random.
    let in_second = tokio::select! {
        _ = first.joined() => false,
        _ = second.joined() => true,
    };
    let (mut from, mut to) = if in_second { (second, first) } else { (first, second) };
    assert!(matches!(from.event().await, StubEvent::Published { number: 4, .. }));
    soon("the drain", from.stub.close("upgrade")).await;
    match soon("an end", from.events.recv()).await {
        Some(StubEvent::Left { why: Left::Closed { code: Code::Draining, reason }, .. }) => {
            assert_eq!(reason, "upgrade")
        }
        other => panic!("expected an end, got {other:?}"),
    }
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { why } if why.contains("upgrade")));
    assert_eq!(connected(&mut events).await, 2);
    to.joined().await;
    assert!(matches!(to.event().await, StubEvent::Published { number: 4, .. }), "published again by itself");
}

/// The hub's process is gone without a word and comes back: its stateless reset tells, long before any idle limit.
#[test]
fn a_restarted_hub_is_noticed_by_its_reset() {
    let patient = Timing { idle: Duration::from_secs(600), silence: Duration::from_secs(600), ..timing() };
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let (clients, hubs) = (runtime(), runtime());
    let backend = TestBackend::new(new_authority());
    let mut hub = hubs.block_on(async { Hub::start_with(backend.clone(), patient) });
    let (_link, mut events) = clients.block_on(async { hub.link_with(hub.fresh("eu-1"), hello("i1"), patient) });
    clients.block_on(connected(&mut events));
    hubs.block_on(hub.joined());
    let addr = hub.addr;
    // Waits until its tasks are gone, so that nothing is left that could say goodbye.
    hubs.shutdown_timeout(Duration::from_secs(60));
    drop(hub);

    clients.block_on(async {
        let identity = server_identity(&backend.authority);
        let bind = || Stub::bind(StubConfig { addr, identity: identity.clone(), timing: patient }, backend.clone());
        // The port is free once the last handle to the old socket is dropped.
        let (_stub, mut stub_events) = soon("the port", async {
            loop {
                match bind() {
                    Ok(bound) => return bound,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        match next(&mut events).await {
            LinkEvent::Disconnected { why } => assert!(why.contains("restarted"), "{why}"),
            other => panic!("expected a disconnect, got {other:?}"),
        }
        assert_eq!(connected(&mut events).await, 2);
        assert!(matches!(soon("a session", stub_events.recv()).await, Some(StubEvent::Joined(_))));
    });
}

#[tokio::test]
async fn a_fetch_waits_for_a_connection_and_for_no_longer_than_told() {
    let hub = Hub::start();
    let blob = Bytes::from_static(b"blob");
    let digest = Sha256::digest(&blob);
    hub.blob(&digest, blob.clone());
    let (link, _events) = hub.link(hub.fresh("eu-1"));
    assert_eq!(soon("a blob", link.fetch(&digest, Duration::from_secs(60))).await.expect("fetched"), blob);

    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let hubs = vec![silent.local_addr().expect("address").to_string()];
    let config =
        LinkConfig { toward: Toward::Hub, hubs, identity: hub.fresh("eu-1"), hello: hello("i1"), timing: timing() };
    let (link, _events) = Link::start(config).expect("started");
    assert!(matches!(link.fetch(&digest, Duration::from_millis(50)).await, Err(FetchError::Late { .. })));
    assert!(
        Link::start(LinkConfig {
            toward: Toward::Hub,
            hubs: Vec::new(),
            identity: hub.fresh("a"),
            hello: hello("i"),
            timing: timing()
        })
        .is_err()
    );
}

#[tokio::test]
async fn new_connections_get_the_newer_server_certificate() {
    let mut hub = Hub::start();
    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    hub.joined().await;
    hub.stub.set_identity(&server_identity(&hub.backend.authority)).expect("set");
    let (_other, mut other_events) = hub.link(hub.fresh("us-1"));
    connected(&mut other_events).await;
    hub.joined().await;
    assert_eq!(hub.stub.sessions().len(), 2, "the open one goes on");
}

/// A DNS node's identity, made by `authority`.
fn node(authority: &Authority, name: &str) -> Identity {
    identity_as(authority, Role::Dns, name, Duration::ZERO, CLIENT_LIFETIME)
}

/// A link of `identity` to whoever listens at `address`, which shall be the DNS node `name`.
fn fellow(identity: Identity, name: &str, address: SocketAddr) -> (Link, mpsc::Receiver<LinkEvent>) {
    let toward = Toward::Fellow { role: Role::Dns, name: name.to_owned() };
    let hubs = vec![address.to_string()];
    Link::start(LinkConfig { toward, hubs, identity, hello: hello("i1"), timing: timing() }).expect("started")
}

#[tokio::test]
async fn dns_nodes_serve_each_other_and_are_known_by_their_subject() {
    let backend = TestBackend::new(new_authority());
    let serve = |identity: &Identity, name: &'static str| {
        let identity = ServerIdentity::of(identity).expect(name);
        let config = StubConfig { addr: (Ipv4Addr::LOCALHOST, 0).into(), identity, timing: timing() };
        Stub::bind(config, backend.clone()).expect("bound")
    };
    let (one, two) = (node(&backend.authority, "ns1"), node(&backend.authority, "ns2"));
    let (stub, mut events) = serve(&two, "ns2");
    let address = stub.local_addr().expect("address");

    let (link, mut said) = fellow(one.clone(), "ns2", address);
    connected(&mut said).await;
    link.publish("findings", 1, Bytes::from_static(b"all well")).expect("published");
    let published = async {
        loop {
            if let Some(StubEvent::Published { peer, topic, payload, .. }) = events.recv().await {
                return (peer.role, peer.name, topic, payload);
            }
        }
    };
    let published = soon("the findings", published).await;
    assert_eq!(published, (Role::Dns, "ns1".into(), "findings".into(), Bytes::from_static(b"all well")));

    // The right authority and role, another name; then the right name under another authority.
    let (_link, mut said) = fellow(one.clone(), "ns3", address);
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);
    let (_link, mut said) = fellow(node(&new_authority(), "ns1"), "ns2", address);
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);

    // A node cannot pass for a hub, nor an agent for a node.
    let hubs = vec![address.to_string()];
    let config = LinkConfig { toward: Toward::Hub, hubs, identity: one, hello: hello("i1"), timing: timing() };
    let (_link, mut said) = Link::start(config).expect("started");
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);
    let agent = identity(&backend.authority, "ns4", Duration::ZERO, CLIENT_LIFETIME);
    let (stub, _events) = serve(&agent, "ns4");
    let (_link, mut said) = fellow(two, "ns4", stub.local_addr().expect("address"));
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);
}
