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
