//! One Kubernetes cluster of real components, on 127.0.0.1 or in a network namespace.
//!
//! Flow: etcd, then the API server once etcd is healthy, then controller manager, kwok and the scheduler task once the
//! API server is ready; the cluster counts as started when its nodes are Ready and the `default` service account is
//! there, which a pod needs. Stopping goes the other way round: an API server whose etcd went first does not end by
//! itself for a very long time.
//!
//! What differs from a cluster in production, and why:
//! * etcd speaks plain HTTP and does not sync to disk: nobody but the rig reaches it, and no test survives a power cut.
//! * The Service `kubernetes` has no endpoints (`--endpoint-reconciler-type=none`): Kubernetes refuses loopback
//!   addresses there, and nothing runs inside that would use it.
//! * Priority and fairness, the watch cache and compaction stay on, since clients notice their absence.
//! * All controllers that are on by default run; trimming them saves memory, but changes what a cluster does.
//!
//! Directory of a cluster: `pki/`, `log/`, `etcd/`, `config/`, `kubeconfig/`, `audit.log`, `processes.json`.

mod layout;
mod ports;
mod processes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt as _};
use kubeworld::cluster::authority::{Authority, Pair};
use kubeworld::cluster::kubeconfig::{self, Credential};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber as _;

use crate::assets::Assets;
use crate::clients;
use crate::network::Place;
use crate::process;
use crate::scheduler;
use layout::Layout;
use ports::Ports;
use processes::{Processes, refuse_running};

/// Pause between two questions to a server that is not there yet: nothing can be awaited before it listens.
const ASK_EVERY: Duration = Duration::from_millis(50);

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

/// A running cluster. Dropping it kills its processes; [`Cluster::stop`] ends them in order.
pub struct Cluster {
    name: String,
    dir: PathBuf,
    kubectl: PathBuf,
    api_url: String,
    ca_pem: String,
    uid: String,
    client: Client,
    admin_kubeconfig: PathBuf,
    etcd: SocketAddr,
    place: Place,
    // Before the processes: what watches lets go before the servers are killed.
    tasks: JoinSet<()>,
    processes: Processes,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a cluster and waits until it takes work. Several may start at once.
    ///
    /// # Errors
    /// A component that ends, or is not ready in time, is named with the last lines of its log. What was started is
    /// killed. A directory whose processes of an earlier run are alive is refused with their numbers.
    pub async fn start(assets: &Assets, spec: ClusterSpec) -> anyhow::Result<Self> {
        let name = spec.name.clone();
        Self::start_named(assets, spec).await.with_context(|| format!("starting the cluster {name}"))
    }

    async fn start_named(assets: &Assets, spec: ClusterSpec) -> anyhow::Result<Self> {
        ensure!(spec.nodes > 0, "a cluster needs at least one node, or no pod ever runs");
        let dir = std::path::absolute(&spec.dir).with_context(|| format!("resolving {}", spec.dir.display()))?;
        refuse_running(&dir)?;
        let layout = Layout::create(&dir)?;
        let authority = Authority::new(&format!("{} authority", spec.name))?;
        let ca_pem = authority.pair().certificate;
        let ports = Ports::reserve()?;
        let api_url = format!("https://{}:{}", spec.place.address, ports.api);
        layout.write_pki(&authority, &spec.place)?;
        let kubeconfig = |user: &str, pair: &Pair| {
            kubeconfig::content(&spec.name, &api_url, &ca_pem, user, Credential::Certificate(pair))
        };
        let admin = kubeconfig("admin", &authority.client("admin", Some("system:masters"))?);
        let admin_kubeconfig = layout.kubeconfig("admin");
        kubeconfig::write(&admin_kubeconfig, &admin)?;
        let manager = authority.client("system:kube-controller-manager", None)?;
        kubeconfig::write(&layout.kubeconfig("kube-controller-manager"), &kubeconfig("controller-manager", &manager))?;
        let kwok = authority.client("kwok", Some("system:masters"))?;
        kubeconfig::write(&layout.kubeconfig("kwok"), &kubeconfig("kwok", &kwok))?;
        let scheduler = kubeconfig("scheduler", &authority.client("system:kube-scheduler", None)?);

        let etcd = SocketAddr::from((spec.place.address, ports.etcd));
        let processes = Processes::new(layout.launches(assets, &ports, &spec.place), &dir);
        processes.start(Component::Etcd)?;
        processes.until(Component::Etcd, "to be healthy", etcd_healthy(etcd)).await?;
        processes.start(Component::ApiServer)?;
        let client = clients::by_content(admin).await?;
        processes.until(Component::ApiServer, "to be ready", api_ready(&client)).await?;
        processes.start(Component::ControllerManager)?;
        processes.start(Component::Kwok)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(scheduler::run(clients::by_content(scheduler).await?));
        processes.until(Component::Kwok, "to make the nodes Ready", nodes_ready(&client, &spec)).await?;
        let account = default_account(&client);
        processes.until(Component::ControllerManager, "to make the default service account", account).await?;
        let uid = Api::<Namespace>::all(client.clone())
            .get("kube-system")
            .await
            .context("reading the namespace kube-system")?
            .uid()
            .context("the namespace kube-system has no UID")?;
        let kubectl = assets.program("kubectl");
        Ok(Self {
            name: spec.name,
            dir,
            kubectl,
            api_url,
            ca_pem,
            uid,
            client,
            admin_kubeconfig,
            etcd,
            place: spec.place,
            tasks,
            processes,
        })
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
        &self.api_url
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The UID of the namespace `kube-system`, by convention the identity of a cluster.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The API server's audit log, one `audit.k8s.io/v1` event a line, without bodies: all writes, and the reads of
    /// everybody but Kubernetes' own parts and `system:masters`.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// The log of a component.
    pub fn log(&self, component: Component) -> PathBuf {
        Layout::of(&self.dir).log(component)
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
        let content = kubeconfig::content(&self.name, &self.api_url, &self.ca_pem, name, credential);
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

    /// The process number of every component that runs.
    pub fn processes(&self) -> BTreeMap<Component, u32> {
        self.processes.running()
    }

    /// Kills a component (SIGKILL) and waits until it is gone: from now on its port refuses.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self, component: Component) -> anyhow::Result<()> {
        let mut exit = self.processes.signal(component, Signal::KILL)?;
        process::ended(&mut exit).await;
        Ok(())
    }

    /// Freezes a component (SIGSTOP): connections to it are still accepted by the kernel, but nobody answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, component: Component) -> anyhow::Result<()> {
        self.processes.signal(component, Signal::STOP).map(drop)
    }

