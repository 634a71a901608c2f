//! How long until users are sent elsewhere: a scene with the product in it, faults, and what the DNS nodes answered.
//!
//! [`run`] makes one [`Scenario`] happen in a [`Scene`] and returns a [`Run`]: nothing is judged here, so that a bench
//! prints it and a test asserts on it. [`Scene::restore`] undoes it and waits until all is well again.
//!
//! The scene is the demo's app on three members, each a site of its own with a DNS node. The one that fails is the
//! *victim*; users are asked for by the subnets of [`CLIENTS`], one place near each member. A node *lives* when users can
//! reach it: those at a site whose packets vanish do not count, that of a member whose processes are killed does.
//!
//! Deliberately absent: resolvers that cache. What users see beyond the answer is its TTL, which is recorded.

mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Serialize, Serializer};

use crate::assets::Assets;
use crate::cluster::Component;
use crate::demo::{CLIENTS, HOST, MANIFESTS};
use crate::fleet::{World, WorldSpec};
use crate::network::{Cut, HUB, Network};
use crate::system::{Role, System, kubectl};
pub use watcher::{Change, Seen, View, Watcher};

/// Longer than any bar: a target that is not gone by then has not been removed.
const GIVE_UP: Duration = Duration::from_secs(40);
/// After the answers moved: what moves again, moves within this time or is another story.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// Where nothing is to move: twice the ten seconds of silence after which a domain counts as failed.
const STILL: Duration = Duration::from_secs(20);
/// How long a flapping site is gone and there again.
const FLAP_EVERY: Duration = Duration::from_secs(3);
/// How often it flaps: a minute of it.
const FLAPS: u32 = 10;
/// How long the answers must have been as they should before the next run: the first probes, each second, are over.
const SETTLED: Duration = Duration::from_secs(5);
/// How long a restored scene may take until it is well. Agents come back with growing pauses.
const WELL_WITHIN: Duration = Duration::from_secs(180);

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// The victim's agent, ingress and API server are killed: its sockets refuse.
    Crash,
    /// The victim's packets vanish.
    BlackHole,
    /// The victim's packets vanish, and the hub is at its site.
    HubsRegion,
    /// The victim's packets vanish, and at the same moment those of the hub, which is at a place of its own.
    RegionAndHub,
    /// What the victim sends vanishes.
    SendsNothing,
    /// What is sent to the victim vanishes.
    HearsNothing,
    /// Packets between hub and victim vanish, and no others.
    CutFromHub,
    /// The victim's packets vanish for three seconds and pass for three, for a minute.
    Flapping,
    /// The hub is killed, and nothing else.
    HubKilled,
    /// The owner drains the victim: planned, and a measure of how the answers are measured.
    Drain,
}

