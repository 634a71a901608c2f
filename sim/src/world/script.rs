//! What users and faults do to a world: drawn from its seed, or written by a test.

use std::collections::BTreeSet;
use std::time::Duration;

use policies::id::{AppId, ClusterId};
use policies::time::Instant;

use super::link::Party;
use super::{CALM_AT, SETTLED_AT, World};
use crate::fact::Fact;
use crate::network::SiteId;
use crate::random::Random;

/// Something that breaks, and is whole again when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The ingress of a cluster dies: connections are refused.
    IngressDown(usize),
    /// Nothing enters or leaves a site.
    SiteDark(SiteId),
    /// Nothing passes from one site to the other.
    OneWay(SiteId, SiteId),
    /// Nothing passes between two sites.
    Cut(SiteId, SiteId),
    /// A quarter of all packets between two sites is lost.
    Lossy(SiteId, SiteId),
    /// The hub's process dies.
    HubDown,
    /// The hub and its whole site are gone.
    HubAndRegionDown,
    /// An agent's process dies.
    AgentDown(usize),
    /// A DNS node's process dies.
    NodeDown(usize),
    /// Lists fail in a cluster.
    ListErrors(usize),
    /// Applies and writes fail in a cluster.
    ApplyErrors(usize),
    /// A cluster's API server takes fifty times as long.
    Slow(usize),
    /// The hub cluster's API server refuses writes.
    SavesRefused,
}

/// What a user writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The policy `shop/near` names these clusters from now on.
    Select(Vec<usize>),
    /// An app gets the next version of its manifests.
    NextVersion(&'static str),
    /// An app is deleted.
    Delete(&'static str),
    /// A cluster is drained, or not any more.
    Drain(usize, bool),
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A fault begins.
    Begin(Fault),
    /// A fault ends.
    End(Fault),
    /// A user writes.
    Wish(Wish),
    /// The hub cluster is backed up.
    Backup,
    /// The hub dies, and its cluster is set back to the backup; `lease`: with its Lease, and so its term.
    Restore {
        /// Whether the term goes back too.
        lease: bool,
    },
    /// The hub starts over what was restored.
    RestoreDone,
    /// Users write again what they had written.
    Reapply,
}

/// A seed, or a seed with lines of its own.
#[derive(Clone, Debug)]
pub struct Script {
    /// Draws everything that the lines do not say.
    pub seed: u64,
    /// What happens instead of what the seed would draw.
    pub lines: Option<Vec<(Duration, Happening)>>,
}

impl Script {
    /// Everything from the seed.
    pub const fn seed(seed: u64) -> Self {
        Self { seed, lines: None }
    }

    /// The world of `seed` with these lines only.
    pub fn written(seed: u64, lines: Vec<(Duration, Happening)>) -> Self {
        Self { seed, lines: Some(lines) }
    }

    pub(super) fn lines(&self, fleet: &[(&str, SiteId)], nodes: &[SiteId], hub: SiteId) -> Vec<(Instant, Happening)> {
        let mut lines = match &self.lines {
            Some(lines) => lines.clone(),
            None => draw(self.seed, fleet, nodes.len(), hub),
        };
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(at, what)| (Instant::ORIGIN + at, what)).collect()
    }
}

/// Most faults and wishes of one seed.
const FAULTS: usize = 8;

fn draw(seed: u64, fleet: &[(&str, SiteId)], nodes: usize, hub: SiteId) -> Vec<(Duration, Happening)> {
    let mut lines = Vec::new();
    let mut random = Random::new(seed, "faults");
    let last = CALM_AT - Duration::from_secs(2);
    for _ in 0..2 + random.below(FAULTS - 1) {
        let at = random.between(SETTLED_AT, last - Duration::from_secs(8));
        let until = (at + random.between(Duration::from_secs(2), Duration::from_secs(26))).min(last);
        let cluster = random.below(fleet.len());
        let site = fleet[cluster].1;
        let other = *random.pick(&[0, 1, 2, 3, 4].map(|s| if s == site { hub } else { s }));
        let fault = match random.below(15) {
            0 => Fault::IngressDown(cluster),
            1 => Fault::SiteDark(site),
            2 => Fault::OneWay(site, hub),
            3 => Fault::OneWay(hub, site),
            4 => Fault::OneWay(other, site),
            5 => Fault::Cut(site, other),
            6 => Fault::Lossy(site, hub),
            7 => Fault::HubDown,
            8 => Fault::HubAndRegionDown,
            9 => Fault::AgentDown(cluster),
            10 => Fault::NodeDown(random.below(nodes)),
            11 => Fault::ListErrors(cluster),
            12 => Fault::ApplyErrors(cluster),
            13 => Fault::Slow(cluster),
            _ => Fault::SavesRefused,
        };
        let flaps = matches!(fault, Fault::IngressDown(_) | Fault::SiteDark(_)) && random.chance(250);
        if !flaps {
            lines.extend([(at, Happening::Begin(fault)), (until, Happening::End(fault))]);
            continue;
        }
        // Down and up again: the damping must not believe it each time.
        for turn in 0..2 {
            let from = at + Duration::from_secs(5 * turn);
            let to = (from + Duration::from_millis(2_500)).min(last);
            lines.extend([(from.min(to), Happening::Begin(fault)), (to, Happening::End(fault))]);
        }
    }
    draw_wishes(seed, fleet.len(), last, &mut lines);
    draw_restore(seed, last, &mut lines);
    lines
}

