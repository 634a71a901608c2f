//! The HTTP shell: sockets, TLS, client certificates and tokens. It decides nothing but who asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Api, User};
use crate::controllers::Controllers;
use crate::handle::{Content, Outcome};
use crate::watch::Watch;

/// More than this of a body is not read: the server itself refuses it, a little below.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// How long after it last looked a watch waits, once something has changed, before it looks again; so the first change
/// after a pause is told at once, and the many of a busy moment as one piece. With 100 watches and 16 writers, half of the
/// server's time went into sends (`docs/benchmarks.md`). Timers know milliseconds; nobody who watches is harmed by two.
const PAUSE: Duration = Duration::from_millis(2);

/// What time it is. Given, since a world may live in a time of its own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a server is reached, and whom it knows.
#[derive(Clone, Default)]
pub struct Config {
    /// With TLS, whose client certificates name users by their common name and groups by their organisations.
    pub tls: Option<Arc<ServerConfig>>,
    /// Bearer tokens, beside those of service accounts.
    pub tokens: BTreeMap<String, User>,
    /// Who asks without saying who: nobody in particular, if not said here. For loopback alone: kubectl sends no token
    /// over a connection without TLS.
    pub nobody: Option<User>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config {{ tls: {}, tokens: {} }}", self.tls.is_some(), self.tokens.len())
    }
}

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Begins to serve a world on a socket.
    ///
    /// # Errors
    /// When the socket has no address.
    pub fn start(api: Arc<Api>, listener: TcpListener, config: Config, clock: Clock) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let shared = Arc::new(Shared { api, config, clock, stop: stop.clone(), turn: Mutex::default() });
        tasks.spawn(accept(listener, shared, tasks.clone()));
        Ok(Self { address, stop, tasks })
    }

    /// Runs controllers beside it, until it stops.
    pub fn control(&self, mut controllers: Controllers, clock: Clock) {
        let (stop, mut changes) = (self.stop.clone(), controllers.api().changes());
        self.tasks.spawn(async move {
            loop {
                changes.mark_unchanged();
                let next = controllers.run(clock());
                let wait = next.map(|next| until(next, clock()));
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                    () = async {
                        match wait {
                            Some(wait) => tokio::time::sleep(wait).await,
                            None => std::future::pending().await,
                        }
                    } => {}
                }
            }
        });
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all watches and connections, and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    /// Nobody can reach or stop it any more, so it ends; only [`Self::stop`] waits for that.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Shared {
    api: Arc<Api>,
    config: Config,
    clock: Clock,
    stop: CancellationToken,
    /// Requests take turns up to where their answers are known, as the one lock of the API makes them anyway; but who waits
    /// here lets the thread do something else meanwhile.
    turn: Mutex<()>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    loop {
        let stream = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, most likely: others may close some.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        tasks.spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Requests are small and answered at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn Nagle's algorithm off");
    }
    let Some(tls) = shared.config.tls.clone() else {
        return serve(TokioIo::new(stream), None, shared).await;
    };
    let accepted = tokio::select! {
        accepted = TlsAcceptor::from(tls).accept(stream) => accepted,
        // Somebody who connects and then says nothing must not hold up the end.
        () = shared.stop.cancelled() => return,
    };
    match accepted {
        Ok(stream) => {
            let peer = stream.get_ref().1.peer_certificates().and_then(|chain| user_of(chain.first()?));
            serve(TokioIo::new(stream), peer, shared).await;
        }
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

/// The user that a verified certificate names.
fn user_of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|group| group.as_str().ok().map(ToOwned::to_owned)).collect();
    groups.push("system:authenticated".to_owned());
    Some(User { name, groups, ..User::default() })
}

async fn serve<I>(io: I, peer: Option<User>, shared: Arc<Shared>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let stop = shared.stop.clone();
    let service = hyper::service::service_fn(move |request| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, peer, &shared).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::trace!(%error, "a connection ended");
    }
}

async fn answer(request: Request<hyper::body::Incoming>, peer: Option<User>, shared: &Arc<Shared>) -> Response<Body> {
    let now = (shared.clock)();
    let user = match request.headers().get(AUTHORIZATION) {
        None => peer.or_else(|| shared.config.nobody.clone()).unwrap_or_else(User::anonymous),
        Some(value) => match bearer(value) {
            // Another scheme is none that this server knows, so it says nothing.
            None => peer.unwrap_or_else(User::anonymous),
            Some(token) => match known(token, shared, now).await {
                Some(user) => user,
                None => return unauthorized(),
            },
        },
    };
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        // Enough of it to be refused for its size.
        Err(error) if error.is::<LengthLimitError>() => Bytes::from(vec![b' '; BODY_MAX]),
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let request = Request::from_parts(head, body);
    let turn = shared.turn.lock().await;
    match shared.api.outcome(&request, &user, now, || drop(turn)) {
        Outcome::Whole(response) => response.map(|content| match content {
            Content::Bytes(bytes) => Body::from(bytes),
            Content::Pieces(pieces) => Body::from_stream(stream::iter(pieces.map(Ok::<_, std::convert::Infallible>))),
        }),
        Outcome::Watch(watch) => {
            let mut response = Response::new(Body::from_stream(events(*watch, shared.clone())));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    }
}

/// From now to a time; nothing where that is past.
fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

async fn known(token: &str, shared: &Shared, now: Timestamp) -> Option<User> {
    if let Some(user) = shared.config.tokens.get(token) {
        return Some(user.clone());
    }
    let _turn = shared.turn.lock().await;
    shared.api.user_of_token(token, now)
}

fn unauthorized() -> Response<Body> {
    let body = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#;
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The events of a watch as they come.
fn events(
    watch: Watch,
    shared: Arc<Shared>,
) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    // For what there is already it waits for nothing.
    let looked: Option<Instant> = None;
    stream::unfold((watch, shared, looked), |(mut watch, shared, mut looked)| async move {
        loop {
            if let Some(looked) = looked {
                if watch.has_ended() {
                    return None;
                }
                let wait = until(watch.poll_timeout(), (shared.clock)());
                let changed = async {
                    watch.changed().await;
                    tokio::time::sleep_until(looked + PAUSE).await;
                };
                tokio::select! {
                    () = shared.stop.cancelled() => return None,
                    () = changed => {}
                    // In a time of its own a world wakes its watches by changes alone, and no later than this.
                    () = tokio::time::sleep(wait) => {}
                }
            }
            looked = Some(Instant::now());
            let lines = watch.poll((shared.clock)());
            if !lines.is_empty() {
                return Some((Ok(lines), (watch, shared, looked)));
            }
        }
    })
}

#[cfg(test)]
mod tests;
