//! What the controllers know: every object, parsed once, kept up to date from the store's changes.
//!
//! Only objects that a controller looks at are kept whole; of the rest, custom ones too, remains what garbage
//! collection needs: who owns them, and how they end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Controller, Work};
use crate::api::Api;
use crate::kinds::fields::{at, has, list, text, truth};
use crate::kinds::selectors;
use crate::registry::Resource;
use crate::store::Object;

pub(super) const PODS: &str = "/pods";
pub(super) const NODES: &str = "/nodes";
pub(super) const SERVICES: &str = "/services";
pub(super) const NAMESPACES: &str = "/namespaces";
pub(super) const ACCOUNTS: &str = "/serviceaccounts";
pub(super) const CONFIG_MAPS: &str = "/configmaps";
pub(super) const ENDPOINTS: &str = "/endpoints";
pub(super) const SLICES: &str = "discovery.k8s.io/endpointslices";
pub(super) const DEPLOYMENTS: &str = "apps/deployments";
pub(super) const REPLICA_SETS: &str = "apps/replicasets";
pub(super) const STATEFUL_SETS: &str = "apps/statefulsets";
pub(super) const DAEMON_SETS: &str = "apps/daemonsets";
pub(super) const REVISIONS: &str = "apps/controllerrevisions";
pub(super) const JOBS: &str = "batch/jobs";
pub(super) const CRON_JOBS: &str = "batch/cronjobs";
pub(super) const CLAIMS: &str = "/persistentvolumeclaims";
pub(super) const VOLUMES: &str = "/persistentvolumes";
pub(super) const CLASSES: &str = "storage.k8s.io/storageclasses";
pub(super) const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
pub(super) const BUDGETS: &str = "policy/poddisruptionbudgets";
pub(super) const EVENTS: &str = "/events";

/// Tables whose objects are kept whole.
const WHOLE: [&str; 20] = [
    PODS,
    NODES,
    SERVICES,
    NAMESPACES,
    ACCOUNTS,
    CONFIG_MAPS,
    ENDPOINTS,
    SLICES,
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    DAEMON_SETS,
    REVISIONS,
    JOBS,
    CRON_JOBS,
    CLAIMS,
    VOLUMES,
    CLASSES,
    CLUSTER_ROLES,
    BUDGETS,
];

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) resource: Arc<Resource>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Who owns it: uid, kind, name, whether it is the controller, and whether the owner's end waits for this one's.
    pub(super) owners: Vec<Owner>,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
    /// All of it, for tables that controllers look at; without kind and version.
    pub(super) value: Option<Arc<Value>>,
}

/// One owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) controller: bool,
    pub(super) blocks: bool,
}

/// What happened.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) before: Option<Arc<Known>>,
    pub(super) after: Option<Arc<Known>>,
}

/// All objects.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    tables: BTreeMap<String, Table>,
    by_uid: BTreeMap<String, (String, String)>,
    /// Owners' uids to the keys of what they own.
    dependents: BTreeMap<String, BTreeSet<(String, String)>>,
    revision: u64,
}

#[derive(Debug, Default)]
struct Table {
    revision: u64,
    objects: BTreeMap<String, Arc<Known>>,
}

fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl Cache {
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes in what was written since the last call.
    pub(super) fn follow(&mut self, api: &Api) -> Vec<Change> {
        let state = api.state();
        let revision = state.store.revision();
        if revision == self.revision {
            return Vec::new();
        }
        let registry = state.registry.clone();
        let mut out = Vec::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for resource in registry.all() {
            if resource.table == EVENTS
                || !resource.verbs.iter().any(|verb| verb == "list")
                || !seen.insert(&resource.table)
            {
                continue;
            }
            let since = self.tables.entry(resource.table.clone()).or_default().revision;
            match state.store.changes_after(&resource.table, since) {
                Some(changes) if since > 0 => {
                    // Only what is there at the end counts: a controller asks what is, not what was.
                    let last: BTreeMap<String, (bool, Arc<Object>)> =
                        changes.into_iter().map(|it| (it.object.key(), (it.deleted, it.object))).collect();
                    for (key, (deleted, object)) in last {
                        let after = (!deleted).then(|| Arc::new(known(resource, &object)));
                        out.extend(self.put(&resource.table, key, after));
                    }
                }
                Some(_) | None => {
                    let now: BTreeMap<String, Arc<Object>> =
                        state.store.list(&resource.table, "").map(|object| (object.key(), object.clone())).collect();
                    let gone: Vec<String> = self.tables[&resource.table]
                        .objects
                        .keys()
                        .filter(|key| !now.contains_key(*key))
                        .cloned()
                        .collect();
                    for key in gone {
                        out.extend(self.put(&resource.table, key, None));
                    }
                    for (key, object) in now {
                        out.extend(self.put(&resource.table, key, Some(Arc::new(known(resource, &object)))));
                    }
                }
            }
            if let Some(table) = self.tables.get_mut(&resource.table) {
                table.revision = revision;
            }
        }
        // A definition that went took its table with it.
        let lost: Vec<String> = self.tables.keys().filter(|table| !seen.contains(table.as_str())).cloned().collect();
        for table in lost {
            let keys: Vec<String> = self.tables[&table].objects.keys().cloned().collect();
            for key in keys {
                out.extend(self.put(&table, key, None));
            }
            self.tables.remove(&table);
        }
        self.revision = revision;
        out
    }

    fn put(&mut self, table: &str, key: String, after: Option<Arc<Known>>) -> Option<Change> {
        let objects = &mut self.tables.get_mut(table)?.objects;
        let before = match &after {
            Some(after) => objects.insert(key.clone(), after.clone()),
            None => objects.remove(&key),
        };
        let place = (table.to_owned(), key);
        if let Some(before) = &before {
            if after.as_ref().is_none_or(|after| after.uid != before.uid) {
                self.by_uid.remove(&before.uid);
            }
            for owner in &before.owners {
                if let Some(set) = self.dependents.get_mut(&owner.uid) {
                    set.remove(&place);
                    if set.is_empty() {
                        self.dependents.remove(&owner.uid);
                    }
                }
            }
        }
        if let Some(after) = &after {
            self.by_uid.insert(after.uid.clone(), place.clone());
            for owner in &after.owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(place.clone());
            }
        }
        (before.is_some() || after.is_some()).then_some(Change { before, after })
    }

    /// An object of any table.
    pub(super) fn known(&self, table: &str, namespace: &str, name: &str) -> Option<Arc<Known>> {
        self.tables.get(table)?.objects.get(&key(namespace, name)).cloned()
    }

    /// An object that is kept whole.
    pub(super) fn get(&self, table: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.tables.get(table)?.objects.get(&key(namespace, name))?.value.clone()
    }

    /// The objects of a table in a namespace, or in all where it is empty.
    pub(super) fn list<'a>(&'a self, table: &str, namespace: &str) -> impl Iterator<Item = &'a Arc<Value>> + use<'a> {
        self.list_known(table, namespace).filter_map(|known| known.value.as_ref())
    }

    /// The same for tables that are not kept whole.
    pub(super) fn list_known<'a>(
        &'a self,
        table: &str,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Arc<Known>> + use<'a> {
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let objects = self.tables.get(table).map(|table| &table.objects);
        objects.into_iter().flat_map(move |objects| {
            let end = prefix.clone();
            objects.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&end)).map(|(_, known)| known)
        })
    }

    /// Everything in a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<Known>> {
        let tables: Vec<&String> = self.tables.keys().collect();
        tables
            .into_iter()
            .flat_map(|table| self.list_known(table, namespace))
            .filter(|known| known.resource.namespaced && known.namespace == namespace)
            .cloned()
            .collect()
    }

    /// Whether an object with this uid is there.
    pub(super) fn of_uid(&self, uid: &str) -> Option<Arc<Known>> {
        let (table, key) = self.by_uid.get(uid)?;
        self.tables.get(table)?.objects.get(key).cloned()
    }

    /// What names this uid as an owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Arc<Known>> {
        let places = self.dependents.get(uid).into_iter().flatten();
        places.filter_map(|(table, key)| self.tables.get(table)?.objects.get(key).cloned()).collect()
    }
}

fn known(resource: &Arc<Resource>, object: &Object) -> Known {
    let value = object.value();
    let meta = at(&value, &["metadata"]);
    let owners = list(meta, "ownerReferences").iter().map(|owner| Owner {
        uid: text(owner, "uid").to_owned(),
        kind: text(owner, "kind").to_owned(),
        name: text(owner, "name").to_owned(),
        controller: truth(owner, "controller"),
        blocks: truth(owner, "blockOwnerDeletion"),
    });
    let finalizers = list(meta, "finalizers").iter().filter_map(|one| Some(one.as_str()?.to_owned()));
    Known {
        resource: resource.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        uid: object.uid.clone(),
        owners: owners.collect(),
        finalizers: finalizers.collect(),
        deleting: has(meta, "deletionTimestamp"),
        value: WHOLE.contains(&resource.table.as_str()).then(|| Arc::new(value)),
    }
}

