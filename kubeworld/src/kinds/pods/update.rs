//! What of a pod may change.

use serde_json::Value;

use super::super::{
    causes::Causes,
    fields::{at, count, integer, list, text},
    meta, names, shown,
    types::types,
};
use super::{SPEC, check_image_spaces, check_pod, scheduling};

/// The rules for an update of a pod. Almost nothing of its spec may change.
pub(in super::super) fn check_update(causes: &mut Causes, new_pod: &Value, old_pod: &Value) {
    meta::check_create(causes, names::dns_subdomain, true, new_pod);
    check_pod(causes, new_pod);
    let (new, old) = (at(new_pod, &["spec"]), at(old_pod, &["spec"]));
    for kind in ["containers", "initContainers"] {
        let path = SPEC.child(kind);
        if count(new, kind) != count(old, kind) {
            causes.forbidden(path, "pod updates may not add or remove containers");
            return;
        }
        for (index, container) in list(new, kind).iter().enumerate() {
            let image = text(container, "image");
            if image.is_empty() {
                causes.required(path.index(index).child("image"), "");
            }
            check_image_spaces(causes, path.index(index).child("image"), image);
        }
    }
    let path = SPEC.child("activeDeadlineSeconds");
    match (integer(new, "activeDeadlineSeconds"), integer(old, "activeDeadlineSeconds")) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            causes.invalid(path, now, "must be between 0 and 2147483647, inclusive");
            return;
        }
        (Some(now), Some(before)) if before < now => {
            causes.invalid(path, now, "must be less than or equal to previous value");
            return;
        }
        (None, Some(_)) => {
            causes.invalid(path, Value::Null, "must not update from a positive integer to nil value");
        }
        (Some(_) | None, _) => {}
    }
    check_added_tolerations(causes, new, old);
    check_removed_gates(causes, new, old);
    if new == old {
        return;
    }
    let munged = without_the_updatable(new, old);
    if munged != *old {
        let why = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            difference("core.v1.PodSpec", old, &munged)
        );
        causes.forbidden(SPEC, &why);
    }
}

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn check_added_tolerations(causes: &mut Causes, new: &Value, old: &Value) {
    let path = SPEC.child("tolerations");
    let bare = |toleration: &Value| {
        let mut fields = toleration.as_object().cloned().unwrap_or_default();
        fields.remove("tolerationSeconds");
        fields
    };
    let kept =
        list(old, "tolerations").iter().all(|old| list(new, "tolerations").iter().any(|new| bare(new) == bare(old)));
    if !kept {
        causes.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::check_tolerations(causes, path, list(new, "tolerations"));
}

fn check_removed_gates(causes: &mut Causes, new: &Value, old: &Value) {
    let path = SPEC.child("schedulingGates");
    let before: Vec<&str> = list(old, "schedulingGates").iter().map(|gate| text(gate, "name")).collect();
    for (index, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !before.contains(&name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            causes.forbidden(path.index(index).child("name"), &why);
        }
    }
}

/// The new spec with what may change as it was.
fn without_the_updatable(new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    let Some(fields) = munged.as_object_mut() else { return munged };
    for kind in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = fields.get_mut(kind) else { continue };
        for (container, old) in containers.iter_mut().zip(list(old, kind)) {
            if let (Some(container), Some(image)) = (container.as_object_mut(), old.get("image")) {
                container.insert("image".into(), image.clone());
            }
        }
    }
    let mut kept = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if count(old, "schedulingGates") > 0 {
        kept.extend(["nodeSelector", "affinity"]);
    }
    for key in kept {
        match old.get(key) {
            Some(value) => fields.insert(key.to_owned(), value.clone()),
            None => fields.remove(key),
        };
    }
    munged
}

/// What differs between two structs of a name in `types.txt`, for people.
pub(in super::super) fn difference(name: &str, old: &Value, new: &Value) -> String {
    shown::difference(&types().shown(name, old), &types().shown(name, new))
}

/// The rules for an update of a pod's ephemeral containers, which may only be added.
pub(in super::super) fn check_ephemeral_update(causes: &mut Causes, new: &Value, old: &Value) {
    check_pod(causes, new);
    let (new, old) = (at(new, &["spec"]), at(old, &["spec"]));
    let path = SPEC.child("ephemeralContainers");
    for before in list(old, "ephemeralContainers") {
        let name = text(before, "name");
        let now = list(new, "ephemeralContainers").iter().rev().find(|container| text(container, "name") == name);
        match now {
            None => causes.forbidden(path, &format!("existing ephemeral containers \"{name}\" may not be removed\n")),
            Some(now) if now != before => {
                let difference = difference("core.v1.EphemeralContainer", before, now);
                let why = format!("existing ephemeral containers \"{name}\" may not be changed\n{difference}");
                causes.forbidden(path, &why);
            }
            Some(_) => {}
        }
    }
}
