//! The plugin LimitRanger: what a namespace's LimitRanges give to containers, and what they refuse.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Lookup;
use crate::kinds::fields::{at, child, elements, entries, fill, list, text};
use crate::kinds::quantity::{self, Quantity};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn ranges(object: &Value, others: &dyn Lookup) -> Vec<Value> {
    let namespace = text(at(object, &["metadata"]), "namespace");
    let mut all = others.all("", "limitranges");
    all.retain(|range| text(at(range, &["metadata"]), "namespace") == namespace);
    all
}

/// A pod gets the defaults, and must keep within the bounds.
pub(super) fn limit_pod(pod: &mut Value, others: &dyn Lookup) -> Result<(), String> {
    let ranges = ranges(pod, others);
    for range in &ranges {
        give_defaults(pod, range);
    }
    let mut wrong = Vec::new();
    for limit in ranges.iter().flat_map(|range| list(at(range, &["spec"]), "limits")) {
        let spec = at(pod, &["spec"]);
        match text(limit, "type") {
            "Container" => {
                for container in ["containers", "initContainers"].iter().flat_map(|kind| list(spec, kind)) {
                    check(&mut wrong, "Container", limit, at(container, &["resources"]));
                }
            }
            "Pod" => check(&mut wrong, "Pod", limit, &whole(spec)),
            _ => {}
        }
    }
    aggregate(wrong)
}

/// A claim must keep within the bounds of what it asks for.
pub(super) fn limit_claim(claim: &Value, others: &dyn Lookup) -> Result<(), String> {
    let mut wrong = Vec::new();
    for range in ranges(claim, others) {
        for limit in list(at(&range, &["spec"]), "limits") {
            if text(limit, "type") != "PersistentVolumeClaim" {
                continue;
            }
            let asked = json!({"requests": at(claim, &["spec", "resources", "requests"])});
            let kind = "PersistentVolumeClaim";
            for (name, bound) in amounts(limit, "min") {
                wrong.extend(below(kind, &name, bound, &asked));
            }
            for (name, bound) in amounts(limit, "max") {
                let about = format!("maximum {name} usage per {kind} is {bound}");
                match amount(&asked, "requests", &name) {
                    None => wrong.push(format!("{about}.  No request is specified")),
                    Some(own) if own.nano > bound.nano => wrong.push(format!("{about}, but request is {own}")),
                    Some(_) => {}
                }
            }
        }
    }
    aggregate(wrong)
}

