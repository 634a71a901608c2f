//! Deployments: one ReplicaSet for each template, and the way from one to the next.
//!
//! The steps are those of the real controller: make the new set, let it grow as far as `maxSurge` allows, shrink the
//! old ones as far as `maxUnavailable` allows, keep the conditions, forget old revisions.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::replica_sets::write_status;
use super::server::{DEPLOYMENT, Program, REPLICA_SET, condition};
use super::templates::{HASH_LABEL, claim, controller_ref, created, hash, is_deleting, same};
use super::{Controller, Work, cache};
use crate::kinds::fields::{at, entries, has, integer, list, text, truth};

const COMPONENT: &str = "deployment-controller";
const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// A Deployment's ReplicaSets.
struct Sets {
    new: Option<Value>,
    /// All others, the oldest first.
    old: Vec<Value>,
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &Value> {
        self.old.iter().chain(&self.new)
    }
}

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(deployment) = work.cache.get(cache::DEPLOYMENTS, namespace, name) else { return };
    let claimed = claim(work, DEPLOYMENT, &deployment, cache::REPLICA_SETS);
    if is_deleting(&deployment) {
        let sets = sort(&deployment, claimed);
        update_status(work, &deployment, &sets);
        return;
    }
    let Some(deployment) = check_pause(work, &deployment) else { return };
    let spec = at(&deployment, &["spec"]);
    if truth(spec, "paused") || was_scaled(&deployment, &claimed) {
        let mut sets = sort(&deployment, claimed);
        sync_revision(work, &deployment, &mut sets, false);
        let Some(deployment) = work.cache.get(cache::DEPLOYMENTS, namespace, name) else { return };
        scale_all(work, &deployment, &mut sets);
        update_status(work, &deployment, &fresh(work, &sets));
        return;
    }
    let mut sets = sort(&deployment, claimed);
    let recreates = text(at(&deployment, &["spec", "strategy"]), "type") == "Recreate";
    sync_revision(work, &deployment, &mut sets, !recreates);
    let Some(deployment) = work.cache.get(cache::DEPLOYMENTS, namespace, name) else { return };
    if recreates {
        recreate(work, &deployment, &mut sets);
    } else if grow(work, &deployment, &mut sets) || shrink(work, &deployment, &mut sets) {
        // The next step comes with the change that this one made.
    } else if is_complete(&deployment, at(&deployment, &["status"])) {
        forget(work, &deployment, &sets);
    }
    let Some(deployment) = work.cache.get(cache::DEPLOYMENTS, namespace, name) else { return };
    update_status(work, &deployment, &fresh(work, &sets));
}

/// The sets as they are now, after what was written to them.
fn fresh(work: &Work, sets: &Sets) -> Sets {
    let again = |set: &Value| {
        let meta = at(set, &["metadata"]);
        let now = work.cache.get(cache::REPLICA_SETS, text(meta, "namespace"), text(meta, "name"))?;
        Some((*now).clone())
    };
    Sets { new: sets.new.as_ref().and_then(again), old: sets.old.iter().filter_map(again).collect() }
}

/// The set whose template is the Deployment's, and the others.
fn sort(deployment: &Value, mut sets: Vec<Value>) -> Sets {
    sets.sort_by_key(|set| (created(set), text(at(set, &["metadata"]), "name").to_owned()));
    let template = at(deployment, &["spec", "template"]);
    let new = sets.iter().position(|set| same(at(set, &["spec", "template"]), template)).map(|at| sets.remove(at));
    Sets { new, old: sets }
}

fn replicas(set: &Value) -> i64 {
    integer(at(set, &["spec"]), "replicas").unwrap_or_default()
}

fn count(set: &Value, key: &str) -> i64 {
    integer(at(set, &["status"]), key).unwrap_or_default()
}

fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    text(at(object, &["metadata", "annotations"]), key)
}

fn revision(object: &Value) -> i64 {
    annotation(object, REVISION).parse().unwrap_or_default()
}

/// How many pods more, and how many fewer, there may be for a while.
fn leeway(deployment: &Value) -> (i64, i64) {
    let spec = at(deployment, &["spec"]);
    let wanted = replicas(deployment);
    if text(at(spec, &["strategy"]), "type") == "Recreate" {
        return (0, 0);
    }
    let rolling = at(spec, &["strategy", "rollingUpdate"]);
    let surge = share(at(rolling, &["maxSurge"]), wanted, true);
    let unavailable = share(at(rolling, &["maxUnavailable"]), wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1.min(wanted)) } else { (surge, unavailable.min(wanted)) }
}

