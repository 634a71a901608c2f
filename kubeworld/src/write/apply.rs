//! Server-side apply (KEP-555), as a request: what is applied, who refuses, and what is stored of it.

use serde_json::{Value, json};

use super::body::{check_name, check_namespace, kind_of, refuse_strict, settle};
use super::options::WriteOptions;
use super::owners::{nothing, reset, without_entries};
use super::{metadata, replace, store_new, wipe};
use crate::api::State;
use crate::handle::{Answer, Call};
use crate::managed::{self, By, Managed, Refusal};
use crate::status::{Cause, Details, Status};
use crate::{convert, custom, decode};

/// Server-side apply.
pub(super) fn apply_patch(
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
