//! Whether an object that was applied is *current*: does what its spec says, as its own status tells.
//!
//! The rules are those of kstatus (`sigs.k8s.io/cli-utils/pkg/kstatus`), which Flux, kpt and others use, so an app is
//! ready here when it is ready there. A kind that we do not know is current once its controller has seen the newest
//! generation and says no `Ready=False`; a kind without a status is current once applied.
//!
//! Absent on purpose: history and time. "Not progressing any more" is what a controller itself writes down
//! (`ProgressDeadlineExceeded`), never a guess from a clock of ours.

use serde_json::Value;

/// What an object's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is as its spec says.
    Current,
    /// It is on the way.
    InProgress {
        /// What is still missing, for people.
        why: String,
    },
    /// Its controller gave up.
    Failed {
        /// What went wrong, for people.
        why: String,
    },
}

/// Reads the health of one whole object as the API server returned it.
pub fn health(object: &Value) -> Health {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return waiting("it is being deleted");
    }
    let observed = number(object, "/status/observedGeneration");
    if observed.is_some_and(|seen| number(object, "/metadata/generation").is_some_and(|now| seen < now)) {
        return waiting("its controller has not seen the newest generation");
    }
    match (group(object), text(object, "/kind")) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") => replicas(object, "/status/availableReplicas", "available"),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("", "Service") => service(object),
        ("", "PersistentVolumeClaim") => phase(object, "Bound"),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        _ => by_conditions(object),
    }
}

/// Ready pods of a workload; zero for what runs none.
pub fn replicas_ready(object: &Value) -> u32 {
    let ready = match (group(object), text(object, "/kind")) {
        ("apps", "DaemonSet") => number(object, "/status/numberReady"),
        ("batch", "Job") => number(object, "/status/ready"),
        ("", "Pod") => Some(i64::from(condition(object, "Ready").is_some_and(|c| status(c) == "True"))),
        _ => number(object, "/status/readyReplicas"),
    };
    u32::try_from(ready.unwrap_or(0)).unwrap_or(0)
}

fn deployment(object: &Value) -> Health {
    if let Some(progressing) = condition(object, "Progressing")
        && text(progressing, "/reason") == "ProgressDeadlineExceeded"
    {
        return Health::Failed { why: text(progressing, "/message").to_owned() };
    }
    if number(object, "/status/observedGeneration").is_none() {
        return waiting("its controller has not seen it");
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let count = |path| number(object, path).unwrap_or(0);
    let (updated, total) = (count("/status/updatedReplicas"), count("/status/replicas"));
    if updated < wanted {
        return waiting(&format!("{updated} of {wanted} replicas updated"));
    }
    if total > updated {
        return waiting(&format!("{} old replicas still run", total - updated));
    }
    replicas(object, "/status/availableReplicas", "available")
}

fn stateful_set(object: &Value) -> Health {
    if number(object, "/status/observedGeneration").is_none() {
        return waiting("its controller has not seen it");
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let ready = replicas(object, "/status/readyReplicas", "ready");
    if ready != Health::Current || text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return ready;
    }
    // A canary: everything below the partition keeps its old revision on purpose.
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let updated = number(object, "/status/updatedReplicas").unwrap_or(0);
    if partition > 0 && updated < wanted - partition {
        return waiting(&format!("{updated} of {} replicas updated", wanted - partition));
    }
    let (current, update) = (text(object, "/status/currentRevision"), text(object, "/status/updateRevision"));
    if partition == 0 && current != update {
        return waiting("the new revision is not on every replica");
    }
    Health::Current
}

fn daemon_set(object: &Value) -> Health {
    if number(object, "/status/observedGeneration").is_none() {
        return waiting("its controller has not seen it");
    }
    let count = |path| number(object, path).unwrap_or(0);
    let wanted = count("/status/desiredNumberScheduled");
    for (path, what) in [("/status/updatedNumberScheduled", "updated"), ("/status/numberAvailable", "available")] {
        if count(path) < wanted {
            return waiting(&format!("{} of {wanted} pods {what}", count(path)));
        }
    }
    Health::Current
}

/// Compares `spec.replicas` with a count of the status.
fn replicas(object: &Value, path: &str, what: &str) -> Health {
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let have = number(object, path).unwrap_or(0);
    if have < wanted { waiting(&format!("{have} of {wanted} replicas {what}")) } else { Health::Current }
}

/// Current once it runs: a job that takes hours must not hold up the app that started it.
fn job(object: &Value) -> Health {
    if let Some(failed) = condition(object, "Failed").filter(|c| status(c) == "True") {
        return Health::Failed { why: text(failed, "/message").to_owned() };
    }
    let started = object.pointer("/status/startTime").is_some();
    let suspended = object.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or(false);
    if started || suspended { Health::Current } else { waiting("it has not started") }
}

fn pod(object: &Value) -> Health {
    match text(object, "/status/phase") {
        "Succeeded" => Health::Current,
        "Failed" => Health::Failed { why: text(object, "/status/message").to_owned() },
        "Running" => match condition(object, "Ready") {
            Some(ready) if status(ready) == "True" => Health::Current,
            Some(ready) => waiting(&format!("not ready: {}", text(ready, "/message"))),
            None => waiting("not ready"),
        },
        _ => waiting("it does not run"),
    }
}

fn service(object: &Value) -> Health {
    let balanced = text(object, "/spec/type") == "LoadBalancer";
    let given = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).is_some_and(|i| !i.is_empty());
    if balanced && !given { waiting("its load balancer has no address") } else { Health::Current }
}