/// Several reasons at once, as Go joins them: each once.
fn aggregate(wrong: Vec<String>) -> Result<(), String> {
    let mut once: Vec<String> = Vec::new();
    for one in wrong {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    match once.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn amount(resources: &Value, part: &str, name: &str) -> Option<Quantity> {
    at(resources, &[part, name]).as_str().and_then(quantity::parse)
}

fn amounts(limit: &Value, part: &str) -> Vec<(String, Quantity)> {
    entries(limit, part).filter_map(|(name, value)| Some((name.clone(), quantity::parse(value.as_str()?)?))).collect()
}

fn give_defaults(pod: &mut Value, range: &Value) {
    let mut given = (Map::new(), Map::new());
    for limit in list(at(range, &["spec"]), "limits").iter().filter(|limit| text(limit, "type") == "Container") {
        given.0.extend(entries(limit, "default").map(|(name, value)| (name.clone(), value.clone())));
        given.1.extend(entries(limit, "defaultRequest").map(|(name, value)| (name.clone(), value.clone())));
    }
    let Some(spec) = pod.as_object_mut().and_then(|pod| child(pod, "spec")) else { return };
    let mut notes: Vec<String> = Vec::new();
    for (kind, called) in [("containers", "container"), ("initContainers", "init container")] {
        for container in elements(spec, kind) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(resources) = child(container, "resources") else { continue };
            let mut set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (part, word, values) in [("limits", "limit", &given.0), ("requests", "request", &given.1)] {
                for (resource, value) in values {
                    let there = resources.get(part).is_some_and(|own| own.get(resource).is_some());
                    if !there && let Some(own) = child(resources, part) {
                        fill(own, resource, value.clone());
                        set.entry(word).or_default().push(resource.clone());
                    }
                }
            }
            for word in ["request", "limit"] {
                if let Some(resources) = set.get(word) {
                    notes.push(format!("{} {word} for {called} {name}", resources.join(", ")));
                }
            }
        }
    }
    if notes.is_empty() {
        return;
    }
    let annotations =
        pod.as_object_mut().and_then(|pod| child(pod, "metadata")).and_then(|meta| child(meta, "annotations"));
    if let Some(annotations) = annotations {
        annotations.insert(ANNOTATION.into(), format!("LimitRanger plugin set: {}", notes.join("; ")).into());
    }
}

/// What a pod asks for in all: the sum of its containers, or more if one of its first containers needs more.
fn whole(spec: &Value) -> Value {
    let mut out = json!({});
    for part in ["requests", "limits"] {
        let mut sums: BTreeMap<String, Quantity> = BTreeMap::new();
        for container in list(spec, "containers") {
            for (name, own) in amounts(at(container, &["resources"]), part) {
                sums.entry(name).and_modify(|sum| *sum = sum.plus(own)).or_insert(own);
            }
        }
        for container in list(spec, "initContainers") {
            for (name, own) in amounts(at(container, &["resources"]), part) {
                sums.entry(name)
                    .and_modify(|sum| {
                        if own.nano > sum.nano {
                            *sum = own
                        }
                    })
                    .or_insert(own);
            }
        }
        out[part] = sums.into_iter().map(|(name, sum)| (name, Value::from(sum.to_string()))).collect();
    }
    out
}

fn check(wrong: &mut Vec<String>, kind: &str, limit: &Value, resources: &Value) {
    for (name, bound) in amounts(limit, "min") {
        wrong.extend(below(kind, &name, bound, resources));
    }
    for (name, bound) in amounts(limit, "max") {
        let about = format!("maximum {name} usage per {kind} is {bound}");
        let request = amount(resources, "requests", &name);
        match amount(resources, "limits", &name) {
            None => wrong.push(format!("{about}.  No limit is specified")),
            Some(own) if own.nano > bound.nano => wrong.push(format!("{about}, but limit is {own}")),
            Some(_) => {
                if let Some(own) = request.filter(|own| own.nano > bound.nano) {
                    wrong.push(format!("{about}, but request is {own}"));
                }
            }
        }
    }
    for (name, bound) in amounts(limit, "maxLimitRequestRatio") {
        let about = format!("{name} max limit to request ratio per {kind} is {bound}, but");
        let positive = |part| amount(resources, part, &name).filter(|own| own.nano > 0);
        match (positive("requests"), positive("limits")) {
            (None, _) => wrong.push(format!("{about} no request is specified or request is 0")),
            (_, None) => wrong.push(format!("{about} no limit is specified or limit is 0")),
            (Some(request), Some(own)) => {
                // The ratio is shown with six digits; a millionth is the grain.
                let ratio = own.nano.saturating_mul(1_000_000) / request.nano;
                if own.nano.saturating_mul(1_000_000_000) / request.nano > bound.nano {
                    let (whole, rest) = (ratio / 1_000_000, ratio % 1_000_000);
                    wrong.push(format!("{about} provided ratio is {whole}.{rest:06}"));
                }
            }
        }
    }
}

fn below(kind: &str, name: &str, bound: Quantity, resources: &Value) -> Option<String> {
    let about = format!("minimum {name} usage per {kind} is {bound}");
    let Some(request) = amount(resources, "requests", name) else {
        return Some(format!("{about}.  No request is specified"));
    };
    if request.nano < bound.nano {
        return Some(format!("{about}, but request is {request}"));
    }
    let limit = amount(resources, "limits", name).filter(|own| own.nano < bound.nano)?;
    Some(format!("{about}, but limit is {limit}"))
}
