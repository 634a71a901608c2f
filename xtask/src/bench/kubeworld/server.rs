//! The servers: processes of their own, reached alike, with what they take of memory and processor.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::kubeworld::serve::Config;
use ::kubeworld::{Api, User};
use anyhow::{Context as _, bail, ensure};
use http::Method;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use world::Assets;
use world::cluster::free_port;
use world::process::{Launch, Process, log_tail};

use super::client::{Access, JSON};
use super::load::NAMESPACES;
use crate::bench::process::{processor_time, resident};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// kubeworld.
    Memory,
    /// kube-apiserver and etcd.
    Real,
    /// The same, with an etcd that does not wait for its disk.
    RealWithoutSync,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "kubeworld",
            Self::Real => "kube-apiserver + etcd",
            Self::RealWithoutSync => "kube-apiserver + etcd without fsync",
        }
    }
}

/// The resident sets of a server's processes.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// Name and bytes.
    pub(super) of: Vec<(&'static str, u64)>,
}

impl Memory {
    pub(super) fn sum(&self) -> u64 {
        self.of.iter().map(|(_, bytes)| bytes).sum()
    }

    pub(super) fn shown(&self) -> String {
        let parts: Vec<String> = self.of.iter().map(|(_, bytes)| megabytes(*bytes)).collect();
        match parts.as_slice() {
            [one] => format!("{one} MB"),
            many => format!("{} = {} MB", many.join(" + "), megabytes(self.sum())),
        }
    }
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

/// A server that runs until this is dropped.
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) access: Access,
    // The API server before its store.
    processes: Vec<Child>,
    _dir: tempfile::TempDir,
}

/// One of a server's processes, and what it was started by.
struct Child {
    process: Process,
    launch: Launch,
}

impl Child {
    fn start(name: &'static str, program: PathBuf, args: Vec<String>, dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let launch = Launch { name, program, args, log, home: dir.to_owned(), namespace: None };
        Ok(Self { process: Process::start(&launch)?, launch })
    }

    fn log(&self) -> String {
        log_tail(&self.launch.log)
    }
}

/// A start takes 6 s on two idle cores; on busy ones much longer.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Who asks, of whom both servers are told; loopback alone.
const TOKEN: &str = "bench";

const USER: &str = "bench";

/// Its members may do everything, and the real server lets them pass by its queues.
const GROUP: &str = "system:masters";

impl Server {
    pub(super) async fn start(kind: Kind, assets: &Assets) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("a directory for a server")?;
        let certificate = write_files(dir.path())?;
        let port = free_port()?;
        let processes = match kind {
            Kind::Memory => vec![memory(dir.path(), port)?],
            Kind::Real => real(assets, dir.path(), port, &[])?,
            Kind::RealWithoutSync => real(assets, dir.path(), port, &["--unsafe-no-fsync=true"])?,
        };
        let access = Access::new(port, certificate, TOKEN)?;
        let server = Self { kind, access, processes, _dir: dir };
        server.until_ready().await?;
        let mut client = server.access.connect().await?;
        for name in NAMESPACES {
            let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            client.done(Method::POST, "/api/v1/namespaces", JSON, body.to_string()).await?;
        }
        Ok(server)
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let asked = async {
                let mut client = self.access.connect().await?;
                client.done(Method::GET, "/readyz", JSON, "").await
            };
            let Err(error) = asked.await else { return Ok(()) };
            for child in &self.processes {
                ensure!(child.process.is_running(), "{} ended: {}", child.launch.name, child.log());
            }
            if started.elapsed() > READY_WITHIN {
                let logs: Vec<String> = self.processes.iter().map(Child::log).collect();
                bail!("{} is not ready: {error:#}\n{}", self.kind.name(), logs.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let of = self.processes.iter().map(|child| Ok((child.launch.name, resident(child.process.pid())?)));
        Ok(Memory { of: of.collect::<anyhow::Result<_>>()? })
    }

    /// What all its processes have spent since they started, in seconds.
    pub(super) fn processor_time(&self) -> anyhow::Result<f64> {
        self.processes.iter().map(|child| processor_time(child.process.pid())).sum()
    }
}

/// Options of the hidden task by which a bench starts kubeworld in a process of its own.
#[derive(clap::Args)]
pub(crate) struct ServeOptions {
    /// Where to listen, on loopback.
    #[arg(long)]
    port: u16,
    /// Holds `server.crt` and `server.key`.
    #[arg(long)]
    dir: PathBuf,
}

/// Serves kubeworld until it is killed. Without controllers: the real server that it is compared with has none either.
pub(crate) fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    let certificate =
        CertificateDer::from_pem_file(options.dir.join("server.crt")).context("reading the certificate")?;
    let key = PrivateKeyDer::from_pem_file(options.dir.join("server.key")).context("reading the key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("the server's certificate")?;
    let user = User { name: USER.to_owned(), groups: vec![GROUP.to_owned()], ..User::default() };
    let tokens = [(TOKEN.to_owned(), user)].into();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await.context("listening")?;
        let api = Api::new(::kubeworld::Options::default(), Timestamp::now());
        let config = Config { tls: Some(Arc::new(tls)), tokens, ..Config::default() };
        let _server = ::kubeworld::serve::Server::start(api, listener, config, Arc::new(Timestamp::now))?;
        std::future::pending::<anyhow::Result<()>>().await
    })
}

fn memory(dir: &Path, port: u16) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let args = vec!["serve-kubeworld".to_owned(), format!("--port={port}"), format!("--dir={}", dir.display())];
    Child::start("kubeworld", program, args, dir)
}

fn real(assets: &Assets, dir: &Path, port: u16, of_store: &[&str]) -> anyhow::Result<Vec<Child>> {
    let store_url = format!("http://127.0.0.1:{}", free_port()?);
    let peer_url = format!("http://127.0.0.1:{}", free_port()?);
    let file = |name: &str| dir.join(name).display().to_string();
    let mut args = vec![
        format!("--data-dir={}", file("etcd")),
        format!("--listen-client-urls={store_url}"),
        format!("--advertise-client-urls={store_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster=default={peer_url}"),
        "--log-level=error".to_owned(),
    ];
    args.extend(of_store.iter().map(|arg| (*arg).to_owned()));
    let store = Child::start("etcd", assets.program("etcd"), args, dir)?;
    let args = vec![
        format!("--etcd-servers={store_url}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        format!("--service-account-key-file={}", file("tokens.pub")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--profiling=false".to_owned(),
    ];
    let api = Child::start("kube-apiserver", assets.program("kube-apiserver"), args, dir)?;
    Ok(vec![api, store])
}

/// Certificate, keys and the user. The certificate is its own authority.
fn write_files(dir: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let key = KeyPair::generate().context("making a key")?;
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    let certificate = params.self_signed(&key).context("signing a certificate")?;
    let tokens = KeyPair::generate().context("making a key")?;
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("tokens.key", tokens.serialize_pem()),
        ("tokens.pub", tokens.public_key_pem()),
        ("tokens.csv", format!("{TOKEN},{USER},uid-of-{USER},\"{GROUP}\"\n")),
    ] {
        std::fs::write(dir.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(certificate.der().clone())
}
