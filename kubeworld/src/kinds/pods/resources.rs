//! What containers ask for: names of resources and amounts.

use serde_json::{Map, Value};

use super::super::{
    causes::{Causes, Path},
    fields::{at, child, entries, list},
    names, quantity,
    quantity::Quantity,
};

/// A pod that says something about its resources as a whole gets the rest from its containers.
pub(in super::super) fn default_pod_level_resources(pod: &mut Value) {
    let spec = at(pod, &["spec"]);
    let whole = at(spec, &["resources"]);
    if entries(whole, "requests").next().is_none() && entries(whole, "limits").next().is_none() {
        return;
    }
    let mut requests: Map<String, Value> = entries(whole, "requests").map(|(k, v)| (k.clone(), v.clone())).collect();
    for (name, sum) in sum_of_containers(spec, "requests") {
        if matches!(name.as_str(), "cpu" | "memory") {
            requests.entry(name).or_insert_with(|| sum.to_string().into());
        }
    }
    for (name, limit) in entries(whole, "limits") {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    let resources = pod.as_object_mut().and_then(|it| child(it, "spec")).and_then(|it| child(it, "resources"));
    if let Some(resources) = resources
        && !requests.is_empty()
    {
        resources.insert("requests".into(), requests.into());
    }
}

fn sum_of_containers(spec: &Value, part: &str) -> Vec<(String, Quantity)> {
    let mut sums: Vec<(String, Quantity)> = Vec::new();
    for container in list(spec, "containers") {
        for (name, amount) in entries(at(container, &["resources"]), part) {
            let Some(amount) = amount.as_str().and_then(quantity::parse) else { continue };
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum = sum.plus(amount),
                None => sums.push((name.clone(), amount)),
            }
        }
    }
    sums
}

/// What a container or a claim asks for, as names and amounts.
pub(super) fn check_resources(causes: &mut Causes, path: Path<'_>, resources: &Value) {
    let limits = path.child("limits");
    for (name, amount) in entries(resources, "limits") {
        check_container_resource(causes, limits.key(name), name);
        check_amount(causes, limits.key(name), name, amount);
    }
    check_requests(causes, path, resources);
    let names: Vec<&str> = ["limits", "requests"]
        .iter()
        .flat_map(|part| entries(resources, part))
        .map(|(name, _)| name.as_str())
        .collect();
    if names.iter().any(|name| name.starts_with("hugepages-"))
        && !names.iter().any(|name| matches!(*name, "cpu" | "memory"))
    {
        causes.forbidden(path, "HugePages require cpu or memory");
    }
}

pub(super) fn check_requests(causes: &mut Causes, path: Path<'_>, resources: &Value) {
    let requests = path.child("requests");
    for (name, amount) in entries(resources, "requests") {
        check_container_resource(causes, requests.key(name), name);
        check_amount(causes, requests.key(name), name, amount);
        let shown = amount.as_str().unwrap_or_default();
        let overcommit = is_native(name) && !name.starts_with("hugepages-");
        let limit = at(resources, &["limits", name]).as_str();
        match (quantity::parse(shown), limit.and_then(quantity::parse)) {
            (Some(asked), Some(most)) if !overcommit && !asked.equals(most) => {
                causes.invalid(requests, shown, &format!("must be equal to {name} limit of {most}"));
            }
            (Some(asked), Some(most)) if asked.nano > most.nano => {
                causes.invalid(requests, shown, &format!("must be less than or equal to {name} limit of {most}"));
            }
            (Some(_), None) if !overcommit => {
                causes.required(path.child("limits"), "Limit must be set for non overcommitable resources");
            }
            (Some(_) | None, Some(_) | None) => {}
        }
    }
}

pub(super) fn check_pod_level_resources(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    let whole = at(spec, &["resources"]);
    if !whole.is_object() {
        return;
    }
    check_requests(causes, path, whole);
}

/// `cpu`, or anything in the project's own namespace.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

const STANDARD_RESOURCES: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

pub(super) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// The name of a resource of any kind. False if it is wrong already by its form.
fn check_resource_name(causes: &mut Causes, path: Path<'_>, name: &str) {
    let reasons = names::qualified(name);
    if !reasons.is_empty() {
        causes.each_invalid(path, name, reasons);
    } else if !name.contains('/') && !STANDARD_RESOURCES.contains(&name) && !is_huge_page(name) {
        causes.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn check_container_resource(causes: &mut Causes, path: Path<'_>, name: &str) {
    check_resource_name(causes, path, name);
    if name.contains('/') {
        let extended = !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty();
        if !is_native(name) && !extended {
            causes.invalid(path, name, "doesn't follow extended resource name standard");
        }
    } else if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        causes.invalid(path, name, "must be a standard resource for containers");
    }
}

/// The name of a resource that a quota counts.
pub(in super::super) fn check_quota_resource(causes: &mut Causes, path: Path<'_>, name: &str) {
    check_resource_name(causes, path, name);
    if !name.contains('/') && !is_quota_resource(name) {
        causes.invalid(path, name, "must be a standard resource for quota");
    }
}

/// Whether every quota knows the resource.
pub(in super::super) fn is_quota_resource(name: &str) -> bool {
    (STANDARD_RESOURCES.contains(&name) && name != "storage") || is_huge_page(name)
}

/// An amount of a resource.
pub(in super::super) fn check_amount(causes: &mut Causes, path: Path<'_>, name: &str, amount: &Value) {
    let shown = amount.as_str().unwrap_or_default();
    let Some(parsed) = quantity::parse(shown) else { return };
    if parsed.nano < 0 {
        causes.invalid(path, shown, "must be greater than or equal to 0");
    }
    let counted = matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    let extended = !is_native(name) && !name.starts_with("requests.");
    if (counted || extended) && !parsed.is_whole() {
        causes.invalid(path, shown, "must be an integer");
    }
}