fn phase(object: &Value, good: &str) -> Health {
    match text(object, "/status/phase") {
        phase if phase == good => Health::Current,
        "" => waiting("it has no phase"),
        phase => waiting(&format!("its phase is {phase}")),
    }
}

fn definition(object: &Value) -> Health {
    if let Some(names) = condition(object, "NamesAccepted").filter(|c| status(c) == "False") {
        return Health::Failed { why: text(names, "/message").to_owned() };
    }
    if established(object) { Health::Current } else { waiting("it is not Established") }
}

/// Whether a CustomResourceDefinition is served.
pub fn established(definition: &Value) -> bool {
    condition(definition, "Established").is_some_and(|c| status(c) == "True")
}

/// Kinds that we do not know: kstatus' general rule.
fn by_conditions(object: &Value) -> Health {
    if let Some(stalled) = condition(object, "Stalled").filter(|c| status(c) == "True") {
        return Health::Failed { why: text(stalled, "/message").to_owned() };
    }
    if let Some(reconciling) = condition(object, "Reconciling").filter(|c| status(c) == "True") {
        return waiting(text(reconciling, "/message"));
    }
    match condition(object, "Ready") {
        Some(ready) if status(ready) != "True" => waiting(&format!("not ready: {}", text(ready, "/message"))),
        Some(_) | None => Health::Current,
    }
}

fn waiting(why: &str) -> Health {
    Health::InProgress { why: why.to_owned() }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let list = object.pointer("/status/conditions")?.as_array()?;
    list.iter().find(|c| text(c, "/type") == kind)
}

fn status(condition: &Value) -> &str {
    text(condition, "/status")
}

