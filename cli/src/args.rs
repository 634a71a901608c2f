//! What people type. Parsed here, turned into each role's own configuration by its command.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Deploys apps to regional Kubernetes clusters that only dial out, and steers each user by DNS to the nearest one.
#[derive(Parser, Debug)]
#[command(name = "isochrone", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Args {
    /// How logs look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "ISOCHRONE_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Say more on stderr; twice for everything. RUST_LOG, where set, wins.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start a whole world in this process, to try things in: a hub, three regions, DNS nodes and users, on loopback.
    Up(UpArgs),
    /// Stop and start regions of that world, cut them off from the hub, and see who is served where.
    World(WorldArgs),
    /// Print the CustomResourceDefinitions: isochrone crds | kubectl apply --server-side -f -
    Crds,
    /// Print what a role needs in its cluster: namespace, service account, least rights, deployment.
    Manifests(ManifestsArgs),
    /// Run the hub.
    Hub(HubArgs),
    /// Run the agent of one cluster; it dials the hub.
    Agent(AgentArgs),
    /// Run an authoritative DNS node; it dials the hub, and answers without it.
    Dns(DnsArgs),
    /// Add and remove clusters.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show clusters, apps and zones as the hub sees them.
    Status(StatusArgs),
    /// Say which cluster answers a client for a host, and why.
    Explain(ExplainArgs),
    /// Try the system in a virtual world; nothing real is touched.
    #[command(subcommand)]
    Sim(SimCommand),
}

