//! Questions about users and rights, and tokens of service accounts.

use serde_json::{Value, json};

use crate::access::{Attributes, Decision, Target};
use crate::api::{State, User};
use crate::handle::{Answer, Call};
use crate::status::{Cause, Status};
use crate::write::{self, WriteOptions};
use crate::{kinds, time};

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = WriteOptions::of(call, "CreateOptions", false)?;
    let mut review = write::decode_object(call, &options)?;
    write::own(call, &options, None, &mut review);
    match call.resource.kind.as_str() {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = time::seconds(call.now).into();
            review["status"] = json!({"userInfo": info(call.user)});
        }
        "TokenReview" => {
            let token = review["spec"]["token"].as_str().unwrap_or_default();
            if token.is_empty() {
                return Err(Status::bad_request("token is required for TokenReview in authentication"));
            }
            review["status"] = match state.tokens.user(token, call.now) {
                Some(user) => {
                    let audiences = ["https://kubernetes.default.svc.cluster.local"];
                    json!({"authenticated": true, "user": info(&user), "audiences": audiences})
                }
                None => json!({"user": {}, "error": "invalid bearer token"}),
            };
        }
        "SelfSubjectRulesReview" => {
            let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
            if namespace.is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            // The answer is all that the real server sends back.
            let status = state.access.rules_review(call.user, namespace);
            review["metadata"] = json!({});
            review["spec"] = json!({});
            review["status"] = status;
        }
        kind => {
            check(kind, call, &review)?;
            let user = if kind == "SelfSubjectAccessReview" { call.user.clone() } else { user_of(&review["spec"]) };
            let decision = decide(state, &user, &review["spec"]);
            let mut status = json!({"allowed": decision.allowed});
            if !decision.reason.is_empty() {
                status["reason"] = json!(decision.reason);
            }
            review["status"] = status;
        }
    }
    kinds::settle(call.resource.as_kind(), &mut review);
    Ok(Answer::Other(201, review))
}

/// What a question about rights must have.
fn check(kind: &str, call: &Call<'_>, review: &Value) -> Result<(), Status> {
    let spec = &review["spec"];
    let mut causes = Vec::new();
    let (resource, path) = (spec["resourceAttributes"].is_object(), spec["nonResourceAttributes"].is_object());
    match (resource, path) {
        (true, false) | (false, true) => {}
        (_, _) => {
            let mut cause = Cause::invalid(
                "spec",
                &Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            if path {
                // As Go prints its own struct.
                let text = |key: &str| spec["nonResourceAttributes"][key].as_str().unwrap_or_default().to_owned();
                let shown = format!("{{\"Path\":{:?},\"Verb\":{:?}}}", text("path"), text("verb"));
                cause.message = cause.message.replacen("null", &shown, 1);
            }
            causes.push(cause);
        }
    }
    let nobody =
        spec["user"].as_str().unwrap_or_default().is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    if kind != "SelfSubjectAccessReview" && nobody {
        causes.push(Cause::invalid("spec.user", &json!(""), "at least one of user or group must be specified"));
    }
    if kind == "LocalSubjectAccessReview" {
        let namespace = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        if namespace != call.namespace {
            causes.push(Cause::invalid(
                "spec.resourceAttributes.namespace",
                &json!(namespace),
                "must match metadata.namespace",
            ));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("authorization.k8s.io", "", "", causes)) }
}

fn user_of(spec: &Value) -> User {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(ToOwned::to_owned)).collect()
    };
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        extra: spec["extra"].as_object().into_iter().flatten().map(|(key, list)| (key.clone(), texts(list))).collect(),
    }
}

fn decide(state: &State, user: &User, spec: &Value) -> Decision {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let of = |value: &'_ Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if path.is_object() {
        let (verb, path) = (of(path, "verb"), of(path, "path"));
        return state.access.decide(user, &Attributes { verb: &verb, target: Target::Path(&path) });
    }
    let [verb, group, plural, subresource, name, namespace] =
        ["verb", "group", "resource", "subresource", "name", "namespace"].map(|key| of(resource, key));
    let target = Target::Resource {
        group: &group,
        resource: &plural,
        subresource: &subresource,
        name: &name,
        namespace: &namespace,
    };
    state.access.decide(user, &Attributes { verb: &verb, target })
}

fn info(user: &User) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

/// What a token is bound to must be there.
fn bound(state: &State, call: &Call<'_>, to: &Value) -> Result<(), Status> {
    let text = |field: &str| to[field].as_str().unwrap_or_default();
    let (plural, namespace) = match text("kind") {
        "Pod" => ("pods", call.namespace.as_str()),
        "Secret" => ("secrets", call.namespace.as_str()),
        "Node" => ("nodes", ""),
        _ => return Ok(()),
    };
    let (name, uid) = (text("name"), text("uid"));
    let object = state.store.get(&format!("/{plural}"), namespace, name);
    let object = object.ok_or_else(|| Status::not_found("", plural, name))?;
    if !uid.is_empty() && uid != object.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict("", text("kind"), name, &why));
    }
    Ok(())
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
    bound(state, call, &body["spec"]["boundObjectRef"])?;
    let ends = call.now + jiff::SignedDuration::from_secs(seconds);
    let token = state.tokens.issue(&call.namespace, &call.name, &account.uid, ends, &mut state.random);
    let audiences = match body["spec"]["audiences"].as_array() {
        Some(list) if !list.is_empty() => json!(list),
        Some(_) | None => json!(["https://kubernetes.default.svc.cluster.local"]),
    };
    let mut metadata = json!({"name": call.name, "namespace": call.namespace, "uid": account.uid,
        "creationTimestamp": time::seconds(call.now)});
    let options = WriteOptions::of(call, "CreateOptions", false)?;
    let mut owned = serde_json::Map::new();
    for (key, field) in [("audiences", "f:audiences"), ("expirationSeconds", "f:expirationSeconds")] {
        if body["spec"].get(key).is_some() || key == "expirationSeconds" {
            owned.insert(field.to_owned(), json!({}));
        }
    }
    metadata["managedFields"] = json!([{"manager": options.manager, "operation": "Update",
        "apiVersion": "authentication.k8s.io/v1", "time": time::seconds(call.now), "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": owned}, "subresource": "token"}]);
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": null});
    if body["spec"]["boundObjectRef"].is_object() {
        spec["boundObjectRef"] = body["spec"]["boundObjectRef"].clone();
    }
    let status = json!({"token": token, "expirationTimestamp": time::seconds(ends)});
    Ok(Answer::Other(
        201,
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": metadata, "spec": spec, "status": status}),
    ))
}
