//! Workloads that run for ever.

use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, count, has, integer, list, option, text},
    names, pods, selectors, storage,
};

const SPEC: Path<'static> = Path::root("spec");

/// A template's labels must be what the selector selects.
fn check_selected(causes: &mut Causes, spec: &Value) {
    let selector = at(spec, &["selector"]);
    if has(spec, "selector") && selectors::is_empty(selector) {
        return;
    }
    let labels = at(spec, &["template", "metadata", "labels"]);
    if !selectors::matches(selector, labels) {
        let shown = if labels.is_null() { json!({}) } else { labels.clone() };
        let shown = if shown.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { shown };
        let path = SPEC.child("template.metadata.labels");
        causes.invalid(path, shown, "`selector` does not match template `labels`");
    }
}

/// A ReplicaSet's and a Deployment's template.
fn check_replicated_template(causes: &mut Causes, spec: &Value) {
    if !selectors::is_usable(at(spec, &["selector"])) {
        causes.invalid(SPEC.child("selector"), at(spec, &["selector"]).clone(), "invalid label selector");
        return;
    }
    check_selected(causes, spec);
    let template = at(spec, &["template"]);
    pods::check_template(causes, SPEC.child("template"), template);
    pods::check_always_running(causes, SPEC.child("template"), template, "ReplicaSet");
}

/// A ReplicaSet.
pub(super) fn check_replica_set(causes: &mut Causes, set: &Value) {
    let spec = at(set, &["spec"]);
    causes.not_negative(SPEC.child("replicas"), integer(spec, "replicas"));
    causes.not_negative(SPEC.child("minReadySeconds"), integer(spec, "minReadySeconds"));
    selectors::check_workload(causes, spec, SPEC, "deployment");
    check_replicated_template(causes, spec);
}

/// A ReplicationController.
pub(super) fn check_replication_controller(causes: &mut Causes, controller: &Value) {
    let spec = at(controller, &["spec"]);
    if count(spec, "selector") == 0 {
        causes.required(SPEC.child("selector"), "");
    }
    if !has(spec, "template") {
        causes.required(SPEC.child("template"), "");
    } else {
        let labels = at(spec, &["template", "metadata", "labels"]);
        let selector = at(spec, &["selector"]);
        if count(spec, "selector") > 0 && !selectors::matches_map(selector, labels) {
            let path = SPEC.child("template.metadata.labels");
            causes.invalid(path, labels.clone(), "`selector` does not match template `labels`");
        }
        let template = at(spec, &["template"]);
        pods::check_template(causes, SPEC.child("template"), template);
        pods::check_always_running(causes, SPEC.child("template"), template, "ReplicationController");
    }
    causes.not_negative(SPEC.child("replicas"), integer(spec, "replicas"));
    causes.not_negative(SPEC.child("minReadySeconds"), integer(spec, "minReadySeconds"));
}

