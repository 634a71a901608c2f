//! What users want: the objects in the hub cluster's API, and beside them, as plain sets, what they mean. The sets are
//! the oracle of the checkers: they are written down when the user speaks, never computed from the objects.

use std::collections::{BTreeMap, BTreeSet};

use api::v1alpha1::{App, Cluster, DnsZone, RegionPolicy};
use controller::core::FINALIZER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use policies::id::{AppId, ClusterId, RegionId};
use serde_json::{Value, json};

/// The zone in which every host lies.
pub const ZONE: &str = "gslb.example.com";

/// The state of the hub cluster's API as far as users write it.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Counts changes.
    pub version: u64,
    /// `App` objects.
    pub apps: BTreeMap<AppId, App>,
    /// `RegionPolicy` objects.
    pub policies: BTreeMap<AppId, RegionPolicy>,
    /// `Cluster` objects.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// `DnsZone` objects.
    pub zones: BTreeMap<String, DnsZone>,
    /// DNS nodes that somebody added, with their regions.
    pub nodes: BTreeMap<String, RegionId>,
    /// What each app is wanted to be: its policy, and the version of its manifests.
    pub wanted: BTreeMap<AppId, (AppId, u32)>,
    /// Clusters that each policy names.
    pub selected: BTreeMap<AppId, BTreeSet<ClusterId>>,
    /// Clusters that are drained.
    pub drained: BTreeSet<ClusterId>,
}

impl Wishes {
    /// Whether the user wants `app` in `cluster`.
    pub fn wants(&self, app: &AppId, cluster: &ClusterId) -> bool {
        let policy = self.wanted.get(app).map(|(policy, _)| policy);
        policy.and_then(|policy| self.selected.get(policy)).is_some_and(|clusters| clusters.contains(cluster))
    }

