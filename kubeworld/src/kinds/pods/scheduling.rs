//! Where a pod may run: affinity, tolerations, spreading.

use serde_json::Value;

use super::super::{
    causes::{Causes, Path},
    fields::{at, has, integer, list, option, text},
    names, selectors,
};

/// Which taints a pod accepts.
pub(super) fn check_tolerations(causes: &mut Causes, path: Path<'_>, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let key = text(toleration, "key");
        let operator = text(toleration, "operator");
        let value = text(toleration, "value");
        let effect = text(toleration, "effect");
        if !key.is_empty() {
            causes.each_invalid(path.child("key"), key, names::qualified(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.invalid(path.child("operator"), operator, why);
        }
        if has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            causes.invalid(path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "" | "Equal" => {
                let reasons = names::label_value(value);
                if !reasons.is_empty() {
                    causes.invalid(path.child("operator"), value, &reasons.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                causes.invalid(path.child("operator"), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                causes.not_supported(path.child("operator"), operator, &["Equal", "Exists", "Lt", "Gt"]);
            }
            other => causes.not_supported(path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            check_taint_effect(causes, path.child("effect"), effect);
        }
    }
}

/// What a taint does.
pub(in super::super) fn check_taint_effect(causes: &mut Causes, path: Path<'_>, effect: &str) {
    causes.one_of(path, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// Which nodes and neighbours a pod wants.
pub(super) fn check_affinity(causes: &mut Causes, path: Path<'_>, affinity: &Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = option(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = option(node, REQUIRED) {
            check_node_selector(causes, path.child(REQUIRED), selector);
        }
        let path = path.child(PREFERRED);
        for (index, term) in list(node, PREFERRED).iter().enumerate() {
            let path = path.index(index);
            check_weight(causes, path, term);
            check_node_term(causes, path.child("preference"), at(term, &["preference"]), false);
        }
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = option(affinity, key) else { continue };
        let path = path.child(key);
        let required = path.child(REQUIRED);
        for (index, term) in list(pods, REQUIRED).iter().enumerate() {
            check_pod_term(causes, required.index(index), term);
        }
        let preferred = path.child(PREFERRED);
        for (index, term) in list(pods, PREFERRED).iter().enumerate() {
            let path = preferred.index(index);
            check_weight(causes, path, term);
            check_pod_term(causes, path.child("podAffinityTerm"), at(term, &["podAffinityTerm"]));
        }
    }
}

fn check_weight(causes: &mut Causes, path: Path<'_>, term: &Value) {
    let weight = integer(term, "weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        causes.invalid(path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Which nodes are meant.
pub(in super::super) fn check_node_selector(causes: &mut Causes, path: Path<'_>, selector: &Value) {
    let path = path.child("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        causes.required(path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        check_node_term(causes, path.index(index), term, true);
    }
}

fn check_node_term(causes: &mut Causes, path: Path<'_>, term: &Value, strict: bool) {
    let path = path.child("matchExpressions");
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let path = path.index(index);
        let values = list(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                causes.required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.forbidden(path.child("values"), why);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                causes.required(path.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => causes.invalid(path.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(requirement, "key");
        causes.each_invalid(path.child("key"), key, names::qualified(key));
        let path = path.child("values");
        for (index, value) in values.iter().enumerate().filter(|_| strict) {
            let value = value.as_str().unwrap_or_default();
            causes.each_invalid(path.index(index), value, names::label_value(value));
        }
    }
}

fn check_pod_term(causes: &mut Causes, path: Path<'_>, term: &Value) {
    selectors::check(causes, path.child("labelSelector"), at(term, &["labelSelector"]));
    selectors::check(causes, path.child("namespaceSelector"), at(term, &["namespaceSelector"]));
    for namespace in list(term, "namespaces").iter().filter_map(Value::as_str) {
        causes.each_invalid(path.child("namespace"), namespace, names::dns_label(namespace));
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        causes.required(path.child("topologyKey"), "can not be empty");
    }
    causes.each_invalid(path.child("topologyKey"), key, names::qualified(key));
}

/// How evenly pods are spread.
pub(super) fn check_spread(causes: &mut Causes, path: Path<'_>, constraints: &[Value]) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let skew = integer(constraint, "maxSkew").unwrap_or_default();
        if skew <= 0 {
            causes.invalid(path.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            causes.required(path.child("topologyKey"), "can not be empty");
        }
        let action = text(constraint, "whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            causes.not_supported(path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let same = |other: &&Value| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
        if constraints[index + 1..].iter().any(|other| same(&other)) {
            let shown = format!("{{{key}, {action}}}");
            causes.duplicate(path.child("{topologyKey, whenUnsatisfiable}"), shown);
        }
        if let Some(domains) = integer(constraint, "minDomains") {
            if domains <= 0 {
                causes.invalid(path.child("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                causes.invalid(path.child("minDomains"), domains, why);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = option(constraint, key).and_then(Value::as_str)
                && !matches!(policy, "Honor" | "Ignore")
            {
                causes.not_supported(path.child(key), policy, &["Honor", "Ignore"]);
            }
        }
        selectors::check(causes, path.child("labelSelector"), at(constraint, &["labelSelector"]));
    }
}