/// A Deployment.
pub(super) fn check_deployment(causes: &mut Causes, deployment: &Value) {
    let spec = at(deployment, &["spec"]);
    causes.not_negative(SPEC.child("replicas"), integer(spec, "replicas"));
    selectors::check_workload(causes, spec, SPEC, "deployment");
    check_replicated_template(causes, spec);
    check_strategy(causes, SPEC.child("strategy"), at(spec, &["strategy"]));
    causes.not_negative(SPEC.child("minReadySeconds"), integer(spec, "minReadySeconds"));
    causes.not_negative(SPEC.child("revisionHistoryLimit"), integer(spec, "revisionHistoryLimit"));
    if let Some(deadline) = integer(spec, "progressDeadlineSeconds") {
        let path = SPEC.child("progressDeadlineSeconds");
        causes.not_negative(path, Some(deadline));
        if deadline <= integer(spec, "minReadySeconds").unwrap_or_default() {
            causes.invalid(path, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn check_strategy(causes: &mut Causes, path: Path<'_>, strategy: &Value) {
    let rolling = option(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if rolling.is_some() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                causes.forbidden(path.child("rollingUpdate"), why);
            }
        }
        "RollingUpdate" => match rolling {
            None => {
                causes.required(path.child("rollingUpdate"), "this should be defaulted and never be nil");
            }
            Some(rolling) => {
                let path = path.child("rollingUpdate");
                let unavailable = at(rolling, &["maxUnavailable"]);
                let surge = at(rolling, &["maxSurge"]);
                check_count_or_percent(causes, path.child("maxUnavailable"), unavailable);
                check_count_or_percent(causes, path.child("maxSurge"), surge);
                if amount(unavailable) == 0 && amount(surge) == 0 {
                    let why = "may not be 0 when `maxSurge` is 0";
                    causes.invalid(path.child("maxUnavailable"), unavailable.clone(), why);
                }
                check_at_most_all(causes, path.child("maxUnavailable"), unavailable);
            }
        },
        other => {
            // The real one shows its own struct, whose names are Go's.
            let rolling = rolling.map_or_else(
                || "null".to_owned(),
                |it| {
                    let (unavailable, surge) = (at(it, &["maxUnavailable"]), at(it, &["maxSurge"]));
                    format!("{{\"MaxUnavailable\":{unavailable},\"MaxSurge\":{surge}}}")
                },
            );
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", json!(other));
            causes.not_supported_shown(path, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

/// A count that is not negative, or a percentage.
pub(super) fn check_count_or_percent(causes: &mut Causes, path: Path<'_>, value: &Value) {
    match value {
        Value::String(text) => {
            for why in names::percent(text) {
                causes.invalid(path, value.clone(), &why);
            }
        }
        Value::Number(_) => causes.not_negative(path, value.as_i64()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
    }
}

/// Not more than 100 %.
pub(super) fn check_at_most_all(causes: &mut Causes, path: Path<'_>, value: &Value) {
    if as_percent(value).is_some_and(|percent| percent > 100) {
        causes.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

fn as_percent(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    if names::percent(text).is_empty() { text.trim_end_matches('%').parse().ok() } else { None }
}

/// The number of a count or of a percentage.
fn amount(value: &Value) -> i64 {
    as_percent(value).or_else(|| value.as_i64()).or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

/// A DaemonSet.
pub(super) fn check_daemon_set(causes: &mut Causes, set: &Value) {
    let spec = at(set, &["spec"]);
    let selector = at(spec, &["selector"]);
    selectors::check(causes, SPEC.child("selector"), selector);
    let labels = at(spec, &["template", "metadata", "labels"]);
    if selectors::is_usable(selector) && !selectors::matches(selector, labels) {
        let path = SPEC.child("template.metadata.labels");
        causes.invalid(path, labels.clone(), "`selector` does not match template `labels`");
    }
    if has(spec, "selector") && selectors::is_empty(selector) {
        causes.invalid(SPEC.child("selector"), selector.clone(), "empty selector is invalid for daemonset");
    }
    let template = at(spec, &["template"]);
    pods::check_template(causes, SPEC.child("template"), template);
    pods::check_always_running(causes, SPEC.child("template"), template, "DaemonSet");
    causes.not_negative(SPEC.child("minReadySeconds"), integer(spec, "minReadySeconds"));
    check_daemon_strategy(causes, SPEC.child("updateStrategy"), at(spec, &["updateStrategy"]));
    causes.not_negative(SPEC.child("revisionHistoryLimit"), integer(spec, "revisionHistoryLimit"));
}

fn check_daemon_strategy(causes: &mut Causes, path: Path<'_>, strategy: &Value) {
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(rolling) = option(strategy, "rollingUpdate") else {
                causes.required(path.child("rollingUpdate"), "");
                return;
            };
            let path = path.child("rollingUpdate");
            let unavailable = at(rolling, &["maxUnavailable"]);
            let surge = at(rolling, &["maxSurge"]);
            for (key, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                check_count_or_percent(causes, path.child(key), value);
            }
            for (key, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                check_at_most_all(causes, path.child(key), value);
            }
            match (amount(unavailable) != 0, amount(surge) != 0) {
                (true, true) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    causes.invalid(path.child("maxSurge"), surge.clone(), why);
                }
                (false, false) => {
                    causes.required(path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                (true, false) | (false, true) => {}
            }
        }
        other => {
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":null}}", json!(other));
            causes.not_supported_shown(path, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

/// A StatefulSet.
pub(super) fn check_stateful_set(causes: &mut Causes, set: &Value) {
    let spec = at(set, &["spec"]);
    let policy = text(spec, "podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        causes.invalid(SPEC.child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'");
    }
    check_stateful_strategy(causes, SPEC.child("updateStrategy"), at(spec, &["updateStrategy"]));
    let retention = SPEC.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        let policy = text(at(spec, &["persistentVolumeClaimRetentionPolicy"]), key);
        if !matches!(policy, "Retain" | "Delete") {
            causes.not_supported(retention.child(key), policy, &["Retain", "Delete"]);
        }
    }
    let claims = SPEC.child("volumeClaimTemplates");
    for (index, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
        storage::check_claim_spec(causes, claims.index(index).child("spec"), at(claim, &["spec"]));
    }
    causes.not_negative(SPEC.child("replicas"), integer(spec, "replicas"));
    causes.not_negative(SPEC.child("minReadySeconds"), integer(spec, "minReadySeconds"));
    causes.not_negative(SPEC.child("ordinals.start"), integer(at(spec, &["ordinals"]), "start"));
    let service = text(spec, "serviceName");
    if !service.is_empty() {
        causes.each_invalid(SPEC.child("serviceName"), service, names::dns_label(service));
    }
    selectors::check_workload(causes, spec, SPEC, "statefulset");
    let path = SPEC.child("template");
    if selectors::is_usable(at(spec, &["selector"])) {
        check_selected(causes, spec);
        pods::check_template(causes, path, &with_claims(spec));
        let metadata = at(spec, &["template", "metadata"]);
        selectors::check_labels(causes, path.child("labels"), at(metadata, &["labels"]));
        super::meta::check_annotations(causes, path.child("annotations"), at(metadata, &["annotations"]));
    } else {
        causes.invalid(SPEC.child("selector"), at(spec, &["selector"]).clone(), "");
    }
    pods::check_always_running(causes, path, at(spec, &["template"]), "StatefulSet");
}

/// The template as the controller will complete it: each claim is a volume.
fn with_claims(spec: &Value) -> Value {
    let mut template = at(spec, &["template"]).clone();
    let claims: Vec<&str> =
        list(spec, "volumeClaimTemplates").iter().map(|claim| text(at(claim, &["metadata"]), "name")).collect();
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else { return template };
    pod.remove("subdomain");
    pod.remove("hostname");
    if !claims.is_empty() {
        let mut volumes: Vec<Value> =
            claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
        let own = pod.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.extend(own.into_iter().filter(|volume| !claims.contains(&text(volume, "name"))));
        pod.insert("volumes".into(), volumes.into());
    }
    template
}

fn check_stateful_strategy(causes: &mut Causes, path: Path<'_>, strategy: &Value) {
    let rolling = option(strategy, "rollingUpdate");
    let kind = text(strategy, "type");
    match (kind, rolling) {
        ("", _) => causes.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            let partition = integer(rolling, "partition").unwrap_or_default();
            let unavailable = at(rolling, &["maxUnavailable"]);
            let shown = format!("{{\"Partition\":{partition},\"MaxUnavailable\":{unavailable}}}");
            causes.invalid_shown(path.child("rollingUpdate"), &shown, why);
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            causes.not_negative(path.child("partition"), integer(rolling, "partition"));
            if let Some(most) = option(rolling, "maxUnavailable") {
                let path = path.child("maxUnavailable");
                check_count_or_percent(causes, path, most);
                if amount(most) == 0 {
                    causes.invalid(path, most.clone(), "cannot be 0");
                }
                check_at_most_all(causes, path, most);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        (kind, _) => {
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":null}}", json!(kind));
            causes.invalid_shown(path, &shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// A StatefulSet's update.
pub(super) fn check_stateful_set_update(causes: &mut Causes, new: &Value, old: &Value) {
    let (new, old) = (at(new, &["spec"]), at(old, &["spec"]));
    for key in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
        causes.immutable(SPEC.child(key), at(new, &[key]), at(old, &[key]));
    }
}

/// What no workload's selector may do after the create.
pub(super) fn check_same_selector(causes: &mut Causes, new: &Value, old: &Value) {
    let path = ["spec", "selector"];
    causes.immutable(SPEC.child("selector"), at(new, &path), at(old, &path));
}

/// A ControllerRevision.
pub(super) fn check_revision(causes: &mut Causes, revision: &Value) {
    causes.not_negative(Path::root("revision"), integer(revision, "revision"));
}

/// The counts in a status.
pub(super) fn check_status(causes: &mut Causes, object: &Value, counts: &[&str], not_above: &[(&str, &str, &str)]) {
    let status = at(object, &["status"]);
    let path = Path::root("status");
    for key in counts {
        causes.not_negative(path.child(key), integer(status, key));
    }
    for (key, most, why) in not_above {
        let number = integer(status, key).unwrap_or_default();
        if number > integer(status, most).unwrap_or_default() {
            causes.invalid(path.child(key), number, why);
        }
    }
}
