//! Create, update, patch and delete: the order in which a real server does what it does.
//!
//! Decode (unknown fields, wrong types) → defaults → namespace and name → patch or merge → who owns what → what a
//! request may not change → validation → rules of custom kinds → admission → store. Everything happens under the one
//! lock, so what was read is what is replaced.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, USER_AGENT};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::State;
use crate::fields::FieldSet;
use crate::handle::{Answer, Call};
use crate::kinds;
use crate::managed::{self, By, Managed, Refusal, Reset};
use crate::protobuf::DecodeError;
use crate::registry::{Registry, Resource};
use crate::status::{Cause, Details, Status, qualified};
use crate::store::{Index, Object};
use crate::{admission, convert, custom, decode, patch, read, special, warnings};

/// What the real server reads at most of a body.
const BODY_MAX: usize = 3 * 1024 * 1024;

/// What etcd stores at most (its `--max-request-bytes`).
const OBJECT_MAX: usize = 1_572_864;

/// How strictly a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// The options of a request that writes.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) manager: String,
    pub(crate) validation: Validation,
    pub(crate) force: bool,
}

impl WriteOptions {
    pub(crate) fn of(call: &Call<'_>, kind: &str, applies: bool) -> Result<Self, Status> {
        let query = &call.query;
        let mut causes = Vec::new();
        let manager = query.get("fieldManager");
        if applies && manager.is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
        let force = query.flag("force");
        if kind == "PatchOptions" && !applies && query.has("force") {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        if manager.len() > 128 {
            causes.push(Cause {
                reason: "FieldValueTooLong",
                message: "Too long: may not be more than 128 bytes".to_owned(),
                field: "fieldManager".to_owned(),
            });
        }
        if let Some(at) = manager.chars().position(char::is_control) {
            let why = format!("should only contain printable characters (failed at position {at})");
            causes.push(Cause::invalid("fieldManager", &json!(manager), &why));
        }
        if query.all("dryRun").iter().any(|value| value != "All") {
            let value = query.all("dryRun").iter().find(|value| *value != "All");
            causes.push(Cause::not_supported("dryRun", &json!([value]), &["All"]));
        }
        let validation = match query.get("fieldValidation") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                causes.push(Cause::not_supported("fieldValidation", &json!(other), &["", "Ignore", "Strict", "Warn"]));
                Validation::Warn
            }
        };
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", kind, "", causes));
        }
        let manager = if manager.is_empty() { agent_of(call) } else { manager.to_owned() };
        Ok(Self { dry_run: query.has("dryRun"), manager, validation, force })
    }
}

/// The part of `User-Agent` before the slash.
fn agent_of(call: &Call<'_>) -> String {
    let agent = call.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    name.chars().filter(|letter| !letter.is_control()).take(128).collect()
}

/// The type of a body, without parameters.
fn content_type<'a>(call: &'a Call<'_>) -> &'a str {
    let kind = call.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

pub(crate) fn unsupported_type(accepted: &[&str]) -> Status {
    Status {
        code: 415,
        reason: "UnsupportedMediaType",
        message: format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        ),
        details: None,
    }
}

fn check_size(call: &Call<'_>) -> Result<(), Status> {
    if call.body.len() > BODY_MAX {
        return Err(Status {
            code: 413,
            reason: "RequestEntityTooLarge",
            message: format!("Request entity too large: limit is {BODY_MAX}"),
            details: None,
        });
    }
    Ok(())
}

/// The body as a value, whatever its encoding.
///
/// # Errors
/// 415 for an encoding that is none, 400 for a body that is none, with `wanted` as what it should have been.
pub(crate) fn parse_body(call: &Call<'_>, wanted: &str) -> Result<decode::Parsed, Status> {
    check_size(call)?;
    let unrecognized = |error: String| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {wanted}): {error} ({})",
            summary(call.body)
        ))
    };
    let into_struct = call.resource.custom().is_none();
    match content_type(call) {
        "" | "application/json" | "*/*" => {
            let parsed = if into_struct { decode::json_into_struct(call.body) } else { decode::json(call.body) };
            parsed.map_err(|error| unrecognized(format!("couldn't get version/kind; json parse error: {error}")))
        }
        "application/yaml" => decode::yaml(call.body)
            .map_err(|error| unrecognized(error.trim_start_matches("error converting YAML to JSON: ").to_owned())),
        "application/vnd.kubernetes.protobuf" => {
            let version = call.resource.api_version();
            match crate::protobuf::decode(call.body, (&version, wanted)) {
                Ok(value) => Ok(decode::Parsed { value, strict: Vec::new() }),
                Err(DecodeError::Unrecognized(fault)) => Err(unrecognized(fault.to_string())),
                Err(error) => Err(Status::bad_request(error.to_string())),
            }
        }
        _ => Err(unsupported_type(&["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"])),
    }
}

