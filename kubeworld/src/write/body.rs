//! From the bytes of a body to an object as it is stored: of the kind that its path names, with defaults.

use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::metadata;
use super::options::{Validation, WriteOptions};
use crate::handle::Call;
use crate::protobuf::DecodeError;
use crate::registry::{Registry, Resource};
use crate::status::{Cause, Status};
use crate::{convert, custom, decode, kinds};

/// What the real server reads at most of a body.
const BODY_MAX: usize = 3 * 1024 * 1024;

/// The type of a body, without parameters.
pub(super) fn content_type<'a>(call: &'a Call<'_>) -> &'a str {
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

pub(super) fn check_size(call: &Call<'_>) -> Result<(), Status> {
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

pub(super) fn kind_of(value: &Value) -> &'static str {
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
pub(super) fn refuse_strict(
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
pub(super) fn internal(group: &str) -> &str {
    match group.split('.').next() {
        Some("") | None => "core",
        Some(name) => name,
    }
}

/// Gives a value the form in which it is stored, with defaults; says which fields nobody knows.
pub(super) fn settle(resource: &Resource, value: &mut Value) -> Result<Vec<String>, String> {
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
pub(super) fn check_namespace(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
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

/// The name of a body must be that of its path.
pub(super) fn check_name(name: &str, of_path: &str) -> Result<(), Status> {
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
