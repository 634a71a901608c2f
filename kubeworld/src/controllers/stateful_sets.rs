//! StatefulSets: pods with names that stay, one after the other.

use serde_json::{Value, json};

use super::replica_sets::write_status;
use super::server::{CLAIM, POD, Program, STATEFUL_SET};
use super::templates::{self, available_at, claim, is_active, is_deleting, ready_since};
use super::{Controller, Work, cache, deployments, revisions};
use crate::kinds::fields::{at, integer, list, text};

const COMPONENT: &str = "statefulset-controller";

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(set) = work.cache.get(cache::STATEFUL_SETS, namespace, name) else { return };
    if is_deleting(&set) {
        return;
    }
    let Some((update, old)) = revisions::current(work, STATEFUL_SET, &set) else { return };
    let update_name = text(at(&update, &["metadata"]), "name").to_owned();
    // Until an update is through, pods below the partition come back as they were.
    let current_name = match text(at(&set, &["status"]), "currentRevision") {
        "" => update_name.clone(),
        name => name.to_owned(),
    };
    let current = old.iter().find(|it| text(at(it, &["metadata"]), "name") == current_name).unwrap_or(&update).clone();
    let pods = claim(work, STATEFUL_SET, &set, cache::PODS);
    step(work, &set, &pods, &current, &update);
    let pods = templates::pods_of(work, &set);
    let Some(set) = work.cache.get(cache::STATEFUL_SETS, namespace, name) else { return };
    update_status(work, &set, &pods, &current, &update);
    let mut live = revisions::live(&pods);
    live.push(current_name);
    revisions::forget(work, &set, &old, &live);
}

/// The ordinal in a pod's name.
fn ordinal(set: &str, pod: &Value) -> Option<i64> {
    text(at(pod, &["metadata"]), "name").strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

fn revision_of(pod: &Value) -> &str {
    text(at(pod, &["metadata", "labels"]), revisions::LABEL)
}

/// Makes, replaces or deletes what is next.
fn step(work: &mut Work, set: &Value, pods: &[Value], current: &Value, update: &Value) {
    let (meta, spec) = (at(set, &["metadata"]), at(set, &["spec"]));
    let name = text(meta, "name");
    let start = integer(at(spec, &["ordinals"]), "start").unwrap_or_default();
    let end = start + integer(spec, "replicas").unwrap_or(1);
    let parallel = text(spec, "podManagementPolicy") == "Parallel";
    let min_ready = integer(spec, "minReadySeconds").unwrap_or_default();
    let update_name = text(at(update, &["metadata"]), "name");
    let rolling = text(at(spec, &["updateStrategy"]), "type") != "OnDelete";
    let partition = integer(at(spec, &["updateStrategy", "rollingUpdate"]), "partition").unwrap_or_default();
    let is_healthy = |pod: &Value, now| available_at(pod, min_ready).is_some_and(|time| time <= now) && is_active(pod);
    for index in start..end {
        let pod = pods.iter().find(|pod| ordinal(name, pod) == Some(index));
        match pod {
            Some(pod) if is_deleting(pod) => {
                if !parallel {
                    return;
                }
            }
            Some(pod) if !is_active(pod) => {
                // It ended; its name is needed again.
                let _gone = work.delete_at(Program::ControllerManager, POD, pod, &Value::Null);
                return;
            }
            Some(pod) if !is_healthy(pod, work.now) => {
                if let Some(time) = available_at(pod, min_ready) {
                    work.again(time, Controller::StatefulSet, text(meta, "namespace"), name);
                }
                let broken = rolling && index >= partition && revision_of(pod) != update_name;
                // A broken pod of an old template must not be waited for for ever; the update below replaces it.
                if !parallel && !broken {
                    return;
                }
            }
            Some(_) => {}
            None => {
                let of = if rolling && index >= partition { update } else { current };
                make(work, set, index, of);
                if !parallel {
                    return;
                }
            }
        }
    }
    let mut surplus: Vec<&Value> =
        pods.iter().filter(|pod| ordinal(name, pod).is_none_or(|index| index < start || index >= end)).collect();
    surplus.sort_by_key(|pod| std::cmp::Reverse(ordinal(name, pod)));
    for pod in surplus {
        if !is_deleting(pod) {
            remove(work, set, pod);
        }
        if !parallel {
            return;
        }
    }
    if !rolling {
        return;
    }
    let most = at(spec, &["updateStrategy", "rollingUpdate", "maxUnavailable"]);
    let most = deployments::share(most, end - start, true).max(1);
    let mut unavailable = 0;
    for index in (start.max(partition)..end).rev() {
        let Some(pod) = pods.iter().find(|pod| ordinal(name, pod) == Some(index)) else {
            unavailable += 1;
            continue;
        };
        let outdated = revision_of(pod) != update_name;
        if is_deleting(pod) || (!outdated && !is_healthy(pod, work.now)) {
            unavailable += 1;
        } else if outdated && unavailable < most {
            remove(work, set, pod);
            unavailable += 1;
        }
        if unavailable >= most {
            return;
        }
    }
}

fn make(work: &mut Work, set: &Value, index: i64, revision: &Value) {
    let (meta, spec) = (at(set, &["metadata"]), at(set, &["spec"]));
    let (namespace, set_name) = (text(meta, "namespace"), text(meta, "name"));
    let name = format!("{set_name}-{index}");
    let mut pod = templates::pod(&revisions::template(revision), STATEFUL_SET, set);
    let own = &mut pod["metadata"];
    own["name"] = name.clone().into();
    own["generateName"] = format!("{set_name}-").into();
    if !own["labels"].is_object() {
        own["labels"] = json!({});
    }
    own["labels"]["statefulset.kubernetes.io/pod-name"] = name.clone().into();
    own["labels"]["apps.kubernetes.io/pod-index"] = index.to_string().into();
    own["labels"][revisions::LABEL] = text(at(revision, &["metadata"]), "name").into();
    pod["spec"]["hostname"] = name.clone().into();
    if !text(spec, "serviceName").is_empty() {
        pod["spec"]["subdomain"] = text(spec, "serviceName").into();
    }
    let mut volumes = list(at(&pod, &["spec"]), "volumes").to_vec();
    for template in list(spec, "volumeClaimTemplates") {
        let volume = text(at(template, &["metadata"]), "name");
        let claim_name = format!("{volume}-{name}");
        if work.cache.known(cache::CLAIMS, namespace, &claim_name).is_none() {
            let claim = json!({
                "metadata": {"name": claim_name, "namespace": namespace,
                    "labels": at(spec, &["selector", "matchLabels"]),
                    "annotations": at(template, &["metadata", "annotations"])},
                "spec": at(template, &["spec"]),
            });
            if work.create(Program::ControllerManager, CLAIM, &claim).is_ok() {
                let message = format!("Create Claim {claim_name} Pod {name} in StatefulSet {set_name} success");
                work.tell(COMPONENT, STATEFUL_SET, set, "Normal", "SuccessfulCreate", &message);
            }
        }
        volumes.retain(|one| text(one, "name") != volume);
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim_name}}));
    }
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = volumes.into();
    }
    match work.create(Program::ControllerManager, POD, &pod) {
        Ok(_) => {
            let message = format!("Create Pod {name} in StatefulSet {set_name} successful");
            work.tell(COMPONENT, STATEFUL_SET, set, "Normal", "SuccessfulCreate", &message);
        }
        Err(refusal) if refusal.message.contains("being terminated") => {}
        Err(refusal) => {
            let message = format!("Create Pod {name} in StatefulSet {set_name} failed error: {}", refusal.message);
            work.tell(COMPONENT, STATEFUL_SET, set, "Warning", "FailedCreate", &message);
            let later = work.now + jiff::SignedDuration::from_secs(5);
            work.again(later, Controller::StatefulSet, namespace, set_name);
        }
    }
}

