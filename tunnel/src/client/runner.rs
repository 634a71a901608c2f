//! A link's task: attempts, sessions, and what it makes of their ends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::connect::{ConnectError, chain, connect, open};
use super::{LinkEvent, Shared, Toward};
use crate::Timing;
use crate::code::Code;
use crate::dial::{Attempt, Dialer};
use crate::identity::{Identity, client_tls, fellow_tls};
use crate::message::{Hello, HelloAck, Kind, RefusalCode};
use crate::session::{Conversation, End};
use crate::streams::{Incoming, Listener, converse, lock, read_head, send_receipt, serve_streams};
use crate::transport::quic::{QuicConnection, client_config};
use crate::transport::{Connection, Ending, Stream, StreamError};

/// How long a link that was closed waits for its peer to take the goodbye in: some round trips around the world.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long after the reset of a stream the close of its connection is waited for, which says more.
const CLOSE_FOLLOWS: Duration = Duration::from_millis(100);

/// The link's task.
pub(super) struct Runner {
    pub(super) toward: Toward,
    pub(super) dialer: Dialer,
    pub(super) identity: Mutex<Identity>,
    pub(super) hello: Hello,
    pub(super) timing: Timing,
    pub(super) origin: Instant,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) shared: Arc<Shared>,
    pub(super) leave: watch::Receiver<Option<(Code, String)>>,
    pub(super) generation: u64,
}

/// How a connection ended, as far as the next attempt depends on it.
pub(super) enum Outcome {
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
    pub(super) async fn run(mut self) {
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

    pub(super) async fn emit(&self, event: LinkEvent) -> bool {
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
    pub(super) async fn broken(&self, connection: &dyn Connection, error: StreamError, session: bool) -> Outcome {
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

async fn left(leave: &mut watch::Receiver<Option<(Code, String)>>) {
    // An owner that dropped its link has left, too.
    let _ = leave.wait_for(Option::is_some).await;
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
