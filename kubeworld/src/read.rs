//! Get, list, and the beginning of a watch.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::api::{Api, State};
use crate::handle::{Answer, Call, List};
use crate::registry::Resource;
use crate::select::{Fields, Labels};
use crate::status::{Cause, Details, Status};
use crate::store::Object;
use crate::watch::{Start, Watch};

/// Which objects somebody wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Selector {
    /// # Errors
    /// 400 where a selector cannot be read, or names a field that cannot be selected by.
    pub(crate) fn of(call: &Call<'_>) -> Result<Self, Status> {
        let labels = Labels::parse(call.query.get("labelSelector"))?;
        let mut fields = Fields::parse(call.query.get("fieldSelector"))?;
        for (field, _, _) in &fields.0 {
            let known = matches!(field.as_str(), "metadata.name" | "metadata.namespace")
                || selectable(&call.resource).iter().any(|own| own == field)
                || call
                    .resource
                    .custom()
                    .is_some_and(|custom| custom.selectable.iter().any(|own| own.dotted() == *field));
            if !known {
                return Err(Status::bad_request(if has_own_labels(&call.resource) {
                    format!("field label not supported: {field}")
                } else {
                    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                }));
            }
        }
        if !call.name.is_empty() {
            if let Some(selected) = fields.exactly("metadata.name")
                && selected != call.name
            {
                return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
            }
            fields.0.push(("metadata.name".to_owned(), call.name.clone(), false));
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.matches(&object.labels)
            && self.fields.matches(|field| match field {
                "metadata.name" => object.name.clone(),
                "metadata.namespace" => object.namespace.clone(),
                other => {
                    let own = object.fields.iter().find(|(name, _)| name == other);
                    own.map(|(_, value)| value.clone()).unwrap_or_default()
                }
            })
    }
}

/// Fields of built-in kinds that selectors may name, as the real server's field label conversions list them.
fn selectable(resource: &Resource) -> &'static [&'static str] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        (_, _) => &[],
    }
}

/// Kinds whose own conversion words the refusal.
fn has_own_labels(resource: &Resource) -> bool {
    resource.custom().is_some() || !selectable(resource).is_empty()
}

/// The values by which an object can be selected.
pub(crate) fn fields_of(resource: &Resource, value: &Value) -> Vec<(Cow<'static, str>, String)> {
    let mut out = Vec::new();
    for field in selectable(resource).iter().copied() {
        let at = |path: &str| path.split('.').fold(value, |at, step| &at[step]).clone();
        let found = match field {
            "status.podIPs" => continue,
            "spec.hostNetwork" | "spec.unschedulable" => json!(at(field) == true),
            "status.replicas" => json!(at(field).as_i64().unwrap_or_default()),
            "status.successful" => json!(at("status.succeeded").as_i64().unwrap_or_default()),
            "source" if at("source.component").is_null() => at("reportingComponent"),
            "source" => at("source.component"),
            path => at(path),
        };
        out.push((Cow::Borrowed(field), as_text(&found)));
    }
    if let Some(custom) = resource.custom() {
        for field in &custom.selectable {
            let found = field.find(value);
            out.push((Cow::Owned(field.dotted()), found.map(as_text).unwrap_or_default()));
        }
    }
    out
}

/// A value as a selector names it.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// One object.
pub(crate) fn get(state: &State, call: &Call<'_>) -> Result<Answer, Status> {
    if let Some(asked) = revision_of(call, "resourceVersion")?
        && asked > state.store.revision()
    {
        return Err(too_large(asked, state.store.revision()));
    }
    let object = state.store.get(&call.resource.table, call.storage_namespace(), &call.name);
    Ok(Answer::Stored(200, object.ok_or_else(|| call.not_found())?))
}

/// A revision in a query; `None` where there is none, 0 for any.
fn revision_of(call: &Call<'_>, key: &str) -> Result<Option<u64>, Status> {
    match call.query.get(key) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let cause =
                Cause::invalid(key, &json!(text), &format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
            let message = format!("{}: {}", cause.field, cause.message);
            let is_list = call.name.is_empty() && !call.query.flag("watch");
            if is_list {
                Status::bad_request(format!("invalid resource version: {message}"))
            } else {
                Status::unclassified(message)
            }
        }),
    }
}

