//! Short ways into JSON whose shape is not known to be right.
//!
//! Every read has an answer: what is missing or of another type reads as empty, as a zero value does in Go.

use serde_json::{Map, Value};

/// An object's fields.
pub(crate) type Fields = Map<String, Value>;

/// The value at a path of keys.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    const NULL: &Value = &Value::Null;
    path.iter().try_fold(value, |value, key| value.get(key)).unwrap_or(NULL)
}

/// A string, or `""`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A whole number, if there is one.
pub(crate) fn integer(value: &Value, key: &str) -> Option<i64> {
    value.get(key).and_then(Value::as_i64)
}

/// True only if it says so.
pub(crate) fn truth(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// A list's elements.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A dictionary's entries, in the order of their keys.
pub(crate) fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// How many entries a dictionary or a list has.
pub(crate) fn count(value: &Value, key: &str) -> usize {
    match value.get(key) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => 0,
    }
}

/// There, and not null.
pub(crate) fn has(value: &Value, key: &str) -> bool {
    value.get(key).is_some_and(|value| !value.is_null())
}

/// A key's value unless it is null: for options of Go's pointer kind.
pub(crate) fn option<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|value| !value.is_null())
}

/// The same under `text`, for fields.
pub(crate) fn field_text<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Sets what is missing.
pub(crate) fn fill(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    if fields.get(key).is_none_or(Value::is_null) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Sets what is missing or an empty string.
pub(crate) fn fill_text(fields: &mut Fields, key: &str, value: &str) {
    if fields.get(key).is_none_or(|old| old.is_null() || old.as_str() == Some("")) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Sets what is missing or zero.
pub(crate) fn fill_number(fields: &mut Fields, key: &str, value: i64) {
    if fields.get(key).is_none_or(|old| old.is_null() || old.as_i64() == Some(0)) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// The object under a key, made if it is missing; `None` if something else is there.
pub(crate) fn child<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    fill(fields, key, Value::Object(Map::new()));
    fields.get_mut(key).and_then(Value::as_object_mut)
}

/// The object under a key, if there is one.
pub(crate) fn existing<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    fields.get_mut(key).and_then(Value::as_object_mut)
}

/// The elements under a key that are objects.
pub(crate) fn elements<'a>(fields: &'a mut Fields, key: &str) -> impl Iterator<Item = &'a mut Fields> + use<'a> {
    fields.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}
