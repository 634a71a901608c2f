//! The world's own port: what is seen, and what can be done to it. `isochrone world` asks there.
//!
//! It is on loopback, but so is a browser: a page from anywhere may send requests to loopback addresses. So what changes
//! anything wants a content type that a page cannot send without asking first, and who is asked for must be the address
//! itself, so that no name can be made to point here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Weak;

use anyhow::{Context as _, Result, bail};
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::addresses::CONTROL;
use crate::seen::State;
use crate::spec::Act;
use crate::world::World;

/// Where the default world has its port.
pub const DEFAULT_WORLD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, 0, 1)), CONTROL);

/// The content type of what changes anything.
const JSON: &str = "application/json";

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wish {
    act: Act,
    region: String,
    /// Users are led away first.
    #[serde(default)]
    gracefully: bool,
}

/// Opens the port.
///
/// # Errors
/// When the address is taken.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: does another world run? Describe one with another network (--config)")
    })
}

/// Serves until `stop`. What is asked for is the world's as long as it is there; a connection does not keep it.
pub(crate) async fn serve(listener: TcpListener, world: Weak<World>, stop: CancellationToken) {
    let Ok(address) = listener.local_addr() else { return };
    let router = Router::new()
        .route("/state", get(state))
        .route("/act", post(act))
        .layer(from_fn_with_state(address, guarded))
        .with_state(world);
    tokio::select! {
        served = axum::serve(listener, router) => {
            if let Err(error) = served {
                tracing::error!(%error, "the world's own port closed");
            }
        }
        () = stop.cancelled() => {}
    }
}

async fn state(Shared(world): Shared<Weak<World>>) -> Response {
    match world.upgrade() {
        Some(world) => Json(world.state()).into_response(),
        None => ended(),
    }
}

fn ended() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "this world has ended\n").into_response()
}

async fn guarded(Shared(address): Shared<SocketAddr>, request: Request, next: Next) -> Response {
    match refusal(address, request.method(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(address: SocketAddr, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, String)> {
    let is = |name, wanted: &str| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()) == Some(wanted);
    if !is(header::HOST, &address.to_string()) {
        return Some((StatusCode::MISDIRECTED_REQUEST, format!("ask for {address}\n")));
    }
    let changes = *method != Method::GET;
    (changes && !is(header::CONTENT_TYPE, JSON)).then(|| (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("send {JSON}\n")))
}

async fn act(Shared(world): Shared<Weak<World>>, Json(wish): Json<Wish>) -> Response {
    let Some(world) = world.upgrade() else { return ended() };
    match world.act(wish.act, &wish.region, wish.gracefully).await {
        Ok(said) => said.into_response(),
        Err(error) => (StatusCode::CONFLICT, format!("{error:#}")).into_response(),
    }
}

/// Asks a world at an address.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    address: SocketAddr,
}

impl Asker {
    /// Nothing is asked yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// What there is to see.
    ///
    /// # Errors
    /// When no world runs there.
    pub async fn state(self) -> Result<State> {
        serde_json::from_slice(&self.ask("GET", "/state", vec![]).await?).context("this is no world")
    }

    /// Does something to a region; what it says to that.
    ///
    /// # Errors
    /// When no world runs there, or it refuses; the text says why.
    pub async fn act(self, act: Act, region: &str, gracefully: bool) -> Result<String> {
        let wish = serde_json::to_vec(&Wish { act, region: region.to_owned(), gracefully })?;
        Ok(String::from_utf8_lossy(&self.ask("POST", "/act", wish).await?).into_owned())
    }

    async fn ask(self, method: &str, path: &str, body: Vec<u8>) -> Result<Bytes> {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(header::CONTENT_TYPE, JSON)
            .body(Full::from(body))
            .context("making a request")?;
        let nobody =
            || format!("no world runs at {}: start one by `isochrone up`, or write --world HOST:PORT", self.address);
        let response = client.request(request).await.with_context(nobody)?;
        let status = response.status();
        let body = response.into_body().collect().await.with_context(nobody)?.to_bytes();
        if !status.is_success() {
            bail!("{}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }
}
