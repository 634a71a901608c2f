//! A cluster in memory: the objects that its API server holds, and the run of an app over them.
//!
//! A [`Pass`] is the shell of `agent::apply` in virtual time, one request after the other: it looks, asks
//! [`policies::plan::plan`], acts, and looks again after prunes. It chooses nothing: what it saw and what came of it is
//! put into words by [`agent::round`], as there. Absent on purpose: rights, CRDs,
//! webhooks, finalizers of members; the real API server has those in the agent's own tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent::address::Exposure;
use agent::core::{Failure, Outcome, Work};
use agent::health::Health;
use agent::kept::Kept;
use agent::members::{Applied, Did, Live, WatchKey};
use agent::names;
use agent::render::Render;
use agent::round::{self, ROUNDS};
use api::wire::Digest;
use bytes::Bytes;
use policies::id::AppId;
use policies::plan::{
    Action, GroupKind, Intent, Listing, Mark, ObjectDigest, ObjectId, PlanReport, Seen, SetRecord, State, Terms,
    Wanted, plan,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::random::Random;

/// The agent's namespace in each cluster.
pub const NAMESPACE: &str = "isochrone-system";

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// What the agent's watch tells of it.
    pub live: Live,
    /// Content that was applied last.
    pub digest: ObjectDigest,
    /// The epoch under which it was applied last: known to the world, not to any role.
    pub epoch: u64,
    /// Its JSON, from which its exposure is read once it is ready.
    json: Value,
}

/// What is wrong with the cluster's API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Lists fail, half of them.
    pub lists: u32,
    /// Applies fail, a third of them.
    pub applies: u32,
    /// Every request takes fifty times as long.
    pub slow: u32,
}

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Where users reach it.
    pub address: String,
    /// What it is.
    pub uid: String,
    /// Everything that apps own.
    pub objects: BTreeMap<ObjectId, Object>,
    /// ApplySet parents.
    pub parents: BTreeMap<AppId, SetRecord>,
    /// What its agent wrote down.
    pub memory: Option<(Kept, BTreeMap<Digest, Bytes>)>,
    /// How many faults hold its ingress down.
    pub ingress_down: u32,
    /// What is wrong with its API server.
    pub troubles: Troubles,
    versions: u64,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(name: &str, address: String) -> Self {
        Self {
            address,
            uid: format!("uid-{name}"),
            objects: BTreeMap::new(),
            parents: BTreeMap::new(),
            memory: None,
            ingress_down: 0,
            troubles: Troubles::default(),
            versions: 0,
        }
    }

    /// The agent is told that an object changed; this is what it then sees. `None`: it is gone.
    pub fn live(&self, id: &ObjectId) -> Option<Live> {
        self.objects.get(id).map(|object| object.live.clone())
    }

    /// The object's controller is done: it is current, and exposed where it exposes anything.
    pub fn mature(&mut self, id: &ObjectId, uid: &str) -> bool {
        let (version, address) = (self.next_version(), self.address.clone());
        let Some(object) = self.objects.get_mut(id).filter(|object| object.live.uid == uid) else {
            return false;
        };
        object.json["status"] = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
        object.live.health = Health::Current;
        object.live.exposure = Exposure::of(&object.json);
        object.live.version = version;
        true
    }

    /// Whether every object of `wanted` is here as wanted.
    pub fn has_applied(&self, app: &AppId, wanted: &BTreeMap<ObjectId, ObjectDigest>) -> bool {
        let set = set_of(app);
        let stands = |object: &Object, digest: &ObjectDigest| object.live.set == set && object.digest == *digest;
        wanted.iter().all(|(id, digest)| self.objects.get(id).is_some_and(|object| stands(object, digest)))
    }

    /// The version of an app's manifests that its Deployment was applied from.
    pub fn version_of(&self, app: &AppId) -> Option<u64> {
        let id = ObjectId {
            kind: GroupKind::new("apps", "Deployment"),
            namespace: Some(app.namespace.clone()),
            name: app.name.clone(),
        };
        self.objects.get(&id)?.json.pointer("/spec/template/version")?.as_u64()
    }

    /// Objects of an app.
    pub fn of_app(&self, app: &AppId) -> BTreeSet<ObjectId> {
        let set = set_of(app);
        self.objects.iter().filter(|(_, object)| object.live.set == set).map(|(id, _)| id.clone()).collect()
    }

    /// Whether the app serves here at this moment: a Deployment of it is current.
    pub fn serves(&self, app: &AppId) -> bool {
        let set = set_of(app);
        let serving = |(id, object): (&ObjectId, &Object)| {
            id.kind.kind == "Deployment" && object.live.set == set && object.live.health == Health::Current
        };
        self.objects.iter().any(serving)
    }

    fn next_version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    fn apply(&mut self, pass: &Pass, id: &ObjectId) -> Option<(ObjectDigest, Live)> {
        let wanted = pass.objects.get(id)?;
        let version = self.next_version();
        let digest = wanted.digest;
        // Where nothing has to start, what was applied is current at once.
        let at_once = !matches!(id.kind.kind.as_str(), "Deployment" | "Ingress");
        let earlier = self.objects.get(id);
        let uid = earlier.map_or_else(|| format!("{id}-{version}"), |object| object.live.uid.clone());
        // A new version of what runs rolls out under the old one: it stays current. Its address stays, too.
        let current = at_once || earlier.is_some_and(|object| object.live.health == Health::Current);
        let mut json = wanted.json.clone();
        if let Some(status) = earlier.and_then(|object| object.json.get("status")) {
            json["status"] = status.clone();
        }
        let live = Live {
            set: pass.set.clone(),
            uid,
            version,
            deleting: false,
            owned: Some(Sha256::digest(digest).into()),
            health: if current { Health::Current } else { Health::InProgress { why: "starting".into() } },
            replicas_ready: u32::from(current),
            exposure: Exposure::of(&json),
        };
        self.objects.insert(id.clone(), Object { live: live.clone(), digest, epoch: pass.epoch, json });
        Some((digest, live))
    }
}

