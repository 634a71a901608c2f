//! How controllers write: as clients, each under the name of the real one.

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use super::{Controller, Key, Work, cache};
use crate::api::{Reply, User};
use crate::kinds::fields::{at, list, text};
use crate::registry::Resource;

/// Which program speaks; its name is the field manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    ControllerManager,
    Scheduler,
    Kubelet,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
        }
    }
}

/// A request that was refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) message: String,
}

/// What kinds of objects the controllers make, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

macro_rules! places {
    ($($name:ident: $group:literal $version:literal $kind:literal $plural:literal;)*) => {
        $(pub(super) const $name: Place = Place { group: $group, version: $version, kind: $kind, plural: $plural };)*
    };
}

places! {
    POD: "" "v1" "Pod" "pods";
    NODE: "" "v1" "Node" "nodes";
    SERVICE: "" "v1" "Service" "services";
    NAMESPACE: "" "v1" "Namespace" "namespaces";
    ACCOUNT: "" "v1" "ServiceAccount" "serviceaccounts";
    CONFIG_MAP: "" "v1" "ConfigMap" "configmaps";
    ENDPOINTS: "" "v1" "Endpoints" "endpoints";
    EVENT: "" "v1" "Event" "events";
    SLICE: "discovery.k8s.io" "v1" "EndpointSlice" "endpointslices";
    DEPLOYMENT: "apps" "v1" "Deployment" "deployments";
    REPLICA_SET: "apps" "v1" "ReplicaSet" "replicasets";
    STATEFUL_SET: "apps" "v1" "StatefulSet" "statefulsets";
    DAEMON_SET: "apps" "v1" "DaemonSet" "daemonsets";
    REVISION: "apps" "v1" "ControllerRevision" "controllerrevisions";
    JOB: "batch" "v1" "Job" "jobs";
    CRON_JOB: "batch" "v1" "CronJob" "cronjobs";
    CLAIM: "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims";
    VOLUME: "" "v1" "PersistentVolume" "persistentvolumes";
    CLASS: "storage.k8s.io" "v1" "StorageClass" "storageclasses";
    CLUSTER_ROLE: "rbac.authorization.k8s.io" "v1" "ClusterRole" "clusterroles";
    BUDGET: "policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets";
    LEASE: "coordination.k8s.io" "v1" "Lease" "leases";
}

impl Place {
    pub(super) fn api_version(self) -> String {
        crate::registry::api_version(self.group, self.version)
    }

    pub(super) fn kind(self) -> &'static str {
        self.kind
    }
}

fn path(group: &str, version: &str, plural: &str, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    for part in [if namespace.is_empty() { "" } else { "namespaces" }, namespace, plural, name, subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(part);
        }
    }
    path
}

