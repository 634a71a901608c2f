//! What is refused, or filled in, for reasons beyond one object: a namespace that is not there or ends, and what the
//! admission plugins that every cluster has would do.

use serde_json::Value;

use crate::api::State;
use crate::handle::Call;
use crate::kinds;
use crate::status::{Cause, Status};

/// Namespaces that nobody can delete.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What admission of one kind may ask of other objects.
struct Others<'a>(&'a State);

impl kinds::admission::Lookup for Others<'_> {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        Some(self.0.store.get(&format!("{group}/{resource}"), namespace, name)?.value())
    }

    fn all(&self, group: &str, resource: &str) -> Vec<Value> {
        self.0.store.list(&format!("{group}/{resource}"), "").map(|object| object.value()).collect()
    }

    fn suffix(&self) -> String {
        // From what is there, so that equal worlds give equal names.
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut number = self.0.store.revision().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let mut out = String::new();
        for _ in 0..5 {
            out.push(char::from(LETTERS[(number % LETTERS.len() as u64) as usize]));
            number /= LETTERS.len() as u64;
        }
        out
    }
}

/// The plugin `NamespaceLifecycle`.
pub(crate) fn before_create(state: &State, call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    if call.resource.custom().is_none() && !call.resource.namespaced {
        return complete(state, call, value);
    }
    if !call.resource.namespaced {
        return Ok(());
    }
    let Some(namespace) = state.store.get("/namespaces", "", &call.namespace) else {
        return Err(Status::not_found("", "namespaces", &call.namespace));
    };
    if namespace.mentions("deletionTimestamp") && namespace.value()["metadata"]["deletionTimestamp"].is_string() {
        let why =
            format!("unable to create new content in namespace {} because it is being terminated", call.namespace);
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
    if call.resource.custom().is_some() { Ok(()) } else { complete(state, call, value) }
}

/// What the plugins fill in.
fn complete(state: &State, call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    let accounts = state.options.service_account_admission;
    let result = kinds::admission::admit_create(call.resource.as_kind(), value, &Others(state), accounts);
    result.map_err(|why| {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        Status::forbidden(&call.resource.group, &call.resource.plural, name, &why)
    })
}

pub(crate) fn before_update(call: &Call<'_>, new: &mut Value, old: &Value) {
    if call.resource.custom().is_none() {
        kinds::admission::admit_update(call.resource.as_kind(), new, old);
    }
}

/// The plugin `PodSecurity`: a pod is refused, a pod or a template is warned of.
fn secure(state: &State, call: &Call<'_>, value: &Value) -> Result<(), Status> {
    let spec = match (call.resource.group.as_str(), call.resource.plural.as_str()) {
        ("", "pods") => &value["spec"],
        ("", "podtemplates") => &value["template"]["spec"],
        ("", "replicationcontrollers") | ("apps", _) | ("batch", "jobs") => &value["spec"]["template"]["spec"],
        ("batch", "cronjobs") => &value["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => return Ok(()),
    };
    let Some(namespace) = state.store.get("/namespaces", "", &call.namespace).filter(|_| spec.is_object()) else {
        return Ok(());
    };
    let namespace = namespace.value();
    if call.resource.plural == "pods"
        && let Some(why) = kinds::admission::security::refusal(&namespace, spec)
    {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Status::forbidden("", "pods", name, &why));
    }
    if let Some(why) = kinds::admission::security::warning(&namespace, spec) {
        call.warn(why);
    }
    Ok(())
}

/// Rights that somebody hands on must be held: roles and their bindings.
pub(crate) fn validate_create(state: &State, call: &Call<'_>, value: &Value) -> Result<(), Status> {
    secure(state, call, value)?;
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
