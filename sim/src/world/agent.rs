//! The agent of one cluster: `agent::core::Core` and `agent::members::Members` in the shell that `agent::engine` is,
//! in virtual time. What it keeps stands in its cluster and survives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::agent::core::{Command, Core, Job};
use ::agent::kept::Kept;
use ::agent::members::{Event as Watch, Live, Members};
use api::wire::{ClusterReport, Desired, Digest, topic};
use bytes::Bytes;
use policies::id::AppId;
use policies::plan::{GroupKind, ObjectId};
use policies::time::Instant;
use prost::Message as _;
use tunnel::outbox::Publication;

use super::hub::read;
use super::link::{Body, Link, Party};
use super::{Event, World};
use crate::clock::Clock;
use crate::cluster::{Deed, Pass, set_of, watch_key};
use crate::fact::{Deletion, Fact};
use crate::network::SiteId;

/// The agent's process.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) site: SiteId,
    pub(super) clock: Clock,
    /// How many faults hold it down.
    pub(super) down: u32,
    pub(super) boot: u64,
    pub(super) link: Link,
    core: Core,
    members: Members,
    watching: BTreeSet<GroupKind>,
    passes: BTreeMap<u64, Pass>,
    keeping: Option<(u64, Kept, BTreeMap<Digest, Bytes>)>,
    /// When the core is called next, if that is under way.
    wake: Option<Instant>,
}

impl Agent {
    pub(super) fn new(site: SiteId, clock: Clock) -> Self {
        Self {
            site,
            clock,
            down: 0,
            boot: 0,
            link: Link::new(),
            core: Core::new(),
            members: Members::default(),
            watching: BTreeSet::new(),
            passes: BTreeMap::new(),
            keeping: None,
            wake: None,
        }
    }
}

impl World {
    /// An agent's process starts and takes up what an earlier one kept.
    pub(super) fn agent_start(&mut self, i: usize) {
        let now = self.now();
        let Agent { site, clock, down, boot, .. } = self.agents[i];
        self.agents[i] = Agent { down, boot: boot + 1, ..Agent::new(site, clock.restarted(now)) };
        if let Some((kept, blobs)) = self.clusters[i].memory.clone() {
            self.agents[i].core.restore(Instant::ORIGIN, kept, blobs);
            self.watch.tally.add("agent goes on from its memory");
        }
        let report = ClusterReport { uid: self.clusters[i].uid.clone(), api_ready: true, ..ClusterReport::default() };
        self.publish(Party::Agent(i), topic::CLUSTER, report.encode_to_vec().into());
        let at = now + Duration::from_millis(10 * i as u64);
        self.queue.push(at, Event::Tick(Party::Agent(i), boot + 1));
        self.agent_poll(i);
    }

    /// An agent's process dies. A write under way is done or not.
    pub(super) fn agent_stop(&mut self, i: usize) {
        if self.streams.crashes.chance(500) {
            self.agent_write(i);
        }
        let agent = &mut self.agents[i];
        agent.keeping = None;
        if !agent.passes.is_empty() {
            self.watch.tally.add("agent died in the middle of a run");
        }
        agent.passes.clear();
        agent.link = Link::new();
    }

    pub(super) fn agent_connected(&mut self, i: usize) {
        let now = self.local(Party::Agent(i));
        self.agents[i].core.handle_connected(now);
        self.agent_poll(i);
    }

    /// The hub said something.
    pub(super) fn agent_take(&mut self, i: usize, publication: &Publication) {
        if publication.topic != topic::DESIRED {
            return;
        }
        let desired = read(Desired::decode(publication.payload.clone()));
        let (now, local) = (self.now(), self.local(Party::Agent(i)));
        let refused = self.agents[i].core.handle_desired(local, desired.clone()).err().map(|refusal| refusal.code());
        match refused {
            Some("StaleTerm") => self.watch.tally.add("agent refuses an older term"),
            Some(_) => self.watch.tally.add("agent refuses an older number"),
            None => {}
        }
        self.watch.tell(now, &Fact::Reached { cluster: &self.ids[i], desired: &desired, refused });
        self.agent_poll(i);
    }

    pub(super) fn agent_blob(&mut self, i: usize, digest: &Digest, bytes: Bytes) {
        let now = self.local(Party::Agent(i));
        self.agents[i].core.handle_blob(now, digest, bytes);
        self.agent_poll(i);
    }

    pub(super) fn agent_wake(&mut self, i: usize, boot: u64) {
        if self.boot(Party::Agent(i)) == Some(boot) {
            self.agents[i].wake = None;
            let now = self.local(Party::Agent(i));
            self.agents[i].core.handle_timeout(now);
            self.agent_poll(i);
        }
    }

