//! What the hub chose. It is persisted before it is acted on, so that a restarted hub goes on where it was instead of
//! choosing anew while half of its clusters have not yet reported.

use std::collections::BTreeMap;
use std::time::Duration;

use api::v1alpha1::HostRole;
use api::wire::Digest;
use policies::id::{AppId, ClusterId};
use policies::withdrawal::Withdrawal;
use serde::{Deserialize, Serialize};

/// Everything chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Per app.
    pub apps: BTreeMap<AppId, AppChoice>,
    /// Which cluster (kube-system UID) each name stands for. A cluster is what it is, never its name.
    pub uids: BTreeMap<ClusterId, String>,
    /// Number and content digest of each cluster's desired state.
    pub desired: BTreeMap<ClusterId, Numbered>,
    /// Number and content digest of the snapshot.
    pub snapshot: Numbered,
    /// Term of the leader that gave the snapshot its number: a new leader with nothing new to say publishes the same
    /// bytes, and no node compiles them again.
    pub snapshot_term: u64,
    /// Number and content digest of the report to DNS nodes.
    pub report: Numbered,
    /// Serial and content digest of each zone, by origin.
    pub zones: BTreeMap<String, Numbered>,
    /// DNS nodes that have joined, by name: a hub that has just started tells the others of those that have not yet
    /// reported to it.
    pub nodes: BTreeMap<String, NodeChoice>,
}

/// One DNS node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChoice {
    /// Its region, as written by whoever added it.
    pub region: String,
    /// Where its fellows reach it, as it said last.
    pub peering: Vec<String>,
}

/// A number that rises when the content's digest changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// The number; zero before the first.
    pub number: u64,
    /// Digest of the content that has this number.
    #[serde(with = "hex")]
    pub digest: Digest,
}

impl Numbered {
    /// Raises the number when `digest` is new.
    pub(super) fn touch(&mut self, digest: Digest) -> u64 {
        if self.digest != digest {
            self.number += 1;
            self.digest = digest;
        }
        self.number
    }
}

/// What was chosen for one app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppChoice {
    /// Rises with every change of `clusters`.
    pub epoch: u64,
    /// Whether replicas are divided among the clusters.
    pub divided: bool,
    /// How users are steered; `None` for a baseline.
    pub traffic: Option<Traffic>,
    /// Where it runs, and where it is being removed from.
    #[serde(with = "by_name")]
    pub clusters: BTreeMap<ClusterId, ClusterChoice>,
    /// Hosts it owns, with the addresses last known of each cluster.
    pub hosts: BTreeMap<String, HostAddresses>,
    /// What its hosts are for, as written last.
    #[serde(default)]
    pub roles: BTreeMap<String, HostRole>,
}

/// Addresses of one host by cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostAddresses(#[serde(with = "by_name")] pub BTreeMap<ClusterId, Vec<String>>);

impl AppChoice {
    /// True when agents must hear of the difference.
    pub(super) fn differs_in_delivery(&self, other: &Self) -> bool {
        let told = |app: &Self| {
            let told = app.clusters.iter().map(|(id, c)| (id.clone(), (c.render.clone(), c.removing)));
            told.collect::<BTreeMap<_, _>>()
        };
        told(self) != told(other)
    }
}

/// One app in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterChoice {
    /// Digest of what is delivered.
    #[serde(with = "hex")]
    pub render: Digest,
    /// True: what was delivered is being taken away.
    pub removing: bool,
    /// Its policy no longer wants it there: how far its users have left.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "leaving")]
    pub leaving: Option<Withdrawal>,
    /// It was being taken away and is wanted again: what its agent says of an earlier epoch is of the copy that went.
    #[serde(default)]
    pub since: u64,
}

impl ClusterChoice {
    /// It runs there and shall go on.
    pub fn stays(&self) -> bool {
        !self.removing && self.leaving.is_none()
    }
}

/// How users are steered, as last read from the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Clusters this close count as equal, milliseconds.
    pub tolerance_ms: u32,
    /// TTL of answers, seconds.
    pub ttl_s: u32,
}

impl From<api::lower::Steering> for Traffic {
    fn from(steering: api::lower::Steering) -> Self {
        let whole = |d: Duration, unit: u128| u32::try_from(d.as_millis() / unit).unwrap_or(u32::MAX);
        Self { tolerance_ms: whole(steering.tolerance, 1), ttl_s: whole(steering.ttl, 1000).max(1) }
    }
}

/// Maps by cluster name; core ids know no format.
mod by_name {
    use std::collections::BTreeMap;

    use policies::id::ClusterId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, V: Serialize>(
        map: &BTreeMap<ClusterId, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(id, value)| (id.as_str(), value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ClusterId, V>, D::Error> {
        let map = BTreeMap::<String, V>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(name, value)| (ClusterId::new(name), value)).collect())
    }
}

/// Withdrawals; the core's types know no format.
mod leaving {
    use policies::withdrawal::Withdrawal;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Written {
        snapshot: Option<u64>,
        until_s: Option<u64>,
    }

    #[expect(clippy::ref_option, reason = "the shape that serde wants")]
    pub(super) fn serialize<S: Serializer>(leaving: &Option<Withdrawal>, serializer: S) -> Result<S::Ok, S::Error> {
        let written = leaving.map(|Withdrawal { snapshot, until_s }| Written { snapshot, until_s });
        written.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Withdrawal>, D::Error> {
        let written = Option::<Written>::deserialize(deserializer)?;
        Ok(written.map(|Written { snapshot, until_s }| Withdrawal { snapshot, until_s }))
    }
}

/// Digests as hexadecimal text.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        text.as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => digit(*high).zip(digit(*low)).map(|(h, l)| h * 16 + l),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no hexadecimal digest")))
    }
}
