//! What follows from a change of a definition at once: its names are looked at, its kind is served, and when it goes, so
//! do its objects.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::establish::{self, Condition, set_condition};
use crate::api::State;
use crate::fields::FieldSet;
use crate::handle::{Answer, Call};
use crate::kinds::fields::{at, list, text};
use crate::managed::{self, By, Managed, Reset};
use crate::registry::{Registry, Resource};
use crate::status::Status;
use crate::store::{Index, Object};
use crate::{time, write};

/// The finalizer that keeps a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const TABLE: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// Whether a resource is that of definitions.
pub(crate) fn is_definition(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

/// The first `DELETE` of a definition: it stays until its objects are gone. Nothing where it is being deleted already.
pub(crate) fn delete(state: &mut State, call: &Call<'_>, old: &Value, dry_run: bool) -> Result<Option<Answer>, Status> {
    if old["metadata"]["deletionTimestamp"].is_string() {
        return Ok(None);
    }
    let mut new = old.clone();
    new["metadata"]["deletionTimestamp"] = time::seconds(call.now).into();
    let mut finalizers = list(&new["metadata"], "finalizers").to_vec();
    if !finalizers.iter().any(|one| one == CLEANUP) {
        finalizers.push(json!(CLEANUP));
    }
    new["metadata"]["finalizers"] = json!(finalizers);
    let condition = Condition {
        kind: "Terminating",
        status: "True",
        reason: "InstanceDeletionPending",
        message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    };
    set_condition(&mut new, &condition, &time::seconds(call.now));
    if dry_run {
        return Ok(Some(Answer::Value(200, new)));
    }
    let object = state.store.put(TABLE, new, Index::default(), call.now);
    let answer = call.resource.value(&object);
    state.changed(&call.resource, &object, false, call.now);
    Ok(Some(Answer::Value(200, answer)))
}

impl State {
    /// What follows from a change of a definition.
    pub(crate) fn definition_changed(&mut self, resource: &Resource, object: &Object, deleted: bool, now: Timestamp) {
        if deleted {
            self.serve(&object.name, None);
        } else {
            self.complete(resource, &object.name, now);
            self.end_definition(&object.name, now);
        }
        // Names that it held may be free now.
        let others: Vec<String> = self.store.list(TABLE, "").map(|other| other.name.clone()).collect();
        for other in others.iter().filter(|other| **other != object.name) {
            self.complete(resource, other, now);
        }
    }

    fn serve(&mut self, name: &str, definition: Option<&Value>) {
        let revision = self.store.revision();
        if self.customs.take(name, definition, revision) {
            self.registry = Registry::with(&self.customs.all()).into();
        }
    }

    /// Brings a definition to where it can get, write by write.
    fn complete(&mut self, resource: &Resource, name: &str, now: Timestamp) {
        let Some(object) = self.store.get(TABLE, "", name) else { return };
        let mut definition = resource.value(&object);
        let others: Vec<Value> = self.store.list(TABLE, "").map(|other| other.value()).collect();
        if let Some(next) = establish::name(&definition, &others, &time::seconds(now)) {
            definition = self.write_status(resource, &definition, next, now);
        }
        if let Some(next) = establish::establish(&definition, &time::seconds(now)) {
            definition = self.write_status(resource, &definition, next, now);
        }
        self.serve(name, Some(&definition));
    }

    /// Writes a status as the server's own client does, which owns what it writes.
    fn write_status(&mut self, resource: &Resource, old: &Value, mut new: Value, now: Timestamp) -> Value {
        if let Some(typed) = resource.typed() {
            let bare = |value: &Value| {
                let mut value = value.clone();
                if let Some(metadata) = value["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                }
                value
            };
            let version = resource.api_version();
            let by = By { manager: "kube-apiserver", version: &version, subresource: "status", now };
            let entries = Managed::decode(&old["metadata"]["managedFields"]).unwrap_or_default();
            let reset = Reset(FieldSet::of(&[&["spec"]]));
            let entries = managed::updated(typed, &bare(old), &bare(&new), &entries, &by, &reset, false);
            entries.write(&mut new);
        }
        let object = self.store.put(TABLE, new, Index::default(), now);
        resource.value(&object)
    }

    /// A definition that is being deleted goes when its objects have gone.
    pub(crate) fn end_definition(&mut self, name: &str, now: Timestamp) {
        let Some(resource) = self.registry.find(GROUP, "v1", PLURAL).cloned() else { return };
        let Some(object) = self.store.get(TABLE, "", name) else { return };
        let mut definition = resource.value(&object);
        let waits = list(&definition["metadata"], "finalizers").iter().any(|one| one == CLEANUP);
        if !definition["metadata"]["deletionTimestamp"].is_string() || !waits {
            return;
        }
        let mut terminating = |state: &mut Self, status: &str, reason: &str, message: &str| {
            let condition = Condition { kind: "Terminating", status, reason, message };
            let mut next = definition.clone();
            set_condition(&mut next, &condition, &time::seconds(now));
            if next != definition {
                definition = state.write_status(&resource, &definition, next, now);
            }
        };
        terminating(self, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
        let established = establish::has_condition(&resource.value(&object), "Established");
        if established {
            let spec = resource.value(&object)["spec"].clone();
            let own = format!("{}/{}", text(&spec, "group"), text(at(&spec, &["names"]), "plural"));
            self.delete_all(&own, now);
            if self.store.count(&own) > 0 {
                return;
            }
        }
        let Some(object) = self.store.get(TABLE, "", name) else { return };
        let mut definition = resource.value(&object);
        let finalizers: Vec<Value> =
            list(&definition["metadata"], "finalizers").iter().filter(|one| *one != CLEANUP).cloned().collect();
        if finalizers.is_empty() {
            write::take_away(self, &resource, "", name, now);
            return;
        }
        definition["metadata"]["finalizers"] = json!(finalizers);
        let (reason, message) = if established {
            ("InstanceDeletionCompleted", "removed all instances")
        } else {
            ("NeverEstablished", "resource was never established")
        };
        let condition = Condition { kind: "Terminating", status: "False", reason, message };
        set_condition(&mut definition, &condition, &time::seconds(now));
        let old = resource.value(&object);
        self.write_status(&resource, &old, definition, now);
    }

    /// Deletes all objects of a kind; those with finalizers are only marked.
    fn delete_all(&mut self, table: &str, now: Timestamp) {
        let objects: Vec<_> = self.store.list(table, "").cloned().collect();
        for object in objects {
            let mut value = object.value();
            if list(&value["metadata"], "finalizers").is_empty() {
                self.store.remove(table, &object.namespace, &object.name, now);
            } else if value["metadata"]["deletionTimestamp"].is_null() {
                value["metadata"]["deletionTimestamp"] = time::seconds(now).into();
                value["metadata"]["deletionGracePeriodSeconds"] = json!(0);
                let generation = value["metadata"]["generation"].as_i64().unwrap_or_default();
                value["metadata"]["generation"] = json!(generation + 1);
                self.store.put(table, value, Index::of(object.fields.clone()), now);
            }
        }
    }
}
