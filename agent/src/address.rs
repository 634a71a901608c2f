//! Where users reach an app's hosts in this cluster: read off the app's own Ingresses and load-balanced Services.
//!
//! Pure. An Ingress that carries the host wins; else a LoadBalancer Service annotated with the host; else the only
//! LoadBalancer Service of the app. Nothing is guessed beyond that: two Services without annotation are no answer, and
//! a load balancer that gives a host name instead of an address is a reason of its own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::wire::HostAddresses;
use serde_json::Value;

/// Annotation on a LoadBalancer Service: the host that it serves.
pub const HOST_ANNOTATION: &str = "isochrone.dev/host";

/// What one object of an app exposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// How it says which hosts.
    pub by: By,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Host names that its load balancer gave instead.
    pub names: BTreeSet<String>,
}

/// How an object says which hosts it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// An Ingress: hosts of its rules, `*.x` for any one label; an empty string for a rule (or default backend) that
    /// takes every host.
    Ingress(BTreeSet<String>),
    /// A LoadBalancer Service, with its [`HOST_ANNOTATION`].
    Service(Option<String>),
}

impl Exposure {
    /// Reads an object; `None` when its kind exposes nothing.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        let by = match (text("/apiVersion")?, text("/kind")?) {
            ("networking.k8s.io/v1", "Ingress") => By::Ingress(ingress_hosts(object)),
            ("v1", "Service") if text("/spec/type") == Some("LoadBalancer") => {
                let host = object.pointer("/metadata/annotations").and_then(|a| a.get(HOST_ANNOTATION));
                By::Service(host.and_then(Value::as_str).map(normal))
            }
            _ => return None,
        };
        let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
        for point in object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).into_iter().flatten() {
            match point.get("ip").and_then(Value::as_str).map(str::parse) {
                Some(Ok(address)) => drop(addresses.insert(address)),
                Some(Err(_)) | None => {
                    names.extend(point.get("hostname").and_then(Value::as_str).filter(|h| !h.is_empty()).map(normal));
                }
            }
        }
        Some(Self { by, addresses, names })
    }

    fn carries(&self, host: &str) -> bool {
        match &self.by {
            By::Ingress(hosts) => hosts.iter().any(|rule| rule.is_empty() || matches(rule, host)),
            By::Service(annotated) => annotated.as_deref() == Some(host),
        }
    }
}

/// The addresses of each host, in the order of `hosts`.
pub fn addresses<'a>(hosts: &[String], exposures: impl Iterator<Item = &'a Exposure> + Clone) -> Vec<HostAddresses> {
    hosts.iter().map(|host| of_host(host, exposures.clone())).collect()
}

fn of_host<'a>(host: &str, exposures: impl Iterator<Item = &'a Exposure> + Clone) -> HostAddresses {
    let wanted = normal(host);
    let is_ingress = |e: &&Exposure| matches!(e.by, By::Ingress(_));
    let ingresses: Vec<&Exposure> = exposures.clone().filter(is_ingress).filter(|e| e.carries(&wanted)).collect();
    let services: Vec<&Exposure> = exposures.filter(|e| matches!(e.by, By::Service(_))).collect();
    let annotated: Vec<&Exposure> = services.iter().copied().filter(|e| e.carries(&wanted)).collect();
    let chosen = match (ingresses.is_empty(), annotated.is_empty(), services.as_slice()) {
        (false, _, _) => ingresses,
        (true, false, _) => annotated,
        (true, true, [only]) if only.by == By::Service(None) => vec![*only],
        (true, true, _) => Vec::new(),
    };
    let found: BTreeSet<IpAddr> = chosen.iter().flat_map(|e| &e.addresses).copied().collect();
    let reason = if !found.is_empty() {
        ""
    } else if chosen.iter().any(|e| !e.names.is_empty()) {
        "LoadBalancerHostname"
    } else {
        "NoAddress"
    };
    HostAddresses {
        host: host.to_owned(),
        addresses: found.iter().map(ToString::to_string).collect(),
        reason: reason.to_owned(),
    }
}

fn ingress_hosts(object: &Value) -> BTreeSet<String> {
    let rules = object.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten();
    let named = rules.map(|r| r.get("host").and_then(Value::as_str).map(normal).unwrap_or_default());
    let all = object.pointer("/spec/defaultBackend").map(|_| String::new());
    named.chain(all).collect()
}

/// A rule's `*` stands for exactly one label (Ingress v1).
fn matches(rule: &str, host: &str) -> bool {
    match rule.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => rule == host,
    }
}

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(host: &str, points: Value) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"rules": [{"host": host}]},
            "status": {"loadBalancer": {"ingress": points}}})
    }

    fn service(annotated: Option<&str>, points: Value) -> Value {
        let annotations = annotated.map_or(json!({}), |host| json!({HOST_ANNOTATION: host}));
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"annotations": annotations},
            "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": points}}})
    }

    /// `addresses|reason` for `shop.example.com`.
    fn check(objects: &[Value], expect: &str) {
        let exposures: Vec<Exposure> = objects.iter().filter_map(Exposure::of).collect();
        let found = addresses(&["Shop.example.com".into()], exposures.iter());
        assert_eq!(format!("{}|{}", found[0].addresses.join(","), found[0].reason), expect, "{objects:?}");
        assert_eq!(found[0].host, "Shop.example.com");
    }

    #[test]
    fn each_source_in_its_turn() {
        let ip = |a: &str| json!([{"ip": a}]);
        let two = json!([{"ip": "2001:db8::1"}, {"ip": "192.0.2.1"}]);
        check(&[], "|NoAddress");
        check(&[ingress("shop.example.com", two)], "192.0.2.1,2001:db8::1|");
        check(&[ingress("*.example.com", ip("192.0.2.1"))], "192.0.2.1|");
        check(&[ingress("*.com", ip("192.0.2.1"))], "|NoAddress");
        check(&[ingress("other.example.com", ip("192.0.2.1"))], "|NoAddress");
        check(&[ingress("shop.example.com", ip("192.0.2.1")), service(None, ip("192.0.2.9"))], "192.0.2.1|");
        // The Ingress has none yet: the Service behind it must not answer in its place.
        check(&[ingress("shop.example.com", json!([])), service(None, ip("192.0.2.9"))], "|NoAddress");
        check(&[service(None, ip("192.0.2.9"))], "192.0.2.9|");
        check(&[service(None, ip("192.0.2.9")), service(None, ip("192.0.2.8"))], "|NoAddress");
        check(&[service(Some("shop.example.com."), ip("192.0.2.9")), service(None, ip("192.0.2.8"))], "192.0.2.9|");
        check(&[service(Some("other.example.com"), ip("192.0.2.9"))], "|NoAddress");
        check(&[service(None, json!([{"hostname": "lb.cloud.example"}]))], "|LoadBalancerHostname");
        check(&[service(None, json!([{"hostname": "lb.cloud.example"}, {"ip": "192.0.2.7"}]))], "192.0.2.7|");
        check(&[service(None, json!([{"ip": "nonsense"}, 5]))], "|NoAddress");
    }
}
