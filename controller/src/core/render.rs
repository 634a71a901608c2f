//! The objects of an app for one cluster.

use std::collections::BTreeMap;

use api::v1alpha1::{Adopt, App, IgnoreDifference};
use api::wire::{self, Render};
use policies::placement::divide;
use serde_json::Value;

/// Bytes of the inline source as compact JSON.
pub(super) fn inline_bytes(app: &App) -> usize {
    app.spec.source.inline.manifests.iter().map(|m| m.to_string().len()).sum()
}

/// Renders `app` for cluster number `index` of `count` when its replicas are divided (`divided = (count, index)`).
///
/// Division touches `spec.replicas` of the workload kinds that have one; a workload without it has one replica, as
/// Kubernetes reads it. Equal input gives equal bytes: keys are sorted.
pub(super) fn render(app: &App, divided: Option<(u32, u32)>, cascade: bool) -> Render {
    let objects = app.spec.source.inline.manifests.iter().map(|manifest| {
        let mut object = manifest.clone();
        if let (Some((count, index)), true) = (divided, is_scalable(&object)) {
            let total = object["spec"]["replicas"].as_u64().unwrap_or(1);
            let share = divide::share(u32::try_from(total).unwrap_or(u32::MAX), count, index);
            object["spec"]["replicas"] = share.into();
        }
        canonical(&object).to_string()
    });
    let ignore = |written: &IgnoreDifference| wire::Ignore {
        group: written.group.clone(),
        kind: written.kind.clone(),
        name: written.name.clone().unwrap_or_default(),
        pointers: written.paths.clone(),
        managers: written.managers.clone(),
    };
    let adopt = match app.spec.adopt {
        Adopt::Never => wire::Adopt::Never,
        Adopt::IfIdentical => wire::Adopt::IfIdentical,
        Adopt::Always => wire::Adopt::Always,
    };
    Render {
        objects: objects.collect(),
        hosts: app.spec.hosts.iter().map(|h| h.host.clone()).collect(),
        cascade,
        adopt: adopt.into(),
        ignore: app.spec.ignore_differences.iter().map(ignore).collect(),
    }
}

fn is_scalable(object: &Value) -> bool {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    text("apiVersion") == "apps/v1" && matches!(text("kind"), "Deployment" | "StatefulSet" | "ReplicaSet")
}

/// The same value with every object's keys sorted, whatever order `serde_json` was built to keep.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map.iter().map(|(k, v)| (k, canonical(v))).collect();
            sorted.into_iter().map(|(k, v)| (k.clone(), v)).collect()
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
