//! The hub as a process: leadership, watches, tunnels, and one loop that decides.
//!
//! The loop: take in what happened, wait a moment for more, [`decide`], persist the choice, publish, and hand statuses to
//! a task of their own, so that a slow API server delays people's view and never the tunnels.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use api::wire::{self, ClusterReport, Digest, Explained, Ledger, NodeReport, Question, TunnelReport, topic};
use bytes::Bytes;
use kube::Client;
use lease::{Leadership, LeaseError, Terms};
use policies::failover::traffic::TELL_EVERY;
use policies::failover::tunnels::Tunnels;
use policies::id::{ClusterId, RegionId};
use policies::time::Instant;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tunnel::Timing;
use tunnel::code::Code;
use tunnel::identity::{Authority, Role};
use tunnel::server::{Left, Session, SessionId, Stub, StubConfig, StubEvent};

use crate::ask::{self, Asked, Pending};
use crate::choice_store::{ChoiceError, ChoiceStore};
use crate::core::choice::Choice;
use crate::core::{Decision, Seen, decide};
use crate::credentials::{CredentialError, Credentials};
use crate::execute::execute;
use crate::observe::Observed;
use crate::stub::{Blobs, HubBackend};

/// Name of the Lease that the leading hub holds.
const LEASE: &str = "isochrone-hub";
/// Events that come within this time are decided on together: a rollout of a hundred objects is one decision.
pub const SETTLE: Duration = Duration::from_millis(50);
/// Between two writes of statuses: one a second is what an API server should bear for each object, and people can read.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Without any event the hub decides this often all the same, so that a failed write is tried again.
pub const IDLE: Duration = Duration::from_secs(5);

/// How a hub runs.
#[derive(Clone)]
pub struct Config {
    /// Reaches the hub's API server, with the hub's own rights.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Name of this process; unique among hubs.
    pub identity: String,
    /// UDP address of the tunnel.
    pub listen: SocketAddr,
    /// `host:port` under which peers reach it.
    pub advertise: Vec<String>,
    /// HTTP address of the admin port.
    pub admin: SocketAddr,
    /// Geo databases for DNS nodes.
    pub geoip: Vec<PathBuf>,
    /// Its own region: its failure domain in votes.
    pub region: Option<String>,
    /// How long the certificates of agents and DNS nodes are good.
    pub certificate_lifetime: Duration,
}

/// Why a hub ended.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Leadership.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Authority or tokens.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// What was chosen.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] admin::ListenError),
    /// The hub's own certificate.
    #[error("cannot make the hub's server certificate")]
    Identity(#[from] tunnel::identity::IdentityError),
    /// The tunnel's socket.
    #[error("cannot listen on UDP {listen}: choose another with --listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: tunnel::server::StubError,
    },
    /// A geo database.
    #[error("cannot read geo database {file}")]
    Geo {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tunnel ended by itself.
    #[error("the tunnel's socket failed")]
    TunnelEnded,
}

/// Runs the hub until `stop`, or until it lost its Lease.
///
/// # Errors
/// [`HubError`]. Ending is safe at any time: what was chosen is persisted before it is acted on.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), HubError> {
    let readiness = admin::Readiness::default();
    readiness.set("leadership", Err("waiting for the Lease".into()));
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (explain, asked) = ask::route();
    admin::serve(config.admin, readiness.clone(), registry, explain, stop.clone()).await?;

    let (mut leadership, terms) = tokio::select! {
        leadership = Leadership::acquire(config.client.clone(), &config.namespace, LEASE, &config.identity) => leadership?,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(term = terms.current(), "leading");
    let ended = tokio::select! {
        ended = lead(&config, terms, asked, &readiness, &metrics, &stop) => ended,
        lost = leadership.keep() => return Err(lost.into()),
    };
    leadership.release().await;
    ended
}

