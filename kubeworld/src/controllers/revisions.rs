//! ControllerRevisions: the templates that a StatefulSet or a DaemonSet had, by number.

use serde_json::{Value, json};

use super::server::{Place, Program, REVISION};
use super::templates::{controller_ref, hash, owned};
use super::{Work, cache};
use crate::kinds::fields::{at, integer, text};

/// The label of pods that names their revision.
pub(super) const LABEL: &str = "controller-revision-hash";

/// The label of a StatefulSet's revisions that holds their hash; a DaemonSet's have [`LABEL`] itself.
const OWN_LABEL: &str = "controller.kubernetes.io/hash";

/// A DaemonSet's count of its templates, which its revisions repeat.
const GENERATION: &str = "deprecated.daemonset.template.generation";

fn hash_label(place: Place) -> &'static str {
    if place.kind() == "DaemonSet" { LABEL } else { OWN_LABEL }
}

/// The revision of the owner's template, made if there is none, and all others, the oldest first.
pub(super) fn current(work: &mut Work, place: Place, owner: &Value) -> Option<(Value, Vec<Value>)> {
    let mut all = owned(work, cache::REVISIONS, owner);
    all.sort_by_key(|revision| integer(revision, "revision"));
    let data = data_of(owner);
    let newest = all.iter().filter_map(|revision| integer(revision, "revision")).max().unwrap_or_default();
    if let Some(at_index) = all.iter().position(|revision| at(revision, &["data"]) == &data) {
        let mut revision = all.remove(at_index);
        if integer(&revision, "revision") != Some(newest) {
            // The template is one of old: its number becomes the newest.
            revision["revision"] = (newest + 1).into();
            revision = work.update(Program::ControllerManager, REVISION, "", &revision).ok()?;
        }
        return Some((revision, all));
    }
    let meta = at(owner, &["metadata"]);
    let template = at(owner, &["spec", "template"]);
    let collisions = integer(at(owner, &["status"]), "collisionCount").unwrap_or_default();
    let hash = hash(template, collisions);
    let mut labels = at(template, &["metadata", "labels"]).clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels[hash_label(place)] = hash.clone().into();
    let mut revision = json!({
        "metadata": {"name": format!("{}-{hash}", text(meta, "name")), "namespace": text(meta, "namespace"),
            "labels": labels, "ownerReferences": [controller_ref(place, owner)]},
        "data": data, "revision": newest + 1,
    });
    let generation = text(at(meta, &["annotations"]), GENERATION);
    if !generation.is_empty() {
        revision["metadata"]["annotations"] = json!({GENERATION: generation});
    }
    let made = work.create(Program::ControllerManager, REVISION, &revision).ok()?;
    Some((made, all))
}

fn data_of(owner: &Value) -> Value {
    let mut template = at(owner, &["spec", "template"]).clone();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template of a revision.
pub(super) fn template(revision: &Value) -> Value {
    let mut template = at(revision, &["data", "spec", "template"]).clone();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    template
}

/// What pods of a StatefulSet's revision are labelled with: its name. A DaemonSet's have the hash alone.
pub(super) fn short(revision: &Value) -> &str {
    let labels = at(revision, &["metadata", "labels"]);
    match text(labels, LABEL) {
        "" => text(labels, OWN_LABEL),
        hash => hash,
    }
}

/// Deletes old revisions beyond the limit that no pod has.
pub(super) fn forget(work: &mut Work, owner: &Value, old: &[Value], live: &[String]) {
    let limit = integer(at(owner, &["spec"]), "revisionHistoryLimit").unwrap_or(10);
    let unused: Vec<&Value> = old
        .iter()
        .filter(|revision| {
            let name = text(at(revision, &["metadata"]), "name");
            !live.iter().any(|one| one == name || one == short(revision))
        })
        .collect();
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in unused.into_iter().take(surplus) {
        let _gone = work.delete_at(Program::ControllerManager, REVISION, revision, &Value::Null);
    }
}

/// The revisions that pods name.
pub(super) fn live(pods: &[Value]) -> Vec<String> {
    let mut out: Vec<String> = pods
        .iter()
        .map(|pod| text(at(pod, &["metadata", "labels"]), LABEL).to_owned())
        .filter(|label| !label.is_empty())
        .collect();
    out.sort();
    out.dedup();
    out
}
