//! Pods from templates, and the names and hashes that go with them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::server::{Place, Program};
use super::{Work, cache, server};
use crate::kinds::fields::{at, has, list, text, truth};
use crate::kinds::selectors;

/// The label that tells a Deployment's ReplicaSets apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// The reference of what a controller makes to the object that it makes it for.
pub(super) fn controller_ref(place: Place, owner: &Value) -> Value {
    let meta = at(owner, &["metadata"]);
    json!({
        "apiVersion": place.api_version(), "kind": place.kind(), "name": text(meta, "name"), "uid": text(meta, "uid"),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// A pod as a template has it, for its owner. The name is still to be given.
pub(super) fn pod(template: &Value, place: Place, owner: &Value) -> Value {
    let meta = at(template, &["metadata"]);
    let own = at(owner, &["metadata"]);
    json!({
        "metadata": {
            "generateName": format!("{}-", prefix(text(own, "name"))), "namespace": text(own, "namespace"),
            "labels": at(meta, &["labels"]), "annotations": at(meta, &["annotations"]),
            "finalizers": at(meta, &["finalizers"]), "ownerReferences": [controller_ref(place, owner)],
        },
        "spec": at(template, &["spec"]),
    })
}

/// What generated names begin with: room for the suffix must be left (253 characters in all).
fn prefix(name: &str) -> &str {
    name.get(..name.len().min(247)).unwrap_or(name)
}

/// A hash of a template, in letters that make no words. The real one hashes a dump of its own structs, so its letters
/// are others.
pub(super) fn hash(template: &Value, collisions: i64) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let collisions = if collisions == 0 { String::new() } else { collisions.to_string() };
    for byte in template.to_string().bytes().chain(collisions.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// Equal but for the label that holds the hash.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    let bare = |template: &Value| {
        let mut template = template.clone();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH_LABEL);
        }
        template
    };
    bare(one) == bare(other)
}

/// When an object was created.
pub(super) fn created(object: &Value) -> Timestamp {
    text(at(object, &["metadata"]), "creationTimestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Ready, and since when.
pub(super) fn ready_since(pod: &Value) -> Option<Timestamp> {
    let condition = server::condition(pod, "Ready");
    (text(condition, "status") == "True")
        .then(|| text(condition, "lastTransitionTime").parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Neither ended nor ending.
pub(super) fn is_active(pod: &Value) -> bool {
    !matches!(text(at(pod, &["status"]), "phase"), "Succeeded" | "Failed") && !is_deleting(pod)
}

/// Somebody asked for its end.
pub(super) fn is_deleting(object: &Value) -> bool {
    has(at(object, &["metadata"]), "deletionTimestamp")
}

/// Ready for long enough; otherwise when it will be, if it is ready.
pub(super) fn available_at(pod: &Value, min_ready_seconds: i64) -> Option<Timestamp> {
    Some(ready_since(pod)? + jiff::SignedDuration::from_secs(min_ready_seconds.max(0)))
}

/// The uid of the object's controller.
pub(super) fn controller_uid(object: &Value) -> Option<&str> {
    let owners = list(at(object, &["metadata"]), "ownerReferences");
    owners.iter().find(|owner| truth(owner, "controller")).map(|owner| text(owner, "uid"))
}

/// What an owner controls in a table: its own, and what it can adopt. What it owns and no longer selects it lets go.
pub(super) fn claim(work: &mut Work, place: Place, owner: &Value, table: &str) -> Vec<Value> {
    let meta = at(owner, &["metadata"]);
    let (namespace, uid) = (text(meta, "namespace"), text(meta, "uid"));
    let selector = at(owner, &["spec", "selector"]);
    let all: Vec<std::sync::Arc<Value>> = work.cache.list(table, namespace).cloned().collect();
    let mut out = Vec::new();
    for one in all {
        let selected = selectors::matches(selector, at(&one, &["metadata", "labels"]));
        match controller_uid(&one) {
            Some(controller) if controller == uid => {
                if selected {
                    out.push((*one).clone());
                } else if !is_deleting(owner) {
                    let owners: Vec<Value> = list(at(&one, &["metadata"]), "ownerReferences")
                        .iter()
                        .filter(|it| text(it, "uid") != uid)
                        .cloned()
                        .collect();
                    set_owners(work, table, &one, owners);
                }
            }
            Some(_) => {}
            None if selected && !is_deleting(owner) && !is_deleting(&one) => {
                let mut owners = list(at(&one, &["metadata"]), "ownerReferences").to_vec();
                owners.push(controller_ref(place, owner));
                if let Some(adopted) = set_owners(work, table, &one, owners) {
                    out.push(adopted);
                }
            }
            None => {}
        }
    }
    out
}

fn set_owners(work: &mut Work, table: &str, object: &Value, owners: Vec<Value>) -> Option<Value> {
    let meta = at(object, &["metadata"]);
    let (namespace, name) = (text(meta, "namespace"), text(meta, "name"));
    let known = work.cache.known(table, namespace, name)?;
    let patch = json!({"metadata": {"uid": text(meta, "uid"), "ownerReferences": owners}});
    work.merge(Program::ControllerManager, &known.resource, namespace, name, &patch).ok()
}

/// The objects of a table that an owner controls, without adopting any.
pub(super) fn owned(work: &Work, table: &str, owner: &Value) -> Vec<Value> {
    let meta = at(owner, &["metadata"]);
    let uid = text(meta, "uid");
    let all = work.cache.list(table, text(meta, "namespace"));
    all.filter(|one| controller_uid(one) == Some(uid)).map(|one| (**one).clone()).collect()
}

/// The pods of an owner.
pub(super) fn pods_of(work: &Work, owner: &Value) -> Vec<Value> {
    owned(work, cache::PODS, owner)
}
