//! Pods: the scheduler finds them a node, and the node's kubelet has them start, run, end and go.
//!
//! There are no processes. A container runs until its pod is deleted, unless it is meant to end: in a Job's pod, or
//! where a pod that is not always restarted has a command. `sleep N` in the command says how long it takes, `exit N` or
//! `false` with which code it ends. An image with the tag `missing` cannot be pulled, and the annotation
//! [`NEVER_READY`] keeps a pod from becoming ready: both are for showing what goes wrong.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::server::{POD, Program, condition};
use super::templates::is_deleting;
use super::{Controller, Work, cache};
use crate::kinds::fields::{at, has, integer, list, text, truth};

mod scheduling;

pub(super) use scheduling::{Load, may_run, schedule};

/// A pod with this annotation never becomes ready.
pub(super) const NEVER_READY: &str = "kubeworld.isochrone.dev/never-ready";

fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::ZERO)
}

/// One step of a pod's life on its node.
pub(super) fn live(work: &mut Work, namespace: &str, name: &str) {
    let Some(pod) = work.cache.get(cache::PODS, namespace, name) else { return };
    let node = text(at(&pod, &["spec"]), "nodeName").to_owned();
    if !work.settings.has_node(&node) {
        return;
    }
    let uid = text(at(&pod, &["metadata"]), "uid").to_owned();
    if is_deleting(&pod) {
        stop(work, &pod);
        return;
    }
    let status = at(&pod, &["status"]);
    match text(status, "phase") {
        "Succeeded" | "Failed" => {
            work.started.remove(&uid);
        }
        "Running" => run_on(work, &pod),
        _ if !has(status, "startTime") => {
            work.started.insert(uid, work.now);
            begin(work, &pod, &node);
        }
        _ => {
            let begun = text(status, "startTime").parse().unwrap_or(work.now);
            let begun = *work.started.entry(uid).or_insert(begun);
            let due = begun + signed(work.settings.pod_start);
            if due > work.now {
                work.again(due, Controller::Life, namespace, name);
            } else {
                start(work, &pod, &node);
            }
        }
    }
}

/// The containers end within the grace period, and the pod goes.
fn stop(work: &mut Work, pod: &Value) {
    let meta = at(pod, &["metadata"]);
    let grace = SignedDuration::from_secs(integer(meta, "deletionGracePeriodSeconds").unwrap_or_default());
    let deadline: Timestamp = text(meta, "deletionTimestamp").parse().unwrap_or(work.now);
    let asked = deadline - grace;
    let uid = text(meta, "uid");
    // The time in the object is of whole seconds; the first step that sees it knows better.
    let seen = *work.stopping.entry(uid.to_owned()).or_insert(work.now.max(asked));
    let due = seen + signed(work.settings.pod_stop).min(grace);
    if due > work.now {
        work.again(due, Controller::Life, text(meta, "namespace"), text(meta, "name"));
        return;
    }
    let options = json!({"gracePeriodSeconds": 0});
    let _gone = work.delete_at(Program::Kubelet, POD, pod, &options);
}

/// What the kubelet writes first.
fn begin(work: &mut Work, pod: &Value, node: &str) {
    let mut status = at(pod, &["status"]).clone();
    let now = work.time();
    let host = host_ip(work, node);
    status["phase"] = "Pending".into();
    status["hostIP"] = host.clone().into();
    status["hostIPs"] = json!([{"ip": host}]);
    status["startTime"] = now.clone().into();
    let unready = unready(pod);
    let init = has_init(pod);
    conditions(
        work,
        pod,
        &mut status,
        &[
            ("PodReadyToStartContainers", false, "", String::new()),
            (
                "Initialized",
                !init,
                if init { "ContainersNotInitialized" } else { "" },
                if init {
                    format!("containers with incomplete status: {}", named(pod, "initContainers"))
                } else {
                    String::new()
                },
            ),
            ("Ready", false, "ContainersNotReady", unready.clone()),
            ("ContainersReady", false, "ContainersNotReady", unready),
        ],
    );
    let waiting = |container: &Value| {
        let reason = if init { "PodInitializing" } else { "ContainerCreating" };
        json!({"name": text(container, "name"), "image": text(container, "image"), "imageID": "", "ready": false,
            "started": false, "restartCount": 0, "lastState": {}, "state": {"waiting": {"reason": reason}}})
    };
    status["containerStatuses"] = list(at(pod, &["spec"]), "containers").iter().map(waiting).collect();
    if init {
        status["initContainerStatuses"] = list(at(pod, &["spec"]), "initContainers").iter().map(waiting).collect();
    }
    write(work, pod, status);
    let meta = at(pod, &["metadata"]);
    let due = work.now + signed(work.settings.pod_start);
    work.again(due, Controller::Life, text(meta, "namespace"), text(meta, "name"));
}

fn has_init(pod: &Value) -> bool {
    !list(at(pod, &["spec"]), "initContainers").is_empty()
}

/// `[a b]`, as the kubelet names containers.
fn named(pod: &Value, kind: &str) -> String {
    let names: Vec<&str> = list(at(pod, &["spec"]), kind).iter().map(|container| text(container, "name")).collect();
    format!("[{}]", names.join(" "))
}

