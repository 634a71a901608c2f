//! QUIC (RFC 9000) through quinn, ALPN `isochrone/1`.
//!
//! Choices, each against a default:
//! * **BBR.** A loss-based connection carries at most 1 MB/s at 1 % loss, however many streams; this does not depend on
//!   the host's default.
//! * **No connection window below streams × stream window.** A smaller one lets a few unread streams stop all others.
//!   Memory is bounded elsewhere: by the few streams that an unknown peer gets, and by the ends, which read every stream
//!   they accept or refuse it.
//! * **First packets of 1,200 bytes**, then path MTU discovery: larger first packets never arrive over many VPNs.
//! * **Migration** is on: a peer whose address changes keeps its session.
//! * **A fixed reset key**: a restarted hub answers packets of old connections by a stateless reset, so that its peers
//!   know within a round trip instead of an idle time.
//! * **No datagrams, no unidirectional streams, no 0-RTT, no session tickets.**

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, IdleTimeout, ReadError, ReadExactError, VarInt, WriteError};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::{Connection, Ending, RecvHalf, SendHalf, Stream, StreamError};
use crate::Timing;
use crate::code::Code;

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"isochrone/1";

/// One stream carries 20 MB/s at 100 ms with this; 2 MiB is also what one unread stream may hold.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// One request is one stream, and a watch holds its stream for hours: a thousand are a busy cluster's users.
const STREAMS: u32 = 1024;
/// What the whole connection may hold unread: no less than the streams together, see above.
const CONNECTION_WINDOW: u64 = STREAMS as u64 * STREAM_WINDOW as u64;
/// What a peer gets before it is known: enrolment, renewal or the control stream, and one to be refused.
const UNKNOWN_STREAMS: u32 = 4;
/// What is sent and not acknowledged: 100 ms at 160 MB/s.
const SEND_WINDOW: u64 = 16 * 1024 * 1024;
/// Asked of the kernel for each socket; a burst of a few hundred peers must fit while we are scheduled out. The kernel
/// may give less (`net.core.rmem_max`), which costs retransmissions, not correctness.
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;
/// Between two stateless resets: a restarted hub tells 5,000 peers within five seconds, and cannot be made to send more
/// than a thousand small packets a second to forged addresses (each is smaller than what it answers).
const RESET_INTERVAL: Duration = Duration::from_millis(1);

fn transport(timing: &Timing, unknown_peer: bool) -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    let streams = if unknown_peer { UNKNOWN_STREAMS } else { STREAMS };
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(connection_window(streams))
        .send_window(SEND_WINDOW)
        .initial_mtu(1200)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(timing.idle).ok())
        .congestion_controller_factory(Arc::new(quinn::congestion::BbrConfig::default()));
    if !unknown_peer {
        // The dialling end's job: it is the one behind a NAT whose mapping must live.
        config.keep_alive_interval(Some(timing.keep_alive));
    }
    config
}

fn connection_window(streams: u32) -> VarInt {
    let bytes = u64::from(streams) * u64::from(STREAM_WINDOW);
    VarInt::from_u64(bytes.min(CONNECTION_WINDOW)).unwrap_or(VarInt::MAX)
}

/// A server's endpoint on `addr`. `reset_key` stays the same over restarts of one hub process and is no other's.
///
/// # Errors
/// If the address cannot be bound.
pub(crate) fn server_endpoint(
    addr: SocketAddr,
    tls: rustls::ServerConfig,
    timing: &Timing,
    reset_key: &[u8; 32],
) -> io::Result<quinn::Endpoint> {
    let mut config = quinn::EndpointConfig::new(Arc::new(ResetKey(*reset_key)));
    config.cid_generator(|| Box::new(RandomIds)).min_reset_interval(RESET_INTERVAL);
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(config, Some(server_config(tls, timing)?), bind_udp(addr)?, runtime)
}

/// Connection ids of eight random bytes. quinn's own default seals them with a key of the process, and a restarted
/// process would drop the packets of old connections unanswered, as not its own; these it answers with a reset.
struct RandomIds;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&rand::random::<[u8; 8]>())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The server's half of the settings, also for a certificate that changes while it runs.
///
/// # Errors
/// If the TLS settings cannot carry QUIC, which is a mistake of ours.
pub(crate) fn server_config(tls: rustls::ServerConfig, timing: &Timing) -> io::Result<quinn::ServerConfig> {
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport(timing, true))).migration(true);
    Ok(config)
}

/// The dialling end's settings.
///
/// # Errors
/// If the TLS settings cannot carry QUIC, which is a mistake of ours.
pub(crate) fn client_config(tls: rustls::ClientConfig, timing: &Timing) -> io::Result<quinn::ClientConfig> {
    let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport(timing, false)));
    Ok(config)
}

/// A client's endpoint on any port of `local`.
///
/// # Errors
/// If no socket can be had.
pub(crate) fn client_endpoint(local: SocketAddr) -> io::Result<quinn::Endpoint> {
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), None, bind_udp(local)?, runtime)
}

/// A UDP socket with room for bursts.
pub(crate) fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::DGRAM, None)?;
    for done in [socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER)] {
        if let Err(error) = done {
            tracing::debug!(%addr, %error, "the kernel refused larger UDP buffers");
        }
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Seals the reset tokens: HMAC-SHA-256 (RFC 2104).
struct ResetKey([u8; 32]);

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&hmac(&self.0, data));
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        let differs = hmac(&self.0, data).iter().zip(signature).fold(0, |acc, (a, b)| acc | (a ^ b));
        if signature.len() == 32 && differs == 0 { Ok(()) } else { Err(quinn::crypto::CryptoError) }
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    debug_assert!(key.len() <= 64, "longer keys would need hashing first");
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(data).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// A quinn connection as ours.
pub(crate) struct QuicConnection(pub(crate) quinn::Connection);

