//! Which Service answers for a name: the part of an ingress controller that decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressRule};
use kube::ResourceExt as _;

use crate::HOST_ANNOTATION;

/// The label whose value an answer gives as its version.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// The objects of a cluster at one moment, in any order.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) ingresses: Vec<Arc<Ingress>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) slices: Vec<Arc<EndpointSlice>>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) deployments: Vec<Arc<Deployment>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// This ready pod of this Service (`namespace/name`) would answer, of this version when it has the label. No pod
    /// where the endpoint names none.
    Served { service: String, version: Option<String>, pod: Option<Arc<Pod>> },
    /// The name is known, but nobody is there.
    NoEndpoint { service: String },
    /// The name or the path is unknown.
    NoRoute,
}

/// The host of a Host header in the form in which objects carry it: no port, no final dot, lower case.
pub(super) fn host_name(given: &str) -> String {
    // The colons of an IPv6 literal stand in brackets.
    let host = match given.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        Some(_) | None => given,
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

impl Seen {
    /// Ingresses come first, the older before the younger; a Service's annotation counts where no Ingress has the host.
    pub(super) fn route(&self, host: &str, path: &str) -> Outcome {
        let Some((namespace, name)) = self.ingress_backend(host, path).or_else(|| self.annotated_service(host)) else {
            return Outcome::NoRoute;
        };
        let service = format!("{namespace}/{name}");
        let ready = self.ready_pod(&namespace, &name);
        match ready.filter(|_| self.services.iter().any(|service| is(service.as_ref(), &namespace, &name))) {
            Some(name) => {
                let pod = name.and_then(|name| self.pod(&namespace, &name));
                Outcome::Served { service, version: self.version(&namespace, pod.as_deref()), pod }
            }
            None => Outcome::NoEndpoint { service },
        }
    }

    fn ingress_backend(&self, host: &str, path: &str) -> Option<(String, String)> {
        let mut ingresses: Vec<&Arc<Ingress>> = self.ingresses.iter().collect();
        ingresses.sort_by_key(|ingress| {
            (ingress.metadata.creation_timestamp.as_ref().map(|time| time.0), ingress.namespace(), ingress.name_any())
        });
        let mut best: Option<(Rank, (String, String))> = None;
        for ingress in ingresses {
            let Some(spec) = &ingress.spec else { continue };
            for rule in spec.rules.iter().flatten() {
                let Some(exact_host) = matches_host(rule.host.as_deref(), host) else {
                    continue;
                };
                let found = matching_backend(rule, path, spec.default_backend.as_ref());
                let Some((rank, service)) = found.and_then(|(rank, backend)| Some((rank, service_of(backend)?))) else {
                    continue;
                };
                let rank = (exact_host, rank.0, rank.1);
                // Strictly better only: among equals the older Ingress keeps the name.
                if best.as_ref().is_none_or(|(best, _)| rank > *best) {
                    best = Some((rank, (ingress.namespace().unwrap_or_default(), service)));
                }
            }
        }
        best.map(|(_, backend)| backend)
    }

    fn annotated_service(&self, host: &str) -> Option<(String, String)> {
        let carries = |service: &&Arc<Service>| {
            let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
            kind == Some("LoadBalancer")
                && service.annotations().get(HOST_ANNOTATION).is_some_and(|given| host_name(given.trim()) == host)
        };
        let names = self.services.iter().filter(carries).map(|service| (service.namespace(), service.name_any()));
        let (namespace, name) = names.min()?;
        Some((namespace.unwrap_or_default(), name))
    }

    /// `Some` when an endpoint is ready, inside it the name of its pod when it has one. The first by name, so that equal
    /// objects give equal answers.
    fn ready_pod(&self, namespace: &str, service: &str) -> Option<Option<String>> {
        let of_service = |slice: &&Arc<EndpointSlice>| {
            slice.namespace().as_deref() == Some(namespace)
                && slice.labels().get("kubernetes.io/service-name").is_some_and(|name| name == service)
        };
        // Absent means unknown, which the API tells consumers to take as ready.
        let ready =
            |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        let pod = |endpoint: &Endpoint| {
            endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?.name.clone()
        };
        let slices = self.slices.iter().filter(of_service);
        slices.flat_map(|slice| slice.endpoints.iter().flatten()).filter(ready).map(pod).min()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is = |pod: &&Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        self.pods.iter().find(is).cloned()
    }

    /// The pod's own label, else that of a Deployment whose selector takes the pod.
    fn version(&self, namespace: &str, pod: Option<&Pod>) -> Option<String> {
        let labels = pod?.labels();
        let owner = || {
            self.deployments
                .iter()
                .filter(|deployment| {
                    deployment.namespace().as_deref() == Some(namespace) && selects(deployment, labels)
                })
                .min_by_key(|deployment| deployment.name_any())
                .and_then(|deployment| deployment.labels().get(VERSION_LABEL).cloned())
        };
        labels.get(VERSION_LABEL).cloned().or_else(owner)
    }
}

/// How well a path fits: exact before prefix, a longer prefix before a shorter.
type PathRank = (bool, usize);
type Rank = (bool, bool, usize);

fn is(service: &Service, namespace: &str, name: &str) -> bool {
    service.metadata.namespace.as_deref() == Some(namespace) && service.metadata.name.as_deref() == Some(name)
}

/// `Some(true)` for the very host, `Some(false)` for `*.domain` with one label more and for a rule without a host.
fn matches_host(rule: Option<&str>, host: &str) -> Option<bool> {
    let rule = rule.map(host_name).unwrap_or_default();
    if rule.is_empty() {
        return Some(false);
    }
    if rule == host {
        return Some(true);
    }
    let (first, parent) = host.split_once('.')?;
    (!first.is_empty() && rule.strip_prefix("*.") == Some(parent)).then_some(false)
}

fn matching_backend<'a>(
    rule: &'a IngressRule,
    path: &str,
    default: Option<&'a IngressBackend>,
) -> Option<(PathRank, &'a IngressBackend)> {
    let Some(http) = &rule.http else {
        return default.map(|backend| ((false, 0), backend));
    };
    let fitting = http.paths.iter().filter_map(|entry| {
        let wanted = entry.path.as_deref().unwrap_or("/");
        let fits = match entry.path_type.as_str() {
            "Exact" => path == wanted,
            // `ImplementationSpecific` is left to the implementation: here it is a prefix.
            _ => under(path, wanted),
        };
        fits.then_some(((entry.path_type == "Exact", wanted.trim_end_matches('/').len()), &entry.backend))
    });
    fitting.max_by_key(|(rank, _)| *rank)
}

/// Whether a path lies under a prefix, element by element: `/foo` covers `/foo/bar`, not `/foobar`.
fn under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn service_of(backend: &IngressBackend) -> Option<String> {
    backend.service.as_ref().map(|service| service.name.clone())
}

fn selects(deployment: &Deployment, labels: &BTreeMap<String, String>) -> bool {
    let selector = &deployment.spec.selector;
    // Expressions are rare in Deployments; one that has them is not guessed at.
    let wanted = selector.match_labels.as_ref().filter(|_| selector.match_expressions.is_none());
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

#[cfg(test)]
mod tests;
