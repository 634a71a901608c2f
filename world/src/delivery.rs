//! How long a change takes from the hub's API server to the objects of each member, on one clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;

use crate::{Cluster, World};

/// Changes the ConfigMap of the demo's app to `value`, and waits until each of `members` has it: how long it took from
/// before the change was written.
///
/// # Errors
/// When a member does not exist, or an API server refuses.
pub async fn change(world: &World, value: &str, members: &[&str]) -> anyhow::Result<BTreeMap<String, Duration>> {
    let clusters =
        members.iter().map(|name| world.member(name).map(|member| &member.cluster).context("no such member"));
    let clusters = clusters.collect::<anyhow::Result<Vec<_>>>()?;
    let started = Instant::now();
    let arrivals = clusters.into_iter().map(async |cluster| {
        arrived(cluster, value).await?;
        anyhow::Ok((cluster.name().to_owned(), started.elapsed()))
    });
    let (written, arrivals) = futures::join!(write(world.hub.client(), value), try_join_all(arrivals));
    written?;
    Ok(arrivals?.into_iter().collect())
}

async fn write(hub: Client, value: &str) -> anyhow::Result<()> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("isochrone.dev", "v1alpha1", "App"));
    let apps: Api<DynamicObject> = Api::namespaced_with(hub, "shop", &kind);
    let patch = json!([{"op": "replace", "path": "/spec/source/inline/manifests/0/data/colour", "value": value}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).context("a patch")?);
    apps.patch("shop", &PatchParams::default(), &patch).await.context("changing the App")?;
    Ok(())
}

async fn arrived(cluster: &Cluster, value: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "shop");
    let has = |map: Option<&ConfigMap>| {
        map.and_then(|map| map.data.as_ref()).and_then(|data| data.get("colour")).is_some_and(|colour| colour == value)
    };
    let waited = await_condition(maps, "settings", has).await;
    waited.with_context(|| format!("watching the ConfigMap in {}", cluster.name())).map(drop)
}