#[derive(clap::Args, Debug)]
pub(crate) struct UpArgs {
    /// Describes another world: regions, users, latencies, faults by time.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Show regions, users and what happens as it changes, on the whole terminal.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct WorldArgs {
    /// Where the world is; another only where it was described with another network.
    #[arg(long, global = true, default_value_t = up::control::DEFAULT_WORLD, value_name = "HOST:PORT")]
    pub(crate) world: SocketAddr,
    #[command(subcommand)]
    pub(crate) command: WorldCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum WorldCommand {
    /// Show regions, and where the users of each city are sent.
    Status {
        /// How it looks.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Let a region fall silent: nothing goes in or out any more.
    Stop {
        /// Its cluster's name.
        region: String,
        /// Lead its users away first, so that no request fails.
        #[arg(long)]
        graceful: bool,
    },
    /// Let a stopped region return.
    Start {
        /// Its cluster's name.
        region: String,
    },
    /// Cut the way between a region and the hub.
    Partition {
        /// Its cluster's name.
        region: String,
    },
    /// Mend the way between a region and the hub.
    Heal {
        /// Its cluster's name.
        region: String,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct ManifestsArgs {
    /// The role.
    #[arg(value_enum)]
    pub(crate) role: Role,
    /// Namespace to install into.
    #[arg(long, default_value = NAMESPACE)]
    pub(crate) namespace: String,
    /// Container image of isochrone.
    #[arg(long, default_value = concat!("isochrone:", env!("CARGO_PKG_VERSION")))]
    pub(crate) image: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    Hub,
    Agent,
    Dns,
}

/// Where the hub and the agents keep what is theirs.
pub(crate) const NAMESPACE: &str = "isochrone-system";

/// How to reach a Kubernetes API server.
#[derive(clap::Args, Debug)]
pub(crate) struct KubeArgs {
    /// Kubeconfig file; left out: KUBECONFIG, ~/.kube/config, or the pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace of the hub's (or agent's) own objects.
    #[arg(long, default_value = NAMESPACE)]
    pub(crate) namespace: String,
}

#[derive(clap::Args, Debug)]
pub(crate) struct HubArgs {
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
    /// UDP address that agents and DNS nodes dial.
    #[arg(long, default_value = "0.0.0.0:7443", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// HOST:PORT under which they reach it; written into join tokens. Repeat for several.
    #[arg(long, required = true, value_name = "HOST:PORT")]
    pub(crate) advertise: Vec<String>,
    /// HTTP address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:7480", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Geo database in MaxMind format, or a list of places (lines of PREFIX, LATITUDE, LONGITUDE[, COUNTRY]), for every
    /// DNS node; repeat for several, of which the first that knows an address wins. What none knows, and without any:
    /// the built-in country table.
    #[arg(long, value_name = "FILE")]
    pub(crate) geoip: Vec<PathBuf>,
    /// The region it runs in: what dies together with it. Its word on silent agents then counts as that region's.
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// How long the certificates of agents and DNS nodes are good, such as 720h; each is renewed from a third of it on.
    #[arg(long, default_value = "2160h", value_parser = certificate_lifetime, value_name = "DURATION")]
    pub(crate) certificate_lifetime: Duration,
}

/// From a minute, below which a renewal that is tried again may come too late, to the ninety days that the Kubernetes
/// API allows its own at most (KEP-4317) and that we have by default.
fn certificate_lifetime(text: &str) -> Result<Duration, String> {
    let given = api::v1alpha1::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_secs(60)..=tunnel::identity::CLIENT_LIFETIME;
    if allowed.contains(&given) { Ok(given) } else { Err("write a duration from 1m to 2160h (90 days)".to_owned()) }
}

#[derive(clap::Args, Debug)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
    /// Token that `isochrone cluster add` printed; needed the first time only.
    #[arg(long, env = "ISOCHRONE_JOIN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) join: Option<String>,
    /// HTTP address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:7481", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
}

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DnsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DnsCommand>,
    #[command(flatten)]
    pub(crate) run: DnsRunArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DnsCommand {
    /// Print the one line to run on a new DNS node.
    Add(DnsAddArgs),
    /// Void every certificate of a node, for example after its disk was stolen; it may join again with a new token.
    Revoke(RevokeArgs),
    /// Remove a node for good: its word counts for nothing, nothing waits for it, and its certificates are void.
    Forget(RevokeArgs),
}

#[derive(clap::Args, Debug)]
pub(crate) struct DnsRunArgs {
    /// Token that `isochrone dns add` printed; needed the first time only.
    #[arg(long, env = "ISOCHRONE_JOIN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) join: Option<String>,
    /// Directory for its identity and the last good snapshot.
    #[arg(long, default_value = "/var/lib/isochrone/dns", value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Addresses to answer on, UDP and TCP; repeat for several.
    #[arg(long, default_value = "0.0.0.0:53", value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// UDP threads per address.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    pub(crate) threads: u16,
    /// HTTP address of /healthz, /readyz, /metrics and /explain.
    #[arg(long, default_value = "127.0.0.1:7482", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// UDP address where the other DNS nodes tell what they found.
    #[arg(long, default_value = "0.0.0.0:7444", value_name = "ADDR")]
    pub(crate) peering: SocketAddr,
    /// Which of this machine's addresses it speaks from to hub, fellows and clusters; left out, or for the other family:
    /// the one that the system chooses by the way there.
    #[arg(long, value_name = "IP")]
    pub(crate) source: Option<IpAddr>,
    /// HOST:PORT under which they reach it; left out: --peering, with the address that the hub sees for 0.0.0.0.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise_peering: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Create the Cluster object, if there is none, and print the one line to run in it.
    Add(ClusterAddArgs),
    /// Void every certificate of a cluster's agent; it holds still until it joins again with a new token.
    Revoke(RevokeArgs),
    /// Give a cluster up that never returns: nothing waits for it any more, and its agent, should it return, holds still.
    /// Nothing is deleted in it.
    Forget(ForgetArgs),
}

#[derive(clap::Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Its name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ForgetArgs {
    /// Name of the cluster.
    pub(crate) name: String,
    /// Also while its agent is connected: what runs there goes on, and nobody corrects or updates it any more.
    #[arg(long)]
    pub(crate) connected: bool,
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ClusterAddArgs {
    /// Name of the cluster, one DNS label.
    pub(crate) name: String,
    /// Its region: a cloud provider's name, or one of your own together with --location.
    #[arg(long)]
    pub(crate) region: String,
    /// Who runs it, such as aws, gcp, azure or onprem.
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// Where it lies, degrees north and east.
    #[arg(long, value_name = "LAT,LON", value_parser = location, allow_hyphen_values = true)]
    pub(crate) location: Option<(f64, f64)>,
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
}

fn location(text: &str) -> Result<(f64, f64), String> {
    let wrong = || format!("{text:?} is no place: write degrees north and east, such as 50.11,8.68");
    let (latitude, longitude) = text.split_once(',').ok_or_else(wrong)?;
    let degrees = |part: &str, limit: f64| part.trim().parse::<f64>().ok().filter(|d| d.abs() <= limit);
    degrees(latitude, 90.0).zip(degrees(longitude, 180.0)).ok_or_else(wrong)
}

#[derive(clap::Args, Debug)]
pub(crate) struct DnsAddArgs {
    /// Name of the node, one DNS label; it shows in NSID and in `isochrone status`.
    pub(crate) name: String,
    /// The region it lies in: what dies together with it.
    #[arg(long)]
    pub(crate) region: String,
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Subcommand, Debug)]
pub(crate) enum SimCommand {
    /// Break things at random, many times over, and watch every promise. A failing seed replays exactly.
    Fuzz(FuzzArgs),
}

#[derive(clap::Args, Debug)]
pub(crate) struct FuzzArgs {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub(crate) first: u64,
    /// Threads; left out: one for each processor.
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Run this seed alone.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first", "jobs"])]
    pub(crate) seed: Option<u64>,
    /// Print every line of what happens.
    #[arg(long, requires = "seed")]
    pub(crate) trace: bool,
    /// How the counts look.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The host.
    pub(crate) host: String,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    pub(crate) client: IpAddr,
    /// Admin address of a DNS node, which answers from what it serves now.
    #[arg(long, default_value = "127.0.0.1:7482", value_name = "HOST:PORT", conflicts_with = "state")]
    pub(crate) node: String,
    /// Admin address of the hub, which passes the question on to a DNS node that is connected to it.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["node", "state"])]
    pub(crate) hub: Option<String>,
    /// Name of the DNS node that the hub shall ask; left out: any.
    #[arg(long, value_name = "NAME", requires = "hub")]
    pub(crate) at: Option<String>,
    /// State directory of a DNS node: works with everything else down.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Suppose that a cluster were in this state, such as iad=down; repeat for several.
    #[arg(long, value_name = "CLUSTER=STATE")]
    pub(crate) assume: Vec<String>,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}