/// What the answers should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The victim's users are sent elsewhere.
    Moves,
    /// Nothing moves.
    Still,
    /// They move at most this often.
    AtMost(usize),
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Crash,
        Self::BlackHole,
        Self::HubsRegion,
        Self::RegionAndHub,
        Self::SendsNothing,
        Self::HearsNothing,
        Self::CutFromHub,
        Self::Flapping,
        Self::HubKilled,
        Self::Drain,
    ];

    /// A short name; those of one kind begin with one letter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "a",
            Self::BlackHole => "b",
            Self::HubsRegion => "c1",
            Self::RegionAndHub => "c2",
            Self::SendsNothing => "d1",
            Self::HearsNothing => "d2",
            Self::CutFromHub => "d3",
            Self::Flapping => "e",
            Self::HubKilled => "f",
            Self::Drain => "drain",
        }
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Crash => "agent, ingress and apiserver killed",
            Self::BlackHole => "black hole",
            Self::HubsRegion => "black hole of the hub's region",
            Self::RegionAndHub => "black hole, and of the hub elsewhere",
            Self::SendsNothing => "what it sends vanishes",
            Self::HearsNothing => "what is sent to it vanishes",
            Self::CutFromHub => "cut from the hub alone",
            Self::Flapping => "flapping every 3 s for a minute",
            Self::HubKilled => "hub killed alone",
            Self::Drain => "drained by its owner",
        }
    }

    /// What the answers should do.
    pub const fn expected(self) -> Expected {
        match self {
            Self::Crash
            | Self::BlackHole
            | Self::HubsRegion
            | Self::RegionAndHub
            | Self::SendsNothing
            | Self::HearsNothing
            | Self::Drain => Expected::Moves,
            Self::CutFromHub | Self::HubKilled => Expected::Still,
            Self::Flapping => Expected::AtMost(2),
        }
    }

    /// Whether it needs the hub at the victim's site; the others need it at its own.
    pub const fn hub_beside_victim(self) -> bool {
        matches!(self, Self::HubsRegion)
    }

    /// Whether users reach the DNS node at the victim's site.
    const fn victims_node_lives(self) -> bool {
        match self {
            Self::Crash | Self::CutFromHub | Self::HubKilled | Self::Drain => true,
            Self::BlackHole
            | Self::HubsRegion
            | Self::RegionAndHub
            | Self::SendsNothing
            | Self::HearsNothing
            | Self::Flapping => false,
        }
    }
}

/// A world in which something may fail.
pub struct Scene {
    /// Three members in network namespaces.
    pub world: World,
    /// The product in it.
    pub system: System,
    victim: String,
    hub_beside_victim: bool,
}