/// A number, or a percentage of another one.
pub(super) fn share(value: &Value, of: i64, up: bool) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let product = percent.saturating_mul(of);
            if up { (product + 99) / 100 } else { product / 100 }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.as_i64().unwrap_or_default()
        }
    }
}

/// Notes that progress is not expected while the Deployment is paused. `None` if something was written.
fn check_pause(work: &mut Work, deployment: &std::sync::Arc<Value>) -> Option<std::sync::Arc<Value>> {
    let spec = at(deployment, &["spec"]);
    if !has_deadline(deployment) {
        return Some(deployment.clone());
    }
    let progressing = condition(deployment, "Progressing");
    let reason = text(progressing, "reason");
    if reason == "ProgressDeadlineExceeded" {
        return Some(deployment.clone());
    }
    let paused = truth(spec, "paused");
    let marked = reason == "DeploymentPaused";
    let new = match (paused, marked) {
        (true, false) => json!({"status": "Unknown", "reason": "DeploymentPaused", "message": "Deployment is paused"}),
        (false, true) => {
            json!({"status": "Unknown", "reason": "DeploymentResumed", "message": "Deployment is resumed"})
        }
        (true, true) | (false, false) => return Some(deployment.clone()),
    };
    let mut status = at(deployment, &["status"]).clone();
    put_condition(work, &mut status, "Progressing", &new);
    write_status(work, DEPLOYMENT, deployment, status);
    let meta = at(deployment, &["metadata"]);
    work.cache.get(cache::DEPLOYMENTS, text(meta, "namespace"), text(meta, "name"))
}

fn has_deadline(deployment: &Value) -> bool {
    integer(at(deployment, &["spec"]), "progressDeadlineSeconds").is_some_and(|seconds| seconds != i64::from(i32::MAX))
}

/// Sets a condition of a Deployment, which has two times.
fn put_condition(work: &Work, status: &mut Value, kind: &str, new: &Value) {
    if status.is_null() {
        *status = json!({});
    }
    let mut conditions = list(status, "conditions").to_vec();
    let before = conditions.iter().find(|it| text(it, "type") == kind).cloned();
    let same = |key: &str| before.as_ref().is_some_and(|before| before.get(key) == new.get(key));
    if same("status") && same("reason") {
        return;
    }
    let mut condition = new.clone();
    condition["type"] = kind.into();
    condition["lastUpdateTime"] = work.time().into();
    condition["lastTransitionTime"] = match &before {
        Some(before) if same("status") => at(before, &["lastTransitionTime"]).clone(),
        Some(_) | None => work.time().into(),
    };
    conditions.retain(|it| text(it, "type") != kind);
    conditions.push(condition);
    status["conditions"] = conditions.into();
}

fn drop_condition(status: &mut Value, kind: &str) {
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        conditions.retain(|it| text(it, "type") != kind);
    }
}

/// Whether somebody changed `replicas` since the sets were last told of it.
fn was_scaled(deployment: &Value, sets: &[Value]) -> bool {
    sets.iter()
        .filter(|set| replicas(set) > 0)
        .any(|set| annotation(set, DESIRED).parse::<i64>().is_ok_and(|desired| desired != replicas(deployment)))
}

/// Makes the new set if there is none, and numbers it.
fn sync_revision(work: &mut Work, deployment: &Value, sets: &mut Sets, create: bool) {
    let number = sets.old.iter().map(revision).max().unwrap_or_default() + 1;
    if let Some(set) = sets.new.clone() {
        let mut annotations = at(&set, &["metadata", "annotations"]).as_object().cloned().unwrap_or_default();
        let own = revision(&set);
        copy_annotations(deployment, &mut annotations);
        if own < number {
            annotations.insert(REVISION.into(), number.to_string().into());
            if own > 0 {
                let history = annotation(&set, HISTORY);
                let history = if history.is_empty() { own.to_string() } else { format!("{history},{own}") };
                annotations.insert(HISTORY.into(), history.into());
            }
        }
        let min_ready = at(deployment, &["spec", "minReadySeconds"]);
        let changed = at(&set, &["metadata", "annotations"]) != &Value::Object(annotations.clone())
            || at(&set, &["spec", "minReadySeconds"]) != min_ready;
        if changed {
            let mut set = set.clone();
            set["metadata"]["annotations"] = annotations.into();
            set["spec"]["minReadySeconds"] = min_ready.clone();
            sets.new = work.update(Program::ControllerManager, REPLICA_SET, "", &set).ok().or(sets.new.take());
        }
        let name = text(at(&set, &["metadata"]), "name").to_owned();
        let number = sets.new.as_ref().map_or(number, revision).max(1);
        let found = condition(deployment, "Progressing").is_null().then(|| {
            json!({"status": "True", "reason": "FoundNewReplicaSet",
                "message": format!("Found new replica set {name:?}")})
        });
        note_revision(work, deployment, number, found);
        return;
    }
    if !create {
        return;
    }
    let Some(set) = make_set(work, deployment, sets, number) else { return };
    let name = text(at(&set, &["metadata"]), "name").to_owned();
    sets.new = Some(set);
    let made = json!({"status": "True", "reason": "NewReplicaSetCreated",
        "message": format!("Created new replica set {name:?}")});
    note_revision(work, deployment, number, Some(made));
}

