//! Writes what the agent was told into its own cluster, and reads it at start, so that an agent which restarts without
//! a hub still knows what to hold in place.
//!
//! Renders are cut into Secrets named by the digest of what they hold; they are written first and never changed. The
//! head Secret names them and is switched last, by one write; what it no longer names is deleted after. So whatever
//! instant a crash picks, the head names only what is there.
//!
//! Secrets, not ConfigMaps: a render may hold Secrets of the app.
//!
//! Absent on purpose: guesses. A head that cannot be read is an error, never an empty memory.

use std::collections::{BTreeMap, BTreeSet};

use api::wire::{self, Digest};
use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use prost::Message as _;
use serde_json::json;

use crate::kept::Kept;
use crate::names::hex;

/// Bytes of one piece: 512 KiB as base64 in the API server's store, well below its limit of about 1.5 MB per request.
const PIECE: usize = 384 << 10;
/// Label of every Secret that is part of the memory.
const LABEL: &str = "isochrone.dev/kept";
/// Name of the head.
const HEAD: &str = "isochrone-kept";
/// Field manager.
const MANAGER: &str = "isochrone-agent";

/// The memory of one agent namespace.
#[derive(Clone)]
pub struct Keeper {
    secrets: Api<Secret>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

/// Why the memory could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server refused, or is away.
    #[error("{doing}")]
    Api {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// The head is there and makes no sense.
    #[error("Secret {HEAD} holds no memory that this version reads ({what}); delete it to start without a memory")]
    Head {
        /// What is wrong.
        what: &'static str,
    },
}

/// What the head says.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    /// Digest of the encoded [`Kept`].
    #[prost(bytes = "vec", tag = "1")]
    kept: Digest,
    /// How many pieces each blob has, the kept state included.
    #[prost(message, repeated, tag = "2")]
    blobs: Vec<Pieces>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pieces {
    #[prost(bytes = "vec", tag = "1")]
    digest: Digest,
    #[prost(uint32, tag = "2")]
    count: u32,
}

impl Keeper {
    /// The memory in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace) }
    }

    /// Writes everything. On an error the earlier state still stands.
    pub async fn store(&self, kept: &Kept, blobs: &BTreeMap<Digest, Bytes>) -> Result<(), KeepError> {
        let encoded = Bytes::from(kept.encode_to_vec());
        let digest = wire::digest(&encoded);
        let all = blobs.iter().chain([(&digest, &encoded)]);
        let present = self.present().await?;
        let (mut named, mut head) = (BTreeSet::new(), Head { kept: digest.clone(), blobs: Vec::new() });
        for (digest, bytes) in all {
            let pieces: Vec<&[u8]> = bytes.chunks(PIECE).collect();
            for (index, piece) in pieces.iter().enumerate() {
                let name = piece_name(digest, index);
                if !present.contains(&name) {
                    self.write_piece(&name, piece).await?;
                }
                named.insert(name);
            }
            head.blobs.push(Pieces { digest: digest.clone(), count: u32::try_from(pieces.len()).unwrap_or(u32::MAX) });
        }
        self.switch(&head).await?;
        // The garbage; what cannot be deleted now is found again next time.
        for name in present.difference(&named) {
            if let Err(error) = self.secrets.delete(name, &DeleteParams::default()).await {
                tracing::debug!(%name, %error, "an old piece of the memory stays for now");
            }
        }
        Ok(())
    }

    /// Reads everything; `None` when nothing was ever written. A blob that is missing or damaged is left out: its app
    /// is left as it is until the hub sends the render again.
    pub async fn load(&self) -> Result<Option<(Kept, BTreeMap<Digest, Bytes>)>, KeepError> {
        let doing = || format!("read Secret {HEAD}");
        let found = self.secrets.get_opt(HEAD).await.map_err(|source| KeepError::Api { doing: doing(), source })?;
        let Some(found) = found else { return Ok(None) };
        let head = found.data.and_then(|mut d| d.remove("head")).ok_or(KeepError::Head { what: "no key `head`" })?;
        let head = Head::decode(head.0.as_slice()).map_err(|_| KeepError::Head { what: "it does not decode" })?;
        let mut blobs = BTreeMap::new();
        for Pieces { digest, count } in &head.blobs {
            if let Some(bytes) = self.read_blob(digest, *count).await? {
                blobs.insert(digest.clone(), bytes);
            }
        }
        let kept = blobs.remove(&head.kept).ok_or(KeepError::Head { what: "the state that it names is not there" })?;
        let kept =
            Kept::decode(kept).map_err(|_| KeepError::Head { what: "the state that it names does not decode" })?;
        Ok(Some((kept, blobs)))
    }

    /// Names of the pieces that exist.
    async fn present(&self) -> Result<BTreeSet<String>, KeepError> {
        let pieces = ListParams::default().labels(&format!("{LABEL}=piece"));
        let listed = self.secrets.list_metadata(&pieces).await;
        let listed = listed.map_err(|source| KeepError::Api { doing: "list the memory's pieces".into(), source })?;
        Ok(listed.items.iter().map(ResourceExt::name_any).collect())
    }

    async fn write_piece(&self, name: &str, piece: &[u8]) -> Result<(), KeepError> {
        let secret = Secret {
            metadata: serde_json::from_value(json!({"name": name, "labels": {LABEL: "piece"}})).unwrap_or_default(),
            data: Some(BTreeMap::from([("piece".to_owned(), ByteString(piece.to_vec()))])),
            immutable: Some(true),
            ..Secret::default()
        };
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(KeepError::Api { doing: format!("write Secret {name}"), source }),
        }
    }

    async fn switch(&self, head: &Head) -> Result<(), KeepError> {
        let data = BTreeMap::from([("head", ByteString(head.encode_to_vec()))]);
        let body = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": HEAD, "labels": {LABEL: "head"}}, "data": data});
        let params = PatchParams::apply(MANAGER).force();
        let written = self.secrets.patch(HEAD, &params, &Patch::Apply(&body)).await;
        written.map(drop).map_err(|source| KeepError::Api { doing: format!("switch Secret {HEAD}"), source })
    }

    async fn read_blob(&self, digest: &Digest, count: u32) -> Result<Option<Bytes>, KeepError> {
        let mut bytes = Vec::new();
        for index in 0..count as usize {
            let name = piece_name(digest, index);
            let found = self.secrets.get_opt(&name).await;
            let found = found.map_err(|source| KeepError::Api { doing: format!("read Secret {name}"), source })?;
            let Some(piece) = found.and_then(|s| s.data).and_then(|mut d| d.remove("piece")) else {
                tracing::warn!(%name, "a piece of the memory is gone");
                return Ok(None);
            };
            bytes.extend(piece.0);
        }
        if wire::digest(&bytes) != *digest {
            tracing::warn!(digest = %wire::short(digest), "a piece of the memory was changed by somebody");
            return Ok(None);
        }
        Ok(Some(bytes.into()))
    }
}

fn piece_name(digest: &[u8], index: usize) -> String {
    format!("{HEAD}-{}-{index}", hex(digest, 32))
}
