//! Who is not welcome any more: one ConfigMap in the hub's namespace for each revocation, whose creation time, stamped by
//! the API server, is the moment up to which certificates are void. Written by the commands `cluster revoke|forget` and
//! `dns revoke|forget` with the rights of whoever calls them; watched by the hub.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tunnel::identity::{Revocation, Role};

use crate::credentials::{LABEL_NAME, LABEL_ROLE};

/// Label of every revocation; its value is the role.
pub(crate) const LABEL: &str = "isochrone.dev/revoked";
/// Label of a revocation that also says: forget the cluster.
const LABEL_FORGET: &str = "isochrone.dev/forgotten";

/// Why a revocation could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} in namespace {namespace}")]
pub struct RevocationError {
    verb: &'static str,
    namespace: String,
    #[source]
    source: Box<kube::Error>,
}

/// Writes revocations.
pub struct Revocations {
    maps: Api<ConfigMap>,
    secrets: Api<Secret>,
    namespace: String,
}

impl Revocations {
    /// Revocations of the hub in `namespace`.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), namespace),
            secrets: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
        }
    }

    /// Revokes every certificate that was issued to this name until now. `forget`: what was chosen for it is over, too.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub async fn revoke(&self, role: Role, name: &str, forget: bool) -> Result<(), RevocationError> {
        let mut labels = vec![(LABEL.to_owned(), role.to_string()), (LABEL_NAME.to_owned(), name.to_owned())];
        labels.extend(forget.then(|| (LABEL_FORGET.to_owned(), "true".to_owned())));
        let map = ConfigMap {
            metadata: ObjectMeta {
                generate_name: Some("isochrone-revoked-".to_owned()),
                labels: Some(labels.into_iter().collect()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        let written = self.maps.create(&PostParams::default(), &map).await;
        written.map(drop).map_err(|source| self.wrong("write a revocation", source))
    }

    /// Whether anybody was ever to join under this name: a token was made for it, and is kept when it is used.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub async fn is_known(&self, role: Role, name: &str) -> Result<bool, RevocationError> {
        let tokens = ListParams::default().labels(&format!("{LABEL_ROLE}={role},{LABEL_NAME}={name}"));
        let found = self.secrets.list_metadata(&tokens).await;
        found.map(|found| !found.items.is_empty()).map_err(|source| self.wrong("list the join tokens", source))
    }

    /// Removes every token of this name, used or not: nobody joins with it any more, and a DNS node is no member.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub async fn remove_tokens(&self, role: Role, name: &str) -> Result<(), RevocationError> {
        let tokens = ListParams::default().labels(&format!("{LABEL_ROLE}={role},{LABEL_NAME}={name}"));
        let removed = self.secrets.delete_collection(&DeleteParams::default(), &tokens).await;
        removed.map(drop).map_err(|source| self.wrong("remove the join tokens", source))
    }

    /// A name that was forgotten is used again: what is chosen for it from now on counts. Its old certificates stay void.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub async fn remember(&self, role: Role, name: &str) -> Result<(), RevocationError> {
        let forgotten = ListParams::default().labels(&format!("{LABEL}={role},{LABEL_NAME}={name},{LABEL_FORGET}"));
        let found = self.maps.list_metadata(&forgotten).await.map_err(|e| self.wrong("list revocations", e))?;
        let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL_FORGET: null}}}));
        for map in found.items {
            let patched = self.maps.patch_metadata(&map.name_any(), &PatchParams::default(), &patch).await;
            patched.map_err(|source| self.wrong("change a revocation", source))?;
        }
        Ok(())
    }

    fn wrong(&self, verb: &'static str, source: kube::Error) -> RevocationError {
        RevocationError { verb, namespace: self.namespace.clone(), source: Box::new(source) }
    }
}

/// What an object says, and whether it says to forget; `None` if it is none of ours.
pub(crate) fn read(map: &PartialObjectMeta<ConfigMap>) -> Option<(Revocation, bool)> {
    let role = Role::from_word(map.labels().get(LABEL)?)?;
    let name = map.labels().get(LABEL_NAME)?.clone();
    let created = map.metadata.creation_timestamp.as_ref()?.0.as_second();
    let revocation = Revocation { role, name, until_s: u64::try_from(created).ok()? };
    Some((revocation, map.labels().contains_key(LABEL_FORGET)))
}