/// The beginning of a body as refusals show it: JSON as it is, other bytes in hexadecimal.
fn summary(body: &[u8]) -> String {
    // As much as apiserver's `transformDecodeError` shows.
    const SHOWN: usize = 30;
    let head = &body[..body.len().min(SHOWN)];
    let dots = if body.len() > SHOWN { " ..." } else { "" };
    match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{dots}", head.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// A body as an object of a resource, in its stored form: checked for kind and fields, with defaults.
pub(crate) fn decode_object(call: &Call<'_>, options: &WriteOptions) -> Result<Value, Status> {
    let resource = &call.resource;
    let parsed = parse_body(call, &resource.kind)?;
    let mut value = parsed.value;
    let mut strict = parsed.strict;
    if value.is_null() {
        value = json!({});
    }
    if !value.is_object() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }} ({})",
            resource.kind,
            kind_of(&value),
            summary(call.body)
        )));
    }
    for key in ["apiVersion", "kind"] {
        if !value[key].is_string() && !value[key].is_null() {
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse \
                 error: json: cannot unmarshal {} into Go struct field .{key} of type string ({})",
                resource.kind,
                kind_of(&value[key]),
                summary(call.body)
            )));
        }
    }
    check_kind(call, &mut value)?;
    let found = settle(resource, &mut value).map_err(|error| {
        let (kind, version) = (&resource.kind, &resource.version);
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"))
    })?;
    strict.extend(found);
    refuse_strict(call, options, &strict, |errors| {
        let (kind, version) = (&resource.kind, &resource.version);
        Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {errors}"
        ))
    })?;
    Ok(value)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Warns of what a strict reading refuses, or refuses it.
fn refuse_strict(
    call: &Call<'_>,
    options: &WriteOptions,
    strict: &[String],
    refusal: impl Fn(String) -> Status,
) -> Result<(), Status> {
    match options.validation {
        Validation::Ignore => Ok(()),
        Validation::Warn => {
            for text in strict {
                call.warn(text.clone());
            }
            Ok(())
        }
        Validation::Strict if strict.is_empty() => Ok(()),
        Validation::Strict => Err(refusal(strict.join(", "))),
    }
}

/// A body must be of the kind that its path names; where it does not say, it is.
fn check_kind(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    let resource = &call.resource;
    let version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let own = resource.api_version();
    if resource.custom().is_some() && (version.is_empty() || kind.is_empty()) {
        let missing = if kind.is_empty() { "Kind" } else { "apiVersion" };
        let body = String::from_utf8_lossy(call.body);
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object '{missing}' is missing in '{body}' ({})",
            resource.kind,
            summary(call.body)
        )));
    }
    let (group, number) = version.split_once('/').unwrap_or(("", &version));
    // The usual case is known without a search.
    let is_own = version == own && kind == resource.kind;
    if resource.custom().is_none() && !version.is_empty() && !is_own {
        let built_in = Registry::built_in();
        let known = built_in.has_version(group, number)
            && (kind.is_empty() || built_in.of_version(group, number).any(|other| other.kind == kind));
        if !known {
            let kind = if kind.is_empty() { &resource.kind } else { &kind };
            return Err(Status::bad_request(format!(
                "{kind} in version {number:?} cannot be handled as a {}: no kind {kind:?} is registered for version \
                 {version:?} in scheme \"pkg/runtime/scheme.go:111\"",
                resource.kind
            )));
        }
    }
    if resource.custom().is_some() && kind != resource.kind && version == own {
        let cause = Cause::invalid("kind", &json!(kind), &format!("must be {}", resource.kind));
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Status::invalid(&resource.group, &kind, name, vec![cause]));
    }
    if !kind.is_empty() && kind != resource.kind {
        let number = if version.is_empty() { &resource.version } else { number };
        return Err(Status::bad_request(format!(
            "{kind} in version {number:?} cannot be handled as a {}: converting ({number}.{kind}) to ({}.{}): unknown \
             conversion",
            resource.kind,
            internal(&resource.group),
            resource.kind
        )));
    }
    if !version.is_empty() && version != own {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({own})"
        )));
    }
    value["apiVersion"] = json!(own);
    value["kind"] = json!(resource.kind);
    Ok(())
}

