//! The scheduler: which node a pod gets.
//!
//! Of the nodes that the pod may run on, the one with the fewest pods of the same owner, then the fewest pods. The real
//! one weighs more; what it refuses is refused here too, in the same words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::server::{POD, Program, condition};
use super::super::templates::{controller_uid, is_deleting};
use super::super::{Work, cache};
use crate::kinds::fields::{at, entries, has, list, text, truth};
use crate::kinds::quantity;

/// What runs on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    pods: i128,
    cpu: i128,
    memory: i128,
    /// How many pods of each owner.
    owners: BTreeMap<String, i128>,
}

impl Load {
    /// Counts a pod, or takes it out.
    pub(crate) fn count(&mut self, pod: &Value, sign: i128) {
        self.pods += sign;
        self.cpu += sign * request(pod, "cpu");
        self.memory += sign * request(pod, "memory");
        if let Some(owner) = controller_uid(pod) {
            let count = self.owners.entry(owner.to_owned()).or_default();
            *count += sign;
            if *count <= 0 {
                self.owners.remove(owner);
            }
        }
    }
}

fn request(pod: &Value, resource: &str) -> i128 {
    let containers = list(at(pod, &["spec"]), "containers").iter();
    containers
        .filter_map(|container| quantity::parse(at(container, &["resources", "requests", resource]).as_str()?))
        .map(|amount| amount.nano)
        .sum()
}

fn allocatable(node: &Value, resource: &str) -> i128 {
    at(node, &["status", "allocatable", resource]).as_str().and_then(quantity::parse).map_or(0, |amount| amount.nano)
}

/// Gives a pod a node, or says why it has none.
pub(in super::super) fn schedule(work: &mut Work, namespace: &str, name: &str) {
    let Some(pod) = work.cache.get(cache::PODS, namespace, name) else { return };
    let spec = at(&pod, &["spec"]);
    let ended = matches!(text(at(&pod, &["status"]), "phase"), "Succeeded" | "Failed");
    if !text(spec, "nodeName").is_empty()
        || is_deleting(&pod)
        || ended
        || !list(spec, "schedulingGates").is_empty()
        || text(spec, "schedulerName") != "default-scheduler"
    {
        return;
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(i128, i128, String)> = None;
    let nodes: Vec<std::sync::Arc<Value>> = work.cache.list(cache::NODES, "").cloned().collect();
    for node in &nodes {
        let node_name = text(at(node, &["metadata"]), "name");
        let load = work.loads.get(node_name).cloned().unwrap_or_default();
        match refusal(&pod, node, &load) {
            Some(why) => *reasons.entry(why).or_default() += 1,
            None => {
                let siblings = controller_uid(&pod).and_then(|owner| load.owners.get(owner)).copied();
                let candidate = (siblings.unwrap_or_default(), load.pods, node_name.to_owned());
                if best.as_ref().is_none_or(|best| candidate < *best) {
                    best = Some(candidate);
                }
            }
        }
    }
    match best {
        Some((_, _, node)) => bind(work, &pod, &node),
        None => refuse(work, &pod, nodes.len(), &reasons),
    }
}

fn bind(work: &mut Work, pod: &Value, node: &str) {
    let meta = at(pod, &["metadata"]);
    let (namespace, name) = (text(meta, "namespace"), text(meta, "name"));
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
        "target": {"kind": "Node", "name": node}});
    if work.post(Program::Scheduler, POD, namespace, name, "binding", &binding).is_ok() {
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        work.tell("default-scheduler", POD, pod, "Normal", "Scheduled", &message);
    }
}

fn refuse(work: &mut Work, pod: &Value, nodes: usize, reasons: &BTreeMap<String, usize>) {
    let message = if nodes == 0 {
        "no nodes available to schedule pods".to_owned()
    } else {
        let list: Vec<String> = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
        format!("0/{nodes} nodes are available: {}.", list.join(", "))
    };
    let before = condition(pod, "PodScheduled");
    if text(before, "message") == message {
        return;
    }
    let mut new = pod.clone();
    let now = work.time();
    let since = if text(before, "status") == "False" { before["lastTransitionTime"].clone() } else { now.into() };
    let mut conditions: Vec<Value> = list(at(pod, &["status"]), "conditions").to_vec();
    conditions.retain(|it| text(it, "type") != "PodScheduled");
    conditions.push(json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": since,
        "observedGeneration": at(pod, &["metadata", "generation"])}));
    new["status"]["conditions"] = conditions.into();
    if work.update(Program::Scheduler, POD, "status", &new).is_ok() {
        work.tell("default-scheduler", POD, pod, "Warning", "FailedScheduling", &message);
    }
}

