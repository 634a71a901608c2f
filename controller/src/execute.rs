//! Carries a decision out on the hub's API server: finalizers and statuses. It chooses nothing, and writes only what
//! differs from what is there.

use std::fmt::{Debug, Display};

use api::v1alpha1::{App, Cluster, Conditions, DnsZone, RegionPolicy};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::choice_store::MANAGER;
use crate::core::status::stamp;
use crate::core::{Decision, FINALIZER, Seen};

/// Writes finalizers and statuses of `decision`. An object that is gone by now is no error; every other failure is
/// logged and tried again in the next round.
pub async fn execute(client: &Client, seen: &Seen, decision: &Decision) {
    let holds = decision.hold.iter().map(|id| (id, true)).chain(decision.release.iter().map(|id| (id, false)));
    for (id, hold) in holds {
        if let Some(app) = seen.apps.get(id) {
            logged("finalizer of App", id, finalizer(client, app, hold).await);
        }
    }
    let (clusters, zones) = (Api::<Cluster>::all(client.clone()), Api::<DnsZone>::all(client.clone()));
    for (id, new) in &decision.app_status {
        let old = seen.apps.get(id).and_then(|o| o.status.clone());
        status(&namespaced::<App>(client, &id.namespace), &id.name, old, new).await;
    }
    for (id, new) in &decision.policy_status {
        let old = seen.policies.get(id).and_then(|o| o.status.clone());
        status(&namespaced::<RegionPolicy>(client, &id.namespace), &id.name, old, new).await;
    }
    for (id, new) in &decision.cluster_status {
        status(&clusters, id.as_str(), seen.clusters.get(id).and_then(|o| o.status.clone()), new).await;
    }
    for (name, new) in &decision.zone_status {
        status(&zones, name, seen.zones.get(name).and_then(|o| o.status.clone()), new).await;
    }
}

fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), namespace)
}

/// Applies a status when it differs from `old`. Server-side, so that a field that is no longer said goes away.
async fn status<K, S>(api: &Api<K>, name: &str, old: Option<S>, new: &S)
where
    K: Resource + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
    S: Conditions + Clone + Default + PartialEq + Serialize,
{
    let old = old.unwrap_or_default();
    let mut new = new.clone();
    stamp(new.conditions_mut(), old.conditions(), &Timestamp::now().to_string());
    if new == old {
        return;
    }
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let patch = json!({"apiVersion": K::api_version(&K::DynamicType::default()), "kind": kind, "status": new});
    let params = PatchParams::apply(MANAGER).force();
    logged(&format!("status of {kind}"), name, api.patch_status(name, &params, &Patch::Apply(patch)).await.map(drop));
}

/// Adds or removes our finalizer; the resource version refuses a list that changed meanwhile.
async fn finalizer(client: &Client, app: &App, hold: bool) -> Result<(), kube::Error> {
    let namespace = app.metadata.namespace.as_deref().unwrap_or_default();
    let mut finalizers = app.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|f| f != FINALIZER);
    if hold {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": app.metadata.resource_version}});
    let name = app.metadata.name.as_deref().unwrap_or_default();
    let api: Api<App> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

fn logged(what: &str, id: impl Display, done: Result<(), kube::Error>) {
    match done {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => {
            tracing::debug!(%what, %id, "gone or changed meanwhile");
        }
        Err(error) => tracing::warn!(%what, %id, error = %error, "cannot write; trying again"),
    }
}
