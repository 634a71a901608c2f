//! A session, from its greeting to its end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::signing::renew;
use super::{Backend, Inner, Left, Session, Shared, StubEvent, enter, leave_registry};
use crate::WALL_CLOCK_STEP;
use crate::code::Code;
use crate::identity::Peer;
use crate::message::{Hello, HelloAck, Kind, Refusal, RefusalCode, StreamHead};
use crate::outbox::Outbox;
use crate::session::{Conversation, End, Pulse};
use crate::streams::{Incoming, Listener, Outgoing, converse, lock, read_head, send_receipt, serve_streams};
use crate::transport::{Connection, Ending, Stream, StreamError};

/// An instance or boot id: ours have 32 characters and names of pods at most 63, and each session holds two.
const ID_BYTES_MAX: usize = 128;

/// A peer with a valid certificate, from its first stream to its end.
pub(super) async fn session(shared: &Arc<Shared>, connection: Arc<dyn Connection>, mut peer: Peer) {
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
            let message = format!("instance and boot id are 1 to {ID_BYTES_MAX} visible ASCII characters each");
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
