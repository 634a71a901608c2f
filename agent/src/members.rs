//! What the agent knows of the objects that it delivered: watch events in, one [`View`] per app out. Sync, no IO.
//!
//! Drift is found by comparison, never by periodic patches: server-side apply keeps, in `managedFields`, the set of
//! fields that are ours. Whoever changes one of them takes it out of that set; whoever adds fields of their own (a
//! controller's status, another tool's annotation) does not touch it. So *our field set is the one we had after the
//! last apply* means *what we applied still stands*.
//!
//! Absent on purpose: the objects themselves. Only what a decision needs is kept of each, a few hundred bytes.

use std::collections::{BTreeMap, BTreeSet};

use api::wire::HostAddresses;
use policies::id::AppId;
use policies::plan::{GroupKind, ObjectDigest, ObjectId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::address::{Exposure, addresses};
use crate::health::{Health, health, replicas_ready};
use crate::names::{MANAGER_PREFIX, PART_OF};

/// One object as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Id of the ApplySet that it belongs to; empty when none.
    pub set: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// It has a deletion time stamp.
    pub deleting: bool,
    /// Fingerprint of the fields that are ours; `None` when none is.
    pub owned: Option<[u8; 32]>,
    /// What its status says.
    pub health: Health,
    /// Its ready pods.
    pub replicas_ready: u32,
    /// What it exposes.
    pub exposure: Option<Exposure>,
}

impl Live {
    /// Reads an object as the API server returned it.
    pub fn of(object: &Value) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let label = object.pointer("/metadata/labels").and_then(|l| l.get(PART_OF)).and_then(Value::as_str);
        Self {
            set: label.unwrap_or_default().to_owned(),
            uid: text("/metadata/uid"),
            version: text("/metadata/resourceVersion"),
            deleting: object.pointer("/metadata/deletionTimestamp").is_some(),
            owned: owned(object),
            health: health(object),
            replicas_ready: replicas_ready(object),
            exposure: Exposure::of(object),
        }
    }

    /// Whether this was seen before `other`. Resource versions are comparable as numbers (KEP-5504); where they are
    /// not numbers, what came last is newest.
    fn is_older_than(&self, other: &Self) -> bool {
        match (self.version.parse::<u128>(), other.version.parse::<u128>()) {
            (Ok(mine), Ok(theirs)) => self.uid == other.uid && mine < theirs,
            _ => false,
        }
    }
}

/// Fingerprint of our server-side-apply field set.
pub fn owned(object: &Value) -> Option<[u8; 32]> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ours = entries.iter().find(|e| {
        text(e, "operation") == "Apply"
            && text(e, "subresource").is_empty()
            && text(e, "manager").starts_with(MANAGER_PREFIX)
    })?;
    // Without `time`, which says when the set changed, not what it is.
    Some(Sha256::digest(ours.get("fieldsV1").map(Value::to_string).unwrap_or_default()).into())
}

/// What one run left standing of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Content that was applied.
    pub digest: ObjectDigest,
    /// Our field set right after.
    pub owned: Option<[u8; 32]>,
}

/// What one run did, as far as [`Members`] needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Did {
    /// Id of the app's ApplySet.
    pub set: String,
    /// Hosts of the render; `None` when the run did not get as far as reading it.
    pub hosts: Option<Vec<String>>,
    /// Every object of the render that stands as applied.
    pub applied: BTreeMap<ObjectId, Applied>,
    /// What the API server answered to applies.
    pub live: BTreeMap<ObjectId, Live>,
    /// Every object of the render stands.
    pub complete: bool,
}

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchKey {
    /// The kind.
    pub kind: GroupKind,
    /// The version it is watched in.
    pub version: String,
    /// Its resource name, `deployments`.
    pub plural: String,
    /// As whom: the user of this App namespace, or the agent itself.
    pub user: Option<String>,
    /// Where; `None`: everywhere.
    pub namespace: Option<String>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new listing starts.
    Init,
    /// An object of that listing.
    InitApply(ObjectId, Live),
    /// The listing is complete: what it did not name is gone.
    InitDone,
    /// An object is there, new or changed.
    Apply(ObjectId, Live),
    /// An object is gone.
    Delete(ObjectId, Live),
}

/// One app as it stands, for the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Objects delivered and current.
    pub ready: u32,
    /// Ready pods over all of them.
    pub replicas_ready: u32,
    /// Objects on the way, with what is missing.
    pub waiting: Vec<(ObjectId, String)>,
    /// Objects that gave up, with why.
    pub failed: Vec<(ObjectId, String)>,
    /// Objects that are not as they were applied: changed by somebody, or gone.
    pub drifted: Vec<ObjectId>,
    /// Addresses of the app's hosts. A host is missing here while it is not known whether it has any.
    pub addresses: Vec<HostAddresses>,
}

