//! One Kubernetes cluster: of real components, on 127.0.0.1 or in a network namespace, or from memory.
//!
//! A cluster counts as started when its nodes are Ready and the `default` service account is there, which a pod needs.
//! Who uses it cannot tell of which kind it is but by what only processes can do, and that says so.
//!
//! Directory of a cluster: `kubeconfig/`, `log/`, and what the real one (`real`) has beside them.

mod layout;
mod memory;
mod ports;
mod processes;
mod real;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt as _};
use kubeworld::cluster::kubeconfig::{self, Credential};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::clients;
use crate::network::Place;
use crate::provider::Provider;
use crate::scheduler;
use layout::Layout;
use memory::Memory;
pub use ports::free_port;
use processes::refuse_running;
use real::Real;

/// Life time of the tokens in [`Cluster::kubeconfig_for_service_account`]: longer than any test, within what the API
/// server accepts.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// A process of a cluster, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// Keeps the nodes Ready and makes pods Ready.
    Kwok,
}

impl Component {
    /// All of them, in starting order; stopping goes backwards.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Kwok];

    /// The program's file name, also that of its log.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kwok => "kwok",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// What a cluster is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Names the cluster in kubeconfigs, nodes and messages; a DNS label.
    pub name: String,
    /// Where it keeps its files; made when missing. A start in a directory that was used before starts afresh.
    pub dir: PathBuf,
    /// Becomes the label `topology.kubernetes.io/region` of the nodes.
    pub region: String,
    /// How many nodes, each in a zone of its own, at least one.
    pub nodes: u32,
    /// What each node offers, in Kubernetes quantities; the scheduler keeps to it.
    pub node_capacity: BTreeMap<String, String>,
    /// Where its processes run, and the address of its API server.
    pub place: Place,
}

impl ClusterSpec {
    /// Two nodes of 8 CPUs, 32 GiB and 110 pods (Kubernetes' own default), in no particular region.
    pub fn new(name: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        let capacity = [("cpu", "8"), ("memory", "32Gi"), ("pods", "110")];
        Self {
            name: name.into(),
            dir: dir.into(),
            region: "local".to_owned(),
            nodes: 2,
            node_capacity: capacity.into_iter().map(|(name, amount)| (name.to_owned(), amount.to_owned())).collect(),
            place: Place::LOCAL,
        }
    }
}

/// A running cluster. Dropping it kills what runs; [`Cluster::stop`] ends that in order.
pub struct Cluster {
    name: String,
    dir: PathBuf,
    kubectl: PathBuf,
    access: Access,
    uid: String,
    client: Client,
    admin_kubeconfig: PathBuf,
    place: Place,
    made_of: MadeOf,
}

/// What serves the API and makes objects come true.
enum MadeOf {
    Real(Real),
    Memory(Memory),
}

/// How one comes into a cluster that has started.
struct Access {
    /// `https://ADDRESS:PORT`.
    api_url: String,
    ca_pem: String,
    /// A kubeconfig of a member of `system:masters`.
    admin: Value,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("api_url", &self.access.api_url)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a cluster of what the provider has, and waits until it takes work. Several may start at once.
    ///
    /// # Errors
    /// A component that ends, or is not ready in time, is named with the last lines of its log. What was started is
    /// killed. A directory whose processes of an earlier run are alive is refused with their numbers.
    pub async fn start(provider: impl Into<Provider>, spec: ClusterSpec) -> anyhow::Result<Self> {
        let name = spec.name.clone();
        Self::start_on(&provider.into(), spec).await.with_context(|| format!("starting the cluster {name}"))
    }