    /// Adds a cluster.
    pub fn add_cluster(&mut self, name: &str, region: &str, at: policies::geo::Coordinates) {
        let cluster = json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"region": region, "location": {"latitude": at.latitude(), "longitude": at.longitude()}},
        });
        self.clusters.insert(ClusterId::new(name), object(cluster));
        self.version += 1;
    }

    /// Adds the one zone.
    pub fn add_zone(&mut self) {
        let zone = json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "DnsZone", "metadata": {"name": "gslb"},
            "spec": {"origin": ZONE, "ttl": "1h", "allowedNamespaces": ["*"],
                     "nameServers": [{"name": format!("ns1.{ZONE}"), "addresses": ["192.0.2.1"]}]},
        });
        self.zones.insert("gslb".into(), object(zone));
        self.version += 1;
    }

    /// Writes a policy: its clusters, and whether replicas are divided; `None`: a baseline without traffic.
    pub fn set_policy(&mut self, id: &AppId, clusters: BTreeSet<ClusterId>, divided: Option<bool>) {
        let names: Vec<&str> = clusters.iter().map(ClusterId::as_str).collect();
        let mut spec = json!({"clusters": {"matchExpressions": [
            {"key": api::lower::LABEL_CLUSTER, "operator": "In", "values": names}]}});
        match divided {
            Some(divided) => {
                spec["activeActive"] = json!({"replicas": if divided { "Divided" } else { "PerCluster" }});
            }
            None => spec["everywhere"] = json!({}),
        }
        let policy = json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "RegionPolicy",
            "metadata": {"name": id.name, "namespace": id.namespace}, "spec": spec,
        });
        self.policies.insert(id.clone(), object(policy));
        self.selected.insert(id.clone(), clusters);
        self.version += 1;
    }

    /// Changes the clusters of a policy, and nothing else.
    pub fn select(&mut self, id: &AppId, clusters: BTreeSet<ClusterId>) {
        let Some(policy) = self.policies.get(id) else { return };
        let divided = policy.spec.active_active.as_ref().map(|m| m.replicas == api::v1alpha1::Replicas::Divided);
        self.set_policy(id, clusters, divided);
    }

    /// Writes an app in some version of its manifests. One that is being deleted is left alone, as the API server does.
    pub fn set_app(&mut self, id: &AppId, policy: &AppId, host: Option<&str>, version: u32) {
        let old = self.apps.get(id);
        if old.is_some_and(|app| app.metadata.deletion_timestamp.is_some()) {
            return;
        }
        let finalizers = old.and_then(|app| app.metadata.finalizers.clone()).unwrap_or_default();
        let hosts: Vec<Value> = host.iter().map(|host| json!({"host": host})).collect();
        let app = json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "App",
            "metadata": {"name": id.name, "namespace": id.namespace, "creationTimestamp": "2026-01-01T00:00:00Z",
                         "finalizers": finalizers},
            "spec": {"policy": policy.name, "hosts": hosts,
                     "source": {"inline": {"manifests": manifests(&id.name, host, version)}}},
        });
        self.apps.insert(id.clone(), object(app));
        self.wanted.insert(id.clone(), (policy.clone(), version));
        self.version += 1;
    }

    /// Deletes an app: at once when nobody holds it, else when its finalizer goes.
    pub fn delete_app(&mut self, id: &AppId) {
        self.wanted.remove(id);
        self.version += 1;
        if let Some(app) = self.apps.get_mut(id) {
            if app.metadata.finalizers.iter().flatten().next().is_none() {
                self.apps.remove(id);
            } else if app.metadata.deletion_timestamp.is_none() {
                app.metadata.deletion_timestamp = "2026-01-02T00:00:00Z".parse().ok().map(Time);
            }
        }
    }

    /// Drains a cluster, or undoes it.
    pub fn set_drain(&mut self, id: &ClusterId, drain: bool) {
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.spec.drain = drain;
            if drain {
                self.drained.insert(id.clone());
            } else {
                self.drained.remove(id);
            }
            self.version += 1;
        }
    }

    /// The hub holds an app, or lets it go.
    pub fn set_finalizer(&mut self, id: &AppId, hold: bool) {
        let Some(app) = self.apps.get_mut(id) else { return };
        app.metadata.finalizers = hold.then(|| vec![FINALIZER.to_owned()]);
        if !hold && app.metadata.deletion_timestamp.is_some() {
            self.apps.remove(id);
        }
    }

    /// Writes again what the user's own copy (a Git repository, say) holds, over a hub that was restored.
    pub fn reapply(&mut self, latest: &Self) {
        for (id, clusters) in &latest.selected {
            self.select(id, clusters.clone());
        }
        let ids: Vec<AppId> = self.apps.keys().filter(|id| !latest.wanted.contains_key(*id)).cloned().collect();
        ids.iter().for_each(|id| self.delete_app(id));
        for (id, (policy, version)) in &latest.wanted {
            let host = latest.apps.get(id).and_then(|app| app.spec.hosts.first()).map(|host| host.host.clone());
            self.set_app(id, policy, host.as_deref(), *version);
        }
        let drains: Vec<(ClusterId, bool)> =
            self.clusters.keys().map(|id| (id.clone(), latest.drained.contains(id))).collect();
        for (id, drain) in drains {
            if self.drained.contains(&id) != drain {
                self.set_drain(&id, drain);
            }
        }
        self.version = self.version.max(latest.version) + 1;
    }
}

/// How many ConfigMaps a version has: three, one, two, three, … so that the first change of an app prunes.
pub const fn config_maps(version: u32) -> u32 {
    1 + (version + 2) % 3
}

fn manifests(name: &str, host: Option<&str>, version: u32) -> Vec<Value> {
    let mut all = vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
               "spec": {"replicas": 4 + version, "template": {"version": version}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": "ClusterIP"}}),
    ];
    all.extend((0..config_maps(version)).map(|k| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{name}-{k}")},
               "data": {"version": version.to_string()}})
    }));
    if let Some(host) = host {
        all.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
                        "spec": {"rules": [{"host": host}]}}));
    }
    all
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    match serde_json::from_value(value) {
        Ok(object) => object,
        Err(error) => panic!("an object of the world does not read: {error}"),
    }
}
