//! The hub: what it sees, [`decide`], persist, publish, as `controller::runtime` and `controller::choice_store` do.
//!
//! Its API server stands beside it and keeps what is durable: what users wrote, what was chosen, and the Lease with the
//! term. A crash in the middle of a save leaves what was written until then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use api::wire::{self, ClusterReport, Digest, Ledger, NodeReport, TunnelReport, topic};
use bytes::Bytes;
use controller::core::choice::{AppChoice, Choice};
use controller::core::{Decision, Seen, decide};
use controller::runtime::{IDLE, SETTLE};
use policies::failover::tunnels::Tunnels;
use policies::id::{AppId, ClusterId, RegionId};
use policies::time::Instant;
use prost::Message as _;
use tunnel::outbox::Publication;

use super::link::{Open, Party};
use super::{Event, World};
use crate::clock::Clock;
use crate::fact::Fact;
use crate::network::SiteId;
use crate::wishes::Wishes;

/// How long one write takes.
const WRITE: Duration = Duration::from_millis(4);
/// One decision in so many is made twice: the second costs as much as the first.
const TWICE: u64 = 3;

/// The hub cluster's API server: everything about the hub that is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Api {
    pub(super) wishes: Wishes,
    /// One ConfigMap for each app.
    apps: BTreeMap<AppId, AppChoice>,
    /// The ConfigMap of numbers.
    numbers: Choice,
    /// Transitions of the Lease.
    pub(super) term: u64,
    /// Version of the wishes that what stands here was decided on; `None` when it is half of a save.
    decided: Option<u64>,
    /// How many faults make it refuse writes.
    pub(super) refusing: u32,
}

impl Api {
    /// The API of a hub that has not decided anything.
    pub(super) fn new(wishes: Wishes) -> Self {
        Self { wishes, ..Self::default() }
    }

    /// What a hub reads when it starts, through the format in which it was written.
    fn load(&self) -> Choice {
        let read = |(id, app): (&AppId, &AppChoice)| {
            let text = serde_json::to_string(app).unwrap_or_default();
            match serde_json::from_str(&text) {
                Ok(app) => (id.clone(), app),
                Err(error) => panic!("what was chosen for {id} does not read: {error}"),
            }
        };
        Choice { apps: self.apps.iter().map(read).collect(), ..self.numbers.clone() }
    }

    /// The writes that a save makes: apps first, numbers last.
    fn writes(&self, choice: &Choice) -> VecDeque<Write> {
        let names: BTreeSet<&AppId> = choice.apps.keys().chain(self.apps.keys()).collect();
        let changed = names.into_iter().filter(|id| choice.apps.get(*id) != self.apps.get(*id));
        let mut writes: VecDeque<Write> =
            changed.map(|id| Write::App(id.clone(), choice.apps.get(id).cloned())).collect();
        let numbers = Choice { apps: BTreeMap::new(), ..choice.clone() };
        if numbers != self.numbers {
            writes.push_back(Write::Numbers(Box::new(numbers)));
        }
        writes
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::App(id, Some(app)) => _ = self.apps.insert(id, app),
            Write::App(id, None) => _ = self.apps.remove(&id),
            Write::Numbers(numbers) => self.numbers = *numbers,
        }
    }
}

#[derive(Debug)]
enum Write {
    App(AppId, Option<AppChoice>),
    Numbers(Box<Choice>),
}

/// The hub's process.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) site: SiteId,
    pub(super) clock: Clock,
    /// How many faults hold it down.
    pub(super) down: u32,
    pub(super) boot: u64,
    pub(super) sessions: BTreeMap<u64, Open>,
    term: u64,
    /// Its region, where somebody wrote it down.
    pub(super) region: Option<RegionId>,
    tunnels: Tunnels,
    seen: Seen,
    choice: Choice,
    renders: BTreeMap<Digest, Bytes>,
    snapshots: VecDeque<(Digest, Bytes)>,
    phase: Phase,
    /// Something came in while a decision was being saved.
    dirty: bool,
    round: u64,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Settling,
    Saving { decision: Box<Decision>, writes: VecDeque<Write>, since: Instant, wishes: u64 },
}

impl Hub {
    pub(super) fn new(site: SiteId, clock: Clock) -> Self {
        Self {
            site,
            clock,
            down: 0,
            boot: 0,
            sessions: BTreeMap::new(),
            term: 0,
            region: None,
            tunnels: Tunnels::new(),
            seen: Seen::default(),
            choice: Choice::default(),
            renders: BTreeMap::new(),
            snapshots: VecDeque::new(),
            phase: Phase::Idle,
            dirty: false,
            round: 0,
        }
    }
}