async fn lead(
    config: &Config,
    terms: Terms,
    asked: mpsc::Receiver<Asked>,
    readiness: &admin::Readiness,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), HubError> {
    let credentials = Credentials::new(&config.client, &config.namespace).with_lifetime(config.certificate_lifetime);
    let authority = credentials.open(&config.advertise).await?;
    let (store, choice) = ChoiceStore::load(config.client.clone(), &config.namespace).await?;
    let blobs = Blobs::default();
    let geo = geo_blobs(&config.geoip).await?;
    let geo_digests: Vec<Digest> = geo.iter().map(|(digest, _)| digest.clone()).collect();
    blobs.offer_geo(geo);

    let changed = Arc::new(Notify::new());
    let observed = Observed::start(&config.client, &config.namespace, &changed);
    readiness.set("leadership", Ok(()));
    readiness.set("watches", Err("first lists under way".into()));
    tokio::select! {
        () = observed.ready() => {}
        () = stop.cancelled() => return Ok(()),
    }
    readiness.set("watches", Ok(()));

    let server = authority.issue_server(&config.advertise, SystemTime::now())?;
    let authority = Arc::new(authority);
    let backend = Arc::new(HubBackend {
        hub: config.identity.clone(),
        term: AtomicU64::new(terms.current()),
        authority: Arc::clone(&authority),
        credentials,
        blobs: blobs.clone(),
        revoked: Mutex::new(observed.revoked()),
    });
    let wrong = |source| HubError::Listen { listen: config.listen, source };
    let (stub, events) =
        Stub::bind(StubConfig { addr: config.listen, identity: server, timing: Timing::default() }, backend.clone())
            .map_err(wrong)?;
    tracing::info!(listen = %config.listen, "tunnel open");

    let (decided, latest) = watch::channel(None);
    let executor = tokio::spawn(carry_out(config.client.clone(), latest));
    let mut hub = Hub {
        seen: Seen { geo: geo_digests, region: config.region.as_ref().map(RegionId::new), ..Seen::default() },
        tunnels: Tunnels::new(),
        started: std::time::Instant::now(),
        observed,
        choice,
        store,
        terms,
        asked,
        pending: Pending::default(),
        backend,
        blobs,
        sessions: BTreeMap::new(),
        decided,
    };
    let ended = tokio::select! {
        ended = hub.serve(events, &changed, metrics, &stub, stop) => ended,
        () = renew(&stub, &authority, &config.advertise) => Ok(()),
    };
    stub.close("the hub is going away").await;
    executor.abort();
    ended
}

/// Gives the tunnel a new server certificate each day, for ever; sessions go on. One lasts ninety days, so that a failure
/// is tried again eighty-nine times before anybody notices.
async fn renew(stub: &Stub, authority: &Authority, names: &[String]) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    loop {
        tokio::time::sleep(DAY).await;
        let renewed = authority.issue_server(names, SystemTime::now()).map_err(|error| admin::chain(&error));
        if let Err(error) = renewed.and_then(|identity| stub.set_identity(&identity).map_err(|e| admin::chain(&e))) {
            tracing::error!(%error, "cannot renew the hub's server certificate; trying again tomorrow");
        }
    }
}