impl Scene {
    /// Starts a world in this slot and the program `isochrone` in it, delivers the demo's app, and waits until all
    /// nodes send everybody to the nearest member. The victim is the first member.
    ///
    /// # Errors
    /// When a step fails, or the rights for network namespaces are missing.
    pub async fn start(assets: &Assets, program: &Path, slot: u8, hub_beside_victim: bool) -> anyhow::Result<Self> {
        let spec = WorldSpec { slot, network: Network::Namespaces, ..WorldSpec::new() };
        let victim = spec.members.first().context("a member")?.name.clone();
        let spec = WorldSpec { hub_beside: hub_beside_victim.then(|| victim.clone()), ..spec };
        let world = World::start(assets, spec).await?;
        let system = System::start(&world, program).await?;
        kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], MANIFESTS).await?;
        let scene = Self { world, system, victim, hub_beside_victim };
        scene.well().await?;
        Ok(scene)
    }

    /// The member that fails.
    pub fn victim(&self) -> &str {
        &self.victim
    }

    /// Undoes whatever a scenario did, and waits until all is well: clusters connected, the app ready, and every node
    /// sends everybody to the nearest member, for some seconds.
    ///
    /// The DNS nodes are started again, and forget who failed: a node trusts a member that failed often only after a long
    /// time, and a run must not measure the run before.
    ///
    /// # Errors
    /// When it does not become well.
    pub async fn restore(&mut self) -> anyhow::Result<()> {
        self.world.faults()?.heal_all()?;
        if self.system.pid(&Role::Hub).is_none() {
            self.system.revive(&Role::Hub)?;
        }
        let agent = Role::Agent(self.victim.clone());
        let member = self.world.member_mut(&self.victim).context("the victim")?;
        if !member.cluster.processes().contains_key(&Component::ApiServer) {
            member.cluster.revive(Component::ApiServer).await?;
        }
        member.ingress.revive().await?;
        if self.system.pid(&agent).is_none() {
            self.system.revive(&agent)?;
        }
        self.drain(false).await?;
        self.system.start_dns_afresh()?;
        self.well().await
    }

    /// Ends everything in order.
    pub async fn stop(self) {
        self.system.stop().await;
        self.world.stop().await;
    }

    async fn well(&self) -> anyhow::Result<()> {
        let hub = &self.world.hub;
        let timeout = format!("--timeout={}s", WELL_WITHIN.as_secs());
        let connected = ["wait", "--for=condition=Connected", "clusters.isochrone.dev", "--all", &timeout];
        let ready = ["wait", "-n", "shop", "--for=condition=Ready", &timeout, "apps.isochrone.dev/shop"];
        for wait in [&connected[..], &ready] {
            if let Err(error) = kubectl(hub, wait, "").await {
                // The statuses say in which cluster, and why.
                let what = ["get", "-A", "-o", "yaml", "clusters.isochrone.dev,apps.isochrone.dev"];
                let statuses = kubectl(hub, &what, "").await.unwrap_or_else(|error| format!("{error:#}"));
                return Err(error.context(statuses).context(self.system.tails()));
            }
        }
        let nodes = self.nodes(&BTreeSet::new())?;
        let mut watcher = Watcher::start(&nodes, HOST, &users()?).await?;
        let nearest = |seen: &Seen| self.all_nearest(seen, &nodes);
        let started = Instant::now();
        loop {
            let left = WELL_WITHIN.saturating_sub(started.elapsed());
            if !watcher.until(left, nearest).await {
                let (seen, _) = watcher.finish().await;
                let error = anyhow::anyhow!("after {} s not all are sent to the nearest", WELL_WITHIN.as_secs());
                return Err(error.context(format!("{:?}", seen.now)).context(self.system.tails()));
            }
            if !watcher.until(SETTLED, |seen| !nearest(seen)).await {
                return Ok(());
            }
        }
    }

    fn all_nearest(&self, seen: &Seen, nodes: &BTreeMap<String, SocketAddr>) -> bool {
        self.world.members.iter().all(|member| {
            let users = &member.spec.name;
            nodes.keys().all(|node| {
                let answer = seen.now.get(&View { node: node.clone(), users: users.clone() });
                answer.is_some_and(|answer| answer.addresses == [IpAddr::V4(member.address)])
            })
        })
    }

    fn nodes(&self, without: &BTreeSet<&str>) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let members = self.world.members.iter().map(|member| &member.spec.name);
        let living = members.filter(|name| !without.contains(name.as_str()));
        living.map(|name| Ok((name.clone(), self.system.dns(name)?))).collect()
    }

    async fn drain(&self, drained: bool) -> anyhow::Result<()> {
        let cluster = format!("cluster.isochrone.dev/{}", self.victim);
        let patch = format!(r#"{{"spec":{{"drain":{drained}}}}}"#);
        // The hub's API server lives; its controllers may be a moment away.
        kubectl(&self.world.hub, &["patch", &cluster, "--type=merge", "-p", &patch], "").await.map(drop)
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        // First what users notice; each is gone when its line is done.
        let member = self.world.member_mut(&self.victim).context("the victim")?;
        member.ingress.kill();
        self.system.kill(&Role::Agent(self.victim.clone()))?;
        member.cluster.kill(Component::ApiServer).await
    }

    /// Returns the moment just before the fault.
    async fn inject(&mut self, scenario: Scenario) -> anyhow::Result<Instant> {
        let victim = self.victim.clone();
        let started = Instant::now();
        match scenario {
            Scenario::Crash => self.crash().await?,
            Scenario::BlackHole | Scenario::HubsRegion => self.world.faults()?.cut(Cut::BlackHole(victim))?,
            Scenario::RegionAndHub => {
                self.world.faults()?.cut(Cut::BlackHole(victim))?;
                self.world.faults()?.cut(Cut::BlackHole(HUB.to_owned()))?;
            }
            Scenario::SendsNothing => self.world.faults()?.cut(Cut::From(victim))?,
            Scenario::HearsNothing => self.world.faults()?.cut(Cut::To(victim))?,
            Scenario::CutFromHub => self.world.faults()?.cut(Cut::Between(HUB.to_owned(), victim))?,
            Scenario::Flapping => {
                let hole = Cut::BlackHole(victim);
                for _ in 0..FLAPS {
                    self.world.faults()?.cut(hole.clone())?;
                    tokio::time::sleep(FLAP_EVERY).await;
                    self.world.faults()?.heal(&hole)?;
                    tokio::time::sleep(FLAP_EVERY).await;
                }
            }
            Scenario::HubKilled => self.system.kill(&Role::Hub)?,
            Scenario::Drain => self.drain(true).await?,
        }
        Ok(started)
    }
}

