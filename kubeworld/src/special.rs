//! What is not plain storage: reviews, which answer and store nothing, and subresources that act.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::State;
use crate::handle::{Answer, Call, method_not_allowed, unknown_resource};
use crate::kinds::services;
use crate::registry::{Resource, Subresource};
use crate::status::Status;
use crate::write::{self, WriteOptions};
use crate::{custom, patch, store, time};

mod pods;
mod reviews;
mod scale;

/// Whether objects of a resource are stored.
pub(crate) fn stores(resource: &Resource) -> bool {
    resource.verbs.iter().any(|verb| verb == "get")
}

/// `POST` of something that is not stored.
pub(crate) fn create(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    match (call.resource.group.as_str(), call.resource.plural.as_str()) {
        ("authentication.k8s.io" | "authorization.k8s.io", _) => reviews::create(state, call),
        ("", "bindings") => {
            let body = write::parse_body(call, "Binding")?.value;
            let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            pods::bind(state, call, &name, &body)
        }
        (_, _) => Err(method_not_allowed()),
    }
}

/// A request on a subresource other than `status`.
pub(crate) fn subresource(state: &mut State, call: &Call<'_>, subresource: &Subresource) -> Result<Answer, Status> {
    let resource = call.resource.as_ref();
    match (resource.plural.as_str(), subresource.name.as_str()) {
        (_, "scale") => scale::answer(state, call),
        ("namespaces", "finalize") => write::update(state, call),
        ("certificatesigningrequests", "approval") | ("pods", "ephemeralcontainers" | "resize") => match *call.method {
            http::Method::GET => crate::read::get(state, call),
            http::Method::PUT => write::update(state, call),
            _ => write::patch(state, call),
        },
        ("pods", "log") => pods::log(state, call),
        ("pods", "eviction") => pods::evict(state, call),
        ("pods", "binding") => {
            let body = write::parse_body(call, "Binding")?.value;
            pods::bind(state, call, &call.name.clone(), &body)
        }
        ("serviceaccounts", "token") => reviews::token(state, call),
        (_, _) => Err(unknown_resource()),
    }
}

/// Addresses and ports of Services.
pub(crate) fn allocate(state: &State, resource: &Resource, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if !(resource.group.is_empty() && resource.plural == "services") {
        return Ok(());
    }
    let own = new["metadata"]["uid"].clone();
    let mut taken = services::Taken::default();
    for service in state.store.list(&resource.table, "") {
        if own != service.uid.as_str() {
            taken.add(&service.value());
        }
    }
    // The ports of a default cluster (`--service-node-port-range`).
    let allocator = services::Allocator { addresses: state.options.service_addresses, ports: 30_000..=32_767 };
    let result = match old {
        None => services::begin_create(new, &taken, &allocator),
        Some(old) => services::begin_update(new, old, &taken, &allocator),
    };
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    result.map_err(|causes| Status::invalid("", "Service", name, causes))
}

/// Whether an object without finalizers that is being deleted may go.
pub(crate) fn may_end(resource: &Resource, new: &Value) -> bool {
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return new["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    true
}

/// How long an object has to end; `None` for kinds that end at once.
pub(crate) fn grace(resource: &Resource, object: &Value, asked: Option<i64>) -> Option<i64> {
    if !(resource.group.is_empty() && resource.plural == "pods") {
        return None;
    }
    let own = || object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let seconds = asked.unwrap_or_else(own);
    let seconds = if seconds < 0 { 1 } else { seconds };
    // What never ran, or ended, needs no time.
    let idle = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty()
        || matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    Some(if idle { 0 } else { seconds })
}

/// Deletes that are more than that: a namespace, or a kind, ends when its content has.
pub(crate) fn delete(state: &mut State, call: &Call<'_>, old: &Value, dry_run: bool) -> Result<Option<Answer>, Status> {
    let resource = call.resource.clone();
    if custom::is_definition(&resource) {
        return custom::delete(state, call, old, dry_run);
    }
    if !(resource.group.is_empty() && resource.plural == "namespaces") {
        return Ok(None);
    }
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let done = empty(&old["spec"]["finalizers"]) && empty(&old["metadata"]["finalizers"]);
    if old["metadata"]["deletionTimestamp"].is_string() && done {
        return Ok(None);
    }
    let mut new = old.clone();
    if new["metadata"]["deletionTimestamp"].is_null() {
        new["metadata"]["deletionTimestamp"] = time::seconds(call.now).into();
        new["status"]["phase"] = json!("Terminating");
    }
    if new == *old || dry_run {
        return Ok(Some(Answer::Value(200, new)));
    }
    let index = store::Index::of(crate::read::fields_of(&resource, &new));
    let object = state.store.put(&resource.table, new, index, call.now);
    state.changed(&resource, &object, false, call.now);
    Ok(Some(Answer::Value(200, resource.value(&object))))
}

/// Success without an object.
fn success(code: u16) -> Answer {
    Answer::Other(
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}),
    )
}

impl State {
    /// What follows from a change at once, as the parts of the API server itself do it: a definition becomes a kind,
    /// and one that goes takes its objects with it.
    pub(crate) fn changed(&mut self, resource: &Resource, object: &store::Object, deleted: bool, now: Timestamp) {
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("apiextensions.k8s.io", "customresourcedefinitions") => {
                self.definition_changed(resource, object, deleted, now);
            }
            ("rbac.authorization.k8s.io", plural) if deleted => {
                self.access.forget(plural, &object.namespace, &object.name);
            }
            ("rbac.authorization.k8s.io", plural) => self.access.observe(plural, &object.value()),
            (_, _) if deleted && resource.custom().is_some() => {
                let name = format!("{}.{}", resource.plural, resource.group);
                self.end_definition(&name, now);
            }
            (_, _) => {}
        }
    }
}

/// Applies a patch to a value that is no stored object, such as a Scale.
fn patched(call: &Call<'_>, resource: &Resource, shown: &Value) -> Result<Value, Status> {
    let kind = call.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/json-patch+json" | "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            patch::patch(resource, kind, shown, call.body).map(|(value, _)| value)
        }
        "application/apply-patch+yaml" => {
            let parsed = crate::decode::yaml(call.body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            let mut out = shown.clone();
            json_patch::merge(&mut out, &parsed.value);
            Ok(out)
        }
        _ => Err(write::unsupported_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

/// The options of a write on a subresource that acts.
fn options(call: &Call<'_>) -> Result<WriteOptions, Status> {
    WriteOptions::of(call, "UpdateOptions", false)
}
