//! The dialling end: enrolment, and a [`Link`] that is up whenever it can be.
//!
//! A link dials, greets, beats, renews its certificate when due, keeps each topic's newest payload with the hub, hands
//! over what the hub publishes, and dials again when the session ends. DNS nodes dial each other in the same way
//! ([`Toward::Fellow`]); there the other end is known by its certificate's subject, and nothing is renewed. Its owner sees [`LinkEvent`]s, in order; from a
//! session first `Connected`, then its publications, then `Disconnected`.
//!
//! The event channel is bounded: an owner that does not read holds up the hub's publications to it (each waits for its
//! receipt) and nothing else; beats and fetches go on.
//!
//! ```text
//! wait ─▶ connect ─▶ (expired? renew, again) ─▶ greet ─▶ session ─▶ wait …
//! ```

mod enrol;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Timing;
use crate::code::Code;
use crate::dial::{Attempt, Dialer};
use crate::identity::{Identity, IdentityError, Key, Role, SERVER_NAME, client_tls, fellow_tls};
use crate::message::{
    BLOB_BYTES_MAX, FRAME_BYTES_MAX, Hello, HelloAck, Kind, RefusalCode, RenewRequest, SignReply, StreamHead,
};
use crate::outbox::Outbox;
use crate::session::{Conversation, End, Pulse};
use crate::streams::{Incoming, Listener, Outgoing, converse, lock, read_head, send_receipt, serve_streams};
use crate::transport::quic::{QuicConnection, bind_udp, client_config, client_endpoint, ending};
use crate::transport::{Connection, Ending, Stream, StreamError, read_all, read_frame, write_frame};

pub use crate::streams::PublishError;
pub use enrol::{EnrolError, enrol};

/// Events that wait for the owner: a hub has a handful of topics, so these are many sessions' worth.
const EVENTS_MAX: usize = 64;
/// Fetches under way at once; others wait. Well below what the hub serves at once.
const FETCHES_MAX: usize = 16;
/// Clocks jump and machines sleep: a wait for a time of day is looked at again at least so often.
const WALL_CLOCK_STEP: Duration = Duration::from_secs(60);

/// Whom a link dials, and so whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toward {
    /// A hub, by the name in every hub's certificate.
    Hub,
    /// A peer of the same authority that serves with its own certificate: this one and no other.
    Fellow {
        /// What it is.
        role: Role,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Toward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub => f.write_str("the hub"),
            Self::Fellow { role, name } => write!(f, "{role} {name}"),
        }
    }
}

/// What a link needs.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Whom to expect there.
    pub toward: Toward,
    /// Where it is, `host:port` each; at least one.
    pub hubs: Vec<String>,
    /// Who we are.
    pub identity: Identity,
    /// How we introduce ourselves.
    pub hello: Hello,
    /// The times to keep.
    pub timing: Timing,
}

/// Why a link cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is nobody to dial.
    #[error("no hub to dial: give at least one address host:port")]
    NoHub,
    /// The identity is unusable.
    #[error("the link's identity cannot be used")]
    Identity(#[source] IdentityError),
}

