//! Services: their endpoints, and the addresses of load balancers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::server::{ENDPOINTS, Program, SERVICE, SLICE};
use super::templates::{controller_ref, is_deleting, owned, ready_since};
use super::{Work, cache};
use crate::kinds::fields::{at, count, entries, has, integer, list, text, truth};
use crate::kinds::selectors;

const CLEANUP: &str = "service.kubernetes.io/load-balancer-cleanup";

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(service) = work.cache.get(cache::SERVICES, namespace, name) else {
        release(work);
        return;
    };
    balance(work, &service);
    let Some(service) = work.cache.get(cache::SERVICES, namespace, name) else { return };
    if is_deleting(&service) || count(at(&service, &["spec"]), "selector") == 0 {
        return;
    }
    let selector = at(&service, &["spec", "selector"]);
    let pods: Vec<Value> = work
        .cache
        .list(cache::PODS, namespace)
        .filter(|pod| selectors::matches_map(selector, at(pod, &["metadata", "labels"])))
        .filter(|pod| !text(at(pod, &["status"]), "podIP").is_empty())
        .filter(|pod| !matches!(text(at(pod, &["status"]), "phase"), "Succeeded" | "Failed"))
        .map(|pod| (**pod).clone())
        .collect();
    sync_slices(work, &service, &pods);
    sync_endpoints(work, &service, &pods);
}

/// The ports of a Service as a pod opens them; `None` for a name that the pod does not know.
fn target(port: &Value, pod: &Value) -> Option<i64> {
    let target = at(port, &["targetPort"]);
    let Some(name) = target.as_str() else { return target.as_i64() };
    list(at(pod, &["spec"]), "containers")
        .iter()
        .flat_map(|container| list(container, "ports"))
        .find(|one| text(one, "name") == name && text(one, "protocol") == text(port, "protocol"))
        .and_then(|one| integer(one, "containerPort"))
}

/// Pods with the same port numbers share a slice.
fn ports_for(service: &Value, pod: &Value) -> Vec<Value> {
    let ports = list(at(service, &["spec"]), "ports").iter().filter_map(|port| {
        let mut out =
            json!({"name": text(port, "name"), "protocol": text(port, "protocol"), "port": target(port, pod)?});
        if has(port, "appProtocol") {
            out["appProtocol"] = port["appProtocol"].clone();
        }
        Some(out)
    });
    ports.collect()
}

fn endpoint(work: &Work, service: &Value, pod: &Value) -> Value {
    let (meta, spec) = (at(pod, &["metadata"]), at(pod, &["spec"]));
    let serving = ready_since(pod).is_some();
    let terminating = is_deleting(pod);
    let ready = (serving && !terminating) || truth(at(service, &["spec"]), "publishNotReadyAddresses");
    let node = text(spec, "nodeName");
    let mut out = json!({
        "addresses": [text(at(pod, &["status"]), "podIP")],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "namespace": text(meta, "namespace"), "name": text(meta, "name"),
            "uid": text(meta, "uid")},
    });
    if let Some(node) = work.cache.get(cache::NODES, "", node) {
        let zone = text(at(&node, &["metadata", "labels"]), "topology.kubernetes.io/zone");
        if !zone.is_empty() {
            out["zone"] = zone.into();
        }
    }
    let host = text(spec, "hostname");
    if !host.is_empty() && text(spec, "subdomain") == text(at(service, &["metadata"]), "name") {
        out["hostname"] = host.into();
    }
    out
}

fn is_headless(service: &Value) -> bool {
    text(at(service, &["spec"]), "clusterIP") == "None"
}

/// At most so many endpoints in a slice (`--max-endpoints-per-slice`).
const SLICE_MAX: usize = 100;

