//! Hard constraints: one verdict for one cluster. No ordering here.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlacementSpec, Verdict};
use crate::inventory::{ClusterFacts, Effect, Taint};

/// Selects by label; every part must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be there with these values.
    pub equal: BTreeMap<String, String>,
    /// Further requirements.
    pub requirements: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label is there with one of the values.
    In(String, BTreeSet<String>),
    /// The label is not there, or with none of the values (as Kubernetes reads NotIn).
    NotIn(String, BTreeSet<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
}

/// Makes a taint no obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key.
    pub key: String,
    /// The taint's value; `None` tolerates every value.
    pub value: Option<String>,
}

impl Selector {
    /// True when `labels` meet every part.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.equal.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

impl Toleration {
    fn covers(&self, taint: &Taint) -> bool {
        self.key == taint.key && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// Whether an app of `spec` may run (or, if `placed`, stay) in a cluster.
///
/// # Errors
/// The first obstacle, hardest first.
pub(super) fn judge(spec: &PlacementSpec, facts: &ClusterFacts, placed: bool) -> Result<(), Verdict> {
    let tainted = |effect: Effect| {
        facts.taints.iter().any(|taint| taint.effect == effect && !spec.tolerations.iter().any(|t| t.covers(taint)))
    };
    if !spec.selector.matches(&facts.labels) {
        return Err(Verdict::LabelMismatch);
    }
    if tainted(Effect::NoExecute) {
        return Err(Verdict::Tainted);
    }
    if placed {
        return Ok(());
    }
    if !facts.accepted {
        return Err(Verdict::NotAccepted);
    }
    if tainted(Effect::NoSchedule) {
        return Err(Verdict::Tainted);
    }
    if facts.joined { Ok(()) } else { Err(Verdict::NotJoined) }
}
