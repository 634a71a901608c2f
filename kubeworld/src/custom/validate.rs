//! Whether a custom object is what its schema says: types, bounds, lists that are sets, and the rules in CEL. In the
//! words of the real server.

use std::borrow::Cow;

use kube_cel::ValidationError;
use serde_json::{Value, json};

use super::Custom;
use crate::status::Cause;

/// What is wrong with an object. Rules are asked only when the rest is right, as they rely on it.
pub(crate) fn validate(custom: &Custom, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut body = new.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("metadata");
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    at(&custom.structural, &body, "", &mut causes);
    if causes.is_empty() {
        causes.extend(custom.broken_rules(new, old));
    }
    causes
}

/// A rule that does not hold.
pub(super) fn of_rule(object: &Value, error: &ValidationError) -> Cause {
    let field = error.field_path.clone();
    let value = find(object, &field);
    let reason = match error.reason.as_deref() {
        Some("FieldValueRequired") => return Cause::required(field, &error.message),
        Some("FieldValueForbidden") => return Cause::forbidden(field, &error.message),
        Some("FieldValueDuplicate") => {
            return Cause { reason: "FieldValueDuplicate", ..Cause::duplicate(field, &value) };
        }
        Some(_) | None => "FieldValueInvalid",
    };
    let shown = match &value {
        Value::Object(_) => json!("object"),
        Value::Array(_) => json!("array"),
        other => other.clone(),
    };
    Cause { reason, ..Cause::invalid(field, &shown, &error.message) }
}

fn find(object: &Value, path: &str) -> Value {
    let path = path.replace('[', ".[");
    path.split('.')
        .filter(|step| !step.is_empty())
        .fold(object, |at, step| match step.strip_prefix('[').and_then(|index| index.strip_suffix(']')) {
            Some(index) => match index.parse::<usize>() {
                Ok(index) => &at[index],
                Err(_) => &at[index.trim_matches('"')],
            },
            None => &at[step],
        })
        .clone()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The path as the schema's validator names it: nothing is the whole.
fn in_body(path: &str) -> Cow<'_, str> {
    if path.is_empty() { Cow::Borrowed("<nil>") } else { Cow::Borrowed(path) }
}

fn at(node: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() {
        if node["nullable"] == true {
            return;
        }
    }
    let int_or_string = node["x-kubernetes-int-or-string"] == true;
    let wanted = node["type"].as_str();
    let found = type_of(value);
    let fits = match wanted {
        None => !int_or_string || matches!(found, "integer" | "string"),
        Some("number") => matches!(found, "number" | "integer"),
        Some("integer") => found == "integer" || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some(wanted) => wanted == found,
    };
    if !fits {
        let wanted = if int_or_string { "integer,string" } else { wanted.unwrap_or_default() };
        let why = format!("{} in body must be of type {wanted}: {:?}", in_body(path), found);
        causes.push(Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(path, &shown_type(value), &why) });
        return;
    }
    let invalid = |why: String, value: &Value| {
        let shown = match value {
            Value::Object(_) | Value::Array(_) => shown_type(value),
            other => other.clone(),
        };
        Cause::invalid(path, &shown, &format!("{} in body {why}", in_body(path)))
    };
    if let Some(allowed) = node["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        causes.push(Cause::not_supported(path, value, &allowed));
    }
    match value {
        Value::String(text) => check_text(node, text, value, path, causes, &invalid),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if let Some(least) = node["minimum"].as_f64() {
                if node["exclusiveMinimum"] == true && number <= least {
                    causes.push(invalid(format!("should be greater than {}", node["minimum"]), value));
                } else if number < least {
                    causes.push(invalid(format!("should be greater than or equal to {}", node["minimum"]), value));
                }
            }
            if let Some(most) = node["maximum"].as_f64() {
                if node["exclusiveMaximum"] == true && number >= most {
                    causes.push(invalid(format!("should be less than {}", node["maximum"]), value));
                } else if number > most {
                    causes.push(invalid(format!("should be less than or equal to {}", node["maximum"]), value));
                }
            }
            if let Some(step) = node["multipleOf"].as_f64()
                && (number / step).fract() != 0.0
            {
                causes.push(invalid(format!("should be a multiple of {}", node["multipleOf"]), value));
            }
        }
        Value::Array(items) => check_items(node, items, value, path, causes, &invalid),
        Value::Object(fields) => {
            for required in node["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(required) {
                    causes.push(Cause::required(super::joined(path, required), ""));
                }
            }
            if let Some(most) = node["maxProperties"].as_u64()
                && fields.len() as u64 > most
            {
                causes.push(Cause {
                    reason: "FieldValueTooMany",
                    message: format!("Too many: {}: must have at most {most} items", fields.len()),
                    field: path.to_owned(),
                });
            }
            if let Some(least) = node["minProperties"].as_u64()
                && (fields.len() as u64) < least
            {
                causes.push(invalid(format!("should have at least {least} properties"), value));
            }
            for (key, value) in fields {
                let below = match node["properties"].get(key) {
                    Some(below) => below,
                    None if node["additionalProperties"].is_object() => &node["additionalProperties"],
                    None => continue,
                };
                at(below, value, &super::joined(path, key), causes);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    check_combinations(node, value, path, causes);
}

