//! Nodes: made at the start, ready as long as they are there, each with a Lease that its kubelet renews.

use serde_json::{Value, json};

use super::server::{LEASE, NODE, Program, condition, set_condition};
use super::{Controller, NodeSettings, Work, cache};
use crate::kinds::fields::{at, list, text};

/// Makes the nodes that the settings name.
pub(super) fn begin(work: &mut Work) {
    let nodes = work.settings.nodes.clone();
    for (index, NodeSettings { name, place, capacity }) in nodes.iter().enumerate() {
        let mut labels = json!({
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
        });
        if let Some((region, zone)) = place {
            labels["topology.kubernetes.io/region"] = region.as_str().into();
            labels["topology.kubernetes.io/zone"] = zone.as_str().into();
        }
        let node = json!({
            "metadata": {"name": name, "labels": labels},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": format!("172.18.0.{}", index + 2)},
                    {"type": "Hostname", "address": name}],
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": work.api.options().version,
                    "kernelVersion": "6.12.0", "osImage": "kubeworld", "containerRuntimeVersion": "kubeworld://1",
                    "bootID": "", "machineID": "", "systemUUID": "", "kubeProxyVersion": "",
                },
            },
        });
        // It may be there from before.
        let _there = work.create(Program::Kubelet, NODE, &node);
    }
}

pub(super) fn sync(work: &mut Work, name: &str) {
    let Some(node) = work.cache.get(cache::NODES, "", name) else { return };
    if !work.settings.has_node(name) {
        return;
    }
    let now = work.time();
    if condition(&node, "Ready").is_null() {
        let mut status = at(&node, &["status"]).clone();
        let good = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ];
        for (kind, is, reason, message) in good {
            set_condition(
                &mut status,
                json!({"type": kind, "status": is, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": now}),
            );
        }
        let mut node = (*node).clone();
        node["status"] = status;
        let _refused = work.update(Program::Kubelet, NODE, "status", &node);
        return;
    }
    // The taint that a new node has until it is ready.
    let taints: Vec<Value> = list(at(&node, &["spec"]), "taints")
        .iter()
        .filter(|taint| text(taint, "key") != "node.kubernetes.io/not-ready")
        .cloned()
        .collect();
    if taints.len() != list(at(&node, &["spec"]), "taints").len() {
        let mut node = (*node).clone();
        node["spec"]["taints"] = taints.into();
        let _refused = work.update(Program::ControllerManager, NODE, "", &node);
        return;
    }
    renew(work, &node);
}

/// The Lease says that the kubelet lives.
fn renew(work: &mut Work, node: &Value) {
    let meta = at(node, &["metadata"]);
    let name = text(meta, "name");
    let now = crate::time::micros(work.now);
    let heartbeat =
        jiff::SignedDuration::try_from(work.settings.heartbeat).unwrap_or(jiff::SignedDuration::from_secs(10));
    let place = ("coordination.k8s.io/leases", "kube-node-lease");
    let lease = {
        let state = work.api.state();
        state.store.get(place.0, place.1, name).map(|lease| lease.value())
    };
    match lease {
        Some(mut lease) => {
            let renewed = text(at(&lease, &["spec"]), "renewTime").parse::<jiff::Timestamp>();
            let due = renewed.map_or(work.now, |renewed| renewed + heartbeat);
            if due <= work.now {
                lease["spec"]["renewTime"] = now.into();
                let _refused = work.update(Program::Kubelet, LEASE, "", &lease);
            }
        }
        None => {
            let lease = json!({
                "metadata": {"name": name, "namespace": place.1, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": text(meta, "uid")}]},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
            });
            let _refused = work.create(Program::Kubelet, LEASE, &lease);
        }
    }
    let key = super::Key::new(Controller::Node, "", name);
    if !work.timers.iter().any(|(_, timer)| *timer == key) {
        work.again(work.now + heartbeat, Controller::Node, "", name);
    }
}
