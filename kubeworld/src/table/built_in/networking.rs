//! Cells of Services, what they lead to, and Ingresses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::object::{Object, PARTS_SHOWN, labels, list, some_of, unknown};

/// The addresses of a load balancer, each once and in order.
pub(super) fn load_balancer(this: &Object<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for ingress in this.list("/status/loadBalancer/ingress") {
        let address =
            ["ip", "hostname"].iter().filter_map(|field| ingress[*field].as_str()).find(|text| !text.is_empty());
        found.extend(address.map(str::to_owned));
    }
    found.into_iter().collect()
}

pub(super) fn service(this: &Object<'_>) -> Vec<Value> {
    let external = this.texts("/spec/externalIPs");
    let external_ip = match this.text("/spec/type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut addresses = load_balancer(this);
            addresses.extend(external.into_iter().map(str::to_owned));
            if addresses.is_empty() { "<pending>".to_owned() } else { addresses.join(",") }
        }
        "ExternalName" => this.text("/spec/externalName").to_owned(),
        _ => unknown(),
    };
    let ports = this.list("/spec/ports").iter().map(|port| {
        let (number, protocol) =
            (port["port"].as_i64().unwrap_or_default(), port["protocol"].as_str().unwrap_or_default());
        match port["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    vec![
        this.name(),
        this.cell("/spec/type"),
        json!(this.text_or("/spec/clusterIPs/0", "<none>")),
        json!(external_ip),
        json!(if ports.is_empty() { "<none>" } else { &ports }),
        this.age(),
        json!(labels(this.at("/spec/selector"))),
    ]
}

/// Addresses with ports; only addresses where a subset has no ports.
pub(super) fn endpoints(this: &Object<'_>) -> String {
    let mut found = Vec::new();
    for subset in this.list("/subsets") {
        let ips = || list(&subset["addresses"]).iter().map(|address| address["ip"].as_str().unwrap_or_default());
        let ports = list(&subset["ports"]);
        if ports.is_empty() {
            found.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = port["port"].as_i64().unwrap_or_default();
            found.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    some_of(&found, if this.list("/subsets").is_empty() { "<none>" } else { "" })
}

pub(super) fn slice_ports(this: &Object<'_>) -> String {
    let ports = this.list("/ports").iter().map(|port| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    });
    some_of(&ports.collect::<Vec<_>>(), "<unset>")
}

pub(super) fn slice_addresses(this: &Object<'_>) -> String {
    let addresses = this.list("/endpoints").iter().flat_map(|endpoint| list(&endpoint["addresses"]));
    some_of(&addresses.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>(), "<unset>")
}

pub(super) fn ingress(this: &Object<'_>) -> Vec<Value> {
    let rules = this.list("/spec/rules");
    // Rules without a host take none of the places, but count among those that are not shown.
    let (mut hosts, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= hosts.len() == PARTS_SHOWN;
        if let (false, Some(host)) = (more, rule["host"].as_str().filter(|host| !host.is_empty())) {
            hosts.push(host);
        }
    }
    let hosts = match hosts.join(",") {
        text if text.is_empty() => "*".to_owned(),
        text if more => format!("{text} + {} more...", rules.len().saturating_sub(PARTS_SHOWN)),
        text => text,
    };
    let ports = if this.list("/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        this.name(),
        json!(this.at("/spec/ingressClassName").as_str().unwrap_or("<none>")),
        json!(hosts),
        json!(load_balancer(this).join(",")),
        json!(ports),
        this.age(),
    ]
}

pub(super) fn ingress_class(this: &Object<'_>) -> Vec<Value> {
    let mut name = this.text("/metadata/name").to_owned();
    if this.text("/metadata/annotations/ingressclass.kubernetes.io~1is-default-class") == "true" {
        name += " (default)";
    }
    let parameters = if this.at("/spec/parameters").is_object() {
        let text = |field: &str| this.text(&format!("/spec/parameters/{field}"));
        let group = this.at("/spec/parameters/apiGroup").as_str().map(|group| format!(".{group}"));
        format!("{}{}/{}", text("kind"), group.unwrap_or_default(), text("name"))
    } else {
        "<none>".to_owned()
    };
    vec![json!(name), this.cell("/spec/controller"), json!(parameters), this.age()]
}

pub(super) fn ip_address_parent(this: &Object<'_>) -> String {
    if !this.at("/spec/parentRef").is_object() {
        return "<none>".to_owned();
    }
    let text = |field: &str| this.text(&format!("/spec/parentRef/{field}"));
    let resource = match text("group") {
        "" => text("resource").to_owned(),
        group => format!("{}.{group}", text("resource")),
    };
    let namespace = if text("namespace").is_empty() { String::new() } else { format!("/{}", text("namespace")) };
    format!("{}{namespace}/{}", resource.to_lowercase(), text("name"))
}