impl World {
    /// A hub process starts, and leads.
    pub(super) fn hub_start(&mut self) {
        let now = self.now();
        self.api.term += 1;
        let Hub { site, clock, down, boot, round, .. } = self.hub;
        let region = self.hub.region.take();
        self.hub = Hub { down, boot: boot + 1, round, region, ..Hub::new(site, clock.restarted(now)) };
        self.hub.seen.region = self.hub.region.clone();
        self.hub.term = self.api.term;
        self.hub.choice = self.api.load();
        let quiet = self.api.decided == Some(self.api.wishes.version);
        if quiet {
            self.watch.tally.add("fresh hub with nothing new to do");
        }
        self.watch.tell(now, &Fact::HubUp { term: self.hub.term, kept: &self.hub.choice, quiet });
        let at = self.later(Party::Hub, Duration::from_secs(1));
        self.queue.push(at, Event::Tick(Party::Hub, self.hub.boot));
        self.hub_touch();
    }

    /// The hub's process dies; what it had written of a save stays written.
    pub(super) fn hub_stop(&mut self) {
        let now = self.now();
        if let Phase::Saving { writes, since, .. } = std::mem::replace(&mut self.hub.phase, Phase::Idle) {
            let done = (now.since(since).as_millis() / WRITE.as_millis()) as usize;
            if done > 0 && done < writes.len() {
                self.watch.tally.add("hub died in the middle of a save");
            }
            writes.into_iter().take(done).for_each(|write| {
                self.api.write(write);
                self.api.decided = None;
            });
        }
        self.hub.sessions.clear();
    }

    /// Something happened that the hub decides on.
    pub(super) fn hub_touch(&mut self) {
        match self.hub.phase {
            Phase::Idle => {
                self.hub.phase = Phase::Settling;
                let at = self.later(Party::Hub, SETTLE);
                self.queue.push(at, Event::HubSettled(self.hub.boot));
            }
            Phase::Settling => {}
            Phase::Saving { .. } => self.hub.dirty = true,
        }
    }

    pub(super) fn hub_idle(&mut self, boot: u64, round: u64) {
        if self.boot(Party::Hub) == Some(boot) && self.hub.round == round && matches!(self.hub.phase, Phase::Idle) {
            self.hub_touch();
        }
    }

    /// Decide and begin to save.
    pub(super) fn hub_round(&mut self, boot: u64) {
        if self.boot(Party::Hub) != Some(boot) {
            return;
        }
        let now = self.now();
        let (hub, wishes) = (&mut self.hub, &self.api.wishes);
        hub.seen.apps.clone_from(&wishes.apps);
        hub.seen.policies.clone_from(&wishes.policies);
        hub.seen.clusters.clone_from(&wishes.clusters);
        hub.seen.zones.clone_from(&wishes.zones);
        hub.seen.node_regions.clone_from(&wishes.nodes);
        hub.seen.now_s = now.since(Instant::ORIGIN).as_secs();
        hub.round += 1;
        let decision = decide(&hub.seen, &hub.choice, hub.term);
        let again = (hub.round % TWICE == 0).then(|| decide(&hub.seen.clone(), &hub.choice.clone(), hub.term));
        let fact =
            Fact::Decided { seen: &hub.seen, before: &hub.choice, decision: &decision, again: again.as_ref(), wishes };
        self.watch.tell(now, &fact);
        self.watch.tally.add("decision");
        let adopted = hub
            .seen
            .ledgers
            .iter()
            .any(|(id, ledger)| hub.choice.desired.get(id).map_or(0, |number| number.number) < ledger.number);
        if adopted {
            self.watch.tally.add("hub adopts an agent's number");
        }
        let writes = self.api.writes(&decision.choice);
        let at = self.later(Party::Hub, WRITE * u32::try_from(writes.len().max(1)).unwrap_or(u32::MAX));
        let wishes = self.api.wishes.version;
        self.hub.phase = Phase::Saving { decision: Box::new(decision), writes, since: now, wishes };
        self.queue.push(at, Event::HubPersisted(boot));
    }

