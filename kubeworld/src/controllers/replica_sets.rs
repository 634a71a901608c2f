//! ReplicaSets: as many pods as are wanted.

use serde_json::{Value, json};

use super::server::{POD, Program, REPLICA_SET, set_condition};
use super::templates::{self, available_at, claim, created, is_active, is_deleting, ready_since};
use super::{Controller, Work, cache};
use crate::kinds::fields::{at, entries, integer, text};

const COMPONENT: &str = "replicaset-controller";

/// At most so many pods are made or deleted in one step (`BurstReplicas` of the real one).
const BURST: i64 = 500;

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(set) = work.cache.get(cache::REPLICA_SETS, namespace, name) else { return };
    let all = claim(work, REPLICA_SET, &set, cache::PODS);
    let mut active: Vec<Value> = all.iter().filter(|pod| is_active(pod)).cloned().collect();
    let terminating = all.iter().filter(|pod| is_deleting(pod)).count();
    let mut failure = None;
    if !is_deleting(&set) {
        failure = manage(work, &set, &mut active);
    }
    // What was made or deleted above is in the cache; the status says what is there now.
    let Some(set) = work.cache.get(cache::REPLICA_SETS, namespace, name) else { return };
    update_status(work, &set, terminating, failure);
}

/// Makes or deletes pods. Answers why, if it could not.
fn manage(work: &mut Work, set: &Value, active: &mut Vec<Value>) -> Option<(&'static str, String)> {
    let wanted = integer(at(set, &["spec"]), "replicas").unwrap_or_default();
    let there = i64::try_from(active.len()).unwrap_or(i64::MAX);
    if there < wanted {
        let template = at(set, &["spec", "template"]);
        for _ in 0..(wanted - there).min(BURST) {
            match work.create(Program::ControllerManager, POD, &templates::pod(template, REPLICA_SET, set)) {
                Ok(pod) => {
                    let name = text(at(&pod, &["metadata"]), "name");
                    work.tell(
                        COMPONENT,
                        REPLICA_SET,
                        set,
                        "Normal",
                        "SuccessfulCreate",
                        &format!("Created pod: {name}"),
                    );
                }
                Err(refusal) => {
                    // Not while the namespace ends: nobody wants to hear of that.
                    if !refusal.message.contains("being terminated") {
                        let message = format!("Error creating: {}", refusal.message);
                        work.tell(COMPONENT, REPLICA_SET, set, "Warning", "FailedCreate", &message);
                        let meta = at(set, &["metadata"]);
                        let later = work.now + jiff::SignedDuration::from_secs(5);
                        work.again(later, Controller::ReplicaSet, text(meta, "namespace"), text(meta, "name"));
                    }
                    return Some(("FailedCreate", refusal.message));
                }
            }
        }
    } else if there > wanted {
        active.sort_by_key(worth);
        let surplus = usize::try_from((there - wanted).min(BURST)).unwrap_or(0);
        for pod in active.drain(..surplus) {
            let name = text(at(&pod, &["metadata"]), "name");
            if work.delete_at(Program::ControllerManager, POD, &pod, &Value::Null).is_ok() {
                work.tell(COMPONENT, REPLICA_SET, set, "Normal", "SuccessfulDelete", &format!("Deleted pod: {name}"));
            }
        }
    }
    None
}

/// What is worth least goes first: without a node, not running, not ready, young.
fn worth(pod: &Value) -> (bool, u8, bool, i64, String) {
    let assigned = !text(at(pod, &["spec"]), "nodeName").is_empty();
    let phase = match text(at(pod, &["status"]), "phase") {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost = text(at(pod, &["metadata", "annotations"]), "controller.kubernetes.io/pod-deletion-cost");
    let cost: i64 = cost.parse().unwrap_or_default();
    let age = cost.saturating_mul(1 << 40).saturating_sub(created(pod).as_second());
    (assigned, phase, ready_since(pod).is_some(), age, text(at(pod, &["metadata"]), "name").to_owned())
}

fn update_status(work: &mut Work, set: &Value, terminating: usize, failure: Option<(&'static str, String)>) {
    let meta = at(set, &["metadata"]);
    let spec = at(set, &["spec"]);
    let pods: Vec<Value> = templates::pods_of(work, set).into_iter().filter(is_active).collect();
    let labels = at(spec, &["template", "metadata"]);
    let labelled = pods.iter().filter(|pod| {
        let own = at(pod, &["metadata", "labels"]);
        entries(labels, "labels").all(|(key, value)| own.get(key) == Some(value))
    });
    let min_ready = integer(spec, "minReadySeconds").unwrap_or_default();
    let mut available = 0;
    for pod in &pods {
        match available_at(pod, min_ready) {
            Some(time) if time <= work.now => available += 1,
            Some(time) => work.again(time, Controller::ReplicaSet, text(meta, "namespace"), text(meta, "name")),
            None => {}
        }
    }
    let mut status = at(set, &["status"]).clone();
    if status.is_null() {
        status = json!({});
    }
    status["replicas"] = pods.len().into();
    status["fullyLabeledReplicas"] = labelled.count().into();
    status["readyReplicas"] = pods.iter().filter(|pod| ready_since(pod).is_some()).count().into();
    status["availableReplicas"] = available.into();
    status["terminatingReplicas"] = terminating.into();
    status["observedGeneration"] = at(meta, &["generation"]).clone();
    match failure {
        Some((reason, message)) => {
            let condition = json!({"type": "ReplicaFailure", "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": work.time()});
            set_condition(&mut status, condition);
        }
        None => {
            if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
                conditions.retain(|condition| text(condition, "type") != "ReplicaFailure");
            }
        }
    }
    write_status(work, REPLICA_SET, set, status);
}

/// Writes a status if it differs from what is there, by the zeroes that are left out too.
pub(super) fn write_status(work: &mut Work, place: super::server::Place, object: &Value, status: Value) -> bool {
    let bare = |status: &Value| -> serde_json::Map<String, Value> {
        let fields = status.as_object().cloned().unwrap_or_default();
        let empty = |value: &Value| *value == json!(0) || value.is_null() || *value == json!([]) || *value == json!("");
        fields.into_iter().filter(|(_, value)| !empty(value)).collect()
    };
    if bare(at(object, &["status"])) == bare(&status) {
        return false;
    }
    let mut object = object.clone();
    object["status"] = status;
    work.update(Program::ControllerManager, place, "status", &object).is_ok()
}
