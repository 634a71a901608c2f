//! The world: every process, every cluster, the network between them, and the one queue of what will happen.
//!
//! Processes are thin shells in virtual time around the cores that the real shells drive: `controller::core::decide`,
//! `agent::core::Core` with `agent::members::Members` and `policies::plan`, `dns::health::Health` and
//! `policies::steering`, and `tunnel::outbox::Outbox` on every session. They choose nothing.
//!
//! * `hub`, `agent`, `node` — the three roles; what is durable survives their crashes, the rest does not.
//! * `link` — sessions: dialled by the edge, beats, silence, one payload of a topic under way, repeated until it arrives.
//! * `script` — what users and faults do, drawn from the seed. `settled` — what must hold when all is over.
//!
//! Absent on purpose: bytes of QUIC, certificates, and the reads of a real API server; they have tests of their own.

mod agent;
mod hub;
mod link;
mod node;
mod script;
mod settled;

use std::collections::BTreeMap;
use std::time::Duration;

use ::agent::members::Live;
use policies::failover::traffic::Probe;
use policies::geo::Coordinates;
use policies::id::{AppId, ClusterId, RegionId};
use policies::plan::{GroupKind, ObjectId};
use policies::time::Instant;

use crate::checkers::{Checker, Violation};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::fact::Fact;
use crate::network::{Network, Site, SiteId};
use crate::queue::Queue;
use crate::random::Random;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::wishes::{Wishes, ZONE};

use agent::Agent;
use hub::{Api, Hub};
use link::{Parcel, Party};
use node::Node;
pub use script::{Fault, Happening, Script, Wish};

/// Everything is put up within this time, undisturbed.
pub const SETTLED_AT: Duration = Duration::from_secs(20);
/// From here on there are no faults and no wishes any more.
pub const CALM_AT: Duration = Duration::from_secs(90);
/// So long after [`CALM_AT`] everything must be as it shall be: longer than an agent's longest pause between two runs.
pub const CONVERGED_WITHIN: Duration = Duration::from_secs(90);

/// What will happen.
#[derive(Debug)]
enum Event {
    /// A parcel leaves; the number counts attempts.
    Send(Parcel, u32),
    /// A parcel is there.
    Arrive(Parcel),
    /// A second went by on a process's clock.
    Tick(Party, u64),
    /// A quarter of one went by at a DNS node.
    Judge(usize, u64),
    /// An agent's core wants to be called.
    Wake(usize, u64),
    /// A run's next request is answered.
    Step(usize, u64, u64),
    /// The write of an agent's memory is answered.
    Kept(usize, u64, u64),
    /// An object's controller is done.
    Mature(usize, ObjectId, String),
    /// An agent's watch tells of an object.
    Watched(usize, u64, ObjectId),
    /// An agent's watch tells that an object is gone.
    Gone(usize, u64, ObjectId, Box<Live>),
    /// An agent begins a watch that could not list.
    Watch(usize, u64, GroupKind),
    /// The hub has waited for more.
    HubSettled(u64),
    /// The hub's writes are done.
    HubPersisted(u64),
    /// The hub decides without any event.
    HubIdle(u64, u64),
    /// A probe has had no answer in time.
    ProbeSilent(usize, u64, usize, u64),
    /// A user asks.
    Ask(usize, u64),
    /// The script's next line.
    Script(usize),
}

/// A place from which users ask.
#[derive(Clone, Debug)]
struct User {
    name: &'static str,
    at: Coordinates,
}

/// Who is told what happens.
struct Observers {
    checkers: Vec<Box<dyn Checker>>,
    trace: Trace,
    tally: Tally,
    violation: Option<Violation>,
}

impl Observers {
    fn tell(&mut self, now: Instant, fact: &Fact<'_>) {
        self.trace.line(now, fact);
        for checker in &mut self.checkers {
            if let Err(what) = checker.handle(now, fact)
                && self.violation.is_none()
            {
                self.violation = Some(Violation { invariant: checker.name(), at: now, what });
            }
        }
    }
}

/// Streams of random numbers, one for each purpose.
#[derive(Debug)]
struct Streams {
    /// How long requests to API servers take, and which fail.
    requests: Random,
    /// What a crash leaves.
    crashes: Random,
    /// Whom users ask, and for what.
    users: Random,
}