/// What the nodes that live answered during one scenario. Times count from the moment just before the fault.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// [`Scenario::name`].
    pub scenario: &'static str,
    /// The member that failed.
    pub victim: String,
    /// Its address.
    pub address: IpAddr,
    /// The DNS nodes that were asked.
    pub nodes: Vec<String>,
    /// Until the last node had another address in its answer for the victim's users.
    #[serde(serialize_with = "optional_seconds")]
    pub demoted: Option<Duration>,
    /// Until the victim's address had gone from the answers of the last node for its users, to stay away as long as was
    /// watched.
    #[serde(serialize_with = "optional_seconds")]
    pub absent: Option<Duration>,
    /// How often the addresses for the victim's users changed, at the node where they did most often.
    pub moves: usize,
    /// How often the addresses for all other users changed, at all nodes together.
    pub moves_of_others: usize,
    /// Every change of an answer after the fault.
    pub changes: Vec<Recorded>,
    /// How long was watched after the fault.
    #[serde(serialize_with = "seconds")]
    pub watched: Duration,
    /// Answers a second, of the view with the fewest.
    pub polls_per_second: f64,
    /// The longest time between two answers of a view; no time here is known better than that.
    #[serde(serialize_with = "seconds")]
    pub longest_gap: Duration,
    /// Questions that a living node did not answer.
    pub unanswered: u64,
}

/// A change of an answer.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// When.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// The DNS node.
    pub node: String,
    /// The member that is nearest to the users.
    pub users: String,
    /// The response code.
    pub code: u16,
    /// The addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// Of the first record.
    pub ttl: Option<u32>,
}