impl Work {
    /// A request, and what came of it. The cache knows of it when this returns.
    fn request(
        &mut self,
        program: Program,
        method: Method,
        path: &str,
        content: &'static str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let user = User {
            name: format!("system:{}", program.name()),
            // What the real ones may do by many roles of their own.
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            ..User::default()
        };
        let uri = format!("{path}?fieldManager={}", program.name());
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, content)
            .body(body)
            .map_err(|why| Refusal { code: 400, message: why.to_string() })?;
        let answer = match self.api.handle(&request, &user, self.now) {
            Reply::Whole(answer) => answer,
            Reply::Watch(_) => return Err(Refusal { code: 500, message: "an answer that does not end".to_owned() }),
        };
        let code = answer.status().as_u16();
        let value: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        self.follow();
        if code < 400 {
            return Ok(value);
        }
        let message = text(&value, "message").to_owned();
        // 404 and 409 are the usual way to learn that somebody else was faster.
        if code != 404 && code != 409 {
            tracing::warn!(%path, code, message, "a controller's request was refused");
        }
        Err(Refusal { code, message })
    }

    pub(super) fn create(&mut self, by: Program, place: Place, object: &Value) -> Result<Value, Refusal> {
        let namespace = text(at(object, &["metadata"]), "namespace").to_owned();
        let path = path(place.group, place.version, place.plural, &namespace, "", "");
        let mut object = object.clone();
        object["kind"] = place.kind.into();
        object["apiVersion"] = place.api_version().into();
        self.request(by, Method::POST, &path, "application/json", &object)
    }

    /// Replaces an object, or its `status` or another part.
    pub(super) fn update(
        &mut self,
        by: Program,
        place: Place,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, Refusal> {
        let meta = at(object, &["metadata"]);
        let path =
            path(place.group, place.version, place.plural, text(meta, "namespace"), text(meta, "name"), subresource);
        let mut object = object.clone();
        object["kind"] = place.kind.into();
        object["apiVersion"] = place.api_version().into();
        self.request(by, Method::PUT, &path, "application/json", &object)
    }

    /// Posts to a subresource.
    pub(super) fn post(
        &mut self,
        by: Program,
        place: Place,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let path = path(place.group, place.version, place.plural, namespace, name, subresource);
        self.request(by, Method::POST, &path, "application/json", body)
    }

    /// Merges into an object of any resource.
    pub(super) fn merge(
        &mut self,
        by: Program,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let path = path(&resource.group, &resource.version, &resource.plural, namespace, name, "");
        self.request(by, Method::PATCH, &path, "application/merge-patch+json", patch)
    }

    /// Deletes an object of any resource, if it is still the same.
    pub(super) fn delete(
        &mut self,
        by: Program,
        resource: &Resource,
        namespace: &str,
        name: &str,
        uid: &str,
        options: &Value,
    ) -> Result<Value, Refusal> {
        let path = path(&resource.group, &resource.version, &resource.plural, namespace, name, "");
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if !uid.is_empty() {
            body["preconditions"] = json!({"uid": uid});
        }
        for (key, value) in options.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.request(by, Method::DELETE, &path, "application/json", &body)
    }

    /// Deletes an object of a kind that the controllers know.
    pub(super) fn delete_at(
        &mut self,
        by: Program,
        place: Place,
        object: &Value,
        options: &Value,
    ) -> Result<Value, Refusal> {
        let meta = at(object, &["metadata"]);
        let path = path(place.group, place.version, place.plural, text(meta, "namespace"), text(meta, "name"), "");
        let mut body =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": text(meta, "uid")}});
        for (key, value) in options.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.request(by, Method::DELETE, &path, "application/json", &body)
    }

    /// Deletes an event.
    pub(super) fn delete_event(&mut self, namespace: &str, name: &str) -> Result<Value, Refusal> {
        let path = path("", "v1", "events", namespace, name, "");
        self.request(Program::ControllerManager, Method::DELETE, &path, "application/json", &Value::Null)
    }

    /// Tells what happened to an object; the same thing again raises a count.
    pub(super) fn tell(
        &mut self,
        component: &str,
        place: Place,
        object: &Value,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        let meta = at(object, &["metadata"]);
        let uid = text(meta, "uid");
        let namespace = match text(meta, "namespace") {
            "" => "default",
            namespace => namespace,
        };
        let now = self.time();
        let key = (uid.to_owned(), reason.to_owned(), message.to_owned());
        if let Some((name, count)) = self.told.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": now});
            let path = path("", "v1", "events", namespace, name, "");
            let by = Program::ControllerManager;
            if self.request(by, Method::PATCH, &path, "application/merge-patch+json", &patch).is_ok() {
                return;
            }
        }
        self.events += 1;
        let nanos = self.now.as_nanosecond();
        let name = format!("{}.{:x}", text(meta, "name"), nanos + i128::from(self.events));
        let event = json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "kind": place.kind, "apiVersion": place.api_version(), "namespace": text(meta, "namespace"),
                "name": text(meta, "name"), "uid": uid, "resourceVersion": text(meta, "resourceVersion"),
            },
            "reason": reason, "message": message, "type": kind, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": component}, "reportingComponent": component, "reportingInstance": "",
        });
        if self.create(Program::ControllerManager, EVENT, &event).is_ok() {
            self.told.insert(key, (name, 1));
        }
    }
}

/// Events are kept for an hour (`--event-ttl` of kube-apiserver).
const EVENTS_FOR: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Deletes events that are too old.
pub(super) fn forget_events(work: &mut Work) {
    let limit = work.now - EVENTS_FOR;
    let old: Vec<(String, String)> = {
        let state = work.api.state();
        let events = state.store.list(cache::EVENTS, "");
        events
            .filter_map(|event| {
                let value = event.value();
                let last = ["lastTimestamp", "eventTime", "firstTimestamp"]
                    .iter()
                    .find_map(|key| text(&value, key).parse::<jiff::Timestamp>().ok());
                let last = last.or_else(|| text(at(&value, &["metadata"]), "creationTimestamp").parse().ok())?;
                (last < limit).then(|| (event.namespace.clone(), event.name.clone()))
            })
            .collect()
    };
    for (namespace, name) in old {
        let path = path("", "v1", "events", &namespace, &name, "");
        let gone = work.request(Program::ControllerManager, Method::DELETE, &path, "application/json", &Value::Null);
        if gone.is_ok() {
            work.told.retain(|_, (told, _)| *told != name);
        }
    }
    let next = work.now + jiff::SignedDuration::from_mins(1);
    work.timers.insert((next, Key::new(Controller::Events, "", "")));
}

/// Sets a condition as the real controllers do: the time of the transition stays if the status does. True if it changed.
pub(super) fn set_condition(status: &mut Value, condition: Value) -> bool {
    let kind = text(&condition, "type").to_owned();
    let before = list(status, "conditions").iter().find(|it| text(it, "type") == kind).cloned();
    let same = |key: &str| before.as_ref().is_some_and(|before| before.get(key) == condition.get(key));
    let same_status = same("status");
    if same_status && same("reason") && same("message") {
        return false;
    }
    let mut condition = condition;
    if same_status && let Some(before) = &before {
        condition["lastTransitionTime"] = at(before, &["lastTransitionTime"]).clone();
    }
    let mut conditions: Vec<Value> = list(status, "conditions").to_vec();
    conditions.retain(|it| text(it, "type") != kind);
    conditions.push(condition);
    status["conditions"] = conditions.into();
    true
}

/// A condition's status, or `""`.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    const NULL: &Value = &Value::Null;
    list(at(object, &["status"]), "conditions").iter().find(|it| text(it, "type") == kind).unwrap_or(NULL)
}
