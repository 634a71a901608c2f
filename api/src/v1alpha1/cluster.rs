//! `Cluster`: one Kubernetes cluster in one region.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

/// A Kubernetes cluster that may run apps: where it is and what may land there. It never holds a credential; the
/// cluster joins by running an agent with the token that `isochrone cluster add` prints.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "isochrone.dev",
    version = "v1alpha1",
    kind = "Cluster",
    status = "ClusterStatus",
    derive = "PartialEq",
    category = "isochrone",
    shortname = "icl",
    doc = "A Kubernetes cluster that may run apps: where it is and what may land there. Never a credential.",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Healthy\")].status"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodesReady"),
    printcolumn(name = "Kubernetes", type_ = "string", json_path = ".status.kubernetes"),
    printcolumn(name = "Drain", type_ = "boolean", json_path = ".spec.drain"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63")
        .message("a cluster's name is one DNS label of at most 63 characters, such as fra or eu-central-a")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The region it lies in: a name of yours, such as eu-central. Clusters of one region share a failure domain.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub region: String,

    /// Where users reach it from: distance is measured to this place. May be left out when the region's name is a
    /// cloud provider's, such as eu-central-1 or europe-west3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,

    /// Who runs it, such as aws, gcp, azure or onprem. Free text; policies may select by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub provider: Option<String>,

    /// Addresses that its users reach it at. Left out: the agent finds those of each app's Ingress or Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<ClusterIngress>,

    /// How every DNS node asks each second whether the cluster lives. A full HTTP answer below 500 is a sign of life, on
    /// any of its addresses. Left out: GET / by HTTP on port 80 and by HTTPS on port 443, and one good answer is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ClusterProbe>,

    /// Taints keep apps away whose policy does not tolerate them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub taints: Vec<Taint>,

    /// True takes the cluster out of DNS answers, at once, as long as another one is left to answer. What runs there
    /// keeps running, so that users with a cached answer are still served.
    #[serde(default)]
    pub drain: bool,
}

/// A place on Earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Degrees north, -90 to 90.
    #[schemars(range(min = -90.0, max = 90.0))]
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub longitude: f64,
}

/// How users reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ClusterIngress {
    /// IPv4 and IPv6 addresses.
    #[schemars(length(min = 1, max = 16), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))")
        .message("write IP addresses, such as 203.0.113.10 or 2001:db8::10; a load balancer's host name cannot be an answer"))]
    pub addresses: Vec<String>,
}

/// A question to a cluster's ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ClusterProbe {
    /// HTTP or HTTPS. The certificate is not looked at: what is asked is whether the cluster answers.
    #[serde(default)]
    pub scheme: ProbeScheme,
    /// TCP port; left out: 80, or 443 for HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Path of the request.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^/[!-~]*$')")
        .message("write a path that begins with / and has no spaces, such as /healthz"))]
    pub path: String,
    /// Host header, and server name of HTTPS; left out: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("write a DNS name in lower case without a port, such as ingress.example.com"))]
    pub host: Option<String>,
}

fn root_path() -> String {
    "/".to_owned()
}

/// How to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProbeScheme {
    /// Plain HTTP.
    #[default]
    HTTP,
    /// HTTP over TLS.
    HTTPS,
}

/// Keeps apps away from a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taint {
    /// Its name, such as gpu or pci-dss.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Its value; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does to apps that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new app lands; what is there stays.
    NoSchedule,
    /// No new app lands, and what is there is taken away.
    NoExecute,
}

/// What the hub knows of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// UID of its kube-system namespace: what the cluster is, whatever its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Version of its API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Nodes that are Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_ready: Option<u32>,
    /// Apps delivered there.
    #[serde(default)]
    pub apps: u32,
    /// Accepted: the spec makes sense. Connected: an agent has a session. Watched: enough regions can see it to take it
    /// out of the answers by themselves. Healthy: what the DNS nodes hold of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