/// Makes `scenario` happen once and watches what is answered. The scene is left as the fault made it;
/// [`Scene::restore`] comes next.
///
/// # Errors
/// When the scene is of the wrong kind or not well at the start, or the fault cannot be made.
pub async fn run(scene: &mut Scene, scenario: Scenario) -> anyhow::Result<Run> {
    ensure!(
        scene.hub_beside_victim == scenario.hub_beside_victim(),
        "the hub is at the wrong place for scenario {}",
        scenario.name()
    );
    let dead: BTreeSet<&str> =
        if scenario.victims_node_lives() { BTreeSet::new() } else { BTreeSet::from([scene.victim()]) };
    let nodes = scene.nodes(&dead)?;
    let users = users()?;
    let address = IpAddr::V4(scene.world.member(scene.victim()).context("the victim")?.address);
    let mut watcher = Watcher::start(&nodes, HOST, &users).await?;
    ensure!(
        watcher.until(GIVE_UP, |seen| scene.all_nearest(seen, &nodes)).await,
        "not everybody is sent to the nearest at the start"
    );
    let fault = scene.inject(scenario).await?;
    let moved = |seen: &Seen| {
        nodes.keys().all(|node| {
            let answer = seen.now.get(&View { node: node.clone(), users: scene.victim.clone() });
            answer.is_some_and(|answer| !answer.addresses.contains(&address))
        })
    };
    match scenario.expected() {
        Expected::Moves => {
            watcher.until(GIVE_UP, moved).await;
            watcher.go_on(AFTERWARDS).await;
        }
        Expected::Still => watcher.go_on(STILL).await,
        Expected::AtMost(_) => watcher.go_on(AFTERWARDS).await,
    }
    let watched = fault.elapsed();
    let (seen, total) = watcher.finish().await;
    Ok(summary(scenario, scene.victim(), address, &nodes, &seen, fault, watched, total))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one record, each known to the one caller alone")]
fn summary(
    scenario: Scenario,
    victim: &str,
    address: IpAddr,
    nodes: &BTreeMap<String, SocketAddr>,
    seen: &Seen,
    fault: Instant,
    watched: Duration,
    total: Duration,
) -> Run {
    let mut at_node: Vec<Node> = nodes.keys().map(|node| Node::of(node, victim, address, seen, fault)).collect();
    let moves = at_node.iter().map(|node| node.moves).max().unwrap_or_default();
    let others = seen.now.keys().filter(|view| view.users != victim);
    let moves_of_others = others.map(|view| moved_to(view, seen, fault).len()).sum();
    let after = seen.changes.iter().filter(|change| change.at >= fault);
    let changes = after.map(|change| Recorded {
        at: change.at - fault,
        node: change.view.node.clone(),
        users: change.view.users.clone(),
        code: change.answer.code,
        addresses: change.answer.addresses.clone(),
        ttl: change.answer.ttl,
    });
    let fewest = seen.now.keys().map(|view| seen.answered.get(view).copied().unwrap_or_default()).min();
    // Far below 2^32, and the whole of it: a run is a minute long.
    let fewest = u32::try_from(fewest.unwrap_or_default()).unwrap_or(u32::MAX);
    // The last of all nodes counts; when one never does, none is told.
    let (demoted, absent) = at_node.drain(..).fold((Some(Duration::ZERO), Some(Duration::ZERO)), |worst, node| {
        (worst.0.zip(node.demoted).map(|(a, b)| a.max(b)), worst.1.zip(node.absent).map(|(a, b)| a.max(b)))
    });
    Run {
        scenario: scenario.name(),
        victim: victim.to_owned(),
        address,
        nodes: nodes.keys().cloned().collect(),
        demoted,
        absent,
        moves,
        moves_of_others,
        changes: changes.collect(),
        watched,
        polls_per_second: f64::from(fewest) / total.as_secs_f64(),
        longest_gap: seen.longest_gap,
        unanswered: seen.unanswered.values().sum(),
    }
}

/// What one node told the victim's users.
struct Node {
    demoted: Option<Duration>,
    absent: Option<Duration>,
    moves: usize,
}

impl Node {
    fn of(node: &str, victim: &str, address: IpAddr, seen: &Seen, fault: Instant) -> Self {
        let view = View { node: node.to_owned(), users: victim.to_owned() };
        let moved = moved_to(&view, seen, fault);
        let demoted = moved.iter().find(|(_, addresses)| addresses.iter().any(|other| *other != address));
        // From the first of the last answers without it.
        let without = moved.iter().rev().take_while(|(_, addresses)| !addresses.contains(&address)).last();
        Self { demoted: demoted.map(|(at, _)| *at), absent: without.map(|(at, _)| *at), moves: moved.len() }
    }
}

/// The sets of addresses that a view changed to after the fault, with the time since; a new TTL alone is none.
fn moved_to<'a>(view: &View, seen: &'a Seen, fault: Instant) -> Vec<(Duration, &'a [IpAddr])> {
    let mut moved = vec![];
    let mut last: Option<&[IpAddr]> = None;
    for change in seen.changes.iter().filter(|change| change.view == *view) {
        let addresses = change.answer.addresses.as_slice();
        if change.at >= fault && last.is_some_and(|last| last != addresses) {
            moved.push((change.at - fault, addresses));
        }
        last = Some(addresses);
    }
    moved
}

/// One address in each place, by the member that is nearest.
fn users() -> anyhow::Result<BTreeMap<String, IpAddr>> {
    CLIENTS.into_iter().map(|(member, client)| Ok((member.to_owned(), client.parse()?))).collect()
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn optional_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

#[cfg(test)]
mod tests;
