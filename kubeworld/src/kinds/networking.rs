//! Ingresses, network policies, endpoints.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, count, has, integer, list, option, text},
    names, pods, selectors,
};

const SPEC: Path<'static> = Path::root("spec");

/// An Ingress.
pub(super) fn check_ingress(causes: &mut Causes, ingress: &Value) {
    let spec = at(ingress, &["spec"]);
    let rules = list(spec, "rules");
    let default = option(spec, "defaultBackend");
    if rules.is_empty() && default.is_none() {
        let shown = if has(spec, "rules") { json!([]) } else { Value::Null };
        causes.invalid(SPEC, shown, "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = default {
        check_backend(causes, SPEC.child("defaultBackend"), backend);
    }
    let path = SPEC.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        check_ingress_rule(causes, path.index(index), rule);
    }
    let path = SPEC.child("tls");
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let path = path.index(index);
        let hosts = path.child("hosts");
        for (index, host) in list(tls, "hosts").iter().enumerate() {
            check_host(causes, hosts.index(index), host.as_str().unwrap_or_default());
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            causes.each_invalid(path.child("secretName"), secret, names::dns_subdomain(secret));
        }
    }
    let class = text(spec, "ingressClassName");
    if has(spec, "ingressClassName") {
        causes.each_invalid(SPEC.child("ingressClassName"), class, names::dns_subdomain(class));
    }
}

/// What only a new Ingress is asked.
pub(super) fn check_ingress_class_annotation(causes: &mut Causes, ingress: &Value) {
    const KEY: &str = "kubernetes.io/ingress.class";
    let annotation = at(ingress, &["metadata", "annotations", KEY]).as_str();
    let class = at(ingress, &["spec", "ingressClassName"]).as_str();
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        let why = "must match `ingressClassName` when both are specified";
        causes.invalid(Path::root("annotations").child(KEY), annotation, why);
    }
}

fn check_host(causes: &mut Causes, path: Path<'_>, host: &str) {
    let reasons = if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns_subdomain(host) };
    causes.each_invalid(path, host, reasons);
}

fn check_ingress_rule(causes: &mut Causes, path: Path<'_>, rule: &Value) {
    let host = text(rule, "host");
    if !host.is_empty() {
        if names::sloppy_ip(host).is_some() {
            causes.invalid(path.child("host"), host, "must be a DNS name, not an IP address");
        }
        check_host(causes, path.child("host"), host);
    }
    let Some(http) = option(rule, "http") else { return };
    let path = path.child("http");
    let path = path.child("paths");
    if count(http, "paths") == 0 {
        causes.required(path, "");
    }
    for (index, one) in list(http, "paths").iter().enumerate() {
        check_ingress_path(causes, path.index(index), one);
    }
}