/// The world of one seed.
pub struct World {
    queue: Queue<Event>,
    network: Network,
    api: Api,
    backup: Option<Api>,
    /// What users last wrote, in their own repository.
    latest: Wishes,
    hub: Hub,
    ids: Vec<ClusterId>,
    clusters: Vec<Cluster>,
    agents: Vec<Agent>,
    nodes: Vec<Node>,
    users: Vec<User>,
    /// Apps with a host, as users know them.
    hosts: Vec<(AppId, String)>,
    script: Vec<(Instant, Happening)>,
    sessions: u64,
    streams: Streams,
    serving: BTreeMap<(AppId, ClusterId), bool>,
    watch: Observers,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// How often each interesting thing happened.
    pub tally: Tally,
    /// Digest and lines.
    pub trace: Trace,
    /// Virtual time at the end.
    pub end: Instant,
}

impl World {
    /// The world of `script`, watched by `checkers`. `verbose` keeps every line of the trace.
    pub fn new(script: &Script, checkers: Vec<Box<dyn Checker>>, verbose: bool) -> Self {
        let seed = script.seed;
        let at = |latitude, longitude| match Coordinates::new(latitude, longitude) {
            Ok(at) => at,
            Err(error) => panic!("{error}"),
        };
        let sites = vec![
            Site { region: "eu-central-1", at: at(50.11, 8.68) },
            Site { region: "us-east-1", at: at(38.95, -77.45) },
            Site { region: "ap-southeast-1", at: at(1.35, 103.82) },
            Site { region: "sa-east-1", at: at(-23.55, -46.63) },
            Site { region: "ap-northeast-1", at: at(35.68, 139.69) },
        ];
        let mut clocks = Random::new(seed, "clocks");
        let mut draw = Random::new(seed, "fleet");
        let mut fleet: Vec<(&str, SiteId)> = vec![("fra", 0), ("iad", 1), ("sin", 2), ("gru", 3)];
        if draw.chance(400) {
            fleet.push(("ber", 0));
        }
        let hub_site = *draw.pick(&[0, 1, 4, 4]);
        let mut wishes = Wishes::default();
        wishes.add_zone();
        let mut watch = Observers { checkers, trace: Trace::new(verbose), tally: Tally::default(), violation: None };
        let (mut ids, mut clusters, mut agents) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (name, site)) in fleet.iter().enumerate() {
            let aside = index as f64 * 0.01;
            wishes.add_cluster(
                name,
                sites[*site].region,
                at(sites[*site].at.latitude() + aside, sites[*site].at.longitude()),
            );
            ids.push(ClusterId::new(*name));
            clusters.push(Cluster::new(name, format!("192.0.2.{}", 10 + index)));
            agents.push(Agent::new(*site, clock(&mut clocks, &mut watch.tally)));
        }
        let names = ["ns-eu", "ns-us", "ns-ap", "ns-jp"];
        let places: &[SiteId] = if draw.chance(300) { &[0, 1, 2, 4] } else { &[0, 1, 2] };
        for (site, name) in places.iter().zip(names) {
            wishes.nodes.insert(name.to_owned(), RegionId::new(sites[*site].region));
        }
        let nodes = places
            .iter()
            .zip(names)
            .map(|(site, name)| Node::new(name, *site, clock(&mut clocks, &mut watch.tally)))
            .collect();
        let (near, base) = (AppId::new("shop", "near"), AppId::new("shop", "base"));
        wishes.set_policy(&near, ids.iter().cloned().collect(), Some(draw.chance(500)));
        wishes.set_policy(&base, ids.iter().cloned().collect(), None);
        let mut hosts = Vec::new();
        for name in ["web", "api"] {
            let (app, host) = (AppId::new("shop", name), format!("{name}.{ZONE}"));
            wishes.set_app(&app, &near, Some(&host), 0);
            hosts.push((app, host));
        }
        wishes.set_app(&AppId::new("shop", "base"), &base, None, 0);
        let users = [
            ("paris", 48.86, 2.35),
            ("denver", 39.74, -104.99),
            ("jakarta", -6.21, 106.85),
            ("lima", -12.05, -77.04),
            ("tokyo", 35.68, 139.77),
        ];
        let users = users.into_iter().map(|(name, north, east)| User { name, at: at(north, east) }).collect();
        let origin = Instant::ORIGIN;
        let mut world = Self {
            queue: Queue::default(),
            network: Network::new(sites, Random::new(seed, "network")),
            api: Api::new(wishes.clone()),
            backup: None,
            latest: wishes,
            hub: Hub::new(hub_site, clock(&mut clocks, &mut watch.tally)),
            ids,
            clusters,
            agents,
            nodes,
            users,
            hosts,
            script: script.lines(&fleet, places, hub_site),
            sessions: 0,
            streams: Streams {
                requests: Random::new(seed, "requests"),
                crashes: Random::new(seed, "crashes"),
                users: Random::new(seed, "users"),
            },
            serving: BTreeMap::new(),
            watch,
        };
        world.watch.tell(origin, &Fact::Wished { wishes: &world.api.wishes, what: "the first" });
        for (index, (at, _)) in world.script.iter().enumerate() {
            world.queue.push(*at, Event::Script(index));
        }
        // Most owners say where their hub is.
        world.hub.region = draw.chance(800).then(|| RegionId::new(world.network.sites[hub_site].region));
        world.hub_start();
        (0..world.agents.len()).for_each(|i| world.agent_start(i));
        (0..world.nodes.len()).for_each(|i| world.node_start(i));
        for user in 0..world.users.len() {
            world.queue.push(origin + Duration::from_millis(97 * user as u64), Event::Ask(user, 0));
        }
        world
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(mut self) -> Ran {
        self.run_until(Instant::ORIGIN + CALM_AT + CONVERGED_WITHIN);
        // What flapped is believed again only after its damping: as long as each node itself says, and no longer.
        if let Some(well_at) = self.last_well_at() {
            self.run_until(well_at + Duration::from_secs(5));
        }
        if self.watch.violation.is_none() {
            self.check_settled();
        }
        let end = self.queue.now();
        let Observers { trace, tally, violation, .. } = self.watch;
        Ran { violation, tally, trace, end }
    }

