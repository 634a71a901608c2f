//! Objects into a cluster, by server-side apply, as `kubectl apply --server-side` does it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

/// Who applied, in managedFields.
const MANAGER: &str = "isochrone-up";
/// Between two looks for a kind whose definition was just applied: nothing can be awaited before it is served.
const AGAIN: Duration = Duration::from_millis(20);
/// A cluster in memory serves a kind within a moment.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Applies objects in their order.
pub(crate) async fn objects(client: &Client, objects: impl IntoIterator<Item = Value>) -> Result<()> {
    for object in objects {
        let object: DynamicObject = serde_json::from_value(object).context("reading an object")?;
        let types = object.types.clone().context("an object has no kind")?;
        let name = object.name_any();
        one(client, object, &types).await.with_context(|| format!("applying {} {name}", types.kind))?;
    }
    Ok(())
}

/// The same, of YAML documents.
pub(crate) async fn yaml(client: &Client, text: &str) -> Result<()> {
    objects(client, serde_saphyr::from_multiple(text).context("reading YAML documents")?).await
}

async fn one(client: &Client, object: DynamicObject, types: &TypeMeta) -> Result<()> {
    let kind = GroupVersionKind::try_from(types)?;
    let served = async {
        loop {
            match pinned_kind(client, &kind).await {
                Ok(served) => return Ok(served),
                Err(error) if matches!(&error, kube::Error::Discovery(_) | kube::Error::Api(_)) => {
                    tracing::debug!(?kind, %error, "not served yet");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    let (resource, capabilities) = tokio::time::timeout(SERVED_WITHIN, served).await.context("it is not served")??;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            Api::namespaced_with(client.clone(), object.metadata.namespace.as_deref().unwrap_or("default"), &resource)
        }
    };
    api.patch(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    Ok(())
}