/// What happened on a link.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// A session began.
    Connected {
        /// The hub's words.
        hub: HelloAck,
        /// Counts this link's sessions, from 1.
        generation: u64,
    },
    /// The session ended; the link dials again by itself.
    Disconnected {
        /// For people.
        why: String,
    },
    /// The hub published. Only the newest payload of a topic counts.
    Published {
        /// Its topic.
        topic: String,
        /// The hub's number.
        number: u64,
        /// The bytes.
        payload: Bytes,
    },
    /// We have a newer certificate; **keep it**, the older one ends.
    Renewed(Identity),
    /// The hub does not accept us; the link goes on trying, slowly.
    Refused {
        /// Why.
        code: RefusalCode,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// That is no digest.
    #[error("a digest is the 32 bytes of a SHA-256, not {0}")]
    Digest(usize),
    /// The hub does not have it.
    #[error("the hub has no blob {0}")]
    NotFound(String),
    /// The hub sent something else.
    #[error("the hub sent other bytes than those of blob {0}")]
    Corrupt(String),
    /// It is over the limit.
    #[error("blob {0} is over the limit of {BLOB_BYTES_MAX} bytes")]
    TooLarge(String),
    /// There was no connection, or not for long enough.
    #[error("no connection brought blob {digest} within {within:?}")]
    Late {
        /// Which.
        digest: String,
        /// The time given.
        within: Duration,
    },
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

/// A connection to the hub that comes back by itself. Dropped, it says goodbye without waiting for it to be said.
pub struct Link {
    shared: Arc<Shared>,
    leave: watch::Sender<Option<(Code, String)>>,
    done: watch::Receiver<bool>,
}

struct Shared {
    outgoing: Outgoing,
    live: watch::Sender<Option<Arc<dyn Connection>>>,
    fetches: Semaphore,
    endpoints: Mutex<Endpoints>,
    pulse: watch::Sender<Pulse>,
}

/// One socket per address family, made when first needed.
#[derive(Default)]
struct Endpoints {
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
}

fn any_port(v6: bool) -> SocketAddr {
    if v6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

impl Endpoints {
    fn for_peer(&mut self, peer: SocketAddr) -> io::Result<quinn::Endpoint> {
        let slot = if peer.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
        match slot {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(slot.insert(client_endpoint(any_port(peer.is_ipv6()))?).clone()),
        }
    }

    fn all(&self) -> Vec<quinn::Endpoint> {
        [&self.v4, &self.v6].into_iter().flatten().cloned().collect()
    }
}

impl Link {
    /// Starts dialling, on the current tokio runtime.
    ///
    /// # Errors
    /// Without a hub, or if the identity is unusable.
    pub fn start(config: LinkConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        if config.hubs.is_empty() {
            return Err(LinkError::NoHub);
        }
        client_tls(&config.identity).map_err(LinkError::Identity)?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (leave, leaving) = watch::channel(None);
        let (finished, done) = watch::channel(false);
        let shared = Arc::new(Shared {
            outgoing: Outgoing::new(Outbox::kept()),
            live: watch::channel(None).0,
            fetches: Semaphore::new(FETCHES_MAX),
            endpoints: Mutex::default(),
            pulse: watch::channel(Pulse::default()).0,
        });
        let origin = Instant::now();
        let LinkConfig { toward, hubs, identity, hello, timing } = config;
        let runner = Runner {
            toward,
            dialer: Dialer::new(hubs, timing.backoff, Duration::ZERO, rand::random()),
            identity: Mutex::new(identity),
            hello,
            timing,
            origin,
            events,
            shared: shared.clone(),
            leave: leaving,
            generation: 0,
        };
        tokio::spawn(async move {
            runner.run().await;
            finished.send_replace(true);
        });
        Ok((Self { shared, leave, done }, received))
    }

    /// The topic's newest payload is this one. It takes the place of one that still waits, and is sent again after each
    /// reconnect, until [`Link::forget`].
    ///
    /// # Errors
    /// If the topic or the payload cannot be sent.
    pub fn publish(&self, topic: &str, number: u64, payload: Bytes) -> Result<(), PublishError> {
        self.shared.outgoing.publish(topic, number, payload)
    }

    /// The topic is no longer sent after a reconnect.
    pub fn forget(&self, topic: &str) {
        self.shared.outgoing.forget(topic);
    }

    /// The blob of a SHA-256, checked. Waits for a connection, and tries again on the next if one breaks, until `within`
    /// is over.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self, digest: &[u8], within: Duration) -> Result<Bytes, FetchError> {
        let wanted: [u8; 32] = digest.try_into().map_err(|_| FetchError::Digest(digest.len()))?;
        let work = async {
            let _place = self.shared.fetches.acquire().await.map_err(|_| FetchError::Closed)?;
            let mut live = self.shared.live.subscribe();
            let mut done = self.done.clone();
            loop {
                let connection = tokio::select! {
                    live = live.wait_for(Option::is_some) => live.ok().and_then(|live| live.clone()),
                    _ = done.wait_for(|done| *done) => None,
                };
                let connection = connection.ok_or(FetchError::Closed)?;
                match fetch_once(&*connection, &wanted).await {
                    Ok(blob) => return Ok(blob),
                    Err(FetchOnce::Final(error)) => return Err(error),
                    Err(FetchOnce::Broken(error)) => {
                        tracing::debug!(
                            digest = short(&wanted),
                            error = &error as &dyn std::error::Error,
                            "fetch broke"
                        );
                        // Not again over a connection that is dead and not yet noticed as such.
                        tokio::time::sleep(FETCH_AGAIN).await;
                    }
                }
            }
        };
        match tokio::time::timeout(within, work).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Late { digest: short(&wanted), within }),
        }
    }

    /// What is known of the hub's end: its last beat, counted from the link's start.
    pub fn pulse(&self) -> Pulse {
        *self.shared.pulse.borrow()
    }

    /// Moves to new sockets: after a change of the machine's network, when the old ones may lead nowhere. A session that
    /// is open goes on.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn rebind(&self) -> io::Result<()> {
        for endpoint in lock(&self.shared.endpoints).all() {
            endpoint.rebind(bind_udp(any_port(endpoint.local_addr()?.is_ipv6()))?)?;
        }
        Ok(())
    }

    /// Says goodbye and waits until it is said; at most a second or two.
    pub async fn close(mut self, reason: &str) {
        self.leave.send_replace(Some((Code::Goodbye, reason.to_owned())));
        let _ = self.done.wait_for(|done| *done).await;
    }
}

