use serde_json::{Value, json};

use super::{Kind, default, prepare_create, prepare_update, services, validate_create, validate_update};
use crate::status::Cause;

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

#[test]
fn quantities_and_times_are_read_as_go_reads_them() {
    use super::quantity::unreadable;
    for good in ["1", "-1.5Gi", "+.5", "1e3", "12E-2", "5m", "."] {
        assert_eq!(unreadable(good), None, "{good}");
    }
    for wrong in ["lots", "", "1x", "1 Gi", "1.2.3"] {
        assert!(unreadable(wrong).unwrap().starts_with("quantities must match"), "{wrong}");
    }
    for wrong in ["1ee", "1Kii", "1e", "1e+"] {
        assert_eq!(unreadable(wrong), Some("unable to parse quantity's suffix"), "{wrong}");
    }
    let claim = json!({"spec": {"resources": {"requests": {"storage": "lots"}}}});
    assert!(super::unreadable(kind("", "v1", "PersistentVolumeClaim"), &claim).is_some());
    let lease = json!({"spec": {"renewTime": "soon"}});
    assert_eq!(
        super::unreadable(kind("coordination.k8s.io", "v1", "Lease"), &lease).unwrap(),
        "parsing time \"soon\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"soon\" as \"2006\"",
    );
}

/// The messages are those of a real server.
#[test]
fn refusals_show_structs_as_go_has_them() {
    let pod = kind("", "v1", "Pod");
    let mut old = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "x", "resourceVersion": "1", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "j"}], "priority": 0, "activeDeadlineSeconds": 5,
            "ephemeralContainers": [{"name": "d", "image": "debug"}], "enableServiceLinks": true}});
    default(pod, &mut old);
    let refusal = |subresource: &str, change: Value| -> String {
        let mut new = merged(&old, &change);
        default(pod, &mut new);
        prepare_update(pod, subresource, &mut new, &old);
        let causes = validate_update(pod, subresource, &new, &old);
        let shown: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        shown.join("; ")
    };
    let command = refusal("", json!({"spec": {"containers": [{"name": "c", "image": "j", "command": ["x"]}]}}));
    assert_eq!(
        command.split_once("negative)\n").unwrap().1,
        "@@ -5,7 +5,9 @@\n   {\n    \"Name\": \"c\",\n    \"Image\": \"j\",\n-   \"Command\": null,\n\
         +   \"Command\": [\n+    \"x\"\n+   ],\n    \"Args\": null,\n    \"WorkingDir\": \"\",\n    \"Ports\": null,\n",
    );
    let node = refusal("", json!({"spec": {"nodeName": "n1", "ephemeralContainers": null}}));
    assert!(node.contains("- \"NodeName\": \"\",\n+ \"NodeName\": \"n1\",\n  \"HostNetwork\": false,\n"), "{node}");
    let ephemeral =
        json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "other"}, {"name": "c", "image": "x"}]}});
    assert_eq!(
        refusal("ephemeralcontainers", ephemeral),
        "spec.ephemeralContainers[1].name: Duplicate value: \"c\"; spec.ephemeralContainers: Forbidden: existing \
         ephemeral containers \"d\" may not be changed\n@@ -1,6 +1,6 @@\n {\n  \"Name\": \"d\",\n\
         - \"Image\": \"debug\",\n+ \"Image\": \"other\",\n  \"Command\": null,\n  \"Args\": null,\n  \"WorkingDir\": \"\",\n",
    );
    let context = json!({"runAsUser": -1, "privileged": true, "allowPrivilegeEscalation": false});
    assert_eq!(
        super::types::types().shown("core.v1.SecurityContext", &context).compact(),
        "{\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":-1,\
         \"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\
         \"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}",
    );
}

