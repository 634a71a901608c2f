//! What pods and their containers may do on a node.

use serde_json::{Value, json};

use super::super::{
    causes::{Causes, Path},
    fields::{at, has, integer, list, option, text, truth},
    types::types,
};
use super::{containers::Surroundings, volumes};

fn check_ids(causes: &mut Causes, path: Path<'_>, context: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(id) = integer(context, key)
            && !(0..=i64::from(i32::MAX)).contains(&id)
        {
            causes.invalid(path.child(key), id, "must be between 0 and 2147483647, inclusive");
        }
    }
}

pub(super) fn check_pod_security(causes: &mut Causes, path: Path<'_>, context: &Value) {
    check_ids(causes, path, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    let groups = path.child("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or_default();
        if !(0..=i64::from(i32::MAX)).contains(&group) {
            causes.invalid(groups.index(index), group, "must be between 0 and 2147483647, inclusive");
        }
    }
    if let Some(policy) = option(context, "fsGroupChangePolicy").and_then(Value::as_str)
        && !matches!(policy, "Always" | "OnRootMismatch")
    {
        causes.not_supported(path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    check_seccomp(causes, path.child("seccompProfile"), at(context, &["seccompProfile"]));
}

fn check_seccomp(causes: &mut Causes, path: Path<'_>, profile: &Value) {
    if !profile.is_object() {
        return;
    }
    let kind = text(profile, "type");
    if kind.is_empty() {
        causes.required(path.child("type"), "type is required when seccompProfile is set");
    } else if !matches!(kind, "Localhost" | "RuntimeDefault" | "Unconfined") {
        causes.not_supported(path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let local = path.child("localhostProfile");
    match (kind == "Localhost", has(profile, "localhostProfile")) {
        (true, false) => causes.required(local, "must be set when seccomp type is Localhost"),
        (true, true) => volumes::check_descending(causes, local, text(profile, "localhostProfile")),
        (false, true) => {
            causes.invalid(local, profile.clone(), "can only be set when seccomp type is Localhost");
        }
        (false, false) => {}
    }
}

pub(super) fn check_container_security(
    causes: &mut Causes,
    path: Path<'_>,
    context: &Value,
    around: &Surroundings<'_>,
) {
    if !context.is_object() {
        return;
    }
    check_ids(causes, path, context, &["runAsUser", "runAsGroup"]);
    if let Some(mount) = option(context, "procMount").and_then(Value::as_str) {
        if !matches!(mount, "Default" | "Unmasked") {
            causes.not_supported(path.child("procMount"), mount, &["Default", "Unmasked"]);
        }
        if around.host_users && mount == "Unmasked" {
            causes.invalid(path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    check_seccomp(causes, path.child("seccompProfile"), at(context, &["seccompProfile"]));
    if context.get("allowPrivilegeEscalation") == Some(&json!(false)) && truth(context, "privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.invalid_shown(path, &types().shown("core.v1.SecurityContext", context).compact(), why);
    }
}
