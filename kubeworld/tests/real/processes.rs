//! A real kube-apiserver with its etcd, on loopback, for as long as a test runs.
//!
//! Not a cluster of the crate `world`: that one has controllers, and here, as on kubeworld alone, nothing happens but what
//! somebody asks for. It would also bring its own HTTP stack, ten times what this crate needs to build.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Where the programs are; `cargo xtask test` sets it.
const ASSETS_VARIABLE: &str = "ISOCHRONE_KUBE_ASSETS";

/// A start takes 6 s on two idle cores; on busy ones much longer.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// The directory of the programs.
pub(crate) fn assets() -> anyhow::Result<PathBuf> {
    let assets = std::env::var_os(ASSETS_VARIABLE).with_context(|| {
        format!(
            "{ASSETS_VARIABLE} is unset, so there is no kube-apiserver and no kubectl: run `cargo xtask test`, or \
             `{ASSETS_VARIABLE}=$(cargo xtask kube) cargo test`, or leave these tests out with `-- --skip real_`"
        )
    })?;
    Ok(PathBuf::from(assets))
}

/// etcd and kube-apiserver.
pub(crate) struct Processes {
    pub(crate) port: u16,
    // Dropped in this order: the API server before its store.
    api: Process,
    store: Process,
}

impl Processes {
    /// Starts both. `dir` is for what they keep, and has what they are told: `tokens.csv`, the key for tokens of service
    /// accounts as `tokens.key` and `tokens.pub`, and, where whoever asks is to trust one, a certificate as `server.crt`
    /// and `server.key`.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let assets = assets()?;
        let [store_port, peer_port, port] = free_ports()?;
        let file = |name: &str| dir.join(name).display().to_string();
        let store_url = format!("http://127.0.0.1:{store_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let store = [
            format!("--data-dir={}", file("etcd")),
            format!("--listen-client-urls={store_url}"),
            format!("--advertise-client-urls={store_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--unsafe-no-fsync=true".to_owned(),
            "--log-level=error".to_owned(),
        ];
        let mut api = vec![
            format!("--etcd-servers={store_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={port}"),
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
        ];
        if dir.join("server.crt").exists() {
            api.push(format!("--tls-cert-file={}", file("server.crt")));
            api.push(format!("--tls-private-key-file={}", file("server.key")));
        } else {
            // It makes its own there.
            api.push(format!("--cert-dir={}", file("certificates")));
        }
        let store = Process::start(&assets.join("etcd"), &store, &dir.join("etcd.log"))?;
        let api = Process::start(&assets.join("kube-apiserver"), &api, &dir.join("kube-apiserver.log"))?;
        Ok(Self { port, api, store })
    }

    /// Waits until the API server says that it is ready, as `ready` asks it; what that gives otherwise is why not. It tells
    /// nobody of itself when it is, so to ask again is all that can be done.
    ///
    /// # Errors
    /// When one of them ends, or is not ready in time; with the last that both said.
    pub(crate) fn until_ready(&mut self, ready: impl Fn() -> Result<(), String>) -> anyhow::Result<()> {
        const AGAIN_AFTER: Duration = Duration::from_millis(100);
        let started = Instant::now();
        while let Err(why) = ready() {
            ensure!(!self.store.ended(), "etcd ended: {}", self.log());
            ensure!(!self.api.ended(), "kube-apiserver ended: {}", self.log());
            ensure!(started.elapsed() < READY_WITHIN, "kube-apiserver is not ready: {why}\n{}", self.log());
            std::thread::sleep(AGAIN_AFTER);
        }
        Ok(())
    }

    fn log(&self) -> String {
        format!("etcd: {}\nkube-apiserver: {}", self.store.log(), self.api.log())
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
