//! What acts on a pod: binding it to a node, evicting it, and its logs.

use serde_json::{Value, json};

use crate::api::State;
use crate::handle::{Answer, Call};
use crate::status::{Cause, Details, Status};
use crate::store::Index;
use crate::{time, write};

/// A pod gets its node.
pub(super) fn bind(state: &mut State, call: &Call<'_>, name: &str, body: &Value) -> Result<Answer, Status> {
    let node = body["target"]["name"].as_str().unwrap_or_default();
    let causes = crate::kinds::pods::validate_binding(body);
    if !causes.is_empty() {
        return Err(Status::invalid("", "Binding", name, causes));
    }
    let Some(pods) = state.registry.find("", "v1", "pods").cloned() else { return Err(call.not_found()) };
    let stored = state.store.get("/pods", &call.namespace, name);
    let stored = stored.ok_or_else(|| Status::not_found("", "pods", name))?;
    let mut pod = pods.value(&stored);
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(Status::conflict("", "pods/binding", name, &why));
    }
    let bound = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !bound.is_empty() {
        let why = format!("pod {name} is already assigned to node {bound:?}");
        return Err(Status::conflict("", "pods/binding", name, &why));
    }
    pod["spec"]["nodeName"] = json!(node);
    for key in ["annotations", "labels"] {
        for (name, value) in body["metadata"][key].as_object().into_iter().flatten() {
            pod["metadata"][key][name] = value.clone();
        }
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
                           "lastTransitionTime": time::seconds(call.now)});
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|own| own["type"] != "PodScheduled");
        conditions.push(condition);
    }
    let index = Index::of(crate::read::fields_of(&pods, &pod));
    let object = state.store.put("/pods", pod, index, call.now);
    state.changed(&pods, &object, false, call.now);
    Ok(super::success(201))
}

/// Deletes a pod, unless a disruption budget forbids it.
pub(super) fn evict(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let body = write::parse_body(call, "Eviction")?.value;
    let own = body["metadata"]["name"].as_str().unwrap_or_default();
    if own != call.name && !own.is_empty() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let stored = state.store.get("/pods", &call.namespace, &call.name).ok_or_else(|| call.not_found())?;
    let budgets: Vec<Value> =
        state.store.list("policy/poddisruptionbudgets", &call.namespace).map(|budget| budget.value()).collect();
    for budget in budgets {
        let selector = super::scale::written(&budget["spec"]["selector"]);
        let matches = crate::select::Labels::parse(&selector).is_ok_and(|labels| labels.matches(&stored.labels));
        if matches && budget["status"]["disruptionsAllowed"].as_i64().unwrap_or_default() <= 0 {
            let name = budget["metadata"]["name"].as_str().unwrap_or_default();
            return Err(Status {
                code: 429,
                reason: "TooManyRequests",
                message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
                details: Some(Box::new(Details {
                    causes: vec![Cause {
                        reason: "DisruptionBudget",
                        message: format!(
                            "The disruption budget {name} needs {} healthy pods and has {} currently",
                            budget["status"]["desiredHealthy"].as_i64().unwrap_or_default(),
                            budget["status"]["currentHealthy"].as_i64().unwrap_or_default()
                        ),
                        field: String::new(),
                    }],
                    ..Details::default()
                })),
            });
        }
    }
    let options = body["deleteOptions"].clone();
    let body = if options.is_object() { bytes::Bytes::from(options.to_string()) } else { bytes::Bytes::new() };
    let within = Call {
        body: &body,
        query: crate::request::Query::default(),
        resource: call.resource.clone(),
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        subresource: String::new(),
        warnings: std::cell::RefCell::default(),
        ..*call
    };
    write::delete(state, &within)?;
    Ok(super::success(201))
}

/// What the containers of a pod wrote: in this world, that they were started.
pub(super) fn log(state: &State, call: &Call<'_>) -> Result<Answer, Status> {
    let stored = state.store.get("/pods", &call.namespace, &call.name).ok_or_else(|| call.not_found())?;
    let pod = stored.value();
    let names: Vec<&str> =
        pod["spec"]["containers"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    let container = match call.query.get("container") {
        "" => match names.as_slice() {
            [one] => *one,
            many => {
                return Err(Status::bad_request(format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    call.name,
                    many.join(" ")
                )));
            }
        },
        asked => match names.iter().find(|name| **name == asked) {
            Some(name) => name,
            None => {
                return Err(Status::bad_request(format!("container {asked} is not valid for pod {}", call.name)));
            }
        },
    };
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let status = statuses.into_iter().find(|status| status["name"] == container);
    let started = status.and_then(|status| {
        ["running", "terminated"].iter().find_map(|state| status["state"][state]["startedAt"].as_str())
    });
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return Ok(Answer::Text(204, "", String::new()));
    }
    let Some(started) = started else {
        return Err(Status::bad_request(format!(
            "container {container:?} in pod {:?} is waiting to start: ContainerCreating",
            call.name
        )));
    };
    let image = status.map(|status| status["image"].clone()).unwrap_or_default();
    let stamp = if call.query.flag("timestamps") { format!("{started} ") } else { String::new() };
    let line = format!("{stamp}{container} started with image {}\n", image.as_str().unwrap_or_default());
    let shown = match call.query.number("tailLines")? {
        Some(0) => String::new(),
        Some(_) | None => line,
    };
    Ok(Answer::Text(200, "text/plain", shown))
}
