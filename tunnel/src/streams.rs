//! What both ends do with their streams: converse, publish, receive, and hold a peer to its share.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::Timing;
use crate::code::Code;
use crate::message::{
    Control, FRAME_BYTES_MAX, HEAD_BYTES_MAX, Hello, HelloAck, Kind, PAYLOAD_BYTES_MAX, RECEIPT, StreamHead, VERSION,
    topic_is_valid,
};
use crate::outbox::{Outbox, Publication};
use crate::session::{Conversation, End, Output, Pulse};
use crate::transport::{Connection, RecvHalf, Stream, StreamError, read_frame, write_frame};

/// Streams of one session that are served at once; more are reset. Twice what an honest peer opens.
const SERVED_MAX: usize = 64;
/// Publications of one session under way at once: one per topic, and owners have a handful of topics.
const SENT_MAX: usize = 32;
/// A publication that grows beyond this needs a place among the large ones.
const SMALL_BYTES_MAX: usize = 1024 * 1024;
/// How many large publications of one session are put together at once. With `SERVED_MAX` small ones this bounds what an
/// enrolled peer can make the other end hold to 320 MiB, and small publications never wait for large ones.
const LARGE_MAX: usize = 4;
/// What is said last is waited for so long: long enough for a round trip on the worst path and one loss.
const FAREWELL: Duration = Duration::from_secs(1);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a payload is not taken for publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic's name cannot be sent.
    #[error("a topic is 1 to 128 visible ASCII characters")]
    Topic,
    /// The payload is over the limit.
    #[error(
        "a publication of {0} bytes is over the limit of {PAYLOAD_BYTES_MAX}: make it a blob and publish its digest"
    )]
    TooLarge(usize),
}

/// The outbox of one peer and its sending.
pub(crate) struct Outgoing {
    outbox: Mutex<Outbox>,
    wake: Notify,
}

impl Outgoing {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self { outbox: Mutex::new(outbox), wake: Notify::new() }
    }

    pub(crate) fn publish(&self, topic: &str, number: u64, payload: Bytes) -> Result<(), PublishError> {
        if !topic_is_valid(topic) {
            return Err(PublishError::Topic);
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(PublishError::TooLarge(payload.len()));
        }
        lock(&self.outbox).publish(topic, number, payload);
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn forget(&self, topic: &str) {
        lock(&self.outbox).forget(topic);
    }

    /// Sends over this connection until dropped.
    pub(crate) async fn run(&self, connection: &dyn Connection) {
        lock(&self.outbox).restart();
        let mut sends = FuturesUnordered::new();
        loop {
            while sends.len() < SENT_MAX {
                let Some(publication) = lock(&self.outbox).take() else {
                    break;
                };
                sends.push(async move {
                    let result = send_publication(connection, &publication).await;
                    (publication, result)
                });
            }
            tokio::select! {
                () = self.wake.notified() => {}
                Some((publication, result)) = sends.next() => {
                    let Publication { topic, number, .. } = publication;
                    if let Err(error) = result {
                        // The receiver would refuse it again; if the connection broke, the next one starts anew.
                        tracing::debug!(topic, number, error = &error as &dyn std::error::Error, "not delivered");
                    }
                    lock(&self.outbox).finished(&topic);
                }
            }
        }
    }
}

async fn send_publication(connection: &dyn Connection, publication: &Publication) -> Result<(), StreamError> {
    let Stream { mut send, mut recv } = connection.open_bi().await.map_err(StreamError::Connection)?;
    let head = StreamHead::publish(&publication.topic, publication.number);
    write_frame(&mut *send, &head).await?;
    if !publication.payload.is_empty() {
        send.write(publication.payload.clone()).await?;
    }
    send.finish();
    let mut receipt = [0];
    recv.read_exact(&mut receipt, "receipt").await
}

