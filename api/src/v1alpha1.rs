//! The API group `isochrone.dev/v1alpha1`: plain Kubernetes kinds.
//!
//! A field's doc is what `kubectl explain` shows. What one object can say wrong by itself is refused when it is
//! applied, by schema bounds and CEL rules whose messages say what to write instead; what only the whole fleet can
//! tell becomes a condition with a reason. A field that would do nothing yet is not here.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::duplicated_attributes,
    reason = "KubeSchema repeats each struct inside a function, CustomResource derives the root types without docs, and \
              printer columns of equal type are no duplicates"
)]

mod app;
mod cluster;
mod condition;
mod dns_zone;
mod duration;
mod region_policy;

pub use app::{
    Adopt, App, AppClusterStatus, AppHost, AppHostStatus, AppSpec, AppStatus, HostRole, IgnoreDifference, InlineSource,
    Prune, Source,
};
pub use cluster::{
    Cluster, ClusterIngress, ClusterProbe, ClusterSpec, ClusterStatus, Location, ProbeScheme, Taint, TaintEffect,
};
pub use condition::{Condition, Conditions, Truth, standing};
pub use dns_zone::{DnsZone, DnsZoneSpec, DnsZoneStatus, NameServer, SoaTimers, ZoneRecord};
pub use duration::{DurationError, parse_duration};
pub use region_policy::{
    ActiveActive, ClusterSelector, Everywhere, RegionPolicy, RegionPolicySpec, RegionPolicyStatus, Replicas,
    SelectorOperator, SelectorRequirement, Spread, Toleration, TolerationOperator, Traffic,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt as _;

/// The API group of every kind here.
pub const GROUP: &str = "isochrone.dev";

/// Every CustomResourceDefinition, ordered by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![App::crd(), Cluster::crd(), DnsZone::crd(), RegionPolicy::crd()];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            with_known_formats(schema);
        }
    }
    all
}

/// Kubernetes knows no unsigned formats and would warn at every apply; the minimum of zero says the same.
fn with_known_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = Some("int64".to_owned());
    }
    schema.properties.iter_mut().flat_map(|all| all.values_mut()).for_each(with_known_formats);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        with_known_formats(items);
    }
}

#[cfg(test)]
mod tests;
