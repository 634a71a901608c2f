use serde_json::{Value, json};

use super::{Kind, default, prepare_create, prepare_update};

fn kind(group: &'static str, version: &'static str, kind: &'static str) -> Kind<'static> {
    Kind { group, version, kind }
}

#[test]
fn a_deployment_gets_its_one_form() {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "labels": {}, "creationTimestamp": null},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"nodeSelector": {}, "containers": [{"name": "c", "image": "i",
                "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}, "ports": [{"containerPort": 80}]}]}}},
    });
    default(kind("apps", "v1", "Deployment"), &mut object);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler"}}},
        "status": {},
    });
    assert_eq!(object, expected);
}

#[test]
fn wrong_types_are_left_alone() {
    for broken in [json!(null), json!([]), json!("x"), json!({"spec": 1}), json!({"spec": {"template": []}})] {
        for name in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"] {
            let mut object = broken.clone();
            default(kind("apps", "v1", name), &mut object);
            prepare_create(kind("apps", "v1", name), &mut object);
            prepare_update(kind("apps", "v1", name), "", &mut object, &Value::Null);
        }
        for name in ["Pod", "Service", "Secret", "Namespace", "Node", "LimitRange", "PersistentVolume", "ConfigMap"] {
            let mut object = broken.clone();
            default(kind("", "v1", name), &mut object);
            prepare_create(kind("", "v1", name), &mut object);
            prepare_update(kind("", "v1", name), "status", &mut object, &Value::Null);
        }
    }
}
