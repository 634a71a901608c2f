//! `scale`: one number of a workload, as `kubectl scale` and autoscalers see it.

use http::Method;
use serde_json::{Value, json};

use crate::api::State;
use crate::custom::Path;
use crate::handle::{Answer, Call};
use crate::registry::Resource;
use crate::status::{Cause, Details, Status};
use crate::write;

/// Where the numbers are, and the selector.
fn paths(resource: &Resource) -> (Path, Path) {
    match resource.custom().and_then(|custom| custom.scale.as_ref()) {
        Some(scale) => (scale.spec.clone(), scale.status.clone()),
        None => (Path::parse(".spec.replicas"), Path::parse(".status.replicas")),
    }
}

fn selector(resource: &Resource, object: &Value) -> Option<String> {
    match resource.custom() {
        Some(custom) => {
            let path = custom.scale.as_ref()?.selector.as_ref()?;
            path.find(object).and_then(Value::as_str).map(ToOwned::to_owned)
        }
        None => Some(written(&object["spec"]["selector"])),
    }
}

/// A label selector as `kubectl get -l` takes it.
pub(crate) fn written(selector: &Value) -> String {
    // ReplicationControllers have bare labels.
    let labels = if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        &selector["matchLabels"]
    } else {
        selector
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut parts: Vec<String> =
        labels.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = text(&expression["key"]);
        let values: Vec<String> = expression["values"].as_array().into_iter().flatten().map(text).collect();
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            Some(_) | None => key,
        });
    }
    parts.join(",")
}

fn of(resource: &Resource, object: &Value) -> Value {
    let (spec, status) = paths(resource);
    let number = |path: &Path| path.find(object).and_then(Value::as_i64).unwrap_or_default();
    let metadata = &object["metadata"];
    let mut out = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
                     "creationTimestamp": metadata["creationTimestamp"]},
        "spec": {}, "status": {"replicas": number(&status)},
    });
    if metadata["namespace"].is_string() {
        out["metadata"]["namespace"] = metadata["namespace"].clone();
    }
    if number(&spec) != 0 {
        out["spec"]["replicas"] = json!(number(&spec));
    }
    if let Some(selector) = selector(resource, object).filter(|selector| !selector.is_empty()) {
        out["status"]["selector"] = json!(selector);
    }
    out
}

pub(super) fn answer(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let resource = call.resource.clone();
    let stored = state.store.get(&resource.table, call.storage_namespace(), &call.name);
    let old = resource.value(&*stored.ok_or_else(|| call.not_found())?);
    if resource.custom().is_some() && paths(&resource).0.find(&old).is_none() {
        let path = format!(".{}", paths(&resource).0.dotted());
        return Err(internal(&format!("the spec replicas field {path:?} does not exist")));
    }
    let shown = of(&resource, &old);
    let wanted = match *call.method {
        Method::GET => return Ok(Answer::Scale(shown)),
        Method::PUT => write::parse_body(call, "Scale")?.value,
        _ => super::patched(call, &resource, &shown)?,
    };
    let options = super::options(call)?;
    let kind = call.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let applies = *call.method == Method::PATCH && kind.starts_with("application/apply-patch");
    if let Some(kind) = wanted["kind"].as_str()
        && kind != "Scale"
    {
        return Err(Status::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a Scale: converting ({kind}) to (autoscaling.Scale): \
             unknown conversion"
        )));
    }
    let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas < 0 && resource.custom().is_none() {
        let cause = Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &call.name, vec![cause]));
    }
    let mut new = old.clone();
    paths(&resource).0.set(&mut new, json!(replicas));
    if let Some(revision) = wanted["metadata"]["resourceVersion"].as_str().filter(|revision| !revision.is_empty()) {
        new["metadata"]["resourceVersion"] = json!(revision);
    }
    if applies {
        write::own_scale(call, &options, &old, &mut new, &paths(&resource).0);
    } else if is_owned(&old, &paths(&resource).0) {
        write::own(call, &options, Some(&old), &mut new);
    }
    let new = write::replace(state, call, new, &old, &options)?.value(&resource);
    Ok(Answer::Other(200, of(&resource, &new)))
}

/// Whether anybody owns the number. While nobody does, the real server has whoever scales own nothing either.
fn is_owned(object: &Value, path: &Path) -> bool {
    let mut entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.any(|entry| {
        let fields = path.steps().iter().try_fold(&entry["fieldsV1"], |at, step| at.get(format!("f:{step}")));
        fields.is_some()
    })
}

/// 500 with what went wrong inside.
fn internal(what: &str) -> Status {
    Status {
        code: 500,
        reason: "InternalError",
        message: format!("Internal error occurred: {what}"),
        details: Some(Box::new(Details {
            causes: vec![Cause { reason: "", message: what.to_owned(), field: String::new() }],
            ..Details::default()
        })),
    }
}