/// Notes whose business a change is.
pub(super) fn notify(work: &mut Work, change: &Change) {
    let Some(known) = change.after.as_ref().or(change.before.as_ref()).cloned() else { return };
    let (namespace, name) = (known.namespace.as_str(), known.name.as_str());
    let table = known.resource.table.as_str();
    let place = format!("{table}/{name}");
    match &change.after {
        None => {
            for dependent in work.cache.dependents(&known.uid) {
                let place = format!("{}/{}", dependent.resource.table, dependent.name);
                work.enqueue(Controller::Owned, &dependent.namespace, &place);
            }
        }
        Some(after) => {
            if !after.owners.is_empty() {
                work.enqueue(Controller::Owned, namespace, &place);
            }
            if after.deleting && after.finalizers.iter().any(|it| it == "foregroundDeletion" || it == "orphan") {
                work.enqueue(Controller::Owner, namespace, &place);
            }
        }
    }
    // Who waits for this one's end, or counts it.
    for side in [&change.before, &change.after].into_iter().flatten() {
        for owner in &side.owners {
            if let Some(owner) = work.cache.of_uid(&owner.uid)
                && owner.deleting
            {
                let place = format!("{}/{}", owner.resource.table, owner.name);
                work.enqueue(Controller::Owner, &owner.namespace, &place);
            }
            if owner.controller {
                notify_controller(work, namespace, owner);
            }
        }
    }
    if change.after.is_none()
        && !namespace.is_empty()
        && work.cache.known(NAMESPACES, "", namespace).is_some_and(|namespace| namespace.deleting)
    {
        work.enqueue(Controller::Namespace, "", namespace);
    }
    notify_own(work, change, &known);
}

fn notify_controller(work: &mut Work, namespace: &str, owner: &Owner) {
    let controller = match owner.kind.as_str() {
        "Deployment" => Controller::Deployment,
        "ReplicaSet" => Controller::ReplicaSet,
        "StatefulSet" => Controller::StatefulSet,
        "DaemonSet" => Controller::DaemonSet,
        "Job" => Controller::Job,
        "CronJob" => Controller::CronJob,
        "Service" => Controller::Service,
        _ => return,
    };
    work.enqueue(controller, namespace, &owner.name);
}

/// The controllers of the object's own kind, and those that select it by its labels.
fn notify_own(work: &mut Work, change: &Change, known: &Known) {
    let (namespace, name) = (known.namespace.as_str(), known.name.as_str());
    match known.resource.table.as_str() {
        PODS => {
            work.enqueue(Controller::Life, namespace, name);
            work.enqueue(Controller::Schedule, namespace, name);
            notify_selecting(work, change, namespace);
            count_pod(work, change);
            if change.after.is_none() {
                work.started.remove(&known.uid);
                work.stopping.remove(&known.uid);
                // Room for those that wait.
                enqueue_waiting(work);
            } else if known.owners.iter().all(|owner| !owner.controller) {
                notify_adopters(work, REPLICA_SETS, Controller::ReplicaSet, known);
                notify_adopters(work, STATEFUL_SETS, Controller::StatefulSet, known);
                notify_adopters(work, DAEMON_SETS, Controller::DaemonSet, known);
                notify_adopters(work, JOBS, Controller::Job, known);
            }
        }
        NODES => {
            work.enqueue(Controller::Node, "", name);
            enqueue_waiting(work);
            enqueue_all(work, DAEMON_SETS, Controller::DaemonSet);
        }
        SERVICES => work.enqueue(Controller::Service, namespace, name),
        ENDPOINTS => work.enqueue(Controller::Service, namespace, name),
        NAMESPACES => {
            work.enqueue(Controller::Namespace, "", name);
            work.enqueue(Controller::Account, "", name);
        }
        ACCOUNTS | CONFIG_MAPS if name == "default" || name == "kube-root-ca.crt" => {
            work.enqueue(Controller::Account, "", namespace);
        }
        DEPLOYMENTS => work.enqueue(Controller::Deployment, namespace, name),
        REPLICA_SETS => {
            work.enqueue(Controller::ReplicaSet, namespace, name);
            if known.owners.iter().all(|owner| !owner.controller) {
                notify_adopters(work, DEPLOYMENTS, Controller::Deployment, known);
            }
        }
        STATEFUL_SETS => work.enqueue(Controller::StatefulSet, namespace, name),
        DAEMON_SETS => work.enqueue(Controller::DaemonSet, namespace, name),
        JOBS => work.enqueue(Controller::Job, namespace, name),
        CRON_JOBS => work.enqueue(Controller::CronJob, namespace, name),
        BUDGETS => work.enqueue(Controller::Budget, namespace, name),
        CLAIMS => {
            work.enqueue(Controller::Claim, namespace, name);
            for side in [&change.before, &change.after].into_iter().flatten() {
                let volume = side.value.as_ref().map(|claim| text(at(claim, &["spec"]), "volumeName").to_owned());
                if let Some(volume) = volume.filter(|volume| !volume.is_empty()) {
                    work.enqueue(Controller::Volume, "", &volume);
                }
            }
        }
        VOLUMES => {
            work.enqueue(Controller::Volume, "", name);
            let claim = known.value.as_ref().map(|volume| at(volume, &["spec", "claimRef"]).clone());
            if let Some(claim) = claim.filter(Value::is_object) {
                work.enqueue(Controller::Claim, text(&claim, "namespace"), text(&claim, "name"));
            }
        }
        CLASSES => enqueue_all(work, CLAIMS, Controller::Claim),
        CLUSTER_ROLES => enqueue_all(work, CLUSTER_ROLES, Controller::Role),
        _ => {}
    }
}

