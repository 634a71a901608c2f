//! Create, update, patch and delete: the order in which a real server does what it does.
//!
//! Decode (unknown fields, wrong types) → defaults → namespace and name → patch or merge → who owns what → what a
//! request may not change → validation → rules of custom kinds → admission → store. Everything happens under the one
//! lock, so what was read is what is replaced.

mod apply;
mod body;
mod delete;
mod options;
mod owners;
mod patch;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::body::{check_name, check_namespace};
use self::owners::keep_times;
use crate::api::State;
use crate::handle::{Answer, Call};
use crate::registry::Resource;
use crate::status::{Cause, Status, qualified};
use crate::store::{Index, Object};
use crate::time::seconds;
use crate::{admission, convert, custom, kinds, read, special, warnings};

pub(crate) use self::body::{decode_object, parse_body, unsupported_type};
pub(crate) use self::delete::{delete, delete_collection};
pub(crate) use self::options::WriteOptions;
pub(crate) use self::owners::{own, own_scale};
pub(crate) use self::patch::patch;

/// What etcd stores at most (its `--max-request-bytes`).
const OBJECT_MAX: usize = 1_572_864;

/// The metadata of an object, which has some from here on.
fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    value["metadata"].as_object_mut().expect("metadata was made an object above")
}

/// What a create may not bring.
fn wipe(value: &mut Value) {
    let metadata = metadata(value);
    for key in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(key);
    }
}

/// `POST` of an object.
pub(crate) fn create(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = WriteOptions::of(call, "CreateOptions", false)?;
    let mut value = decode_object(call, &options)?;
    wipe(&mut value);
    check_namespace(call, &mut value)?;
    own(call, &options, None, &mut value);
    Ok(store_new(state, call, value, &options)?.answer(201))
}

/// Stores an object that is not there yet, and gives it as it is stored.
fn store_new(state: &mut State, call: &Call<'_>, mut value: Value, options: &WriteOptions) -> Result<Written, Status> {
    let resource = &call.resource;
    if resource.custom().is_some_and(|custom| custom.terminating) {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::forbidden(&resource.group, &resource.plural, name, why));
    }
    admission::before_create(state, call, &mut value)?;
    let fields = metadata(&mut value);
    fields.insert("uid".to_owned(), json!(state.random.uid()));
    fields.insert("creationTimestamp".to_owned(), json!(seconds(call.now)));
    let named = fields.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    let base = fields.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let generated = !named && !base.is_empty();
    if generated {
        // The real server cuts the base so that the whole, with a suffix of 5, fits 63 bytes.
        let base: String = base.chars().take(58).collect();
        let suffix = state.random.suffix();
        fields.insert("name".to_owned(), json!(format!("{base}{suffix}")));
    }
    if fields.get("resourceVersion").is_some_and(|version| version != "") {
        return Err(Status::unclassified("resourceVersion should not be set on objects to be created"));
    }
    if resource.custom().is_some() {
        if resource.has_status()
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("status");
        }
        metadata(&mut value).insert("generation".to_owned(), json!(1));
    } else {
        kinds::prepare_create(resource.as_kind(), &mut value);
    }
    special::allocate(state, resource, &mut value, None)?;
    let causes = match resource.custom() {
        Some(custom) => judged(call, custom::validate_create(custom, resource.as_kind(), &value)),
        None => kinds::validate_create(resource.as_kind(), &value),
    };
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !causes.is_empty() {
        return Err(Status::invalid(&resource.group, &resource.kind, &name, causes));
    }
    definition_warnings(call, &value, None);
    warnings::of(call, &value, None);
    admission::validate_create(state, call, &value)?;
    if let Some(stored) = state.store.get(&resource.table, call.storage_namespace(), &name) {
        let mut status = Status::already_exists(&resource.group, &resource.plural, &name);
        if stored.value()["metadata"]["deletionTimestamp"].is_string() {
            status.message.insert_str(0, "object is being deleted: ");
        }
        if generated {
            status.message.push_str(", the server was not able to generate a unique name for the object");
        }
        return Err(status);
    }
    check_object_size(&value)?;
    let emptied = drop_empty_metadata(resource, &mut value);
    if options.dry_run {
        metadata(&mut value).remove("resourceVersion");
        convert::from_stored(resource, &mut value);
        return Ok(Written::Value(value));
    }
    Ok(Written::Object(commit(state, resource, value, emptied, call.now)))
}

/// What is wrong with a custom object; what is only worth a warning is said.
fn judged(call: &Call<'_>, verdict: custom::Verdict) -> Vec<Cause> {
    if verdict.causes.is_empty() {
        verdict.warnings.into_iter().for_each(|warning| call.warn(warning));
    }
    verdict.causes
}