fn sync_slices(work: &mut Work, service: &Value, pods: &[Value]) {
    let meta = at(service, &["metadata"]);
    let name = text(meta, "name");
    let mut wanted: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let ports = ports_for(service, pod);
        let key = json!(ports).to_string();
        wanted.entry(key).or_insert_with(|| (ports, Vec::new())).1.push(endpoint(work, service, pod));
    }
    if wanted.is_empty() {
        // A Service without pods has one empty slice, as the real controller leaves it.
        wanted.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let mut labels = Map::new();
    for (key, value) in entries(meta, "labels") {
        labels.insert(key.clone(), value.clone());
    }
    labels.insert("kubernetes.io/service-name".into(), name.into());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), "endpointslice-controller.k8s.io".into());
    if is_headless(service) {
        labels.insert("service.kubernetes.io/headless".into(), "".into());
    }
    let mut there: Vec<Value> = owned(work, cache::SLICES, service)
        .into_iter()
        .filter(|slice| {
            let label = "endpointslice.kubernetes.io/managed-by";
            text(at(slice, &["metadata", "labels"]), label) == "endpointslice-controller.k8s.io"
        })
        .collect();
    let by = Program::ControllerManager;
    for (ports, endpoints) in wanted.into_values() {
        let chunks: Vec<Vec<Value>> = if endpoints.is_empty() {
            vec![Vec::new()]
        } else {
            endpoints.chunks(SLICE_MAX).map(<[Value]>::to_vec).collect()
        };
        for chunk in chunks {
            let same_ports = there.iter().position(|slice| list(slice, "ports") == ports.as_slice());
            let place = same_ports.or(if there.is_empty() { None } else { Some(0) });
            let Some(place) = place else {
                let slice = json!({
                    "metadata": {"generateName": format!("{name}-"), "namespace": text(meta, "namespace"),
                        "labels": labels, "annotations": trigger(work),
                        "ownerReferences": [controller_ref(SERVICE, service)]},
                    "addressType": "IPv4", "ports": ports, "endpoints": chunk,
                });
                let _refused = work.create(by, SLICE, &slice);
                continue;
            };
            let slice = there.remove(place);
            let mut new = slice.clone();
            new["ports"] = if ports.is_empty() { Value::Null } else { ports.clone().into() };
            new["endpoints"] = if chunk.is_empty() { Value::Null } else { chunk.into() };
            new["metadata"]["labels"] = labels.clone().into();
            let same = |key: &str| at(&new, &[key]) == at(&slice, &[key]);
            if !same("ports") || !same("endpoints") || new["metadata"]["labels"] != slice["metadata"]["labels"] {
                new["metadata"]["annotations"] = trigger(work);
                let _refused = work.update(by, SLICE, "", &new);
            }
        }
    }
    for slice in there {
        let _refused = work.delete_at(by, SLICE, &slice, &Value::Null);
    }
}

fn trigger(work: &Work) -> Value {
    json!({"endpoints.kubernetes.io/last-change-trigger-time": work.time()})
}

/// Addresses of an Endpoints object that share their ports.
#[derive(Default)]
struct Subset {
    ports: Vec<Value>,
    ready: Vec<Value>,
    waiting: Vec<Value>,
}

fn sync_endpoints(work: &mut Work, service: &Value, pods: &[Value]) {
    let meta = at(service, &["metadata"]);
    let (namespace, name) = (text(meta, "namespace"), text(meta, "name"));
    let mut subsets: BTreeMap<String, Subset> = BTreeMap::new();
    for pod in pods {
        let ports: Vec<Value> = ports_for(service, pod)
            .into_iter()
            .map(|mut port| {
                if text(&port, "name").is_empty()
                    && let Some(fields) = port.as_object_mut()
                {
                    fields.remove("name");
                }
                port
            })
            .collect();
        let own = at(pod, &["metadata"]);
        let address = json!({
            "ip": text(at(pod, &["status"]), "podIP"), "nodeName": text(at(pod, &["spec"]), "nodeName"),
            "targetRef": {"kind": "Pod", "namespace": text(own, "namespace"), "name": text(own, "name"),
                "uid": text(own, "uid")},
        });
        let ready = (ready_since(pod).is_some() || truth(at(service, &["spec"]), "publishNotReadyAddresses"))
            && !is_deleting(pod);
        if is_deleting(pod) {
            continue;
        }
        let subset = subsets.entry(json!(ports).to_string()).or_default();
        subset.ports = ports;
        if ready { subset.ready.push(address) } else { subset.waiting.push(address) }
    }
    let by_ip = |list: &mut Vec<Value>| list.sort_by_key(|address| text(address, "ip").parse::<IpAddr>().ok());
    let subsets: Vec<Value> = subsets
        .into_values()
        .map(|Subset { ports, mut ready, mut waiting }| {
            by_ip(&mut ready);
            by_ip(&mut waiting);
            let mut out = json!({});
            for (key, value) in [("addresses", ready), ("notReadyAddresses", waiting), ("ports", ports)] {
                if !value.is_empty() {
                    out[key] = value.into();
                }
            }
            out
        })
        .collect();
    let mut labels: Map<String, Value> = entries(meta, "labels").map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert("endpoints.kubernetes.io/managed-by".into(), "endpoint-controller".into());
    if is_headless(service) {
        labels.insert("service.kubernetes.io/headless".into(), "".into());
    }
    let by = Program::ControllerManager;
    match work.cache.get(cache::ENDPOINTS, namespace, name) {
        None => {
            let mut object = json!({"metadata": {"name": name, "namespace": namespace, "labels": labels,
                "annotations": trigger(work)}});
            if !subsets.is_empty() {
                object["subsets"] = subsets.into();
            }
            let _refused = work.create(by, ENDPOINTS, &object);
        }
        Some(old) => {
            if list(&old, "subsets") == subsets.as_slice() && at(&old, &["metadata", "labels"]) == &json!(labels) {
                return;
            }
            let mut new = (*old).clone();
            new["subsets"] = if subsets.is_empty() { Value::Null } else { subsets.into() };
            new["metadata"]["labels"] = labels.into();
            new["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"] = work.time().into();
            let _refused = work.update(by, ENDPOINTS, "", &new);
        }
    }
}

