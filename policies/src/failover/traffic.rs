//! The traffic clock of one DNS node.
//!
//! Order of calls: any `handle_*`, then [`Traffic::poll_command`] until `None`, then [`Traffic::poll_timeout`]. What comes
//! in between two polls is judged together, by the first poll, so that of two words of one instant the order does not
//! matter. Time never runs backwards.
//!
//! A node's own probes and what fellow nodes tell are findings of their failure domains; a fellow node that fell silent
//! or says that it is blind has no finding. The silence of one's own probes grows with every call; what others told
//! counts as they told it, until it is stale: whoever dies accuses nobody with their last words. **Blind** is a node that for a while heard from nobody outside its own domain; it does not vote, and while
//! no sighted voter is left every class stays as it is. What comes from the hub is one more domain, and only where no
//! DNS node shares it; a drain counts alone, at once, because the owner said so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::damping::Damping;
use super::vote::{self, Finding, Outcome, Vote};
use crate::id::{ClusterId, RegionId};
use crate::steering::Class;
use crate::time::Instant;

/// Without a word from outside its own domain for so long, a node is blind.
pub const BLIND: Duration = Duration::from_secs(4);
/// After so long without a word from outside its own domain, a node's own silences begin anew with the next word: it was
/// cut off, or it stalled, and that says nothing of any cluster. Else whoever comes back accuses everybody until the next
/// probe. Everybody is heard each second, so this is a second in which nobody was.
pub const DEAF: Duration = Duration::from_secs(2);
/// A fellow node's (or the hub's) findings count while they are this fresh: of those told, three may be lost.
pub const STALE: Duration = Duration::from_secs(4);
/// Findings are told this often by nodes and hub, and by nodes at once where [`Command::Tell`] says so. As often as
/// clusters are probed: more often there is nothing new.
pub const TELL_EVERY: Duration = Duration::from_secs(1);

/// A DNS node's name.
pub type NodeId = String;

/// Who is where; the peer list comes with the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Clusters and their domains.
    pub clusters: BTreeMap<ClusterId, RegionId>,
    /// DNS nodes and their domains, this one included.
    pub nodes: BTreeMap<NodeId, RegionId>,
    /// The hub's domain, where known.
    pub hub: Option<RegionId>,
}

/// Result of one probe of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A full, good answer.
    Success,
    /// The target itself answered that it fails: RST, TLS alert, 5xx.
    Refused,
    /// Nothing came, or somebody on the way said so (no route, ICMP).
    Silence,
}

/// What one node tells its fellows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// It heard from nobody outside its domain.
    pub blind: bool,
    /// What it found of each cluster.
    pub clusters: BTreeMap<ClusterId, Finding>,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The cluster's class changed: answer accordingly.
    Classify {
        /// The cluster.
        cluster: ClusterId,
        /// Its class from now on.
        class: Class,
    },
    /// A finding of one's own crossed a threshold: tell fellow nodes at once, not with the next beat.
    Tell,
}

/// Why a cluster has its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The class.
    pub class: Class,
    /// What the count said last.
    pub outcome: Outcome,
    /// Votes by domain, the target's own left out.
    pub votes: BTreeMap<RegionId, Vote>,
    /// When it may count as healthy again, while it is not.
    pub well_at: Option<Instant>,
    /// Fewer than two domains can see it from outside, so it is never taken down automatically.
    pub few_domains: bool,
}

/// A finding as it was at an instant; its silence goes on.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    finding: Finding,
}

impl Seen {
    const fn new(at: Instant, seen: bool) -> Self {
        Self { at, finding: Finding { silent: Duration::ZERO, positives: 0, seen } }
    }

    fn finding(self, now: Instant) -> Finding {
        Finding { silent: self.finding.silent.saturating_add(now.since(self.at)), ..self.finding }
    }
}

#[derive(Clone, Debug)]
struct Target {
    /// What is told: `judged`, or drained.
    class: Class,
    /// What the votes made of it; goes on while it is drained.
    judged: Class,
    outcome: Outcome,
    damping: Damping,
    /// Since when it has been healthy without interruption.
    healthy_since: Option<Instant>,
    well_at: Option<Instant>,
    /// Whether anybody ever saw it well: the first join counts at once.
    joined: bool,
    own_vote: Vote,
}

impl Target {
    const fn new() -> Self {
        Self {
            class: Class::Healthy,
            judged: Class::Healthy,
            outcome: Outcome::NoVoter,
            damping: Damping::new(),
            healthy_since: None,
            well_at: None,
            joined: false,
            own_vote: Vote::Open,
        }
    }
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Traffic {
    me: NodeId,
    topology: Topology,
    own: BTreeMap<ClusterId, Seen>,
    fellows: BTreeMap<NodeId, (Instant, Findings)>,
    hub: Option<(Instant, BTreeMap<ClusterId, Finding>)>,
    drained: BTreeSet<ClusterId>,
    heard: Instant,
    targets: BTreeMap<ClusterId, Target>,
    commands: VecDeque<Command>,
    now: Instant,
    /// Something came in that nobody has judged yet.
    stale: bool,
}

impl Traffic {
    /// A node that begins to look at `now`.
    pub fn new(now: Instant, me: NodeId, topology: Topology) -> Self {
        let mut traffic = Self {
            me,
            topology: Topology::default(),
            own: BTreeMap::new(),
            fellows: BTreeMap::new(),
            hub: None,
            drained: BTreeSet::new(),
            heard: now,
            targets: BTreeMap::new(),
            commands: VecDeque::new(),
            now,
            stale: true,
        };
        traffic.handle_topology(now, topology);
        traffic
    }