/// Id of an app's ApplySet.
pub fn set_of(app: &AppId) -> String {
    names::set_id(&names::parent(app), NAMESPACE)
}

/// What the cluster did in one step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It was looked at; `complete`: every kind could be listed.
    Looked {
        /// Whether every list succeeded.
        complete: bool,
    },
    /// An object was applied.
    Applied(ObjectId),
    /// An object was deleted, which had last been applied under this epoch and was seen like this.
    Deleted(ObjectId, u64, Box<Live>),
    /// Something else, or a request that failed.
    Other,
    /// The run is over.
    Over,
}

/// One run over one app, between two requests.
#[derive(Debug)]
pub struct Pass {
    /// The app.
    pub app: AppId,
    /// Names the run.
    pub run: u64,
    /// The epoch of the order that it acts on, from the cluster's memory.
    pub epoch: u64,
    /// It takes the app away.
    pub remove: bool,
    /// Ids and contents of the render.
    pub wanted: BTreeMap<ObjectId, ObjectDigest>,
    /// What came of it.
    pub outcome: Outcome,
    /// What it did, for the agent's watches.
    pub did: Did,
    /// Nothing of the app is left.
    pub gone: bool,
    terms: Terms,
    set: String,
    objects: BTreeMap<ObjectId, agent::render::Object>,
    list: Vec<Wanted>,
    known: BTreeMap<ObjectId, Applied>,
    kinds: BTreeSet<GroupKind>,
    state: Option<State>,
    todo: VecDeque<Action>,
    failed: BTreeSet<ObjectId>,
    rounds: usize,
    look_again: bool,
}

impl Pass {
    /// A run of `work`. `known`: what earlier runs of this process left standing; `kinds`: of objects with the set's
    /// label, as far as watches tell.
    pub fn new(
        app: AppId,
        run: u64,
        epoch: u64,
        work: &Work,
        known: BTreeMap<ObjectId, Applied>,
        kinds: BTreeSet<GroupKind>,
    ) -> Self {
        let set = set_of(&app);
        let mut pass = Self {
            did: Did { set: set.clone(), ..Did::default() },
            app,
            run,
            epoch,
            remove: matches!(work, Work::Remove { .. }),
            wanted: BTreeMap::new(),
            outcome: Outcome::default(),
            gone: false,
            terms: Terms::default(),
            set,
            objects: BTreeMap::new(),
            list: Vec::new(),
            known,
            kinds,
            state: None,
            todo: VecDeque::new(),
            failed: BTreeSet::new(),
            rounds: 0,
            look_again: false,
        };
        match work {
            Work::Remove { cascade } => pass.terms.cascade = *cascade,
            Work::Apply(bytes) => match Render::decode(bytes) {
                Ok(render) => pass.take(render),
                Err(error) => pass.outcome.failures.push(Failure::new("InvalidRender", error.to_string())),
            },
        }
        pass
    }

    fn take(&mut self, render: Render) {
        self.terms = render.terms;
        self.did.hosts = Some(render.hosts);
        self.outcome.objects = u32::try_from(render.objects.len()).unwrap_or(u32::MAX);
        for object in render.objects {
            let id = object.id(true, &self.app.namespace);
            self.list.push(Wanted { id: id.clone(), digest: object.digest, defines: None });
            self.wanted.insert(id.clone(), object.digest);
            self.objects.insert(id, object);
        }
    }

    /// The next request, performed on `cluster`.
    pub fn step(&mut self, cluster: &mut Cluster, random: &mut Random) -> Deed {
        if self.state.is_none() || self.look_again {
            self.look_again = false;
            return self.look(cluster, random);
        }
        match self.todo.pop_front() {
            Some(action) => {
                let deed = self.act(cluster, action, random);
                if self.todo.is_empty() && !self.look_again {
                    self.plan();
                }
                deed
            }
            None => Deed::Over,
        }
    }