    /// Lets a frozen component go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self, component: Component) -> anyhow::Result<()> {
        self.processes.signal(component, Signal::CONT).map(drop)
    }

    /// Starts a killed component again, with the same port and files; etcd and the API server are waited for.
    ///
    /// # Errors
    /// When it runs already, or does not become ready.
    pub async fn revive(&self, component: Component) -> anyhow::Result<()> {
        self.processes.start(component)?;
        match component {
            Component::Etcd => self.processes.until(component, "to be healthy", etcd_healthy(self.etcd)).await,
            Component::ApiServer => self.processes.until(component, "to be ready", api_ready(&self.client)).await,
            Component::ControllerManager | Component::Kwok => Ok(()),
        }
    }

    /// Copies all that the cluster stores to the directory `to`, which is made: a backup. Its components are killed for
    /// that and started again, so that nobody writes meanwhile.
    ///
    /// # Errors
    /// When a file cannot be copied, or a component does not come back.
    pub async fn backup(&self, to: &Path) -> anyhow::Result<()> {
        self.at_rest(|store| copy_tree(store, to)).await
    }

    /// Sets the cluster back to a backup, as its administrator would after a disaster: all that was written since is
    /// gone, and resource versions begin where they were.
    ///
    /// # Errors
    /// As [`Self::backup`].
    pub async fn restore(&self, from: &Path) -> anyhow::Result<()> {
        self.at_rest(|store| {
            std::fs::remove_dir_all(store).with_context(|| format!("removing {}", store.display()))?;
            copy_tree(from, store)
        })
        .await
    }

    async fn at_rest(&self, act: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for component in Component::ALL.iter().rev() {
            self.kill(*component).await?;
        }
        act(&Layout::of(&self.dir).file("etcd"))?;
        for component in Component::ALL {
            self.revive(component).await?;
        }
        Ok(())
    }

    /// Ends all components in order, each killed when it does not go within a few seconds.
    ///
    /// Returns those that had to be killed.
    pub async fn stop(mut self) -> Vec<Component> {
        self.tasks.shutdown().await;
        self.processes.stop().await
    }
}

/// Copies a directory with everything in it.
fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    let context = || format!("copying {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(context)?;
    for entry in std::fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &copy)?;
        } else {
            std::fs::copy(&path, &copy).with_context(context)?;
        }
    }
    Ok(())
}

async fn etcd_healthy(address: SocketAddr) -> anyhow::Result<()> {
    loop {
        if etcd_says_healthy(address).await.unwrap_or(false) {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn etcd_says_healthy(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

async fn api_ready(client: &Client) -> anyhow::Result<()> {
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).context("making a request for /readyz")?;
        // A server that accepts but does not answer must not hold up the next question.
        let asked = client.request_text(request);
        // The client logs every refusal as an error; here they are expected, and what is wrong is told in the end.
        let asked = asked.with_subscriber(tracing::subscriber::NoSubscriber::new());
        let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
        if let Ok(Ok(_)) = answer {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn nodes_ready(client: &Client, spec: &ClusterSpec) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    for number in 1..=spec.nodes {
        let name = format!("{}-{number}", spec.name);
        let node = node(&name, spec, number)?;
        nodes.create(&PostParams::default(), &node).await.with_context(|| format!("making the node {name}"))?;
    }
    for number in 1..=spec.nodes {
        let name = format!("{}-{number}", spec.name);
        await_condition(nodes.clone(), &name, |node: Option<&Node>| node.is_some_and(scheduler::usable))
            .await
            .with_context(|| format!("watching the node {name}"))?;
    }
    Ok(())
}

fn node(name: &str, spec: &ClusterSpec, number: u32) -> anyhow::Result<Node> {
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": spec.region,
                "topology.kubernetes.io/zone": format!("{}-{number}", spec.region),
                "type": "kwok",
            },
        },
        "status": {
            "allocatable": spec.node_capacity,
            "capacity": spec.node_capacity,
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "fake", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            },
        },
    });
    serde_json::from_value(node).with_context(|| format!("describing the node {name}"))
}

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
