//! `PATCH`: which of the five kinds it is, and the three that are a patch of what is there.

use serde_json::{Value, json};

use super::apply::apply_patch;
use super::body::{
    check_name, check_namespace, check_size, content_type, internal, kind_of, refuse_strict, settle, unsupported_type,
};
use super::options::WriteOptions;
use super::owners::own;
use super::replace;
use crate::api::State;
use crate::handle::{Answer, Call};
use crate::registry::Registry;
use crate::status::{Cause, Details, Status};
use crate::{convert, decode, patch};

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