    async fn start_on(provider: &Provider, spec: ClusterSpec) -> anyhow::Result<Self> {
        ensure!(spec.nodes > 0, "a cluster needs at least one node, or no pod ever runs");
        let dir = std::path::absolute(&spec.dir).with_context(|| format!("resolving {}", spec.dir.display()))?;
        refuse_running(&dir)?;
        let layout = Layout::create(&dir)?;
        let (made_of, access) = match provider {
            Provider::Real(assets) => {
                let (real, access) = Real::start(assets, &spec, &dir).await?;
                (MadeOf::Real(real), access)
            }
            Provider::Memory { .. } => {
                let (memory, access) = Memory::start(&spec).await?;
                (MadeOf::Memory(memory), access)
            }
        };
        let admin_kubeconfig = layout.kubeconfig("admin");
        kubeconfig::write(&admin_kubeconfig, &access.admin)?;
        let client = clients::by_content(access.admin.clone()).await?;
        let uid = Api::<Namespace>::all(client.clone())
            .get("kube-system")
            .await
            .context("reading the namespace kube-system")?
            .uid()
            .context("the namespace kube-system has no UID")?;
        let ClusterSpec { name, place, .. } = spec;
        Ok(Self { name, dir, kubectl: provider.kubectl(), access, uid, client, admin_kubeconfig, place, made_of })
    }

    /// The name given in the spec.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A self-contained kubeconfig of a member of `system:masters`.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The rig's own kubectl, for lines to paste.
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// A client with the rights of [`Self::admin_kubeconfig`]. It belongs to the runtime that started the cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where its processes run.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// `https://ADDRESS:PORT`.
    pub fn api_url(&self) -> &str {
        &self.access.api_url
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca_pem(&self) -> &str {
        &self.access.ca_pem
    }

    /// The UID of the namespace `kube-system`, by convention the identity of a cluster.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// A kubeconfig with a token of this service account, which must exist; the token is good for a day.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> anyhow::Result<PathBuf> {
        let context = || format!("asking the cluster {} for a token of {namespace}/{name}", self.name);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer: TokenRequest = Api::<ServiceAccount>::namespaced(self.client(), namespace)
            .create_subresource("token", name, &PostParams::default(), &request)
            .await
            .with_context(context)?;
        let token = answer.status.and_then(|status| status.token).context("it has no token").with_context(context)?;
        let credential = Credential::Token(&token);
        let content = kubeconfig::content(&self.name, self.api_url(), self.ca_pem(), name, credential);
        let path = Layout::of(&self.dir).kubeconfig(&format!("sa-{namespace}-{name}"));
        kubeconfig::write(&path, &content)?;
        Ok(path)
    }

