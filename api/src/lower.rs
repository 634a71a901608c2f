//! From what people wrote to what decisions take: parsed once, here, with the field's path in every error.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::id::RegionId;
use policies::inventory::{ClusterFacts, Effect, Taint as TaintFact};
use policies::placement::PlacementSpec;
use policies::placement::filter::{Requirement, Selector, Toleration as Tolerates};

use crate::regions;
use crate::snapshot;
use crate::v1alpha1::{
    Cluster, ClusterSelector, HostRole, Location, ProbeScheme, RegionPolicySpec, SelectorOperator, TaintEffect,
    TolerationOperator, Traffic, parse_duration,
};

/// Label that every cluster carries implicitly: its region.
pub const LABEL_REGION: &str = "topology.kubernetes.io/region";
/// Label that every cluster carries implicitly: its name.
pub const LABEL_CLUSTER: &str = "isochrone.dev/cluster";
/// Label that every cluster with a provider carries implicitly.
pub const LABEL_PROVIDER: &str = "isochrone.dev/provider";

/// Why a spec could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct LowerError {
    /// Path of the field, such as `spec.traffic.ttl`.
    pub field: String,
    /// What is wrong with it, and what to write.
    pub message: String,
}

/// Where a cluster lies: its own `location`, else its region's place.
///
/// # Errors
/// When there is neither.
pub fn location(cluster: &Cluster) -> Result<Location, LowerError> {
    let spec = &cluster.spec;
    spec.location.or_else(|| regions::locate(&spec.region, spec.provider.as_deref())).ok_or_else(|| LowerError {
        field: "spec.location".to_owned(),
        message: format!(
            "region {} is no cloud provider's, so its place is not known: write location: {{latitude: …, longitude: …}}",
            spec.region
        ),
    })
}

/// What decisions may use of a cluster. `joined`: an agent has joined, ever.
pub fn cluster(cluster: &Cluster, joined: bool) -> ClusterFacts {
    let spec = &cluster.spec;
    let mut labels: BTreeMap<String, String> = cluster.metadata.labels.clone().unwrap_or_default();
    labels.insert(LABEL_REGION.to_owned(), spec.region.clone());
    labels.insert(LABEL_CLUSTER.to_owned(), cluster.metadata.name.clone().unwrap_or_default());
    if let Some(provider) = &spec.provider {
        labels.insert(LABEL_PROVIDER.to_owned(), provider.clone());
    }
    let taint = |taint: &crate::v1alpha1::Taint| TaintFact {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: match taint.effect {
            TaintEffect::NoSchedule => Effect::NoSchedule,
            TaintEffect::NoExecute => Effect::NoExecute,
        },
    };
    ClusterFacts {
        region: RegionId::new(&spec.region),
        labels,
        taints: spec.taints.iter().map(taint).collect(),
        joined,
        accepted: location(cluster).is_ok(),
    }
}

/// What a policy asks of placement.
pub fn placement(policy: &RegionPolicySpec) -> PlacementSpec {
    let spread = policy.active_active.as_ref().and_then(|mode| mode.spread.as_ref());
    let count = |n: Option<u32>| n.map(|n| n as usize);
    PlacementSpec {
        selector: selector(&policy.clusters),
        tolerations: policy
            .tolerations
            .iter()
            .map(|t| Tolerates {
                key: t.key.clone(),
                value: match t.operator {
                    TolerationOperator::Exists => None,
                    TolerationOperator::Equal => Some(t.value.clone().unwrap_or_default()),
                },
            })
            .collect(),
        min_regions: count(spread.and_then(|s| s.min_regions)),
        max_clusters: count(spread.and_then(|s| s.max_clusters)),
    }
}

/// The most addresses of one cluster that are asked each second: a second load balancer says whether the first one or the
/// cluster is ill, a fifth no more.
const PROBE_ADDRESSES_MAX: usize = 4;

/// How DNS nodes shall ask whether a cluster lives, at `addresses`, sorted; `None` without any.
pub fn probe(cluster: &Cluster, addresses: impl IntoIterator<Item = String>) -> Option<snapshot::Probe> {
    let addresses: Vec<String> = addresses.into_iter().take(PROBE_ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return None;
    }
    let Some(written) = &cluster.spec.probe else {
        let ports = vec![snapshot::ProbePort { port: 80, tls: false }, snapshot::ProbePort { port: 443, tls: true }];
        return Some(snapshot::Probe { addresses, ports, path: "/".to_owned(), host: String::new() });
    };
    let (usual, tls) = match written.scheme {
        ProbeScheme::HTTP => (80, false),
        ProbeScheme::HTTPS => (443, true),
    };
    let ports = vec![snapshot::ProbePort { port: written.port.unwrap_or(usual).into(), tls }];
    let host = written.host.clone().unwrap_or_default();
    Some(snapshot::Probe { addresses, ports, path: written.path.clone(), host })
}