/// Each case of `testdata/cases.yaml` must end as `testdata/answers.json` says that it ends on a real API server: the
/// object byte for byte, or the causes of the refusal.
#[test]
fn as_a_real_server_answers() {
    let cases: Vec<Value> = serde_saphyr::from_str(include_str!("testdata/cases.yaml")).unwrap();
    let answers: Value = serde_json::from_str(include_str!("testdata/answers.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["case"].as_str().unwrap();
        let answers = answers[name].as_array().unwrap_or_else(|| panic!("no answer for {name:?}"));
        let mut stored = check_create(&mut wrong, name, &case["create"], &answers[0]);
        let steps = case["then"].as_array().cloned().unwrap_or_default();
        for (at, (step, answer)) in steps.iter().zip(&answers[1..]).enumerate() {
            let Some(old) = stored.clone() else { break };
            let (subresource, change) =
                if step.get("update").is_some() { ("", &step["update"]) } else { ("status", &step["status"]) };
            let title = format!("{name}, step {}", at + 1);
            let new = merged(&old, change);
            stored = check_update(&mut wrong, &title, new, &old, subresource, answer).or(Some(old));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The fields of the change replace those at the same place; null removes.
fn merged(old: &Value, change: &Value) -> Value {
    let Value::Object(change) = change else { return change.clone() };
    let mut fields = old.as_object().cloned().unwrap_or_default();
    for (key, value) in change {
        if value.is_null() {
            fields.remove(key);
        } else {
            let value = merged(fields.get(key).unwrap_or(&Value::Null), value);
            fields.insert(key.clone(), value);
        }
    }
    Value::Object(fields)
}

fn split(object: &Value) -> (String, String, String) {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    (group.to_owned(), version.to_owned(), object["kind"].as_str().unwrap().to_owned())
}

const UID: &str = "11111111-2222-3333-4444-555555555555";

fn check_create(wrong: &mut Vec<String>, title: &str, given: &Value, answer: &Value) -> Option<Value> {
    let (group, version, name) = split(given);
    let kind = Kind { group: &group, version: &version, kind: &name };
    let mut object = given.clone();
    default(kind, &mut object);
    let body = &answer["body"];
    if super::is_namespaced(kind) {
        object["metadata"]["namespace"] = json!("kinds");
    }
    let created = answer["code"] == 201;
    let meta = &mut object["metadata"];
    meta["uid"] = if created { body["metadata"]["uid"].clone() } else { json!(UID) };
    meta["creationTimestamp"] =
        if created { body["metadata"]["creationTimestamp"].clone() } else { json!("2026-11-26T10:00:00Z") };
    let mut causes = Vec::new();
    if name == "Service" {
        let mut taken = services::Taken::default();
        taken.addresses.insert("10.96.0.1".parse().unwrap());
        let allocator = services::Allocator { addresses: "10.96.0.0/24".parse().unwrap(), ports: 30000..=32767 };
        causes = services::begin_create(&mut object, &taken, &allocator).err().unwrap_or_default();
    }
    if causes.is_empty() {
        prepare_create(kind, &mut object);
        causes = validate_create(kind, &object);
    }
    compare(wrong, title, object, causes, answer)
}

fn check_update(
    wrong: &mut Vec<String>,
    title: &str,
    given: Value,
    old: &Value,
    subresource: &str,
    answer: &Value,
) -> Option<Value> {
    let (group, version, name) = split(old);
    let kind = Kind { group: &group, version: &version, kind: &name };
    if answer["code"] == 403 {
        return None;
    }
    let mut object = given;
    default(kind, &mut object);
    let mut causes = Vec::new();
    if name == "Service" && subresource.is_empty() {
        let allocator = services::Allocator { addresses: "10.96.0.0/24".parse().unwrap(), ports: 30000..=32767 };
        let taken = services::Taken::default();
        causes = services::begin_update(&mut object, old, &taken, &allocator).err().unwrap_or_default();
    }
    if causes.is_empty() {
        prepare_update(kind, subresource, &mut object, old);
        causes = validate_update(kind, subresource, &object, old);
    }
    compare(wrong, title, object, causes, answer)
}

/// Cases whose causes come from a map, which Go walks in no certain order.
const BY_MAP: [&str; 5] =
    ["pod, wrong in many ways", "node, wrong", "configmap, wrong", "resourcequota, wrong", "metadata, prefixes"];

/// The stored object, if it was stored.
fn compare(
    wrong: &mut Vec<String>,
    title: &str,
    mut object: Value,
    causes: Vec<Cause>,
    answer: &Value,
) -> Option<Value> {
    let body = &answer["body"];
    if answer["code"] != 422 {
        if !causes.is_empty() {
            wrong.push(format!("{title}: refused for\n{causes:#?}"));
        }
        if let Some(version) = body["metadata"].get("resourceVersion") {
            object["metadata"]["resourceVersion"] = version.clone();
        }
        if object != *body {
            wrong.push(format!("{title}: {}", difference(&object, body)));
        }
        return Some(body.clone());
    }
    let uid = regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let shown = |field: &str, message: &str, reason: &str| {
        // Diffs for people are each server's own.
        let message = message.split('\n').next().unwrap();
        format!("{reason} {field}: {}", uid.replace_all(message, "<uid>"))
    };
    let mut ours: Vec<String> = causes.iter().map(|it| shown(&it.field, &it.message, it.reason)).collect();
    let mut theirs: Vec<String> = body["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            shown(it["field"].as_str().unwrap_or(""), it["message"].as_str().unwrap(), it["reason"].as_str().unwrap())
        })
        .collect();
    let in_order = if ours == theirs { None } else { Some((ours.clone(), theirs.clone())) };
    ours.sort();
    theirs.sort();
    if ours != theirs {
        let missing: Vec<&String> = theirs.iter().filter(|it| !ours.contains(it)).collect();
        let extra: Vec<&String> = ours.iter().filter(|it| !theirs.contains(it)).collect();
        wrong.push(format!("{title}: missing {missing:#?}, extra {extra:#?} ({} for {})", ours.len(), theirs.len()));
    } else if let Some((ours, theirs)) = in_order
        && !BY_MAP.contains(&title)
    {
        wrong.push(format!("{title}: in another order: {ours:#?} for {theirs:#?}"));
    }
    None
}

fn difference(ours: &Value, theirs: &Value) -> String {
    fn walk(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                    match (ours.get(key), theirs.get(key)) {
                        (Some(ours), Some(theirs)) => walk(&format!("{path}.{key}"), ours, theirs, out),
                        (ours, theirs) => out.push(format!("{path}.{key}: {ours:?} for {theirs:?}")),
                    }
                }
            }
            (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
                for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                    walk(&format!("{path}[{at}]"), ours, theirs, out);
                }
            }
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => out.push(format!("{path}: {ours} for {theirs}")),
        }
    }
    let mut out = Vec::new();
    walk("", ours, theirs, &mut out);
    out.join("\n    ")
}
