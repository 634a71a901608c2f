//! What the cluster holds of an app: members by their label, and whatever stands under a wanted name.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use policies::plan::{GroupKind, Listing, ObjectId, State};
use serde_json::Value;

use super::{Applier, Pass, api, as_json, bounded, chain, get_metadata, reads, see};
use crate::core::Failure;
use crate::kinds::Kind;
use crate::names::PART_OF;

impl Applier {
    /// What the cluster holds of this app.
    pub(super) async fn look(&self, w: &mut Pass<'_>) -> Result<State, Failure> {
        let mut state = State { set: self.read_parent(&w.parent, &w.set).await?, ..State::default() };
        let mut kinds: BTreeSet<GroupKind> = w.wanted.iter().map(|o| o.id.kind.clone()).collect();
        kinds.extend(state.set.iter().flat_map(|s| s.kinds.clone()));
        kinds.extend(w.subject.kinds.iter().cloned());
        // Kinds that could not even be resolved hold every prune.
        kinds.extend(w.kinds.keys().cloned());
        let mut namespaces: BTreeSet<String> = state.set.iter().flat_map(|s| s.namespaces.clone()).collect();
        namespaces.extend(w.wanted.iter().filter_map(|o| o.id.namespace.clone()));
        namespaces.insert(w.subject.app.namespace.clone());

        for kind in kinds {
            if !w.kinds.contains_key(&kind) {
                let found = self.kinds.resolve_any(&w.user, &kind).await;
                w.kinds.insert(kind.clone(), found.map_err(|e| chain(&e)));
            }
            let listing = match w.kinds.get(&kind) {
                None | Some(Ok(None)) => Listing::NoSuchKind,
                Some(Err(error)) => Listing::Failed { error: error.clone() },
                Some(Ok(Some(served))) => match self.list(w, &kind, served, &namespaces).await {
                    Ok(found) => {
                        for (id, meta) in found {
                            state.objects.insert(id.clone(), see(w, &id, &meta));
                            w.metadata.insert(id, meta);
                        }
                        Listing::Complete
                    }
                    Err(failure) => {
                        self.kinds.forget(&kind.group);
                        Listing::Failed { error: failure.message }
                    }
                },
            };
            state.kinds.insert(kind, listing);
        }
        self.look_for_foreign(w, &mut state).await;
        w.autoscaled = self.autoscaled(w, &namespaces).await?;
        Ok(state)
    }

    /// Members of one kind, wherever they may be.
    async fn list(
        &self,
        w: &Pass<'_>,
        kind: &GroupKind,
        served: &Kind,
        namespaces: &BTreeSet<String>,
    ) -> Result<Vec<(ObjectId, Value)>, Failure> {
        let doing = format!("list {kind}");
        let selector = ListParams::default().labels(&format!("{PART_OF}={}", w.set));
        let apis: Vec<Api<DynamicObject>> = if reads::as_agent(kind) {
            vec![Api::all_with(self.own(), &served.resource)]
        } else if served.namespaced {
            let each = namespaces.iter().map(|n| Api::namespaced_with(w.user.clone(), n, &served.resource));
            each.collect()
        } else {
            vec![Api::all_with(w.user.clone(), &served.resource)]
        };
        let mut found = Vec::new();
        for api in apis {
            for meta in bounded(&doing, api.list_metadata(&selector)).await?.items {
                let id = ObjectId { kind: kind.clone(), namespace: meta.namespace(), name: meta.name_any() };
                found.push((id, as_json(&meta)));
            }
        }
        Ok(found)
    }

    /// Looks under each wanted name that the lists did not show: what stands there is not ours.
    async fn look_for_foreign(&self, w: &mut Pass<'_>, state: &mut State) {
        let missing: Vec<ObjectId> =
            w.wanted.iter().map(|o| o.id.clone()).filter(|id| !state.objects.contains_key(id)).collect();
        for id in missing {
            let Some(Ok(Some(served))) = w.kinds.get(&id.kind) else {
                continue;
            };
            let client = if reads::as_agent(&id.kind) { self.own() } else { w.user.clone() };
            let api = api(client, &id, served);
            match get_metadata(&format!("look for {id}"), &api, &id.name).await {
                Ok(Some(meta)) => {
                    let (meta, served) = (as_json(&meta), served.clone());
                    let mut seen = see(w, &id, &meta);
                    seen.identical = self.identical(w, &id, &served, &seen).await;
                    state.objects.insert(id.clone(), seen);
                    w.metadata.insert(id, meta);
                }
                Ok(None) => {}
                Err(failure) => {
                    if w.unreadable.insert(id.clone()) {
                        w.run.outcome.failures.push(self.with_hint(w, &id, served, failure));
                        w.failed.insert(id);
                    }
                }
            }
        }
    }
}
