//! Namespaces that end: their content goes first.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::server::{NAMESPACE, Program, set_condition};
use super::{Work, cache};
use crate::kinds::fields::{at, list};

pub(super) fn sync(work: &mut Work, name: &str) {
    let Some(known) = work.cache.known(cache::NAMESPACES, "", name) else { return };
    if !known.deleting {
        return;
    }
    let by = Program::ControllerManager;
    let events = events_of(work, name);
    for one in work.cache.in_namespace(name).into_iter().filter(|one| !one.deleting) {
        let options = json!({"propagationPolicy": "Background"});
        let _refused = work.delete(by, &one.resource, name, &one.name, &one.uid, &options);
    }
    let rest = work.cache.in_namespace(name);
    let Some(namespace) = work.cache.get(cache::NAMESPACES, "", name) else { return };
    if write_conditions(work, &namespace, &rest) || !rest.is_empty() {
        // The status' change, or the end of what remains, brings us back.
        if !rest.is_empty() {
            return;
        }
    }
    for event in events {
        let _refused = work.delete_event(name, &event);
    }
    let Some(namespace) = work.cache.get(cache::NAMESPACES, "", name) else { return };
    let finalizers: Vec<Value> = list(at(&namespace, &["spec"]), "finalizers")
        .iter()
        .filter(|finalizer| **finalizer != json!("kubernetes"))
        .cloned()
        .collect();
    let mut end = (*namespace).clone();
    end["spec"]["finalizers"] = finalizers.into();
    let _refused = work.update(by, NAMESPACE, "finalize", &end);
}

/// Events are not in the cache; they go with the rest.
fn events_of(work: &Work, namespace: &str) -> Vec<String> {
    let state = work.api.state();
    state.store.list(cache::EVENTS, namespace).map(|event| event.name.clone()).collect()
}

fn write_conditions(work: &mut Work, namespace: &Value, rest: &[std::sync::Arc<cache::Known>]) -> bool {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for one in rest {
        let resource = &one.resource;
        *counts.entry(format!("{}.{}", resource.plural, resource.group)).or_default() += 1;
        for finalizer in &one.finalizers {
            *finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
    let told = |counts: &BTreeMap<String, usize>, has: &str| {
        let list: Vec<String> =
            counts.iter().map(|(what, count)| format!("{what} {has} {count} resource instances")).collect();
        list.join(", ")
    };
    let remaining = if counts.is_empty() {
        ("False", "ContentRemoved", "All content successfully removed".to_owned())
    } else {
        ("True", "SomeResourcesRemain", format!("Some resources are remaining: {}", told(&counts, "has")))
    };
    let held = if finalizers.is_empty() {
        ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        let what = told(&finalizers, "in");
        ("True", "SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {what}"))
    };
    let fine = |reason: &'static str, message: &str| ("False", reason, message.to_owned());
    let conditions = [
        ("NamespaceDeletionDiscoveryFailure", fine("ResourcesDiscovered", "All resources successfully discovered")),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            fine("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        ("NamespaceContentRemaining", remaining),
        ("NamespaceFinalizersRemaining", held),
    ];
    let mut new = namespace.clone();
    let mut status = at(namespace, &["status"]).clone();
    let mut changed = false;
    let now = work.time();
    for (kind, (is, reason, message)) in conditions {
        changed |= set_condition(
            &mut status,
            json!({"type": kind, "status": is, "reason": reason, "message": message,
            "lastTransitionTime": now}),
        );
    }
    if !changed {
        return false;
    }
    new["status"] = status;
    work.update(Program::ControllerManager, NAMESPACE, "status", &new).is_ok()
}