fn copy_annotations(deployment: &Value, annotations: &mut Map<String, Value>) {
    const OWN: [&str; 6] = [
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        HISTORY,
        DESIRED,
        MOST,
        "deprecated.deployment.rollback.to",
    ];
    for (key, value) in entries(at(deployment, &["metadata"]), "annotations") {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
}

fn make_set(work: &mut Work, deployment: &Value, sets: &Sets, number: i64) -> Option<Value> {
    let meta = at(deployment, &["metadata"]);
    let spec = at(deployment, &["spec"]);
    let mut template = at(spec, &["template"]).clone();
    let collisions = integer(at(deployment, &["status"]), "collisionCount").unwrap_or_default();
    let hash = hash(&template, collisions);
    template["metadata"]["labels"][HASH_LABEL] = hash.clone().into();
    let mut selector = at(spec, &["selector"]).clone();
    selector["matchLabels"][HASH_LABEL] = hash.clone().into();
    let mut annotations = Map::new();
    copy_annotations(deployment, &mut annotations);
    let (surge, _) = leeway(deployment);
    let wanted = replicas(deployment);
    annotations.insert(REVISION.into(), number.to_string().into());
    annotations.insert(DESIRED.into(), wanted.to_string().into());
    annotations.insert(MOST.into(), (wanted + surge).to_string().into());
    let name = format!("{}-{hash}", text(meta, "name"));
    let count = allowed(deployment, sets, 0);
    let set = json!({
        "metadata": {"name": name, "namespace": text(meta, "namespace"), "annotations": annotations,
            "labels": at(&template, &["metadata", "labels"]),
            "ownerReferences": [controller_ref(DEPLOYMENT, deployment)]},
        "spec": {"replicas": count, "minReadySeconds": at(spec, &["minReadySeconds"]), "selector": selector,
            "template": template},
    });
    match work.create(Program::ControllerManager, REPLICA_SET, &set) {
        Ok(set) => {
            if count > 0 {
                let message = format!("Scaled up replica set {name} from 0 to {count}");
                work.tell(COMPONENT, DEPLOYMENT, deployment, "Normal", "ScalingReplicaSet", &message);
            }
            Some(set)
        }
        Err(refusal) if refusal.code == 409 => {
            // The name is taken by another template with the same hash: try the next one.
            let mut status = at(deployment, &["status"]).clone();
            if status.is_null() {
                status = json!({});
            }
            status["collisionCount"] = (collisions + 1).into();
            write_status(work, DEPLOYMENT, deployment, status);
            None
        }
        Err(refusal) => {
            let message = format!("Failed to create new replica set {name:?}: {}", refusal.message);
            work.tell(COMPONENT, DEPLOYMENT, deployment, "Warning", "ReplicaSetCreateError", &message);
            None
        }
    }
}

/// Writes the revision, and what became of the new set, into the Deployment: through its status, as the real one does.
fn note_revision(work: &mut Work, deployment: &Value, number: i64, progress: Option<Value>) {
    let mut deployment = deployment.clone();
    let mut status = at(&deployment, &["status"]).clone();
    let mut changed = false;
    if annotation(&deployment, REVISION) != number.to_string() {
        deployment["metadata"]["annotations"][REVISION] = number.to_string().into();
        changed = true;
    }
    if let Some(progress) = progress
        && has_deadline(&deployment)
    {
        put_condition(work, &mut status, "Progressing", &progress);
        changed = true;
    }
    if changed {
        deployment["status"] = status;
        // A failure is the next step's: the cache has what is there.
        let _refused = work.update(Program::ControllerManager, DEPLOYMENT, "status", &deployment);
    }
}

/// How many replicas the new set may have.
fn allowed(deployment: &Value, sets: &Sets, own: i64) -> i64 {
    let wanted = replicas(deployment);
    if text(at(deployment, &["spec", "strategy"]), "type") == "Recreate" {
        return wanted;
    }
    let (surge, _) = leeway(deployment);
    let there: i64 = sets.old.iter().map(replicas).sum::<i64>() + own;
    let most = wanted + surge;
    if there >= most { own } else { own + (most - there).min(wanted - own) }
}

/// Sets a set's replicas, and tells it what the Deployment wants. True if the number changed.
fn scale(work: &mut Work, deployment: &Value, set: &mut Value, to: i64) -> bool {
    let from = replicas(set);
    let wanted = replicas(deployment);
    let (surge, _) = leeway(deployment);
    let told = annotation(set, DESIRED) == wanted.to_string() && annotation(set, MOST) == (wanted + surge).to_string();
    if from == to && told {
        return false;
    }
    let mut new = set.clone();
    new["spec"]["replicas"] = to.into();
    new["metadata"]["annotations"][DESIRED] = wanted.to_string().into();
    new["metadata"]["annotations"][MOST] = (wanted + surge).to_string().into();
    let Ok(new) = work.update(Program::ControllerManager, REPLICA_SET, "", &new) else { return false };
    let name = text(at(&new, &["metadata"]), "name").to_owned();
    *set = new;
    if from == to {
        return false;
    }
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {name} from {from} to {to}");
    work.tell(COMPONENT, DEPLOYMENT, deployment, "Normal", "ScalingReplicaSet", &message);
    true
}

fn grow(work: &mut Work, deployment: &Value, sets: &mut Sets) -> bool {
    let wanted = replicas(deployment);
    let Some(mut set) = sets.new.clone() else { return false };
    let own = replicas(&set);
    let to = match own.cmp(&wanted) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => wanted,
        std::cmp::Ordering::Less => allowed(deployment, sets, own),
    };
    let changed = scale(work, deployment, &mut set, to);
    sets.new = Some(set);
    changed
}

