//! The product in a world: hub, one agent for each member and one DNS node for each region, as processes of their own,
//! with the rights of the service accounts that it ships, joined by tokens. Never an administrator's rights.
//!
//! It knows the product only as a program with a command line, as its users do.
//!
//! Its processes run where the world has their sites, on the addresses that [`crate::network`] gives them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::World;
use crate::cluster::Cluster;
use crate::fleet::Member;
use crate::network::Place;
use crate::process::{Launch, Process, log_tail, stop};

/// Port of every DNS node; 53 would want rights.
pub const DNS_PORT: u16 = 5353;
/// Namespace of the hub's and the agents' own objects.
const NAMESPACE: &str = "isochrone-system";
/// How long a role may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// A hub that cannot be reached within this time after its start has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One process of the product.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The hub.
    Hub,
    /// The agent of a member, by the member's name.
    Agent(String),
    /// The DNS node of a member's region, by the member's name.
    Dns(String),
}

/// The product, running.
pub struct System {
    program: PathBuf,
    dir: PathBuf,
    launches: BTreeMap<Role, Launch>,
    running: BTreeMap<Role, Process>,
    addresses: BTreeMap<Role, Ipv4Addr>,
}

impl System {
    /// Installs the product into `world` from the program `isochrone`, and waits until every cluster is connected.
    ///
    /// # Errors
    /// When a step fails; the text holds what the step said.
    pub async fn start(world: &World, program: &Path) -> anyhow::Result<Self> {
        Self::start_with(world, program, &[]).await
    }

    /// The same, with further arguments of `isochrone hub`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(world: &World, program: &Path, hub_args: &[&str]) -> anyhow::Result<Self> {
        let dir = world.dir().join("isochrone");
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let program = program.to_owned();
        let (launches, running, addresses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut system = Self { program, dir, launches, running, addresses };
        system.install_hub(world, hub_args).await?;
        for (index, member) in world.members.iter().enumerate() {
            system.install_member(world, index, member).await?;
        }
        let connected = ["wait", "--for=condition=Connected", "clusters.isochrone.dev", "--all", "--timeout=60s"];
        kubectl(&world.hub, &connected, "").await.map_err(|error| error.context(system.tails()))?;
        Ok(system)
    }

