//! DaemonSets: a pod on each node that it may run on.

use serde_json::{Value, json};

use super::replica_sets::write_status;
use super::server::{DAEMON_SET, POD, Program};
use super::templates::{self, available_at, claim, is_active, is_deleting, ready_since};
use super::{Controller, Work, cache, deployments, pods as scheduler, revisions};
use crate::kinds::fields::{at, integer, list, text, truth};

const COMPONENT: &str = "daemonset-controller";

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(set) = work.cache.get(cache::DAEMON_SETS, namespace, name) else { return };
    if is_deleting(&set) {
        return;
    }
    let Some((revision, old)) = revisions::current(work, DAEMON_SET, &set) else { return };
    let hash = revisions::short(&revision).to_owned();
    let pods = claim(work, DAEMON_SET, &set, cache::PODS);
    let nodes: Vec<std::sync::Arc<Value>> = work.cache.list(cache::NODES, "").cloned().collect();
    manage(work, &set, &nodes, &pods, &hash);
    let pods = templates::pods_of(work, &set);
    roll(work, &set, &nodes, &pods, &hash);
    let pods = templates::pods_of(work, &set);
    let Some(set) = work.cache.get(cache::DAEMON_SETS, namespace, name) else { return };
    update_status(work, &set, &nodes, &pods, &hash);
    revisions::forget(work, &set, &old, &revisions::live(&pods));
}

