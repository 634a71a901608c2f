//! `App`: what to run, and under which host names.

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Condition;

/// An application: Kubernetes objects of any kind, the policy that says where they run, and the host names that users
/// are steered by. Delivered with the rights of the member's user `isochrone:app:<namespace>`, so that whoever may
/// create Apps in one namespace is not an administrator everywhere.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "isochrone.dev",
    version = "v1alpha1",
    kind = "App",
    namespaced,
    status = "AppStatus",
    derive = "PartialEq",
    category = "isochrone",
    doc = "An application: Kubernetes objects of any kind, the policy that says where they run, and the host names that users are steered by.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.clusters"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// Name of the RegionPolicy in the same namespace that says where the app runs.
    #[schemars(length(min = 1, max = 253))]
    pub policy: String,

    /// Where its objects come from.
    pub source: Source,

    /// Host names that users are steered by. Each must lie in a DnsZone that allows this namespace; when two Apps
    /// claim one host, the older claim wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into()]))]
    pub hosts: Vec<AppHost>,

    /// What becomes of an object that was there before under a name of the source. Never leaves it and says so;
    /// IfIdentical takes it over when applying would change nothing in it; Always takes it over and makes it what the
    /// source says. An object of another ApplySet is never taken.
    #[serde(default)]
    pub adopt: Adopt,

    /// Fields of delivered objects that others may set: they are given as written when the object is made, and left alone
    /// from then on. What a HorizontalPodAutoscaler scales needs no entry here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ignore_differences: Vec<IgnoreDifference>,

    /// What may be taken away when the source no longer has it. Safe keeps CustomResourceDefinitions, Namespaces,
    /// PersistentVolumes and PersistentVolumeClaims; Cascade takes them too, with everything in them.
    #[serde(default)]
    pub prune: Prune,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Written here, in the App.
    pub inline: InlineSource,
}

/// Objects written into the App.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct InlineSource {
    /// Whole Kubernetes objects. One megabyte in all is the limit of an inline source.
    #[schemars(length(min = 1, max = 256), schema_with = "embedded_resources")]
    pub manifests: Vec<serde_json::Value>,
}

/// Any Kubernetes object: the API server itself refuses one without apiVersion or kind.
fn embedded_resources(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 256,
        "description": "Whole Kubernetes objects. One megabyte in all is the limit of an inline source.",
        "items": {
            "type": "object",
            "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true
        }
    })
}

/// One host name of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct AppHost {
    /// A DNS name in lower case without a final dot, such as shop.example.com.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?[.])+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("write a DNS name in lower case without a final dot or port, such as shop.example.com"))]
    pub host: String,

    /// What it is for. Any and Read: every healthy cluster will do, and while the nearest is suspect it stays beside the
    /// next. Write: clients must agree on one place, so there is never a second one beside a suspect cluster.
    #[serde(default)]
    pub role: HostRole,
}

/// What a host is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostRole {
    /// Any cluster that serves it will do.
    #[default]
    Any,
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// Whether an object that was there before becomes the app's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adopt {
    /// It is left, and reported.
    #[default]
    Never,
    /// If applying would change nothing in it.
    IfIdentical,
    /// Always.
    Always,
}

/// Fields that others may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("size(self.paths) > 0 || size(self.managers) > 0")
    .message("write paths, such as /spec/replicas, or managers, such as istio-sidecar-injector; an entry with neither ignores nothing"))]
pub struct IgnoreDifference {
    /// API group of the objects; left out for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Their kind, such as Deployment.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of one object; left out: all of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// JSON pointers (RFC 6901) to fields; what lies below them is meant, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^(/[^/]+)+$'))")
        .message("write JSON pointers, such as /spec/replicas or /metadata/annotations/example.com~1note"))]
    pub paths: Vec<String>,
    /// Field managers, as `kubectl get -o yaml --show-managed-fields` names them: whatever they set is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub managers: Vec<String>,
}

/// What may be taken away when the source no longer has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Prune {
    /// Not what holds other things: CRDs, Namespaces, PersistentVolumes, PersistentVolumeClaims stay.
    #[default]
    Safe,
    /// Everything.
    Cascade,
}

/// What became of an app. Counts, and the worst twenty clusters; the whole list is `isochrone status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// The generation that this speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Clusters it is placed on.
    #[serde(default)]
    pub clusters: u32,
    /// Clusters where every object is current.
    #[serde(default)]
    pub ready: u32,
    /// Clusters where something was refused or failed.
    #[serde(default)]
    pub failed: u32,
    /// Clusters that it is being removed from.
    #[serde(default)]
    pub removing: u32,
    /// Accepted, Placed, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The worst twenty clusters, worst first; empty when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub worst: Vec<AppClusterStatus>,
    /// What became of each host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub hosts: Vec<AppHostStatus>,
}

/// An app in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppClusterStatus {
    /// The cluster.
    pub cluster: String,
    /// Progressing, Ready, Failed, Leaving, Removing or Unknown.
    pub phase: String,
    /// CamelCase reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One host of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppHostStatus {
    /// The host.
    pub host: String,
    /// The zone that answers for it; empty when none does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Clusters with an address for it.
    #[serde(default)]
    pub clusters: u32,
    /// CamelCase reason when it is not served everywhere it could be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
