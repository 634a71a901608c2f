//! Label selectors in specs: whether they are well formed, and whether they match.

use serde_json::Value;

use super::{
    causes::{Causes, Path},
    fields::{at, count, entries, has, list, text},
    names,
};

/// A set of labels.
pub(crate) fn check_labels(causes: &mut Causes, path: Path<'_>, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        causes.each_invalid(path, key, names::qualified(key));
        let value = value.as_str().unwrap_or_default();
        causes.each_invalid(path, value, names::label_value(value));
    }
}

/// A selector, if there is one.
pub(crate) fn check(causes: &mut Causes, path: Path<'_>, selector: &Value) {
    check_labels(causes, path.child("matchLabels"), at(selector, &["matchLabels"]));
    let list_path = path.child("matchExpressions");
    for (index, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        check_requirement(causes, list_path.index(index), requirement);
    }
}

fn check_requirement(causes: &mut Causes, path: Path<'_>, requirement: &Value) {
    let values = list(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            causes.required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            causes.forbidden(path.child("values"), why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => causes.invalid(path.child("operator"), other, "not a valid selector operator"),
    }
    let key = text(requirement, "key");
    causes.each_invalid(path.child("key"), key, names::qualified(key));
    let values_path = path.child("values");
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        causes.each_invalid(values_path.index(index), value, names::label_value(value));
    }
}

/// Nothing to select by.
pub(crate) fn is_empty(selector: &Value) -> bool {
    count(selector, "matchLabels") + count(selector, "matchExpressions") == 0
}

/// Whether Go can make a selector of it; what it cannot, [`check`] has reported.
pub(crate) fn is_usable(selector: &Value) -> bool {
    let mut causes = Causes::default();
    check(&mut causes, Path::root(""), selector);
    causes.0.is_empty()
}

/// Whether the labels are selected. An absent selector selects nothing, an empty one everything.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    entries(selector, "matchLabels").all(|(key, value)| labels.get(key) == Some(value))
        && list(selector, "matchExpressions").iter().all(|requirement| {
            let label = labels.get(text(requirement, "key"));
            let listed = label.is_some_and(|label| list(requirement, "values").contains(label));
            match text(requirement, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => label.is_some(),
                "DoesNotExist" => label.is_none(),
                _ => false,
            }
        })
}

/// Whether the labels have each entry of a plain map, as a Service selects; an empty map selects nothing.
pub(crate) fn matches_map(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object();
    wanted.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// The two rules that every workload has: a selector that is there and not empty, in a kind's own word.
pub(crate) fn check_workload(causes: &mut Causes, spec: &Value, path: Path<'_>, kind: &str) {
    let selector = at(spec, &["selector"]);
    if !has(spec, "selector") {
        causes.required(path.child("selector"), "");
        return;
    }
    check(causes, path.child("selector"), selector);
    if is_empty(selector) {
        causes.invalid(path.child("selector"), selector.clone(), &format!("empty selector is invalid for {kind}"));
    }
}