/// The template with what every daemon's pod tolerates.
fn template(set: &Value, hash: &str) -> Value {
    let mut template = at(set, &["spec", "template"]).clone();
    let mut tolerations = list(at(&template, &["spec"]), "tolerations").to_vec();
    let mut tolerated = vec![
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    if truth(at(&template, &["spec"]), "hostNetwork") {
        tolerated.push(("network-unavailable", "NoSchedule"));
    }
    for (taint, effect) in tolerated {
        let toleration = json!({"key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": effect});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    template["spec"]["tolerations"] = tolerations.into();
    if !template["metadata"]["labels"].is_object() {
        template["metadata"]["labels"] = json!({});
    }
    template["metadata"]["labels"][revisions::LABEL] = hash.into();
    let generation = text(at(set, &["metadata", "annotations"]), "deprecated.daemonset.template.generation");
    template["metadata"]["labels"]["pod-template-generation"] = generation.into();
    template
}

fn wants(set: &Value, node: &Value) -> bool {
    let template = template(set, "");
    scheduler::may_run(at(&template, &["spec"]), node)
}

/// The node that a pod runs on, or is meant for.
fn node_of(pod: &Value) -> &str {
    let spec = at(pod, &["spec"]);
    let node = text(spec, "nodeName");
    if !node.is_empty() {
        return node;
    }
    let required = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    list(at(spec, &required), "nodeSelectorTerms")
        .iter()
        .flat_map(|term| list(term, "matchFields"))
        .find_map(|field| field["values"][0].as_str())
        .unwrap_or_default()
}

fn manage(work: &mut Work, set: &Value, nodes: &[std::sync::Arc<Value>], pods: &[Value], hash: &str) {
    let mut homes: Vec<&str> = Vec::new();
    for node in nodes {
        let name = text(at(node, &["metadata"]), "name");
        homes.push(name);
        let there: Vec<&Value> = pods.iter().filter(|pod| node_of(pod) == name).collect();
        if wants(set, node) {
            let alive: Vec<&&Value> = there.iter().filter(|pod| is_active(pod)).collect();
            for pod in there.iter().filter(|pod| !is_active(pod) && !is_deleting(pod)) {
                let _gone = work.delete_at(Program::ControllerManager, POD, pod, &Value::Null);
            }
            if alive.is_empty() && there.iter().all(|pod| !is_deleting(pod)) {
                make(work, set, name, hash);
            }
            // One is enough; the oldest stays.
            let mut extra: Vec<&&Value> = alive;
            extra.sort_by_key(|pod| templates::created(pod));
            for pod in extra.into_iter().skip(1) {
                remove(work, set, pod);
            }
        } else {
            for pod in there.iter().filter(|pod| is_active(pod)) {
                remove(work, set, pod);
            }
        }
    }
    for pod in pods.iter().filter(|pod| !homes.contains(&node_of(pod)) && !is_deleting(pod)) {
        remove(work, set, pod);
    }
}

fn make(work: &mut Work, set: &Value, node: &str, hash: &str) {
    let mut pod = templates::pod(&template(set, hash), DAEMON_SET, set);
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let affinity = &mut pod["spec"]["affinity"];
    if !affinity.is_object() {
        *affinity = json!({});
    }
    let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    if !affinity["nodeAffinity"].is_object() {
        affinity["nodeAffinity"] = json!({});
    }
    affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = terms;
    let meta = at(set, &["metadata"]);
    match work.create(Program::ControllerManager, POD, &pod) {
        Ok(pod) => {
            let message = format!("Created pod: {}", text(at(&pod, &["metadata"]), "name"));
            work.tell(COMPONENT, DAEMON_SET, set, "Normal", "SuccessfulCreate", &message);
        }
        Err(refusal) if refusal.message.contains("being terminated") => {}
        Err(refusal) => {
            let message = format!("Error creating: {}", refusal.message);
            work.tell(COMPONENT, DAEMON_SET, set, "Warning", "FailedCreate", &message);
            let later = work.now + jiff::SignedDuration::from_secs(5);
            work.again(later, Controller::DaemonSet, text(meta, "namespace"), text(meta, "name"));
        }
    }
}

fn remove(work: &mut Work, set: &Value, pod: &Value) {
    if work.delete_at(Program::ControllerManager, POD, pod, &Value::Null).is_ok() {
        let message = format!("Deleted pod: {}", text(at(pod, &["metadata"]), "name"));
        work.tell(COMPONENT, DAEMON_SET, set, "Normal", "SuccessfulDelete", &message);
    }
}

fn is_updated(pod: &Value, hash: &str) -> bool {
    text(at(pod, &["metadata", "labels"]), revisions::LABEL) == hash
}

/// Old pods go, as many at a time as may be missing.
fn roll(work: &mut Work, set: &Value, nodes: &[std::sync::Arc<Value>], pods: &[Value], hash: &str) {
    let spec = at(set, &["spec"]);
    if text(at(spec, &["updateStrategy"]), "type") != "RollingUpdate" {
        return;
    }
    let homes: Vec<&std::sync::Arc<Value>> = nodes.iter().filter(|node| wants(set, node)).collect();
    let wanted = i64::try_from(homes.len()).unwrap_or(i64::MAX);
    let rolling = at(spec, &["updateStrategy", "rollingUpdate"]);
    // With a surge the real one makes the new pod first; here the old one goes first, one at a time.
    let most = deployments::share(at(rolling, &["maxUnavailable"]), wanted, true).max(1);
    let min_ready = integer(spec, "minReadySeconds").unwrap_or_default();
    let now = work.now;
    let is_there = |pod: &Value| is_active(pod) && available_at(pod, min_ready).is_some_and(|time| time <= now);
    let there = homes.iter().filter(|node| {
        let name = text(at(node, &["metadata"]), "name");
        pods.iter().any(|pod| node_of(pod) == name && is_there(pod))
    });
    let mut missing = wanted - i64::try_from(there.count()).unwrap_or_default();
    for pod in pods.iter().filter(|pod| is_active(pod) && !is_updated(pod, hash)) {
        if !is_there(pod) {
            remove(work, set, pod);
        } else if missing < most {
            missing += 1;
            remove(work, set, pod);
        }
    }
}

fn update_status(work: &mut Work, set: &Value, nodes: &[std::sync::Arc<Value>], pods: &[Value], hash: &str) {
    let (meta, spec) = (at(set, &["metadata"]), at(set, &["spec"]));
    let min_ready = integer(spec, "minReadySeconds").unwrap_or_default();
    let (mut desired, mut current, mut ready, mut available, mut updated, mut misplaced) = (0, 0, 0, 0, 0, 0);
    for node in nodes {
        let name = text(at(node, &["metadata"]), "name");
        let pod =
            pods.iter().filter(|pod| node_of(pod) == name && is_active(pod)).min_by_key(|pod| templates::created(pod));
        if !wants(set, node) {
            misplaced += i64::from(pod.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = pod else { continue };
        current += 1;
        ready += i64::from(ready_since(pod).is_some());
        match available_at(pod, min_ready) {
            Some(time) if time <= work.now => available += 1,
            Some(time) => work.again(time, Controller::DaemonSet, text(meta, "namespace"), text(meta, "name")),
            None => {}
        }
        updated += i64::from(is_updated(pod, hash));
    }
    let status = json!({
        "currentNumberScheduled": current, "numberMisscheduled": misplaced, "desiredNumberScheduled": desired,
        "numberReady": ready, "observedGeneration": at(meta, &["generation"]), "updatedNumberScheduled": updated,
        "numberAvailable": available, "numberUnavailable": desired - available,
    });
    write_status(work, DAEMON_SET, set, status);
}
