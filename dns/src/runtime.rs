//! The DNS node as a process: it serves from its own disk at once, and keeps a link to the hub for what is newer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::snapshot::Snapshot;
use api::wire::{HubReport, SnapshotHead, topic};
use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use bytes::Bytes;
use policies::steering::Class;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnel::Timing;
use tunnel::client::{Link, LinkConfig, LinkEvent, Toward};
use tunnel::identity::random_id;
use tunnel::message::Hello;
use tunnel::state::{StateError, StateLock};

use crate::enrol::{self, JoinError, Joined};
use crate::explain::{Explanation, explain};
use crate::health::Health;
use crate::server::{self, Server, ServerError};
use crate::snapshot::{Accepted, Refusal, Store};
use crate::view::View;

/// A geo database has tens of megabytes; over a thin line that takes minutes.
const FETCH: Duration = Duration::from_secs(300);
/// Between two tries to take a snapshot in, when the line or the disk failed.
const RETRY: Duration = Duration::from_secs(2);

/// How a DNS node runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The join token; needed the first time only.
    pub join: Option<String>,
    /// Its state directory.
    pub state: PathBuf,
    /// Addresses to answer on.
    pub listen: Vec<SocketAddr>,
    /// UDP threads for each address.
    pub threads: u16,
    /// HTTP address of the admin port.
    pub admin: SocketAddr,
}

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Identity.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The DNS sockets.
    #[error("cannot answer DNS: choose another address with --listen")]
    Server(#[from] ServerError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] admin::ListenError),
    /// The link.
    #[error(transparent)]
    Link(#[from] tunnel::client::LinkError),
}

/// Runs the node until `stop`. With a stored identity and snapshot it serves before it has heard from any hub.
///
/// # Errors
/// [`DnsError`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), DnsError> {
    let _lock = StateLock::acquire(&config.state)?;
    let readiness = admin::Readiness::default();
    readiness.set("identity", Err("joining".into()));
    readiness.set("snapshot", Err("none yet".into()));
    let metrics = Metrics::default();
    let store: Arc<OnceLock<Arc<Store>>> = Arc::default();
    let (registry, explain) = (metrics.registry(), explain_route(Arc::clone(&store)));
    admin::serve(config.admin, readiness.clone(), registry, explain, stop.clone()).await?;

    let joined = match enrol::stored(&config.state, config.join.as_deref())? {
        Some(joined) => joined,
        None => tokio::select! {
            joined = enrol::join(&config.state, config.join.as_deref()) => joined?,
            () = stop.cancelled() => return Ok(()),
        },
    };
    readiness.set("identity", Ok(()));
    let (opened, errors) = Store::open(&config.state, &joined.name);
    for error in errors {
        tracing::error!(error = %admin::chain(&error), "state directory");
    }
    let store = Arc::clone(store.get_or_init(|| Arc::new(opened)));
    let server = Server::start(
        &store,
        &server::Config {
            listen: config.listen.clone(),
            udp_threads: config.threads.into(),
            ..server::Config::default()
        },
    )?;
    tracing::info!(node = %joined.name, listen = ?server.addresses(), "answering");
    let mut node = Node {
        health: Health::open(&config.state, &joined.name),
        store,
        readiness,
        metrics,
        listening: server.addresses().iter().map(ToString::to_string).collect(),
        state: config.state,
        taking: JoinSet::new(),
        reports: 0,
    };
    node.serving();
    let ended = node.follow(joined, &stop).await;
    server.stop().await;
    ended
}

struct Node {
    health: Health,
    store: Arc<Store>,
    readiness: admin::Readiness,
    metrics: Metrics,
    listening: Vec<String>,
    state: PathBuf,
    /// The one snapshot that is being fetched and compiled.
    taking: JoinSet<Result<Accepted, Refusal>>,
    reports: u64,
}

impl Node {
    async fn follow(&mut self, joined: Joined, stop: &CancellationToken) -> Result<(), DnsError> {
        let hello = Hello {
            software: env!("CARGO_PKG_VERSION").to_owned(),
            // A node is one process on one state directory: the lock says so.
            instance: joined.name,
            boot: random_id(),
            ..Hello::default()
        };
        let (link, mut events) =
            Link::start(LinkConfig { toward: Toward::Hub, hubs: joined.hubs, identity: joined.identity, hello, timing: Timing::default() })?;
        let link = Arc::new(link);
        loop {
            tokio::select! {
                Some(event) = events.recv() => self.handle(event, &link),
                Some(taken) = self.taking.join_next() => self.taken(taken, &link),
                () = stop.cancelled() => break,
                else => break,
            }
        }
        self.taking.shutdown().await;
        if let Some(link) = Arc::into_inner(link) {
            link.close("the DNS node is stopping").await;
        }
        Ok(())
    }