fn draw_wishes(seed: u64, clusters: usize, last: Duration, lines: &mut Vec<(Duration, Happening)>) {
    let mut random = Random::new(seed, "wishes");
    for _ in 0..1 + random.below(6) {
        let at = random.between(SETTLED_AT, last);
        let wish = match random.below(8) {
            0..3 => {
                let mut some: Vec<usize> = (0..clusters).filter(|_| random.chance(600)).collect();
                if some.is_empty() {
                    some.push(random.below(clusters));
                }
                Wish::Select(some)
            }
            3..6 => Wish::NextVersion(["web", "api", "base"][random.below(3)]),
            6 => Wish::Delete("api"),
            _ => Wish::Drain(random.below(clusters), random.chance(600)),
        };
        lines.push((at, Happening::Wish(wish)));
        // Processes die while they act on it, more often than by chance.
        let (fault, soonest, latest) = match random.below(8) {
            // While it saves what it decided.
            0 => (Fault::HubDown, 45, 75),
            // While it applies that.
            1 => (Fault::AgentDown(random.below(clusters)), 120, 400),
            _ => continue,
        };
        let after = random.between(Duration::from_millis(soonest), Duration::from_millis(latest));
        let until = (at + after + random.between(Duration::from_millis(500), Duration::from_secs(9))).min(last);
        lines.extend([((at + after).min(until), Happening::Begin(fault)), (until, Happening::End(fault))]);
    }
}

fn draw_restore(seed: u64, last: Duration, lines: &mut Vec<(Duration, Happening)>) {
    let mut random = Random::new(seed, "restore");
    if random.chance(200) {
        // Some copies are from before the first app was ready anywhere.
        let early = random.chance(250);
        let (from, to) = if early { (0, 4) } else { (12, 60) };
        let backup = random.between(Duration::from_secs(from), Duration::from_secs(to));
        let restore = random.between(backup.max(SETTLED_AT) + Duration::from_secs(1), last - Duration::from_secs(12));
        // Every third with its Lease, and so with a term that others have left behind: there were two more leaders.
        let lease = seed.is_multiple_of(3);
        for third in (1..3).filter(|_| lease) {
            let at = backup + (restore - backup) * third / 3;
            let back = at + Duration::from_millis(200);
            lines.extend([(at, Happening::Begin(Fault::HubDown)), (back, Happening::End(Fault::HubDown))]);
        }
        lines.extend([
            (backup, Happening::Backup),
            (restore, Happening::Restore { lease }),
            (restore + random.between(Duration::from_secs(1), Duration::from_secs(3)), Happening::RestoreDone),
            (restore + random.between(Duration::from_secs(4), Duration::from_secs(12)), Happening::Reapply),
        ]);
    }
}

impl World {
    /// Performs one line.
    pub(super) fn perform(&mut self, line: usize) {
        let Some((_, happening)) = self.script.get(line).cloned() else { return };
        let now = self.now();
        self.watch.tell(now, &Fact::Fault { what: &format!("{happening:?}") });
        match happening {
            Happening::Begin(fault) => {
                self.watch.tally.add(name(fault));
                self.disturb();
                self.switch(fault, true);
            }
            Happening::End(fault) => self.switch(fault, false),
            Happening::Wish(wish) => self.wish(&wish),
            Happening::Backup => self.backup = Some(self.api.clone()),
            Happening::Restore { lease } => {
                self.watch.tally.add("hub restored from an older copy");
                self.disturb();
                self.stop(Party::Hub);
                self.restore_hub(lease);
                self.wished("the hub cluster is set back");
            }
            Happening::RestoreDone => self.start(Party::Hub),
            Happening::Reapply => {
                let latest = self.latest.clone();
                self.api.wishes.reapply(&latest);
                self.wished("everything written again");
            }
        }
    }

    /// A fault may touch any path: from here on nobody's deliveries are counted.
    fn disturb(&mut self) {
        let now = self.now();
        for cluster in &self.ids {
            self.watch.tell(now, &Fact::Disturbed { cluster });
        }
    }