fn check_ingress_path(causes: &mut Causes, path: Path<'_>, one: &Value) {
    let target = text(one, "path");
    let at_path = path.child("path");
    let Some(kind) = option(one, "pathType").and_then(Value::as_str) else {
        causes.required(path.child("pathType"), "pathType must be specified");
        return;
    };
    match kind {
        "Exact" | "Prefix" => {
            if !target.starts_with('/') {
                causes.invalid(at_path, target, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if target.contains(bad) {
                    causes.invalid(at_path, target, &format!("must not contain '{bad}'"));
                }
            }
            for bad in ["/..", "/."] {
                if target.ends_with(bad) {
                    causes.invalid(at_path, target, &format!("cannot end with '{bad}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !target.is_empty() && !target.starts_with('/') {
                causes.invalid(at_path, target, "must be an absolute path");
            }
        }
        other => causes.not_supported(path.child("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    check_backend(causes, path.child("backend"), at(one, &["backend"]));
}

fn check_backend(causes: &mut Causes, path: Path<'_>, backend: &Value) {
    match (option(backend, "service"), option(backend, "resource")) {
        (Some(_), Some(_)) => causes.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => causes.invalid(path, "", "resource or service backend is required"),
        (None, Some(resource)) => {
            let path = path.child("resource");
            for key in ["kind", "name"] {
                match text(resource, key) {
                    "" => causes.required(path.child(key), ""),
                    name => causes.each_invalid(path.child(key), name, names::path_segment(name)),
                }
            }
        }
        (Some(service), None) => {
            match text(service, "name") {
                "" => causes.required(path.child("service.name"), ""),
                name => causes.each_invalid(path.child("service.name"), name, names::dns_label(name)),
            }
            let port = at(service, &["port"]);
            match (text(port, "name"), integer(port, "number").unwrap_or_default()) {
                ("", 0) => causes.required(path, "port name or number is required"),
                ("", number) => pods::check_port_number(causes, path.child("service.port.number"), number),
                (name, 0) => causes.each_invalid(path.child("service.port.name"), name, names::port_name(name)),
                _ => causes.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

/// A NetworkPolicy.
pub(super) fn check_policy(causes: &mut Causes, policy: &Value) {
    let spec = at(policy, &["spec"]);
    selectors::check(causes, SPEC.child("podSelector"), at(spec, &["podSelector"]));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let path = SPEC.child(direction);
        for (index, rule) in list(spec, direction).iter().enumerate() {
            let path = path.index(index);
            let ports = path.child("ports");
            for (index, port) in list(rule, "ports").iter().enumerate() {
                check_policy_port(causes, ports.index(index), port);
            }
            let path = path.child(peers);
            for (index, peer) in list(rule, peers).iter().enumerate() {
                check_peer(causes, path.index(index), peer);
            }
        }
    }
    let types = list(spec, "policyTypes");
    let path = SPEC.child("policyTypes");
    if types.len() > 2 {
        causes.invalid(path, json!(types), "may not specify more than two policyTypes");
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        if !matches!(kind, "Ingress" | "Egress") {
            causes.not_supported(path.index(index), kind, &["Ingress", "Egress"]);
        }
    }
}

fn check_policy_port(causes: &mut Causes, path: Path<'_>, port: &Value) {
    let protocol = text(port, "protocol");
    if !protocol.is_empty() && !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        causes.not_supported(path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let end = integer(port, "endPort");
    let at_end = path.child("endPort");
    match (option(port, "port"), end) {
        (Some(Value::String(name)), end) => {
            if let Some(end) = end {
                causes.invalid(at_end, end, "may not be specified when `port` is non-numeric");
            }
            causes.each_invalid(path.child("port"), name, names::port_name(name));
        }
        (Some(number), end) => {
            let number = number.as_i64().unwrap_or_default();
            pods::check_port_number(causes, path.child("port"), number);
            if let Some(end) = end {
                if end < number {
                    causes.invalid(at_end, end, "must be greater than or equal to `port`");
                }
                pods::check_port_number(causes, at_end, end);
            }
        }
        (None, Some(end)) => causes.invalid(at_end, end, "may not be specified when `port` is not specified"),
        (None, None) => {}
    }
}

fn check_peer(causes: &mut Causes, path: Path<'_>, peer: &Value) {
    let mut count = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = option(peer, key) {
            count += 1;
            selectors::check(causes, path.child(key), selector);
        }
    }
    let block = option(peer, "ipBlock");
    if let Some(block) = block {
        count += 1;
        let path = path.child("ipBlock");
        match text(block, "cidr") {
            "" => causes.required(path.child("cidr"), ""),
            cidr => {
                let network = names::check_cidr(causes, path.child("cidr"), cidr);
                let path = path.child("except");
                for (index, except) in list(block, "except").iter().enumerate() {
                    let shown = except.as_str().unwrap_or_default();
                    let inner = names::check_cidr(causes, path.index(index), shown);
                    if let (Some(network), Some(inner)) = (network, inner)
                        && (!network.contains(&inner.network()) || network.prefix_len() >= inner.prefix_len())
                    {
                        causes.invalid(path.index(index), shown, "must be a strict subset of `cidr`");
                    }
                }
            }
        }
    }
    if count == 0 {
        causes.required(path, "must specify a peer");
    } else if count > 1 && block.is_some() {
        causes.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

/// An IngressClass.
pub(super) fn check_ingress_class(causes: &mut Causes, class: &Value) {
    let spec = at(class, &["spec"]);
    let path = SPEC.child("controller");
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        causes.too_long(path, 250);
    }
    match controller.split_once('/') {
        _ if controller.is_empty() => causes.required(path, ""),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            causes.each_invalid(path, domain, names::dns_subdomain(domain));
        }
        Some(_) | None => {
            causes.invalid(path, controller, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
    }
}

/// An Endpoints object.
pub(super) fn check_endpoints(causes: &mut Causes, endpoints: &Value) {
    let path = Path::root("subsets");
    for (index, subset) in list(endpoints, "subsets").iter().enumerate() {
        let path = path.index(index);
        if count(subset, "addresses") + count(subset, "notReadyAddresses") == 0 {
            causes.required(path, "must specify `addresses` or `notReadyAddresses`");
        }
        for key in ["addresses", "notReadyAddresses"] {
            let path = path.child(key);
            for (index, address) in list(subset, key).iter().enumerate() {
                let path = path.index(index);
                let ip = text(address, "ip");
                names::check_ip(causes, path.child("ip"), ip);
                let host = text(address, "hostname");
                if !host.is_empty() {
                    causes.each_invalid(path.child("hostname"), host, names::dns_label(host));
                }
                names::check_endpoint_ip(causes, path.child("ip"), ip);
            }
        }
        let ports = list(subset, "ports");
        let path = path.child("ports");
        for (index, port) in ports.iter().enumerate() {
            let path = path.index(index);
            match text(port, "name") {
                "" if ports.len() > 1 => causes.required(path.child("name"), ""),
                "" => {}
                name => causes.each_invalid(path.child("name"), name, names::dns_label(name)),
            }
            pods::check_port_number(causes, path.child("port"), integer(port, "port").unwrap_or_default());
            causes.one_of(path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// An EndpointSlice. Endpoints that did not change in an update are not looked at again.
pub(super) fn check_slice(causes: &mut Causes, slice: &Value, old: Option<&Value>) {
    let family = text(slice, "addressType");
    causes.one_of(Path::root("addressType"), family, &["FQDN", "IPv4", "IPv6"]);
    let path = Path::root("ports");
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in list(slice, "ports").iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            causes.each_invalid(path.child("name"), name, names::dns_label(name));
        }
        if seen.contains(&name) {
            causes.duplicate(path.child("name"), name);
        } else {
            seen.push(name);
        }
        causes.one_of(path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    }
    let path = Path::root("endpoints");
    let endpoints = list(slice, "endpoints");
    if old.is_some_and(|old| list(old, "endpoints") == endpoints) {
        return;
    }
    if endpoints.len() > 1000 {
        causes.too_many(path, endpoints.len(), 1000);
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        check_slice_endpoint(causes, path.index(index), endpoint, family);
    }
}

fn check_slice_endpoint(causes: &mut Causes, path: Path<'_>, endpoint: &Value, family: &str) {
    let at_addresses = path.child("addresses");
    let addresses = list(endpoint, "addresses");
    if addresses.is_empty() {
        causes.required_late(at_addresses);
    } else if addresses.len() > 100 {
        causes.too_many(at_addresses, addresses.len(), 100);
    }
    for (index, address) in addresses.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        let path = at_addresses.index(index);
        match family {
            "IPv4" | "IPv6" => {
                if !names::check_ip(causes, path, address) {
                    continue;
                }
                let is_v4 = matches!(address.parse(), Ok(IpAddr::V4(_)));
                if is_v4 != (family == "IPv4") {
                    causes.invalid(at_addresses, address, &format!("must be an {family} address"));
                }
                names::check_endpoint_ip(causes, path, address);
            }
            "FQDN" => {
                let name = address.trim_end_matches('.');
                let reasons = names::dns_subdomain(name);
                if !reasons.is_empty() {
                    causes.invalid(path, address, &reasons.join(","));
                } else if name.split('.').count() < 2 {
                    causes.invalid(path, address, "should be a domain with at least two segments separated by dots");
                }
            }
            _ => {}
        }
    }
    for (key, rule) in [("nodeName", names::dns_subdomain as fn(&str) -> Vec<String>), ("hostname", names::dns_label)] {
        if let Some(name) = option(endpoint, key).and_then(Value::as_str) {
            causes.each_invalid(path.child(key), name, rule(name));
        }
    }
}

/// The addresses in a load balancer's status.
pub(super) fn check_balancer(causes: &mut Causes, path: Path<'_>, status: &Value, with_mode: bool) {
    let path = path.child("ingress");
    for (index, address) in list(status, "ingress").iter().enumerate() {
        let path = path.index(index);
        let ip = text(address, "ip");
        if !ip.is_empty() {
            names::check_ip(causes, path.child("ip"), ip);
        }
        if with_mode {
            let mode = option(address, "ipMode").and_then(Value::as_str);
            match mode {
                None if !ip.is_empty() => causes.required(path.child("ipMode"), "must be specified when `ip` is set"),
                None => {}
                Some(_) if ip.is_empty() => {
                    causes.forbidden(path.child("ipMode"), "may not be specified when `ip` is not set");
                }
                Some("VIP" | "Proxy") => {}
                Some(other) => causes.not_supported(path.child("ipMode"), other, &["Proxy", "VIP"]),
            }
        }
        let host = text(address, "hostname");
        if !host.is_empty() {
            causes.each_invalid(path.child("hostname"), host, names::dns_subdomain(host));
            if names::sloppy_ip(host).is_some() {
                causes.invalid(path.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}