/// Every delivered object.
#[derive(Debug, Default)]
pub struct Members {
    live: BTreeMap<ObjectId, Live>,
    /// Ids in `live` by the set that they belong to.
    sets: BTreeMap<String, BTreeSet<ObjectId>>,
    records: BTreeMap<AppId, Record>,
    listing: BTreeMap<WatchKey, BTreeSet<ObjectId>>,
}

#[derive(Debug, Default)]
struct Record {
    set: String,
    hosts: Vec<String>,
    applied: BTreeMap<ObjectId, Applied>,
    complete: bool,
}

impl Members {
    /// What a watch told; returns the apps whose view may have changed.
    pub fn handle_event(&mut self, watch: &WatchKey, event: Event) -> BTreeSet<AppId> {
        let mut sets = BTreeSet::new();
        match event {
            Event::Init => drop(self.listing.insert(watch.clone(), BTreeSet::new())),
            Event::InitApply(id, live) => {
                if let Some(listing) = self.listing.get_mut(watch) {
                    listing.insert(id.clone());
                }
                self.upsert(id, live, &mut sets);
            }
            Event::InitDone => {
                let listed = self.listing.remove(watch).unwrap_or_default();
                let covered = |id: &ObjectId| {
                    id.kind == watch.kind && (watch.namespace.is_none() || id.namespace == watch.namespace)
                };
                let gone: Vec<ObjectId> =
                    self.live.keys().filter(|id| covered(id) && !listed.contains(*id)).cloned().collect();
                for id in gone {
                    sets.extend(self.take(&id).map(|l| l.set));
                }
            }
            Event::Apply(id, live) => self.upsert(id, live, &mut sets),
            Event::Delete(id, live) => {
                // An object made again since is another one.
                if self.live.get(&id).is_some_and(|known| known.uid == live.uid) {
                    self.take(&id);
                }
                sets.insert(live.set);
            }
        }
        self.records.iter().filter(|(_, r)| sets.contains(&r.set)).map(|(app, _)| app.clone()).collect()
    }

    /// What a run did.
    pub fn handle_run(&mut self, app: &AppId, did: Did) {
        let mut touched = BTreeSet::new();
        for (id, live) in did.live {
            self.upsert(id, live, &mut touched);
        }
        let earlier = self.records.remove(app).unwrap_or_default();
        let hosts = did.hosts.unwrap_or(earlier.hosts);
        let record = Record { set: did.set, hosts, applied: did.applied, complete: did.complete };
        self.records.insert(app.clone(), record);
    }

    /// The app is gone.
    pub fn forget(&mut self, app: &AppId) {
        self.records.remove(app);
    }

    /// What was applied of an app, for the next run.
    pub fn applied(&self, app: &AppId) -> BTreeMap<ObjectId, Applied> {
        self.records.get(app).map(|r| r.applied.clone()).unwrap_or_default()
    }

    /// Objects that carry the label of `set`, whatever put it there.
    pub fn of_set(&self, set: &str) -> BTreeSet<ObjectId> {
        self.sets.get(set).cloned().unwrap_or_default()
    }

    /// How an app stands now.
    pub fn view(&self, app: &AppId) -> View {
        let mut view = View::default();
        let Some(record) = self.records.get(app) else { return view };
        for (id, applied) in &record.applied {
            let Some(live) = self.live.get(id).filter(|l| l.set == record.set) else {
                view.drifted.push(id.clone());
                continue;
            };
            if live.owned != applied.owned {
                view.drifted.push(id.clone());
            }
            match &live.health {
                Health::Current => view.ready += 1,
                Health::InProgress { why } => view.waiting.push((id.clone(), why.clone())),
                Health::Failed { why } => view.failed.push((id.clone(), why.clone())),
            }
        }
        // What serves is what is there, also where the newest version of it was refused.
        let ours = self.sets.get(&record.set).into_iter().flatten().filter_map(|id| self.live.get(id));
        view.replicas_ready = ours.clone().fold(0, |sum: u32, l| sum.saturating_add(l.replicas_ready));
        view.addresses = addresses(&record.hosts, ours.filter_map(|l| l.exposure.as_ref()));
        if !record.complete {
            // An address that is not found yet is not known to be missing.
            view.addresses.retain(|host| !host.addresses.is_empty());
        }
        view
    }

    fn upsert(&mut self, id: ObjectId, live: Live, sets: &mut BTreeSet<String>) {
        let known = self.live.get(&id);
        if known.is_some_and(|known| live.is_older_than(known)) {
            return;
        }
        sets.extend(known.map(|k| k.set.clone()));
        sets.insert(live.set.clone());
        self.take(&id);
        self.sets.entry(live.set.clone()).or_default().insert(id.clone());
        self.live.insert(id, live);
    }

