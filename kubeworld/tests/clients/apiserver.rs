//! A real kube-apiserver with its etcd, for as long as a transcript is compared with it.
//!
//! Not the rig's cluster, which has controllers: here, as on kubeworld, nothing happens but what kubectl asks for.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rcgen::KeyPair;

use crate::terminal::{Terminal, assets};
use crate::world::TOKEN;

/// A start takes 6 s on two idle cores; on busy ones much longer.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// etcd and kube-apiserver.
pub(crate) struct Server {
    port: u16,
    // Dropped in this order: the API server before its store.
    _api: Process,
    _store: Process,
    _dir: tempfile::TempDir,
}

/// A terminal whose server is a new one, and ready.
pub(crate) fn with_terminal(version: Option<&str>) -> anyhow::Result<(Terminal, Server)> {
    let mut server = Server::start(&assets()?)?;
    let terminal = Terminal::new(version, &server.url(), None)?;
    server.until_ready(&terminal)?;
    Ok((terminal, server))
}

impl Server {
    fn start(assets: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = |name: &str| dir.path().join(name).display().to_string();
        let ports = free_ports()?;
        let [store_port, peer_port, port] = ports;
        let key = KeyPair::generate()?;
        std::fs::write(file("tokens.key"), key.serialize_pem())?;
        std::fs::write(file("tokens.pub"), key.public_key_pem())?;
        std::fs::write(file("tokens.csv"), format!("{TOKEN},admin,uid-of-admin,system:masters\n"))?;

        let store_url = format!("http://127.0.0.1:{store_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let store = Process::start(
            &assets.join("etcd"),
            &[
                format!("--data-dir={}", file("etcd")),
                format!("--listen-client-urls={store_url}"),
                format!("--advertise-client-urls={store_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
                "--unsafe-no-fsync=true".to_owned(),
                "--log-level=error".to_owned(),
            ],
            &dir.path().join("etcd.log"),
        )?;
        let api = Process::start(
            &assets.join("kube-apiserver"),
            &[
                format!("--etcd-servers={store_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--secure-port={port}"),
                // It makes its own certificate there, which the client here takes as it is.
                format!("--cert-dir={}", file("certificates")),
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
            &dir.path().join("kube-apiserver.log"),
        )?;
        Ok(Self { port, _api: api, _store: store, _dir: dir })
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn until_ready(&mut self, terminal: &Terminal) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let output = terminal.run(&["kubectl", "get", "--raw", "/readyz"], None)?;
            if output.code == 0 {
                return Ok(());
            }
            if self._api.ended() {
                bail!("kube-apiserver ended: {}", self._api.log());
            }
            ensure!(started.elapsed() < READY_WITHIN, "kube-apiserver is not ready: {output:?}\n{}", self._api.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Three ports that are free now and lie below those of outgoing connections, which could else take one before its
/// server starts. Runs at once begin their search in different places.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    const LOWEST: u32 = 16384;
    const SPAN: u32 = 16000;
    let first = std::process::id().wrapping_mul(97) ^ jiff::Timestamp::now().subsec_nanosecond().unsigned_abs();
    let ports = (0..SPAN).map(|step| LOWEST + (first % SPAN + step) % SPAN);
    let ports = ports.filter_map(|port| u16::try_from(port).ok());
    let free: Vec<u16> = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).take(3).collect();
    free.try_into().ok().context("no free ports")
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