fn check_options(call: &Call<'_>, watch: bool) -> Result<(), Status> {
    let query = &call.query;
    let mut causes = Vec::new();
    let matching = query.get("resourceVersionMatch");
    let initial = query.has("sendInitialEvents");
    if watch && initial {
        if matching != "NotOlderThan" {
            causes.push(Cause::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
            if !matching.is_empty() {
                causes.push(Cause::not_supported("resourceVersionMatch", &json!(matching), &["NotOlderThan"]));
            }
        }
    } else if watch && !matching.is_empty() {
        causes.push(Cause::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    } else if !watch && initial {
        causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    } else if !matching.is_empty() {
        let revision = query.get("resourceVersion");
        if revision.is_empty() {
            causes.push(Cause::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if query.has("continue") {
            causes.push(Cause::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.push(Cause::not_supported("resourceVersionMatch", &json!(matching), &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && revision == "0" {
            causes.push(Cause::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes)) }
}

/// 504: a revision that is not there yet.
fn too_large(asked: u64, current: u64) -> Status {
    let message = format!("Too large resource version: {asked}, current: {current}");
    Status {
        code: 504,
        reason: "Timeout",
        message: format!("Timeout: {message}"),
        details: Some(Box::new(Details {
            causes: vec![Cause {
                reason: "ResourceVersionTooLarge",
                message: "Too large resource version".to_owned(),
                field: String::new(),
            }],
            retry_after_seconds: 1,
            ..Details::default()
        })),
    }
}

/// 410: a revision that is forgotten.
pub(crate) fn expired(message: impl Into<String>) -> Status {
    Status { code: 410, reason: "Expired", message: message.into(), details: None }
}

/// The list that was asked for.
pub(crate) fn list(state: &State, call: &Call<'_>) -> Result<List, Status> {
    check_options(call, false)?;
    let selector = Selector::of(call)?;
    call.query.number("timeoutSeconds")?;
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or_default()).unwrap_or_default();
    let current = state.store.revision();
    let asked = revision_of(call, "resourceVersion")?;
    let (table, namespace) = (call.resource.table.as_str(), call.storage_namespace());
    let mut from = None;
    let mut at = None;
    if call.query.has("continue") && !call.query.get("continue").is_empty() {
        if asked.is_some_and(|asked| asked != 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let (revision, key) = parse_continue(call.query.get("continue"))?;
        from = Some(key);
        at = Some(revision);
    } else if let Some(asked) = asked
        && asked > current
    {
        return Err(too_large(asked, current));
    } else if let Some(asked) = asked
        && (call.query.get("resourceVersionMatch") == "Exact"
            || (limit > 0 && asked != 0 && !call.query.has("resourceVersionMatch")))
    {
        at = Some(asked);
    }
    let all: Vec<Arc<Object>> = match at {
        Some(at) if at != current => state.store.list_at(table, namespace, at).ok_or_else(|| {
            expired(if from.is_some() {
                "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter, or use the continue token in this response to retrieve the \
                 remainder of the results. Continuing with the provided token results in an inconsistent list - \
                 objects that were created, modified, or deleted between the time the first chunk was returned and \
                 now may show up in the list."
            } else {
                "The resourceVersion for the provided list is too old."
            })
        })?,
        Some(_) | None => state.store.list(table, namespace).cloned().collect(),
    };
    let revision = at.unwrap_or(current);
    let mut items: Vec<Arc<Object>> = all
        .into_iter()
        .filter(|object| from.as_ref().is_none_or(|from| object.key() >= *from))
        .filter(|object| selector.matches(object))
        .collect();
    let (mut next, mut remaining) = (None, None);
    if limit > 0 && items.len() > limit {
        let rest = items.split_off(limit);
        // From right behind the last one of this page.
        let start = items.last().map(|last| format!("{}\0", last.key())).unwrap_or_default();
        next = Some(write_continue(revision, &start));
        remaining = selector.is_empty().then_some(rest.len());
    }
    Ok(List { items, revision, next, remaining })
}

fn write_continue(revision: u64, start: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start}).to_string())
}

fn parse_continue(token: &str) -> Result<(u64, String), Status> {
    let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|error| bad(&error.to_string()))?;
    let value: Value = crate::decode::json(&bytes).map_err(|error| bad(&error))?.value;
    match (value["v"].as_str(), value["rv"].as_u64(), value["start"].as_str()) {
        (Some("meta.k8s.io/v1"), Some(revision), Some(start)) => Ok((revision, start.to_owned())),
        (Some("meta.k8s.io/v1"), _, _) => Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        (other, _, _) => {
            Err(bad(&format!("server does not recognize this encoded version {:?}", other.unwrap_or_default())))
        }
    }
}

/// A watch from where the request says.
pub(crate) fn watch(api: &Arc<Api>, call: &Call<'_>) -> Result<Watch, Status> {
    if !call.resource.verbs.iter().any(|verb| verb == "watch") {
        return Err(crate::handle::method_not_allowed());
    }
    check_options(call, true)?;
    let selector = Selector::of(call)?;
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let initial = call.query.has("sendInitialEvents").then(|| call.query.flag("sendInitialEvents"));
    let start = match (revision_of(call, "resourceVersion")?, initial) {
        (_, Some(true)) => Start::Now { mark_end: bookmarks },
        (None | Some(0), Some(false)) => Start::Silent,
        (None | Some(0), None) => Start::Now { mark_end: false },
        (Some(revision), Some(false) | None) => Start::After(revision),
    };
    let seconds = call.query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    Watch::new(api, call, selector, start, bookmarks, seconds)
}
