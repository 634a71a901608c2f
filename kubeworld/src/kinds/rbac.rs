//! Roles and bindings. Whether the requester may grant what they grant is not asked here.

use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, count, has, list, text},
    names, selectors,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A Role or a ClusterRole.
pub(super) fn check_role(causes: &mut Causes, role: &Value, namespaced: bool) {
    let path = Path::root("rules");
    for (index, rule) in list(role, "rules").iter().enumerate() {
        check_rule(causes, path.index(index), rule, namespaced);
    }
    if namespaced || !has(role, "aggregationRule") {
        return;
    }
    let path = Path::root("aggregationRule");
    let path = path.child("clusterRoleSelectors");
    let selectors = list(at(role, &["aggregationRule"]), "clusterRoleSelectors");
    if selectors.is_empty() {
        causes.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (index, selector) in selectors.iter().enumerate() {
        selectors::check(causes, path.index(index), selector);
    }
}

fn check_rule(causes: &mut Causes, path: Path<'_>, rule: &Value, namespaced: bool) {
    if count(rule, "verbs") == 0 {
        causes.required_late(path.child("verbs"));
    }
    if count(rule, "nonResourceURLs") > 0 {
        let urls = path.child("nonResourceURLs");
        let shown = at(rule, &["nonResourceURLs"]).clone();
        if namespaced {
            causes.invalid(urls, shown.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|key| count(rule, key) > 0) {
            causes.invalid(urls, shown, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if count(rule, "apiGroups") == 0 {
        causes.required(path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if count(rule, "resources") == 0 {
        causes.required(path.child("resources"), "resource rules must supply at least one resource");
    }
}

/// A RoleBinding or a ClusterRoleBinding.
pub(super) fn check_binding(causes: &mut Causes, binding: &Value, namespaced: bool) {
    let reference = at(binding, &["roleRef"]);
    let path = Path::root("roleRef");
    if text(reference, "apiGroup") != GROUP {
        causes.not_supported(path.child("apiGroup"), text(reference, "apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = text(reference, "kind");
    if !kinds.contains(&kind) {
        causes.not_supported(path.child("kind"), kind, kinds);
    }
    let name = text(reference, "name");
    causes.each_invalid(path.child("name"), name, names::path_segment(name));
    let subjects = Path::root("subjects");
    for (index, subject) in list(binding, "subjects").iter().enumerate() {
        check_subject(causes, subjects.index(index), subject, namespaced);
    }
    if name.is_empty() {
        causes.required_late(path.child("name"));
    }
}

fn check_subject(causes: &mut Causes, path: Path<'_>, subject: &Value, namespaced: bool) {
    let name = text(subject, "name");
    let group = text(subject, "apiGroup");
    if name.is_empty() {
        causes.required_late(path.child("name"));
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                causes.each_invalid(path.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                causes.not_supported(path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                causes.required(path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                causes.not_supported(path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => causes.not_supported(path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

/// What a binding binds may not change, only to whom.
pub(super) fn check_binding_update(causes: &mut Causes, new: &Value, old: &Value) {
    let (new, old) = (at(new, &["roleRef"]), at(old, &["roleRef"]));
    if new != old {
        let shown = json!({"APIGroup": text(new, "apiGroup"), "Kind": text(new, "kind"), "Name": text(new, "name")});
        // The real one prints a struct whose fields have Go's names, in Go's order.
        let shown = serde_json::to_string(&shown).unwrap_or_default();
        let mut one = Causes::default();
        one.invalid_unshown(Path::root("roleRef"), &format!("{shown}: field is immutable"));
        causes.0.append(&mut one.0);
    }
}