    fn handle(&mut self, event: LinkEvent, link: &Arc<Link>) {
        match event {
            LinkEvent::Connected { hub, .. } => {
                tracing::info!(hub = %hub.hub, term = hub.term, "connected");
                self.metrics.connected.set(1);
                self.report(link);
            }
            LinkEvent::Disconnected { why } => {
                tracing::warn!(%why, "disconnected; answering goes on");
                self.metrics.connected.set(0);
            }
            LinkEvent::Published { topic, payload, .. } if topic == topic::SNAPSHOT => self.take(payload, link),
            LinkEvent::Published { topic, payload, .. } if topic == topic::HUB_REPORT => {
                match HubReport::decode(payload) {
                    Ok(report) => {
                        if let Err(error) = self.health.handle_hub(&report) {
                            tracing::error!(%error, "cannot keep the hub's report; a restart without hub would forget it");
                        }
                        self.judge();
                    }
                    Err(error) => tracing::error!(%error, "the hub's report cannot be read; the last one stays"),
                }
            }
            LinkEvent::Published { topic, .. } => tracing::debug!(%topic, "unknown topic"),
            LinkEvent::Renewed(identity) => {
                if let Err(error) = identity.save(&self.state) {
                    tracing::error!(%error, "cannot keep the renewed certificate; a restart would use the old one");
                }
            }
            LinkEvent::Refused { code, message } => {
                tracing::error!(?code, %message, "the hub refuses this node; answering goes on, trying again slowly");
            }
        }
    }

    /// Fetches and compiles a snapshot beside the answering; a newer one takes the place of one under way.
    fn take(&mut self, payload: Bytes, link: &Arc<Link>) {
        let head = match SnapshotHead::decode(payload) {
            Ok(head) => head,
            Err(error) => return tracing::error!(%error, "the hub's snapshot head cannot be read; the last one stays"),
        };
        let served = Arc::clone(self.store.view().tables());
        if (served.number, &served.digest) == (head.number, &head.digest) {
            return;
        }
        self.taking.abort_all();
        self.taking.spawn(take_in(Arc::clone(link), Arc::clone(&self.store), head));
    }

    fn taken(&mut self, taken: Result<Result<Accepted, Refusal>, tokio::task::JoinError>, link: &Link) {
        match taken {
            Ok(Ok(Accepted::Serving { unsaved })) => {
                if let Some(error) = unsaved {
                    tracing::error!(error = %admin::chain(&error), "the snapshot is served, but not on disk");
                }
                self.serving();
            }
            Ok(Ok(Accepted::Unchanged)) => {}
            Ok(Err(refusal)) => {
                tracing::error!(error = %admin::chain(&refusal), "snapshot refused; the last one stays")
            }
            Err(ended) if ended.is_cancelled() => return,
            Err(panicked) => tracing::error!(%panicked, "taking a snapshot in failed; the last one stays"),
        }
        self.report(link);
    }

    /// The snapshot may be another one from here on.
    fn serving(&mut self) {
        let view = Arc::clone(&self.store.view());
        let tables = view.tables();
        self.metrics.snapshot.set(i64::try_from(tables.number).unwrap_or(i64::MAX));
        if tables.number > 0 {
            tracing::info!(number = tables.number, "serving snapshot");
            self.readiness.set("snapshot", Ok(()));
        }
        self.health.handle_clusters(tables.clusters().iter().map(|c| (c.name.as_str(), c.region.as_str())));
        self.judge();
    }

    fn judge(&mut self) {
        self.store.set_classes(self.health.classes());
    }

    fn report(&mut self, link: &Link) {
        self.reports += 1;
        let mut report = self.store.report();
        report.listening.clone_from(&self.listening);
        if let Err(error) = link.publish(topic::NODE, self.reports, Bytes::from(report.encode_to_vec())) {
            tracing::error!(%error, "cannot publish");
        }
    }
}