/// How long a link that was closed waits for its peer to take the goodbye in: some round trips around the world.
const GOODBYE: Duration = Duration::from_secs(1);
/// Between two tries of a fetch.
const FETCH_AGAIN: Duration = Duration::from_millis(100);

enum FetchOnce {
    Final(FetchError),
    Broken(StreamError),
}

async fn fetch_once(connection: &dyn Connection, digest: &[u8; 32]) -> Result<Bytes, FetchOnce> {
    let broken = FetchOnce::Broken;
    let mut stream = connection.open_bi().await.map_err(|ending| broken(StreamError::Connection(ending)))?;
    write_frame(&mut *stream.send, &StreamHead::fetch(digest)).await.map_err(broken)?;
    stream.send.finish();
    match read_all(&mut *stream.recv, BLOB_BYTES_MAX).await {
        Ok((blob, hash)) if hash == *digest => Ok(blob),
        Ok(_) => Err(FetchOnce::Final(FetchError::Corrupt(short(digest)))),
        Err(StreamError::Reset(code)) if Code::from_number(code) == Some(Code::NotFound) => {
            Err(FetchOnce::Final(FetchError::NotFound(short(digest))))
        }
        Err(StreamError::TooLarge(_)) => Err(FetchOnce::Final(FetchError::TooLarge(short(digest)))),
        Err(error) => Err(broken(error)),
    }
}

