//! The files of one cluster, and the arguments by which its programs find them and each other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kubeworld::cluster::authority::{self, Authority};
use kubeworld::cluster::kubeconfig;

use super::Component;
use super::ports::Ports;
use crate::assets::Assets;
use crate::network::Place;
use crate::process::Launch;

/// Cluster IPs; no traffic goes there. Clusters may share it, as they do in reality.
const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The address that Kubernetes gives to its own Service.
const SERVICE_NETWORK_FIRST: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The files of a cluster.
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The files of a cluster that exists.
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the directories that every cluster has.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        let layout = Self::of(dir);
        layout.make_dirs(&["log", "kubeconfig"])?;
        Ok(layout)
    }

    /// Makes what processes need besides. The store of an earlier run goes: its objects are signed by an authority that
    /// is no more.
    pub(super) fn prepare_processes(&self) -> anyhow::Result<()> {
        let store = self.file("etcd");
        if store.exists() {
            std::fs::remove_dir_all(&store).with_context(|| format!("clearing {}", store.display()))?;
        }
        self.make_dirs(&["pki", "etcd", "config"])?;
        // etcd asks for a directory that nobody else may enter, and warns else.
        std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .with_context(|| format!("restricting {}", store.display()))?;
        kubeconfig::write_private(&self.file("config/audit-policy.yaml"), include_str!("audit-policy.yaml"))?;
        kubeconfig::write_private(&self.file("config/stages.yaml"), include_str!("stages.yaml"))?;
        Ok(())
    }

    fn make_dirs(&self, names: &[&str]) -> anyhow::Result<()> {
        names.iter().try_for_each(|name| {
            let dir = self.file(name);
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.file("kubeconfig").join(format!("{user}.yaml"))
    }

    pub(super) fn log(&self, component: Component) -> PathBuf {
        self.file("log").join(format!("{component}.log"))
    }

    pub(super) fn write_pki(&self, authority: &Authority, place: &Place) -> anyhow::Result<()> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let addresses = [Ipv4Addr::LOCALHOST.into(), place.address.into(), SERVICE_NETWORK_FIRST.into()];
        let server = authority.server(&names, &addresses)?;
        let ca = authority.pair();
        let (token_key, token_public_key) = authority::token_keys()?;
        for (name, text) in [
            ("pki/ca.crt", &ca.certificate),
            ("pki/ca.key", &ca.key),
            ("pki/apiserver.crt", &server.certificate),
            ("pki/apiserver.key", &server.key),
            ("pki/service-accounts.key", &token_key),
            ("pki/service-accounts.pub", &token_public_key),
        ] {
            kubeconfig::write_private(&self.file(name), text)?;
        }
        Ok(())
    }

    pub(super) fn launches(&self, assets: &Assets, ports: &Ports, place: &Place) -> BTreeMap<Component, Launch> {
        let launch = |component: Component| {
            let args = match component {
                Component::Etcd => self.etcd_args(ports, place),
                Component::ApiServer => self.api_server_args(ports, place),
                Component::ControllerManager => self.controller_manager_args(),
                Component::Kwok => self.kwok_args(),
            };
            let name = component.program();
            let launch = Launch {
                name,
                program: assets.program(name),
                args,
                log: self.log(component),
                home: self.dir.clone(),
                namespace: place.namespace.clone(),
            };
            (component, launch)
        };
        Component::ALL.into_iter().map(launch).collect()
    }

    fn etcd_args(&self, ports: &Ports, place: &Place) -> Vec<String> {
        let client = format!("http://{}:{}", place.address, ports.etcd);
        let peer = format!("http://{}:{}", place.address, ports.etcd_peer);
        vec![
            format!("--data-dir={}", self.file("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync=true".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server_args(&self, ports: &Ports, place: &Place) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            format!("--etcd-servers=http://{}:{}", place.address, ports.etcd),
            format!("--bind-address={}", place.address),
            format!("--advertise-address={}", place.address),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={}", ports.api),
            format!("--tls-cert-file={}", file("pki/apiserver.crt")),
            format!("--tls-private-key-file={}", file("pki/apiserver.key")),
            format!("--client-ca-file={}", file("pki/ca.crt")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-signing-key-file={}", file("pki/service-accounts.key")),
            format!("--service-account-key-file={}", file("pki/service-accounts.pub")),
            format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
            format!("--audit-policy-file={}", file("config/audit-policy.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            "--profiling=false".to_owned(),
        ]
    }

    fn controller_manager_args(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            format!("--kubeconfig={}", self.kubeconfig("kube-controller-manager").display()),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", file("pki/service-accounts.key")),
            format!("--root-ca-file={}", file("pki/ca.crt")),
            format!("--cluster-signing-cert-file={}", file("pki/ca.crt")),
            format!("--cluster-signing-key-file={}", file("pki/ca.key")),
            format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
            // There is one; the lease would only delay a revived one.
            "--leader-elect=false".to_owned(),
            // Each controller makes its own service account and token first. At the default of 20 requests a second that
            // was 5 s, half of a cluster's start.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
            // No port: nobody asks it, and one less can be taken.
            "--secure-port=0".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    fn kwok_args(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig("kwok").display()),
            format!("--config={}", self.file("config/stages.yaml").display()),
            "--manage-all-nodes=true".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            "--cidr=10.244.0.0/16".to_owned(),
            // `--node-port` would make it listen on all addresses.
        ]
    }
}