fn group(object: &Value) -> &str {
    text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group)
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `C` current, `P` in progress, `F` failed.
    fn letter(object: &Value) -> char {
        match health(object) {
            Health::Current => 'C',
            Health::InProgress { .. } => 'P',
            Health::Failed { .. } => 'F',
        }
    }

    fn check(api_version: &str, kind: &str, cases: &[(char, Value)]) {
        for (want, rest) in cases {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"generation": 2}});
            for (key, value) in rest.as_object().unwrap() {
                object[key] = value.clone();
            }
            assert_eq!(letter(&object), *want, "{object}");
        }
    }

    fn conditions(list: &[(&str, &str, &str)]) -> Value {
        list.iter().map(|(t, s, r)| json!({"type": t, "status": s, "reason": r, "message": "m"})).collect()
    }

    #[test]
    fn workloads() {
        let spec = json!({"replicas": 2});
        let deployment = |observed: i64, total: i64, updated: i64, available: i64| {
            json!({"spec": spec, "status": {"observedGeneration": observed, "replicas": total,
                "updatedReplicas": updated, "availableReplicas": available}})
        };
        check(
            "apps/v1",
            "Deployment",
            &[
                ('P', json!({"spec": spec})),
                ('P', deployment(1, 2, 2, 2)),
                ('P', deployment(2, 2, 1, 2)),
                ('P', deployment(2, 3, 2, 2)),
                ('P', deployment(2, 2, 2, 1)),
                ('C', deployment(2, 2, 2, 2)),
                (
                    'F',
                    json!({"spec": spec, "status": {"observedGeneration": 2,
                    "conditions": conditions(&[("Progressing", "False", "ProgressDeadlineExceeded")])}}),
                ),
                ('C', json!({"spec": {"replicas": 0}, "status": {"observedGeneration": 2}})),
            ],
        );
        let set = |ready: i64, current: &str, update: &str, partition: i64, updated: i64| {
            json!({"spec": {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": partition}}},
                "status": {"observedGeneration": 2, "readyReplicas": ready, "updatedReplicas": updated,
                    "currentRevision": current, "updateRevision": update}})
        };
        check(
            "apps/v1",
            "StatefulSet",
            &[
                ('P', set(1, "a", "a", 0, 2)),
                ('P', set(2, "a", "b", 0, 1)),
                ('C', set(2, "b", "b", 0, 2)),
                ('C', set(2, "a", "b", 1, 1)),
                ('P', set(2, "a", "b", 1, 0)),
            ],
        );
        let daemon = |wanted: i64, updated: i64, available: i64| {
            json!({"status": {"observedGeneration": 2, "desiredNumberScheduled": wanted,
                "updatedNumberScheduled": updated, "numberAvailable": available}})
        };
        check(
            "apps/v1",
            "DaemonSet",
            &[('P', json!({})), ('P', daemon(2, 1, 2)), ('P', daemon(2, 2, 1)), ('C', daemon(2, 2, 2))],
        );
        check("apps/v1", "ReplicaSet", &[('P', json!({})), ('C', json!({"status": {"availableReplicas": 1}}))]);
        check(
            "batch/v1",
            "Job",
            &[
                ('P', json!({})),
                ('C', json!({"status": {"startTime": "2026-01-01T00:00:00Z"}})),
                ('C', json!({"spec": {"suspend": true}})),
                ('F', json!({"status": {"conditions": conditions(&[("Failed", "True", "x")])}})),
            ],
        );
        let running =
            |ready: &str| json!({"status": {"phase": "Running", "conditions": conditions(&[("Ready", ready, "")])}});
        check(
            "v1",
            "Pod",
            &[
                ('P', json!({})),
                ('P', running("False")),
                ('C', running("True")),
                ('C', json!({"status": {"phase": "Succeeded"}})),
                ('F', json!({"status": {"phase": "Failed"}})),
            ],
        );
    }

    #[test]
    fn the_rest() {
        check(
            "v1",
            "Service",
            &[
                ('C', json!({"spec": {"type": "ClusterIP"}})),
                ('P', json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {}}})),
                (
                    'C',
                    json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}),
                ),
            ],
        );
        check(
            "v1",
            "PersistentVolumeClaim",
            &[
                ('P', json!({})),
                ('P', json!({"status": {"phase": "Pending"}})),
                ('C', json!({"status": {"phase": "Bound"}})),
            ],
        );
        check(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            &[
                ('P', json!({})),
                ('C', json!({"status": {"conditions": conditions(&[("Established", "True", "")])}})),
                ('F', json!({"status": {"conditions": conditions(&[("NamesAccepted", "False", "")])}})),
            ],
        );
        check(
            "example.com/v1",
            "Widget",
            &[
                ('C', json!({})),
                ('P', json!({"status": {"observedGeneration": 1}})),
                ('P', json!({"status": {"conditions": conditions(&[("Ready", "False", "")])}})),
                ('P', json!({"status": {"conditions": conditions(&[("Reconciling", "True", "")])}})),
                ('F', json!({"status": {"conditions": conditions(&[("Stalled", "True", "")])}})),
                ('C', json!({"status": {"observedGeneration": 2, "conditions": conditions(&[("Ready", "True", "")])}})),
            ],
        );
        check(
            "v1",
            "ConfigMap",
            &[('C', json!({})), ('P', json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))],
        );
    }

    #[test]
    fn ready_pods_are_counted_where_they_are() {
        let of = |api: &str, kind: &str, status: Value| {
            replicas_ready(&json!({"apiVersion": api, "kind": kind, "status": status}))
        };
        assert_eq!(of("apps/v1", "Deployment", json!({"readyReplicas": 3})), 3);
        assert_eq!(of("apps/v1", "DaemonSet", json!({"numberReady": 2})), 2);
        assert_eq!(of("batch/v1", "Job", json!({"ready": 1})), 1);
        assert_eq!(of("v1", "Pod", json!({"conditions": conditions(&[("Ready", "True", "")])})), 1);
        assert_eq!(of("v1", "ConfigMap", json!({})), 0);
        assert_eq!(of("apps/v1", "Deployment", json!({"readyReplicas": -1})), 0);
    }
}