    fn take(&mut self, id: &ObjectId) -> Option<Live> {
        let live = self.live.remove(id)?;
        if let Some(ids) = self.sets.get_mut(&live.set) {
            ids.remove(id);
            if ids.is_empty() {
                self.sets.remove(&live.set);
            }
        }
        Some(live)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(namespace: Option<&str>) -> WatchKey {
        WatchKey {
            kind: GroupKind::new("", "ConfigMap"),
            version: "v1".into(),
            plural: "configmaps".into(),
            user: None,
            namespace: namespace.map(Into::into),
        }
    }

    fn id(name: &str) -> ObjectId {
        ObjectId { kind: GroupKind::new("", "ConfigMap"), namespace: Some("shop".into()), name: name.into() }
    }

    fn live(version: u64, fields: &str) -> Live {
        Live::of(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "uid": "u", "resourceVersion": version.to_string(), "labels": {PART_OF: "set"},
        "managedFields": [
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:x": {}}},
            {"manager": "isochrone:shop/web", "operation": "Apply", "time": version.to_string(), "fieldsV1": {fields: {}}},
        ]}}))
    }

    fn members() -> (Members, AppId) {
        let app = AppId::new("shop", "web");
        let mut members = Members::default();
        let (one, two) = (live(5, "f:data"), live(6, "f:data"));
        let applied = [("a", &one), ("b", &two)].map(|(n, l)| (id(n), Applied { digest: [0; 32], owned: l.owned }));
        let live = BTreeMap::from([(id("a"), one.clone()), (id("b"), two.clone())]);
        let applied = applied.into_iter().collect();
        members.handle_run(&app, Did { set: "set".into(), hosts: None, applied, live, complete: true });
        (members, app)
    }

    #[test]
    fn only_a_change_of_our_own_fields_is_drift() {
        let (mut members, app) = members();
        assert_eq!(members.view(&app).drifted, []);
        assert_eq!(members.view(&app).ready, 2);
        // Somebody else's field changes: other version, same field set of ours.
        let touched = members.handle_event(&key(None), Event::Apply(id("a"), live(7, "f:data")));
        assert_eq!(touched, BTreeSet::from([app.clone()]));
        assert_eq!(members.view(&app).drifted, []);
        members.handle_event(&key(None), Event::Apply(id("a"), live(8, "f:less")));
        assert_eq!(members.view(&app).drifted, [id("a")]);
        // Late news of the watch does not undo what the API server answered since.
        members.handle_event(&key(None), Event::Apply(id("a"), live(7, "f:data")));
        assert_eq!(members.view(&app).drifted, [id("a")]);
    }

    #[test]
    fn deletion_is_drift_however_it_is_learnt() {
        let (mut members, app) = members();
        members.handle_event(&key(None), Event::Delete(id("a"), live(9, "f:data")));
        assert_eq!(members.view(&app).drifted, [id("a")]);
        // A new listing of another namespace says nothing about ours; one of ours does.
        for (namespace, gone) in [("other", 1), ("shop", 2)] {
            members.handle_event(&key(Some(namespace)), Event::Init);
            members.handle_event(&key(Some(namespace)), Event::InitDone);
            assert_eq!(members.view(&app).drifted.len(), gone);
        }
    }

    #[test]
    fn a_lost_label_is_drift_and_a_late_deletion_of_an_earlier_object_is_not() {
        let (mut members, app) = members();
        let earlier = Live { uid: "before".into(), ..live(4, "f:data") };
        members.handle_event(&key(None), Event::Delete(id("a"), earlier));
        assert_eq!(members.view(&app).drifted, []);
        members.handle_event(&key(None), Event::Apply(id("b"), Live { set: String::new(), ..live(9, "f:data") }));
        assert_eq!(members.view(&app).drifted, [id("b")]);
    }

    /// A run that fails must not take the addresses of what still serves out of the ledger.
    #[test]
    fn addresses_outlive_failed_runs_and_unknown_is_not_none() {
        let ingress = |version: u64| {
            Live::of(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"uid": "i", "resourceVersion": version.to_string(), "labels": {PART_OF: "set"}},
                "spec": {"rules": [{"host": "a.example"}]}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}))
        };
        let name = ObjectId { kind: GroupKind::new("networking.k8s.io", "Ingress"), ..id("web") };
        let app = AppId::new("shop", "web");
        let mut members = Members::default();
        let hosts = Some(vec!["a.example".to_owned(), "b.example".to_owned()]);
        let run = |hosts, complete| Did { set: "set".into(), hosts, complete, ..Did::default() };
        let told = |members: &Members| -> Vec<String> {
            members.view(&app).addresses.iter().map(|h| format!("{}={}", h.host, h.addresses.join(","))).collect()
        };
        members.handle_run(&app, run(hosts.clone(), false));
        assert_eq!(told(&members), [""; 0]);
        members.handle_event(&key(None), Event::Apply(name.clone(), ingress(1)));
        assert_eq!(told(&members), ["a.example=192.0.2.1"]);
        members.handle_run(&app, run(None, false));
        assert_eq!(told(&members), ["a.example=192.0.2.1"]);
        members.handle_run(&app, run(hosts, true));
        assert_eq!(told(&members), ["a.example=192.0.2.1", "b.example="]);
        members.handle_event(&key(None), Event::Delete(name, ingress(2)));
        assert_eq!(told(&members), ["a.example=", "b.example="]);
    }
}
