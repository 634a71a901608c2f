//! Who owns which fields after a write.

use serde_json::{Map, Value, json};

use super::metadata;
use super::options::WriteOptions;
use crate::fields::FieldSet;
use crate::handle::Call;
use crate::managed::{self, By, Managed, Reset};
use crate::registry::Resource;
use crate::{custom, kinds};

/// An object of this kind with nothing in it, as Go has it before anything is read into it.
pub(super) fn nothing(resource: &Resource) -> Value {
    let mut value = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {}});
    if resource.custom().is_none() {
        kinds::settle(resource.as_kind(), &mut value);
    }
    value
}

/// Without its entries, which would own themselves; they are not copied first, being half of many an object.
pub(super) fn without_entries(value: &Value) -> Value {
    let copied = |fields: &Map<String, Value>, but: &str, own: Value| -> Map<String, Value> {
        let others = fields.iter().filter(|(key, _)| *key != but);
        let mut out: Map<String, Value> = others.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !own.is_null() {
            out.insert(but.to_owned(), own);
        }
        out
    };
    let Some(fields) = value.as_object() else { return value.clone() };
    let metadata = value["metadata"].as_object().map(|fields| copied(fields, "managedFields", Value::Null));
    copied(fields, "metadata", Value::Object(metadata.unwrap_or_default())).into()
}

/// The same fields in two objects, but for their entries; nothing is copied.
fn equal_but_for_entries(one: &Value, other: &Value) -> bool {
    let equal = |one: &Value, other: &Value, but: &str| {
        let count = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).filter(|key| *key != but).count();
        let mut fields = one.as_object().into_iter().flatten().filter(|(key, _)| *key != but);
        count(one) == count(other) && fields.all(|(key, value)| other.get(key) == Some(value))
    };
    equal(one, other, "metadata") && equal(&one["metadata"], &other["metadata"], "managedFields")
}

/// What nobody comes to own by this request.
pub(super) fn reset(resource: &Resource, subresource: &str) -> Reset {
    let fields: &[&[&str]] = match (subresource, resource.group.as_str(), resource.plural.as_str()) {
        ("status", _, _) if resource.custom().is_some() => &[&["apiVersion"], &["kind"], &["metadata"], &["spec"]],
        ("status", "", "pods") => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        ("status", "apps", "deployments") => &[&["spec"], &["metadata", "labels"]],
        ("status", _, _) => &[&["spec"]],
        (_, _, _) if resource.has_status() => &[&["status"]],
        (_, _, _) => &[],
    };
    Reset(FieldSet::of(fields))
}

/// Accounts what a request changed, and writes the entries into the object.
pub(crate) fn own(call: &Call<'_>, options: &WriteOptions, live: Option<&Value>, new: &mut Value) {
    let Some(typed) = call.resource.typed() else { return };
    let version = call.resource.api_version();
    let empty = nothing(&call.resource);
    let before = live.unwrap_or(&empty);
    let managed = Managed::of_request(before, new, &call.subresource);
    let by = By { manager: &options.manager, version: &version, subresource: &call.subresource, now: call.now };
    let reset = reset(&call.resource, &call.subresource);
    let (before, after) = (without_entries(before), without_entries(new));
    let managed = managed::updated(typed, &before, &after, &managed, &by, &reset, live.is_none());
    managed.write(new);
}

/// The same for a scale that is applied: who applies owns the one number, beside others who do.
pub(crate) fn own_scale(call: &Call<'_>, options: &WriteOptions, live: &Value, new: &mut Value, path: &custom::Path) {
    let mut managed = Managed::of_request(live, new, &call.subresource);
    managed.own_alone(&options.manager, &call.resource.api_version(), &call.subresource, path.steps());
    managed.write(new);
}

/// Where only the times of entries differ, nothing differs. Their order is compared as it is, though it goes by their times
/// too: where a new time moves an entry, the real server writes (`IgnoreManagedFieldsTimestampsTransformer`).
pub(super) fn keep_times(new: &mut Value, old: &Value) {
    let (before, after) = (entries_of(old), entries_of(new));
    let pairs_are_equal = || {
        let mut pairs = before.iter().zip(after);
        before.len() == after.len() && pairs.all(|(one, other)| without_time(one).eq(without_time(other)))
    };
    // The dearest comparison last.
    if before != after && pairs_are_equal() && equal_but_for_entries(new, old) {
        let entries = before.to_vec();
        metadata(new).insert("managedFields".to_owned(), entries.into());
    }
}

fn entries_of(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

fn without_time(entry: &Value) -> impl Iterator<Item = (&String, &Value)> {
    entry.as_object().into_iter().flatten().filter(|(key, _)| *key != "time")
}
