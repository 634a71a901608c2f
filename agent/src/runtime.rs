//! The agent as a process: identity, one link to the hub, and the delivery engine that goes on without it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::wire::{Desired, topic};
use bytes::Bytes;
use kube::Client;
use lease::{Leadership, LeaseError};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnel::Timing;
use tunnel::client::{Link, LinkConfig, LinkEvent, Toward};
use tunnel::identity::random_id;
use tunnel::message::{Hello, RefusalCode};

use crate::config::{self, KubeAccess};
use crate::engine::{Engine, EngineError, Input, Output};
use crate::enrol::{IdentityStore, JoinError, Joined, cluster_uid};

/// Name of the Lease that the agent which applies holds.
const LEASE: &str = "isochrone-agent";
/// Messages on their way between link and engine; each side takes them as they come.
const MESSAGES: usize = 64;
/// A render is small; what has not come by then is asked for again by the engine.
const FETCH: Duration = Duration::from_secs(30);

/// How an agent runs.
pub struct Config {
    /// Reaches its own API server, with the agent's own rights.
    pub kube: kube::Config,
    /// Its namespace.
    pub namespace: String,
    /// The join token; needed the first time only.
    pub join: Option<String>,
    /// Name of this process among the agents of its cluster, such as the pod's.
    pub instance: String,
    /// HTTP address of the admin port.
    pub admin: SocketAddr,
}

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its place among the agents of its cluster.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Identity.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Delivery.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] admin::ListenError),
    /// The link.
    #[error(transparent)]
    Link(#[from] tunnel::client::LinkError),
    /// The client of its own API server.
    #[error("cannot make a client for the agent's own API server")]
    Client(#[source] kube::Error),
    /// The engine's task panicked.
    #[error("the delivery engine failed")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Runs the agent until `stop`. Of several in one cluster one works and the others wait for its Lease. Delivery starts at
/// once from what the agent was told before; the hub may come later.
///
/// # Errors
/// [`AgentError`]. Ending changes nothing in the cluster.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AgentError> {
    let readiness = admin::Readiness::default();
    readiness.set("lease", Err("waiting for the Lease: another agent works here".into()));
    readiness.set("identity", Err("joining".into()));
    readiness.set("tunnel", Err("no session with the hub yet".into()));
    let connected = Gauge::<i64>::default();
    let mut registry = Registry::default();
    registry.register("isochrone_agent_connected", "1 while a session with the hub is open", connected.clone());
    admin::serve(config.admin, readiness.clone(), registry, axum::Router::new(), stop.clone()).await?;

    let client = Client::try_from(config.kube.clone()).map_err(AgentError::Client)?;
    loop {
        let (mut leadership, _) = tokio::select! {
            leadership = Leadership::acquire(client.clone(), &config.namespace, LEASE, &config.instance) => leadership?,
            () = stop.cancelled() => return Ok(()),
        };
        readiness.set("lease", Ok(()));
        tokio::select! {
            ended = work(&config, &client, &readiness, &connected, &stop) => {
                leadership.release().await;
                return ended;
            }
            // Dropped, the work has ended: nothing is applied by whoever has lost its place.
            lost = leadership.keep() => {
                tracing::warn!(%lost, "holds still until the Lease is its own again");
                readiness.set("lease", Err(lost.to_string()));
                connected.set(0);
            }
        }
    }
}

/// Delivers and talks to the hub until `stop`.
async fn work(
    config: &Config,
    client: &Client,
    readiness: &admin::Readiness,
    connected: &Gauge,
    stop: &CancellationToken,
) -> Result<(), AgentError> {
    let (to_engine, inputs) = mpsc::channel(MESSAGES);
    let (outputs, from_engine) = mpsc::channel(MESSAGES);
    let delivery =
        config::Config { kube: KubeAccess::Given(Box::new(config.kube.clone())), namespace: config.namespace.clone() };
    let mut engine = JoinSet::new();
    engine.spawn(Engine::run(delivery, inputs, outputs, stop.clone()));

    let store = IdentityStore::new(client, &config.namespace);
    let joined = tokio::select! {
        joined = join(client, &store, config.join.as_deref()) => joined?,
        Some(ended) = engine.join_next() => return ended.map_err(AgentError::Panicked)?.map_err(AgentError::Engine),
        () = stop.cancelled() => return Ok(()),
    };
    readiness.set("identity", Ok(()));
    let hello = Hello {
        software: env!("CARGO_PKG_VERSION").to_owned(),
        instance: config.instance.clone(),
        boot: random_id(),
        ..Hello::default()
    };
    let (link, events) = Link::start(LinkConfig {
        toward: Toward::Hub,
        hubs: joined.hubs.clone(),
        identity: joined.identity,
        hello,
        source: None,
        timing: Timing::default(),
    })?;
    let mut bridge = Bridge {
        link: Arc::new(link),
        store,
        hubs: joined.hubs,
        token: joined.token,
        to_engine,
        fetches: JoinSet::new(),
    };
    let ended = tokio::select! {
        () = bridge.run(events, from_engine, readiness, connected) => Ok(()),
        Some(ended) = engine.join_next() => ended.map_err(AgentError::Panicked)?.map_err(AgentError::Engine),
        () = stop.cancelled() => Ok(()),
    };
    engine.shutdown().await;
    bridge.fetches.shutdown().await;
    if let Some(link) = Arc::into_inner(bridge.link) {
        link.close("the agent is stopping").await;
    }
    ended
}

async fn join(client: &Client, store: &IdentityStore, token: Option<&str>) -> Result<Joined, JoinError> {
    let uid = cluster_uid(client).await?;
    store.join(&uid, token).await
}

/// Carries messages between link and engine.
struct Bridge {
    link: Arc<Link>,
    store: IdentityStore,
    hubs: Vec<String>,
    token: String,
    to_engine: mpsc::Sender<Input>,
    fetches: JoinSet<()>,
}

impl Bridge {
    async fn run(
        &mut self,
        mut events: mpsc::Receiver<LinkEvent>,
        mut outputs: mpsc::Receiver<Output>,
        readiness: &admin::Readiness,
        connected: &Gauge,
    ) {
        let mut number = 0;
        loop {
            tokio::select! {
                Some(event) = events.recv() => self.handle(event, readiness, connected).await,
                Some(output) = outputs.recv() => {
                    number += 1;
                    self.send(output, number);
                }
                Some(_) = self.fetches.join_next() => {}
                else => return,
            }
        }
    }

    async fn handle(&mut self, event: LinkEvent, readiness: &admin::Readiness, connected: &Gauge) {
        match event {
            LinkEvent::Connected { hub, .. } => {
                tracing::info!(hub = %hub.hub, term = hub.term, "connected");
                readiness.set("tunnel", Ok(()));
                connected.set(1);
                self.give(Input::Connected).await;
            }
            LinkEvent::Disconnected { why } => {
                tracing::warn!(%why, "disconnected; what was delivered stays in place");
                readiness.set("tunnel", Err(why));
                connected.set(0);
            }
            LinkEvent::Published { topic, payload, .. } if topic == topic::DESIRED => match Desired::decode(payload) {
                Ok(desired) => self.give(Input::Desired(desired)).await,
                Err(error) => tracing::error!(%error, "the hub's desired state cannot be read; it is left aside"),
            },
            LinkEvent::Published { topic, .. } => tracing::debug!(%topic, "unknown topic"),
            LinkEvent::Renewed(identity) => {
                let joined = Joined { identity, hubs: self.hubs.clone(), token: self.token.clone() };
                if let Err(error) = self.store.save(&joined).await {
                    tracing::error!(%error, "cannot keep the renewed certificate; a restart would use the old one");
                }
            }
            LinkEvent::Refused { code, message } => {
                if code == RefusalCode::Revoked {
                    tracing::error!(%message, "dismissed: nothing is applied, corrected or deleted here any more");
                    self.give(Input::Dismissed).await;
                }
                tracing::error!(?code, %message, "the hub refuses this agent; trying again, slowly");
                readiness.set("tunnel", Err(message));
            }
        }
    }

    fn send(&mut self, output: Output, number: u64) {
        let sent = match output {
            Output::Ledger(ledger) => self.link.publish(topic::LEDGER, number, Bytes::from(ledger.encode_to_vec())),
            Output::Cluster(report) => self.link.publish(topic::CLUSTER, number, Bytes::from(report.encode_to_vec())),
            Output::Fetch(digest) => {
                let (link, to_engine) = (Arc::clone(&self.link), self.to_engine.clone());
                self.fetches.spawn(async move {
                    match link.fetch(&digest, FETCH).await {
                        Ok(bytes) => _ = to_engine.send(Input::Blob { digest, bytes }).await,
                        Err(error) => tracing::warn!(%error, "cannot fetch a render"),
                    }
                });
                Ok(())
            }
        };
        if let Err(error) = sent {
            tracing::error!(%error, "cannot publish");
        }
    }

    async fn give(&self, input: Input) {
        // The engine has ended if nobody takes it; the caller notices that by itself.
        let _ = self.to_engine.send(input).await;
    }
}
