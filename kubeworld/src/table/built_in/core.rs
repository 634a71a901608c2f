//! Cells of nodes, events and quotas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::object::{Object, condition, shown, unknown};

pub(super) fn node(this: &Object<'_>) -> Vec<Value> {
    // The last one of a type counts, as in a map that is filled in order.
    let ready = this.list("/status/conditions").iter().rev().find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if this.is("/spec/unschedulable") {
        status += ",SchedulingDisabled";
    }
    let mut roles = BTreeSet::new();
    for (key, value) in this.at("/metadata/labels").as_object().into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => "",
        };
        if !role.is_empty() {
            roles.insert(role);
        }
    }
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    let address = |of: &str| {
        let found = this.list("/status/addresses").iter().find(|address| address["type"] == of);
        found.map_or("<none>", |address| address["address"].as_str().unwrap_or_default())
    };
    let info = |field: &str| this.text_or(&format!("/status/nodeInfo/{field}"), "<unknown>");
    let kernel = match this.text("/status/nodeInfo/architecture") {
        "" => info("kernelVersion").to_owned(),
        architecture => format!("{} ({architecture})", info("kernelVersion")),
    };
    vec![
        this.name(),
        json!(status),
        json!(if roles.is_empty() { "<none>" } else { &roles }),
        this.age(),
        this.cell("/status/nodeInfo/kubeletVersion"),
        json!(address("InternalIP")),
        json!(address("ExternalIP")),
        json!(info("osImage")),
        json!(kernel),
        json!(info("containerRuntimeVersion")),
    ]
}

/// An event of either group: the newer one has other names for the same fields.
pub(super) fn event(this: &Object<'_>) -> Vec<Value> {
    let since = |paths: [&str; 2]| paths.iter().find_map(|path| this.since(path));
    let first = since(["/firstTimestamp", "/deprecatedFirstTimestamp"]);
    let first = first.or_else(|| this.since("/eventTime")).unwrap_or_else(unknown);
    let last = since(["/lastTimestamp", "/deprecatedLastTimestamp"]).unwrap_or_else(|| first.clone());
    let counted = match this.int("/count") {
        0 => this.int("/deprecatedCount"),
        count => count,
    };
    let (last, count) = if this.at("/series").is_object() {
        (this.since("/series/lastObservedTime").unwrap_or_else(unknown), this.int("/series/count"))
    } else {
        (last, counted.max(1))
    };
    let either =
        |paths: [&str; 2]| paths.iter().map(|path| this.text(path)).find(|text| !text.is_empty()).unwrap_or("");
    let about = |field: &str| either([&format!("/involvedObject/{field}"), &format!("/regarding/{field}")]);
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let reporter =
        |fields: [&str; 3]| fields.iter().map(|path| this.text(path)).find(|text| !text.is_empty()).unwrap_or_default();
    let component = reporter(["/source/component", "/deprecatedSource/component", "/reportingController"]);
    // The two groups have different names for the instance.
    let component = if component.is_empty() { this.text("/reportingComponent") } else { component };
    let instance = reporter(["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let source = if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") };
    vec![
        json!(last),
        this.cell("/type"),
        this.cell("/reason"),
        json!(target),
        json!(about("fieldPath")),
        json!(source),
        json!(either(["/message", "/note"]).trim()),
        json!(first),
        json!(count),
        this.name(),
    ]
}

pub(super) fn resource_quota(this: &Object<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard: BTreeMap<&String, &Value> = this.at("/status/hard").as_object().into_iter().flatten().collect();
    for (resource, hard) in hard {
        let used = shown(&this.at("/status/used")[resource]).unwrap_or_else(|| "0".to_owned());
        let part = format!("{resource}: {used}/{}", shown(hard).unwrap_or_default());
        if resource.starts_with("limits.") { limits.push(part) } else { requests.push(part) }
    }
    vec![this.name(), json!(requests.join(", ")), json!(limits.join(", ")), this.age()]
}

pub(super) fn component_status(this: &Object<'_>) -> Vec<Value> {
    let healthy = condition(this.list("/conditions"), "Healthy").unwrap_or(&Value::Null);
    let status = match healthy["status"].as_str() {
        None => "Unknown",
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
    };
    let text = |field: &str| json!(healthy[field].as_str().unwrap_or_default());
    vec![this.name(), json!(status), text("message"), text("error")]
}