    /// The peer list or the clusters changed. What is known of those that stay, stays.
    pub fn handle_topology(&mut self, now: Instant, topology: Topology) {
        self.now = now;
        self.own.retain(|id, _| topology.clusters.contains_key(id));
        self.targets.retain(|id, _| topology.clusters.contains_key(id));
        self.fellows.retain(|id, _| topology.nodes.contains_key(id));
        for id in topology.clusters.keys() {
            self.own.entry(id.clone()).or_insert(Seen::new(now, false));
            self.targets.entry(id.clone()).or_insert_with(Target::new);
        }
        self.topology = topology;
        self.stale = true;
    }

    /// Goes on from what was decided before a restart: what was down or suspect stays so until it has been well for as
    /// long as after any fall, since this node cannot know how long it was away. Call it once, after
    /// [`Traffic::new`]; clusters that are not in the topology are left aside.
    pub fn restore(&mut self, judged: &BTreeMap<ClusterId, Class>) {
        for (id, class) in judged {
            let Some(target) = self.targets.get_mut(id) else { continue };
            match class {
                Class::Healthy | Class::Drained => {}
                Class::Suspect | Class::Down => {
                    target.joined = true;
                    target.damping.fell(self.now, None);
                    (target.judged, target.class) = (*class, *class);
                }
            }
        }
        self.stale = true;
    }

    /// What the votes made of each cluster, drains aside: what [`Traffic::restore`] takes.
    pub fn judged(&self) -> BTreeMap<ClusterId, Class> {
        self.targets.iter().map(|(id, target)| (id.clone(), target.judged)).collect()
    }

    /// A probe of one's own ended.
    pub fn handle_probe(&mut self, now: Instant, cluster: &ClusterId, probe: Probe) {
        self.now = now;
        let Some(domain) = self.topology.clusters.get(cluster) else {
            return;
        };
        let outside = self.topology.nodes.get(&self.me) != Some(domain);
        if outside && probe != Probe::Silence {
            self.hear();
        }
        if let Some(seen) = self.own.get_mut(cluster) {
            match probe {
                Probe::Success => *seen = Seen::new(now, true),
                Probe::Refused => seen.finding.positives = seen.finding.positives.saturating_add(1),
                Probe::Silence => {}
            }
        }
        self.stale = true;
    }

    /// A fellow node told its findings.
    pub fn handle_findings(&mut self, now: Instant, from: &NodeId, findings: &Findings) {
        self.now = now;
        let Some(domain) = self.topology.nodes.get(from) else {
            return;
        };
        if self.topology.nodes.get(&self.me) != Some(domain) {
            self.hear();
        }
        self.fellows.insert(from.clone(), (now, findings.clone()));
        self.stale = true;
    }

    /// The hub told how long each cluster's tunnel has been silent.
    pub fn handle_hub(&mut self, now: Instant, tunnels: &BTreeMap<ClusterId, Finding>) {
        self.now = now;
        if self.topology.hub.is_some() && self.topology.hub.as_ref() != self.topology.nodes.get(&self.me) {
            self.hear();
        }
        self.hub = Some((now, tunnels.clone()));
        self.stale = true;
    }

    /// Somebody outside one's own domain was heard.
    fn hear(&mut self) {
        if self.now.since(self.heard) >= DEAF {
            for seen in self.own.values_mut() {
                (seen.at, seen.finding.silent) = (self.now, Duration::ZERO);
            }
        }
        self.heard = self.now;
    }

    /// These, and no others, are drained by their owner. It holds until it is said otherwise, whoever falls silent.
    pub fn handle_drained(&mut self, now: Instant, drained: &BTreeSet<ClusterId>) {
        self.now = now;
        self.drained.clone_from(drained);
        self.stale = true;
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.stale = true;
    }

    /// What to do, in order; poll until `None`.
    pub fn poll_command(&mut self) -> Option<Command> {
        if std::mem::take(&mut self.stale) {
            self.decide();
        }
        self.commands.pop_front()
    }

    /// When to call [`Traffic::handle_timeout`] next, if nothing else happens before. The thresholds are seconds, so a
    /// tick of a quarter of one adds at most that much to any of them.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.topology.clusters.is_empty()).then(|| self.now + Duration::from_millis(250))
    }