/// What a host is for, as DNS nodes are told.
pub const fn role(written: HostRole) -> snapshot::Role {
    match written {
        HostRole::Any => snapshot::Role::Any,
        HostRole::Read => snapshot::Role::Read,
        HostRole::Write => snapshot::Role::Write,
    }
}

fn selector(written: &ClusterSelector) -> Selector {
    let requirement = |r: &crate::v1alpha1::SelectorRequirement| {
        let (key, values) = (r.key.clone(), r.values.iter().cloned().collect());
        match r.operator {
            SelectorOperator::In => Requirement::In(key, values),
            SelectorOperator::NotIn => Requirement::NotIn(key, values),
            SelectorOperator::Exists => Requirement::Exists(key),
            SelectorOperator::DoesNotExist => Requirement::DoesNotExist(key),
        }
    };
    Selector {
        equal: written.match_labels.clone(),
        requirements: written.match_expressions.iter().map(requirement).collect(),
    }
}

/// How users of a policy are steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// Clusters this close to the best count as equal.
    pub tolerance: Duration,
    /// How long resolvers may keep an answer; at least one second.
    pub ttl: Duration,
}

/// Longest TTL an answer may have: beyond a day resolvers cap it anyway, and a failover would take as long.
const TTL_MAX: Duration = Duration::from_secs(86_400);

/// Reads `traffic`; a policy without it has the defaults.
///
/// # Errors
/// When a duration cannot be read, or the TTL lies outside one second to one day.
pub fn traffic(written: Option<&Traffic>) -> Result<Steering, LowerError> {
    let defaults = Traffic::default();
    let written = written.unwrap_or(&defaults);
    let ttl = duration("spec.traffic.ttl", &written.ttl)?;
    if ttl < Duration::from_secs(1) || ttl > TTL_MAX {
        return Err(LowerError {
            field: "spec.traffic.ttl".to_owned(),
            message: format!("{} lies outside 1s to 24h: write 30s if in doubt", written.ttl),
        });
    }
    Ok(Steering { tolerance: duration("spec.traffic.tolerance", &written.tolerance)?, ttl })
}

/// Reads a duration, with the path of its field in the error.
///
/// # Errors
/// When the text is no duration.
pub fn duration(field: &str, text: &str) -> Result<Duration, LowerError> {
    parse_duration(text).map_err(|e| LowerError { field: field.to_owned(), message: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1alpha1::ClusterSpec;

    fn spec(region: &str) -> Cluster {
        let text = serde_json::json!({ "region": region, "provider": "aws" });
        Cluster::new("fra", serde_json::from_value::<ClusterSpec>(text).unwrap())
    }

    #[test]
    fn a_cluster_carries_its_implied_labels() {
        let facts = cluster(&spec("eu-central-1"), true);
        assert_eq!(facts.labels[LABEL_REGION], "eu-central-1");
        assert_eq!(facts.labels[LABEL_CLUSTER], "fra");
        assert_eq!(facts.labels[LABEL_PROVIDER], "aws");
        assert!(facts.accepted);
    }

    #[test]
    fn a_region_without_a_place_says_what_to_write() {
        let error = location(&spec("eu-central")).unwrap_err();
        assert!(error.to_string().starts_with("spec.location: region eu-central is no cloud provider's"), "{error}");
        assert!(!cluster(&spec("eu-central"), true).accepted);
    }

    #[test]
    fn a_probe_is_what_is_written_or_both_usual_ports() {
        let addresses = || (1..9).map(|n| format!("192.0.2.{n}"));
        let mut fra = spec("eu-central-1");
        assert_eq!(probe(&fra, []), None);
        let usual = probe(&fra, addresses()).unwrap();
        assert_eq!(usual.addresses.len(), PROBE_ADDRESSES_MAX);
        let ports: Vec<(u32, bool)> = usual.ports.iter().map(|p| (p.port, p.tls)).collect();
        assert_eq!((ports.as_slice(), usual.path.as_str()), ([(80, false), (443, true)].as_slice(), "/"));
        let written = serde_json::json!({"scheme": "HTTPS", "path": "/healthz", "host": "ingress.example.com"});
        fra.spec.probe = Some(serde_json::from_value(written).unwrap());
        let written = probe(&fra, addresses()).unwrap();
        assert_eq!(written.ports, [snapshot::ProbePort { port: 443, tls: true }]);
        assert_eq!((written.path.as_str(), written.host.as_str()), ("/healthz", "ingress.example.com"));
    }

    #[test]
    fn ttl_bounds() {
        let with = |ttl: &str| traffic(Some(&Traffic { ttl: ttl.to_owned(), ..Traffic::default() }));
        assert_eq!(with("1s").unwrap().ttl, Duration::from_secs(1));
        assert_eq!(with("0s").unwrap_err().field, "spec.traffic.ttl");
        assert_eq!(with("25h").unwrap_err().field, "spec.traffic.ttl");
        assert!(traffic(None).is_ok());
    }
}