fn remove(work: &mut Work, set: &Value, pod: &Value) {
    if work.delete_at(Program::ControllerManager, POD, pod, &Value::Null).is_ok() {
        let (name, set_name) = (text(at(pod, &["metadata"]), "name"), text(at(set, &["metadata"]), "name"));
        let message = format!("Delete Pod {name} in StatefulSet {set_name} successful");
        work.tell(COMPONENT, STATEFUL_SET, set, "Normal", "SuccessfulDelete", &message);
    }
}

fn update_status(work: &mut Work, set: &Value, pods: &[Value], current: &Value, update: &Value) {
    let (meta, spec) = (at(set, &["metadata"]), at(set, &["spec"]));
    let name = |revision: &Value| text(at(revision, &["metadata"]), "name").to_owned();
    let (current, update) = (name(current), name(update));
    let min_ready = integer(spec, "minReadySeconds").unwrap_or_default();
    let count = |test: &dyn Fn(&Value) -> bool| pods.iter().filter(|pod| test(pod)).count();
    let alive: &dyn Fn(&Value) -> bool = &|pod| is_active(pod);
    let replicas = count(&|pod| !matches!(text(at(pod, &["status"]), "phase"), "Succeeded" | "Failed"));
    let ready = count(&|pod| alive(pod) && ready_since(pod).is_some());
    let now = work.now;
    let available = count(&|pod| alive(pod) && available_at(pod, min_ready).is_some_and(|time| time <= now));
    let updated = count(&|pod| alive(pod) && revision_of(pod) == update);
    let mut status = json!({
        "observedGeneration": at(meta, &["generation"]), "replicas": replicas, "readyReplicas": ready,
        "availableReplicas": available, "updatedReplicas": updated,
        "currentReplicas": count(&|pod| alive(pod) && revision_of(pod) == current),
        "currentRevision": current, "updateRevision": update, "collisionCount": 0,
    });
    let wanted = usize::try_from(integer(spec, "replicas").unwrap_or(1)).unwrap_or(0);
    if updated == wanted && replicas == wanted && ready == wanted {
        status["currentRevision"] = update.into();
        status["currentReplicas"] = updated.into();
    }
    write_status(work, STATEFUL_SET, set, status);
}