/// Addresses whose Services are gone are free again.
fn release(work: &mut Work) {
    let alive: BTreeSet<String> = work
        .cache
        .list(cache::SERVICES, "")
        .map(|service| text(at(service, &["metadata"]), "uid").to_owned())
        .collect();
    work.balancers.retain(|uid, _| alive.contains(uid));
}

/// A Service of type LoadBalancer gets an address, as a cloud would give one.
fn balance(work: &mut Work, service: &Value) {
    let meta = at(service, &["metadata"]);
    let uid = text(meta, "uid").to_owned();
    let wanted = text(at(service, &["spec"]), "type") == "LoadBalancer"
        && !is_deleting(service)
        && !has(at(service, &["spec"]), "loadBalancerClass");
    let given = list(at(service, &["status", "loadBalancer"]), "ingress");
    let held = list(meta, "finalizers").iter().any(|it| *it == json!(CLEANUP));
    let by = Program::ControllerManager;
    if !wanted {
        if held {
            work.balancers.remove(&uid);
            let mut new = service.clone();
            let rest: Vec<Value> =
                list(meta, "finalizers").iter().filter(|it| **it != json!(CLEANUP)).cloned().collect();
            new["metadata"]["finalizers"] = rest.into();
            if !given.is_empty() {
                let mut status = new.clone();
                status["status"]["loadBalancer"] = json!({});
                let _refused = work.update(by, SERVICE, "status", &status);
                return;
            }
            let _refused = work.update(by, SERVICE, "", &new);
        }
        return;
    }
    if !held {
        work.tell("service-controller", SERVICE, service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer");
        let mut new = service.clone();
        let mut finalizers = list(meta, "finalizers").to_vec();
        finalizers.push(CLEANUP.into());
        new["metadata"]["finalizers"] = finalizers.into();
        // Its change brings us back.
        let _refused = work.update(by, SERVICE, "", &new);
        return;
    }
    if let Some(first) = given.first() {
        if let Ok(address) = text(first, "ip").parse() {
            work.balancers.insert(uid, address);
        }
        return;
    }
    let Some(address) = pick(work, service) else { return };
    work.balancers.insert(uid, address);
    let mut new = service.clone();
    new["status"]["loadBalancer"] = json!({"ingress": [{"ip": address.to_string(), "ipMode": "VIP"}]});
    if work.update(by, SERVICE, "status", &new).is_ok() {
        work.tell("service-controller", SERVICE, service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer");
    }
}

/// The address that the Service asks for, or the first that is free.
fn pick(work: &Work, service: &Value) -> Option<IpAddr> {
    let taken: BTreeSet<IpAddr> = work.balancers.values().copied().collect();
    let asked = text(at(service, &["spec"]), "loadBalancerIP").parse::<IpAddr>().ok();
    let free = |address: &&IpAddr| !taken.contains(*address);
    let own = work.settings.load_balancers.iter();
    match asked {
        Some(asked) => own.filter(free).find(|address| **address == asked).copied(),
        None => own.clone().find(free).copied(),
    }
}
