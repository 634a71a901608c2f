//! Binds pods to nodes, so that unmodified workloads run without kube-scheduler, which would be one more process per
//! cluster.
//!
//! It keeps the rules that decide *whether* a pod runs, since what is tested depends on them: a node must be Ready and
//! not cordoned, its labels match selector and required node affinity (with which DaemonSets pin their pods), its taints
//! are tolerated, and requests fit into what is left. A pod that fits nowhere gets the condition
//! `PodScheduled=False/Unschedulable`. Among fitting nodes the one with the fewest pods wins.
//!
//! Absent: preemption, pod (anti-)affinity, topology spread, preferred affinity, volumes, host ports, resource claims,
//! pod overhead and pod-level requests. Pods with another `schedulerName` or with scheduling gates are left alone.

mod quantity;

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress::watch;
use k8s_openapi::api::core::v1::{
    Binding, Container, Node, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, Pod, PodSpec, Taint,
    Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// Schedules for as long as it is polled.
pub(crate) async fn run(client: Client) {
    let (pods, pod_changes) = watch::objects::<Pod>(Api::all(client.clone()));
    let (nodes, node_changes) = watch::objects::<Node>(Api::all(client.clone()));
    let mut changes = futures::stream::select(pod_changes, node_changes);
    // What was bound, by UID, until the store shows it: the next pass must count it.
    let mut bound: BTreeMap<String, String> = BTreeMap::new();
    loop {
        watch::changed(&mut changes).await;
        let seen = pods.state();
        bound.retain(|uid, _| seen.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid) && node_of(pod).is_none()));
        for decision in decide(&seen, &nodes.state(), &bound) {
            let api = Api::<Pod>::namespaced(client.clone(), &decision.namespace);
            let result = match &decision.outcome {
                Outcome::Bind(node) => bind(&api, &decision, node).await,
                Outcome::Unschedulable(why) => mark_unschedulable(&api, &decision, why).await,
            };
            match (result, decision.outcome) {
                (Ok(()), Outcome::Bind(node)) => {
                    bound.insert(decision.uid, node);
                }
                (Ok(()), Outcome::Unschedulable(_)) => {}
                // A pod that went meanwhile is not worth a word; whatever else it is, the next change tries again.
                (Err(error), _) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "scheduling the pod {}/{}", decision.namespace, decision.name);
                }
            }
        }
    }
}

/// Whether a node takes pods: Ready, and without a taint that every ordinary pod minds.
///
/// The node controller removes its taint `not-ready` some time after the condition became true.
pub(crate) fn usable(node: &Node) -> bool {
    ready(node) && hard_taints(node).next().is_none()
}

#[derive(Debug, PartialEq, Eq)]
struct Decision {
    namespace: String,
    name: String,
    uid: String,
    outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// To the node of this name.
    Bind(String),
    /// With the words for the condition.
    Unschedulable(String),
}

/// What to do about every pod that waits, most important and oldest first.
fn decide(pods: &[Arc<Pod>], nodes: &[Arc<Node>], bound: &BTreeMap<String, String>) -> Vec<Decision> {
    let mut rooms: BTreeMap<String, Room> =
        nodes.iter().map(|node| (node.name_any(), Room::new(Arc::clone(node)))).collect();
    for pod in pods.iter().filter(|pod| !finished(pod)) {
        let node = node_of(pod).or_else(|| bound.get(pod.metadata.uid.as_ref()?).map(String::as_str));
        if let Some(room) = node.and_then(|node| rooms.get_mut(node)) {
            room.take(&requests(pod));
        }
    }
    let mut waiting: Vec<&Arc<Pod>> = pods.iter().filter(|pod| waits(pod, bound)).collect();
    waiting.sort_by_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(priority), created, pod.namespace(), pod.name_any())
    });
    waiting.into_iter().filter_map(|pod| decide_one(pod, &mut rooms)).collect()
}

fn decide_one(pod: &Pod, rooms: &mut BTreeMap<String, Room>) -> Option<Decision> {
    let spec = pod.spec.as_ref()?;
    let requests = requests(pod);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(i128, String)> = None;
    for (name, room) in &*rooms {
        match room.refuses(spec, &requests) {
            Some(reason) => *reasons.entry(reason).or_default() += 1,
            None if best.as_ref().is_none_or(|(pods, _)| room.pods < *pods) => best = Some((room.pods, name.clone())),
            None => {}
        }
    }
    let outcome = match best {
        Some((_, node)) => {
            rooms.get_mut(&node)?.take(&requests);
            Outcome::Bind(node)
        }
        None => {
            let reasons: Vec<String> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            let why = format!("0/{} nodes are available: {}.", rooms.len(), reasons.join(", "));
            if said_unschedulable(pod) == Some(why.as_str()) {
                return None;
            }
            Outcome::Unschedulable(why)
        }
    };
    Some(Decision { namespace: pod.namespace()?, name: pod.name_any(), uid: pod.metadata.uid.clone()?, outcome })
}

/// A node and what is left on it.
struct Room {
    node: Arc<Node>,
    free: Requests,
    pods: i128,
}

/// Amounts by resource name, in thousandths.
type Requests = BTreeMap<String, i128>;

