//! The rest: namespaces, nodes, quotas, limits, priorities, leases, autoscalers, budgets, events.

use serde_json::{Value, json};

use super::{
    apps,
    causes::{Causes, Path},
    fields::{at, count, entries, has, integer, list, option, text},
    names, pods, quantity, selectors,
};

const SPEC: Path<'static> = Path::root("spec");

fn check_finalizer(causes: &mut Causes, path: Path<'_>, name: &str) {
    causes.each_invalid(path, name, names::qualified(name));
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        causes.invalid(path, name, why);
    }
}

/// A new Namespace.
pub(super) fn check_namespace(causes: &mut Causes, namespace: &Value) {
    for name in list(at(namespace, &["spec"]), "finalizers").iter().filter_map(Value::as_str) {
        check_finalizer(causes, SPEC.child("finalizers"), name);
    }
}

/// A Namespace's status, and what its `finalize` subresource leaves.
pub(super) fn check_namespace_part(causes: &mut Causes, namespace: &Value, subresource: &str) {
    if subresource == "finalize" {
        let path = SPEC.child("finalizers");
        for (index, name) in list(at(namespace, &["spec"]), "finalizers").iter().enumerate() {
            check_finalizer(causes, path.index(index), name.as_str().unwrap_or_default());
        }
        return;
    }
    let phase = text(at(namespace, &["status"]), "phase");
    let path = Path::root("status");
    let path = path.child("Phase");
    match (has(at(namespace, &["metadata"]), "deletionTimestamp"), phase) {
        (false, "Active") | (true, "Terminating") => {}
        (false, phase) => causes.invalid(path, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
        (true, phase) => {
            causes.invalid(path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    }
}

/// A Node's taints and amounts.
pub(super) fn check_node(causes: &mut Causes, node: &Value) {
    let spec = at(node, &["spec"]);
    check_taints(causes, list(spec, "taints"));
    check_node_amounts(causes, node);
    let path = SPEC.child("podCIDRs");
    for (index, network) in list(spec, "podCIDRs").iter().enumerate() {
        names::check_cidr(causes, path.index(index), network.as_str().unwrap_or_default());
    }
}

fn check_node_amounts(causes: &mut Causes, node: &Value) {
    let status = Path::root("status");
    for key in ["capacity", "allocatable"] {
        let path = status.child(key);
        for (name, amount) in entries(at(node, &["status"]), key) {
            pods::check_amount(causes, path.child(name), name, amount);
        }
    }
}

fn check_taints(causes: &mut Causes, taints: &[Value]) {
    let path = Path::root("metadata");
    let path = path.child("taints");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        causes.each_invalid(path.child("key"), key, names::qualified(key));
        let reasons = names::label_value(value);
        if !reasons.is_empty() {
            causes.invalid(path.child("value"), value, &reasons.join(";"));
        }
        pods::check_taint_effect(causes, path.child("effect"), effect);
        if seen.contains(&(key, effect)) {
            let shown = format!(
                "{{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":null}}",
                json!(key),
                json!(value),
                json!(effect)
            );
            causes.duplicate_shown(path, &format!("{shown}: taints must be unique by key and effect pair"));
        }
        seen.push((key, effect));
    }
}

/// A Node's update.
pub(super) fn check_node_update(causes: &mut Causes, new: &Value, old: &Value) {
    check_node_amounts(causes, new);
    let path = Path::root("status");
    let path = path.child("addresses");
    let addresses = list(at(new, &["status"]), "addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let shown = json!({"Type": text(address, "type"), "Address": text(address, "address")});
            let shown = format!("{{\"Type\":{},\"Address\":{}}}", shown["Type"], shown["Address"]);
            causes.duplicate_shown(path.index(index), &shown);
        }
    }
    let (new, old) = (at(new, &["spec"]), at(old, &["spec"]));
    if count(old, "podCIDRs") > 0 && new.get("podCIDRs") != old.get("podCIDRs") {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        causes.forbidden(SPEC.child("podCIDRs"), why);
    }
    let (now, before) = (text(new, "providerID"), text(old, "providerID"));
    if !before.is_empty() && now.is_empty() {
        causes.invalid(SPEC.child("providerID"), Value::Null, "field cannot be cleared once set");
    } else if !before.is_empty() && now != before {
        causes.invalid(SPEC.child("providerID"), Value::Null, "field cannot be modified once set");
    }
    check_taints(causes, list(new, "taints"));
}