    fn run_until(&mut self, end: Instant) {
        while self.watch.violation.is_none()
            && let Some(event) = self.queue.pop(end)
        {
            self.watch.tally.events += 1;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Send(parcel, attempt) => self.transmit(parcel, attempt),
            Event::Arrive(parcel) => self.arrive(parcel),
            Event::Tick(party, boot) => self.tick(party, boot),
            Event::Judge(node, boot) => self.node_judge(node, boot),
            Event::Wake(agent, boot) => self.agent_wake(agent, boot),
            Event::Step(agent, boot, run) => self.agent_step(agent, boot, run),
            Event::Kept(agent, boot, seq) => self.agent_kept(agent, boot, seq),
            Event::Mature(cluster, object, uid) => self.mature(cluster, &object, &uid),
            Event::Watched(agent, boot, object) => self.agent_watched(agent, boot, &object),
            Event::Gone(agent, boot, object, live) => self.agent_gone(agent, boot, &object, *live),
            Event::Watch(agent, boot, kind) => self.agent_watch(agent, boot, kind),
            Event::HubSettled(boot) => self.hub_round(boot),
            Event::HubPersisted(boot) => self.hub_persisted(boot),
            Event::HubIdle(boot, round) => self.hub_idle(boot, round),
            Event::ProbeSilent(node, boot, cluster, seq) => {
                self.node_probed(node, boot, cluster, seq, Probe::Silence);
            }
            Event::Ask(user, count) => self.ask(user, count),
            Event::Script(line) => self.perform(line),
        }
    }

    fn now(&self) -> Instant {
        self.queue.now()
    }

    fn after(&mut self, delay: Duration, event: Event) {
        let at = self.queue.now() + delay;
        self.queue.push(at, event);
    }

    fn site(&self, party: Party) -> SiteId {
        match party {
            Party::Hub => self.hub.site,
            Party::Agent(i) | Party::Ingress(i) => self.agents[i].site,
            Party::Dns(i) => self.nodes[i].site,
        }
    }

