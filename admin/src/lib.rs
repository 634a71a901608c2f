//! The admin port that every role has: `/healthz`, `/readyz`, `/metrics`, and what a role adds of its own.
//!
//! Plain HTTP, meant for the kubelet, Prometheus and the operator's loopback; it takes no input that changes anything.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether a role can do its work, by named parts: it is ready when every part is.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

impl Readiness {
    /// Says how a part stands; an error tells people what is missing.
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, state);
    }

    /// True when every part is ready, with one line for each part.
    pub fn report(&self) -> (bool, String) {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = parts.iter().map(|(part, state)| match state {
            Ok(()) => format!("[+] {part} ok\n"),
            Err(why) => format!("[-] {part}: {why}\n"),
        });
        (parts.values().all(Result::is_ok), lines.collect())
    }
}

/// Why the admin port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on admin address {addr}: choose another with --admin")]
pub struct ListenError {
    addr: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Opens the admin port and serves it until `stop`; returns the address, which matters when the port was 0.
///
/// `more` adds routes of the role's own.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    addr: SocketAddr,
    readiness: Readiness,
    registry: Registry,
    more: Router,
    stop: CancellationToken,
) -> Result<SocketAddr, ListenError> {
    let wrong = |source| ListenError { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(wrong)?;
    let local = listener.local_addr().map_err(wrong)?;
    let registry = Arc::new(registry);
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async move || {
                let (ready, text) = readiness.report();
                (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
            }),
        )
        .route("/metrics", get(async move || metrics(&registry)))
        .merge(more);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "admin port failed");
        }
    });
    Ok(local)
}

fn metrics(registry: &Registry) -> axum::response::Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// An error with its causes on one line, for the one place that logs it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_as_the_parts_stand() {
        let (ready, stop) = (Readiness::default(), CancellationToken::new());
        ready.set("tunnel", Err("no session with any hub".into()));
        let any = "127.0.0.1:0".parse().unwrap();
        let addr = serve(any, ready.clone(), Registry::default(), Router::new(), stop.clone()).await.unwrap();
        assert!(ask(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
        let not_ready = ask(addr, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("[-] tunnel: no session"), "{not_ready}");
        ready.set("tunnel", Ok(()));
        assert!(ask(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(addr, "/metrics").await.contains("# EOF"));
        let taken = serve(addr, ready, Registry::default(), Router::new(), stop.clone()).await.unwrap_err();
        assert!(taken.to_string().contains("--admin"));
        stop.cancel();
    }
}