fn short(digest: &[u8; 32]) -> String {
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// The link's task.
struct Runner {
    toward: Toward,
    dialer: Dialer,
    identity: Mutex<Identity>,
    hello: Hello,
    timing: Timing,
    origin: Instant,
    events: mpsc::Sender<LinkEvent>,
    shared: Arc<Shared>,
    leave: watch::Receiver<Option<(Code, String)>>,
    generation: u64,
}

/// How a connection ended, as far as the next attempt depends on it.
enum Outcome {
    /// We left.
    Left,
    /// The owner is gone: nobody reads our events.
    Orphaned,
    /// There was no session.
    Failed(String),
    /// There was one, and it ended.
    Ended(String),
    /// The hub goes away.
    GoneAway(String),
    /// The hub, or TLS, says no.
    Refused { code: RefusalCode, message: String, session: bool },
    /// A renewal had to come first and is done.
    Again,
}

impl Runner {
    async fn run(mut self) {
        while self.run_once().await {}
        self.shared.live.send_replace(None);
        let endpoints = lock(&self.shared.endpoints).all();
        for endpoint in endpoints {
            endpoint.close(quinn::VarInt::from_u32(Code::Goodbye.number()), b"closed");
            // The goodbye is sent at once. A connection that the peer closed drains for three probe timeouts (RFC 9000
            // §10.2), seconds that nobody needs to wait for.
            let _ = tokio::time::timeout(GOODBYE, endpoint.wait_idle()).await;
        }
    }

    /// One attempt and the session it gives. Whether to go on.
    async fn run_once(&mut self) -> bool {
        let Some(attempt) = self.dialer.attempt() else {
            return false;
        };
        let mut leave = self.leave.clone();
        let connected = tokio::select! {
            connected = async {
                tokio::time::sleep_until(self.origin + attempt.at).await;
                self.connect(&attempt).await
            } => connected,
            _ = left(&mut leave) => return false,
            () = self.events.closed() => return false,
        };
        let outcome = match connected {
            Ok(connection) => {
                let outcome = self.serve(&connection).await;
                self.shared.live.send_replace(None);
                connection.close(Code::Goodbye, "");
                outcome
            }
            Err(outcome) => outcome,
        };
        self.settle(&attempt.hub, outcome).await
    }

    async fn settle(&mut self, hub: &str, outcome: Outcome) -> bool {
        let random = rand::random();
        let now = self.origin.elapsed();
        let event = match outcome {
            Outcome::Left | Outcome::Orphaned => return false,
            Outcome::Again => {
                self.dialer.handle_again(now);
                None
            }
            Outcome::Failed(why) => {
                tracing::info!(to = %self.toward, address = hub, why, "no connection");
                self.dialer.handle_failure(now, random);
                None
            }
            Outcome::Ended(why) => {
                self.dialer.handle_ended(now, random);
                Some(LinkEvent::Disconnected { why })
            }
            Outcome::GoneAway(why) => {
                self.dialer.handle_go_away(now, random);
                Some(LinkEvent::Disconnected { why })
            }
            Outcome::Refused { code, message, session } => {
                tracing::warn!(to = %self.toward, address = hub, ?code, message, "refused");
                self.dialer.handle_refusal(now, random);
                if session && !self.emit(LinkEvent::Disconnected { why: message.clone() }).await {
                    return false;
                }
                Some(LinkEvent::Refused { code, message })
            }
        };
        match event {
            Some(event) => self.emit(event).await,
            None => true,
        }
    }

    async fn emit(&self, event: LinkEvent) -> bool {
        let mut leave = self.leave.clone();
        tokio::select! {
            sent = self.events.send(event) => sent.is_ok(),
            _ = left(&mut leave) => false,
        }
    }

    async fn connect(&self, attempt: &Attempt) -> Result<Arc<dyn Connection>, Outcome> {
        let tls = match &self.toward {
            Toward::Hub => client_tls(&lock(&self.identity)),
            Toward::Fellow { role, name } => fellow_tls(&lock(&self.identity), *role, name),
        };
        let tls = tls.map_err(|error| Outcome::Failed(error.to_string()))?;
        let config = client_config(tls, &self.timing).map_err(|error| Outcome::Failed(error.to_string()))?;
        let endpoint = |peer| lock(&self.shared.endpoints).for_peer(peer);
        match connect(&attempt.hub, attempt.round, config, &self.timing, endpoint).await {
            Ok(connection) => Ok(Arc::new(QuicConnection(connection))),
            Err(ConnectError::Ended(ending)) => Err(no_session(ending, false)),
            Err(error) => Err(Outcome::Failed(chain(&error))),
        }
    }

    /// A connection to its end.
    async fn serve(&mut self, connection: &Arc<dyn Connection>) -> Outcome {
        let expired = lock(&self.identity).peer(SystemTime::now()).is_ok_and(|peer| peer.expired);
        match (expired, &self.toward) {
            (true, Toward::Hub) => return self.renew_first(&**connection).await,
            (true, Toward::Fellow { .. }) => return Outcome::Failed("our certificate has expired".to_owned()),
            (false, _) => {}
        }
        let stream = match open(&**connection, Kind::Control).await {
            Ok(stream) => stream,
            Err(error) => return self.broken(&**connection, error, false).await,
        };
        let conversation = Conversation::dial(self.origin.elapsed(), self.hello.clone(), self.timing);
        let (opened, open) = oneshot::channel();
        let mut listener = Greeting { opened: Some(opened) };
        let shared = self.shared.clone();
        let control = converse(
            &**connection,
            stream,
            conversation,
            self.origin,
            &mut listener,
            &shared.pulse,
            self.leave.clone(),
        );
        tokio::pin!(control);
        let ack = tokio::select! {
            biased;
            Ok(ack) = open => ack,
            end = &mut control => return self.over(&**connection, end, false).await,
        };
        self.dialer.handle_connected(self.origin.elapsed());
        self.generation += 1;
        let connected = LinkEvent::Connected { hub: ack, generation: self.generation };
        tokio::select! {
            end = &mut control => self.over(&**connection, end, true).await,
            () = self.work(connection, connected) => Outcome::Orphaned,
        }
    }

    /// What goes on beside the beats. Ends only when the owner is gone.
    async fn work(&self, connection: &Arc<dyn Connection>, connected: LinkEvent) {
        if self.events.send(connected).await.is_err() {
            return;
        }
        self.shared.live.send_replace(Some(connection.clone()));
        let incoming = Incoming::new();
        let incoming = &incoming;
        let streams = serve_streams(&**connection, |stream| Box::pin(self.serve_stream(incoming, stream)));
        let renewals = async {
            // A fellow signs nothing.
            if self.toward == Toward::Hub {
                self.keep_renewed(&**connection).await;
            }
        };
        let rest = async {
            tokio::join!(streams, self.shared.outgoing.run(&**connection), renewals);
        };
        tokio::select! {
            () = rest => std::future::pending().await,
            () = self.events.closed() => {}
        }
    }

    async fn serve_stream(&self, incoming: &Incoming, mut stream: Stream) {
        let Some((kind, head)) = read_head(&mut stream, &self.timing).await else {
            return;
        };
        if kind != Kind::Publish {
            return stream.abort(Code::NotAllowed);
        }
        match incoming.receive(&mut *stream.recv).await {
            Ok(payload) => {
                let event = LinkEvent::Published { topic: head.topic, number: head.number, payload };
                if self.events.send(event).await.is_ok() {
                    send_receipt(&mut stream).await;
                }
            }
            Err(error) => stream.abort(error.code()),
        }
    }

    async fn renew_first(&self, connection: &dyn Connection) -> Outcome {
        match self.renew(connection).await {
            Ok(identity) => {
                if self.emit(LinkEvent::Renewed(identity)).await {
                    Outcome::Again
                } else {
                    Outcome::Orphaned
                }
            }
            Err(RenewError::Refused { code, message }) => Outcome::Refused { code, message, session: false },
            Err(RenewError::Stream(error)) => self.broken(connection, error, false).await,
            Err(error @ (RenewError::Late | RenewError::Identity(_))) => Outcome::Failed(chain(&error)),
        }
    }

    async fn keep_renewed(&self, connection: &dyn Connection) {
        let random = rand::random();
        let mut not_before = SystemTime::UNIX_EPOCH;
        loop {
            let due = lock(&self.identity).renewal_due(random);
            let life = lock(&self.identity).validity();
            let (Ok(due), Ok((start, end))) = (due, life) else {
                return;
            };
            // A thirtieth of its life (three days of ninety) between two tries, also after one that went well: a clock
            // that runs ahead of the hub's would otherwise renew without end.
            let pause = end.duration_since(start).unwrap_or_default() / 30;
            wait_until(due.max(not_before)).await;
            match self.renew(connection).await {
                Ok(identity) => {
                    if self.events.send(LinkEvent::Renewed(identity)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "certificate not renewed, trying again later"
                    );
                }
            }
            not_before = SystemTime::now() + pause.min(RENEWAL_PAUSE_MAX);
        }
    }

    /// A new key, a new certificate for it.
    async fn renew(&self, connection: &dyn Connection) -> Result<Identity, RenewError> {
        let key = Key::generate().map_err(RenewError::Identity)?;
        let request = RenewRequest { csr: key.request().map_err(RenewError::Identity)? };
        let asking = async {
            let mut stream = open(connection, Kind::Renew).await?;
            write_frame(&mut *stream.send, &request).await?;
            stream.send.finish();
            read_frame::<SignReply>(&mut *stream.recv, "reply to a renewal", FRAME_BYTES_MAX).await
        };
        let reply = tokio::time::timeout(self.timing.handshake, asking)
            .await
            .map_err(|_| RenewError::Late)?
            .map_err(RenewError::Stream)?;
        if let Some(refusal) = reply.refusal {
            return Err(RenewError::Refused { code: refusal.reason(), message: refusal.message });
        }
        let signed = reply.signed.unwrap_or_default();
        let before = lock(&self.identity).clone();
        // The authority stays the one that enrolment gave us.
        let identity =
            Identity::new(key.to_pem(), signed.chain_pem, before.ca_pem.clone()).map_err(RenewError::Identity)?;
        let now = SystemTime::now();
        let (was, is) = (before.peer(now), identity.peer(now));
        match (was, is) {
            (Ok(was), Ok(is)) if was.subject() == is.subject() => {}
            (Ok(_) | Err(_), Ok(_) | Err(_)) => return Err(RenewError::Identity(IdentityError::NoPeer)),
        }
        *lock(&self.identity) = identity.clone();
        Ok(identity)
    }

    async fn over(&self, connection: &dyn Connection, end: Result<End, StreamError>, session: bool) -> Outcome {
        match end {
            Ok(End::WeLeave) => Outcome::Left,
            Ok(End::PeerLeaves(go_away)) => Outcome::GoneAway(format!("the hub goes away: {}", go_away.reason)),
            Ok(End::Refused(ack)) => {
                let refusal = ack.refusal.unwrap_or_default();
                Outcome::Refused { code: refusal.reason(), message: refusal.message, session }
            }
            Ok(end @ (End::NoHello | End::Silent(_) | End::Violation(_))) => {
                connection.close(end.code(), "");
                ended(describe(&end), session)
            }
            Err(error) => self.broken(connection, error, session).await,
        }
    }

    /// A stream broke: if the connection did, that is why.
    async fn broken(&self, connection: &dyn Connection, error: StreamError, session: bool) -> Outcome {
        if let StreamError::Connection(ending) = error {
            return no_session(ending, session);
        }
        // The reset of a stream and the close of its connection may come in either order.
        match tokio::time::timeout(CLOSE_FOLLOWS, connection.closed()).await {
            Ok(ending) => no_session(ending, session),
            Err(_) => ended(chain(&error), session),
        }
    }
}

/// How long after the reset of a stream the close of its connection is waited for, which says more.
const CLOSE_FOLLOWS: Duration = Duration::from_millis(100);

/// Two days: a certificate of 90 days gets a dozen tries in the month before it ends.
const RENEWAL_PAUSE_MAX: Duration = Duration::from_secs(2 * 24 * 60 * 60);

async fn left(leave: &mut watch::Receiver<Option<(Code, String)>>) {
    // An owner that dropped its link has left, too.
    let _ = leave.wait_for(Option::is_some).await;
}

async fn wait_until(time: SystemTime) {
    while let Ok(rest) = time.duration_since(SystemTime::now()) {
        if rest.is_zero() {
            return;
        }
        tokio::time::sleep(rest.min(WALL_CLOCK_STEP)).await;
    }
}

fn ended(why: String, session: bool) -> Outcome {
    if session { Outcome::Ended(why) } else { Outcome::Failed(why) }
}

fn no_session(ending: Ending, session: bool) -> Outcome {
    let code = ending.code();
    match (&ending, code) {
        (Ending::Untrusted(_), _) => {
            let message = format!("{ending}; if this hub is the right one, enrol again with a new token");
            Outcome::Refused { code: RefusalCode::Certificate, message, session }
        }
        (Ending::Peer { reason, .. }, Some(code)) if code.is_refusal() => {
            let refusal = if code == Code::Revoked { RefusalCode::Revoked } else { RefusalCode::Certificate };
            Outcome::Refused { code: refusal, message: format!("{code}: {reason}"), session }
        }
        (_, Some(Code::Draining)) => Outcome::GoneAway(ending.to_string()),
        (
            Ending::Peer { .. } | Ending::Here | Ending::Idle | Ending::Forgotten | Ending::Transport(_),
            Some(_) | None,
        ) => ended(ending.to_string(), session),
    }
}

fn describe(end: &End) -> String {
    match end {
        End::NoHello => "the hub did not answer our hello".to_owned(),
        End::Silent(limit) => format!("no beat from the hub for {limit:?}"),
        End::Violation(what) => format!("the hub broke the protocol: {what}"),
        End::Refused(_) | End::PeerLeaves(_) | End::WeLeave => "the session is over".to_owned(),
    }
}

struct Greeting {
    opened: Option<oneshot::Sender<HelloAck>>,
}

impl Listener for Greeting {
    fn greeted(&mut self, _hello: Hello) -> HelloAck {
        // Only a hub is greeted, and the machine of a dialling end never says so.
        HelloAck::default()
    }

    fn open(&mut self, ack: Option<HelloAck>) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(ack.unwrap_or_default());
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the hub refused the renewal ({code:?}): {message}")]
    Refused { code: RefusalCode, message: String },
    #[error("the renewal's stream broke")]
    Stream(#[source] StreamError),
    #[error("the hub did not answer the renewal in time")]
    Late,
    #[error("the hub's answer to the renewal is not for us")]
    Identity(#[source] IdentityError),
}

async fn open(connection: &dyn Connection, kind: Kind) -> Result<Stream, StreamError> {
    let mut stream = connection.open_bi().await.map_err(StreamError::Connection)?;
    write_frame(&mut *stream.send, &StreamHead::of(kind)).await?;
    Ok(stream)
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("cannot resolve {hub}")]
    Resolve {
        hub: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("cannot open a socket")]
    Socket(#[source] io::Error),
    #[error("cannot dial")]
    Dial(#[source] quinn::ConnectError),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("no connection")]
    Ended(#[source] Ending),
}

async fn connect(
    hub: &str,
    round: usize,
    config: quinn::ClientConfig,
    timing: &Timing,
    endpoint: impl Fn(SocketAddr) -> io::Result<quinn::Endpoint>,
) -> Result<quinn::Connection, ConnectError> {
    let work = async {
        let resolved = tokio::net::lookup_host(hub).await;
        let addresses: Vec<SocketAddr> =
            resolved.map_err(|source| ConnectError::Resolve { hub: hub.to_owned(), source })?.collect();
        let address = addresses.get(round % addresses.len().max(1)).copied();
        let address = address.ok_or_else(|| ConnectError::NoAddress(hub.to_owned()))?;
        let connecting = endpoint(address)
            .map_err(ConnectError::Socket)?
            .connect_with(config, address, SERVER_NAME)
            .map_err(ConnectError::Dial)?;
        connecting.await.map_err(|error| ConnectError::Ended(ending(error)))
    };
    tokio::time::timeout(timing.handshake, work).await.map_err(|_| ConnectError::Late(timing.handshake))?
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