    /// A process in its life since the last start, or `None` when it is dead.
    fn boot(&self, party: Party) -> Option<u64> {
        match party {
            Party::Hub => (self.hub.down == 0).then_some(self.hub.boot),
            Party::Agent(i) => (self.agents[i].down == 0).then_some(self.agents[i].boot),
            Party::Dns(i) => (self.nodes[i].down == 0).then_some(self.nodes[i].boot),
            Party::Ingress(i) => (self.clusters[i].ingress_down == 0).then_some(0),
        }
    }

    fn clock(&self, party: Party) -> Clock {
        match party {
            Party::Hub => self.hub.clock,
            Party::Agent(i) | Party::Ingress(i) => self.agents[i].clock,
            Party::Dns(i) => self.nodes[i].clock,
        }
    }

    fn local(&self, party: Party) -> Instant {
        self.clock(party).local(self.now())
    }

    /// When `delay` will have passed on a process's clock.
    fn later(&self, party: Party, delay: Duration) -> Instant {
        let clock = self.clock(party);
        clock.world(clock.local(self.now()) + delay)
    }

    /// Tells what has become of an app's copy in a cluster, if anything has.
    fn note_copy(&mut self, cluster: usize, app: &AppId) {
        let serves = self.clusters[cluster].serves(app);
        let id = &self.ids[cluster];
        if self.serving.insert((app.clone(), id.clone()), serves).unwrap_or(false) != serves {
            let now = self.queue.now();
            self.watch.tell(now, &Fact::Copy { cluster: id, app, whole: serves });
        }
    }

    fn mature(&mut self, cluster: usize, object: &ObjectId, uid: &str) {
        if !self.clusters[cluster].mature(object, uid) {
            return;
        }
        let boot = self.agents[cluster].boot;
        self.after(Duration::from_millis(20), Event::Watched(cluster, boot, object.clone()));
        let app = AppId::new(object.namespace.clone().unwrap_or_default(), object.name.clone());
        self.note_copy(cluster, &app);
    }

    /// A user asks one of the nodes that can be reached for one of the hosts.
    fn ask(&mut self, user: usize, count: u64) {
        self.after(Duration::from_secs(1), Event::Ask(user, count + 1));
        let up = |i: &usize| self.nodes[*i].down == 0 && !self.network.is_dark(self.nodes[*i].site);
        let nodes: Vec<usize> = (0..self.nodes.len()).filter(up).collect();
        let (node, host) = (self.streams.users.below(nodes.len()), self.streams.users.below(self.hosts.len()));
        let Some(node) = nodes.get(node) else { return };
        self.answer(*node, user, host);
    }

    fn answer(&mut self, node: usize, user: usize, host: usize) {
        let (app, host) = &self.hosts[host];
        let Some(clusters) = self.nodes[node].answer(host, self.users[user].at) else {
            self.watch.tally.add("a node without a snapshot asked");
            return;
        };
        let now = self.queue.now();
        let names = (self.nodes[node].name, self.users[user].name);
        self.watch.tell(now, &Fact::Answered { node: names.0, user: names.1, host, app, clusters: &clusters });
        let Some(first) = clusters.first().and_then(|id| self.ids.iter().position(|known| known == id)) else {
            self.watch.tally.add("an answer without a cluster");
            return;
        };
        let reached = self.clusters[first].ingress_down == 0 && !self.network.is_dark(self.agents[first].site);
        let serves = reached && self.clusters[first].serves(app);
        self.watch.tally.add(if serves { "user served" } else { "user sent where nothing answers" });
    }
}

/// A clock: most are right within 250 ppm, as crystals are; a few are grossly wrong.
fn clock(random: &mut Random, tally: &mut Tally) -> Clock {
    let ppm = match random.below(20) {
        0 => {
            tally.add("clock grossly wrong");
            *random.pick(&[-200_000, -50_000, 50_000, 200_000])
        }
        1..4 => 0,
        _ => {
            tally.add("clock-rate error");
            random.below(501) as i64 - 250
        }
    };
    Clock::new(Instant::ORIGIN, ppm)
}
