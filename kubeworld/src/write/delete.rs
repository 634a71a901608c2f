//! `DELETE`: at once, or when its finalizers and its grace are over; and what becomes of what it owns.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::body::{content_type, parse_body};
use super::{commit, metadata, take_away};
use crate::api::State;
use crate::handle::{Answer, Call};
use crate::registry::Resource;
use crate::status::{Cause, Status};
use crate::{admission, convert, decode, read, special, time};

/// The options of a delete.
#[derive(Clone, Debug, Default)]
struct DeleteOptions {
    dry_run: bool,
    grace: Option<i64>,
    policy: Option<String>,
    orphan: Option<bool>,
    uid: Option<String>,
    revision: Option<String>,
}

impl DeleteOptions {
    fn says_nothing_of_others(&self) -> bool {
        self.policy.is_none() && self.orphan.is_none()
    }

    fn of(call: &Call<'_>) -> Result<Self, Status> {
        let mut out = Self::default();
        let mut dry_run: Vec<String> = Vec::new();
        if call.body.is_empty() {
            let query = &call.query;
            out.grace = query.number("gracePeriodSeconds")?;
            out.policy = Some(query.get("propagationPolicy").to_owned()).filter(|policy| !policy.is_empty());
            out.orphan = query.has("orphanDependents").then(|| query.flag("orphanDependents"));
            dry_run = query.all("dryRun").to_vec();
        } else {
            let bad = |error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"));
            let body = match content_type(call) {
                "" | "application/json" => decode::json(call.body).map_err(bad)?.value,
                _ => parse_body(call, "DeleteOptions")?.value,
            };
            let kind = body["kind"].as_str().unwrap_or_default();
            if !matches!(kind, "" | "DeleteOptions") {
                let version = body["apiVersion"].as_str().unwrap_or("v1");
                return Err(Status::bad_request(format!(
                    "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
                )));
            }
            out.grace = body["gracePeriodSeconds"].as_i64();
            out.policy = body["propagationPolicy"].as_str().map(ToOwned::to_owned);
            out.orphan = body["orphanDependents"].as_bool();
            out.uid = body["preconditions"]["uid"].as_str().map(ToOwned::to_owned);
            out.revision = body["preconditions"]["resourceVersion"].as_str().map(ToOwned::to_owned);
            dry_run.extend(
                body["dryRun"].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(ToOwned::to_owned)),
            );
        }
        let mut causes = Vec::new();
        if out.policy.is_some() && out.orphan.is_some() {
            causes.push(Cause::invalid(
                "propagationPolicy",
                &json!(out.policy),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(policy) = &out.policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            causes.push(Cause::not_supported(
                "propagationPolicy",
                &json!(policy),
                &["Foreground", "Background", "Orphan", "nil"],
            ));
        }
        if let Some(other) = dry_run.iter().find(|one| *one != "All") {
            causes.push(Cause::not_supported("dryRun", &json!([other]), &["All"]));
        }
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", causes));
        }
        out.dry_run = !dry_run.is_empty();
        Ok(out)
    }
}

/// `DELETE` of an object.
pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = DeleteOptions::of(call)?;
    delete_one(state, call, &call.name, &options)
}

const ORPHAN: &str = "orphan";

const FOREGROUND: &str = "foregroundDeletion";

/// Kinds from before there was a garbage collector, whose pods stay unless somebody says otherwise.
fn orphans_by_default(object: &Value) -> bool {
    matches!(
        (object["apiVersion"].as_str(), object["kind"].as_str()),
        (Some("batch/v1"), Some("Job")) | (Some("v1"), Some("ReplicationController"))
    )
}

/// Finalizers after a delete with these options.
fn finalizers_for(object: &Value, options: &DeleteOptions) -> Vec<String> {
    let own: Vec<String> = object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|finalizer| finalizer.as_str().map(ToOwned::to_owned))
        .collect();
    let has = |name: &str| own.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match (options.orphan, options.policy.as_deref()) {
        (Some(orphan), _) => (orphan, false),
        (None, Some("Orphan")) => (true, false),
        (None, Some("Foreground")) => (false, true),
        (None, Some(_)) => (false, false),
        // What is in the object says it.
        (None, None) => {
            (has(ORPHAN) || (orphans_by_default(object) && !has(FOREGROUND)), has(FOREGROUND) && !has(ORPHAN))
        }
    };
    let mut out: Vec<String> =
        own.iter().filter(|finalizer| !matches!(finalizer.as_str(), ORPHAN | FOREGROUND)).cloned().collect();
    if orphan {
        out.push(ORPHAN.to_owned());
    }
    if foreground {
        out.push(FOREGROUND.to_owned());
    }
    out
}

