//! Jobs: pods until enough of them have succeeded, or too many failed.
//!
//! A pod that ended is counted once: it has a finalizer until the Job's status counts it, as with the real controller.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::replica_sets::write_status;
use super::server::{JOB, POD, Program, condition};
use super::templates::{self, claim, is_active, is_deleting, ready_since};
use super::{Controller, Work, cache};
use crate::kinds::fields::{at, has, integer, list, text, truth};

const COMPONENT: &str = "job-controller";
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How a Job ends.
struct End {
    /// The condition that says that it will, and the one that says that it has.
    conditions: (&'static str, &'static str),
    reason: &'static str,
    message: String,
}

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(job) = work.cache.get(cache::JOBS, namespace, name) else { return };
    if is_deleting(&job) {
        release(work, &job);
        return;
    }
    if is_finished(&job) {
        release(work, &job);
        end_later(work, &job);
        return;
    }
    let pods = claim(work, JOB, &job, cache::PODS);
    let mut status = at(&job, &["status"]).clone();
    if status.is_null() {
        status = json!({});
    }
    let suspended = truth(at(&job, &["spec"]), "suspend");
    note_suspension(work, &job, &mut status, suspended);
    if !suspended && !has(&status, "startTime") {
        status["startTime"] = work.time().into();
    }
    let counted = count(&mut status, &job, &pods);
    let active: Vec<&Value> = pods.iter().filter(|pod| is_active(pod)).collect();
    let end = end_of(work, &job, &status, active.len());
    let mut now_active = active.len();
    if let Some(end) = &end {
        for pod in &active {
            drop_pod(work, pod);
        }
        now_active = 0;
        add_condition(work, &mut status, end.conditions.0, "True", end.reason, &end.message);
    } else if suspended {
        for pod in &active {
            drop_pod(work, pod);
        }
        now_active = 0;
    }
    status["active"] = now_active.into();
    let ready = active.iter().filter(|pod| ready_since(pod).is_some()).count();
    status["ready"] = if now_active == 0 { 0 } else { ready }.into();
    status["terminating"] = pods.iter().filter(|pod| is_deleting(pod)).count().into();
    status["uncountedTerminatedPods"] = json!({});
    // Counted first, then let go: the other way round one could be lost.
    write_status(work, JOB, &job, status);
    for pod in &counted {
        untrack(work, pod);
    }
    match end {
        Some(end) => finish(work, namespace, name, &end),
        None if !suspended => make_pods(work, namespace, name),
        None => {}
    }
}

fn is_finished(job: &Value) -> bool {
    ["Complete", "Failed"].iter().any(|kind| text(condition(job, kind), "status") == "True")
}

/// Pods of a Job that ended or goes need not be counted.
fn release(work: &mut Work, job: &Value) {
    for pod in templates::pods_of(work, job) {
        if is_tracked(&pod) && (is_deleting(&pod) || !is_active(&pod)) {
            untrack(work, &pod);
        }
    }
}

fn is_tracked(pod: &Value) -> bool {
    list(at(pod, &["metadata"]), "finalizers").iter().any(|it| *it == json!(TRACKING))
}

fn untrack(work: &mut Work, pod: &Value) {
    let meta = at(pod, &["metadata"]);
    let (namespace, name) = (text(meta, "namespace"), text(meta, "name"));
    let Some(known) = work.cache.known(cache::PODS, namespace, name) else { return };
    let rest: Vec<&String> = known.finalizers.iter().filter(|it| *it != TRACKING).collect();
    if rest.len() < known.finalizers.len() {
        let patch = json!({"metadata": {"uid": known.uid, "finalizers": rest}});
        let _refused = work.merge(Program::ControllerManager, &known.resource, namespace, name, &patch);
    }
}

/// Deletes a pod without counting it.
fn drop_pod(work: &mut Work, pod: &Value) {
    untrack(work, pod);
    let _gone = work.delete_at(Program::ControllerManager, POD, pod, &Value::Null);
}

/// Counts the pods that ended since the last time, and gives them.
fn count(status: &mut Value, job: &Value, pods: &[Value]) -> Vec<Value> {
    let mut counted = Vec::new();
    let mut indexes = completed(status);
    let (mut succeeded, mut failed) = (0, 0);
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        match text(at(pod, &["status"]), "phase") {
            "Succeeded" => match index_of(pod) {
                Some(index) if is_indexed(job) => drop(indexes.insert(index)),
                Some(_) | None => succeeded += 1,
            },
            "Failed" => failed += 1,
            // Somebody else deleted it.
            _ if is_deleting(pod) => failed += 1,
            _ => continue,
        }
        counted.push(pod.clone());
    }
    let number = |key: &str| integer(status, key).unwrap_or_default();
    let (before, failed) = (number("succeeded"), number("failed") + failed);
    status["failed"] = failed.into();
    if is_indexed(job) {
        status["succeeded"] = indexes.len().into();
        status["completedIndexes"] = shown(&indexes).into();
    } else {
        status["succeeded"] = (before + succeeded).into();
    }
    counted
}