/// The package in which the real server keeps its own form of a group.
fn internal(group: &str) -> &str {
    match group.split('.').next() {
        Some("") | None => "core",
        Some(name) => name,
    }
}

/// Gives a value the form in which it is stored, with defaults; says which fields nobody knows.
fn settle(resource: &Resource, value: &mut Value) -> Result<Vec<String>, String> {
    if !value["metadata"].is_object() {
        if value["metadata"].is_null() {
            value["metadata"] = json!({});
        } else {
            let found = kind_of(&value["metadata"]);
            return Err(match resource.custom() {
                Some(_) => format!("json: cannot unmarshal {found} into Go value of type v1.ObjectMeta"),
                None => format!(
                    "json: cannot unmarshal {found} into Go struct field {}.metadata of type v1.ObjectMeta",
                    resource.kind
                ),
            });
        }
    }
    match resource.custom() {
        Some(custom) => {
            let unknown = custom::prune(custom, value)?;
            custom::default(custom, value);
            Ok(unknown)
        }
        None => {
            let unknown = match resource.typed_on_the_wire() {
                Some(typed) => decode::fit(typed.schema, typed.ty, value).map_err(|mismatch| mismatch.0)?,
                None => Vec::new(),
            };
            convert::to_stored(resource, value);
            if let Some(why) = kinds::unreadable(resource.as_kind(), value) {
                return Err(why);
            }
            let resets = resets_entries(value);
            kinds::default(resource.as_kind(), value);
            if resets {
                metadata(value).insert("managedFields".to_owned(), json!([]));
            }
            Ok(unknown)
        }
    }
}

/// Whether somebody asks that nobody owns anything: a list that is empty, or has one empty entry.
fn resets_entries(value: &Value) -> bool {
    match value["metadata"]["managedFields"].as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        Some(_) | None => false,
    }
}

/// The namespace of a body must be that of its path.
fn check_namespace(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    let wanted = call.storage_namespace();
    let own = value["metadata"]["namespace"].as_str().unwrap_or_default();
    if wanted.is_empty() {
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        return Ok(());
    }
    if own.is_empty() {
        value["metadata"]["namespace"] = json!(wanted);
    } else if own != wanted {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

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

pub(crate) fn time(now: Timestamp) -> Value {
    json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// An object of this kind with nothing in it, as Go has it before anything is read into it.
fn nothing(resource: &Resource) -> Value {
    let mut value = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {}});
    if resource.custom().is_none() {
        kinds::settle(resource.as_kind(), &mut value);
    }
    value
}

/// Metadata is of Go's own type, which leaves out what is empty.
fn drop_empty_metadata(value: &mut Value) {
    metadata(value).retain(|_, field| match field {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
}

/// Without its entries, which would own themselves; they are not copied first, being half of many an object.
fn without_entries(value: &Value) -> Value {
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
fn reset(resource: &Resource, subresource: &str) -> Reset {
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
    fields.insert("creationTimestamp".to_owned(), time(call.now));
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
    if options.dry_run {
        metadata(&mut value).remove("resourceVersion");
        convert::from_stored(resource, &mut value);
        return Ok(Written::Value(value));
    }
    Ok(Written::Object(commit(state, resource, value, call.now)))
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

/// Puts a value into the store.
fn commit(state: &mut State, resource: &Resource, mut value: Value, now: Timestamp) -> Arc<Object> {
    if let Some(custom) = resource.custom() {
        custom.store(&mut value);
    }
    let index = Index { fields: read::fields_of(resource, &value) };
    let object = state.store.put(&resource.table, value, index, now);
    state.changed(resource, &object, false, now);
    object
}

/// The name of a body must be that of its path.
fn check_name(name: &str, of_path: &str) -> Result<(), Status> {
    match name {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({of_path} based on URL) was undeterminable: name must be provided"
        ))),
        name if name != of_path => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({of_path})"
        ))),
        _ => Ok(()),
    }
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
    if new == *old || options.dry_run {
        convert::from_stored(resource, &mut new);
        return Ok(Written::Value(new));
    }
    Ok(Written::Object(commit(state, resource, new, call.now)))
}