    /// Runs the rig's kubectl as admin, with `KUBECONFIG` set and a cache of its own. An exit code other than 0 is not an
    /// error of this function.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.kubectl_with_input(args, b"").await
    }

    /// As [`Self::kubectl`], with the standard input given; for `apply -f -`.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &[u8]) -> anyhow::Result<Output> {
        let context = || format!("running kubectl {} against the cluster {}", args.join(" "), self.name);
        let mut child = tokio::process::Command::new(&self.kubectl)
            .args(args)
            .env("KUBECONFIG", &self.admin_kubeconfig)
            .env("KUBECACHEDIR", self.dir.join("kubectl-cache"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(context)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that does not read its input closes it early; its exit code tells the rest.
                let _ = stdin.write_all(input).await;
            }
        };
        let (output, ()) = futures::join!(child.wait_with_output(), feed);
        output.with_context(context)
    }

    /// The API server's audit log, one `audit.k8s.io/v1` event a line, without bodies: all writes, and the reads of
    /// everybody but Kubernetes' own parts and `system:masters`.
    ///
    /// # Errors
    /// On a cluster from memory, as for everything below that says so: there are no processes.
    pub fn audit_log(&self) -> anyhow::Result<PathBuf> {
        Ok(self.real("audit log")?.audit_log())
    }

    /// The log of a component.
    ///
    /// # Errors
    /// On a cluster from memory.
    pub fn log(&self, component: Component) -> anyhow::Result<PathBuf> {
        Ok(self.real(component.program())?.log(component))
    }

    /// The process number of every component that runs; none from memory.
    pub fn processes(&self) -> BTreeMap<Component, u32> {
        match &self.made_of {
            MadeOf::Real(real) => real.running(),
            MadeOf::Memory(_) => BTreeMap::new(),
        }
    }

    /// Kills a component (SIGKILL) and waits until it is gone: from now on its port refuses.
    ///
    /// # Errors
    /// When it does not run, and on a cluster from memory.
    pub async fn kill(&self, component: Component) -> anyhow::Result<()> {
        self.real(component.program())?.kill(component).await
    }

    /// Freezes a component (SIGSTOP): connections to it are still accepted by the kernel, but nobody answers.
    ///
    /// # Errors
    /// When it does not run, and on a cluster from memory.
    pub fn freeze(&self, component: Component) -> anyhow::Result<()> {
        self.real(component.program())?.signal(component, Signal::STOP)
    }

    /// Lets a frozen component go on.
    ///
    /// # Errors
    /// When it does not run, and on a cluster from memory.
    pub fn thaw(&self, component: Component) -> anyhow::Result<()> {
        self.real(component.program())?.signal(component, Signal::CONT)
    }

    /// Starts a killed component again, with the same port and files; etcd and the API server are waited for.
    ///
    /// # Errors
    /// When it runs already, or does not become ready, and on a cluster from memory.
    pub async fn revive(&self, component: Component) -> anyhow::Result<()> {
        self.real(component.program())?.revive(component).await
    }

    /// Copies all that the cluster stores to the directory `to`, which is made: a backup. Its components are killed for
    /// that and started again, so that nobody writes meanwhile.
    ///
    /// # Errors
    /// When a file cannot be copied, or a component does not come back, and on a cluster from memory.
    pub async fn backup(&self, to: &Path) -> anyhow::Result<()> {
        self.real("store on disk")?.backup(to).await
    }

    /// Sets the cluster back to a backup, as its administrator would after a disaster: all that was written since is
    /// gone, and resource versions begin where they were.
    ///
    /// # Errors
    /// As [`Self::backup`].
    pub async fn restore(&self, from: &Path) -> anyhow::Result<()> {
        self.real("store on disk")?.restore(from).await
    }

    /// Ends all components in order, each killed when it does not go within a few seconds.
    ///
    /// Returns those that had to be killed.
    pub async fn stop(self) -> Vec<Component> {
        match self.made_of {
            MadeOf::Real(real) => real.stop().await,
            MadeOf::Memory(memory) => {
                memory.stop().await;
                vec![]
            }
        }
    }

    /// The processes, for what only they can do.
    fn real(&self, wanted: &str) -> anyhow::Result<&Real> {
        match &self.made_of {
            MadeOf::Real(real) => Ok(real),
            MadeOf::Memory(_) => {
                bail!("the cluster {} is from memory and has no {wanted}: this needs Provider::Real", self.name)
            }
        }
    }
}

fn node_name(spec: &ClusterSpec, number: u32) -> String {
    format!("{}-{number}", spec.name)
}

fn node_zone(spec: &ClusterSpec, number: u32) -> String {
    format!("{}-{number}", spec.region)
}

/// Waits until all nodes, which others make, are Ready.
async fn nodes_ready(client: &Client, spec: &ClusterSpec) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    for name in (1..=spec.nodes).map(|number| node_name(spec, number)) {
        await_condition(nodes.clone(), &name, |node: Option<&Node>| node.is_some_and(scheduler::usable))
            .await
            .with_context(|| format!("watching the node {name}"))?;
    }
    Ok(())
}

/// Waits until the `default` service account is there, without which there is no pod.
async fn default_account(client: &Client) -> anyhow::Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    await_condition(accounts, "default", conditions::is_created())
        .await
        .context("watching the default service account")
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Assets;

    #[tokio::test]
    async fn a_component_that_ends_is_reported_with_its_last_words() {
        let assets = tempfile::tempdir().unwrap();
        for name in crate::assets::PROGRAMS {
            let path = assets.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho {name} cannot do this\nexit 7\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let spec = ClusterSpec::new("broken", dir.path());
        let error = Cluster::start(&Assets::new(assets.path()).unwrap(), spec).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("starting the cluster broken: etcd ended (exit status: 7)"), "{error}");
        assert!(error.contains("etcd cannot do this"), "{error}");
    }
}