fn is_indexed(job: &Value) -> bool {
    text(at(job, &["spec"]), "completionMode") == "Indexed"
}

fn index_of(pod: &Value) -> Option<i64> {
    text(at(pod, &["metadata", "annotations"]), INDEX).parse().ok()
}

/// `0-2,5` as a set.
fn completed(status: &Value) -> BTreeSet<i64> {
    let mut out = BTreeSet::new();
    for part in text(status, "completedIndexes").split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
            out.extend(first..=last.min(first.saturating_add(100_000)));
        }
    }
    out
}

/// A set as `0-2,5`.
fn shown(indexes: &BTreeSet<i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            Some(_) | None => ranges.push((*index, *index)),
        }
    }
    let parts = ranges.iter().map(|(first, last)| {
        // Two in a row are listed, as the real one does.
        match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        }
    });
    parts.collect::<Vec<_>>().join(",")
}

fn note_suspension(work: &mut Work, job: &Value, status: &mut Value, suspended: bool) {
    let before = text(condition(job, "Suspended"), "status");
    if suspended && before != "True" {
        add_condition(work, status, "Suspended", "True", "JobSuspended", "Job suspended");
        if let Some(fields) = status.as_object_mut() {
            fields.remove("startTime");
        }
        work.tell(COMPONENT, JOB, job, "Normal", "Suspended", "Job suspended");
    } else if !suspended && before == "True" {
        add_condition(work, status, "Suspended", "False", "JobResumed", "Job resumed");
        status["startTime"] = work.time().into();
        work.tell(COMPONENT, JOB, job, "Normal", "Resumed", "Job resumed");
    }
}

fn add_condition(work: &Work, status: &mut Value, kind: &str, is: &str, reason: &str, message: &str) {
    let mut conditions: Vec<Value> = list(status, "conditions").to_vec();
    if conditions.iter().any(|it| text(it, "type") == kind && text(it, "status") == is) {
        return;
    }
    conditions.retain(|it| text(it, "type") != kind);
    let now = work.time();
    conditions.push(json!({"type": kind, "status": is, "reason": reason, "message": message, "lastProbeTime": now,
        "lastTransitionTime": now}));
    status["conditions"] = conditions.into();
}