/// Shrinks the old sets: first what does not work anyway, then as far as enough pods are available.
fn shrink(work: &mut Work, deployment: &Value, sets: &mut Sets) -> bool {
    let old: i64 = sets.old.iter().map(replicas).sum();
    if old == 0 {
        return false;
    }
    let (_, unavailable) = leeway(deployment);
    let least = replicas(deployment) - unavailable;
    let new = sets.new.as_ref();
    let not_there = new.map_or(0, |set| replicas(set) - count(set, "availableReplicas"));
    let all = old + new.map_or(0, replicas);
    let most = all - least - not_there;
    if most <= 0 {
        return false;
    }
    let mut changed = false;
    let mut cleaned = 0;
    for at in 0..sets.old.len() {
        let set = &sets.old[at];
        let broken = replicas(set) - count(set, "availableReplicas");
        if replicas(set) == 0 || broken <= 0 || cleaned >= most {
            continue;
        }
        let less = broken.min(most - cleaned);
        cleaned += less;
        let mut set = set.clone();
        let to = replicas(&set) - less;
        changed |= scale(work, deployment, &mut set, to);
        sets.old[at] = set;
    }
    let available: i64 = sets.all().map(|set| count(set, "availableReplicas").min(replicas(set))).sum();
    let mut rest = available - least;
    for at in 0..sets.old.len() {
        let set = &sets.old[at];
        if rest <= 0 || replicas(set) == 0 {
            continue;
        }
        let less = replicas(set).min(rest);
        rest -= less;
        let mut set = set.clone();
        let to = replicas(&set) - less;
        changed |= scale(work, deployment, &mut set, to);
        sets.old[at] = set;
    }
    changed
}