/// Why a pod cannot run on a node.
fn refusal(pod: &Value, node: &Value, load: &Load) -> Option<String> {
    let spec = at(pod, &["spec"]);
    if truth(at(node, &["spec"]), "unschedulable")
        && !tolerates(spec, "node.kubernetes.io/unschedulable", "", "NoSchedule")
    {
        return Some("node(s) were unschedulable".to_owned());
    }
    for taint in list(at(node, &["spec"]), "taints") {
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        if effect != "PreferNoSchedule" && !tolerates(spec, key, value, effect) {
            return Some(format!("node(s) had untolerated taint(s) {{{key}: {value}}}"));
        }
    }
    if !fits_selector(spec, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    if load.pods + 1 > allocatable(node, "pods") / 1_000_000_000 {
        return Some("Too many pods".to_owned());
    }
    for (resource, used) in [("cpu", load.cpu), ("memory", load.memory)] {
        let wanted = request(pod, resource);
        if wanted > 0 && used + wanted > allocatable(node, resource) {
            return Some(format!("Insufficient {resource}"));
        }
    }
    None
}

/// Whether a node's taints and a pod's selectors let a pod run there.
pub(in super::super) fn may_run(spec: &Value, node: &Value) -> bool {
    let taints = list(at(node, &["spec"]), "taints").iter();
    let cordoned = truth(at(node, &["spec"]), "unschedulable");
    fits_selector(spec, node)
        && (!cordoned || tolerates(spec, "node.kubernetes.io/unschedulable", "", "NoSchedule"))
        && taints
            .filter(|taint| text(taint, "effect") != "PreferNoSchedule")
            .all(|taint| tolerates(spec, text(taint, "key"), text(taint, "value"), text(taint, "effect")))
}

fn tolerates(spec: &Value, key: &str, value: &str, effect: &str) -> bool {
    list(spec, "tolerations").iter().any(|toleration| {
        let effects = text(toleration, "effect");
        let own = text(toleration, "key");
        let same_key = own == key || (own.is_empty() && text(toleration, "operator") == "Exists");
        let same_value = text(toleration, "operator") == "Exists" || text(toleration, "value") == value;
        (effects.is_empty() || effects == effect) && same_key && same_value
    })
}

/// The node selector and the required node affinity.
fn fits_selector(spec: &Value, node: &Value) -> bool {
    let labels = at(node, &["metadata", "labels"]);
    let selected = entries(spec, "nodeSelector").all(|(key, value)| labels.get(key) == Some(value));
    let required = at(spec, &["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"]);
    selected && (!required.is_object() || list(required, "nodeSelectorTerms").iter().any(|term| fits_term(term, node)))
}

fn fits_term(term: &Value, node: &Value) -> bool {
    let labels = at(node, &["metadata", "labels"]);
    let name = text(at(node, &["metadata"]), "name");
    if !has(term, "matchExpressions") && !has(term, "matchFields") {
        return false;
    }
    let by_label = list(term, "matchExpressions")
        .iter()
        .all(|one| fits_requirement(one, labels.get(text(one, "key")).and_then(Value::as_str)));
    by_label && list(term, "matchFields").iter().all(|one| fits_requirement(one, Some(name)))
}

fn fits_requirement(requirement: &Value, value: Option<&str>) -> bool {
    let values: Vec<&str> = list(requirement, "values").iter().filter_map(Value::as_str).collect();
    let listed = value.is_some_and(|value| values.contains(&value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    match text(requirement, "operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        operator => match (number(value), number(values.first().copied())) {
            (Some(own), Some(bound)) if operator == "Gt" => own > bound,
            (Some(own), Some(bound)) if operator == "Lt" => own < bound,
            _ => false,
        },
    }
}
