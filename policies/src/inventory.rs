//! What is known of the clusters, as values. Unknown differs from empty: an `Option` that is `None` was not seen.

use std::collections::BTreeMap;

use crate::id::{ClusterId, RegionId};

/// The clusters by name.
pub type Inventory = BTreeMap<ClusterId, ClusterFacts>;

/// What decisions may use of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFacts {
    /// Its region, which is its failure domain.
    pub region: RegionId,
    /// Its own labels and the implied ones (region, name, provider).
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// True once an agent has joined, ever: a cluster that is merely silent stays joined.
    pub joined: bool,
    /// False: the spec is not accepted (no place on Earth), so nothing new lands.
    pub accepted: bool,
}

/// Keeps apps away that do not tolerate it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Its name.
    pub key: String,
    /// Its value, possibly empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

/// What a taint does to apps that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing new lands; what is there stays.
    NoSchedule,
    /// Nothing new lands, and what is there is taken away.
    NoExecute,
}