/// Where only the times of entries differ, nothing differs.
fn keep_times(new: &mut Value, old: &Value) {
    let without_times = |entries: &Value| -> Vec<Value> {
        let mut entries = entries.as_array().cloned().unwrap_or_default();
        for entry in &mut entries {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("time");
            }
        }
        // Their order goes by their times.
        entries.sort_by_key(Value::to_string);
        entries
    };
    let (before, after) = (&old["metadata"]["managedFields"], &new["metadata"]["managedFields"]);
    // The dearest comparison last.
    if before != after && equal_but_for_entries(new, old) && without_times(before) == without_times(after) {
        let entries = before.clone();
        metadata(new).insert("managedFields".to_owned(), entries);
    }
}

/// Removes an object from the store.
pub(crate) fn take_away(state: &mut State, resource: &Resource, namespace: &str, name: &str, now: Timestamp) {
    if let Some(object) = state.store.remove(&resource.table, namespace, name, now) {
        state.changed(resource, &object, true, now);
    }
}

/// `PATCH`, all five kinds of it.
pub(crate) fn patch(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let kind = content_type(call);
    let apply = kind == "application/apply-patch+yaml";
    let mut known = vec!["application/json-patch+json", "application/merge-patch+json"];
    if call.resource.custom().is_none() {
        known.push("application/strategic-merge-patch+json");
    }
    known.push("application/apply-patch+yaml");
    if !known.contains(&kind) {
        let mut status = unsupported_type(&known);
        if resource_routes_by_type(call) {
            status.message = "415: Unsupported Media Type".to_owned();
            status.details = Some(Box::new(Details::default()));
        }
        return Err(status);
    }
    check_size(call)?;
    let options = WriteOptions::of(call, "PatchOptions", apply)?;
    let old = state.store.get(&call.resource.table, call.storage_namespace(), &call.name);
    let old = old.map(|old| call.resource.value(&old));
    if apply {
        return apply_patch(state, call, &options, old);
    }
    let Some(old) = old else { return Err(call.not_found()) };
    let mut shown = old.clone();
    convert::from_stored(&call.resource, &mut shown);
    let (mut new, mut strict) = patch::patch(&call.resource, kind, &shown, call.body)?;
    let text = new.to_string();
    let strategic = kind == "application/strategic-merge-patch+json";
    let invalid = |why: String| {
        let shown = if strategic { go_body(call) } else { text.clone() };
        let cause = Cause::invalid("patch", &json!(shown), &why);
        let mut status = Status::invalid("", "", "", vec![cause.clone()]);
        status.message = format!(" \"\" is invalid: {}: {}", cause.field, cause.message);
        status
    };
    if !new.is_object() {
        return Err(invalid(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind_of(&new)
        )));
    }
    for key in ["kind", "apiVersion"] {
        if new[key].as_str().unwrap_or_default().is_empty() {
            new[key] = shown[key].clone();
        }
    }
    if new["kind"] != shown["kind"] || new["apiVersion"] != shown["apiVersion"] {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&new["apiVersion"]);
        if call.resource.custom().is_some() && new["kind"] == shown["kind"] {
            let why = format!("must be {}", call.resource.api_version());
            let cause = Cause::invalid("apiVersion", &new["apiVersion"], &why);
            return Err(Status::invalid(&call.resource.group, &call.resource.kind, &call.name, vec![cause]));
        }
        let number = version.rsplit('/').next().unwrap_or_default();
        let known = Registry::built_in().has_version(version.rsplit_once('/').map_or("", |(group, _)| group), number);
        if !known && call.resource.custom().is_none() {
            return Err(invalid(format!(
                "no kind {:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\"",
                text(&new["kind"])
            )));
        }
        return Err(invalid(format!(
            "converting ({number}.{}) to ({}.{}): unknown conversion",
            text(&new["kind"]),
            internal(&call.resource.group),
            call.resource.kind
        )));
    }
    let found = settle(&call.resource, &mut new).map_err(&invalid)?;
    strict.extend(found);
    refuse_strict(call, &options, &strict, |errors| invalid(format!("strict decoding error: {errors}")))?;
    check_namespace(call, &mut new)?;
    check_name(new["metadata"]["name"].as_str().unwrap_or_default(), &call.name)?;
    own(call, &options, Some(&old), &mut new);
    Ok(replace(state, call, new, &old, &options)?.answer(200))
}