/// Fetches what `head` names and takes it in; tries again while the line fails, for the hub says no more about it.
async fn take_in(link: Arc<Link>, store: Arc<Store>, head: SnapshotHead) -> Result<Accepted, Refusal> {
    loop {
        match fetch(&link, &store, &head).await {
            Ok(bytes) => {
                let (store, head) = (Arc::clone(&store), head.clone());
                let offered = tokio::task::spawn_blocking(move || store.offer(&head, &bytes)).await;
                match offered {
                    Ok(done) => return done,
                    Err(error) => tracing::error!(%error, "compiling the snapshot failed"),
                }
            }
            Err(error) => tracing::warn!(number = head.number, %error, "cannot fetch the snapshot; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn fetch(
    link: &Link,
    store: &Store,
    head: &SnapshotHead,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let bytes = link.fetch(&head.digest, FETCH).await?;
    // Databases first, so that the snapshot can be compiled. Bytes that do not decode are the offer's to refuse.
    if let Ok(snapshot) = Snapshot::decode(bytes.clone()) {
        for digest in store.missing_geo(&snapshot) {
            store.put_geo(&digest, &link.fetch(&digest, FETCH).await?)?;
        }
    }
    Ok(bytes)
}

/// `GET /explain?host=…&client=…&assume=CLUSTER=STATE`
fn explain_route(store: Arc<OnceLock<Arc<Store>>>) -> Router {
    let route = async move |RawQuery(query): RawQuery| {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(&query.unwrap_or_default()).map_err(|e| bad(e.to_string()))?;
        let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let (Some(host), Some(client)) = (value("host"), value("client")) else {
            return Err(bad("write /explain?host=HOST&client=IP".into()));
        };
        let client: IpAddr = client.parse().map_err(|_| bad(format!("{client:?} is no IP address")))?;
        let assume: Vec<String> = pairs.into_iter().filter(|(k, _)| k == "assume").map(|(_, v)| v).collect();
        let Some(store) = store.get() else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "the node has not joined yet".into()));
        };
        // Bound before the block: the guard must not live across an await, and there is none.
        let view = Arc::clone(&store.view());
        assumed(&view, &host, client, &assume)
            .map(axum::Json)
            .map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))
    };
    Router::new().route("/explain", get(route))
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The view has no such host.
    #[error(transparent)]
    Host(#[from] crate::explain::ExplainError),
    /// A supposition that cannot be read.
    #[error("{0:?} supposes nothing: write CLUSTER=STATE, with healthy, suspect, down or drained, such as iad=down")]
    Assumption(String),
    /// A cluster that is not in the snapshot.
    #[error("there is no cluster {0} in the snapshot")]
    NoCluster(String),
    /// The state directory holds no snapshot that can be served.
    #[error("there is no snapshot that can be served: {0}")]
    NoSnapshot(String),
}

/// Explains from the state directory of a node, which may be running or not; changes nothing there.
///
/// # Errors
/// [`ExplainError`].
pub fn explain_offline(
    state: &Path,
    host: &str,
    client: IpAddr,
    assume: &[String],
) -> Result<Explanation, ExplainError> {
    if !state.join("snapshot").exists() {
        return Err(ExplainError::NoSnapshot("the directory has no file `snapshot`".into()));
    }
    let (store, errors) = Store::open(state, "offline");
    if store.view().tables().number == 0 {
        let all: Vec<String> = errors.iter().map(|error| admin::chain(error)).collect();
        return Err(ExplainError::NoSnapshot(all.join("; ")));
    }
    let mut health = Health::open(state, "offline");
    let view = Arc::clone(&store.view());
    health.handle_clusters(view.tables().clusters().iter().map(|c| (c.name.as_str(), c.region.as_str())));
    store.set_classes(health.classes());
    let view = Arc::clone(&store.view());
    assumed(&view, host, client, assume)
}

fn assumed(view: &View, host: &str, client: IpAddr, assume: &[String]) -> Result<Explanation, ExplainError> {
    if assume.is_empty() {
        return Ok(explain(view, host, client)?);
    }
    let clusters = view.tables().clusters();
    let mut classes: BTreeMap<String, Class> =
        (0..).zip(clusters).map(|(index, cluster)| (cluster.name.clone(), view.class(index))).collect();
    for text in assume {
        let wrong = || ExplainError::Assumption(text.clone());
        let (cluster, state) = text.split_once('=').ok_or_else(wrong)?;
        let known = [Class::Healthy, Class::Suspect, Class::Down, Class::Drained];
        let class = known.into_iter().find(|class| class.as_str() == state).ok_or_else(wrong)?;
        let entry = classes.get_mut(cluster).ok_or_else(|| ExplainError::NoCluster(cluster.to_owned()))?;
        *entry = class;
    }
    let view = View::new(Arc::clone(view.tables()), &classes, Arc::new(view.identity().clone()));
    Ok(explain(&view, host, client)?)
}

#[derive(Clone, Default)]
struct Metrics {
    connected: Gauge,
    snapshot: Gauge,
}

impl Metrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let connected = self.connected.clone();
        registry.register("isochrone_dns_connected", "1 while a session with the hub is open", connected);
        registry.register("isochrone_dns_snapshot", "Number of the snapshot that is served", self.snapshot.clone());
        registry
    }
}
