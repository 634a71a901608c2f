use serde_json::{Value, json};

use super::*;

fn node(name: &str, cpu: &str, more: Value) -> Arc<Node> {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "zone": name } },
        "spec": {},
        "status": {
            "allocatable": { "cpu": cpu, "pods": "10" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    merge(&mut node, more);
    Arc::new(serde_json::from_value(node).unwrap())
}

fn pod(name: &str, cpu: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": { "containers": [{ "name": "main", "resources": { "requests": { "cpu": cpu } } }] },
        "status": { "phase": "Pending" },
    });
    merge(&mut pod, more);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// `pod→node` or `pod: why`, in the order of the decisions.
fn decisions(pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> Vec<String> {
    let decisions = decide(pods, nodes, &BTreeMap::new());
    decisions
        .into_iter()
        .map(|decision| match decision.outcome {
            Outcome::Bind(node) => format!("{}→{node}", decision.name),
            Outcome::Unschedulable(why) => format!("{}: {why}", decision.name),
        })
        .collect()
}

#[test]
fn pods_spread_and_fill_up() {
    let nodes = [node("a", "2", json!({})), node("b", "1", json!({}))];
    let pods: Vec<_> = ["p1", "p2", "p3", "p4"].into_iter().map(|name| pod(name, "1", json!({}))).collect();
    let expected = ["p1→a", "p2→b", "p3→a", "p4: 0/2 nodes are available: 2 Insufficient cpu."];
    assert_eq!(decisions(&pods, &nodes), expected);
}

#[test]
fn what_runs_or_was_just_bound_takes_room_and_what_finished_does_not() {
    let nodes = [node("a", "1", json!({}))];
    let waiting = pod("new", "1", json!({}));
    let running = pod("old", "1", json!({ "spec": { "nodeName": "a" } }));
    let full = ["new: 0/1 nodes are available: 1 Insufficient cpu."];
    assert_eq!(decisions(&[Arc::clone(&running), Arc::clone(&waiting)], &nodes), full);

    let done = pod("old", "1", json!({ "spec": { "nodeName": "a" }, "status": { "phase": "Succeeded" } }));
    assert_eq!(decisions(&[done, Arc::clone(&waiting)], &nodes), ["new→a"]);

    let bound = BTreeMap::from([("uid-first".to_owned(), "a".to_owned())]);
    let first = pod("first", "1", json!({}));
    let made = decide(&[first, waiting], &nodes, &bound);
    assert_eq!(made.len(), 1);
    assert!(matches!(&made[0], Decision { name, outcome: Outcome::Unschedulable(_), .. } if name == "new"), "{made:?}");
}

#[test]
fn a_reason_is_told_once() {
    let why = "0/1 nodes are available: 1 Insufficient cpu.";
    let condition = json!({ "type": "PodScheduled", "status": "False", "message": why });
    let told = pod("p", "2", json!({ "status": { "conditions": [condition] } }));
    assert!(decisions(&[told], &[node("a", "1", json!({}))]).is_empty());
}

#[test]
fn the_more_important_pod_goes_first() {
    let nodes = [node("a", "1", json!({}))];
    let pods = [pod("low", "1", json!({})), pod("top", "1", json!({ "spec": { "priority": 1000 } }))];
    assert_eq!(decisions(&pods, &nodes)[0], "top→a");
}

#[test]
fn a_node_that_is_not_ready_cordoned_or_tainted_refuses() {
    let taint = json!({ "key": "gpu", "value": "yes", "effect": "NoSchedule" });
    let nodes = [
        node("down", "9", json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } })),
        node("cordoned", "9", json!({ "spec": { "unschedulable": true } })),
        node("tainted", "9", json!({ "spec": { "taints": [taint] } })),
    ];
    let plain = "p: 0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were not ready, 1 \
                 node(s) were unschedulable.";
    assert_eq!(decisions(&[pod("p", "1", json!({}))], &nodes), [plain]);

    for (toleration, expected) in [
        (json!({ "key": "gpu", "operator": "Equal", "value": "yes" }), Some("p→tainted")),
        (json!({ "key": "gpu", "operator": "Exists", "effect": "NoSchedule" }), Some("p→tainted")),
        (json!({ "key": "gpu", "value": "no" }), None),
        (json!({ "key": "gpu", "operator": "Exists", "effect": "NoExecute" }), None),
        (json!({ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" }), Some("p→cordoned")),
    ] {
        let made = decisions(&[pod("p", "1", json!({ "spec": { "tolerations": [toleration] } }))], &nodes);
        assert_eq!(made.iter().map(String::as_str).find(|text| text.contains('→')), expected, "{toleration}");
    }
}

#[test]
fn selectors_and_required_affinity_hold() {
    let nodes = [node("a", "9", json!({})), node("b", "9", json!({ "metadata": { "labels": { "size": "5" } } }))];
    let required = |term: Value| {
        let selector = json!({ "nodeSelectorTerms": [term] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": selector } } })
    };
    let label = |operator: &str, values: Value| {
        required(json!({ "matchExpressions": [{ "key": "size", "operator": operator, "values": values }] }))
    };
    let named = json!({ "key": "metadata.name", "operator": "In", "values": ["b"] });
    for (spec, expected) in [
        (json!({ "nodeSelector": { "zone": "b" } }), Some("b")),
        (json!({ "nodeSelector": { "zone": "c" } }), None),
        (required(json!({ "matchFields": [named] })), Some("b")),
        (required(json!({})), None),
        (label("In", json!(["5", "6"])), Some("b")),
        (label("NotIn", json!(["5"])), Some("a")),
        (label("Exists", json!([])), Some("b")),
        (label("DoesNotExist", json!([])), Some("a")),
        (label("Gt", json!(["4"])), Some("b")),
        (label("Lt", json!(["4"])), None),
    ] {
        let made = decisions(&[pod("p", "1", json!({ "spec": spec }))], &nodes);
        let bound = made.iter().find_map(|text| text.strip_prefix("p→"));
        assert_eq!(bound, expected, "{spec}");
    }
}

#[test]
fn pods_that_are_not_ours_to_schedule_are_left() {
    let nodes = [node("a", "9", json!({}))];
    for more in [
        json!({ "spec": { "schedulerName": "other" } }),
        json!({ "spec": { "schedulingGates": [{ "name": "wait" }] } }),
        json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
        json!({ "spec": { "nodeName": "a" } }),
    ] {
        assert!(decisions(&[pod("p", "1", more.clone())], &nodes).is_empty(), "{more}");
    }
}

#[test]
fn init_containers_count_by_the_largest_and_sidecars_add_up() {
    let more = json!({ "spec": { "initContainers": [
        { "name": "big", "resources": { "requests": { "cpu": "3" } } },
        { "name": "side", "restartPolicy": "Always", "resources": { "requests": { "cpu": "500m" } } },
    ] } });
    assert_eq!(requests(&pod("p", "1", more.clone())).get("cpu"), Some(&3000));
    assert_eq!(requests(&pod("p", "4", more)).get("cpu"), Some(&4500));
}