/// What a definition says that will not do what somebody may think.
fn definition_warnings(call: &Call<'_>, new: &Value, old: Option<&Value>) {
    if custom::is_definition(&call.resource) && call.subresource.is_empty() {
        kinds::definitions::warnings(new, old).into_iter().for_each(|warning| call.warn(warning));
    }
}

fn check_object_size(value: &Value) -> Result<(), Status> {
    // Text is longer than what etcd gets for built-in kinds, so this is on the safe side.
    if length_at_most(value) > OBJECT_MAX && value.to_string().len() > OBJECT_MAX {
        return Err(Status::unclassified("etcdserver: request is too large"));
    }
    Ok(())
}

/// How long its text is at most. No text is made of most objects only to be counted.
fn length_at_most(value: &Value) -> usize {
    // Every byte of a text may become an escape of six (`\u0000`), and it has quotes.
    let text = |text: &str| 6 * text.len() + 2;
    match value {
        Value::Null | Value::Bool(_) => 5,
        // A sign, 17 digits, a point, an exponent.
        Value::Number(_) => 32,
        Value::String(value) => text(value),
        Value::Array(items) => 2 + items.iter().map(|item| 1 + length_at_most(item)).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields.iter().map(|(key, value)| 2 + text(key) + length_at_most(value)).sum::<usize>()
        }
    }
}

/// What a write came to.
pub(crate) enum Written {
    /// It is stored like that.
    Object(Arc<Object>),
    /// What would be stored, or what was.
    Value(Value),
}

impl Written {
    /// The answer to the request: for what is stored its bytes, so that nobody parses them only to write them again.
    fn answer(self, code: u16) -> Answer {
        match self {
            Self::Object(object) => Answer::Stored(code, object),
            Self::Value(value) => Answer::Value(code, value),
        }
    }

    /// In the form of this resource.
    pub(crate) fn value(self, resource: &Resource) -> Value {
        match self {
            Self::Object(object) => convert::value(resource, &object),
            Self::Value(value) => value,
        }
    }
}

/// The metadata of what is read is of Go's own type, which leaves out what is empty. Gives the fields of a custom object that
/// were there and had nothing in them.
fn drop_empty_metadata(resource: &Resource, value: &mut Value) -> Map<String, Value> {
    let mut emptied = Map::new();
    if resource.custom().is_none() {
        return emptied;
    }
    metadata(value).retain(|name, field| {
        let is_empty = match field {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        };
        if is_empty {
            emptied.insert(name.clone(), field.take());
        }
        !is_empty
    });
    emptied
}

/// Puts a value into the store.
fn commit(
    state: &mut State,
    resource: &Resource,
    mut value: Value,
    emptied: Map<String, Value>,
    now: Timestamp,
) -> Arc<Object> {
    if let Some(custom) = resource.custom() {
        custom.store(&mut value);
    }
    let index = Index { fields: read::fields_of(resource, &value), emptied };
    let object = state.store.put(&resource.table, value, index, now);
    state.changed(resource, &object, false, now);
    object
}

/// The answer where a uid is not the one that is there.
fn other_uid(call: &Call<'_>, wanted: &str, found: &str) -> Status {
    let resource = &call.resource;
    let group = if resource.group.is_empty() { String::new() } else { format!("{}/", resource.group) };
    let key = match call.storage_namespace() {
        "" => format!("/registry/{group}{}/{}", resource.plural, call.name),
        namespace => format!("/registry/{group}{}/{namespace}/{}", resource.plural, call.name),
    };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: {wanted}, UID in object meta: {found}"
    );
    Status::conflict(&resource.group, &resource.plural, &call.name, &why)
}

/// `PUT`.
pub(crate) fn update(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = WriteOptions::of(call, "UpdateOptions", false)?;
    let mut new = decode_object(call, &options)?;
    check_namespace(call, &mut new)?;
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    check_name(name, &call.name)?;
    let Some(old) = state.store.get(&call.resource.table, call.storage_namespace(), &call.name) else {
        if !creates_on_update(&call.resource) || !call.subresource.is_empty() {
            return Err(call.not_found());
        }
        if let Some(uid) = new["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
            return Err(other_uid(call, uid, ""));
        }
        wipe(&mut new);
        own(call, &options, None, &mut new);
        metadata(&mut new).remove("resourceVersion");
        return Ok(store_new(state, call, new, &options)?.answer(201));
    };
    let old = call.resource.value(&old);
    let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && new["metadata"]["uid"] != old["metadata"]["uid"] {
        return Err(other_uid(call, uid, old["metadata"]["uid"].as_str().unwrap_or_default()));
    }
    own(call, &options, Some(&old), &mut new);
    Ok(replace(state, call, new, &old, &options)?.answer(200))
}

/// Kinds whose `PUT` creates what is not there (their strategies' `AllowCreateOnUpdate`).
fn creates_on_update(resource: &Resource) -> bool {
    matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("", "limitranges" | "events" | "services" | "endpoints")
            | ("events.k8s.io", "events")
            | ("rbac.authorization.k8s.io", _)
            | ("coordination.k8s.io", _)
            | ("node.k8s.io", "runtimeclasses")
    )
}