/// The routes of built-in kinds know their types themselves; custom ones are asked.
fn resource_routes_by_type(call: &Call<'_>) -> bool {
    call.resource.custom().is_none()
}

/// A body as Go prints the map that it is.
fn go_body(call: &Call<'_>) -> String {
    let value = decode::json(call.body).map(|parsed| parsed.value).unwrap_or_default();
    patch::go_map(&value)
}

/// Server-side apply.
fn apply_patch(
    state: &mut State,
    call: &Call<'_>,
    options: &WriteOptions,
    old: Option<Value>,
) -> Result<Answer, Status> {
    let resource = &call.resource;
    let parsed =
        decode::yaml(call.body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut config = parsed.value;
    if config.is_null() {
        config = json!({});
    }
    if !config.is_object() {
        return Err(Status::bad_request(format!(
            "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go \
             value of type map[string]interface {{}}",
            kind_of(&config)
        )));
    }
    if old.is_none() && !call.subresource.is_empty() {
        return Err(call.not_found());
    }
    let own_version = resource.api_version();
    let version = config["apiVersion"].as_str().unwrap_or_default().to_owned();
    let kind = config["kind"].as_str().unwrap_or_default().to_owned();
    if kind != resource.kind || version.is_empty() || version != own_version {
        // An object of another kind has no type here.
        let named = if version.contains('/') { version } else { format!("/{version}") };
        return Err(Status::bad_request(format!("invalid object type: {named}, Kind={kind}")));
    }
    if config["metadata"].get("managedFields").is_some_and(|entries| !entries.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let Some(typed) = resource.typed() else { return Err(crate::handle::method_not_allowed()) };
    let fresh = old.is_none().then(|| nothing(resource));
    let live = old.as_ref().or(fresh.as_ref()).unwrap_or(&Value::Null);
    let managed = Managed::decode(&live["metadata"]["managedFields"]).unwrap_or_default();
    let by = By { manager: &options.manager, version: &own_version, subresource: &call.subresource, now: call.now };
    let bare = without_entries(live);
    convert::to_stored(resource, &mut config);
    let result =
        managed::apply(typed, &bare, &config, managed, &by, &reset(resource, &call.subresource), options.force);
    let (applied, mut managed) = result.map_err(|refusal| refused(call, &config, refusal))?;
    let mut new = applied.unwrap_or(bare);
    check_versions(state, call, &options.manager, &new, &managed)?;
    if old.is_some()
        && options.manager == "kubectl"
        && new["metadata"]["annotations"][managed::LAST_APPLIED].as_str().is_some_and(|text| !text.is_empty())
    {
        let mut plain = config.clone();
        if let Some(annotations) = plain["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(managed::LAST_APPLIED);
        }
        new["metadata"]["annotations"][managed::LAST_APPLIED] = json!(format!("{plain}\n"));
    }
    match resource.custom() {
        // Only what clients send is pruned, nulls included.
        Some(custom) => {
            drop_empty_metadata(&mut new);
            custom::default(custom, &mut new);
        }
        None => {
            let unknown = settle(resource, &mut new).map_err(Status::bad_request)?;
            if !unknown.is_empty() {
                tracing::debug!(?unknown, "an apply of known fields made unknown ones");
            }
        }
    }
    // Configurations are read as YAML, whose reader words it so.
    let strict: Vec<String> = parsed
        .strict
        .iter()
        .map(|text| {
            let path = text.trim_start_matches("duplicate field \"").trim_end_matches('"');
            format!("line 1: key {:?} already set in map", path.rsplit('.').next().unwrap_or(path))
        })
        .collect();
    refuse_strict(call, options, &strict, |errors| {
        Status::bad_request(format!(
            "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  {errors}"
        ))
    })?;
    check_namespace(call, &mut new)?;
    check_name(new["metadata"]["name"].as_str().unwrap_or_default(), &call.name)?;
    managed.entries.retain(|_, entry| !entry.fields.is_empty());
    managed.write(&mut new);
    match old {
        Some(old) => Ok(replace(state, call, new, &old, options)?.answer(200)),
        None => {
            crate::authorize::may_create(state, call)?;
            if new["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()) {
                let why = format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    new["metadata"]["uid"].as_str().unwrap_or_default()
                );
                return Err(Status::conflict(&resource.group, &resource.plural, &call.name, &why));
            }
            wipe(&mut new);
            metadata(&mut new).remove("resourceVersion");
            Ok(store_new(state, call, new, options)?.answer(201))
        }
    }
}

/// An apply to a custom kind must make sense in the versions in which others own fields.
fn check_versions(state: &State, call: &Call<'_>, own: &str, new: &Value, managed: &Managed) -> Result<(), Status> {
    let resource = &call.resource;
    if resource.custom().is_none() {
        return Ok(());
    }
    let version = resource.api_version();
    let others = managed.entries.iter().filter(|(manager, entry)| manager.name != own && entry.version != version);
    let others = others.map(|(_, entry)| {
        let number = entry.version.rsplit('/').next().unwrap_or_default();
        let other = state.registry.find(&resource.group, number, &resource.plural);
        (entry.version.as_str(), other.and_then(|other| other.typed()))
    });
    custom::check_versions(new, others).map_err(|message| Status { code: 500, reason: "", message, details: None })
}

fn refused(call: &Call<'_>, config: &Value, refusal: Refusal) -> Status {
    match refusal {
        Refusal::Conflicts(conflicts) => Status {
            code: 409,
            reason: "Conflict",
            message: managed::conflict_message(&conflicts),
            details: Some(Box::new(Details {
                causes: conflicts
                    .iter()
                    .map(|conflict| Cause {
                        reason: "FieldManagerConflict",
                        message: conflict.cause(),
                        field: conflict.field(),
                    })
                    .collect(),
                ..Details::default()
            })),
        },
        Refusal::Unfit(faults) => {
            let namespace = config["metadata"]["namespace"].as_str().unwrap_or_default();
            let name = config["metadata"]["name"].as_str().unwrap_or_default();
            let lines: Vec<String> = faults
                .iter()
                .map(|fault| match fault.path.as_str() {
                    "" => fault.message.clone(),
                    path => format!("{path}: {}", fault.message),
                })
                .collect();
            let errors = match lines.as_slice() {
                [one] => one.clone(),
                many => {
                    format!("errors:\n{}", many.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
                }
            };
            Status {
                code: 500,
                reason: "",
                message: format!(
                    "failed to create typed patch object ({namespace}/{name}; {}/{}, Kind={}): {errors}",
                    call.resource.group, call.resource.version, call.resource.kind
                ),
                details: None,
            }
        }
        Refusal::Merge(fault) => Status {
            code: 500,
            reason: "",
            message: format!("failed to merge config: {}: {}", fault.path, fault.message),
            details: None,
        },
    }
}

/// The options of a delete.
#[derive(Clone, Debug, Default)]
struct DeleteOptions {
    dry_run: bool,
    grace: Option<i64>,
    policy: Option<String>,
    orphan: Option<bool>,
    uid: Option<String>,
    revision: Option<String>,
}

impl DeleteOptions {
    fn says_nothing_of_others(&self) -> bool {
        self.policy.is_none() && self.orphan.is_none()
    }

    fn of(call: &Call<'_>) -> Result<Self, Status> {
        let mut out = Self::default();
        let mut dry_run: Vec<String> = Vec::new();
        if call.body.is_empty() {
            let query = &call.query;
            out.grace = query.number("gracePeriodSeconds")?;
            out.policy = Some(query.get("propagationPolicy").to_owned()).filter(|policy| !policy.is_empty());
            out.orphan = query.has("orphanDependents").then(|| query.flag("orphanDependents"));
            dry_run = query.all("dryRun").to_vec();
        } else {
            let bad = |error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"));
            let body = match content_type(call) {
                "" | "application/json" => decode::json(call.body).map_err(bad)?.value,
                _ => parse_body(call, "DeleteOptions")?.value,
            };
            let kind = body["kind"].as_str().unwrap_or_default();
            if !matches!(kind, "" | "DeleteOptions") {
                let version = body["apiVersion"].as_str().unwrap_or("v1");
                return Err(Status::bad_request(format!(
                    "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
                )));
            }
            out.grace = body["gracePeriodSeconds"].as_i64();
            out.policy = body["propagationPolicy"].as_str().map(ToOwned::to_owned);
            out.orphan = body["orphanDependents"].as_bool();
            out.uid = body["preconditions"]["uid"].as_str().map(ToOwned::to_owned);
            out.revision = body["preconditions"]["resourceVersion"].as_str().map(ToOwned::to_owned);
            dry_run.extend(
                body["dryRun"].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(ToOwned::to_owned)),
            );
        }
        let mut causes = Vec::new();
        if out.policy.is_some() && out.orphan.is_some() {
            causes.push(Cause::invalid(
                "propagationPolicy",
                &json!(out.policy),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(policy) = &out.policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            causes.push(Cause::not_supported(
                "propagationPolicy",
                &json!(policy),
                &["Foreground", "Background", "Orphan", "nil"],
            ));
        }
        if let Some(other) = dry_run.iter().find(|one| *one != "All") {
            causes.push(Cause::not_supported("dryRun", &json!([other]), &["All"]));
        }
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", causes));
        }
        out.dry_run = !dry_run.is_empty();
        Ok(out)
    }
}

/// `DELETE` of an object.
pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = DeleteOptions::of(call)?;
    delete_one(state, call, &call.name, &options)
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds from before there was a garbage collector, whose pods stay unless somebody says otherwise.
fn orphans_by_default(object: &Value) -> bool {
    matches!(
        (object["apiVersion"].as_str(), object["kind"].as_str()),
        (Some("batch/v1"), Some("Job")) | (Some("v1"), Some("ReplicationController"))
    )
}

/// Finalizers after a delete with these options.
fn finalizers_for(object: &Value, options: &DeleteOptions) -> Vec<String> {
    let own: Vec<String> = object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|finalizer| finalizer.as_str().map(ToOwned::to_owned))
        .collect();
    let has = |name: &str| own.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match (options.orphan, options.policy.as_deref()) {
        (Some(orphan), _) => (orphan, false),
        (None, Some("Orphan")) => (true, false),
        (None, Some("Foreground")) => (false, true),
        (None, Some(_)) => (false, false),
        // What is in the object says it.
        (None, None) => {
            (has(ORPHAN) || (orphans_by_default(object) && !has(FOREGROUND)), has(FOREGROUND) && !has(ORPHAN))
        }
    };
    let mut out: Vec<String> =
        own.iter().filter(|finalizer| !matches!(finalizer.as_str(), ORPHAN | FOREGROUND)).cloned().collect();
    if orphan {
        out.push(ORPHAN.to_owned());
    }
    if foreground {
        out.push(FOREGROUND.to_owned());
    }
    out
}

fn delete_one(state: &mut State, call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<Answer, Status> {
    if call.resource.group == "batch" && call.resource.plural == "jobs" && options.says_nothing_of_others() {
        call.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning",
        );
    }
    let resource = call.resource.clone();
    let namespace = call.storage_namespace();
    let stored = state
        .store
        .get(&resource.table, namespace, name)
        .ok_or_else(|| Status::not_found(&resource.group, &resource.plural, name))?;
    let old = resource.value(&stored);
    let precondition = |what: &str, wanted: &str, own: &str, happened: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({own}). The object might \
             have been {happened}"
        );
        Status::conflict(&resource.group, &resource.kind, name, &why)
    };
    if let Some(uid) = &options.uid
        && *uid != stored.uid
    {
        return Err(precondition("UID", uid, &stored.uid, "deleted and then recreated"));
    }
    if let Some(revision) = &options.revision
        && *revision != stored.revision.to_string()
    {
        return Err(precondition("ResourceVersion", revision, &stored.revision.to_string(), "modified"));
    }
    admission::before_delete(state, call, &old)?;
    if let Some(answer) = special::delete(state, call, &old, options.dry_run)? {
        return Ok(answer);
    }
    let mut new = old.clone();
    // Pods end in their own time; everything else at once.
    let grace = special::grace(&resource, &old, options.grace);
    let deleting = old["metadata"]["deletionTimestamp"].is_string();
    if let Some(grace) = grace
        && deleting
    {
        let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        // A grace period can only become shorter.
        if before > 0 && grace >= before {
            return Ok(deleted(&resource, &stored.uid, old, false));
        }
    }
    let finalizers = finalizers_for(&old, options);
    let graceful = grace.is_some_and(|grace| grace > 0)
        && !(deleting && old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0);
    if finalizers.is_empty() && !graceful {
        let stored_value = old.clone();
        let mut last = old;
        if grace.is_some() {
            // A pod ends through an update that says so, even when it has no time.
            mark_deleting(&mut last, 0, call.now);
        }
        if !options.dry_run {
            if grace.is_some() && last != stored_value {
                commit(state, &resource, last.clone(), call.now);
            }
            take_away(state, &resource, namespace, name, call.now);
            // What is answered is what watches see: the object at the revision that took it away.
            metadata(&mut last).insert("resourceVersion".to_owned(), json!(state.store.revision().to_string()));
        }
        return Ok(deleted(&resource, &stored.uid, last, true));
    }
    let fields = metadata(&mut new);
    if finalizers.is_empty() {
        fields.remove("finalizers");
    } else {
        fields.insert("finalizers".to_owned(), json!(finalizers));
    }
    let seconds = if graceful { grace.unwrap_or_default() } else { 0 };
    if !deleting || graceful {
        mark_deleting(&mut new, seconds, call.now);
    } else {
        metadata(&mut new).insert("deletionGracePeriodSeconds".to_owned(), json!(seconds));
    }
    if new == old || options.dry_run {
        return Ok(deleted(&resource, &stored.uid, new, false));
    }
    let new = convert::value(&resource, &commit(state, &resource, new, call.now));
    Ok(deleted(&resource, &stored.uid, new, false))
}