    /// Does what the core wants done.
    fn agent_poll(&mut self, i: usize) {
        while let Some(command) = self.agents[i].core.poll_command() {
            match command {
                Command::Fetch(digest) => {
                    if let Some(session) = self.agents[i].link.session {
                        self.post(Party::Agent(i), Party::Hub, session, Body::Ask(digest));
                    }
                }
                Command::Publish(ledger) => {
                    if ledger.entries.iter().any(|entry| entry.reason == "StaleEpoch") {
                        self.watch.tally.add("agent refuses an older epoch");
                    }
                    self.publish(Party::Agent(i), topic::LEDGER, ledger.encode_to_vec().into());
                }
                Command::Keep { seq, kept, blobs } => {
                    self.agents[i].keeping = Some((seq, kept, blobs));
                    let delay = self.request(i);
                    let boot = self.agents[i].boot;
                    self.after(delay, Event::Kept(i, boot, seq));
                }
                Command::Run(job) => self.agent_run(i, job),
            }
        }
        let Some(at) = self.agents[i].core.poll_timeout() else { return };
        // Never at this very instant: a core that asks for that has been polled until it had nothing to do.
        let at = self.agents[i].clock.world(at).max(self.now() + Duration::from_millis(1));
        if self.agents[i].wake.is_none_or(|wake| at < wake) {
            self.agents[i].wake = Some(at);
            let boot = self.agents[i].boot;
            self.queue.push(at, Event::Wake(i, boot));
        }
    }

    /// How long the cluster's API server takes for the next request.
    fn request(&mut self, i: usize) -> Duration {
        let usual = self.streams.requests.between(Duration::from_millis(3), Duration::from_millis(25));
        if self.clusters[i].troubles.slow > 0 { usual * 50 } else { usual }
    }

    /// The write of the memory is answered.
    pub(super) fn agent_kept(&mut self, i: usize, boot: u64, seq: u64) {
        if self.boot(Party::Agent(i)) != Some(boot) {
            return;
        }
        let fails = self.clusters[i].troubles.applies > 0 && self.streams.requests.chance(330);
        let result = if fails {
            self.watch.tally.add("agent cannot write its memory");
            Err("no answer in time".to_owned())
        } else {
            self.agent_write(i);
            Ok(())
        };
        self.agents[i].keeping = None;
        let now = self.local(Party::Agent(i));
        self.agents[i].core.handle_kept(now, seq, result);
        self.agent_poll(i);
    }

    fn agent_write(&mut self, i: usize) {
        if let Some((_, kept, blobs)) = self.agents[i].keeping.take() {
            let now = self.now();
            self.watch.tell(now, &Fact::Kept { cluster: &self.ids[i], kept: &kept });
            self.clusters[i].memory = Some((kept, blobs));
        }
    }

    fn agent_run(&mut self, i: usize, job: Job) {
        let now = self.now();
        let nothing = Kept::default();
        let kept = self.clusters[i].memory.as_ref().map_or(&nothing, |(kept, _)| kept);
        self.watch.tell(now, &Fact::Started { cluster: &self.ids[i], job: &job, kept });
        let mut orders = kept.apps.iter().filter_map(|app| app.desired.as_ref());
        let epoch = orders.find(|o| o.namespace == job.app.namespace && o.name == job.app.name).map_or(0, |o| o.epoch);
        let agent = &mut self.agents[i];
        let known = agent.members.applied(&job.app);
        let mut kinds: BTreeSet<GroupKind> =
            agent.members.of_set(&set_of(&job.app)).into_iter().map(|id| id.kind).collect();
        kinds.extend(known.keys().map(|id| id.kind.clone()));
        let pass = Pass::new(job.app, job.run, epoch, &job.work, known, kinds);
        agent.passes.insert(job.run, pass);
        let boot = agent.boot;
        let delay = self.request(i);
        self.after(delay, Event::Step(i, boot, job.run));
    }

    /// A run's next request is answered.
    pub(super) fn agent_step(&mut self, i: usize, boot: u64, run: u64) {
        if self.boot(Party::Agent(i)) != Some(boot) {
            return;
        }
        let Some(mut pass) = self.agents[i].passes.remove(&run) else { return };
        let deed = pass.step(&mut self.clusters[i], &mut self.streams.requests);
        self.note_deed(i, &pass, &deed);
        if deed == Deed::Over || pass.is_over() {
            self.agent_ran(i, pass);
        } else {
            self.agents[i].passes.insert(run, pass);
            let delay = self.request(i);
            self.after(delay, Event::Step(i, boot, run));
        }
    }