/// Kinds whose `PUT` needs a resourceVersion (their strategies' `AllowUnconditionalUpdate`).
fn needs_revision(resource: &Resource) -> bool {
    resource.custom().is_some()
        || matches!(
            (resource.group.as_str(), resource.plural.as_str()),
            ("node.k8s.io", _)
                | ("policy", "poddisruptionbudgets")
                | ("coordination.k8s.io", _)
                | ("admissionregistration.k8s.io", _)
                | ("apiextensions.k8s.io", _)
                | ("apiregistration.k8s.io", _)
                | ("storage.k8s.io", "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments")
        )
}

/// Puts a new value in the place of an old one.
pub(crate) fn replace(
    state: &mut State,
    call: &Call<'_>,
    mut new: Value,
    old: &Value,
    options: &WriteOptions,
) -> Result<Written, Status> {
    let resource = &call.resource;
    let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
    let wanted = new["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let patched = *call.method == http::Method::PATCH;
    if wanted.is_empty() || wanted == "0" {
        if needs_revision(resource) && !patched {
            let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            let mut status = Status::invalid(group, plural, &call.name, vec![cause]);
            status.message = format!(
                "{} {:?} is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
                qualified(group, plural),
                call.name
            );
            return Err(status);
        }
    } else if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
        if wanted.parse::<u64>().is_err() {
            return Err(Status::unclassified(format!("strconv.ParseUint: parsing {wanted:?}: invalid syntax")));
        }
        return Err(Status::conflict(
            group,
            plural,
            &call.name,
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    admission::before_update(call, &mut new, old);
    let fields = metadata(&mut new);
    fields.insert("resourceVersion".to_owned(), old["metadata"]["resourceVersion"].clone());
    // What no update changes.
    match old["metadata"].get("generation") {
        Some(generation) => drop(fields.insert("generation".to_owned(), generation.clone())),
        None => drop(fields.remove("generation")),
    }
    if fields.get("uid").and_then(Value::as_str).unwrap_or_default().is_empty() {
        fields.insert("uid".to_owned(), old["metadata"]["uid"].clone());
    }
    fields.insert("creationTimestamp".to_owned(), old["metadata"]["creationTimestamp"].clone());
    if let Some(deleted) = old["metadata"].get("deletionTimestamp") {
        fields.insert("deletionTimestamp".to_owned(), deleted.clone());
    }
    if let Some(grace) = old["metadata"].get("deletionGracePeriodSeconds")
        && !fields.contains_key("deletionGracePeriodSeconds")
    {
        fields.insert("deletionGracePeriodSeconds".to_owned(), grace.clone());
    }
    let subresource = call.subresource.as_str();
    match resource.custom() {
        Some(_) => custom::prepare_update(resource.has_status(), subresource, &mut new, old),
        None => kinds::prepare_update(resource.as_kind(), subresource, &mut new, old),
    }
    if subresource.is_empty() {
        special::allocate(state, resource, &mut new, Some(old))?;
    }
    let causes = match resource.custom() {
        Some(custom) => judged(call, custom::validate_update(custom, subresource, &new, old)),
        None => kinds::validate_update(resource.as_kind(), subresource, &new, old),
    };
    if !causes.is_empty() {
        return Err(Status::invalid(group, &resource.kind, &call.name, causes));
    }
    definition_warnings(call, &new, Some(old));
    if subresource.is_empty() {
        warnings::of(call, &new, Some(old));
    }
    keep_times(&mut new, old);
    admission::validate_update(state, call, &new, old)?;
    check_object_size(&new)?;
    let finalizers = new["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let grace = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    if !finalizers && old["metadata"]["deletionTimestamp"].is_string() && grace == 0 && special::may_end(resource, &new)
    {
        if !options.dry_run {
            take_away(state, resource, call.storage_namespace(), &call.name, call.now);
        }
        convert::from_stored(resource, &mut new);
        return Ok(Written::Value(new));
    }
    let emptied = drop_empty_metadata(resource, &mut new);
    let stored = state.store.get(&resource.table, call.storage_namespace(), &call.name);
    let is_stored = new == *old && stored.is_some_and(|stored| stored.emptied == emptied);
    if is_stored || options.dry_run {
        convert::from_stored(resource, &mut new);
        return Ok(Written::Value(new));
    }
    Ok(Written::Object(commit(state, resource, new, emptied, call.now)))
}

/// Removes an object from the store.
pub(crate) fn take_away(state: &mut State, resource: &Resource, namespace: &str, name: &str, now: Timestamp) {
    if let Some(object) = state.store.remove(&resource.table, namespace, name, now) {
        state.changed(resource, &object, true, now);
    }
}