    /// The save is over: publish, and carry out.
    pub(super) fn hub_persisted(&mut self, boot: u64) {
        if self.boot(Party::Hub) != Some(boot) {
            return;
        }
        let Phase::Saving { decision, mut writes, wishes, .. } = std::mem::replace(&mut self.hub.phase, Phase::Idle)
        else {
            return;
        };
        let at = self.later(Party::Hub, IDLE);
        self.queue.push(at, Event::HubIdle(boot, self.hub.round));
        if self.api.refusing > 0 && !writes.is_empty() {
            // What was written until the refusal stays; nothing is acted on.
            let done = self.streams.crashes.below(writes.len());
            writes.drain(..done).for_each(|write| {
                self.api.write(write);
                self.api.decided = None;
            });
            self.watch.tally.add("save refused, nothing acted on");
            self.hub.dirty = false;
            return;
        }
        writes.into_iter().for_each(|write| self.api.write(write));
        if let Some(term) = decision.take_term {
            // Nobody else leads here, so the Lease takes it.
            (self.api.term, self.hub.term, self.hub.dirty) = (term, term, true);
            self.watch.tally.add("hub takes a higher term");
        }
        self.api.decided = Some(wishes);
        self.hub.choice.clone_from(&decision.choice);
        self.hub_offer(&decision);
        self.carry_out(&decision);
        let sessions: Vec<u64> = self.hub.sessions.keys().copied().collect();
        for session in sessions {
            self.hub_tell(session, &decision);
        }
        if std::mem::take(&mut self.hub.dirty) {
            self.hub_touch();
        }
    }

    /// Blobs that peers may fetch: renders that are named, the snapshot and the one before.
    fn hub_offer(&mut self, decision: &Decision) {
        let named: BTreeSet<&Digest> =
            decision.desired.values().flat_map(|desired| &desired.apps).map(|app| &app.render).collect();
        let hub = &mut self.hub;
        for (digest, bytes) in &decision.renders {
            hub.renders.entry(digest.clone()).or_insert_with(|| Bytes::copy_from_slice(bytes));
        }
        hub.renders.retain(|digest, _| named.contains(digest));
        if hub.snapshots.back().is_none_or(|(digest, _)| *digest != decision.head.digest) {
            hub.snapshots.push_back((decision.head.digest.clone(), Bytes::copy_from_slice(&decision.snapshot)));
            if hub.snapshots.len() > 2 {
                hub.snapshots.pop_front();
            }
        }
    }

    /// Finalizers; statuses are for people.
    fn carry_out(&mut self, decision: &Decision) {
        let before = self.api.wishes.apps.len();
        decision.hold.iter().for_each(|id| self.api.wishes.set_finalizer(id, true));
        decision.release.iter().for_each(|id| self.api.wishes.set_finalizer(id, false));
        if !decision.hold.is_empty() || self.api.wishes.apps.len() < before {
            self.hub_touch();
        }
        if self.api.wishes.apps.len() < before {
            self.watch.tally.add("deleted app let go");
        }
    }