/// All old pods end before a new one begins.
fn recreate(work: &mut Work, deployment: &Value, sets: &mut Sets) {
    let mut shrunk = false;
    for at in 0..sets.old.len() {
        if replicas(&sets.old[at]) > 0 {
            let mut set = sets.old[at].clone();
            shrunk |= scale(work, deployment, &mut set, 0);
            sets.old[at] = set;
        }
    }
    let remaining = sets.old.iter().any(|set| {
        super::templates::pods_of(work, set)
            .iter()
            .any(|pod| !matches!(text(at(pod, &["status"]), "phase"), "Succeeded" | "Failed"))
    });
    if shrunk || remaining {
        // The old pods' end wakes their sets, and those this Deployment.
        let meta = at(deployment, &["metadata"]);
        let soon = work.now + SignedDuration::from_secs(1);
        work.again(soon, Controller::Deployment, text(meta, "namespace"), text(meta, "name"));
        return;
    }
    if sets.new.is_none() {
        sync_revision(work, deployment, sets, true);
    }
    if let Some(mut set) = sets.new.clone() {
        scale(work, deployment, &mut set, replicas(deployment));
        sets.new = Some(set);
    }
    if is_complete(deployment, at(deployment, &["status"])) {
        forget(work, deployment, sets);
    }
}

/// Somebody changed the number, or everything stands still: the sets share it as they did.
fn scale_all(work: &mut Work, deployment: &Value, sets: &mut Sets) {
    let wanted = replicas(deployment);
    let active: Vec<Value> = sets.all().filter(|set| replicas(set) > 0).cloned().collect();
    let only = match active.as_slice() {
        [] => sets.new.clone().or_else(|| sets.old.last().cloned()),
        [one] => Some(one.clone()),
        _ => None,
    };
    if let Some(mut set) = only {
        if replicas(&set) != wanted || annotation(&set, DESIRED) != wanted.to_string() {
            scale(work, deployment, &mut set, wanted);
        }
        return;
    }
    let saturated = sets.new.as_ref().is_some_and(|set| {
        replicas(set) == wanted
            && annotation(set, DESIRED) == wanted.to_string()
            && count(set, "availableReplicas") == wanted
    });
    if saturated {
        for mut set in sets.old.iter().filter(|set| replicas(set) > 0).cloned().collect::<Vec<_>>() {
            scale(work, deployment, &mut set, 0);
        }
        return;
    }
    if text(at(deployment, &["spec", "strategy"]), "type") == "Recreate" {
        return;
    }
    let (surge, _) = leeway(deployment);
    let most = if wanted > 0 { wanted + surge } else { 0 };
    let there: i64 = active.iter().map(replicas).sum();
    let mut rest = most - there;
    let mut active = active;
    active.sort_by_key(|set| (-replicas(set), created(set)));
    let shares: Vec<i64> = active
        .iter()
        .map(|set| {
            let before: i64 = annotation(set, MOST).parse().unwrap_or(there).max(1);
            let ideal = (replicas(set) * most * 2 + before) / (before * 2);
            let share = ideal - replicas(set);
            let share = if rest >= 0 { share.clamp(0, rest) } else { share.clamp(rest, 0) };
            rest -= share;
            share
        })
        .collect();
    for (at, (mut set, share)) in active.into_iter().zip(shares).enumerate() {
        let extra = if at == 0 { rest } else { 0 };
        let to = (replicas(&set) + share + extra).max(0);
        scale(work, deployment, &mut set, to);
    }
}

/// Deletes old sets beyond the history's limit.
fn forget(work: &mut Work, deployment: &Value, sets: &Sets) {
    let limit = integer(at(deployment, &["spec"]), "revisionHistoryLimit").unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut old: Vec<&Value> = sets.old.iter().filter(|set| !is_deleting(set)).collect();
    if old.len() <= limit {
        return;
    }
    old.sort_by_key(|set| revision(set));
    let surplus = old.len() - limit;
    for set in old.into_iter().take(surplus) {
        let seen = integer(at(set, &["metadata"]), "generation") <= integer(at(set, &["status"]), "observedGeneration");
        if replicas(set) == 0 && count(set, "replicas") == 0 && seen {
            let _refused = work.delete_at(Program::ControllerManager, REPLICA_SET, set, &Value::Null);
        }
    }
}

/// All pods are of the new template, and available.
fn is_complete(deployment: &Value, status: &Value) -> bool {
    let wanted = replicas(deployment);
    let number = |key: &str| integer(status, key).unwrap_or_default();
    number("updatedReplicas") == wanted
        && number("replicas") == wanted
        && number("availableReplicas") == wanted
        && number("observedGeneration") >= integer(at(deployment, &["metadata"]), "generation").unwrap_or_default()
}

