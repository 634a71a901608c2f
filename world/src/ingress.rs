//! The door of a cluster ([`::ingress`]) as a process.
//!
//! It is a process of its own, the program `world-ingress`, so that it dies as a process does ([`Ingress::kill`] is a
//! SIGKILL) and lives in the network of its site.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::ingress::{Door, Named};
use anyhow::{Context, bail};

use crate::clients;
use crate::cluster::Cluster;
use crate::process::{self, Launch, Process, log_tail};

pub use ::ingress::HOST_ANNOTATION;

/// The file name of the program.
const PROGRAM: &str = "world-ingress";
/// How long a door may take to open. It takes a moment; three clusters that start at once on two busy cores take long.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Where the door is and what it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressSpec {
    /// The `cluster` of its answers.
    pub cluster: String,
    /// The `region` of its answers.
    pub region: String,
    /// Where it listens, in the network namespace of its cluster.
    pub address: IpAddr,
    /// The port; 80 needs rights, 0 takes a free one.
    pub port: u16,
}

/// A running door; dropping it closes everything.
#[derive(Debug)]
pub struct Ingress {
    spec: IngressSpec,
    kubeconfig: PathBuf,
    launch: Launch,
    /// Written by the program once it listens.
    ready: PathBuf,
    process: Option<Process>,
}

impl Ingress {
    /// Opens the door of a cluster, with an administrator's rights.
    ///
    /// # Errors
    /// When the program is not built, or the address is taken or not allowed.
    pub async fn start(cluster: &Cluster, spec: IngressSpec) -> anyhow::Result<Self> {
        let launch = Launch {
            name: PROGRAM,
            program: program()?,
            args: vec![],
            log: cluster.dir().join("log/ingress.log"),
            home: cluster.dir().to_owned(),
            namespace: cluster.place().namespace.clone(),
        };
        let ready = cluster.dir().join("ingress.ready");
        let kubeconfig = cluster.admin_kubeconfig().to_owned();
        let mut ingress = Self { spec, kubeconfig, launch, ready, process: None };
        ingress.revive().await?;
        Ok(ingress)
    }

    /// Where it listens, or listened before it was killed.
    pub fn address(&self) -> SocketAddr {
        (self.spec.address, self.spec.port).into()
    }

    /// Process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().filter(|process| process.is_running()).map(Process::pid)
    }

    /// Kills it (SIGKILL) and waits until it is gone: afterwards the address refuses connections. The cluster lives on.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Opens a killed door again at the same address. One that is open stays as it is.
    ///
    /// # Errors
    /// When the address is taken, or the API server is away, without which a new door knows nothing.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        if self.pid().is_some() {
            return Ok(());
        }
        // That of an earlier process would be taken for the word of this one.
        match std::fs::remove_file(&self.ready) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", self.ready.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let text = |path: &Path| path.display().to_string();
        self.launch.args = vec![
            format!("--kubeconfig={}", text(&self.kubeconfig)),
            format!("--cluster={}", self.spec.cluster),
            format!("--region={}", self.spec.region),
            format!("--listen={}", self.address()),
            format!("--ready={}", text(&self.ready)),
        ];
        let process = Process::start(&self.launch)?;
        let address = self.opened(&process).await.with_context(|| log_tail(&self.launch.log))?;
        // Port 0 is settled now; a revived door must have the same one.
        self.spec.port = address.port();
        self.process = Some(process);
        Ok(())
    }

    async fn opened(&self, process: &Process) -> anyhow::Result<SocketAddr> {
        /// Between two looks for the file.
        const AGAIN: Duration = Duration::from_millis(20);
        let said = async {
            loop {
                if let Ok(text) = std::fs::read_to_string(&self.ready) {
                    return text.parse().with_context(|| format!("reading {text:?}"));
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let mut exit = process.exit();
        tokio::select! {
            address = said => address,
            how = process::ended(&mut exit) => bail!("the ingress of {} ended ({how})", self.spec.cluster),
            () = tokio::time::sleep(OPEN_WITHIN) => {
                bail!("the ingress of {} did not open within {} s", self.spec.cluster, OPEN_WITHIN.as_secs())
            }
        }
    }
}

/// The program as cargo built it, in the same directory as this program, or above it when this is a test.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the path of this program")?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(PROGRAM)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {PROGRAM} beside {}: run `cargo build -p world`", own.display()))
}

/// What the program does: it opens the door of the cluster behind a kubeconfig, after its objects were read once, writes
/// the address to the file `ready`, and serves for ever.
///
/// # Errors
/// When the kubeconfig is of no use, or the address is taken or not allowed.
pub async fn serve(kubeconfig: &Path, spec: IngressSpec, ready: &Path) -> anyhow::Result<()> {
    let client = clients::by_file(kubeconfig).await?;
    let wanted = SocketAddr::from((spec.address, spec.port));
    let named = Named { cluster: spec.cluster.clone(), region: spec.region };
    let door = Door::new(&client, named).await.with_context(|| format!("reading the objects of {}", spec.cluster))?;
    // It sets SO_REUSEADDR, so that a revived door does not wait for old connections to expire.
    let listener = tokio::net::TcpListener::bind(wanted).await;
    let listener = listener.with_context(|| format!("opening the ingress of {} at {wanted}", spec.cluster))?;
    let address = listener.local_addr().context("asking for the address")?;
    // Whole or not at all: who waits for it may look at any time.
    let draft = ready.with_extension("draft");
    std::fs::write(&draft, address.to_string()).with_context(|| format!("writing {}", draft.display()))?;
    std::fs::rename(&draft, ready).with_context(|| format!("writing {}", ready.display()))?;
    door.serve(listener, std::future::pending()).await.context("serving")
}