fn shown_type(value: &Value) -> Value {
    json!(type_of(value))
}

fn check_combinations(node: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let faults = |node: &Value| {
        let mut faults = Vec::new();
        at(node, value, path, &mut faults);
        faults
    };
    let branches = |key: &str| node[key].as_array().map(Vec::as_slice).unwrap_or_default();
    for branch in branches("allOf") {
        causes.extend(faults(branch));
    }
    let whole = |why: &str| Cause {
        reason: "FieldValueInvalid",
        ..Cause::invalid(path, &shown_type(value), &format!("{} in body {why}", in_body(path)))
    };
    if !branches("anyOf").is_empty() && branches("anyOf").iter().all(|branch| !faults(branch).is_empty()) {
        causes.push(whole("must validate at least one schema (anyOf)"));
    }
    if !branches("oneOf").is_empty() {
        let valid = branches("oneOf").iter().filter(|branch| faults(branch).is_empty()).count();
        if valid != 1 {
            let found = if valid == 0 { "none" } else { "more than one" };
            causes.push(whole(&format!("must validate one and only one schema (oneOf). Found {found} valid")));
        }
    }
    if node["not"].is_object() && faults(&node["not"]).is_empty() {
        causes.push(whole("must not validate the schema (not)"));
    }
}

fn check_text(
    node: &Value,
    text: &str,
    value: &Value,
    path: &str,
    causes: &mut Vec<Cause>,
    invalid: &dyn Fn(String, &Value) -> Cause,
) {
    let length = text.chars().count() as u64;
    if let Some(most) = node["maxLength"].as_u64()
        && length > most
    {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {most} bytes"),
            field: path.to_owned(),
        });
    }
    if let Some(least) = node["minLength"].as_u64()
        && length < least
    {
        causes.push(invalid(format!("should be at least {least} chars long"), value));
    }
    if let Some(pattern) = node["pattern"].as_str()
        && regex::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
    {
        causes.push(invalid(format!("should match '{pattern}'"), value));
    }
    if let Some(format) = node["format"].as_str()
        && !has_format(format, text)
    {
        causes.push(invalid(format!("must be of type {format}: {text:?}"), value));
    }
}

/// Formats that are checked; others are only words.
fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        "uuid" => {
            let groups: Vec<usize> = text.split('-').map(str::len).collect();
            groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        }
        _ => true,
    }
}

fn check_items(
    node: &Value,
    items: &[Value],
    value: &Value,
    path: &str,
    causes: &mut Vec<Cause>,
    invalid: &dyn Fn(String, &Value) -> Cause,
) {
    if let Some(most) = node["maxItems"].as_u64()
        && items.len() as u64 > most
    {
        causes.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {}: must have at most {most} items", items.len()),
            field: path.to_owned(),
        });
    }
    if let Some(least) = node["minItems"].as_u64()
        && (items.len() as u64) < least
    {
        causes.push(invalid(format!("should have at least {least} items"), value));
    }
    for (index, item) in items.iter().enumerate() {
        at(&node["items"], item, &format!("{path}[{index}]"), causes);
    }
    let keys: Vec<&str> =
        node["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let identity = |item: &Value| match node["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let fields = keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(key)?.clone())));
            Some(Value::Object(fields.collect()))
        }
        _ => None,
    };
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(identity) = identity(item) else { break };
        if seen.contains(&identity) {
            causes.push(Cause::duplicate(format!("{path}[{index}]"), &identity));
        }
        seen.push(identity);
    }
}
