//! Taking out what a schema does not name, and filling in what it has defaults for.

use serde_json::{Map, Value};

use super::Custom;
use crate::kinds::fields::{entries, option, truth};
use crate::schema;

/// Takes out what the schema does not name, and nulls where none may be; says which fields nobody knows.
///
/// # Errors
/// Where metadata, of the object or of one within it, has a form that it cannot have.
pub(crate) fn prune(custom: &Custom, value: &mut Value) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    if let Some(metadata) = value.get_mut("metadata") {
        prune_metadata(metadata, "metadata", &mut out)?;
    }
    let mut unknown = prune_object(&custom.structural, value);
    unknown.sort_unstable();
    out.extend(unknown);
    drop_nulls(&custom.structural, value);
    let mut unknown = Vec::new();
    coerce(&custom.structural, value, "", &mut unknown)?;
    unknown.sort_unstable();
    out.extend(unknown);
    Ok(out.into_iter().map(|path| format!("unknown field \"{path}\"")).collect())
}

/// The same for what comes from the store, where there is nobody to complain to.
pub(super) fn prune_stored(schema: &Value, value: &mut Value) {
    prune_object(schema, value);
    drop_nulls(schema, value);
}

/// The paths of what was taken out of an object.
fn prune_object(schema: &Value, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(fields) = value.as_object_mut() {
        prune_fields(schema, fields, true, truth(schema, KEEPS), "", &mut unknown);
    }
    unknown
}

/// The paths of what was taken out of a value.
pub(crate) fn prune_value(node: &Value, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(Some(node), value, false, "", &mut unknown);
    unknown
}

const KEEPS: &str = "x-kubernetes-preserve-unknown-fields";

/// `kept` is for the items of a list whose schema keeps what it does not know.
fn prune_at(node: Option<&Value>, value: &mut Value, kept: bool, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => match node {
            Some(node) => {
                let embedded = truth(node, "x-kubernetes-embedded-resource");
                prune_fields(node, fields, embedded, kept || truth(node, KEEPS), path, unknown);
            }
            None if kept => {}
            None => {
                unknown.extend(fields.keys().map(|key| joined(path, key)));
                fields.clear();
            }
        },
        Value::Array(items) => {
            let kept = kept || node.is_some_and(|node| truth(node, KEEPS));
            for (at, item) in items.iter_mut().enumerate() {
                let below = node.and_then(|node| option(node, "items"));
                prune_at(below, item, kept, &format!("{path}[{at}]"), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn prune_fields(
    node: &Value,
    fields: &mut Map<String, Value>,
    is_object: bool,
    keeps: bool,
    path: &str,
    unknown: &mut Vec<String>,
) {
    let own = |key: &str| is_object && matches!(key, "apiVersion" | "kind" | "metadata");
    let properties = node.get("properties");
    let additional = option(node, "additionalProperties");
    fields.retain(|key, value| {
        if own(key) {
            return true;
        }
        let property = properties.and_then(|properties| properties.get(key));
        match (property, additional) {
            (Some(below), _) => prune_at(Some(below), value, false, &joined(path, key), unknown),
            (None, Some(below)) => {
                prune_at(Some(below).filter(|below| below.is_object()), value, false, &joined(path, key), unknown);
            }
            (None, None) if keeps => {}
            (None, None) => {
                unknown.push(joined(path, key));
                return false;
            }
        }
        true
    });
}

/// Metadata is a built-in type, in custom objects and in embedded ones.
fn prune_metadata(metadata: &mut Value, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let schema = schema::built_in();
    let Some(ty) = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") else { return Ok(()) };
    let found = crate::decode::fit(schema, ty, metadata).map_err(|mismatch| mismatch.0)?;
    for field in found {
        let inner = field.trim_start_matches("unknown field \"").trim_end_matches('"');
        unknown.push(format!("{path}.{inner}"));
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        });
    }
    Ok(())
}

/// Looks after the metadata of objects within the object.
fn coerce(node: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            if truth(node, "x-kubernetes-embedded-resource") {
                for key in ["apiVersion", "kind"] {
                    if let Some(value) = fields.get(key).filter(|value| !value.is_string()) {
                        return Err(format!("{}: Invalid value: {value}: must be a string", joined(path, key)));
                    }
                }
                if let Some(metadata) = fields.get_mut("metadata") {
                    let shown = metadata.to_string();
                    let path = joined(path, "metadata");
                    prune_metadata(metadata, &path, unknown)
                        .map_err(|why| format!("{path}: Invalid value: {shown}: {why}"))?;
                }
            }
            for (key, value) in fields.iter_mut() {
                let below = option(&node["properties"], key).or_else(|| option(node, "additionalProperties"));
                if let Some(below) = below {
                    coerce(below, value, &joined(path, key), unknown)?;
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                coerce(&node["items"], item, &format!("{path}[{at}]"), unknown)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

/// A null goes where none may be; where there is a default, that comes in its place later.
fn drop_nulls(node: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let additional = option(node, "additionalProperties").filter(|below| below.is_object());
            fields.retain(|key, value| {
                let Some(below) = option(&node["properties"], key).or(additional) else { return true };
                if value.is_null() && !truth(below, "nullable") && option(below, "default").is_none() {
                    return false;
                }
                drop_nulls(below, value);
                true
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| drop_nulls(&node["items"], item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Fills in the defaults of the schema, where a field is absent or is null without being allowed to.
pub(crate) fn default(custom: &Custom, value: &mut Value) {
    default_at(&custom.structural, value);
}

pub(super) fn default_at(node: &Value, value: &mut Value) {
    let out_of_place = |value: &Value, node: &Value| value.is_null() && !truth(node, "nullable");
    match value {
        Value::Object(fields) => {
            for (key, below) in entries(node, "properties") {
                if let Some(default) = option(below, "default")
                    && fields.get(key).is_none_or(|value| out_of_place(value, below))
                {
                    fields.insert(key.clone(), default.clone());
                }
            }
            let additional = option(node, "additionalProperties").filter(|below| below.is_object());
            for (key, value) in fields.iter_mut() {
                if let Some(below) = option(&node["properties"], key) {
                    default_at(below, value);
                } else if let Some(below) = additional {
                    if out_of_place(value, below) {
                        *value = below.get("default").cloned().unwrap_or_default();
                    }
                    default_at(below, value);
                }
            }
        }
        Value::Array(items) => {
            let below = &node["items"];
            for item in items.iter_mut() {
                if out_of_place(item, below) && option(below, "default").is_some() {
                    *item = below["default"].clone();
                }
                default_at(below, item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
