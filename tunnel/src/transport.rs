//! Connections and streams behind one trait, so that the ends do not know what carries them.
//!
//! A stream is a pair of halves. Half-close, reset codes and back-pressure are the transport's own; there is no
//! buffering here, no policy, and no retry.

pub mod quic;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use prost::Message;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::code::Code;
use crate::message::{self, FrameError};

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The peer closed it.
    #[error("closed by the peer with code {code:#x}: {reason}")]
    Peer {
        /// The number on the wire; [`Code::from_number`] knows ours.
        code: u64,
        /// The peer's words.
        reason: String,
    },
    /// We closed it.
    #[error("closed here")]
    Here,
    /// Nothing came for the idle time.
    #[error("nothing came from the peer within the idle time")]
    Idle,
    /// The peer does not know this connection (any more): it has restarted.
    #[error("the peer does not know this connection any more: it has restarted")]
    Forgotten,
    /// The peer did not accept our certificate, or offered none that we accept.
    #[error("no trust between the two ends: {0}")]
    Untrusted(String),
    /// The transport broke.
    #[error("transport: {0}")]
    Transport(String),
}

impl Ending {
    /// The peer's code, if it closed with one that is known here.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Peer { code, .. } => Code::from_number(*code),
            Self::Here | Self::Idle | Self::Forgotten | Self::Untrusted(_) | Self::Transport(_) => None,
        }
    }
}

/// Why a stream gave no more.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection ended.
    #[error("the connection ended")]
    Connection(#[source] Ending),
    /// The peer gave up this half.
    #[error("the peer ended the stream with code {0:#x}")]
    Reset(u64),
    /// The peer ended the stream in the middle of a frame.
    #[error("the stream ended in the middle of a {0}")]
    Short(&'static str),
    /// The bytes are no such frame.
    #[error("the stream broke its frames")]
    Frame(#[source] FrameError),
    /// More bytes than allowed.
    #[error("more than {0} bytes came")]
    TooLarge(usize),
    /// The half was used after its end.
    #[error("the stream is closed here")]
    Closed,
}

impl StreamError {
    /// The code for telling the peer about it.
    pub fn code(&self) -> Code {
        match self {
            Self::Frame(FrameError::TooLarge { .. }) | Self::TooLarge(_) => Code::TooLarge,
            Self::Frame(FrameError::Malformed { .. }) | Self::Short(_) => Code::Malformed,
            Self::Connection(_) | Self::Reset(_) | Self::Closed => Code::Cancelled,
        }
    }
}

/// A connection between two ends.
#[async_trait]
pub trait Connection: Send + Sync + 'static {
    /// A new stream; the peer hears of it with the first bytes. Waits while the peer allows no more.
    async fn open_bi(&self) -> Result<Stream, Ending>;
    /// The peer's next stream.
    async fn accept_bi(&self) -> Result<Stream, Ending>;
    /// Ends it now; what was not sent yet is lost. Only the first call counts.
    fn close(&self, code: Code, reason: &str);
    /// Waits for its end.
    async fn closed(&self) -> Ending;
    /// The peer's current address; changes when the peer moves.
    fn remote(&self) -> SocketAddr;
    /// The peer's certificate, verified by the handshake.
    fn peer_certificate(&self) -> Option<CertificateDer<'static>>;
    /// The current estimate of the round trip.
    fn rtt(&self) -> Duration;
    /// The peer is known now: allows it the streams and the memory of a session.
    fn admit(&self);
}

/// Both halves of a stream.
pub struct Stream {
    /// Ours to write.
    pub send: Box<dyn SendHalf>,
    /// Ours to read.
    pub recv: Box<dyn RecvHalf>,
}

impl Stream {
    /// Gives up both halves with one code.
    pub fn abort(&mut self, code: Code) {
        self.send.reset(code);
        self.recv.stop(code);
    }
}

/// The writing half. Dropped without [`SendHalf::finish`] it is reset, so that a truncated stream never looks whole.
#[async_trait]
pub trait SendHalf: Send + Sync {
    /// Writes all of it; waits while the peer reads slowly.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError>;
    /// No more will come.
    fn finish(&mut self);
    /// Gives it up; the peer may not see what was written.
    fn reset(&mut self, code: Code);
    /// Higher ones go first on a narrow path.
    fn set_priority(&self, priority: i32);
    /// Waits until the peer has all of it, or wants no more.
    async fn delivered(&mut self) -> Result<(), StreamError>;
}

/// The reading half. Dropped before its end, the peer is told to stop.
#[async_trait]
pub trait RecvHalf: Send + Sync {
    /// The next bytes, at most `limit`; `None` at the end.
    async fn read(&mut self, limit: usize) -> Result<Option<Bytes>, StreamError>;
    /// Fills the buffer.
    async fn read_exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), StreamError>;
    /// Wants no more.
    fn stop(&mut self, code: Code);
}

/// One message as a frame.
///
/// # Errors
/// Of the stream.
pub async fn write_frame(send: &mut dyn SendHalf, message: &impl Message) -> Result<(), StreamError> {
    send.write(message::encode(message)).await
}

/// The next frame as a message.
///
/// # Errors
/// Of the stream, or if the frame is over `limit` or no such message.
pub async fn read_frame<M: Message + Default>(
    recv: &mut dyn RecvHalf,
    what: &'static str,
    limit: usize,
) -> Result<M, StreamError> {
    let mut prefix = [0; 4];
    recv.read_exact(&mut prefix, what).await?;
    let length = message::length(prefix, limit).map_err(StreamError::Frame)?;
    let mut bytes = vec![0; length];
    recv.read_exact(&mut bytes, what).await?;
    message::decode(what, &bytes).map_err(StreamError::Frame)
}

/// All bytes to the end of the stream, with their SHA-256. Grows with what came, never with what was promised.
///
/// # Errors
/// Of the stream, or if more than `limit` came.
pub async fn read_all(recv: &mut dyn RecvHalf, limit: usize) -> Result<(Bytes, [u8; 32]), StreamError> {
    let mut all = BytesMut::new();
    let mut hash = Sha256::new();
    while let Some(chunk) = recv.read(64 * 1024).await? {
        if all.len() + chunk.len() > limit {
            return Err(StreamError::TooLarge(limit));
        }
        hash.update(&chunk);
        all.extend_from_slice(&chunk);
    }
    Ok((all.freeze(), hash.finalize().into()))
}