#[async_trait]
impl Connection for QuicConnection {
    async fn open_bi(&self) -> Result<Stream, Ending> {
        self.0.open_bi().await.map(stream).map_err(ending)
    }

    async fn accept_bi(&self) -> Result<Stream, Ending> {
        self.0.accept_bi().await.map(stream).map_err(ending)
    }

    fn close(&self, code: Code, reason: &str) {
        self.0.close(VarInt::from_u32(code.number()), reason.as_bytes());
    }

    async fn closed(&self) -> Ending {
        ending(self.0.closed().await)
    }

    fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        let chain = self.0.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        chain.into_iter().next()
    }

    fn rtt(&self) -> Duration {
        self.0.rtt()
    }

    fn admit(&self) {
        self.0.set_receive_window(connection_window(STREAMS));
        self.0.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS));
    }
}

fn stream((send, recv): (quinn::SendStream, quinn::RecvStream)) -> Stream {
    Stream { send: Box::new(QuicSend { stream: send, finished: false }), recv: Box::new(QuicRecv(recv)) }
}

/// What quinn's error means here. TLS alerts (RFC 8446 §6) reach us as transport codes 0x100 + alert (RFC 9001 §4.8):
/// those about certificates say that the ends do not trust each other, which trying again does not mend.
pub(crate) fn ending(error: ConnectionError) -> Ending {
    match error {
        ConnectionError::ApplicationClosed(close) => Ending::Peer {
            code: close.error_code.into_inner(),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::ConnectionClosed(close) => match alert(u64::from(close.error_code)) {
            Some(alert) => Ending::Untrusted(format!("the peer refused our certificate: {alert}")),
            None => Ending::Transport(close.to_string()),
        },
        ConnectionError::TransportError(error) => match alert(u64::from(error.code)) {
            Some(alert) => {
                Ending::Untrusted(format!("the peer's certificate is refused here: {alert}: {}", error.reason))
            }
            None => Ending::Transport(error.to_string()),
        },
        ConnectionError::VersionMismatch => Ending::Transport("the peer speaks no QUIC version that we speak".into()),
        ConnectionError::Reset => Ending::Forgotten,
        ConnectionError::TimedOut => Ending::Idle,
        ConnectionError::LocallyClosed => Ending::Here,
        ConnectionError::CidsExhausted => Ending::Transport("connection ids exhausted".into()),
    }
}

fn alert(code: u64) -> Option<&'static str> {
    match code.checked_sub(0x100)? {
        42 => Some("bad certificate"),
        43 => Some("unsupported certificate"),
        44 => Some("certificate revoked"),
        45 => Some("certificate expired"),
        46 => Some("certificate unknown"),
        48 => Some("signed by an unknown authority"),
        49 => Some("access denied"),
        51 => Some("signature does not fit"),
        _ => None,
    }
}

struct QuicSend {
    stream: quinn::SendStream,
    finished: bool,
}

#[async_trait]
impl SendHalf for QuicSend {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.stream.write_chunk(bytes).await.map_err(|error| match error {
            WriteError::Stopped(code) => StreamError::Reset(code.into_inner()),
            WriteError::ConnectionLost(error) => StreamError::Connection(ending(error)),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamError::Closed,
        })
    }

    fn finish(&mut self) {
        // Fails only after an earlier end, which stands.
        self.finished = true;
        let _ = self.stream.finish();
    }

    fn reset(&mut self, code: Code) {
        let _ = self.stream.reset(VarInt::from_u32(code.number()));
    }

    fn set_priority(&self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }

    async fn delivered(&mut self) -> Result<(), StreamError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(StreamError::Reset(code.into_inner())),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(StreamError::Connection(ending(error))),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(StreamError::Closed),
        }
    }
}

impl Drop for QuicSend {
    fn drop(&mut self) {
        // quinn finishes a dropped stream; a stream that was not finished on purpose is a truncated one.
        if self.finished {
            return;
        }
        let _ = self.stream.reset(VarInt::from_u32(Code::Cancelled.number()));
    }
}

struct QuicRecv(quinn::RecvStream);

#[async_trait]
impl RecvHalf for QuicRecv {
    async fn read(&mut self, limit: usize) -> Result<Option<Bytes>, StreamError> {
        match self.0.read_chunk(limit, true).await {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(error) => Err(read_error(error)),
        }
    }

    async fn read_exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), StreamError> {
        self.0.read_exact(buffer).await.map_err(|error| match error {
            ReadExactError::FinishedEarly(_) => StreamError::Short(what),
            ReadExactError::ReadError(error) => read_error(error),
        })
    }

    fn stop(&mut self, code: Code) {
        let _ = self.0.stop(VarInt::from_u32(code.number()));
    }
}

fn read_error(error: ReadError) -> StreamError {
    match error {
        ReadError::Reset(code) => StreamError::Reset(code.into_inner()),
        ReadError::ConnectionLost(error) => StreamError::Connection(ending(error)),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => StreamError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use quinn::crypto::HmacKey;

    use super::*;

    #[test]
    fn hmac_gives_the_published_value() {
        // RFC 4231, test case 2.
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let key = ResetKey([7; 32]);
        let mut signature = [0; 32];
        key.sign(b"id", &mut signature);
        assert!(key.verify(b"id", &signature).is_ok());
        signature[31] ^= 1;
        assert!(key.verify(b"id", &signature).is_err());
        assert!(key.verify(b"id", &signature[..31]).is_err());
    }

    #[test]
    fn the_connection_window_is_no_bottleneck() {
        assert!(u64::from(connection_window(STREAMS)) >= u64::from(STREAMS) * u64::from(STREAM_WINDOW));
    }
}