/// Statuses and finalizers, the newest decision only.
async fn carry_out(client: Client, mut latest: watch::Receiver<Option<Arc<(Seen, Decision)>>>) {
    while latest.changed().await.is_ok() {
        let newest = latest.borrow_and_update().clone();
        if let Some(newest) = newest {
            execute(&client, &newest.0, &newest.1).await;
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

/// The loop's state.
struct Hub {
    seen: Seen,
    observed: Observed,
    choice: Choice,
    store: ChoiceStore,
    terms: Terms,
    asked: mpsc::Receiver<Asked>,
    pending: Pending,
    backend: Arc<HubBackend>,
    blobs: Blobs,
    sessions: BTreeMap<SessionId, Open>,
    tunnels: Tunnels,
    started: std::time::Instant,
    decided: watch::Sender<Option<Arc<(Seen, Decision)>>>,
}

/// A session and what it was told last.
struct Open {
    session: Session,
    /// Number and leader's term of what it was told last on each topic.
    told: BTreeMap<&'static str, (u64, u64)>,
}

impl Hub {
    async fn serve(
        &mut self,
        mut events: mpsc::Receiver<StubEvent>,
        changed: &Notify,
        metrics: &Metrics,
        stub: &Stub,
        stop: &CancellationToken,
    ) -> Result<(), HubError> {
        let mut tell = tokio::time::interval(TELL_EVERY);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.round(metrics, stub).await;
            let idle = tokio::time::sleep(IDLE);
            tokio::pin!(idle);
            loop {
                tokio::select! {
                    event = events.recv() => break self.handle(event.ok_or(HubError::TunnelEnded)?),
                    () = changed.notified() => break,
                    () = self.terms.risen() => break self.take_term(),
                    () = &mut idle => break,
                    _ = tell.tick() => self.tell_tunnels(),
                    Some(asked) = self.asked.recv() => self.ask(asked),
                    () = stop.cancelled() => return Ok(()),
                }
            }
            let settled = tokio::time::sleep(SETTLE);
            tokio::pin!(settled);
            loop {
                tokio::select! {
                    biased;
                    () = &mut settled => break,
                    event = events.recv() => self.handle(event.ok_or(HubError::TunnelEnded)?),
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
    }

    /// Decide, persist, publish.
    async fn round(&mut self, metrics: &Metrics, stub: &Stub) {
        self.observed.copy_to(&mut self.seen);
        if self.backend.revoke(&self.seen.revoked) {
            stub.drop_revoked();
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.seen.now_s = since.as_secs();
        let term = self.terms.current();
        let decision = decide(&self.seen, &self.choice, term);
        if let Some(higher) = decision.take_term {
            tracing::warn!(
                term,
                higher,
                "peers have obeyed a later leader; this hub's cluster was set back. Taking a higher term"
            );
            self.terms.want(higher);
        }
        metrics.decisions.inc();
        metrics.sessions.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
        metrics.snapshot.set(i64::try_from(decision.head.number).unwrap_or(i64::MAX));
        if let Err(error) = self.store.save(&decision.choice).await {
            tracing::error!(error = %admin::chain(&error), "cannot persist what was chosen; nothing is acted on");
            return;
        }
        self.choice.clone_from(&decision.choice);
        self.blobs.offer(&decision);
        for open in self.sessions.values_mut() {
            open.tell(&decision, term);
        }
        let newest = Arc::new((self.seen.clone(), decision));
        self.decided.send_replace(Some(newest));
    }

    /// Passes an operator's question on to a DNS node.
    fn ask(&mut self, Asked { node, query, reply }: Asked) {
        let nodes = self.sessions.values().map(|open| &open.session).filter(|session| session.peer().role == Role::Dns);
        let mut nodes = nodes.map(|session| (session.peer().name, session));
        let Some((name, session)) = nodes.find(|(name, _)| node.as_ref().is_none_or(|wanted| wanted == name)) else {
            let which = node.map_or_else(|| "no DNS node".to_owned(), |node| format!("no DNS node {node}"));
            // Whoever asked may have gone.
            let _ = reply.send((404, format!("{which} is connected to this hub\n")));
            return;
        };
        let id = self.pending.add(&name, reply);
        let question = Question { id, query };
        if let Err(error) = session.publish(topic::EXPLAIN, id, Bytes::from(question.encode_to_vec())) {
            tracing::error!(node = name, %error, "cannot pass a question on");
        }
    }

    /// Speaks in the term that the Lease now says.
    fn take_term(&self) {
        let term = self.terms.current();
        tracing::info!(term, "leading in a higher term");
        self.backend.term.store(term, Ordering::Relaxed);
    }

    fn handle(&mut self, event: StubEvent) {
        match event {
            StubEvent::Joined(session) => self.join(session),
            StubEvent::Left { id, peer, why } => {
                tracing::info!(%peer, ?why, "session closed");
                if let Some(open) = self.sessions.remove(&id) {
                    self.part(&open.session, &why);
                }
                // What a node judged is no longer known; its numbers still count.
                if let Some(report) = self.seen.nodes.get_mut(&peer.name).filter(|_| peer.role == Role::Dns) {
                    report.judged.clear();
                }
                self.count_connected();
            }
            StubEvent::Published { id, peer, topic, payload, .. } => {
                // A session that was turned away, or is not known yet, has nothing to say.
                let from = self.sessions.get(&id).map(|open| open.session.remote());
                if let Some(from) = from
                    && let Err(error) = self.take(&peer.name, peer.role, from, &topic, &payload)
                {
                    tracing::warn!(%peer, %topic, %error, "cannot read what was published");
                }
            }
            StubEvent::Enrolled { .. } => {}
        }
    }

    /// A cluster is what it is, never its name: another one under the same name waits until the old one's sessions are
    /// gone, and then takes the name over.
    fn join(&mut self, session: Session) {
        let peer = session.peer().clone();
        if peer.role == Role::Agent {
            let id = ClusterId::new(&peer.name);
            let bound = self.choice.uids.get(&id);
            let same = bound.is_none_or(|uid| *uid == peer.uid);
            if !same && self.seen.connected.contains(&id) {
                tracing::warn!(%peer, bound = ?bound, "another cluster has this name and is connected; turned away");
                session.close(Code::Busy, "another cluster with this name is connected");
                return;
            }
            if !same {
                tracing::warn!(%peer, was = ?bound, "the name stands for another cluster from now on");
                self.seen.ledgers.remove(&id);
                self.seen.reports.remove(&id);
            }
            self.choice.uids.insert(id, peer.uid.clone());
        }
        tracing::info!(%peer, from = %session.remote(), "session open");
        self.sessions.insert(session.id(), Open { session, told: BTreeMap::new() });
        self.count_connected();
    }

    fn count_connected(&mut self) {
        let agents = self.sessions.values().filter(|open| open.session.peer().role == Role::Agent);
        self.seen.connected = agents.map(|open| ClusterId::new(&open.session.peer().name)).collect();
    }

    /// What the end of an agent's session says of its cluster: its silence goes on, or, after a goodbye or when it was
    /// sent away, nothing.
    fn part(&mut self, session: &Session, why: &Left) {
        let peer = session.peer();
        if peer.role != Role::Agent {
            return;
        }
        let cluster = ClusterId::new(&peer.name);
        self.tunnels.handle_heard(self.now(), session.last_beat(), &cluster);
        match why {
            Left::Silent | Left::Lost(_) | Left::Replaced => {}
            Left::Goodbye(_) | Left::Revoked | Left::Expired | Left::Closed { .. } => {
                self.tunnels.handle_goodbye(&cluster);
            }
        }
    }

    /// Tells every DNS node how long agents have been silent.
    fn tell_tunnels(&mut self) {
        let now = self.now();
        for open in self.sessions.values().filter(|open| open.session.peer().role == Role::Agent) {
            let cluster = ClusterId::new(&open.session.peer().name);
            self.tunnels.handle_heard(now, open.session.last_beat(), &cluster);
        }
        let report = TunnelReport { term: self.terms.current(), tunnels: wire::findings(&self.tunnels.findings(now)) };
        let payload = Bytes::from(report.encode_to_vec());
        for open in self.sessions.values().filter(|open| open.session.peer().role == Role::Dns) {
            if let Err(error) = open.session.publish(topic::TUNNELS, now.as_nanos(), payload.clone()) {
                tracing::error!(%error, "cannot publish");
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::ORIGIN + self.started.elapsed()
    }

    fn take(
        &mut self,
        name: &str,
        role: Role,
        from: SocketAddr,
        topic: &str,
        payload: &[u8],
    ) -> Result<(), prost::DecodeError> {
        match (role, topic) {
            (Role::Agent, topic::LEDGER) => _ = self.seen.ledgers.insert(name.into(), Ledger::decode(payload)?),
            (Role::Agent, topic::CLUSTER) => _ = self.seen.reports.insert(name.into(), ClusterReport::decode(payload)?),
            (Role::Dns, topic::NODE) => {
                let mut report = NodeReport::decode(payload)?;
                report.peering.iter_mut().for_each(|address| place(address, from.ip()));
                if !self.seen.node_regions.contains_key(name) {
                    tracing::warn!(
                        node = name,
                        "nobody added this DNS node here, so its findings count for nothing: run `isochrone dns add`"
                    );
                }
                self.seen.nodes.insert(name.to_owned(), report);
            }
            (Role::Dns, topic::EXPLAINED) => self.pending.answer(name, Explained::decode(payload)?),
            // A newer peer may say more than this hub understands.
            (Role::Agent | Role::Dns, _) => tracing::debug!(name, topic, "unknown topic"),
        }
        Ok(())
    }
}

impl Open {
    /// Tells the peer what concerns it, where it was told something older.
    fn tell(&mut self, decision: &Decision, term: u64) {
        match self.session.peer().role {
            Role::Agent => {
                if let Some(desired) = decision.desired.get(&ClusterId::new(&self.session.peer().name)) {
                    self.publish(topic::DESIRED, (desired.number, term), desired);
                }
            }
            Role::Dns => {
                self.publish(topic::SNAPSHOT, (decision.head.number, decision.head.term), &decision.head);
                self.publish(topic::HUB_REPORT, (decision.report.number, term), &decision.report);
            }
        }
    }

    fn publish(&mut self, topic: &'static str, version: (u64, u64), message: &impl Message) {
        if self.told.get(topic) == Some(&version) {
            return;
        }
        match self.session.publish(topic, version.0, Bytes::from(message.encode_to_vec())) {
            Ok(()) => _ = self.told.insert(topic, version),
            Err(error) => tracing::error!(topic, %error, "cannot publish"),
        }
    }
}

/// Where a node listens on every address, the one that the hub sees stands for it.
fn place(address: &mut String, seen: IpAddr) {
    if let Ok(listening) = address.parse::<SocketAddr>()
        && listening.ip().is_unspecified()
    {
        *address = SocketAddr::new(seen, listening.port()).to_string();
    }
}

async fn geo_blobs(files: &[PathBuf]) -> Result<Vec<(Digest, Bytes)>, HubError> {
    let mut blobs = Vec::new();
    for file in files {
        let read = tokio::fs::read(file).await;
        let bytes = read.map_err(|source| HubError::Geo { file: file.display().to_string(), source })?;
        blobs.push((wire::digest(&bytes), Bytes::from(bytes)));
    }
    Ok(blobs)
}

struct Metrics {
    decisions: Counter,
    sessions: Gauge,
    snapshot: Gauge,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self { decisions: Counter::default(), sessions: Gauge::default(), snapshot: Gauge::default() };
        registry.register("isochrone_hub_decisions", "Times the hub decided", metrics.decisions.clone());
        registry.register("isochrone_hub_sessions", "Open tunnel sessions", metrics.sessions.clone());
        registry.register("isochrone_hub_snapshot", "Number of the current snapshot", metrics.snapshot.clone());
        metrics
    }
}
