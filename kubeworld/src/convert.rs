//! Between versions of one kind that have different fields. Everything else has the same fields in all its versions.

use serde_json::{Value, json};

use crate::registry::Resource;
use crate::store::Object;

/// Whether objects of this built-in resource are stored in another form.
fn needed(resource: &Resource) -> bool {
    resource.group == "events.k8s.io" || (resource.group == "autoscaling" && resource.version == "v1")
}

/// Whether an object must be parsed before it can be shown as one of this resource.
pub(crate) fn differs(resource: &Resource, object: &Object) -> bool {
    needed(resource) || resource.custom().is_some_and(|custom| custom.differs(object.revision))
}

/// An object in the form of this resource.
pub(crate) fn value(resource: &Resource, object: &Object) -> Value {
    let mut value = resource.value(object);
    from_stored(resource, &mut value);
    value
}

/// What `events.k8s.io` calls what the core group calls otherwise.
const EVENT_FIELDS: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// And the two that both have under other names.
const EVENT_CONTROLLER: [(&str, &str); 2] =
    [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")];

/// From the form in which it is stored to that of this resource.
pub(crate) fn from_stored(resource: &Resource, value: &mut Value) {
    if resource.group == "events.k8s.io" {
        for (stored, own) in EVENT_FIELDS.into_iter().chain(EVENT_CONTROLLER) {
            rename(value, stored, own);
        }
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|key, value| !(key.starts_with("reporting") && *value == ""));
        }
    } else if needed(resource) {
        let metrics = value["spec"]["metrics"].take();
        let cpu = metrics.as_array().into_iter().flatten().find(|metric| {
            metric["type"] == "Resource"
                && metric["resource"]["name"] == "cpu"
                && metric["resource"]["target"]["type"] == "Utilization"
        });
        let percentage = cpu.map(|metric| metric["resource"]["target"]["averageUtilization"].clone());
        if let Some(status) = value["status"].as_object_mut() {
            status.remove("currentMetrics");
            status.remove("conditions");
            status.entry("currentReplicas").or_insert_with(|| json!(0));
        }
        if let Some(spec) = value["spec"].as_object_mut() {
            spec.remove("metrics");
            if let Some(percentage) = percentage {
                spec.insert("targetCPUUtilizationPercentage".to_owned(), percentage);
            }
        }
    }
}

/// And back.
pub(crate) fn to_stored(resource: &Resource, value: &mut Value) {
    if resource.group == "events.k8s.io" {
        for (stored, own) in EVENT_FIELDS.into_iter().chain(EVENT_CONTROLLER) {
            rename(value, own, stored);
        }
    } else if needed(resource)
        && let Some(spec) = value["spec"].as_object_mut()
        && let Some(percentage) = spec.remove("targetCPUUtilizationPercentage")
    {
        let target = json!({"type": "Utilization", "averageUtilization": percentage});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
}

fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(fields) = value.as_object_mut()
        && let Some(moved) = fields.remove(from)
    {
        fields.insert(to.to_owned(), moved);
    }
}
