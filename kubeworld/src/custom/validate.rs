//! Whether a custom object is what its definition says: its schema, the numbers of its scale, objects within it, lists
//! that are sets or maps, and the rules in CEL. In the order of the real server.

use serde_json::{Value, json};

use super::{Custom, Path, Scale, value};
use crate::kinds::fields::{entries, has, list, option, text, truth};
use crate::kinds::{is_kind_name, meta};
use crate::status::Cause;

/// What came of looking at an object.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What is wrong.
    pub(crate) causes: Vec<Cause>,
    /// What was wrong before too, and is let through.
    pub(crate) warnings: Vec<String>,
}

/// What is wrong with a new object.
pub(crate) fn validate_create(custom: &Custom, kind: crate::kinds::Kind<'_>, new: &Value) -> Verdict {
    let mut causes = meta::validate_meta_create(kind, custom.namespaced, new);
    causes.extend(value::check(&custom.structural, new, None, ""));
    if let Some(scale) = &custom.scale {
        check_scale_spec(scale, new, &mut causes);
        check_scale_status(scale, new, &mut causes);
    }
    check_embedded(&custom.structural, new, "", &mut causes);
    check_lists(&custom.structural, new, "", &mut causes);
    let mut verdict = Verdict { causes, warnings: finalizer_warnings(new, None) };
    check_rules(custom, new, None, &mut verdict);
    verdict
}

/// What is wrong with an update of an object, or of its status.
pub(crate) fn validate_update(custom: &Custom, subresource: &str, new: &Value, old: &Value) -> Verdict {
    let mut causes = meta::validate_meta_update(new, old);
    let of_status = subresource == "status";
    if of_status {
        if let (Some(status), Some(node)) = (new.get("status"), custom.structural["properties"].get("status")) {
            causes.extend(value::check(node, status, old.get("status"), "status"));
        }
    } else {
        causes.extend(value::check(&custom.structural, new, Some(old), ""));
    }
    if let Some(scale) = &custom.scale {
        if !of_status {
            check_scale_spec(scale, new, &mut causes);
        }
        check_scale_status(scale, new, &mut causes);
    }
    if !of_status {
        check_embedded(&custom.structural, new, "", &mut causes);
    }
    let mut before = Vec::new();
    check_lists(&custom.structural, old, "", &mut before);
    if before.is_empty() {
        check_lists(&custom.structural, new, "", &mut causes);
    }
    let warnings = if of_status { Vec::new() } else { finalizer_warnings(new, Some(old)) };
    let mut verdict = Verdict { causes, warnings };
    check_rules(custom, new, Some(old), &mut verdict);
    verdict
}

/// Rules rely on the schema: they are not asked where it is broken in a way that they could stumble over.
fn check_rules(custom: &Custom, new: &Value, old: Option<&Value>, verdict: &mut Verdict) {
    let Some(rules) = &custom.rules else { return };
    let blocks = |cause: &Cause| {
        matches!(
            cause.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    };
    if verdict.causes.iter().any(blocks) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                   complete validation";
        verdict.causes.push(Cause::invalid("<nil>", &Value::Null, why));
    } else {
        rules.ask(&custom.structural, new, old, "", verdict);
    }
}

/// What is said of finalizers whose names somebody else could think of too.
fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map(|old| list(&old["metadata"], "finalizers")).unwrap_or_default();
    let mut fresh: Vec<&str> = list(&new["metadata"], "finalizers")
        .iter()
        .filter(|finalizer| !before.contains(finalizer))
        .filter_map(Value::as_str)
        .collect();
    fresh.sort_unstable();
    fresh.dedup();
    let mut out = Vec::new();
    for finalizer in fresh {
        for why in meta::qualified_name(finalizer) {
            out.push(format!("metadata.finalizers: {finalizer:?}: {why}"));
        }
        if !finalizer.contains('/') && !matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes") {
            let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
            out.push(format!(
                "metadata.finalizers: {finalizer:?}: prefer a domain-qualified finalizer name{path} to avoid accidental \
                 conflicts with other finalizer writers"
            ));
        }
    }
    out
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.as_i64().is_some() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go prints it within a text.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value::shown(value),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", go_value(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}

/// The value at a path; an error where something on the way, or it itself, has another type.
fn nested<'a>(
    path: &Path,
    object: &'a Value,
    wanted: &str,
    fits: fn(&Value) -> bool,
) -> Result<Option<&'a Value>, String> {
    let shown = |steps: &[String]| format!(".{}", steps.join("."));
    let mismatch = |steps: &[String], value: &Value, wanted: &str| {
        format!(
            "{} accessor error: {} is of the type {}, expected {wanted}",
            shown(steps),
            go_value(value),
            go_type(value)
        )
    };
    let mut at = object;
    for (index, step) in path.steps().iter().enumerate() {
        match at {
            Value::Null => return Ok(None),
            Value::Object(fields) => match fields.get(step) {
                Some(below) => at = below,
                None => return Ok(None),
            },
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(mismatch(&path.steps()[..=index], at, "map[string]interface{}"));
            }
        }
    }
    if fits(at) { Ok(Some(at)) } else { Err(mismatch(path.steps(), at, wanted)) }
}