    /// Whether the next step only says that the run is over.
    pub fn is_over(&self) -> bool {
        self.state.is_some() && !self.look_again && self.todo.is_empty()
    }

    fn look(&mut self, cluster: &Cluster, random: &mut Random) -> Deed {
        let mut state = State { set: cluster.parents.get(&self.app).cloned(), ..State::default() };
        let mut kinds: BTreeSet<GroupKind> = self.wanted.keys().map(|id| id.kind.clone()).collect();
        kinds.extend(state.set.iter().flat_map(|set| set.kinds.clone()));
        kinds.extend(self.kinds.iter().cloned());
        let mut complete = true;
        for kind in kinds {
            if cluster.troubles.lists > 0 && random.chance(500) {
                complete = false;
                state.kinds.insert(kind, Listing::Failed { error: "etcdserver: request timed out".into() });
                continue;
            }
            let found = cluster.objects.iter().filter(|(id, object)| {
                id.kind == kind && (object.live.set == self.set || self.wanted.contains_key(*id))
            });
            state.objects.extend(found.map(|(id, object)| (id.clone(), self.see(id, object))));
            state.kinds.insert(kind, Listing::Complete);
        }
        // What the lists do not show is looked for by name, so that nothing is made blindly.
        for id in self.wanted.keys() {
            if let Some(object) = cluster.objects.get(id).filter(|_| !state.objects.contains_key(id)) {
                state.objects.insert(id.clone(), self.see(id, object));
            }
        }
        self.state = Some(state);
        self.plan();
        Deed::Looked { complete }
    }

    fn see(&self, id: &ObjectId, object: &Object) -> Seen {
        let known = self.did.applied.get(id).or_else(|| self.known.get(id));
        round::see(&object.live.set, &self.set, object.live.owned, object.live.deleting, known)
    }

    fn plan(&mut self) {
        let Some(state) = &self.state else { return };
        let intent = if self.remove { Intent::Remove } else { Intent::Run(&self.list) };
        let (actions, report) = plan(intent, self.terms, state);
        // No CRD is in this world, so nothing is waited for.
        self.todo = round::todo(actions, &self.failed, true).into();
        self.rounds += 1;
        if self.rounds > ROUNDS && !self.todo.is_empty() {
            self.todo.clear();
            self.outcome
                .failures
                .push(Failure::new("Unsettled", "the cluster changes faster than it can be looked at"));
        } else if self.todo.is_empty() {
            self.conclude(&report);
        }
    }

    fn act(&mut self, cluster: &mut Cluster, action: Action, random: &mut Random) -> Deed {
        let fails = cluster.troubles.applies > 0 && random.chance(330);
        match action {
            Action::Widen(record) | Action::Narrow(record) => {
                cluster.parents.insert(self.app.clone(), record.clone());
                self.know(|state| state.set = Some(record));
                Deed::Other
            }
            Action::Dissolve => {
                cluster.parents.remove(&self.app);
                self.know(|state| state.set = None);
                Deed::Other
            }
            Action::AwaitEstablished { .. } => Deed::Other,
            Action::Apply { id, .. } if fails => {
                self.outcome.failures.push(Failure::new("Timeout", format!("apply {id}: no answer in time")));
                self.failed.insert(id);
                Deed::Other
            }
            Action::Apply { id, .. } => {
                let Some((digest, live)) = cluster.apply(self, &id) else { return Deed::Other };
                let seen = Seen { mark: Mark::Ours, applied: Some(digest), deleting: false, identical: false };
                self.know(|state| _ = state.objects.insert(id.clone(), seen));
                self.did.applied.insert(id.clone(), Applied { digest, owned: live.owned });
                self.did.live.insert(id.clone(), live);
                Deed::Applied(id)
            }
            Action::Prune { id } => {
                self.look_again |= self.todo.is_empty();
                // Only what still is ours is deleted (preconditions on UID and version).
                let ours = cluster.objects.get(&id).is_some_and(|object| object.live.set == self.set);
                match ours.then(|| cluster.objects.remove(&id)).flatten() {
                    Some(object) => Deed::Deleted(id, object.epoch, Box::new(object.live)),
                    None => Deed::Other,
                }
            }
        }
    }

    fn know(&mut self, change: impl FnOnce(&mut State)) {
        if let Some(state) = &mut self.state {
            change(state);
        }
    }

    fn conclude(&mut self, report: &PlanReport) {
        let Self { app, known, objects, outcome, did, .. } = self;
        let version = |id: &ObjectId| objects.get(id).map(|object| object.version.clone()).unwrap_or_default();
        round::conclude(app, report, known, version, outcome, did);
        self.gone = self.remove && self.outcome.settled && self.state.as_ref().is_some_and(|s| s.set.is_none());
    }
}

/// The watch of one kind.
pub fn watch_key(kind: &GroupKind) -> WatchKey {
    let plural = format!("{}s", kind.kind.to_ascii_lowercase());
    WatchKey { kind: kind.clone(), version: "v1".into(), plural, user: None, namespace: None }
}
