//! Access to an object that is shown, and what the cells of several kinds have in common.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::table::duration;

/// An object to be shown, with access to its fields by JSON pointer.
pub(super) struct Object<'a> {
    pub(super) value: &'a Value,
    pub(super) now: Timestamp,
}

impl<'a> Object<'a> {
    pub(super) fn at(&self, path: &str) -> &'a Value {
        self.value.pointer(path).unwrap_or(&Value::Null)
    }

    pub(super) fn text(&self, path: &str) -> &'a str {
        self.at(path).as_str().unwrap_or_default()
    }

    pub(super) fn text_or(&self, path: &str, empty: &'a str) -> &'a str {
        match self.text(path) {
            "" => empty,
            text => text,
        }
    }

    pub(super) fn cell(&self, path: &str) -> Value {
        json!(self.text(path))
    }

    pub(super) fn int(&self, path: &str) -> i64 {
        self.at(path).as_i64().unwrap_or_default()
    }

    pub(super) fn is(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or_default()
    }

    /// A number or a text, which a quantity and a share may be either of.
    pub(super) fn shown(&self, path: &str) -> Option<String> {
        shown(self.at(path))
    }

    pub(super) fn list(&self, path: &str) -> &'a [Value] {
        list(self.at(path))
    }

    pub(super) fn texts(&self, path: &str) -> Vec<&'a str> {
        self.list(path).iter().filter_map(Value::as_str).collect()
    }

    /// How many entries some maps have together.
    pub(super) fn size(&self, paths: &[&str]) -> Value {
        json!(paths.iter().map(|path| self.at(path).as_object().map_or(0, serde_json::Map::len)).sum::<usize>())
    }

    pub(super) fn name(&self) -> Value {
        self.cell("/metadata/name")
    }

    pub(super) fn age(&self) -> Value {
        json!(self.since("/metadata/creationTimestamp").unwrap_or_else(unknown))
    }

    pub(super) fn created_at(&self) -> Value {
        // Go's zero time is what an object without one has.
        json!(self.text_or("/metadata/creationTimestamp", "0001-01-01T00:00:00Z"))
    }

    pub(super) fn time(&self, path: &str) -> Option<Timestamp> {
        self.text(path).parse().ok()
    }

    pub(super) fn since(&self, path: &str) -> Option<String> {
        self.time(path).map(|time| duration::since(time, self.now))
    }

    pub(super) fn is_terminating(&self) -> bool {
        !self.at("/metadata/deletionTimestamp").is_null()
    }

    /// The names and images of containers.
    pub(super) fn containers(&self, path: &str) -> (Value, Value) {
        let joined = |field: &str| {
            let texts = self.list(path).iter().map(|container| container[field].as_str().unwrap_or_default());
            json!(texts.collect::<Vec<_>>().join(","))
        };
        (joined("name"), joined("image"))
    }

    /// Name, replicas wanted, there and ready, and age.
    pub(super) fn replicas(&self) -> Vec<Value> {
        let [desired, current, ready] =
            ["/spec/replicas", "/status/replicas", "/status/readyReplicas"].map(|path| json!(self.int(path)));
        vec![self.name(), desired, current, ready, self.age()]
    }
}

pub(super) fn unknown() -> String {
    "<unknown>".to_owned()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The status of the first condition of a type.
pub(super) fn condition<'a>(conditions: &'a [Value], of: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition["type"] == of)
}

pub(super) fn is_true(conditions: &[Value], of: &str) -> bool {
    condition(conditions, of).is_some_and(|condition| condition["status"] == "True")
}

/// A map of labels, or that there are none.
pub(super) fn labels(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let text = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect::<Vec<_>>();
    if text.is_empty() { "<none>".to_owned() } else { text.join(",") }
}

/// A label selector as text, its parts by key; none where an operator is unknown.
pub(super) fn selector(selector: &Value) -> Option<String> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push((key, format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in list(&selector["matchExpressions"]) {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: BTreeSet<&str> = list(&expression["values"]).iter().filter_map(Value::as_str).collect();
        let values = values.into_iter().collect::<Vec<_>>().join(",");
        let part = match expression["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        };
        parts.push((key, part));
    }
    parts.sort_by_key(|(key, _)| *key);
    Some(parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(","))
}

pub(super) fn selector_or_none(value: &Value) -> String {
    match selector(value) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
    }
}

/// How many parts of a list are shown before it is only said how many more there are.
pub(super) const PARTS_SHOWN: usize = 3;

/// The first parts of a list, and how many more.
pub(super) fn some_of(parts: &[String], empty: &str) -> String {
    let text = parts.iter().take(PARTS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    match parts.len().checked_sub(PARTS_SHOWN) {
        Some(more) if more > 0 => format!("{text} + {more} more..."),
        _ if text.is_empty() => empty.to_owned(),
        _ => text,
    }
}