    fn note_deed(&mut self, i: usize, pass: &Pass, deed: &Deed) {
        let (now, boot) = (self.now(), self.agents[i].boot);
        match deed {
            Deed::Looked { complete } => {
                if !complete {
                    self.watch.tally.add("list failed");
                }
                let fact = Fact::Looked { cluster: &self.ids[i], run: pass.run, complete: *complete };
                self.watch.tell(now, &fact);
            }
            Deed::Applied(object) => {
                let fact = Fact::Applied { cluster: &self.ids[i], app: &pass.app, object, epoch: pass.epoch };
                self.watch.tell(now, &fact);
                let live = self.clusters[i].live(object);
                if let Some(live) = live.filter(|live| live.health != ::agent::health::Health::Current) {
                    let delay = self.streams.requests.between(Duration::from_millis(500), Duration::from_secs(3));
                    self.after(delay, Event::Mature(i, object.clone(), live.uid));
                }
                self.after(Duration::from_millis(20), Event::Watched(i, boot, object.clone()));
            }
            Deed::Deleted(object, applied, live) => {
                let copies = (0..self.ids.len()).filter(|other| *other != i && self.clusters[*other].serves(&pass.app));
                let deletion = Deletion {
                    cluster: &self.ids[i],
                    app: &pass.app,
                    object,
                    run: pass.run,
                    epoch: pass.epoch,
                    applied: *applied,
                    removing: pass.remove,
                    whole: self.clusters[i].has_applied(&pass.app, &pass.wanted),
                    elsewhere: copies.count(),
                };
                self.watch.tally.add(if pass.remove { "object removed with its app" } else { "object pruned" });
                self.watch.tell(now, &Fact::Deleted(deletion));
                self.after(Duration::from_millis(20), Event::Gone(i, boot, object.clone(), live.clone()));
            }
            Deed::Other | Deed::Over => {}
        }
        self.note_copy(i, &pass.app);
    }

    fn agent_ran(&mut self, i: usize, pass: Pass) {
        let now = self.local(Party::Agent(i));
        for failure in &pass.outcome.failures {
            self.watch.tally.add(match failure.reason.as_str() {
                "ListFailed" => "run held by a list error",
                _ => "run with a failure",
            });
        }
        if pass.gone {
            self.agents[i].members.forget(&pass.app);
            self.watch.tally.add("app removed from a cluster");
        } else {
            let kinds: BTreeSet<GroupKind> = pass.wanted.keys().map(|id| id.kind.clone()).collect();
            self.agents[i].members.handle_run(&pass.app, pass.did);
            for kind in kinds {
                self.agent_watch(i, self.agents[i].boot, kind);
            }
        }
        let agent = &mut self.agents[i];
        agent.core.handle_ran(now, &pass.app, pass.run, pass.outcome);
        agent.core.handle_view(now, &pass.app, agent.members.view(&pass.app));
        self.agent_poll(i);
    }

    /// A watch of one kind begins with a list; one that fails is tried again.
    pub(super) fn agent_watch(&mut self, i: usize, boot: u64, kind: GroupKind) {
        if self.boot(Party::Agent(i)) != Some(boot) || self.agents[i].watching.contains(&kind) {
            return;
        }
        if self.clusters[i].troubles.lists > 0 {
            self.watch.tally.add("watch cannot list");
            return self.after(Duration::from_secs(2), Event::Watch(i, boot, kind));
        }
        let key = watch_key(&kind);
        let (agent, cluster) = (&mut self.agents[i], &self.clusters[i]);
        let mut touched: BTreeSet<AppId> = agent.members.handle_event(&key, Watch::Init);
        for (id, object) in cluster.objects.iter().filter(|(id, _)| id.kind == kind) {
            touched.extend(agent.members.handle_event(&key, Watch::InitApply(id.clone(), object.live.clone())));
        }
        touched.extend(agent.members.handle_event(&key, Watch::InitDone));
        agent.watching.insert(kind);
        self.agent_viewed(i, touched, true);
    }

    /// The watch tells of an object that is there.
    pub(super) fn agent_watched(&mut self, i: usize, boot: u64, object: &ObjectId) {
        if let Some(live) = self.clusters[i].live(object) {
            self.agent_event(i, boot, &object.kind, Watch::Apply(object.clone(), live), false);
        }
    }

    /// The watch tells of an object that is gone.
    pub(super) fn agent_gone(&mut self, i: usize, boot: u64, object: &ObjectId, live: Live) {
        self.agent_event(i, boot, &object.kind, Watch::Delete(object.clone(), live), true);
    }

    fn agent_event(&mut self, i: usize, boot: u64, kind: &GroupKind, event: Watch, went: bool) {
        if self.boot(Party::Agent(i)) == Some(boot) && self.agents[i].watching.contains(kind) {
            let touched = self.agents[i].members.handle_event(&watch_key(kind), event);
            self.agent_viewed(i, touched, went);
        }
    }

    fn agent_viewed(&mut self, i: usize, touched: BTreeSet<AppId>, went: bool) {
        let now = self.local(Party::Agent(i));
        let agent = &mut self.agents[i];
        for app in touched {
            agent.core.handle_view(now, &app, agent.members.view(&app));
            if went {
                agent.core.handle_hint(now, &app);
            }
        }
        self.agent_poll(i);
    }
}