    /// The class of a cluster; one that is unknown here is healthy, for it was put into the answers by somebody who
    /// knows it.
    pub fn class(&self, cluster: &ClusterId) -> Class {
        self.targets.get(cluster).map_or(Class::Healthy, |target| target.class)
    }

    /// The class of every cluster.
    pub fn classes(&self) -> BTreeMap<ClusterId, Class> {
        self.targets.iter().map(|(id, target)| (id.clone(), target.class)).collect()
    }

    /// What to tell fellow nodes now.
    pub fn findings(&self) -> Findings {
        let clusters = self.own.iter().map(|(id, seen)| (id.clone(), seen.finding(self.now))).collect();
        Findings { blind: self.is_blind(), clusters }
    }

    /// Whether this node is blind, so that its findings count for nothing.
    pub fn is_blind(&self) -> bool {
        self.now.since(self.heard) >= BLIND
    }

    /// Why each cluster has its class.
    pub fn evidence(&self) -> BTreeMap<ClusterId, Evidence> {
        self.targets
            .iter()
            .map(|(id, target)| {
                let mut votes = self.votes(id);
                let home = &self.topology.clusters[id];
                votes.retain(|domain, _| domain != home);
                let domains = self.topology.nodes.values().chain(&self.topology.hub);
                let few_domains = vote::observers(home, domains) < vote::DOMAINS_DOWN;
                let (class, outcome, well_at) = (target.class, target.outcome, target.well_at);
                (id.clone(), Evidence { class, outcome, votes, well_at, few_domains })
            })
            .collect()
    }

    /// The votes on one cluster, by domain.
    fn votes(&self, cluster: &ClusterId) -> BTreeMap<RegionId, Vote> {
        let mut best: BTreeMap<RegionId, Finding> = BTreeMap::new();
        let mut add = |domain: &RegionId, finding: Finding| {
            best.entry(domain.clone()).and_modify(|b| *b = b.best(finding)).or_insert(finding);
        };
        if let (Some(domain), Some(seen), false) =
            (self.topology.nodes.get(&self.me), self.own.get(cluster), self.is_blind())
        {
            add(domain, seen.finding(self.now));
        }
        for (node, (told, Findings { blind, clusters })) in &self.fellows {
            let fresh = self.now.since(*told) < STALE && !blind && *node != self.me;
            if let (Some(domain), Some(found), true) = (self.topology.nodes.get(node), clusters.get(cluster), fresh) {
                add(domain, *found);
            }
        }
        if let (Some(domain), Some((told, tunnels))) = (self.tunnels_domain(), &self.hub)
            && self.now.since(*told) < STALE
            && let Some(found) = tunnels.get(cluster)
        {
            add(domain, *found);
        }
        best.into_iter().map(|(domain, finding)| (domain, finding.vote())).collect()
    }

    /// The domain whose vote is the hub's tunnels alone.
    fn tunnels_domain(&self) -> Option<&RegionId> {
        let hub = self.topology.hub.as_ref()?;
        (!self.topology.nodes.values().any(|node| node == hub)).then_some(hub)
    }

    fn decide(&mut self) {
        let now = self.now;
        let ids: Vec<ClusterId> = self.targets.keys().cloned().collect();
        for id in ids {
            let outcome = vote::count(&self.topology.clusters[&id], &self.votes(&id), self.tunnels_domain());
            let own = self.own.get(&id).map_or(Vote::Open, |seen| seen.finding(now).vote());
            let drained = self.drained.contains(&id);
            let Some(target) = self.targets.get_mut(&id) else {
                continue;
            };
            if target.own_vote != own {
                target.own_vote = own;
                if self.commands.back() != Some(&Command::Tell) {
                    self.commands.push_back(Command::Tell);
                }
            }
            target.outcome = outcome;
            target.judged = judge(now, target, outcome);
            let class = if drained { Class::Drained } else { target.judged };
            if class != target.class {
                target.class = class;
                self.commands.push_back(Command::Classify { cluster: id, class });
            }
        }
    }
}

/// The next judgement of a target, and its damping moved on.
fn judge(now: Instant, target: &mut Target, outcome: Outcome) -> Class {
    let before = target.judged;
    match outcome {
        Outcome::NoVoter => before,
        Outcome::Down | Outcome::Suspect => {
            if before == Class::Healthy {
                target.damping.fell(now, target.healthy_since.take());
            }
            target.well_at = target.damping.observe(now, false);
            // What is down stays so until it is well again: fewer accusers are no recovery.
            if outcome == Outcome::Down || before == Class::Down { Class::Down } else { Class::Suspect }
        }
        Outcome::Well if before == Class::Healthy || !target.joined => {
            target.joined = true;
            target.healthy_since.get_or_insert(now);
            Class::Healthy
        }
        Outcome::Well => {
            target.well_at = target.damping.observe(now, true);
            if target.well_at.is_some_and(|at| at > now) {
                return before;
            }
            (target.well_at, target.healthy_since) = (None, Some(now));
            Class::Healthy
        }
    }
}
