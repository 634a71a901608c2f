//! What is refused, or filled in, for reasons beyond one object: a namespace that is not there or ends, and what the
//! admission plugins that every cluster has would do.

use serde_json::Value;

use crate::api::State;
use crate::handle::Call;
use crate::status::{Cause, Status};

/// Namespaces that nobody can delete.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin `NamespaceLifecycle`.
pub(crate) fn before_create(state: &State, call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    if !call.resource.namespaced {
        return Ok(());
    }
    let Some(namespace) = state.store.get("/namespaces", "", &call.namespace) else {
        return Err(Status::not_found("", "namespaces", &call.namespace));
    };
    if namespace.value()["metadata"]["deletionTimestamp"].is_string() {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            call.namespace
        );
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let mut status = Status::forbidden(&call.resource.group, &call.resource.plural, name, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating",
                message: format!("namespace {} is being terminated", call.namespace),
                field: "metadata.namespace".to_owned(),
            });
        }
        return Err(status);
    }
    Ok(())
}

pub(crate) fn before_update(_state: &State, _call: &Call<'_>, _new: &mut Value, _old: &Value) -> Result<(), Status> {
    Ok(())
}

/// Rights that somebody hands on must be held: roles and their bindings.
pub(crate) fn validate_create(state: &State, call: &Call<'_>, value: &Value) -> Result<(), Status> {
    crate::authorize::may_grant(state, call, value, None)
}

pub(crate) fn validate_update(state: &State, call: &Call<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    crate::authorize::may_grant(state, call, new, Some(old))
}

pub(crate) fn before_delete(_state: &State, call: &Call<'_>, old: &Value) -> Result<(), Status> {
    if call.resource.group.is_empty() && call.resource.plural == "namespaces" {
        let name = old["metadata"]["name"].as_str().unwrap_or_default();
        if KEPT.contains(&name) {
            return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
        }
    }
    Ok(())
}