fn unready(pod: &Value) -> String {
    format!("containers with unready status: {}", named(pod, "containers"))
}

/// Sets the kubelet's conditions, in its order, and keeps the scheduler's.
fn conditions(work: &Work, pod: &Value, status: &mut Value, wanted: &[(&str, bool, &str, String)]) {
    let now = work.time();
    let generation = at(pod, &["metadata", "generation"]).clone();
    let mut out: Vec<Value> = Vec::new();
    for (kind, is, reason, message) in wanted {
        let is = if *is { "True" } else { "False" };
        let before = condition(pod, kind);
        let since =
            if text(before, "status") == is { before["lastTransitionTime"].clone() } else { now.clone().into() };
        let mut one = json!({"type": kind, "status": is, "lastProbeTime": null, "lastTransitionTime": since,
            "observedGeneration": generation});
        if !reason.is_empty() {
            one["reason"] = (*reason).into();
        }
        if !message.is_empty() {
            one["message"] = message.clone().into();
        }
        out.push(one);
    }
    let own: Vec<&str> = wanted.iter().map(|(kind, ..)| *kind).collect();
    let rest = list(at(pod, &["status"]), "conditions").iter().filter(|it| !own.contains(&text(it, "type")));
    out.extend(rest.cloned());
    status["conditions"] = out.into();
    status["observedGeneration"] = generation;
}

fn write(work: &mut Work, pod: &Value, status: Value) {
    let mut pod = pod.clone();
    pod["status"] = status;
    let _refused = work.update(Program::Kubelet, POD, "status", &pod);
}

fn host_ip(work: &Work, node: &str) -> String {
    let node = work.cache.get(cache::NODES, "", node);
    let addresses = node.as_ref().map(|node| list(at(node, &["status"]), "addresses")).unwrap_or_default();
    let own = addresses.iter().find(|address| text(address, "type") == "InternalIP");
    own.map(|address| text(address, "address").to_owned()).unwrap_or_default()
}

/// An address that no other pod has.
fn address(work: &mut Work, pod: &Value) -> Option<Ipv4Addr> {
    let uid = text(at(pod, &["metadata"]), "uid");
    let network = work.settings.pod_addresses;
    let size = 1_u32.checked_shl(32 - u32::from(network.prefix_len())).unwrap_or(u32::MAX);
    for _ in 0..size {
        // The network's own address and its first, a bridge's, are nobody's.
        work.next_address =
            if work.next_address + 2 >= size { 2.min(size - 1) } else { (work.next_address + 1).max(2) };
        let address = Ipv4Addr::from(u32::from(network.network()).wrapping_add(work.next_address));
        if let std::collections::btree_map::Entry::Vacant(free) = work.addresses.entry(address) {
            free.insert(uid.to_owned());
            return Some(address);
        }
    }
    None
}

/// The images are there, the containers run.
fn start(work: &mut Work, pod: &Value, node: &str) {
    let spec = at(pod, &["spec"]);
    let containers = list(spec, "containers");
    if let Some(missing) = containers.iter().find(|container| is_missing(text(container, "image"))) {
        fail_to_pull(work, pod, text(missing, "image"));
        return;
    }
    let mut status = at(pod, &["status"]).clone();
    let now = work.time();
    let ip = if truth(spec, "hostNetwork") {
        host_ip(work, node)
    } else {
        address(work, pod).map(|address| address.to_string()).unwrap_or_default()
    };
    status["podIP"] = ip.clone().into();
    status["podIPs"] = json!([{"ip": ip}]);
    status["phase"] = "Running".into();
    let ready = !has(at(pod, &["metadata", "annotations"]), NEVER_READY);
    let uid = text(at(pod, &["metadata"]), "uid");
    status["containerStatuses"] = containers
        .iter()
        .map(|container| running(container, uid, ready, json!({"running": {"startedAt": now}})))
        .collect();
    if has_init(pod) {
        status["initContainerStatuses"] = list(spec, "initContainers")
            .iter()
            .map(|container| {
                if text(container, "restartPolicy") == "Always" {
                    running(container, uid, true, json!({"running": {"startedAt": now}}))
                } else {
                    let state = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now,
                        "finishedAt": now, "containerID": container_id(uid, text(container, "name"))}});
                    let mut done = running(container, uid, true, state);
                    done["started"] = false.into();
                    done
                }
            })
            .collect();
    }
    let (reason, message) = if ready { ("", String::new()) } else { ("ContainersNotReady", unready(pod)) };
    conditions(
        work,
        pod,
        &mut status,
        &[
            ("PodReadyToStartContainers", true, "", String::new()),
            ("Initialized", true, "", String::new()),
            ("Ready", ready, reason, message.clone()),
            ("ContainersReady", ready, reason, message),
        ],
    );
    work.started.insert(uid.to_owned(), work.now);
    write(work, pod, status);
    for container in containers {
        let (image, name) = (text(container, "image"), text(container, "name"));
        let pulled = format!("Container image {image:?} already present on machine");
        work.tell("kubelet", POD, pod, "Normal", "Pulled", &pulled);
        work.tell("kubelet", POD, pod, "Normal", "Created", &format!("Created container: {name}"));
        work.tell("kubelet", POD, pod, "Normal", "Started", &format!("Started container {name}"));
    }
}