/// A ResourceQuota.
pub(super) fn check_quota(causes: &mut Causes, quota: &Value) {
    const SCOPES: [&str; 7] = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "VolumeAttributesClass",
        "CrossNamespacePodAffinity",
    ];
    let spec = at(quota, &["spec"]);
    let path = SPEC.child("hard");
    for (name, amount) in entries(spec, "hard") {
        pods::check_quota_resource(causes, path.key(name), name);
        pods::check_amount(causes, path.key(name), name, amount);
    }
    let scopes = list(spec, "scopes");
    let path = SPEC.child("scopes");
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str().unwrap_or_default()) {
            causes.invalid(path, json!(scopes), "unsupported scope");
        }
        for (name, _) in entries(spec, "hard") {
            if pods::is_quota_resource(name) && !is_scoped(scope.as_str().unwrap_or_default(), name) {
                causes.invalid(path, json!(scopes), "unsupported scope applied to resource");
            }
        }
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&json!(one)) && scopes.contains(&json!(other)) {
            causes.invalid(path, json!(scopes), "conflicting scopes");
        }
    }
}

/// Whether a scope of pods can be told apart for a resource.
fn is_scoped(scope: &str, resource: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || compute.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

/// A LimitRange.
pub(super) fn check_limit_range(causes: &mut Causes, range: &Value) {
    let path = SPEC.child("limits");
    let limits = list(at(range, &["spec"]), "limits");
    for (index, limit) in limits.iter().enumerate() {
        let path = path.index(index);
        let kind = text(limit, "type");
        let reasons = names::qualified(kind);
        if !reasons.is_empty() {
            causes.each_invalid(path.child("type"), kind, reasons);
        } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            causes.invalid(path.child("type"), kind, "must be a standard limit type or fully qualified");
        }
        if limits[..index].iter().any(|other| text(other, "type") == kind) {
            causes.duplicate(path.child("type"), kind);
        }
        check_limit(causes, path, limit);
    }
}

fn check_limit(causes: &mut Causes, path: Path<'_>, limit: &Value) {
    let amount = |part: &str, name: &str| at(limit, &[part, name]).as_str().and_then(quantity::parse);
    let parts = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut names: Vec<&String> = parts.iter().flat_map(|part| entries(limit, part)).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (min, max) = (amount("min", name), amount("max", name));
        let (default, request) = (amount("default", name), amount("defaultRequest", name));
        let above = [
            ("min", min, max, "min value", "max value", min),
            ("defaultRequest", min, request, "min value", "default request value", request),
            ("defaultRequest", request, max, "default request value", "max value", request),
            ("defaultRequest", request, default, "default request value", "default limit value", request),
            ("default", min, default, "min value", "default value", min),
            ("default", default, max, "default value", "max value", max),
        ];
        for (part, low, high, low_name, high_name, shown) in above {
            if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
                && low.nano > high.nano
            {
                let part = path.child(part);
                let why = format!("{low_name} {low} is greater than {high_name} {high}");
                causes.invalid(part.key(name), shown.to_string(), &why);
            }
        }
        if let Some(ratio) = amount("maxLimitRequestRatio", name)
            && ratio.nano < 1_000_000_000
        {
            let part = path.child("maxLimitRequestRatio");
            causes.invalid(part.key(name), ratio.to_string(), &format!("ratio {ratio} is less than 1"));
        }
    }
}

