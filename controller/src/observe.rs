//! What people wrote, kept current by watches. A failed list or watch leaves what was seen as it was: an error is never
//! an empty set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use api::v1alpha1::{App, Cluster, DnsZone, RegionPolicy};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use policies::id::{AppId, ClusterId, RegionId};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tunnel::identity::{Revocation, Role};

use crate::core::Seen;
use crate::credentials::{LABEL_NAME, LABEL_REGION, LABEL_ROLE};
use crate::orphans::Orphans;
use crate::revocation;

/// Live copies of every kind that the hub reads. Dropping them ends their watches.
pub struct Observed {
    clusters: Store<Cluster>,
    apps: Store<App>,
    policies: Store<RegionPolicy>,
    zones: Store<DnsZone>,
    crds: Store<CustomResourceDefinition>,
    /// Those of clusters, policies and zones.
    other_crds: [Store<CustomResourceDefinition>; 3],
    orphans: (Orphans<ClusterId>, Orphans<AppId>, Orphans<String>),
    tokens: Store<PartialObjectMeta<Secret>>,
    revocations: Store<PartialObjectMeta<ConfigMap>>,
    _watches: JoinSet<()>,
}

impl Observed {
    /// Starts the watches; each change notifies `changed`.
    pub fn start(client: &Client, namespace: &str, changed: &Arc<Notify>) -> Self {
        let nodes = watcher::Config::default().labels(&format!("{LABEL_ROLE}={}", Role::Dns));
        let named = |plural| watcher::Config::default().fields(&format!("metadata.name={plural}.isochrone.dev"));
        let mut watches = JoinSet::new();
        let tasks = &mut watches;
        let mut definition = |plural| watch(Api::all(client.clone()), named(plural), changed, tasks);
        let (crds, other_crds) = (definition("apps"), ["clusters", "regionpolicies", "dnszones"].map(definition));
        let revoked = watcher::Config::default().labels(revocation::LABEL);
        Self {
            clusters: watch(Api::all(client.clone()), watcher::Config::default(), changed, tasks),
            apps: watch(Api::all(client.clone()), watcher::Config::default(), changed, tasks),
            policies: watch(Api::all(client.clone()), watcher::Config::default(), changed, tasks),
            zones: watch(Api::all(client.clone()), watcher::Config::default(), changed, tasks),
            crds,
            other_crds,
            orphans: <_>::default(),
            tokens: watch(Api::namespaced(client.clone(), namespace), nodes, changed, tasks),
            revocations: watch(Api::namespaced(client.clone(), namespace), revoked, changed, tasks),
            _watches: watches,
        }
    }

    /// Waits until every kind was listed once: before that, nothing may be decided.
    pub async fn ready(&self) {
        let Self { clusters, apps, policies, zones, crds, tokens, revocations, other_crds: _, orphans: _, _watches: _ } =
            self;
        let declared = async { tokio::join!(ready(clusters), ready(apps), ready(policies), ready(zones)) };
        tokio::join!(declared, ready(crds), ready(tokens), ready(revocations));
    }

    /// Certificates that are void.
    pub fn revoked(&self) -> BTreeSet<Revocation> {
        let mut seen = Seen::default();
        self.copy_revocations(&mut seen);
        seen.revoked
    }

    fn copy_revocations(&self, seen: &mut Seen) {
        let revocations = self.revocations.state();
        let revocations: Vec<_> = revocations.iter().filter_map(|map| revocation::read(map)).collect();
        let forgotten = revocations.iter().filter(|(who, forget)| *forget && who.role == Role::Agent);
        seen.forgotten = forgotten.map(|(who, _)| ClusterId::new(&who.name)).collect();
        seen.revoked = revocations.into_iter().map(|(who, _)| who).collect();
    }

    /// Copies what is known now into `seen`.
    pub fn copy_to(&mut self, seen: &mut Seen) {
        seen.apps = by(&self.apps, id);
        let (clusters, policies, zones) = &mut self.orphans;
        let [of_clusters, of_policies, of_zones] = &self.other_crds;
        let now = by(&self.clusters, |o| ClusterId::new(o.name_any()));
        clusters.carry(&mut seen.clusters, now, going(of_clusters));
        policies.carry(&mut seen.policies, by(&self.policies, id), going(of_policies));
        zones.carry(&mut seen.zones, by(&self.zones, |o| o.name_any()), going(of_zones));
        // The newest token says where a node is.
        let mut tokens = self.tokens.state();
        tokens.sort_by_key(|token| token.metadata.creation_timestamp.clone());
        let label = |token: &PartialObjectMeta<Secret>, label: &str| token.labels().get(label).cloned();
        let region = |token: &PartialObjectMeta<Secret>| label(token, LABEL_NAME).zip(label(token, LABEL_REGION));
        seen.node_regions =
            tokens.iter().filter_map(|t| region(t)).map(|(name, region)| (name, RegionId::new(region))).collect();
        seen.crds_going = going(&self.crds);
        self.copy_revocations(seen);
    }
}

/// Gone or going: what disappears with its CRD was not removed by anybody.
fn going(definition: &Store<CustomResourceDefinition>) -> bool {
    let crds = definition.state();
    crds.is_empty() || crds.iter().any(|crd| crd.metadata.deletion_timestamp.is_some())
}

async fn ready<K>(store: &Store<K>)
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    if store.wait_until_ready().await.is_err() {
        tracing::error!("a watch ended before its first list");
    }
}

fn id<K: Resource>(object: &K) -> AppId {
    AppId::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn by<K, I>(store: &Store<K>, key: impl Fn(&K) -> I) -> BTreeMap<I, K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
    I: Ord,
{
    store.state().into_iter().map(|object| (key(&object), K::clone(&object))).collect()
}

fn watch<K>(api: Api<K>, config: watcher::Config, changed: &Arc<Notify>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone + Send + Sync,
{
    let (reader, writer) = reflector::store();
    let changed = Arc::clone(changed);
    let stream = watcher(api, config).default_backoff().reflect(writer);
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(_) => changed.notify_one(),
                Err(error) => {
                    let kind = std::any::type_name::<K>().rsplit("::").next().unwrap_or_default();
                    tracing::warn!(%error, kind, "watch failed; trying again");
                }
            }
        }
    });
    reader
}
