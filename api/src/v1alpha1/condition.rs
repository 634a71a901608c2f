//! Conditions, as every Kubernetes kind has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One condition of an object (the shape of `metav1.Condition`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, such as Accepted.
    pub r#type: String,
    /// Whether it holds.
    pub status: Truth,
    /// CamelCase reason, stable, for programs.
    pub reason: String,
    /// The same for people: what is wrong, and what to write or do instead.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed, RFC 3339.
    pub last_transition_time: String,
    /// The generation of the object that this speaks of.
    #[serde(default)]
    pub observed_generation: i64,
}

/// Three-valued truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known.
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// How a condition stands, in a word for a table: `yes`, or the reason why not; `unknown` where there is none.
pub fn standing(conditions: &[Condition], kind: &str) -> String {
    match conditions.iter().find(|condition| condition.r#type == kind) {
        None => "unknown".to_owned(),
        Some(condition) if condition.status == Truth::True => "yes".to_owned(),
        Some(condition) => condition.reason.clone(),
    }
}

/// A status that holds conditions.
pub trait Conditions {
    /// The conditions, ordered by no rule.
    fn conditions(&self) -> &[Condition];
    /// The same, to be changed.
    fn conditions_mut(&mut self) -> &mut [Condition];
}

macro_rules! has_conditions {
    ($($status:ty),*) => {$(
        impl Conditions for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn conditions_mut(&mut self) -> &mut [Condition] {
                &mut self.conditions
            }
        }
    )*};
}

has_conditions!(super::AppStatus, super::ClusterStatus, super::DnsZoneStatus, super::RegionPolicyStatus);