    /// Tells a peer what concerns it, where it was told something else.
    fn hub_tell(&mut self, session: u64, decision: &Decision) {
        let Some(open) = self.hub.sessions.get_mut(&session) else { return };
        let mut publish = |topic: &'static str, version: (u64, u64), payload: Vec<u8>| {
            let news = open.told.insert(topic, version) != Some(version);
            if news {
                open.outbox.publish(topic, version.0, payload.into());
            }
            news
        };
        let mut told = None;
        match open.party {
            Party::Agent(i) => {
                if let Some(desired) = decision.desired.get(&self.ids[i])
                    && publish(topic::DESIRED, (desired.number, desired.term), desired.encode_to_vec())
                {
                    told = Some((i, desired.number));
                }
            }
            Party::Dns(_) => {
                let (head, report) = (&decision.head, &decision.report);
                publish(topic::SNAPSHOT, (head.number, head.term), head.encode_to_vec());
                publish(topic::HUB_REPORT, (report.number, report.term), report.encode_to_vec());
            }
            Party::Hub | Party::Ingress(_) => {}
        }
        if let Some((i, number)) = told
            && self.is_undisturbed(i)
            && self.agents[i].link.session == Some(session)
        {
            let now = self.now();
            self.watch.tell(now, &Fact::Told { cluster: &self.ids[i], number });
        }
        self.flush(Party::Hub, session);
    }

    /// Whether nothing stands between the hub and an agent.
    fn is_undisturbed(&self, agent: usize) -> bool {
        let (here, there) = (self.hub.site, self.agents[agent].site);
        let clean = |from, to| !self.network.is_cut(from, to) && !self.network.is_lossy(from, to);
        self.agents[agent].down == 0 && clean(here, there) && clean(there, here)
    }

    pub(super) fn hub_joined(&mut self, peer: Party) {
        if let Party::Agent(i) = peer {
            // The certificate says what the cluster is.
            self.hub.choice.uids.insert(self.ids[i].clone(), self.clusters[i].uid.clone());
        }
        self.count_connected();
        self.hub_touch();
    }

    pub(super) fn hub_close(&mut self, session: u64) {
        if let Some(open) = self.hub.sessions.remove(&session)
            && let Party::Agent(i) = open.party
        {
            let (now, local) = (self.now(), self.local(Party::Hub));
            // Silent or replaced: its silence goes on.
            self.hub.tunnels.handle_heard(local, local.since(open.heard), &self.ids[i]);
            self.watch.tell(now, &Fact::Disturbed { cluster: &self.ids[i] });
        }
        self.count_connected();
        self.hub_touch();
    }

    /// Tells every DNS node how long agents have been silent.
    pub(super) fn tell_tunnels(&mut self) {
        let now = self.local(Party::Hub);
        let heard: Vec<(ClusterId, Duration)> = (self.hub.sessions.values())
            .filter_map(|open| match open.party {
                Party::Agent(i) => Some((self.ids[i].clone(), now.since(open.heard))),
                Party::Hub | Party::Dns(_) | Party::Ingress(_) => None,
            })
            .collect();
        heard.iter().for_each(|(cluster, ago)| self.hub.tunnels.handle_heard(now, *ago, cluster));
        let tunnels = wire::findings(&self.hub.tunnels.findings(now));
        let payload = Bytes::from(TunnelReport { term: self.hub.term, tunnels }.encode_to_vec());
        let mut told = Vec::new();
        for (session, open) in self.hub.sessions.iter_mut().filter(|(_, open)| matches!(open.party, Party::Dns(_))) {
            open.outbox.publish(topic::TUNNELS, now.as_nanos(), payload.clone());
            told.push(*session);
        }
        told.into_iter().for_each(|session| self.flush(Party::Hub, session));
    }

    fn count_connected(&mut self) {
        let parties = self.hub.sessions.values().map(|open| open.party);
        self.hub.seen.connected = parties
            .filter_map(|party| match party {
                Party::Agent(i) => Some(self.ids[i].clone()),
                Party::Hub | Party::Dns(_) | Party::Ingress(_) => None,
            })
            .collect();
    }

    /// A publication has arrived.
    pub(super) fn hub_take(&mut self, from: Party, publication: &Publication) {
        let payload = publication.payload.clone();
        let seen = &mut self.hub.seen;
        match (from, publication.topic.as_str()) {
            (Party::Agent(i), topic::LEDGER) => {
                _ = seen.ledgers.insert(self.ids[i].clone(), read(Ledger::decode(payload)))
            }
            (Party::Agent(i), topic::CLUSTER) => {
                seen.reports.insert(self.ids[i].clone(), read(ClusterReport::decode(payload)));
            }
            (Party::Dns(i), topic::NODE) => {
                seen.nodes.insert(self.nodes[i].name.to_owned(), read(NodeReport::decode(payload)));
            }
            (Party::Hub | Party::Agent(_) | Party::Dns(_) | Party::Ingress(_), _) => {}
        }
        self.hub_touch();
    }

    pub(super) fn hub_blob(&self, from: Party, digest: &Digest) -> Option<Bytes> {
        match from {
            Party::Agent(_) => self.hub.renders.get(digest).cloned(),
            Party::Dns(_) => {
                self.hub.snapshots.iter().find(|(named, _)| named == digest).map(|(_, bytes)| bytes.clone())
            }
            Party::Hub | Party::Ingress(_) => None,
        }
    }

    /// The hub cluster is set back to the last backup, with everything in it but the Lease, where `lease` says so.
    pub(super) fn restore_hub(&mut self, lease: bool) {
        let Some(backup) = self.backup.clone() else { return };
        let (term, refusing) = (self.api.term, self.api.refusing);
        self.api = Api { refusing, ..backup };
        if !lease {
            self.api.term = term;
        }
    }
}

/// Messages that this world's own processes wrote.
pub(super) fn read<T>(decoded: Result<T, prost::DecodeError>) -> T {
    match decoded {
        Ok(message) => message,
        Err(error) => panic!("a message of the world does not read: {error}"),
    }
}
