//! One probe.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use policies::failover::traffic::Probe;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::{Answer, Target, Tls};

/// Of a longer body the rest is not waited for: so much shows that somebody serves it.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Asks every address and port at once, within `limit`, from `source` where that is given and of the same family. The
/// first good answer is the cluster's; else a refusal, for it is the target's own word; else silence.
pub async fn ask(target: &Target, tls: &Tls, source: Option<IpAddr>, limit: Duration) -> Answer {
    let begun = Instant::now();
    let places = target.addresses.iter().flat_map(|address| target.ports.iter().map(move |port| (*address, *port)));
    let mut asked: FuturesUnordered<_> = places
        .map(|(address, (port, secure))| async move {
            let place = SocketAddr::new(address, port);
            let answered = tokio::time::timeout(limit, exchange(target, tls, source, place, secure)).await;
            (place, answered.unwrap_or(Err(Failure::Late(limit))))
        })
        .collect();
    let mut best = (Probe::Silence, "there is nothing to ask".to_owned());
    while let Some((place, answered)) = asked.next().await {
        let found = match answered {
            Ok(status) if !status.is_server_error() => {
                let words = format!("{place} said {}", status.as_u16());
                return Answer { outcome: Probe::Success, took: begun.elapsed(), words };
            }
            Ok(status) => (Probe::Refused, format!("{place} said {}", status.as_u16())),
            Err(failure) => (failure.outcome(), format!("{place}: {failure}")),
        };
        if best.0 == Probe::Silence {
            best = found;
        }
    }
    Answer { outcome: best.0, took: begun.elapsed(), words: best.1 }
}

/// Why there was no whole answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("nothing within {0:?}")]
    Late(Duration),
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no TLS: {0}")]
    Tls(io::Error),
    #[error("no whole HTTP answer: {}", innermost(.0))]
    Http(hyper::Error),
}

impl Failure {
    /// What the target itself did is a refusal; what anybody on the way may have done, or nobody, is silence.
    fn outcome(&self) -> Probe {
        match self {
            Self::Late(_) => Probe::Silence,
            Self::Connect(error) | Self::Tls(error) => of_io(error),
            Self::Http(error) if error.is_parse() => Probe::Refused,
            Self::Http(error) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
                // Without one the other end closed in the middle: accepted without a reply.
                cause.map_or(Probe::Silence, of_io)
            }
        }
    }
}

fn of_io(error: &io::Error) -> Probe {
    let refused = matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    );
    // An alert, or something that is no TLS, was said by whoever listens there. All else (no route, ICMP's words, a
    // closed connection) is silence.
    let tls = error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
    if refused || tls { Probe::Refused } else { Probe::Silence }
}

fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

async fn connect(source: Option<IpAddr>, place: SocketAddr) -> io::Result<TcpStream> {
    let Some(source) = source.filter(|source| source.is_ipv6() == place.is_ipv6()) else {
        return TcpStream::connect(place).await;
    };
    speaking_from(source)?.connect(place).await
}

/// A socket that has its address, and gets a port when it connects. One that is taken before that is taken for all places,
/// and for a minute after the probe (TIME_WAIT): of the 28,000 that Linux gives by itself, 470 a second would take all.
fn speaking_from(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    #[cfg(target_os = "linux")]
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

async fn exchange(
    target: &Target,
    tls: &Tls,
    source: Option<IpAddr>,
    place: SocketAddr,
    secure: bool,
) -> Result<StatusCode, Failure> {
    let stream = connect(source, place).await.map_err(Failure::Connect)?;
    // One small write: waiting for more would only delay it. Where it fails, it delays.
    let _ = stream.set_nodelay(true);
    if !secure {
        return request(target, place, stream).await;
    }
    let name = ServerName::try_from(target.host.clone()).unwrap_or(ServerName::IpAddress(place.ip().into()));
    let stream = TlsConnector::from(tls.0.clone()).connect(name, stream).await.map_err(Failure::Tls)?;
    request(target, place, stream).await
}

async fn request(
    target: &Target,
    place: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Result<StatusCode, Failure> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Http)?;
    let host = if target.host.is_empty() { place.to_string() } else { target.host.clone() };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = target.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    // What people wrote was checked by the API server; what cannot be a header is left out, and the answer tells.
    if let Ok(host) = HeaderValue::from_str(&host) {
        headers.insert(header::HOST, host);
    }
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("isochrone-probe/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let (mut body, mut bytes) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
            if bytes >= BODY_BYTES_MAX {
                break;
            }
        }
        Ok(status)
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        // It ends when the answer is through, or because there will be none; the answer says which.
        _ = &mut connection => answer.await,
    }
    .map_err(Failure::Http)
}

#[cfg(test)]
mod tests;
