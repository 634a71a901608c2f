//! The DNS node as a process: it serves from its own disk at once, keeps a link to the hub for what is newer, and judges
//! by its own probes and its fellows' words who answers.
//!
//! One loop takes everything in and gives it to [`Health`]; what that decides is done here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use api::snapshot::Snapshot;
use api::wire::{Explained, HubReport, Judged, Question, SnapshotHead, TunnelReport, topic};
use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use bytes::Bytes;
use policies::failover::traffic::{Command, Probe, TELL_EVERY};
use policies::id::ClusterId;
use policies::steering::Class;
use probe::Prober;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tunnel::Timing;
use tunnel::client::{Link, LinkConfig, LinkEvent, Toward};
use tunnel::identity::random_id;
use tunnel::message::Hello;
use tunnel::server::StubEvent;
use tunnel::state::{StateError, StateLock};

use crate::enrol::{self, JoinError, Joined};
use crate::explain::{Explanation, Observed, explain};
use crate::fellows::{self, FellowError, Fellows};
use crate::health::{Health, Kept};
use crate::kept::KeptFile;
use crate::server::{self, Server, ServerError};
use crate::snapshot::{Accepted, Refusal, Store};
use crate::view::View;

/// A geo database has tens of megabytes; over a thin line that takes minutes.
const FETCH: Duration = Duration::from_secs(300);
/// How long the loop waits at most when nothing is watched.
const IDLE: Duration = Duration::from_secs(60);
/// Between two tries to take a snapshot in, when the line or the disk failed.
pub const RETRY: Duration = Duration::from_secs(2);

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
    /// UDP address where fellow DNS nodes tell what they found.
    pub peering: SocketAddr,
    /// Which of the machine's addresses the node speaks from by itself, to hub, fellows and clusters; `None`, or where
    /// they are of the other family: the one that the system chooses by the way there.
    pub source: Option<IpAddr>,
    /// `host:port` under which they reach it; none: `peering`, or, where that is every address, the one that the hub sees.
    pub advertise_peering: Option<String>,
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
    /// The address to speak from.
    #[error("cannot speak from {address}: give --source one of this machine's addresses, or leave it out")]
    Source {
        /// Which.
        address: IpAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] admin::ListenError),
    /// The link.
    #[error(transparent)]
    Link(#[from] tunnel::client::LinkError),
    /// The other DNS nodes.
    #[error(transparent)]
    Fellow(#[from] FellowError),
    /// The TLS of probes.
    #[error("cannot set up the TLS of probes")]
    Probe(#[from] rustls::Error),
}

/// Runs the node until `stop`. With a stored identity and snapshot it serves before it has heard from any hub.
///
/// # Errors
/// [`DnsError`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), DnsError> {
    let _lock = StateLock::acquire(&config.state)?;
    if let Some(address) = config.source {
        std::net::UdpSocket::bind((address, 0)).map_err(|source| DnsError::Source { address, source })?;
    }
    let readiness = admin::Readiness::default();
    readiness.set("identity", Err("joining".into()));
    readiness.set("snapshot", Err("none yet".into()));
    let metrics = Metrics::default();
    let served: Arc<OnceLock<Served>> = Arc::default();
    let (registry, explain) = (metrics.registry(), explain_route(Arc::clone(&served)));
    admin::serve(config.admin, readiness.clone(), registry, explain, stop.clone()).await?;

    let joined = match enrol::stored(&config.state, config.join.as_deref(), config.source).await? {
        Some(joined) => joined,
        None => tokio::select! {
            joined = enrol::join(&config.state, config.join.as_deref(), config.source) => joined?,
            () = stop.cancelled() => return Ok(()),
        },
    };
    readiness.set("identity", Ok(()));
    let (opened, errors) = Store::open(&config.state, &joined.name);
    for error in errors {
        tracing::error!(error = %admin::chain(&error), "state directory");
    }
    let (mut kept, kept_before) = KeptFile::open(&config.state);
    let view = Arc::clone(&opened.view());
    let started = Instant::now();
    let health = Health::new(since(started), &joined.name, view.tables().fleet(), kept_before);
    let Served { store, watch } = served.get_or_init(|| Served {
        store: Arc::new(opened),
        watch: Arc::new(Mutex::new(Watch { health, words: BTreeMap::new() })),
    });
    let server = Server::start(
        store,
        &server::Config {
            listen: config.listen.clone(),
            udp_threads: config.threads.into(),
            ..server::Config::default()
        },
    )?;
    tracing::info!(node = %joined.name, listen = ?server.addresses(), "answering");
    let (fellows, said) = Fellows::bind(&joined.name, config.peering, config.source, joined.identity.clone())?;
    let peering = config.advertise_peering.or_else(|| fellows.local_addr().ok().map(|address| address.to_string()));
    let (prober, found) = Prober::new(config.source)?;
    let mut node = Node {
        started,
        watch: Arc::clone(watch),
        store: Arc::clone(store),
        prober,
        fellows,
        readiness,
        metrics,
        listening: server.addresses().iter().map(ToString::to_string).collect(),
        peering: peering.into_iter().collect(),
        source: config.source,
        state: config.state,
        kept: kept.writer(),
        taking: JoinSet::new(),
        saving: JoinSet::new(),
        reports: 0,
    };
    node.serving();
    let ended = node.follow(joined, said, found, &stop).await;
    server.stop().await;
    node.fellows.close().await;
    // Nobody sends any more: what was sent last is written, and the writer ends.
    drop(node.kept);
    kept.written().await;
    ended
}

/// Time as [`Health`] counts it.
fn since(started: Instant) -> policies::time::Instant {
    policies::time::Instant::ORIGIN + started.elapsed()
}

/// What the admin port explains from.
struct Served {
    store: Arc<Store>,
    watch: Arc<Mutex<Watch>>,
}

/// The node's judgement, and what its own last probe of each cluster said. Locked for moments only.
struct Watch {
    health: Health,
    words: BTreeMap<ClusterId, String>,
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    // A panic elsewhere leaves a judgement that is whole: every change is one call.
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Node {
    started: Instant,
    watch: Arc<Mutex<Watch>>,
    store: Arc<Store>,
    prober: Prober,
    fellows: Fellows,
    readiness: admin::Readiness,
    metrics: Metrics,
    listening: Vec<String>,
    peering: Vec<String>,
    source: Option<IpAddr>,
    state: PathBuf,
    kept: tokio::sync::watch::Sender<Kept>,
    /// The one snapshot that is being fetched and compiled.
    taking: JoinSet<Result<Accepted, Refusal>>,
    /// At most one task that tries to write a snapshot which is served and not on disk.
    saving: JoinSet<()>,
    reports: u64,
}

impl Node {
    async fn follow(
        &mut self,
        joined: Joined,
        mut said: mpsc::Receiver<StubEvent>,
        mut found: mpsc::Receiver<(ClusterId, probe::Answer)>,
        stop: &CancellationToken,
    ) -> Result<(), DnsError> {
        let hello = Hello {
            software: env!("CARGO_PKG_VERSION").to_owned(),
            // A node is one process on one state directory: the lock says so.
            instance: joined.name,
            boot: random_id(),
            ..Hello::default()
        };
        let (link, mut events) = Link::start(LinkConfig {
            toward: Toward::Hub,
            hubs: joined.hubs,
            identity: joined.identity,
            hello,
            source: self.source,
            timing: Timing::default(),
        })?;
        let link = Arc::new(link);
        let mut beat = tokio::time::interval(TELL_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = lock(&self.watch).health.poll_timeout();
            let due = due.map_or(IDLE, |due| due.since(since(self.started)));
            tokio::select! {
                Some(event) = events.recv() => self.handle(event, &link),
                Some(event) = said.recv() => {
                    if let Some((from, findings)) = fellows::heard(event) {
                        self.with(|watch, now| watch.health.handle_findings(now, &from, &findings));
                    }
                }
                Some((cluster, answer)) = found.recv() => self.probed(&cluster, answer),
                Some(taken) = self.taking.join_next() => self.taken(taken, &link),
                Some(_) = self.saving.join_next() => {}
                _ = beat.tick() => {
                    let findings = lock(&self.watch).health.findings();
                    self.fellows.tell(&findings);
                }
                () = tokio::time::sleep(due) => self.with(|watch, now| watch.health.handle_timeout(now)),
                () = stop.cancelled() => break,
            }
            if self.act() {
                self.report(&link);
            }
        }
        self.taking.shutdown().await;
        self.saving.shutdown().await;
        if let Some(link) = Arc::into_inner(link) {
            link.close("the DNS node is stopping").await;
        }
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Watch, policies::time::Instant) -> T) -> T {
        act(&mut lock(&self.watch), since(self.started))
    }

    /// Does what was decided; whether a cluster has another class now.
    fn act(&mut self) -> bool {
        let mut commands = vec![];
        let told = self.with(|watch, _| {
            commands.extend(std::iter::from_fn(|| watch.health.poll_command()));
            let changed = commands.iter().any(|command| matches!(command, Command::Classify { .. }));
            let findings = commands.contains(&Command::Tell).then(|| watch.health.findings());
            (changed.then(|| (watch.health.classes(), watch.health.kept())), findings)
        });
        for command in commands {
            if let Command::Classify { cluster, class } = command {
                let evidence = self.with(|watch, _| watch.health.evidence().get(&cluster).cloned());
                tracing::warn!(%cluster, %class, votes = ?evidence.map(|e| e.votes), "cluster classified");
                self.metrics.classify(&cluster, class);
            }
        }
        let (changed, findings) = told;
        if let Some(findings) = findings {
            self.fellows.tell(&findings);
        }
        let Some((classes, kept)) = changed else { return false };
        self.store.set_classes(classes);
        self.kept.send_replace(kept);
        true
    }

    fn probed(&mut self, cluster: &ClusterId, answer: probe::Answer) {
        self.metrics.probed(cluster, answer.outcome);
        self.with(|watch, now| {
            watch.health.handle_probe(now, cluster, answer.outcome);
            watch.words.insert(cluster.clone(), answer.words);
        });
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
            LinkEvent::Published { topic, payload, .. } => self.told(&topic, payload, link),
            LinkEvent::Renewed(identity) => {
                if let Err(error) = identity.save(&self.state) {
                    tracing::error!(%error, "cannot keep the renewed certificate; a restart would use the old one");
                }
                if let Err(error) = self.fellows.renew(identity) {
                    tracing::error!(error = %admin::chain(&error), "fellow nodes");
                }
            }
            LinkEvent::Refused { code, message } => {
                tracing::error!(?code, %message, "the hub refuses this node; answering goes on, trying again slowly");
            }
        }
    }

    /// The hub published.
    fn told(&mut self, topic: &str, payload: Bytes, link: &Arc<Link>) {
        let unreadable = |error| tracing::error!(%error, topic, "the hub's words cannot be read; the last ones stay");
        match topic {
            topic::SNAPSHOT => match SnapshotHead::decode(payload) {
                Ok(head) => self.take(head, link),
                Err(error) => unreadable(error),
            },
            topic::HUB_REPORT => match HubReport::decode(payload) {
                Ok(report) => {
                    let kept =
                        self.with(|watch, now| watch.health.handle_report(now, &report).then(|| watch.health.kept()));
                    if let Some(kept) = kept {
                        self.kept.send_replace(kept);
                    }
                }
                Err(error) => unreadable(error),
            },
            topic::TUNNELS => match TunnelReport::decode(payload) {
                Ok(report) => self.with(|watch, now| watch.health.handle_tunnels(now, &report)),
                Err(error) => unreadable(error),
            },
            topic::EXPLAIN => match Question::decode(payload) {
                Ok(question) => self.explain(&question, link),
                Err(error) => unreadable(error),
            },
            _ => tracing::debug!(topic, "unknown topic"),
        }
    }

    /// Answers an operator whose question the hub has passed on.
    fn explain(&self, question: &Question, link: &Link) {
        let served = Served { store: Arc::clone(&self.store), watch: Arc::clone(&self.watch) };
        let json = |said: Explanation| {
            serde_json::to_string(&said).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        };
        let (status, body) = match served.explain(&question.query).and_then(json) {
            Ok(body) => (StatusCode::OK, body),
            Err(wrong) => wrong,
        };
        let answer = Explained { id: question.id, status: status.as_u16().into(), body };
        if let Err(error) = link.publish(topic::EXPLAINED, question.id, Bytes::from(answer.encode_to_vec())) {
            tracing::error!(%error, "cannot answer a question that the hub passed on");
        }
    }

    /// Fetches and compiles a snapshot beside the answering; a newer one takes the place of one under way.
    fn take(&mut self, head: SnapshotHead, link: &Arc<Link>) {
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
                    tracing::error!(
                        error = %admin::chain(&error),
                        "the snapshot is served, but not on disk: a restart would serve an older one. Make room in {}, or \
                         make it writable; it is written again by itself",
                        self.state.display()
                    );
                    if self.saving.is_empty() {
                        self.saving.spawn(save(Arc::clone(&self.store)));
                    }
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
        let fleet = tables.fleet();
        let classes = self.with(|watch, now| {
            watch.health.handle_fleet(now, fleet);
            watch.words.retain(|cluster, _| fleet.targets.contains_key(cluster));
            watch.health.classes()
        });
        self.metrics.clusters(&classes);
        self.store.set_classes(classes);
        self.prober.watch(fleet.targets.clone());
        self.fellows.revoke(fleet.revoked.clone());
        self.fellows.dial(&fleet.peering);
    }

    fn report(&mut self, link: &Link) {
        self.reports += 1;
        let mut report = self.store.report();
        report.listening.clone_from(&self.listening);
        report.peering.clone_from(&self.peering);
        let classes = self.with(|watch, _| {
            report.obeyed = report.obeyed.max(watch.health.obeyed());
            (report.report, report.report_digest) = watch.health.report_held();
            watch.health.classes()
        });
        let judged = |(cluster, class): (String, Class)| Judged { cluster, class: class.as_str().to_owned() };
        report.judged = classes.into_iter().map(judged).collect();
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

/// Writes what is served and not on disk, until it is there. Nothing tells when a disk has room again.
async fn save(store: Arc<Store>) {
    loop {
        tokio::time::sleep(RETRY).await;
        let store = Arc::clone(&store);
        match tokio::task::spawn_blocking(move || store.save_again()).await {
            Ok(Ok(true)) => return tracing::info!("the snapshot that is served is on disk again"),
            // A newer one came, and was written.
            Ok(Ok(false)) => return,
            Ok(Err(error)) => tracing::debug!(error = %admin::chain(&error), "still not on disk"),
            Err(error) => return tracing::error!(%error, "writing the snapshot failed"),
        }
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
fn explain_route(served: Arc<OnceLock<Served>>) -> Router {
    let route = async move |RawQuery(query): RawQuery| {
        let Some(served) = served.get() else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "the node has not joined yet".into()));
        };
        served.explain(&query.unwrap_or_default()).map(axum::Json)
    };
    Router::new().route("/explain", get(route))
}

impl Served {
    /// Answers a query such as `host=…&client=…`, as the operator's browser, `isochrone explain` or the hub writes it.
    fn explain(&self, query: &str) -> Result<Explanation, (StatusCode, String)> {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(|e| bad(e.to_string()))?;
        let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let (Some(host), Some(client)) = (value("host"), value("client")) else {
            return Err(bad("write /explain?host=HOST&client=IP".into()));
        };
        let client: IpAddr = client.parse().map_err(|_| bad(format!("{client:?} is no IP address")))?;
        let assume: Vec<String> = pairs.into_iter().filter(|(k, _)| k == "assume").map(|(_, v)| v).collect();
        let view = Arc::clone(&self.store.view());
        let observed = {
            let Watch { health, words } = &*lock(&self.watch);
            let word = |id: &ClusterId| words.get(id).cloned().unwrap_or_default();
            health.evidence().into_iter().map(|(id, e)| (id.to_string(), Observed::new(&e, word(&id)))).collect()
        };
        assumed(&view, &host, client, &assume, &observed).map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))
    }
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
    let view = Arc::clone(&store.view());
    let (_, kept) = KeptFile::open(state);
    let mut health = Health::new(policies::time::Instant::ORIGIN, "offline", view.tables().fleet(), kept);
    while health.poll_command().is_some() {}
    store.set_classes(health.classes());
    let view = Arc::clone(&store.view());
    assumed(&view, host, client, assume, &BTreeMap::new())
}