/// Takes in what a peer publishes.
pub(crate) struct Incoming {
    large: Semaphore,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { large: Semaphore::new(LARGE_MAX) }
    }

    /// The payload of a publication.
    pub(crate) async fn receive(&self, recv: &mut dyn RecvHalf) -> Result<Bytes, StreamError> {
        let mut all = BytesMut::new();
        let mut place = None;
        while let Some(chunk) = recv.read(64 * 1024).await? {
            let length = all.len() + chunk.len();
            if length > PAYLOAD_BYTES_MAX {
                return Err(StreamError::TooLarge(PAYLOAD_BYTES_MAX));
            }
            if length > SMALL_BYTES_MAX && place.is_none() {
                place = self.large.acquire().await.ok();
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

/// Tells the sender that the owner holds its payload.
pub(crate) async fn send_receipt(stream: &mut Stream) {
    // A sender that is gone by now publishes again when it returns.
    if stream.send.write(Bytes::from_static(&[RECEIPT])).await.is_ok() {
        stream.send.finish();
    }
}

/// The head of a peer's stream, if it is one that this version serves; otherwise the stream is ended with the reason.
pub(crate) async fn read_head(stream: &mut Stream, timing: &Timing) -> Option<(Kind, StreamHead)> {
    let reading = read_frame::<StreamHead>(&mut *stream.recv, "stream head", HEAD_BYTES_MAX);
    let refused = match tokio::time::timeout(timing.handshake, reading).await {
        Err(_) => Code::TooSlow,
        Ok(Err(error)) => error.code(),
        Ok(Ok(head)) if head.version == 0 || head.version > VERSION => Code::UnknownVersion,
        Ok(Ok(head)) => match Kind::try_from(head.kind) {
            Ok(Kind::Unspecified) | Err(_) => Code::UnknownKind,
            Ok(Kind::Publish) if !topic_is_valid(&head.topic) => Code::Malformed,
            Ok(kind) => return Some((kind, head)),
        },
    };
    stream.abort(refused);
    None
}

/// Serves every stream that the peer opens, each by itself, until the connection ends.
pub(crate) async fn serve_streams<'a, F>(connection: &dyn Connection, mut serve: F)
where
    F: FnMut(Stream) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
{
    let mut served = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok(mut stream) if served.len() >= SERVED_MAX => stream.abort(Code::StreamBusy),
                Ok(stream) => served.push(serve(stream)),
                Err(_) => return,
            },
            Some(()) = served.next() => {}
        }
    }
}

/// What a conversation tells its owner while it runs.
pub(crate) trait Listener: Send {
    /// The hub's end: the answer to a hello.
    fn greeted(&mut self, hello: Hello) -> HelloAck;
    /// The session is open.
    fn open(&mut self, ack: Option<HelloAck>);
}

/// Drives a conversation over its stream to its end.
pub(crate) async fn converse(
    connection: &dyn Connection,
    stream: Stream,
    mut conversation: Conversation,
    origin: Instant,
    listener: &mut dyn Listener,
    pulse: &watch::Sender<Pulse>,
    mut leave: watch::Receiver<Option<(Code, String)>>,
) -> Result<End, StreamError> {
    let Stream { mut send, recv } = stream;
    send.set_priority(1);
    let mut reading = Box::pin(next_frame(recv));
    loop {
        while let Some(output) = conversation.poll_output() {
            match output {
                Output::Send(frame) => write_frame(&mut *send, &frame).await?,
                Output::Greeted(hello) => {
                    let ack = listener.greeted(hello);
                    conversation.answer(origin.elapsed(), ack);
                }
                Output::Open(ack) => listener.open(ack),
                Output::Over(end) => {
                    send.finish();
                    // Closing the connection would drop what was said last.
                    let _ = tokio::time::timeout(FAREWELL, send.delivered()).await;
                    return Ok(end);
                }
            }
        }
        pulse.send_replace(conversation.pulse());
        let timeout = conversation.poll_timeout().unwrap_or_default();
        tokio::select! {
            (recv, frame) = &mut reading => {
                conversation.handle_frame(origin.elapsed(), frame?);
                reading = Box::pin(next_frame(recv));
            }
            () = tokio::time::sleep_until(origin + timeout) => {
                conversation.handle_timeout(origin.elapsed(), connection.rtt());
            }
            (code, reason) = told_to_leave(&mut leave) => conversation.go_away(code, &reason),
        }
    }
}

async fn next_frame(mut recv: Box<dyn RecvHalf>) -> (Box<dyn RecvHalf>, Result<Control, StreamError>) {
    let frame = read_frame(&mut *recv, "control frame", FRAME_BYTES_MAX).await;
    (recv, frame)
}

/// Waits until the owner says so, or is no more.
async fn told_to_leave(leave: &mut watch::Receiver<Option<(Code, String)>>) -> (Code, String) {
    let told = leave.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
    told.unwrap_or((Code::Goodbye, "its owner is gone".to_owned()))
}