fn update_status(work: &mut Work, deployment: &Value, sets: &Sets) {
    let meta = at(deployment, &["metadata"]);
    let old = at(deployment, &["status"]);
    let sum = |key: &str| sets.all().map(|set| count(set, key)).sum::<i64>();
    let available = sum("availableReplicas");
    let updated = sets.new.as_ref().map_or(0, |set| count(set, "replicas"));
    let total: i64 = sets.all().map(replicas).sum();
    let mut status = json!({
        "observedGeneration": at(meta, &["generation"]), "replicas": sum("replicas"), "updatedReplicas": updated,
        "readyReplicas": sum("readyReplicas"), "availableReplicas": available,
        "unavailableReplicas": (total - available).max(0), "terminatingReplicas": sum("terminatingReplicas"),
        "conditions": list(old, "conditions"),
    });
    if has(old, "collisionCount") {
        status["collisionCount"] = old["collisionCount"].clone();
    }
    let (_, unavailable) = leeway(deployment);
    let enough = if available >= replicas(deployment) - unavailable {
        json!({"status": "True", "reason": "MinimumReplicasAvailable",
            "message": "Deployment has minimum availability."})
    } else {
        json!({"status": "False", "reason": "MinimumReplicasUnavailable",
            "message": "Deployment does not have minimum availability."})
    };
    put_condition(work, &mut status, "Available", &enough);
    if !is_deleting(deployment) && !truth(at(deployment, &["spec"]), "paused") {
        note_progress(work, deployment, sets, &mut status);
    }
    match sets.all().map(|set| condition(set, "ReplicaFailure")).find(|it| !it.is_null()) {
        Some(failure) => {
            let failure =
                json!({"status": failure["status"], "reason": failure["reason"], "message": failure["message"]});
            put_condition(work, &mut status, "ReplicaFailure", &failure);
        }
        None => drop_condition(&mut status, "ReplicaFailure"),
    }
    write_status(work, DEPLOYMENT, deployment, status);
}

fn note_progress(work: &mut Work, deployment: &Value, sets: &Sets, status: &mut Value) {
    if !has_deadline(deployment) {
        drop_condition(status, "Progressing");
        return;
    }
    let old = at(deployment, &["status"]);
    let before = condition(deployment, "Progressing").clone();
    let name = sets.new.as_ref().map(|set| text(at(set, &["metadata"]), "name").to_owned());
    let who = match &name {
        Some(name) => format!("ReplicaSet {name:?}"),
        None => format!("Deployment {:?}", text(at(deployment, &["metadata"]), "name")),
    };
    let number = |status: &Value, key: &str| integer(status, key).unwrap_or_default();
    if number(status, "replicas") == number(status, "updatedReplicas")
        && text(&before, "reason") == "NewReplicaSetAvailable"
    {
        return;
    }
    if is_complete(deployment, status) {
        let done = json!({"status": "True", "reason": "NewReplicaSetAvailable",
            "message": format!("{who} has successfully progressed.")});
        put_condition(work, status, "Progressing", &done);
        return;
    }
    let outdated = |status: &Value| number(status, "replicas") - number(status, "updatedReplicas");
    let progresses = number(status, "updatedReplicas") > number(old, "updatedReplicas")
        || outdated(status) < outdated(old)
        || number(status, "readyReplicas") > number(old, "readyReplicas")
        || number(status, "availableReplicas") > number(old, "availableReplicas");
    if progresses {
        let mut condition = json!({"status": "True", "reason": "ReplicaSetUpdated",
            "message": format!("{who} is progressing."), "type": "Progressing",
            "lastUpdateTime": work.time(), "lastTransitionTime": work.time()});
        if text(&before, "status") == "True" {
            condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
        }
        drop_condition(status, "Progressing");
        let mut conditions = list(status, "conditions").to_vec();
        conditions.push(condition);
        status["conditions"] = conditions.into();
    }
    let now = list(status, "conditions").iter().find(|it| text(it, "type") == "Progressing").cloned();
    let Some(now) = now else { return };
    let since = text(&now, "lastUpdateTime").parse().unwrap_or(work.now);
    let seconds = integer(at(deployment, &["spec"]), "progressDeadlineSeconds").unwrap_or(600);
    let deadline = since + SignedDuration::from_secs(seconds);
    if text(&now, "reason") == "ProgressDeadlineExceeded" {
        return;
    }
    if deadline <= work.now && text(&now, "reason") != "DeploymentPaused" {
        let late = json!({"status": "False", "reason": "ProgressDeadlineExceeded",
            "message": format!("{who} has timed out progressing.")});
        put_condition(work, status, "Progressing", &late);
    } else {
        let meta = at(deployment, &["metadata"]);
        work.again(deadline, Controller::Deployment, text(meta, "namespace"), text(meta, "name"));
    }
}
