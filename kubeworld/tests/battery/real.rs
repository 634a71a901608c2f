//! The real server: etcd and kube-apiserver, on loopback, for as long as the test runs.
//!
//! Not the test rig's cluster: no controllers may run here, and the rig would bring its own HTTP stack, ten times what
//! this crate needs to build.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{Request, Response, exchange};
use crate::run::{ANSWER_WITHIN, Provider, USERS, bearer};

/// Where the programs are; as the test rig has it.
const ASSETS_VARIABLE: &str = "ISOCHRONE_KUBE_ASSETS";

/// A start takes 6 s on two idle cores; on busy ones much longer.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// etcd and kube-apiserver.
pub(crate) struct Server {
    port: u16,
    tls: Arc<ClientConfig>,
    // Dropped in this order: the API server before its store.
    _api: Process,
    _store: Process,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let assets = std::env::var_os(ASSETS_VARIABLE).with_context(|| {
            format!(
                "{ASSETS_VARIABLE} is unset, so there is no kube-apiserver to compare with: run `cargo xtask test`, or \
                 `{ASSETS_VARIABLE}=$(cargo xtask kube) cargo test`, or leave these tests out with `-- --skip real_`"
            )
        })?;
        let assets = PathBuf::from(assets);
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let (store_port, peer_port, port) = (free_port(0)?, free_port(1)?, free_port(2)?);
        let certificate = write_files(dir.path())?;

        let store_url = format!("http://127.0.0.1:{store_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let store = Process::start(
            &assets.join("etcd"),
            &[
                format!("--data-dir={}", path("etcd").display()),
                format!("--listen-client-urls={store_url}"),
                format!("--advertise-client-urls={store_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
                "--unsafe-no-fsync=true".to_owned(),
                "--log-level=error".to_owned(),
            ],
            &path("etcd.log"),
        )?;
        let file = |name: &str| path(name).display().to_string();
        let api = Process::start(
            &assets.join("kube-apiserver"),
            &[
                format!("--etcd-servers={store_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--secure-port={port}"),
                format!("--tls-cert-file={}", file("server.crt")),
                format!("--tls-private-key-file={}", file("server.key")),
                format!("--token-auth-file={}", file("tokens.csv")),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                // It refuses pods until a controller has made the service account of their namespace.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--allow-privileged=true".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
                format!("--service-account-signing-key-file={}", file("tokens.key")),
                format!("--service-account-key-file={}", file("tokens.pub")),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--profiling=false".to_owned(),
            ],
            &path("kube-apiserver.log"),
        )?;
        let mut server = Self { port, tls: tls(certificate)?, _api: api, _store: store, _dir: dir };
        server.until_ready()?;
        Ok(server)
    }

    fn until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let request = Request {
            method: "GET".to_owned(),
            target: "/readyz".to_owned(),
            headers: self.credentials("admin"),
            body: None,
        };
        loop {
            match self.send(&request) {
                Ok(response) if response.status == 200 => return Ok(()),
                _ if self._api.ended() => bail!("kube-apiserver ended: {}", self._api.log()),
                answer if started.elapsed() > READY_WITHIN => {
                    bail!("kube-apiserver is not ready: {answer:?}\n{}", self._api.log())
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

impl Provider for Server {
    fn send(&self, request: &Request) -> anyhow::Result<Response> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("connecting to kube-apiserver")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)?;
        exchange(StreamOwned::new(connection, stream), request)
    }

    fn credentials(&self, user: &str) -> Vec<(String, String)> {
        bearer(user)
    }
}

/// Certificates, keys and users. The server's certificate is its own authority.
fn write_files(dir: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    let certificate = params.self_signed(&key)?;
    let tokens = KeyPair::generate()?;
    let users = USERS.map(|(name, groups)| format!("token-of-{name},{name},uid-of-{name},\"{groups}\"\n"));
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("tokens.key", tokens.serialize_pem()),
        ("tokens.pub", tokens.public_key_pem()),
        ("tokens.csv", users.concat()),
    ] {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(certificate.der().clone())
}

fn tls(certificate: CertificateDer<'static>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A port that is free now and lies below those of outgoing connections, which could else take it before its server
/// starts. Two runs at once begin their search in different places.
fn free_port(which: u32) -> anyhow::Result<u16> {
    const LOWEST: u32 = 16384;
    const SPAN: u32 = 16000;
    let first = std::process::id().wrapping_mul(97).wrapping_add(which);
    let ports = (0..SPAN / 3).map(|step| LOWEST + (first + 3 * step) % SPAN);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).context("no free port")
}

/// A child that ends with this one.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        ensure!(program.is_file(), "there is no {}; `cargo xtask kube` makes it", program.display());
        let out = std::fs::File::create(log)?;
        // A test that is killed drops nothing; then the kernel ends the child.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {} by setpriv of util-linux", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