fn delete_one(state: &mut State, call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<Answer, Status> {
    if call.resource.group == "batch" && call.resource.plural == "jobs" && options.says_nothing_of_others() {
        call.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning",
        );
    }
    let resource = call.resource.clone();
    let namespace = call.storage_namespace();
    let stored = state
        .store
        .get(&resource.table, namespace, name)
        .ok_or_else(|| Status::not_found(&resource.group, &resource.plural, name))?;
    let old = resource.value(&stored);
    let precondition = |what: &str, wanted: &str, own: &str, happened: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({own}). The object might \
             have been {happened}"
        );
        Status::conflict(&resource.group, &resource.kind, name, &why)
    };
    if let Some(uid) = &options.uid
        && *uid != stored.uid
    {
        return Err(precondition("UID", uid, &stored.uid, "deleted and then recreated"));
    }
    if let Some(revision) = &options.revision
        && *revision != stored.revision.to_string()
    {
        return Err(precondition("ResourceVersion", revision, &stored.revision.to_string(), "modified"));
    }
    admission::before_delete(state, call, &old)?;
    if let Some(answer) = special::delete(state, call, &old, options.dry_run)? {
        return Ok(answer);
    }
    let mut new = old.clone();
    // Pods end in their own time; everything else at once.
    let grace = special::grace(&resource, &old, options.grace);
    let deleting = old["metadata"]["deletionTimestamp"].is_string();
    if let Some(grace) = grace
        && deleting
    {
        let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        // A grace period can only become shorter.
        if before > 0 && grace >= before {
            return Ok(deleted(&resource, &stored.uid, old, false));
        }
    }
    let finalizers = finalizers_for(&old, options);
    let graceful = grace.is_some_and(|grace| grace > 0)
        && !(deleting && old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0);
    if finalizers.is_empty() && !graceful {
        let stored_value = old.clone();
        let mut last = old;
        if grace.is_some() {
            // A pod ends through an update that says so, even when it has no time.
            mark_deleting(&mut last, 0, call.now);
        }
        if !options.dry_run {
            if grace.is_some() && last != stored_value {
                commit(state, &resource, last.clone(), Map::new(), call.now);
            }
            take_away(state, &resource, namespace, name, call.now);
            // What is answered is what watches see: the object at the revision that took it away.
            metadata(&mut last).insert("resourceVersion".to_owned(), json!(state.store.revision().to_string()));
        }
        return Ok(deleted(&resource, &stored.uid, last, true));
    }
    let fields = metadata(&mut new);
    if finalizers.is_empty() {
        fields.remove("finalizers");
    } else {
        fields.insert("finalizers".to_owned(), json!(finalizers));
    }
    let seconds = if graceful { grace.unwrap_or_default() } else { 0 };
    if !deleting || graceful {
        mark_deleting(&mut new, seconds, call.now);
    } else {
        metadata(&mut new).insert("deletionGracePeriodSeconds".to_owned(), json!(seconds));
    }
    if (new == old && stored.emptied.is_empty()) || options.dry_run {
        return Ok(deleted(&resource, &stored.uid, new, false));
    }
    let new = convert::value(&resource, &commit(state, &resource, new, Map::new(), call.now));
    Ok(deleted(&resource, &stored.uid, new, false))
}

/// From now on an object is being deleted, with so many seconds to end.
fn mark_deleting(object: &mut Value, seconds: i64, now: Timestamp) {
    let fields = metadata(object);
    if !fields.contains_key("deletionTimestamp") {
        let generation = fields.get("generation").and_then(Value::as_i64).unwrap_or_default();
        if generation > 0 {
            fields.insert("generation".to_owned(), json!(generation + 1));
        }
    }
    fields.insert("deletionTimestamp".to_owned(), json!(time::seconds(now + jiff::SignedDuration::from_secs(seconds))));
    fields.insert("deletionGracePeriodSeconds".to_owned(), json!(seconds));
}

/// The answer to a delete: the object where it is still there or its kind answers so, else a status.
fn deleted(resource: &Resource, uid: &str, object: Value, gone: bool) -> Answer {
    let whole = matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("", "resourcequotas" | "persistentvolumes" | "serviceaccounts" | "persistentvolumeclaims")
            | ("", "pods" | "services" | "podtemplates" | "namespaces")
            | ("storage.k8s.io" | "resource.k8s.io", _)
    );
    if !gone || whole {
        let mut object = object;
        convert::from_stored(resource, &mut object);
        return Answer::Value(200, object);
    }
    let name = object["metadata"]["name"].clone();
    let mut details = json!({"name": name, "kind": resource.plural, "uid": uid});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    Answer::Other(
        200,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    )
}

/// `DELETE` of what a selector selects.
pub(crate) fn delete_collection(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    let options = DeleteOptions::of(call)?;
    let list = read::list(state, call)?;
    let one_by_one = DeleteOptions { uid: None, revision: None, ..options };
    for object in &list.items {
        match delete_in(state, call, &object.namespace, &object.name, &one_by_one) {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Answer::List(crate::handle::List { next: None, remaining: None, ..list }))
}

fn delete_in(
    state: &mut State,
    call: &Call<'_>,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Answer, Status> {
    let within = Call {
        namespace: if call.resource.namespaced { namespace.to_owned() } else { call.namespace.clone() },
        name: name.to_owned(),
        query: call.query.clone(),
        resource: call.resource.clone(),
        subresource: String::new(),
        warnings: std::cell::RefCell::default(),
        ..*call
    };
    delete_one(state, &within, name, options)
}
