//! Where an app runs.
//!
//! [`place`] filters the clusters by hard constraints ([`filter`]), orders what is left so that regions spread
//! ([`spread`]) and keeps what was chosen before wherever it is still allowed: a placement changes because the policy
//! or a cluster's own description changed, never because a cluster fell silent. Health is not an input; it belongs to
//! the traffic clock. [`divide`] splits replicas over the chosen clusters.

pub mod divide;
pub mod filter;
pub mod spread;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::ClusterId;
use crate::inventory::Inventory;
use filter::{Selector, Toleration};

/// What a policy asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementSpec {
    /// Which clusters are eligible.
    pub selector: Selector,
    /// Taints that are no obstacle.
    pub tolerations: Vec<Toleration>,
    /// At least so many regions; fewer is reported, not refused.
    pub min_regions: Option<usize>,
    /// At most so many clusters.
    pub max_clusters: Option<usize>,
}

/// The clusters that an app runs on.
pub type Placement = BTreeSet<ClusterId>;

/// Why each cluster was kept or dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementReport {
    /// One verdict for each cluster of the inventory, and for each previous one that the inventory lacks.
    pub candidates: BTreeMap<ClusterId, Verdict>,
    /// What the placement as a whole falls short of.
    pub shortfall: Vec<Shortfall>,
}

/// What became of one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It runs there, as before.
    Kept,
    /// It runs there now.
    Chosen,
    /// Its labels do not match the policy's selector.
    LabelMismatch,
    /// It carries a taint that the policy does not tolerate.
    Tainted,
    /// It has never joined: nothing can be delivered.
    NotJoined,
    /// Its own spec is not accepted.
    NotAccepted,
    /// Eligible, but `maxClusters` was reached with others.
    BeyondMaximum,
    /// It ran there, and the Cluster object is gone.
    Unknown,
}

impl Verdict {
    /// The reason code, as conditions and `explain` print it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Kept => "Kept",
            Self::Chosen => "Chosen",
            Self::LabelMismatch => "LabelMismatch",
            Self::Tainted => "Tainted",
            Self::NotJoined => "NotJoined",
            Self::NotAccepted => "NotAccepted",
            Self::BeyondMaximum => "BeyondMaximum",
            Self::Unknown => "ClusterUnknown",
        }
    }
}

/// What a placement falls short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// Not one cluster is eligible.
    NoCluster,
    /// Fewer regions than asked for.
    FewRegions {
        /// Regions covered.
        have: usize,
        /// Regions asked for.
        want: usize,
    },
}

/// Decides where an app runs. Pure: equal arguments give equal results.
///
/// A cluster of `previous` stays while its labels match, no `NoExecute` taint applies and its object exists; not having
/// joined, a `NoSchedule` taint or a spec that stopped being accepted only keep *new* apps away. One whose object is
/// gone also stays, with verdict [`Verdict::Unknown`]: only `isochrone cluster forget` releases it, so that a Cluster
/// deleted by mistake takes nothing with it.
pub fn place(spec: &PlacementSpec, seen: &Inventory, previous: &Placement) -> (Placement, PlacementReport) {
    let mut report = PlacementReport::default();
    let (mut kept, mut fresh) = (Placement::new(), Placement::new());
    for (id, facts) in seen {
        match filter::judge(spec, facts, previous.contains(id)) {
            Ok(()) if previous.contains(id) => _ = kept.insert(id.clone()),
            Ok(()) => _ = fresh.insert(id.clone()),
            Err(verdict) => _ = report.candidates.insert(id.clone(), verdict),
        }
    }
    let gone: Placement = previous.iter().filter(|id| !seen.contains_key(*id)).cloned().collect();
    let room = spec.max_clusters.unwrap_or(usize::MAX);
    let chosen = spread::choose(seen, &kept, &fresh, room, spec.min_regions.unwrap_or(1));

    for id in kept.iter().chain(&fresh) {
        let verdict = match (chosen.contains(id), kept.contains(id)) {
            (true, true) => Verdict::Kept,
            (true, false) => Verdict::Chosen,
            (false, _) => Verdict::BeyondMaximum,
        };
        report.candidates.insert(id.clone(), verdict);
    }
    report.candidates.extend(gone.iter().map(|id| (id.clone(), Verdict::Unknown)));

    let regions: BTreeSet<_> = chosen.iter().filter_map(|id| seen.get(id)).map(|facts| &facts.region).collect();
    match spec.min_regions {
        _ if chosen.is_empty() => report.shortfall.push(Shortfall::NoCluster),
        Some(want) if regions.len() < want => {
            report.shortfall.push(Shortfall::FewRegions { have: regions.len(), want });
        }
        Some(_) | None => {}
    }
    (chosen.into_iter().chain(gone).collect(), report)
}
