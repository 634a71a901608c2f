//! A cluster in its site: the Kubernetes API from memory, and, but for the hub's, a door to the apps in it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ingress::{Door, LoadBalancer, Named};
use jiff::Timestamp;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kubeworld::Options;
use kubeworld::cluster::{ClusterError, ClusterSpec};
use kubeworld::controllers::{NodeSettings, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::spec::Region;
use crate::world::taken;

/// How long the tokens of service accounts are good: no world lives that long.
const TOKEN_SECONDS: u64 = 365 * 24 * 3600;

/// A cluster that serves.
pub(crate) struct Cluster {
    inner: kubeworld::cluster::Cluster,
    /// The API's own address; clients of other sites come by the relay's.
    inside: String,
    client: Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster {}", self.inner.name())
    }
}

impl Cluster {
    pub(crate) async fn start(name: &str, at: Addresses<'_>, region: Option<&Region>) -> Result<Self> {
        let api = at.api();
        let node = |number| NodeSettings {
            place: region.map(|region| (region.region.clone(), format!("{}-a", region.region))),
            ..NodeSettings::new(format!("{name}-node-{number}"))
        };
        let nodes = (1..=region.map_or(1, |region| region.nodes)).map(node).collect();
        let settings = Settings { nodes, ..Settings::default() };
        let spec = ClusterSpec {
            name: name.to_owned(),
            listen: api.server,
            reached_at: Some(api.clients),
            options: Options::of(name),
            settings,
        };
        let started = kubeworld::cluster::Cluster::start(spec, Arc::new(Timestamp::now)).await;
        let inner = started.map_err(|error| match error {
            ClusterError::Listen { address, source, .. } => anyhow::Error::new(source).context(taken("TCP", address)),
            ClusterError::Certificates { .. } | ClusterError::Token { .. } => error.into(),
        })?;
        let inside = format!("https://{}", api.server);
        let client = Client::try_from(config(inner.admin_kubeconfig(), &inside).await?)?;
        Ok(Self { inner, inside, client })
    }

    /// A client with an administrator's rights, for what a person would do by kubectl.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// For people: by the relay, so that a cluster that is cut off is silent for them.
    pub(crate) fn admin_kubeconfig(&self) -> Value {
        self.inner.admin_kubeconfig()
    }

    /// How a role inside the cluster reaches it, with the rights of its service account alone.
    pub(crate) async fn service_account(&self, namespace: &str, account: &str) -> Result<kube::Config> {
        let kubeconfig = self.inner.service_account_kubeconfig(namespace, account, TOKEN_SECONDS)?;
        config(kubeconfig, &self.inside).await
    }

    /// Opens the door to its apps.
    pub(crate) async fn open(
        &self,
        at: Addresses<'_>,
        region: &Region,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<LoadBalancer> {
        let named = Named { cluster: region.name.clone(), region: region.region.clone() };
        let door = Door::new(&self.client, named).await.context("reading the objects of the cluster")?;
        let address = at.door().server;
        let listener = TcpListener::bind(address).await.with_context(|| taken("TCP", address))?;
        let stop = stop.clone();
        tasks.spawn(async move {
            // Requests that are under way when the world ends are nobody's any more.
            tokio::select! {
                served = door.serve(listener, std::future::pending()) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "a door closed by itself");
                    }
                }
                () = stop.cancelled() => {}
            }
        });
        Ok(LoadBalancer::start(self.client.clone(), at.door().clients.ip()))
    }

    pub(crate) async fn stop(self) {
        let Self { inner, inside: _, client } = self;
        drop(client);
        inner.stop().await;
    }
}

async fn config(mut kubeconfig: Value, server: &str) -> Result<kube::Config> {
    kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).context("reading a kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.context("making a client's configuration")
}
