use serde_json::{Value, json};

use super::{Lookup, admit_create};
use crate::kinds::{Kind, default};

struct Others;

impl Lookup for Others {
    fn get(&self, _: &str, resource: &str, _: &str, name: &str) -> Option<Value> {
        match (resource, name) {
            ("serviceaccounts", "default") => Some(json!({"imagePullSecrets": [{"name": "pull"}]})),
            ("priorityclasses", "high") => {
                Some(json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"}))
            }
            _ => None,
        }
    }

    fn all(&self, _: &str, _: &str) -> Vec<Value> {
        Vec::new()
    }

    fn suffix(&self) -> String {
        "abcde".to_owned()
    }
}

fn pod(more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "a", "namespace": "n"},
        "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    for (key, value) in more.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    default(Kind { group: "", version: "v1", kind: "Pod" }, &mut pod);
    pod
}

#[test]
fn a_pod_gets_its_account_priority_and_tolerations() {
    let mut object = pod(json!({"priorityClassName": "high"}));
    admit_create(Kind { group: "", version: "v1", kind: "Pod" }, &mut object, &Others, true).unwrap();
    let spec = &object["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    assert_eq!(spec["priority"], 7);
    assert_eq!(spec["preemptionPolicy"], "Never");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(spec["volumes"][0]["name"], "kube-api-access-abcde");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
}

#[test]
fn what_names_nothing_is_forbidden() {
    for (more, expected) in [
        (json!({"priorityClassName": "low"}), "no PriorityClass with name low was found"),
        (
            json!({"serviceAccountName": "robot"}),
            "error looking up service account n/robot: serviceaccount \"robot\" not found",
        ),
    ] {
        let mut object = pod(more);
        let found = admit_create(Kind { group: "", version: "v1", kind: "Pod" }, &mut object, &Others, true);
        assert_eq!(found, Err(expected.to_owned()));
    }
}

/// A namespace with a range of limits.
struct Limited;

impl Lookup for Limited {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        Others.get(group, resource, namespace, name)
    }

    fn all(&self, _: &str, resource: &str) -> Vec<Value> {
        let range = json!({"metadata": {"namespace": "n"}, "spec": {"limits": [{"type": "Container",
            "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"},
            "min": {"cpu": "50m"}}, {"type": "Pod", "max": {"cpu": "1500m"}}]}});
        if resource == "limitranges" { vec![range] } else { Vec::new() }
    }

    fn suffix(&self) -> String {
        Others.suffix()
    }
}

#[test]
fn limits_are_given_and_kept() {
    let kind = Kind { group: "", version: "v1", kind: "Pod" };
    let mut object = pod(json!({}));
    admit_create(kind, &mut object, &Limited, true).unwrap();
    let resources = &object["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
    let annotation = &object["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    assert_eq!(*annotation, "LimitRanger plugin set: cpu request for container a; cpu limit for container a");
    let container = |name: &str, cpu: &str| json!({"name": name, "image": "a:1", "resources": {"limits": {"cpu": cpu}, "requests": {"cpu": cpu}}});
    for (containers, expected) in [
        (json!([container("a", "10m")]), "minimum cpu usage per Container is 50m, but request is 10m"),
        (
            json!([container("a", "2")]),
            "[maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Pod is 1500m, but limit is 2]",
        ),
        (json!([container("a", "1"), container("b", "1")]), "maximum cpu usage per Pod is 1500m, but limit is 2"),
    ] {
        let mut object = pod(json!({"containers": containers}));
        assert_eq!(admit_create(kind, &mut object, &Limited, true), Err(expected.to_owned()));
    }
}

/// What a real server said about each pod under both standards.
#[test]
fn pods_are_as_secure_as_a_namespace_asks() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../testdata/pod_security.json")).unwrap();
    for case in &cases {
        for level in ["baseline", "restricted"] {
            let said = super::security::violations(level == "restricted", &case["spec"]).join(", ");
            assert_eq!(said, case[level].as_str().unwrap(), "{level}: {}", case["spec"]);
        }
    }
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.30"});
    let namespace = json!({"metadata": {"labels": labels}});
    let spec = json!({"hostNetwork": true});
    let refusal = super::security::refusal(&namespace, &spec).unwrap();
    assert_eq!(refusal, "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)");
    let warning = super::security::warning(&namespace, &spec).unwrap();
    assert!(warning.starts_with("would violate PodSecurity \"restricted:v1.30\": host"), "{warning}");
    assert_eq!(super::security::refusal(&json!({}), &spec), None);
}