fn end_of(work: &mut Work, job: &Value, status: &Value, active: usize) -> Option<End> {
    let spec = at(job, &["spec"]);
    let failure = |reason, message: &str| {
        Some(End { conditions: ("FailureTarget", "Failed"), reason, message: message.to_owned() })
    };
    let (succeeded, failed) = (integer(status, "succeeded")?, integer(status, "failed")?);
    if failed > integer(spec, "backoffLimit").unwrap_or(6) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if let Some(seconds) = integer(spec, "activeDeadlineSeconds")
        && !truth(spec, "suspend")
        && let Ok(started) = text(status, "startTime").parse::<Timestamp>()
    {
        let deadline = started + SignedDuration::from_secs(seconds);
        if deadline <= work.now {
            return failure("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        let meta = at(job, &["metadata"]);
        work.again(deadline, Controller::Job, text(meta, "namespace"), text(meta, "name"));
    }
    let done = match integer(spec, "completions") {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active == 0,
    };
    done.then(|| End {
        conditions: ("SuccessCriteriaMet", "Complete"),
        reason: "CompletionsReached",
        message: "Reached expected number of succeeded pods".to_owned(),
    })
}

/// Says that it ended, once no pod is left to count.
fn finish(work: &mut Work, namespace: &str, name: &str, end: &End) {
    let Some(job) = work.cache.get(cache::JOBS, namespace, name) else { return };
    if templates::pods_of(work, &job).iter().any(is_tracked) {
        return;
    }
    let mut status = at(&job, &["status"]).clone();
    add_condition(work, &mut status, end.conditions.1, "True", end.reason, &end.message);
    status["active"] = 0.into();
    status["ready"] = 0.into();
    status["terminating"] = 0.into();
    let complete = end.conditions.1 == "Complete";
    if complete {
        status["completionTime"] = work.time().into();
    }
    if write_status(work, JOB, &job, status) {
        let (kind, reason, message) = if complete {
            ("Normal", "Completed", "Job completed")
        } else {
            ("Warning", end.reason, end.message.as_str())
        };
        work.tell(COMPONENT, JOB, &job, kind, reason, message);
    }
}

/// A Job that ended goes after its time to live.
fn end_later(work: &mut Work, job: &Value) {
    let Some(seconds) = integer(at(job, &["spec"]), "ttlSecondsAfterFinished") else { return };
    let ended = ["Complete", "Failed"]
        .iter()
        .find_map(|kind| text(condition(job, kind), "lastTransitionTime").parse::<Timestamp>().ok())
        .unwrap_or(work.now);
    let due = ended + SignedDuration::from_secs(seconds);
    if due <= work.now {
        let options = json!({"propagationPolicy": "Foreground"});
        let _gone = work.delete_at(Program::ControllerManager, JOB, job, &options);
    } else {
        let meta = at(job, &["metadata"]);
        work.again(due, Controller::Job, text(meta, "namespace"), text(meta, "name"));
    }
}

fn make_pods(work: &mut Work, namespace: &str, name: &str) {
    let Some(job) = work.cache.get(cache::JOBS, namespace, name) else { return };
    let (spec, status) = (at(&job, &["spec"]), at(&job, &["status"]));
    let pods = templates::pods_of(work, &job);
    let active: Vec<&Value> = pods.iter().filter(|pod| is_active(pod)).collect();
    let there = i64::try_from(active.len()).unwrap_or(i64::MAX);
    let parallelism = integer(spec, "parallelism").unwrap_or(1);
    let succeeded = integer(status, "succeeded").unwrap_or_default();
    let wanted = match integer(spec, "completions") {
        Some(completions) => parallelism.min(completions - succeeded),
        None if succeeded > 0 => there,
        None => parallelism,
    };
    if there > wanted {
        let surplus = usize::try_from(there - wanted).unwrap_or(0);
        for pod in active.iter().rev().take(surplus) {
            drop_pod(work, pod);
        }
        return;
    }
    if there == wanted {
        return;
    }
    // After a failure the next try waits, twice as long each time.
    let failed = integer(status, "failed").unwrap_or_default();
    if failed > 0
        && let Some(last) = last_failure(&pods)
    {
        let wait = SignedDuration::from_secs(10_i64.saturating_mul(1 << (failed - 1).min(10)).min(600));
        if last + wait > work.now {
            work.again(last + wait, Controller::Job, namespace, name);
            return;
        }
    }
    let mut taken = completed(status);
    taken.extend(active.iter().filter_map(|pod| index_of(pod)));
    let mut free = (0_i64..).filter(|index| !taken.contains(index));
    for _ in 0..(wanted - there) {
        let mut pod = templates::pod(at(spec, &["template"]), JOB, &job);
        pod["metadata"]["finalizers"] = json!([TRACKING]);
        if is_indexed(&job)
            && let Some(index) = free.next()
        {
            give_index(&mut pod, name, index);
        }
        match work.create(Program::ControllerManager, POD, &pod) {
            Ok(pod) => {
                let pod_name = text(at(&pod, &["metadata"]), "name");
                work.tell(COMPONENT, JOB, &job, "Normal", "SuccessfulCreate", &format!("Created pod: {pod_name}"));
            }
            Err(refusal) => {
                if !refusal.message.contains("being terminated") {
                    let message = format!("Error creating: {}", refusal.message);
                    work.tell(COMPONENT, JOB, &job, "Warning", "FailedCreate", &message);
                    work.again(work.now + SignedDuration::from_secs(10), Controller::Job, namespace, name);
                }
                return;
            }
        }
    }
    // What was made is counted as active at once.
    work.enqueue(Controller::Job, namespace, name);
}

fn give_index(pod: &mut Value, job: &str, index: i64) {
    pod["metadata"]["generateName"] = format!("{job}-{index}-").into();
    for part in ["annotations", "labels"] {
        if !pod["metadata"][part].is_object() {
            pod["metadata"][part] = json!({});
        }
        pod["metadata"][part][INDEX] = index.to_string().into();
    }
    pod["spec"]["hostname"] = format!("{job}-{index}").into();
    let path = format!("metadata.labels['{INDEX}']");
    let variable = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}});
    for kind in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = pod["spec"].get_mut(kind) else { continue };
        for container in containers {
            let mut env = list(container, "env").to_vec();
            env.push(variable.clone());
            container["env"] = env.into();
        }
    }
}

fn last_failure(pods: &[Value]) -> Option<Timestamp> {
    pods.iter()
        .filter(|pod| text(at(pod, &["status"]), "phase") == "Failed")
        .flat_map(|pod| list(at(pod, &["status"]), "containerStatuses"))
        .filter_map(|container| text(at(container, &["state", "terminated"]), "finishedAt").parse().ok())
        .max()
}
