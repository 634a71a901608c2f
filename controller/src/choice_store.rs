//! Keeps what was chosen in ConfigMaps of the hub's own namespace, which tenants cannot edit.
//!
//! One ConfigMap for each app (so that a thousand apps fit, and one change writes one object) and one for the numbers.
//! A write that fails leaves the decision unacted; the next round tries again.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use policies::id::{AppId, ClusterId};
use serde::{Deserialize, Serialize};

use crate::core::choice::{AppChoice, Choice, NodeChoice, Numbered};

/// Label on every ConfigMap of ours; its value says which kind.
const LABEL: &str = "isochrone.dev/choice";
/// The ConfigMap of [`Numbers`].
const NUMBERS: &str = "isochrone-numbers";
/// The one key of each ConfigMap.
const KEY: &str = "choice.json";
/// Field manager of the hub's own writes.
pub(crate) const MANAGER: &str = "isochrone-hub";

/// Why choices could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The API server refused or could not be reached.
    #[error("cannot {verb} what was chosen in namespace {namespace}")]
    Kube {
        /// What was tried.
        verb: &'static str,
        /// The hub's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A ConfigMap holds something else.
    #[error("ConfigMap {name} does not hold what the hub wrote: restore it from a backup, or delete it to choose anew")]
    Corrupt {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Numbers {
    uids: BTreeMap<String, String>,
    desired: BTreeMap<String, Numbered>,
    snapshot: Numbered,
    snapshot_term: u64,
    report: Numbered,
    zones: BTreeMap<String, Numbered>,
    #[serde(default)]
    nodes: BTreeMap<String, NodeChoice>,
}

#[derive(Serialize, Deserialize)]
struct StoredApp {
    namespace: String,
    name: String,
    choice: AppChoice,
}

/// Reads and writes a [`Choice`].
pub struct ChoiceStore {
    api: Api<ConfigMap>,
    namespace: String,
    /// What the API server has, as far as we know.
    saved: Choice,
}

impl ChoiceStore {
    /// Reads what was chosen before. An error here is fatal to the caller: going on without would choose anew.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub async fn load(client: Client, namespace: &str) -> Result<(Self, Choice), ChoiceError> {
        let api: Api<ConfigMap> = Api::namespaced(client, namespace);
        let list = api.list(&ListParams::default().labels(LABEL)).await.map_err(|e| wrong("read", namespace, e))?;
        let mut choice = Choice::default();
        for map in list {
            let (name, text) = (map.name_any(), map.data.unwrap_or_default().remove(KEY).unwrap_or_default());
            let corrupt = |source| ChoiceError::Corrupt { name: name.clone(), source };
            if name == NUMBERS {
                let numbers: Numbers = serde_json::from_str(&text).map_err(corrupt)?;
                let by_id = |(name, value)| (ClusterId::new(name), value);
                choice.uids = numbers.uids.into_iter().map(|(name, uid)| (ClusterId::new(name), uid)).collect();
                choice.desired = numbers.desired.into_iter().map(by_id).collect();
                (choice.snapshot, choice.snapshot_term) = (numbers.snapshot, numbers.snapshot_term);
                (choice.report, choice.zones, choice.nodes) = (numbers.report, numbers.zones, numbers.nodes);
            } else {
                let app: StoredApp = serde_json::from_str(&text).map_err(corrupt)?;
                choice.apps.insert(AppId::new(app.namespace, app.name), app.choice);
            }
        }
        Ok((Self { api, namespace: namespace.to_owned(), saved: choice.clone() }, choice))
    }

    /// Writes what changed since the last save: numbers last, so that a crash in between leaves numbers too low (they
    /// rise again) and never content that a number already stands for.
    ///
    /// # Errors
    /// [`ChoiceError`]; what was written until then is remembered, the rest is written next time.
    pub async fn save(&mut self, choice: &Choice) -> Result<(), ChoiceError> {
        let names: BTreeSet<AppId> = choice.apps.keys().chain(self.saved.apps.keys()).cloned().collect();
        for id in names {
            match (choice.apps.get(&id), self.saved.apps.get(&id)) {
                (Some(new), old) if old != Some(new) => {
                    let stored =
                        StoredApp { namespace: id.namespace.clone(), name: id.name.clone(), choice: new.clone() };
                    self.write(&object_name(&id), "app", &stored).await?;
                    self.saved.apps.insert(id, new.clone());
                }
                (None, Some(_)) => {
                    self.delete(&object_name(&id)).await?;
                    self.saved.apps.remove(&id);
                }
                (Some(_) | None, _) => {}
            }
        }
        let numbers = |choice: &Choice| Numbers {
            uids: choice.uids.iter().map(|(id, uid)| (id.to_string(), uid.clone())).collect(),
            desired: choice.desired.iter().map(|(id, n)| (id.to_string(), n.clone())).collect(),
            snapshot: choice.snapshot.clone(),
            snapshot_term: choice.snapshot_term,
            report: choice.report.clone(),
            zones: choice.zones.clone(),
            nodes: choice.nodes.clone(),
        };
        if numbers(choice) != numbers(&self.saved) {
            self.write(NUMBERS, "numbers", &numbers(choice)).await?;
        }
        self.saved = choice.clone();
        Ok(())
    }

    async fn write<T: Serialize + Sync>(&self, name: &str, kind: &str, value: &T) -> Result<(), ChoiceError> {
        let corrupt = |source| ChoiceError::Corrupt { name: name.to_owned(), source };
        let text = serde_json::to_string(value).map_err(corrupt)?;
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(LABEL.to_owned(), kind.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(MANAGER).force();
        self.api.patch(name, &params, &Patch::Apply(&map)).await.map_err(|e| wrong("write", &self.namespace, e))?;
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), ChoiceError> {
        match self.api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(wrong("delete", &self.namespace, error)),
        }
    }
}

fn wrong(verb: &'static str, namespace: &str, source: kube::Error) -> ChoiceError {
    ChoiceError::Kube { verb, namespace: namespace.to_owned(), source: Box::new(source) }
}

/// A name that two apps never share and that fits: the digest of namespace and name, since both together may be longer
/// than a ConfigMap's name.
fn object_name(id: &AppId) -> String {
    format!("choice-{}", api::wire::short(&api::wire::digest(id.to_string().as_bytes())))
}