    async fn install_hub(&mut self, world: &World, more: &[&str]) -> anyhow::Result<()> {
        let hub = &world.hub;
        self.apply(hub, &["crds"]).await?;
        kubectl(hub, &["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await?;
        self.apply(hub, &["manifests", "hub"]).await?;
        // The rig runs the role as a process: the shipped Deployment would wait for an image for ever.
        kubectl(hub, &["delete", "-n", NAMESPACE, "deployment", "isochrone-hub"], "").await?;
        let kubeconfig = hub.kubeconfig_for_service_account(NAMESPACE, "isochrone-hub").await?;
        let place = world.places.hub();
        let address = place.address;
        let tunnel = format!("{address}:7443");
        let args = [
            "hub",
            "--kubeconfig",
            text(&kubeconfig)?,
            "--listen",
            &tunnel,
            "--advertise",
            &tunnel,
            "--admin",
            &format!("{address}:7480"),
            "--region",
            &world.hub_region,
        ];
        self.launch(Role::Hub, place, &[&args, more].concat())?;
        // Its authority must be there before tokens can be made.
        let wait = ["wait", "-n", NAMESPACE, "--for=create", "--timeout=30s", "configmap/isochrone-trust"];
        kubectl(hub, &wait, "").await.map_err(|error| error.context(self.tails()))?;
        Ok(())
    }

    async fn install_member(&mut self, world: &World, index: usize, member: &Member) -> anyhow::Result<()> {
        let name = member.spec.name.clone();
        let admin = text(world.hub.admin_kubeconfig())?.to_owned();
        self.apply(&member.cluster, &["manifests", "agent"]).await?;
        kubectl(&member.cluster, &["delete", "-n", NAMESPACE, "deployment", "isochrone-agent"], "").await?;
        let place = format!("{},{}", member.spec.latitude, member.spec.longitude);
        let add =
            ["cluster", "add", &name, "--region", &member.spec.region, "--location", &place, "--kubeconfig", &admin];
        let token = token(&self.isochrone(&add).await?)?;
        // Doors have HTTP alone, on a port of the world's choice.
        let probe = format!(r#"{{"spec":{{"probe":{{"port":{}}}}}}}"#, member.ingress.address().port());
        kubectl(&world.hub, &["patch", "cluster.isochrone.dev", &name, "--type=merge", "-p", &probe], "").await?;
        let kubeconfig = member.cluster.kubeconfig_for_service_account(NAMESPACE, "isochrone-agent").await?;
        let place = world.places.agent(index)?;
        let admin_port = format!("{}:7481", place.address);
        let args = ["agent", "--kubeconfig", text(&kubeconfig)?, "--join", &token, "--admin", &admin_port];
        self.launch(Role::Agent(name.clone()), place, &args)?;

        let node = format!("ns-{name}");
        let add = ["dns", "add", &node, "--region", &member.spec.region, "--kubeconfig", &admin];
        let token = self::token(&self.isochrone(&add).await?)?;
        let place = world.places.dns(index)?;
        let address = place.address;
        let state = self.dir.join(&node);
        let args = [
            "dns",
            "--join",
            &token,
            "--state",
            text(&state)?,
            "--listen",
            &format!("{address}:{DNS_PORT}"),
            "--admin",
            &format!("{address}:7482"),
            "--peering",
            &format!("{address}:7444"),
        ];
        self.launch(Role::Dns(name), place, &args)
    }

    /// Where a DNS node answers.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn dns(&self, member: &str) -> anyhow::Result<SocketAddr> {
        let address = self.addresses.get(&Role::Dns(member.to_owned())).context("no DNS node of that name")?;
        Ok(SocketAddr::new((*address).into(), DNS_PORT))
    }

    /// The admin port of a DNS node, `host:port`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn dns_admin(&self, member: &str) -> anyhow::Result<String> {
        Ok(format!("{}:7482", self.dns(member)?.ip()))
    }

    /// An argument that a role was started with, by its name, such as `--join`.
    pub fn argument(&self, role: &Role, name: &str) -> Option<&str> {
        let mut args = self.launches.get(role)?.args.iter();
        args.find(|arg| *arg == name)?;
        args.next().map(String::as_str)
    }

    /// Waits until every DNS node answers for `host`, a bounded time.
    ///
    /// # Errors
    /// When one does not; the text is what it said last.
    pub async fn until_steered(&self, host: &str) -> anyhow::Result<()> {
        /// Between two questions; a process of its own asks each.
        const AGAIN: Duration = Duration::from_millis(200);
        let nodes = self.running.keys().filter_map(|role| match role {
            Role::Dns(member) => Some(member.as_str()),
            Role::Hub | Role::Agent(_) => None,
        });
        for node in nodes {
            let admin = self.dns_admin(node)?;
            let ask = ["explain", host, "--client", "192.0.2.1", "--node", &admin];
            let asked = std::time::Instant::now();
            while let Err(error) = self.isochrone(&ask).await {
                if asked.elapsed() > PATIENCE {
                    return Err(error.context(format!("the DNS node near {node} does not answer for {host}")));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    /// The program that runs here.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Kills a role without a word.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, role: &Role) -> anyhow::Result<()> {
        let process = self.running.remove(role).with_context(|| format!("{role:?} does not run"))?;
        process.signal(Signal::KILL);
        Ok(())
    }

    /// Asks a role to end (SIGTERM), as whoever upgrades it does, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run, or had to be killed.
    pub async fn end(&mut self, role: &Role) -> anyhow::Result<()> {
        let process = self.running.remove(role).with_context(|| format!("{role:?} does not run"))?;
        ensure!(stop(&process, GOODBYE).await, "{role:?} did not end within {} s", GOODBYE.as_secs());
        Ok(())
    }

    /// Starts a role again, as it was started first.
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn revive(&mut self, role: &Role) -> anyhow::Result<()> {
        ensure!(!self.running.contains_key(role), "{role:?} runs");
        let launch = self.launches.get(role).with_context(|| format!("{role:?} was never started"))?;
        self.running.insert(role.clone(), Process::start(launch)?);
        Ok(())
    }

    /// Kills all DNS nodes, takes from their disks what they kept of clusters' health, and starts them again: as nodes
    /// that never saw a cluster fail. Snapshot and identity stay.
    ///
    /// # Errors
    /// When a file cannot be removed, or a node not be started.
    pub fn start_dns_afresh(&mut self) -> anyhow::Result<()> {
        let nodes: Vec<Role> = self.launches.keys().filter(|role| matches!(role, Role::Dns(_))).cloned().collect();
        for node in &nodes {
            self.running.remove(node);
            let state = self.argument(node, "--state").context("a node has a state directory")?;
            match std::fs::remove_file(Path::new(state).join("health")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing what {node:?} kept of clusters' health"));
                }
                Ok(()) | Err(_) => {}
            }
        }
        nodes.iter().try_for_each(|node| self.revive(node))
    }

    /// Starts a role that has ended, with the token of a printed line instead of its first one.
    ///
    /// # Errors
    /// When it runs, was started without a token, or there is none in the line.
    pub fn join_anew(&mut self, role: &Role, line: &str) -> anyhow::Result<()> {
        let token = token(line)?;
        let launch = self.launches.get_mut(role).with_context(|| format!("{role:?} was never started"))?;
        let mut args = launch.args.iter_mut().skip_while(|arg| *arg != "--join");
        *args.nth(1).with_context(|| format!("{role:?} needs no token"))? = token;
        self.revive(role)
    }

    /// The metrics of a DNS node, as text.
    ///
    /// # Errors
    /// When its admin port does not answer.
    pub async fn dns_metrics(&self, member: &str) -> anyhow::Result<String> {
        let admin = self.dns_admin(member)?;
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(&admin).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        tokio::time::timeout(PATIENCE, ask).await.with_context(|| format!("{admin} hangs"))?
    }

    /// Process number of a role that runs.
    pub fn pid(&self, role: &Role) -> Option<u32> {
        self.running.get(role).map(Process::pid)
    }

    /// Ends everything; agents and nodes first, so that they can say goodbye. Returns those that had to be killed.
    pub async fn stop(mut self) -> Vec<Role> {
        let hub = self.running.remove_entry(&Role::Hub);
        let ended = async |(role, process): (&Role, &Process)| (!stop(process, GOODBYE).await).then(|| role.clone());
        let mut killed = futures::future::join_all(self.running.iter().map(ended)).await;
        if let Some((role, process)) = &hub {
            killed.push(ended((role, process)).await);
        }
        killed.into_iter().flatten().collect()
    }

    /// Where a role listens; which ports, its own documentation says.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn address(&self, role: &Role) -> anyhow::Result<Ipv4Addr> {
        self.addresses.get(role).copied().with_context(|| format!("there is no {role:?}"))
    }

    /// Everything that a role has written, over all its starts.
    ///
    /// # Errors
    /// When it was never started, or its log cannot be read.
    pub fn log(&self, role: &Role) -> anyhow::Result<String> {
        let launch = self.launches.get(role).with_context(|| format!("{role:?} was never started"))?;
        let bytes = std::fs::read(&launch.log).with_context(|| format!("reading {}", launch.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines that every role wrote, for an error.
    pub fn tails(&self) -> String {
        self.launches.values().map(|launch| log_tail(&launch.log)).collect::<Vec<_>>().join("\n")
    }

    fn launch(&mut self, role: Role, place: Place, args: &[&str]) -> anyhow::Result<()> {
        let (name, file) = match &role {
            Role::Hub => ("hub", "hub".to_owned()),
            Role::Agent(member) => ("agent", format!("agent-{member}")),
            Role::Dns(member) => ("dns", format!("dns-{member}")),
        };
        let launch = Launch {
            name,
            program: self.program.clone(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            log: self.dir.join(format!("{file}.log")),
            home: self.dir.clone(),
            namespace: place.namespace,
        };
        self.running.insert(role.clone(), Process::start(&launch)?);
        self.addresses.insert(role.clone(), place.address);
        self.launches.insert(role, launch);
        Ok(())
    }

    /// `isochrone ARGS | kubectl apply --server-side -f -`
    async fn apply(&self, cluster: &Cluster, args: &[&str]) -> anyhow::Result<()> {
        let manifests = self.isochrone(args).await?;
        kubectl(cluster, &["apply", "--server-side", "-f", "-"], &manifests).await?;
        Ok(())
    }

    /// Runs the program once; its standard output.
    ///
    /// # Errors
    /// When it fails; the text is what it said.
    pub async fn isochrone(&self, args: &[&str]) -> anyhow::Result<String> {
        let run = Command::new(&self.program).args(args).kill_on_drop(true).output();
        let output =
            tokio::time::timeout(PATIENCE, run).await.with_context(|| format!("isochrone {args:?} hangs"))??;
        said(&format!("isochrone {}", args.join(" ")), output)
    }
}

/// Runs kubectl as administrator; its standard output.
///
/// # Errors
/// When it fails; the text is what it said.
pub async fn kubectl(cluster: &Cluster, args: &[&str], input: &str) -> anyhow::Result<String> {
    let output = cluster.kubectl_with_input(args, input.as_bytes()).await?;
    said(&format!("kubectl {} in {}", args.join(" "), cluster.name()), output)
}

fn said(what: &str, output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The token in a printed line to run.
fn token(line: &str) -> anyhow::Result<String> {
    let token = line.split_whitespace().skip_while(|word| *word != "--join").nth(1);
    token.map(str::to_owned).with_context(|| format!("there is no token in {line:?}"))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))
}