    fn switch(&mut self, fault: Fault, on: bool) {
        let count = |held: &mut u32| *held = if on { *held + 1 } else { held.saturating_sub(1) };
        match fault {
            Fault::IngressDown(i) => count(&mut self.clusters[i].ingress_down),
            Fault::SiteDark(site) => self.network.set_dark(site, on),
            Fault::OneWay(from, to) => self.network.set_cut(from, to, on),
            Fault::Cut(a, b) => {
                self.network.set_cut(a, b, on);
                self.network.set_cut(b, a, on);
            }
            Fault::Lossy(a, b) => {
                self.network.set_lossy(a, b, on);
                self.network.set_lossy(b, a, on);
            }
            Fault::HubDown => self.power(Party::Hub, on),
            Fault::AgentDown(i) => self.power(Party::Agent(i), on),
            Fault::NodeDown(i) => self.power(Party::Dns(i), on),
            Fault::ListErrors(i) => count(&mut self.clusters[i].troubles.lists),
            Fault::ApplyErrors(i) => count(&mut self.clusters[i].troubles.applies),
            Fault::Slow(i) => count(&mut self.clusters[i].troubles.slow),
            Fault::SavesRefused => count(&mut self.api.refusing),
            Fault::HubAndRegionDown => {
                let site = self.hub.site;
                self.network.set_dark(site, on);
                let agents = (0..self.agents.len()).filter(|i| self.agents[*i].site == site).map(Party::Agent);
                let nodes = (0..self.nodes.len()).filter(|i| self.nodes[*i].site == site).map(Party::Dns);
                let all: Vec<Party> = agents.chain(nodes).chain([Party::Hub]).collect();
                all.into_iter().for_each(|party| self.power(party, on));
            }
        }
    }

    fn power(&mut self, party: Party, off: bool) {
        if off { self.stop(party) } else { self.start(party) }
    }

    /// One more reason for a process to be dead.
    fn stop(&mut self, party: Party) {
        if self.boot(party).is_some() {
            match party {
                Party::Hub => self.hub_stop(),
                Party::Agent(i) => self.agent_stop(i),
                Party::Dns(i) => self.node_stop(i),
                Party::Ingress(_) => {}
            }
        }
        if let Some(down) = self.down(party) {
            *down += 1;
        }
    }

    /// One reason less; without any it starts.
    fn start(&mut self, party: Party) {
        let Some(down) = self.down(party) else { return };
        *down = down.saturating_sub(1);
        if *down == 0 {
            match party {
                Party::Hub => self.hub_start(),
                Party::Agent(i) => self.agent_start(i),
                Party::Dns(i) => self.node_start(i),
                Party::Ingress(_) => {}
            }
        }
    }

    fn down(&mut self, party: Party) -> Option<&mut u32> {
        match party {
            Party::Hub => Some(&mut self.hub.down),
            Party::Agent(i) => Some(&mut self.agents[i].down),
            Party::Dns(i) => Some(&mut self.nodes[i].down),
            Party::Ingress(_) => None,
        }
    }

    fn wish(&mut self, wish: &Wish) {
        let near = AppId::new("shop", "near");
        let wishes = &mut self.api.wishes;
        match wish {
            Wish::Select(some) => {
                let clusters: BTreeSet<ClusterId> = some.iter().map(|i| self.ids[*i].clone()).collect();
                let before = wishes.selected.get(&near).cloned().unwrap_or_default();
                if before.difference(&clusters).next().is_some() {
                    self.watch.tally.add("policy narrowed");
                }
                if clusters.difference(&before).next().is_some() {
                    self.watch.tally.add("policy widened");
                }
                wishes.select(&near, clusters);
            }
            Wish::NextVersion(name) => {
                let id = AppId::new("shop", *name);
                let Some((policy, version)) = wishes.wanted.get(&id).cloned() else { return };
                let host = wishes.apps.get(&id).and_then(|app| app.spec.hosts.first()).map(|host| host.host.clone());
                wishes.set_app(&id, &policy, host.as_deref(), version + 1);
                self.watch.tally.add("app changed");
            }
            Wish::Delete(name) => {
                let id = AppId::new("shop", *name);
                if !wishes.wanted.contains_key(&id) {
                    return;
                }
                wishes.delete_app(&id);
                self.watch.tally.add("app deleted");
            }
            Wish::Drain(i, drain) => {
                wishes.set_drain(&self.ids[*i], *drain);
                self.watch.tally.add(if *drain { "drain set" } else { "drain unset" });
            }
        }
        self.latest = self.api.wishes.clone();
        self.wished(&format!("{wish:?}"));
    }

    fn wished(&mut self, what: &str) {
        let now = self.now();
        self.watch.tell(now, &Fact::Wished { wishes: &self.api.wishes, what });
        if self.boot(Party::Hub).is_some() {
            self.hub_touch();
        }
    }
}

const fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::IngressDown(_) => "fault: cluster crash",
        Fault::SiteDark(_) => "fault: site black hole",
        Fault::OneWay(..) => "fault: one-way loss",
        Fault::Cut(..) => "fault: partition",
        Fault::Lossy(..) => "fault: lossy path",
        Fault::HubDown => "fault: hub loss",
        Fault::HubAndRegionDown => "fault: hub and region together",
        Fault::AgentDown(_) => "fault: agent crash",
        Fault::NodeDown(_) => "fault: DNS node crash",
        Fault::ListErrors(_) => "fault: list errors",
        Fault::ApplyErrors(_) => "fault: apply errors",
        Fault::Slow(_) => "fault: slow cluster",
        Fault::SavesRefused => "fault: hub cannot save",
    }
}