fn container_id(uid: &str, name: &str) -> String {
    format!("kubeworld://{uid}-{name}")
}

fn running(container: &Value, uid: &str, ready: bool, state: Value) -> Value {
    let (name, image) = (text(container, "name"), text(container, "image"));
    json!({"name": name, "image": image, "imageID": image, "containerID": container_id(uid, name), "ready": ready,
        "started": true, "restartCount": 0, "lastState": {}, "state": state})
}

fn is_missing(image: &str) -> bool {
    image.rsplit('/').next().unwrap_or_default().split_once(':').is_some_and(|(_, tag)| tag == "missing")
}

fn fail_to_pull(work: &mut Work, pod: &Value, image: &str) {
    let mut status = at(pod, &["status"]).clone();
    let message = format!("Back-off pulling image {image:?}");
    if let Some(Value::Array(containers)) = status.get_mut("containerStatuses") {
        for container in containers.iter_mut().filter(|container| is_missing(text(container, "image"))) {
            container["state"] = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
        }
    }
    if at(pod, &["status"]) != &status {
        write(work, pod, status);
        let why = format!("Failed to pull image {image:?}: not found");
        work.tell("kubelet", POD, pod, "Warning", "Failed", &why);
        work.tell("kubelet", POD, pod, "Normal", "BackOff", &message);
    }
}

/// How a container that is meant to end ends: after how long, and with which code. `None` if it runs on.
fn end_of(pod: &Value, job_run: SignedDuration) -> Option<(SignedDuration, i64)> {
    let spec = at(pod, &["spec"]);
    if text(spec, "restartPolicy") == "Always" {
        return None;
    }
    let owners = list(at(pod, &["metadata"]), "ownerReferences");
    let of_job = owners.iter().any(|owner| text(owner, "kind") == "Job" && truth(owner, "controller"));
    let mut words: Vec<&str> = Vec::new();
    for container in list(spec, "containers") {
        for key in ["command", "args"] {
            words.extend(list(container, key).iter().filter_map(Value::as_str));
        }
    }
    if !of_job && words.is_empty() {
        return None;
    }
    let words: Vec<&str> = words.iter().flat_map(|text| text.split([' ', ';', '&', '\n'])).collect();
    let after = |word: &str| {
        let place = words.iter().position(|one| *one == word)?;
        words.get(place + 1)?.trim_end_matches('s').parse::<i64>().ok()
    };
    let time = after("sleep").map_or(job_run, SignedDuration::from_secs);
    let code = after("exit").unwrap_or_else(|| i64::from(words.contains(&"false")));
    Some((time, code))
}

/// Whether what runs has ended.
fn run_on(work: &mut Work, pod: &Value) {
    let meta = at(pod, &["metadata"]);
    let uid = text(meta, "uid").to_owned();
    let Some((time, code)) = end_of(pod, signed(work.settings.job_run)) else { return };
    let begun = list(at(pod, &["status"]), "containerStatuses")
        .iter()
        .find_map(|container| text(at(container, &["state", "running"]), "startedAt").parse().ok())
        .unwrap_or(work.now);
    let begun = *work.started.entry(uid.clone()).or_insert(begun);
    let due = begun + time;
    if due > work.now {
        work.again(due, Controller::Life, text(meta, "namespace"), text(meta, "name"));
        return;
    }
    let mut status = at(pod, &["status"]).clone();
    let now = work.time();
    let restart = code != 0 && text(at(pod, &["spec"]), "restartPolicy") == "OnFailure";
    let reason = if code == 0 { "Completed" } else { "Error" };
    if let Some(Value::Array(containers)) = status.get_mut("containerStatuses") {
        for container in containers.iter_mut() {
            let started = at(container, &["state", "running", "startedAt"]).clone();
            let ended = json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": started,
                "finishedAt": now, "containerID": text(container, "containerID")}});
            if restart {
                let count = integer(container, "restartCount").unwrap_or_default();
                container["restartCount"] = (count + 1).into();
                container["lastState"] = ended;
                container["state"] = json!({"running": {"startedAt": now}});
            } else {
                container["ready"] = false.into();
                container["started"] = false.into();
                container["state"] = ended;
            }
        }
    }
    if restart {
        work.started.insert(uid, work.now);
        write(work, pod, status);
        return;
    }
    status["phase"] = if code == 0 { "Succeeded" } else { "Failed" }.into();
    let why = if code == 0 { "PodCompleted" } else { "PodFailed" };
    conditions(
        work,
        pod,
        &mut status,
        &[
            ("PodReadyToStartContainers", false, "", String::new()),
            ("Initialized", true, if code == 0 { why } else { "" }, String::new()),
            ("Ready", false, why, String::new()),
            ("ContainersReady", false, why, String::new()),
        ],
    );
    write(work, pod, status);
}