impl Room {
    fn new(node: Arc<Node>) -> Self {
        let free = node.status.as_ref().and_then(|status| status.allocatable.as_ref()).map(amounts).unwrap_or_default();
        Self { node, free, pods: 0 }
    }

    fn take(&mut self, requests: &Requests) {
        self.pods += 1;
        for (resource, amount) in requests {
            *self.free.entry(resource.clone()).or_default() -= amount;
        }
    }

    /// Why a pod cannot go here, in kube-scheduler's words.
    fn refuses(&self, spec: &PodSpec, requests: &Requests) -> Option<String> {
        let node = &self.node;
        if !ready(node) {
            return Some("node(s) were not ready".to_owned());
        }
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
        if unschedulable && !tolerations.iter().any(|toleration| tolerates(toleration, &cordon())) {
            return Some("node(s) were unschedulable".to_owned());
        }
        if !selected(spec, node) {
            return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
        }
        let minded = hard_taints(node).find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
        if let Some(taint) = minded {
            let value = taint.value.as_deref().unwrap_or_default();
            return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
        }
        let short = requests
            .iter()
            .find(|(resource, amount)| **amount > 0 && self.free.get(*resource).is_none_or(|free| free < amount));
        match short {
            Some((resource, _)) if resource == "pods" => Some("Too many pods".to_owned()),
            Some((resource, _)) => Some(format!("Insufficient {resource}")),
            None => None,
        }
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn waits(pod: &Pod, bound: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    node_of(pod).is_none()
        && !finished(pod)
        && pod.metadata.deletion_timestamp.is_none()
        && spec.scheduler_name.as_deref().is_none_or(|name| name == "default-scheduler")
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !pod.metadata.uid.as_ref().is_some_and(|uid| bound.contains_key(uid))
}

fn ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn hard_taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect != "PreferNoSchedule")
}

/// The taint that stands for `spec.unschedulable`, which DaemonSets tolerate.
fn cordon() -> Taint {
    Taint { key: "node.kubernetes.io/unschedulable".to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.as_ref().filter(|text| !text.is_empty()).cloned();
    given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && given(&toleration.key).is_none_or(|key| key == taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            Some("Equal" | "") | None => {
                toleration.key.is_some()
                    && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            // `Lt` and `Gt` compare numbers; they are young, and none of our pods has them.
            Some(_) => false,
        }
}

fn selected(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.labels();
    let by_label = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    by_label && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| fits(term, node)))
}

fn fits(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that says nothing selects nothing, by the API's definition.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|wanted| holds(wanted, node.labels().get(&wanted.key)))
        && fields.iter().all(|wanted| wanted.key == "metadata.name" && holds(wanted, node.metadata.name.as_ref()))
}

fn holds(wanted: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match wanted.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(number(values.first())).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(number(values.first())).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// What a pod takes: its containers together with its sidecars, or its largest init container, and one of `pods`.
fn requests(pod: &Pod) -> Requests {
    let Some(spec) = &pod.spec else { return Requests::new() };
    let mut total = Requests::from([("pods".to_owned(), 1000)]);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let (sidecars, init): (Vec<&Container>, Vec<&Container>) =
        init.iter().partition(|container| container.restart_policy.as_deref() == Some("Always"));
    for container in spec.containers.iter().chain(sidecars) {
        for (resource, amount) in container_requests(container) {
            *total.entry(resource).or_default() += amount;
        }
    }
    for container in init {
        for (resource, amount) in container_requests(container) {
            let entry = total.entry(resource).or_default();
            *entry = amount.max(*entry);
        }
    }
    total
}

fn container_requests(container: &Container) -> Requests {
    container.resources.as_ref().and_then(|resources| resources.requests.as_ref()).map(amounts).unwrap_or_default()
}

/// The API server admits no quantity that cannot be read; were there one, it would count as nothing.
fn amounts(quantities: &BTreeMap<String, Quantity>) -> Requests {
    let amount = |(name, quantity): (&String, &Quantity)| Some((name.clone(), quantity::thousandths(&quantity.0)?));
    quantities.iter().filter_map(amount).collect()
}

fn said_unschedulable(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    condition.message.as_deref().filter(|_| condition.status == "False")
}

async fn bind(api: &Api<Pod>, decision: &Decision, node: &str) -> kube::Result<()> {
    let target =
        ObjectReference { kind: Some("Node".to_owned()), name: Some(node.to_owned()), ..ObjectReference::default() };
    // The UID keeps a pod of the same name that came meanwhile from getting this one's place.
    let metadata = ObjectMeta {
        name: Some(decision.name.clone()),
        namespace: Some(decision.namespace.clone()),
        uid: Some(decision.uid.clone()),
        ..ObjectMeta::default()
    };
    let binding = Binding { metadata, target };
    // The answer is a Status, which nobody needs.
    let answer: kube::Result<serde_json::Value> =
        api.create_subresource("binding", &decision.name, &PostParams::default(), &binding).await;
    answer.map(drop)
}

async fn mark_unschedulable(api: &Api<Pod>, decision: &Decision, why: &str) -> kube::Result<()> {
    let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    api.patch_status(&decision.name, &PatchParams::default(), &patch).await.map(drop)
}

#[cfg(test)]
mod tests;
