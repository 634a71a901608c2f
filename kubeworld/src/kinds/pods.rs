//! Pods and their templates.

use serde_json::{Map, Value};

use super::{
    fields::{at, child, entries, list},
    quantity::{self, Quantity},
};

/// A pod that says something about its resources as a whole gets the rest from its containers.
pub(super) fn default_pod_level_resources(pod: &mut Value) {
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
