use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object() -> Value {
    json!({
        "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x", "a b": "y"}},
        "spec": {"replicas": 3, "weights": [10, 20, 30, 40], "half": 0.5},
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "count": 1},
            {"type": "Synced", "status": "False", "count": 5, "reason": "Why)"},
        ]},
    })
}

fn found(path: &str) -> Option<Value> {
    let object = object();
    let path = JsonPath::parse(path)?;
    let found = path.find(&object)?;
    Some(json!(found))
}

#[test]
fn paths_lead_to_values() {
    for (path, expected) in [
        (".spec.replicas", json!([3])),
        ("$.spec.replicas", json!([3])),
        ("['spec']['replicas']", json!([3])),
        (r".metadata.labels.app\.kubernetes\.io/name", json!(["x"])),
        (r"['metadata'].labels['app\.kubernetes\.io/name']", json!(["x"])),
        (".spec.nothing", json!([])),
        (".spec.nothing.at.all", json!([])),
        (".spec.weights[0]", json!([10])),
        (".spec.weights[-1]", json!([40])),
        (".spec.weights[1:3]", json!([20, 30])),
        (".spec.weights[::2]", json!([10, 30])),
        (".spec.weights[:-1]", json!([10, 20, 30])),
        (".spec.weights[*]", json!([10, 20, 30, 40])),
        (".spec.weights[0,2]", json!([10, 30])),
        (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
        (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
        (".status.conditions[?(@.type!=\"Ready\")].status", json!(["False"])),
        (".status.conditions[?(@.count>1)].type", json!(["Synced"])),
        (".status.conditions[?(@.count<=1)].type", json!(["Ready"])),
        (".status.conditions[?(@.reason)].type", json!(["Synced"])),
        (".status.conditions[?(@.reason==\"Why)\")].type", json!(["Synced"])),
        (".status.conditions[*].type", json!(["Ready", "Synced"])),
        (".status.conditions.*.type", json!(["Ready", "Synced"])),
        ("..reason", json!(["Why)"])),
        (".spec", json!([object()["spec"]])),
    ] {
        assert_eq!(found(path), Some(expected), "{path}");
    }
}

#[test]
fn what_cannot_be_followed_finds_nothing() {
    for path in [
        ".spec.weights[4]",
        ".spec.weights[-5]",
        ".spec.weights[3:1]",
        ".spec.weights[0:9]",
        ".spec.weights[0:3:0]",
        ".spec.replicas[0]",
        ".spec[?(@.a==1)]",
        ".status.conditions[?(@.type>1)].type",
    ] {
        assert!(JsonPath::parse(path).is_some(), "{path}");
        assert_eq!(found(path), None, "{path}");
    }
}

#[test]
fn what_is_no_path_is_not_read() {
    for path in [".a[", ".a[x]", ".a[1:2:3:4]", ".a[?(@.b==1)", ".a[?(@.b=1)]", "....a", ".a[?(@.b==\"x)]", ".a}"] {
        assert_eq!(JsonPath::parse(path), None, "{path}");
    }
    let deep = format!("{}@.a{}", "[?(".repeat(9999), ")]".repeat(9999));
    assert_eq!(JsonPath::parse(&deep), None);
}

#[test]
fn values_print_as_go_has_them() {
    for (value, expected) in [
        (json!(null), "<no value>"),
        (json!("text"), "text"),
        (json!(5), "5"),
        (json!(0.5), "0.5"),
        (json!(2.0), "2"),
        (json!(1e21), "1e+21"),
        (json!(1.5e-7), "1.5e-07"),
        (json!(true), "true"),
        (json!({"a": [1]}), "{\"a\":[1]}"),
    ] {
        assert_eq!(print(&value), expected);
    }
}

proptest! {
    #[test]
    fn no_path_panics(path in "[.\\[\\]*@$?()'\"=<>!:,a-c0-9\\\\ -]{0,40}") {
        let object = object();
        if let Some(path) = JsonPath::parse(&path) {
            let _ = path.find(&object);
        }
    }
}