fn assumed(
    view: &View,
    host: &str,
    client: IpAddr,
    assume: &[String],
    observed: &BTreeMap<String, Observed>,
) -> Result<Explanation, ExplainError> {
    if assume.is_empty() {
        return Ok(explain(view, host, client, observed)?);
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
    Ok(explain(&view, host, client, observed)?)
}

#[derive(Clone, Default)]
struct Metrics {
    connected: Gauge,
    snapshot: Gauge,
    classes: Family<ClusterLabels, Gauge>,
    probes: Family<ProbeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    cluster: String,
    outcome: &'static str,
}

impl Metrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let connected = self.connected.clone();
        registry.register("isochrone_dns_connected", "1 while a session with the hub is open", connected);
        registry.register("isochrone_dns_snapshot", "Number of the snapshot that is served", self.snapshot.clone());
        let classes = "What this node holds of a cluster: 0 healthy, 1 suspect, 2 down, 3 drained";
        registry.register("isochrone_dns_cluster_class", classes, self.classes.clone());
        registry.register("isochrone_dns_probes", "Probes of clusters that ended", self.probes.clone());
        registry
    }

    fn classify(&self, cluster: &ClusterId, class: Class) {
        let labels = ClusterLabels { cluster: cluster.to_string() };
        self.classes.get_or_create(&labels).set(class as i64);
    }

    /// These clusters and no others.
    fn clusters(&self, classes: &BTreeMap<String, Class>) {
        self.classes.clear();
        for (cluster, class) in classes {
            self.classify(&ClusterId::new(cluster), *class);
        }
    }

    fn probed(&self, cluster: &ClusterId, outcome: Probe) {
        let outcome = match outcome {
            Probe::Success => "success",
            Probe::Refused => "refused",
            Probe::Silence => "silence",
        };
        self.probes.get_or_create(&ProbeLabels { cluster: cluster.to_string(), outcome }).inc();
    }
}