fn check_number(path: &Path, object: &Value, causes: &mut Vec<Cause>) {
    let field = format!(".{}", path.dotted());
    let number = match nested(path, object, "int64", |value| value.as_i64().is_some()) {
        Ok(number) => number.and_then(Value::as_i64).unwrap_or_default(),
        Err(why) => {
            causes.push(Cause::invalid(field, &json!(0), &why));
            return;
        }
    };
    if number < 0 {
        causes.push(Cause::invalid(field, &json!(number), "should be a non-negative integer"));
    } else if number > i64::from(i32::MAX) {
        let why = format!("should be less than or equal to {}", i32::MAX);
        causes.push(Cause::invalid(field, &json!(number), &why));
    }
}

fn check_scale_spec(scale: &Scale, object: &Value, causes: &mut Vec<Cause>) {
    check_number(&scale.spec, object, causes);
}

fn check_scale_status(scale: &Scale, object: &Value, causes: &mut Vec<Cause>) {
    check_number(&scale.status, object, causes);
    if let Some(selector) = &scale.selector
        && let Err(why) = nested(selector, object, "string", Value::is_string)
    {
        causes.push(Cause::invalid(format!(".{}", selector.dotted()), &json!(""), &why));
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Objects within the object say what they are.
pub(super) fn check_embedded(node: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            if truth(node, "x-kubernetes-embedded-resource") {
                check_embedded_head(value, path, causes);
            }
            for (key, value) in fields {
                if let Some(below) = option(&node["properties"], key) {
                    check_embedded(below, value, &joined(path, key), causes);
                } else if has(node, "additionalProperties") {
                    check_embedded(&node["additionalProperties"], value, &format!("{path}[{key}]"), causes);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_embedded(&node["items"], item, &format!("{path}[{index}]"), causes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check_embedded_head(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    for key in ["apiVersion", "kind"] {
        let path = joined(path, key);
        match value.get(key) {
            None => causes.push(Cause::required(path, "")),
            Some(Value::String(text)) if text.is_empty() => {
                causes.push(Cause::invalid(path, &json!(""), "must not be empty"));
            }
            Some(Value::String(text)) if key == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    causes.push(Cause::invalid(path, &json!(text), &why));
                }
            }
            Some(Value::String(text)) => {
                if let Some(why) = is_kind_name(text) {
                    let why = format!("may have mixed case, but should otherwise match: {why}");
                    causes.push(Cause::invalid(path, &json!(text), &why));
                }
            }
            Some(other) => causes.push(Cause::invalid(path, other, "must be a string")),
        }
    }
    if let Some(metadata) = value.get("metadata") {
        let found = meta::validate_embedded(metadata).into_iter();
        causes.extend(found.map(|cause| Cause { field: joined(path, &cause.field), ..cause }));
    }
}

/// Lists that are sets or maps have nothing twice.
fn check_lists(node: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            if let Some(below) = option(node, "additionalProperties").filter(|below| below.is_object()) {
                for (key, value) in fields {
                    check_lists(below, value, &format!("{path}[{key}]"), causes);
                }
            }
            for (key, below) in entries(node, "properties") {
                if let Some(value) = fields.get(key) {
                    check_lists(below, value, &joined(path, key), causes);
                }
            }
        }
        Value::Array(items) => {
            check_list(node, items, path, causes);
            for (index, item) in items.iter().enumerate() {
                check_lists(&node["items"], item, &format!("{path}[{index}]"), causes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check_list(node: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let keys: Vec<&str> = list(node, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let identity = |item: &Value| -> Value {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(key)?.clone()))).collect()
    };
    let identities: Vec<Value> = match text(node, "x-kubernetes-list-type") {
        "set" => items.to_vec(),
        "map" => {
            let strange = items.iter().position(|item| !item.is_object() && !item.is_null());
            if let Some(index) = strange {
                let why = "must be an object for an array of list-type map";
                causes.push(Cause::invalid(format!("{path}[{index}]"), &items[index], why));
                return;
            }
            items.iter().map(identity).collect()
        }
        _ => return,
    };
    // The first repetition of each is enough.
    let mut seen: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (index, identity) in identities.iter().enumerate() {
        let times = seen.entry(identity.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            causes.push(Cause::duplicate(format!("{path}[{index}]"), identity));
        }
    }
}
