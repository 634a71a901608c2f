//! Questions about users and rights, and tokens of service accounts.

use serde_json::{Value, json};

use crate::api::State;
use crate::handle::{Answer, Call, method_not_allowed};
use crate::status::{Cause, Status};
use crate::write;

pub(super) fn create(_state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let kind = call.resource.kind.as_str();
    let body = write::parse_body(call, kind)?.value;
    match kind {
        "SelfSubjectReview" => {
            let mut user = json!({"username": call.user.name, "groups": call.user.groups});
            if !call.user.uid.is_empty() {
                user["uid"] = json!(call.user.uid);
            }
            if !call.user.extra.is_empty() {
                user["extra"] = json!(call.user.extra);
            }
            let metadata = json!({"creationTimestamp": write::time(call.now)});
            Ok(Answer::Other(201, reply(call, metadata, json!({"status": {"userInfo": user}}))))
        }
        _ => {
            let _ = body;
            Err(method_not_allowed())
        }
    }
}

fn reply(call: &Call<'_>, metadata: Value, rest: Value) -> Value {
    let mut out = json!({"kind": call.resource.kind, "apiVersion": call.resource.api_version(), "metadata": metadata});
    for (key, value) in rest.as_object().into_iter().flatten() {
        out[key] = value.clone();
    }
    out
}

/// A token for a service account.
pub(super) fn token(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let body = write::parse_body(call, "TokenRequest")?.value;
    let account = state.store.get("/serviceaccounts", &call.namespace, &call.name).ok_or_else(|| call.not_found())?;
    let seconds = body["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    if seconds < 600 {
        let cause = Cause::invalid(
            "spec.expirationSeconds",
            &json!(seconds),
            "may not specify a duration less than 10 minutes",
        );
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", vec![cause]));
    }
    let ends = call.now + jiff::SignedDuration::from_secs(seconds);
    let token = state.tokens.issue(&call.namespace, &call.name, &account.uid, ends, &mut state.random);
    let audiences = match body["spec"]["audiences"].as_array() {
        Some(list) if !list.is_empty() => json!(list),
        Some(_) | None => json!(["https://kubernetes.default.svc.cluster.local"]),
    };
    let metadata = json!({"name": call.name, "namespace": call.namespace, "creationTimestamp": write::time(call.now)});
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": null});
    if body["spec"]["boundObjectRef"].is_object() {
        spec["boundObjectRef"] = body["spec"]["boundObjectRef"].clone();
    }
    let status = json!({"token": token, "expirationTimestamp": write::time(ends)});
    Ok(Answer::Other(201, json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": metadata, "spec": spec, "status": status})))
}
