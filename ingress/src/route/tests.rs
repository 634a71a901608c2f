use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn service(name: &str, kind: &str, host: Option<&str>) -> Arc<Service> {
    let annotations = host.map(|host| json!({ HOST_ANNOTATION: host }));
    let metadata = json!({ "namespace": "shop", "name": name, "annotations": annotations });
    object(json!({ "metadata": metadata, "spec": { "type": kind } }))
}

fn slice(service: &str, endpoints: &[(&str, Option<bool>)]) -> Arc<EndpointSlice> {
    let endpoint = |(pod, ready): &(&str, Option<bool>)| {
        let target = json!({ "kind": "Pod", "name": pod });
        json!({ "addresses": ["10.244.0.1"], "conditions": { "ready": ready }, "targetRef": target })
    };
    let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
    let labels = json!({ "kubernetes.io/service-name": service });
    let metadata = json!({ "namespace": "shop", "name": format!("{service}-x"), "labels": labels });
    object(json!({ "metadata": metadata, "addressType": "IPv4", "endpoints": endpoints }))
}

fn ingress(name: &str, created: &str, rules: Value) -> Arc<Ingress> {
    let metadata = json!({ "namespace": "shop", "name": name, "creationTimestamp": created });
    object(json!({ "metadata": metadata, "spec": { "rules": rules } }))
}

fn rule(host: &str, paths: &[(&str, &str, &str)]) -> Value {
    let path = |(kind, path, service): &(&str, &str, &str)| {
        let backend = json!({ "service": { "name": service, "port": { "number": 80 } } });
        json!({ "pathType": kind, "path": path, "backend": backend })
    };
    json!({ "host": host, "http": { "paths": paths.iter().map(path).collect::<Vec<_>>() } })
}

fn pod(name: &str, labels: Value) -> Arc<Pod> {
    let metadata = json!({ "namespace": "shop", "name": name, "labels": labels });
    object(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata }))
}

fn ready_services(names: &[&str]) -> Seen {
    Seen {
        services: names.iter().map(|name| service(name, "ClusterIP", None)).collect(),
        slices: names.iter().map(|name| slice(name, &[("pod", Some(true))])).collect(),
        ..Seen::default()
    }
}

fn served_by(seen: &Seen, host: &str, path: &str) -> Option<String> {
    match seen.route(host, path) {
        Outcome::Served { service, .. } => Some(service),
        Outcome::NoEndpoint { .. } | Outcome::NoRoute => None,
    }
}

#[test]
fn a_host_header_is_brought_into_form() {
    for (given, expected) in [
        ("Shop.Example.", "shop.example"),
        ("shop.example:8080", "shop.example"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ] {
        assert_eq!(host_name(given), expected, "{given}");
    }
}

#[test]
fn the_best_rule_answers() {
    let day = |day: u8| format!("2026-01-{day:02}T00:00:00Z");
    let paths = [("Prefix", "/", "web"), ("Prefix", "/api", "api"), ("Exact", "/api/v1", "old")];
    let mut seen = ready_services(&["web", "api", "old", "wild", "late"]);
    seen.ingresses = vec![
        ingress("a-late", &day(3), json!([rule("shop.example", &[("Prefix", "/", "late")])])),
        ingress("b-main", &day(2), json!([rule("shop.example", &paths)])),
        ingress("c-wild", &day(1), json!([rule("*.example", &[("Prefix", "/", "wild")])])),
    ];
    for (host, path, expected) in [
        ("shop.example", "/", Some("shop/web")),
        ("shop.example", "/apis", Some("shop/web")),
        ("shop.example", "/api", Some("shop/api")),
        ("shop.example", "/api/v2", Some("shop/api")),
        ("shop.example", "/api/v1", Some("shop/old")),
        ("other.example", "/", Some("shop/wild")),
        ("a.b.example", "/", None),
        ("example", "/", None),
    ] {
        assert_eq!(served_by(&seen, host, path).as_deref(), expected, "{host}{path}");
    }
}

#[test]
fn the_answer_follows_the_endpoints() {
    let mut seen = ready_services(&[]);
    seen.ingresses = vec![ingress("i", "2026-01-01T00:00:00Z", json!([rule("h", &[("Prefix", "/", "web")])]))];
    let none = Outcome::NoEndpoint { service: "shop/web".to_owned() };
    assert_eq!(seen.route("h", "/"), none, "no service");
    seen.slices = vec![slice("web", &[("pod", Some(true))])];
    assert_eq!(seen.route("h", "/"), none, "endpoints of a service that is gone");
    seen.services = vec![service("web", "ClusterIP", None)];
    assert!(matches!(seen.route("h", "/"), Outcome::Served { .. }));
    seen.slices = vec![slice("web", &[("pod", Some(false))])];
    assert_eq!(seen.route("h", "/"), none, "not ready");
    seen.slices = vec![slice("web", &[("a", Some(false)), ("b", None)])];
    assert!(matches!(seen.route("h", "/"), Outcome::Served { .. }), "unknown counts as ready");
    assert_eq!(seen.route("g", "/"), Outcome::NoRoute);
}

#[test]
fn an_annotated_service_answers_where_no_ingress_does() {
    let mut seen = ready_services(&["lb", "web"]);
    seen.services = vec![
        service("lb", "LoadBalancer", Some("Shop.Example.")),
        service("inner", "ClusterIP", Some("inner.example")),
        service("web", "ClusterIP", None),
    ];
    assert_eq!(served_by(&seen, "shop.example", "/").as_deref(), Some("shop/lb"));
    assert_eq!(seen.route("inner.example", "/"), Outcome::NoRoute, "only a load balancer has an address");
    seen.ingresses =
        vec![ingress("i", "2026-01-01T00:00:00Z", json!([rule("shop.example", &[("Prefix", "/", "web")])]))];
    assert_eq!(served_by(&seen, "shop.example", "/").as_deref(), Some("shop/web"));
}

#[test]
fn the_version_is_the_pods_or_else_its_deployments() {
    let version = |seen: &Seen| match seen.route("h", "/") {
        Outcome::Served { version, .. } => version,
        Outcome::NoEndpoint { .. } | Outcome::NoRoute => panic!("not served"),
    };
    let mut seen = ready_services(&[]);
    seen.services = vec![service("lb", "LoadBalancer", Some("h"))];
    seen.slices = vec![slice("lb", &[("pod", Some(true))])];
    assert_eq!(version(&seen), None);
    seen.pods = vec![pod("pod", json!({ "app": "web" }))];
    assert_eq!(version(&seen), None);
    let labels = json!({ VERSION_LABEL: "1.0" });
    let template = json!({ "metadata": {}, "spec": { "containers": [] } });
    seen.deployments = vec![object(json!({
        "metadata": { "namespace": "shop", "name": "web", "labels": labels },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": template },
    }))];
    assert_eq!(version(&seen).as_deref(), Some("1.0"));
    seen.pods = vec![pod("pod", json!({ "app": "web", VERSION_LABEL: "2.0" }))];
    assert_eq!(version(&seen).as_deref(), Some("2.0"));
}
