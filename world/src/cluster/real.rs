//! A cluster of Kubernetes' own components, each a process.
//!
//! Flow: etcd, then the API server once etcd is healthy, then controller manager, kwok and the scheduler task once the
//! API server is ready; the cluster counts as started when its nodes are Ready and the `default` service account is
//! there. Stopping goes the other way round: an API server whose etcd went first does not end by itself for a very long
//! time.
//!
//! What differs from a cluster in production, and why:
//! * etcd speaks plain HTTP and does not sync to disk: nobody but the rig reaches it, and no test survives a power cut.
//! * The Service `kubernetes` has no endpoints (`--endpoint-reconciler-type=none`): Kubernetes refuses loopback
//!   addresses there, and nothing runs inside that would use it.
//! * Priority and fairness, the watch cache and compaction stay on, since clients notice their absence.
//! * All controllers that are on by default run; trimming them saves memory, but changes what a cluster does.
//!
//! Its files, beside those of every cluster: `pki/`, `etcd/`, `config/`, `audit.log`, `processes.json`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::{Api, Client};
use kubeworld::cluster::authority::{Authority, Pair};
use kubeworld::cluster::kubeconfig::{self, Credential};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber as _;

use super::layout::Layout;
use super::ports::Ports;
use super::processes::Processes;
use super::{Access, ClusterSpec, Component, default_account, node_name, node_zone, nodes_ready};
use crate::assets::Assets;
use crate::{clients, process, scheduler};

/// Pause between two questions to a server that is not there yet: nothing can be awaited before it listens.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What runs. Dropping it kills the processes; [`Real::stop`] ends them in order.
pub(super) struct Real {
    layout: Layout,
    client: Client,
    etcd: SocketAddr,
    // Before the processes: what watches lets go before the servers are killed.
    tasks: JoinSet<()>,
    processes: Processes,
}

impl Real {
    pub(super) async fn start(assets: &Assets, spec: &ClusterSpec, dir: &Path) -> anyhow::Result<(Self, Access)> {
        let layout = Layout::of(dir);
        layout.prepare_processes()?;
        let authority = Authority::new(&format!("{} authority", spec.name))?;
        let ca_pem = authority.pair().certificate;
        let ports = Ports::reserve()?;
        let api_url = format!("https://{}:{}", spec.place.address, ports.api);
        layout.write_pki(&authority, &spec.place)?;
        let kubeconfig = |user: &str, pair: &Pair| {
            kubeconfig::content(&spec.name, &api_url, &ca_pem, user, Credential::Certificate(pair))
        };
        let admin = kubeconfig("admin", &authority.client("admin", Some("system:masters"))?);
        let manager = authority.client("system:kube-controller-manager", None)?;
        kubeconfig::write(&layout.kubeconfig("kube-controller-manager"), &kubeconfig("controller-manager", &manager))?;
        let kwok = authority.client("kwok", Some("system:masters"))?;
        kubeconfig::write(&layout.kubeconfig("kwok"), &kubeconfig("kwok", &kwok))?;
        let scheduler = kubeconfig("scheduler", &authority.client("system:kube-scheduler", None)?);

        let etcd = SocketAddr::from((spec.place.address, ports.etcd));
        let processes = Processes::new(layout.launches(assets, &ports, &spec.place), dir);
        processes.start(Component::Etcd)?;
        processes.until(Component::Etcd, "to be healthy", etcd_healthy(etcd)).await?;
        processes.start(Component::ApiServer)?;
        let client = clients::by_content(admin.clone()).await?;
        processes.until(Component::ApiServer, "to be ready", api_ready(&client)).await?;
        processes.start(Component::ControllerManager)?;
        processes.start(Component::Kwok)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(scheduler::run(clients::by_content(scheduler).await?));
        let nodes = async {
            make_nodes(&client, spec).await?;
            nodes_ready(&client, spec).await
        };
        processes.until(Component::Kwok, "to make the nodes Ready", nodes).await?;
        let account = default_account(&client);
        processes.until(Component::ControllerManager, "to make the default service account", account).await?;
        let access = Access { api_url, ca_pem, admin };
        Ok((Self { layout, client, etcd, tasks, processes }, access))
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.layout.file("audit.log")
    }

    pub(super) fn log(&self, component: Component) -> PathBuf {
        self.layout.log(component)
    }

    pub(super) fn running(&self) -> BTreeMap<Component, u32> {
        self.processes.running()
    }

    pub(super) async fn kill(&self, component: Component) -> anyhow::Result<()> {
        let mut exit = self.processes.signal(component, Signal::KILL)?;
        process::ended(&mut exit).await;
        Ok(())
    }

    pub(super) fn signal(&self, component: Component, signal: Signal) -> anyhow::Result<()> {
        self.processes.signal(component, signal).map(drop)
    }

    pub(super) async fn revive(&self, component: Component) -> anyhow::Result<()> {
        self.processes.start(component)?;
        match component {
            Component::Etcd => self.processes.until(component, "to be healthy", etcd_healthy(self.etcd)).await,
            Component::ApiServer => self.processes.until(component, "to be ready", api_ready(&self.client)).await,
            Component::ControllerManager | Component::Kwok => Ok(()),
        }
    }

    pub(super) async fn backup(&self, to: &Path) -> anyhow::Result<()> {
        self.at_rest(|store| copy_tree(store, to)).await
    }

    pub(super) async fn restore(&self, from: &Path) -> anyhow::Result<()> {
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
        act(&self.layout.file("etcd"))?;
        for component in Component::ALL {
            self.revive(component).await?;
        }
        Ok(())
    }

    pub(super) async fn stop(mut self) -> Vec<Component> {
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

async fn make_nodes(client: &Client, spec: &ClusterSpec) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    for number in 1..=spec.nodes {
        let node = node(spec, number)?;
        let made = nodes.create(&PostParams::default(), &node).await;
        made.with_context(|| format!("making the node {}", node_name(spec, number)))?;
    }
    Ok(())
}

fn node(spec: &ClusterSpec, number: u32) -> anyhow::Result<Node> {
    let name = node_name(spec, number);
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
                "topology.kubernetes.io/zone": node_zone(spec, number),
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
