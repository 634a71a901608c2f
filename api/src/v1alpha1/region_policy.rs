//! `RegionPolicy`: where apps run, and how users are steered to them.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, duration};

/// Where apps run, and how users are steered to them. An App names its policy; a policy never claims Apps.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "isochrone.dev",
    version = "v1alpha1",
    kind = "RegionPolicy",
    plural = "regionpolicies",
    namespaced,
    status = "RegionPolicyStatus",
    derive = "PartialEq",
    category = "isochrone",
    shortname = "rp",
    doc = "Where apps run, and how users are steered to them. An App names its policy; a policy never claims Apps.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.mode"),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.eligible"),
    printcolumn(name = "Apps", type_ = "integer", json_path = ".status.apps"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("(has(self.everywhere) ? 1 : 0) + (has(self.activeActive) ? 1 : 0) == 1")
        .message("write exactly one mode: everywhere: {} (a baseline on every matching cluster) or activeActive: {} (every placed cluster serves)"),
    validation = Rule::new("!(has(self.everywhere) && has(self.traffic))")
        .message("everywhere delivers a baseline and has no traffic: remove traffic, or use activeActive")
)]
#[serde(rename_all = "camelCase")]
pub struct RegionPolicySpec {
    /// Which clusters are eligible; left out: all. Beside its own labels each cluster carries
    /// topology.kubernetes.io/region, isochrone.dev/cluster and, where given, isochrone.dev/provider.
    #[serde(default)]
    pub clusters: ClusterSelector,

    /// Cluster taints that apps of this policy tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,

    /// A baseline on every matching cluster, without traffic: RBAC, operators, policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everywhere: Option<Everywhere>,

    /// Every placed cluster serves; users go to the nearest healthy one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_active: Option<ActiveActive>,

    /// How users are steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// Selects clusters by label; all parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSelector {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.operator in ['In', 'NotIn'] ? size(self.values) > 0 : size(self.values) == 0")
        .message("In and NotIn need at least one value; Exists and DoesNotExist take none")
)]
pub struct SelectorRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: SelectorOperator,
    /// Values for In and NotIn.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorOperator {
    /// The label is there with one of the values.
    In,
    /// The label is not there, or with none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// Tolerates cluster taints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.operator == 'Equal' || !has(self.value)")
        .message("operator Exists tolerates every value: remove value, or use operator: Equal")
)]
pub struct Toleration {
    /// The taint's key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Equal (the default) or Exists.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value, for Equal; left out means the empty value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
}

/// How a toleration is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value.
    #[default]
    Equal,
    /// Key alone.
    Exists,
}

/// A baseline on every matching cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Everywhere {}

/// Every placed cluster serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveActive {
    /// How many clusters, over how many regions; left out: all eligible clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Whether each cluster runs the replicas written in the manifests, or they are divided among the clusters.
    #[serde(default)]
    pub replicas: Replicas,
}

/// How many clusters, over how many regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minRegions) || !has(self.maxClusters) || self.minRegions <= self.maxClusters")
        .message("minRegions cannot exceed maxClusters: a cluster lies in one region")
)]
pub struct Spread {
    /// At least so many regions; fewer is a condition of the App, not a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_regions: Option<u32>,
    /// At most so many clusters. Which ones is chosen once and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_clusters: Option<u32>,
}

/// How a workload's replicas are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Replicas {
    /// Every cluster runs as many as the manifest says.
    #[default]
    PerCluster,
    /// The manifest says the total; it is divided evenly among the clusters.
    Divided,
}

/// How users are steered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Traffic {
    /// Clusters whose estimated round trip lies this close to the best one's count as equal, and answer together.
    /// 0s answers one cluster always.
    #[serde(default = "default_tolerance")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub tolerance: String,
    /// How long resolvers may keep an answer.
    #[serde(default = "default_ttl")]
    #[schemars(length(min = 2, max = 24), regex(pattern = duration::PATTERN))]
    pub ttl: String,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { tolerance: default_tolerance(), ttl: default_ttl() }
    }
}

/// 15 ms: below what people notice, and within the error of an estimate from distance.
fn default_tolerance() -> String {
    "15ms".to_owned()
}

/// 30 s: browsers hold an answer for about a minute anyway; below ten seconds the query load doubles for little.
fn default_ttl() -> String {
    "30s".to_owned()
}

/// What the hub makes of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionPolicyStatus {
    /// Everywhere or ActiveActive.
    #[serde(default)]
    pub mode: String,
    /// Clusters that match now.
    #[serde(default)]
    pub eligible: u32,
    /// Apps that name this policy.
    #[serde(default)]
    pub apps: u32,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