/// From now on an object is being deleted, with so many seconds to end.
fn mark_deleting(object: &mut Value, seconds: i64, now: Timestamp) {
    let fields = metadata(object);
    if !fields.contains_key("deletionTimestamp") {
        let generation = fields.get("generation").and_then(Value::as_i64).unwrap_or_default();
        if generation > 0 {
            fields.insert("generation".to_owned(), json!(generation + 1));
        }
    }
    fields.insert("deletionTimestamp".to_owned(), time(now + jiff::SignedDuration::from_secs(seconds)));
    fields.insert("deletionGracePeriodSeconds".to_owned(), json!(seconds));
}

/// The answer to a delete: the object where it is still there or its kind answers so, else a status.
fn deleted(resource: &Resource, uid: &str, object: Value, gone: bool) -> Answer {
    let whole = matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("", "resourcequotas" | "persistentvolumes" | "serviceaccounts" | "persistentvolumeclaims")
            | ("", "pods" | "services" | "podtemplates" | "namespaces")
            | ("storage.k8s.io" | "resource.k8s.io", _)
    );
    if !gone || whole {
        let mut object = object;
        convert::from_stored(resource, &mut object);
        return Answer::Value(200, object);
    }
    let name = object["metadata"]["name"].clone();
    let mut details = json!({"name": name, "kind": resource.plural, "uid": uid});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    Answer::Other(
        200,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    )
}

/// `DELETE` of what a selector selects.
pub(crate) fn delete_collection(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = DeleteOptions::of(call)?;
    let list = read::list(state, call)?;
    let one_by_one = DeleteOptions { uid: None, revision: None, ..options };
    for object in &list.items {
        match delete_in(state, call, &object.namespace, &object.name, &one_by_one) {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Answer::List(crate::handle::List { next: None, remaining: None, ..list }))
}

fn delete_in(
    state: &mut State,
    call: &Call<'_>,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Answer, Status> {
    let within = Call {
        namespace: if call.resource.namespaced { namespace.to_owned() } else { call.namespace.clone() },
        name: name.to_owned(),
        query: call.query.clone(),
        resource: call.resource.clone(),
        subresource: String::new(),
        warnings: std::cell::RefCell::default(),
        ..*call
    };
    delete_one(state, &within, name, options)
}