/// A PriorityClass.
pub(super) fn check_priority_class(causes: &mut Causes, class: &Value) {
    let name = text(at(class, &["metadata"]), "name");
    let value = integer(class, "value").unwrap_or_default();
    if name.starts_with("system-") {
        let known = matches!(
            (name, value),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if !known {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
            );
            causes.forbidden(Path::root("metadata").child("name"), &why);
        }
    } else if value > 1_000_000_000 {
        let why = "maximum allowed value of a user defined priority is 1000000000";
        causes.forbidden(Path::root("value"), why);
    }
    if let Some(policy) = option(class, "preemptionPolicy").and_then(Value::as_str) {
        causes.one_of(Path::root("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
}

/// A PriorityClass's update.
pub(super) fn check_priority_class_update(causes: &mut Causes, new: &Value, old: &Value) {
    if integer(new, "value") != integer(old, "value") {
        causes.forbidden(Path::root("value"), "may not be changed in an update.");
    }
    let key = "preemptionPolicy";
    causes.immutable(Path::root(key), at(new, &[key]), at(old, &[key]));
}

/// A Lease.
pub(super) fn check_lease(causes: &mut Causes, lease: &Value) {
    let spec = at(lease, &["spec"]);
    if let Some(seconds) = integer(spec, "leaseDurationSeconds")
        && seconds <= 0
    {
        causes.invalid(SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    causes.not_negative(SPEC.child("leaseTransitions"), integer(spec, "leaseTransitions"));
    let strategy = text(spec, "strategy");
    if has(spec, "strategy") && strategy != "OldestEmulationVersion" && !strategy.contains('/') {
        let path = SPEC.child("strategy.strategy");
        causes.not_supported(path, strategy, &["OldestEmulationVersion"]);
    }
    if !text(spec, "preferredHolder").is_empty() && strategy.is_empty() {
        let path = SPEC.child("preferredHolder");
        causes.forbidden(path, "may only be specified if `strategy` is defined");
    }
}

/// A PodDisruptionBudget.
pub(super) fn check_budget(causes: &mut Causes, budget: &Value) {
    let spec = at(budget, &["spec"]);
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let shown = format!(
            "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
            at(spec, &["minAvailable"]),
            at(spec, &["selector"]),
            at(spec, &["maxUnavailable"]),
            at(spec, &["unhealthyPodEvictionPolicy"])
        );
        causes.invalid_unshown(SPEC, &format!("{shown}: minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = option(spec, key) {
            apps::check_count_or_percent(causes, SPEC.child(key), value);
            apps::check_at_most_all(causes, SPEC.child(key), value);
        }
    }
    selectors::check(causes, SPEC.child("selector"), at(spec, &["selector"]));
    if let Some(policy) = option(spec, "unhealthyPodEvictionPolicy").and_then(Value::as_str)
        && !matches!(policy, "AlwaysAllow" | "IfHealthyBudget")
    {
        let path = SPEC.child("unhealthyPodEvictionPolicy");
        causes.not_supported(path, policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}

/// A HorizontalPodAutoscaler, in either version.
pub(super) fn check_autoscaler(causes: &mut Causes, autoscaler: &Value) {
    let spec = at(autoscaler, &["spec"]);
    let min = integer(spec, "minReplicas");
    let max = integer(spec, "maxReplicas").unwrap_or_default();
    let path = SPEC.child("maxReplicas");
    if let Some(min) = min
        && max < min
    {
        causes.invalid(path, max, "must be greater than or equal to `minReplicas`");
    }
    let target = at(spec, &["scaleTargetRef"]);
    let reference = SPEC.child("scaleTargetRef");
    for key in ["kind", "name"] {
        match text(target, key) {
            "" => causes.required(reference.child(key), ""),
            name => causes.each_invalid(reference.child(key), name, names::path_segment(name)),
        }
    }
    let version = text(target, "apiVersion");
    if !version.contains('/') {
        causes.invalid(reference.child("apiVersion"), version, "apiVersion must specify API group");
    }
    let metrics = SPEC.child("metrics");
    for (index, metric) in list(spec, "metrics").iter().enumerate() {
        check_metric(causes, metrics.index(index), metric);
    }
    if let Some(0) = min
        && !list(spec, "metrics").iter().any(|it| matches!(text(it, "type"), "Object" | "External"))
    {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        causes.forbidden(metrics, why);
    }
    let behavior = SPEC.child("behavior");
    for key in ["scaleUp", "scaleDown"] {
        if let Some(rules) = option(at(spec, &["behavior"]), key) {
            check_scaling(causes, behavior.child(key), rules);
        }
    }
    // The rules that the real server generates from its types come after those written by hand.
    if min.is_some_and(|min| min < 0) {
        let min = min.unwrap_or_default();
        causes.invalid(SPEC.child("minReplicas"), min, "must be greater than or equal to 0");
    }
    match max {
        0 => causes.required(path, ""),
        max if max < 0 => causes.invalid(path, max, "must be greater than or equal to 1"),
        _ => {}
    }
}

fn check_metric(causes: &mut Causes, path: Path<'_>, metric: &Value) {
    const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = text(metric, "type");
    if kind.is_empty() {
        causes.required(path.child("type"), "must specify a metric source type");
    }
    if !TYPES.contains(&kind) {
        causes.not_supported(path.child("type"), kind, &TYPES);
        return;
    }
    let key = match kind {
        "ContainerResource" => "containerResource",
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        _ => "resource",
    };
    let Some(source) = option(metric, key) else {
        let why = "must populate information for the given metric source";
        causes.required(path.child(key), why);
        return;
    };
    if key == "resource" {
        let path = path.child("resource");
        if text(source, "name").is_empty() {
            causes.required(path.child("name"), "must specify a resource name");
        }
        let path = path.child("target");
        let target = at(source, &["target"]);
        if !matches!(text(target, "type"), "Utilization" | "Value" | "AverageValue") {
            let why = "must be either Utilization, Value, or AverageValue";
            causes.invalid(path.child("type"), text(target, "type"), why);
        }
        if let Some(percent) = integer(target, "averageUtilization")
            && percent < 1
        {
            causes.invalid(path.child("averageUtilization"), percent, "must be greater than 0");
        }
        if !has(target, "averageUtilization") && !has(target, "averageValue") {
            let why = "must set either a target raw value or a target utilization";
            causes.required(path.child("averageUtilization"), why);
        }
    }
}

fn check_scaling(causes: &mut Causes, path: Path<'_>, rules: &Value) {
    if let Some(window) = integer(rules, "stabilizationWindowSeconds") {
        let path = path.child("stabilizationWindowSeconds");
        if window < 0 {
            causes.invalid(path, window, "must be greater than or equal to zero");
        }
        if window > 3600 {
            causes.invalid(path, window, "must be less than or equal to 3600");
        }
    }
    if let Some(policy) = option(rules, "selectPolicy").and_then(Value::as_str)
        && !matches!(policy, "Disabled" | "Max" | "Min")
    {
        causes.not_supported(path.child("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let policies = list(rules, "policies");
    let path = path.child("policies");
    if policies.is_empty() {
        causes.required(path, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = path.index(index);
        if !matches!(text(policy, "type"), "Percent" | "Pods") {
            causes.not_supported(path.child("type"), text(policy, "type"), &["Percent", "Pods"]);
        }
        let (value, period) = (integer(policy, "value").unwrap_or(0), integer(policy, "periodSeconds").unwrap_or(0));
        if value <= 0 {
            causes.invalid(path.child("value"), value, "must be greater than zero");
        }
        if period <= 0 {
            causes.invalid(path.child("periodSeconds"), period, "must be greater than zero");
        }
        if period > 1800 {
            causes.invalid(path.child("periodSeconds"), period, "must be less than or equal to 1800");
        }
    }
}

/// A new Event through its own API.
pub(super) fn check_new_event(causes: &mut Causes, event: &Value) {
    if !has(event, "eventTime") {
        causes.required(Path::root("eventTime"), "");
    }
    let how = text(event, "type");
    if !matches!(how, "Normal" | "Warning") {
        causes.invalid(Path::root("type"), "", &format!("has invalid value: {how}"));
    }
}

/// An Event, through the core API or its own.
pub(super) fn check_event(causes: &mut Causes, event: &Value, own_api: bool) {
    let (about, component) =
        if own_api { ("regarding", "reportingController") } else { ("involvedObject", "reportingComponent") };
    let namespace = text(at(event, &["metadata"]), "namespace");
    let its = text(at(event, &[about]), "namespace");
    let path = Path::root("involvedObject");
    let path = path.child("namespace");
    if !has(event, "eventTime") {
        let agree = if its.is_empty() { matches!(namespace, "" | "default") } else { namespace == its };
        if !agree {
            causes.invalid(path, its, "does not match event.namespace");
        }
        return;
    }
    if its.is_empty() && !matches!(namespace, "default" | "kube-system") {
        causes.invalid(path, its, "does not match event.namespace");
    }
    let controller = text(event, component);
    if controller.is_empty() {
        causes.required(Path::root(component), "");
    }
    causes.each_invalid(Path::root(component), controller, names::qualified(controller));
    for key in ["reportingInstance", "action", "reason"] {
        if text(event, key).is_empty() {
            causes.required(Path::root(key), "");
        }
        if text(event, key).len() > 128 {
            causes.invalid(Path::root(key), "", "can have at most 128 characters");
        }
    }
    let message = text(event, if own_api { "note" } else { "message" });
    if message.len() > 1024 {
        causes.invalid(Path::root("message"), "", "can have at most 1024 characters");
    }
}
