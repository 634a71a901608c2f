//! What every cluster has from the start.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::State;
use crate::store::Index;
use crate::{kinds, time};

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

pub(crate) fn run(state: &mut State, now: Timestamp) {
    for name in NAMESPACES {
        put(state, "", "v1", "namespaces", json!({"metadata": {"name": name}}), now);
    }
    for object in crate::data::bootstrap() {
        let (group, version) = match object["apiVersion"].as_str().unwrap_or_default().split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => continue,
        };
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let plural = state.registry.of_kind(&group, &version, &kind).map(|resource| resource.plural.clone());
        if let Some(plural) = plural {
            put(state, &group, &version, &plural, object, now);
        }
    }
    let address = state.options.service_addresses.hosts().next().map(|address| address.to_string());
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                 "ports": [{"name": "https", "port": 443, "targetPort": 6443}]},
    });
    put(state, "", "v1", "services", service, now);
    // Nobody was there to see it.
    state.store.compact();
}

/// Stores an object as the server itself writes it.
pub(crate) fn put(state: &mut State, group: &str, version: &str, plural: &str, mut value: Value, now: Timestamp) {
    let Some(resource) = state.registry.find(group, version, plural).cloned() else { return };
    value["apiVersion"] = json!(resource.api_version());
    value["kind"] = json!(resource.kind);
    value["metadata"]["uid"] = json!(state.random.uid());
    value["metadata"]["creationTimestamp"] = time::seconds(now).into();
    kinds::default(resource.as_kind(), &mut value);
    kinds::prepare_create(resource.as_kind(), &mut value);
    let index = Index::of(crate::read::fields_of(&resource, &value));
    let object = state.store.put(&resource.table, value, index, now);
    state.changed(&resource, &object, false, now);
}
