//! Fields of our objects that are left to others, see [`policies::plan::fields`] and [`crate::fields`].

use std::collections::BTreeSet;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use policies::plan::fields::{self, REPLICAS};
use policies::plan::{Adopt, GroupKind, Mark, ObjectId, Seen};
use policies::time::Instant;
use serde_json::Value;

use super::{Applier, Pass, api, as_json, bounded, prepared, reads, see};
use crate::core::Failure;
use crate::fields::{HANDOVER, Ownership, handover, without};
use crate::kinds::Kind;
use crate::names;
use crate::render::Object;

impl Applier {
    /// What autoscalers target: those of these namespaces, and those that the render brings. Not asked when no object of
    /// the render can have replicas. An error is one: to take it for "none" would scale a workload back to what was
    /// written.
    pub(super) async fn autoscaled(
        &self,
        w: &Pass<'_>,
        namespaces: &BTreeSet<String>,
    ) -> Result<BTreeSet<ObjectId>, Failure> {
        let mut targets = BTreeSet::new();
        let scalable = |object: &Object| object.kind.group == "apps" || object.json.pointer(REPLICAS).is_some();
        if !w.objects.values().any(scalable) {
            return Ok(targets);
        }
        for (id, object) in w.objects.iter().filter(|(id, _)| id.kind == GroupKind::new("autoscaling", HPA)) {
            let text = |field: &str| {
                let found = object.json.pointer(&format!("/spec/scaleTargetRef/{field}")).and_then(Value::as_str);
                found.unwrap_or_default().to_owned()
            };
            targets.insert(target(&text("apiVersion"), text("kind"), text("name"), id.namespace.clone()));
        }
        for namespace in namespaces {
            let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(self.own(), namespace);
            let doing = format!("list autoscalers in namespace {namespace}");
            let list = bounded(&doing, autoscalers.list(&ListParams::default())).await?;
            for scaled in list.items.into_iter().map(|autoscaler| autoscaler.spec.scale_target_ref) {
                let version = scaled.api_version.unwrap_or_default();
                targets.insert(target(&version, scaled.kind, scaled.name, Some(namespace.clone())));
            }
        }
        Ok(targets)
    }

    /// The object as it is to be applied over what is there: without the fields that are left. Those that are still ours
    /// are handed over first, with the value that stands, so that none vanishes or falls back to a default in between.
    pub(super) async fn less_what_is_left(
        &self,
        w: &Pass<'_>,
        id: &ObjectId,
        served: &Kind,
        body: Value,
    ) -> Result<Value, Failure> {
        let Some(metadata) = w.metadata.get(id) else { return Ok(body) };
        // An App that brings an autoscaler may stop to say how many replicas there are; it lets go of them all the same.
        let mut asked = body.clone();
        if w.autoscaled.contains(id)
            && let Some(spec) = asked.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.entry("replicas").or_insert(Value::Null);
        }
        let ownership = Ownership::of(&metadata["metadata"], &asked);
        let left = self.contest(w, |contest, now| {
            let left = fields::left(id, &ownership.leaves(), &ownership.taken, &w.autoscaled, &w.ignore, contest, now);
            // What an object that is being adopted was like before is no fight.
            if see(w, id, metadata).mark == Mark::Ours {
                let back = ownership.taken.iter().filter(|taken| !left.contains_key(&taken.pointer));
                contest.handle_taken_back(now, id, back);
            }
            left
        });
        for (pointer, why) in &left {
            tracing::debug!(object = %id, pointer, %why, "left to others");
        }
        let ours = ownership.ours(left.keys());
        if !ours.is_empty() {
            let live = self.live(w, id, served).await?;
            if let Some(held) = handover(&asked, &live, &ownership, &ours) {
                let writer = api(w.user.clone(), id, served);
                let params = PatchParams::apply(HANDOVER).force();
                let doing = format!("hand over fields of {id}");
                bounded(&doing, writer.patch(&id.name, &params, &Patch::Apply(&held))).await?;
            }
        }
        Ok(without(&body, left.keys()))
    }

    /// Whether applying would change nothing in an object of nobody's but the marks of ownership.
    pub(super) async fn identical(&self, w: &Pass<'_>, id: &ObjectId, served: &Kind, seen: &Seen) -> bool {
        let (Some(object), Adopt::IfIdentical, Mark::None, false) =
            (w.objects.get(id), w.terms.adopt, &seen.mark, seen.deleting)
        else {
            return false;
        };
        let compare = async {
            let before = self.live(w, id, served).await?;
            let params = PatchParams::apply(&names::field_manager(&w.subject.app)).force().dry_run();
            let body = prepared(object, id, &w.set);
            let writer: Api<DynamicObject> = api(w.user.clone(), id, served);
            let doing = format!("see what applying {id} would change");
            let after = bounded(&doing, writer.patch(&id.name, &params, &Patch::Apply(&body))).await?;
            Ok::<_, Failure>(unmarked(before) == unmarked(as_json(&after)))
        };
        // An object that cannot be compared is not known to be the same; that it is left is reported either way.
        compare.await.unwrap_or_else(|error| {
            tracing::warn!(object = %id, error = error.message, "cannot compare");
            false
        })
    }

    /// Fields of the app that are being fought over, for people.
    pub(super) fn contested(&self, w: &Pass<'_>) -> Vec<String> {
        self.contest(w, |contest, now| {
            let line = |(id, pointer, manager): (&ObjectId, &str, &str)| {
                format!(
                    "{id} {pointer}: {manager} took it {} times within {} minutes, so it is left to it; stop {manager}, or \
                     write the field into the App's ignoreDifferences",
                    fields::TAKEN_BACK,
                    fields::WITHIN.as_secs() / 60
                )
            };
            contest.all(now).filter(|(id, ..)| w.objects.contains_key(*id)).map(line).collect()
        })
    }

    fn contest<T>(&self, w: &Pass<'_>, act: impl FnOnce(&mut fields::Contest, Instant) -> T) -> T {
        let mut contests = self.contests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::ORIGIN + self.started.elapsed();
        act(contests.entry(w.subject.app.clone()).or_default(), now)
    }

    async fn live(&self, w: &Pass<'_>, id: &ObjectId, served: &Kind) -> Result<Value, Failure> {
        let client = if reads::as_agent(&id.kind) { self.own() } else { w.user.clone() };
        Ok(as_json(&bounded(&format!("read {id}"), api(client, id, served).get(&id.name)).await?))
    }
}

/// The kind of autoscalers.
const HPA: &str = "HorizontalPodAutoscaler";

fn target(api_version: &str, kind: String, name: String, namespace: Option<String>) -> ObjectId {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    ObjectId { kind: GroupKind::new(group, kind), namespace, name }
}

/// Without what any write changes, without who owns it, and without what controllers say of it.
fn unmarked(mut object: Value) -> Value {
    if let Some(whole) = object.as_object_mut() {
        whole.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(names::PART_OF);
            if labels.is_empty() {
                metadata.remove("labels");
            }
        }
    }
    object
}