/// Keeps the books of what runs where, and who has which address.
fn count_pod(work: &mut Work, change: &Change) {
    for (side, sign) in [(&change.before, -1), (&change.after, 1)] {
        let Some(pod) = side.as_ref().and_then(|known| known.value.as_ref()) else { continue };
        let uid = text(at(pod, &["metadata"]), "uid");
        let ended = matches!(text(at(pod, &["status"]), "phase"), "Succeeded" | "Failed");
        let node = text(at(pod, &["spec"]), "nodeName");
        if !node.is_empty() && !ended {
            work.loads.entry(node.to_owned()).or_default().count(pod, sign);
        }
        let address = text(at(pod, &["status"]), "podIP").parse();
        if let Ok(address) = address
            && !truth(at(pod, &["spec"]), "hostNetwork")
        {
            if sign > 0 && !ended {
                work.addresses.insert(address, uid.to_owned());
            } else {
                work.addresses.remove(&address);
            }
        }
    }
}

/// Something without a controller may be adopted by who selects it.
fn notify_adopters(work: &mut Work, table: &str, controller: Controller, known: &Known) {
    let Some(value) = &known.value else { return };
    let labels = at(value, &["metadata", "labels"]);
    let names: Vec<String> = work
        .cache
        .list(table, &known.namespace)
        .filter(|one| selectors::matches(at(one, &["spec", "selector"]), labels))
        .map(|one| text(at(one, &["metadata"]), "name").to_owned())
        .collect();
    for name in names {
        work.enqueue(controller, &known.namespace, &name);
    }
}

/// Everything of a table is looked at again.
fn enqueue_all(work: &mut Work, table: &str, controller: Controller) {
    let all: Vec<(String, String)> = work
        .cache
        .list_known(table, "")
        .filter(|known| table != CLUSTER_ROLES || known.value.as_ref().is_some_and(|role| has(role, "aggregationRule")))
        .map(|known| (known.namespace.clone(), known.name.clone()))
        .collect();
    for (namespace, name) in all {
        work.enqueue(controller, &namespace, &name);
    }
}

/// Services and budgets that select a pod, or did; and claims that it uses.
fn notify_selecting(work: &mut Work, change: &Change, namespace: &str) {
    let labels: Vec<Value> = [&change.before, &change.after]
        .into_iter()
        .flatten()
        .filter_map(|known| Some(at(known.value.as_ref()?, &["metadata", "labels"]).clone()))
        .collect();
    let names: Vec<String> = work
        .cache
        .list(SERVICES, namespace)
        .filter(|service| {
            labels.iter().any(|labels| selectors::matches_map(at(service, &["spec", "selector"]), labels))
        })
        .map(|service| text(at(service, &["metadata"]), "name").to_owned())
        .collect();
    for name in names {
        work.enqueue(Controller::Service, namespace, &name);
    }
    let budgets: Vec<String> = work
        .cache
        .list(BUDGETS, namespace)
        .filter(|budget| labels.iter().any(|labels| selectors::matches(at(budget, &["spec", "selector"]), labels)))
        .map(|budget| text(at(budget, &["metadata"]), "name").to_owned())
        .collect();
    for name in budgets {
        work.enqueue(Controller::Budget, namespace, &name);
    }
    let pod = change.before.as_ref().or(change.after.as_ref()).and_then(|known| known.value.clone());
    for volume in pod.iter().flat_map(|pod| list(at(pod, &["spec"]), "volumes")) {
        let claim = text(at(volume, &["persistentVolumeClaim"]), "claimName");
        if !claim.is_empty() {
            work.enqueue(Controller::Claim, namespace, claim);
        }
    }
}

/// Pods without a node try again.
fn enqueue_waiting(work: &mut Work) {
    let waiting: Vec<(String, String)> = work
        .cache
        .list(PODS, "")
        .filter(|pod| text(at(pod, &["spec"]), "nodeName").is_empty())
        .map(|pod| {
            let meta = at(pod, &["metadata"]);
            (text(meta, "namespace").to_owned(), text(meta, "name").to_owned())
        })
        .collect();
    for (namespace, name) in waiting {
        work.enqueue(Controller::Schedule, &namespace, &name);
    }
}
