//! CronJobs: a Job at each time of a schedule.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::replica_sets::write_status;
use super::server::{CRON_JOB, JOB, Program, condition};
use super::templates::{controller_ref, created, is_deleting, owned};
use super::{Controller, Work, cache};
use crate::kinds::cron;
use crate::kinds::fields::{at, integer, list, text, truth};

const COMPONENT: &str = "cronjob-controller";

pub(super) fn sync(work: &mut Work, namespace: &str, name: &str) {
    let Some(cron) = work.cache.get(cache::CRON_JOBS, namespace, name) else { return };
    if is_deleting(&cron) {
        return;
    }
    let jobs = owned(work, cache::JOBS, &cron);
    let mut status = at(&cron, &["status"]).clone();
    if status.is_null() {
        status = json!({});
    }
    note_ended(work, &cron, &jobs, &mut status);
    forget(work, &cron, &jobs);
    let active: Vec<&Value> = jobs.iter().filter(|job| end(job).is_none()).collect();
    status["active"] = active.iter().map(|job| reference(job)).collect();
    let due = due(work, &cron, &status);
    if let Some(time) = due {
        start(work, &cron, &active, time, &mut status);
    }
    write_status(work, CRON_JOB, &cron, status);
}

/// How a Job ended, if it did.
fn end(job: &Value) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|kind| text(condition(job, kind), "status") == "True")
}

fn reference(job: &Value) -> Value {
    let meta = at(job, &["metadata"]);
    json!({"apiVersion": "batch/v1", "kind": "Job", "name": text(meta, "name"), "namespace": text(meta, "namespace"),
        "uid": text(meta, "uid"), "resourceVersion": text(meta, "resourceVersion")})
}

/// Jobs that were active when last seen, and have ended.
fn note_ended(work: &mut Work, cron: &Value, jobs: &[Value], status: &mut Value) {
    let was_active: Vec<String> =
        list(at(cron, &["status"]), "active").iter().map(|it| text(it, "uid").to_owned()).collect();
    for job in jobs {
        let meta = at(job, &["metadata"]);
        let Some(how) = end(job).filter(|_| was_active.iter().any(|uid| uid == text(meta, "uid"))) else { continue };
        let message = format!("Saw completed job: {}, condition: {how}", text(meta, "name"));
        work.tell(COMPONENT, CRON_JOB, cron, "Normal", "SawCompletedJob", &message);
        let ended = text(at(job, &["status"]), "completionTime");
        if how == "Complete" && ended > text(status, "lastSuccessfulTime") {
            status["lastSuccessfulTime"] = ended.into();
        }
    }
}

fn forget(work: &mut Work, cron: &Value, jobs: &[Value]) {
    let spec = at(cron, &["spec"]);
    for (how, key, default) in [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)]
    {
        let limit = usize::try_from(integer(spec, key).unwrap_or(default)).unwrap_or(0);
        let mut ended: Vec<&Value> = jobs.iter().filter(|job| end(job) == Some(how) && !is_deleting(job)).collect();
        ended.sort_by_key(|job| (created(job), text(at(job, &["metadata"]), "name")));
        let surplus = ended.len().saturating_sub(limit);
        for job in ended.into_iter().take(surplus) {
            let options = json!({"propagationPolicy": "Background"});
            let _gone = work.delete_at(Program::ControllerManager, JOB, job, &options);
            let message = format!("Deleted job {}", text(at(job, &["metadata"]), "name"));
            work.tell(COMPONENT, CRON_JOB, cron, "Normal", "SuccessfulDelete", &message);
        }
    }
}

/// The last time that is due and has no Job yet. Comes back at the next one.
fn due(work: &mut Work, cron: &Value, status: &Value) -> Option<Timestamp> {
    let (meta, spec) = (at(cron, &["metadata"]), at(cron, &["spec"]));
    if truth(spec, "suspend") {
        return None;
    }
    let schedule = cron::parse(text(spec, "schedule")).ok()?;
    let zone = match text(spec, "timeZone") {
        "" => TimeZone::UTC,
        name => TimeZone::get(name).ok()?,
    };
    let mut since: Timestamp = text(status, "lastScheduleTime").parse().unwrap_or_else(|_| created(cron));
    if let Some(seconds) = integer(spec, "startingDeadlineSeconds") {
        since = since.max(work.now - SignedDuration::from_secs(seconds));
    }
    if let Some(next) = schedule.next(work.now, &zone) {
        work.again(next, Controller::CronJob, text(meta, "namespace"), text(meta, "name"));
    }
    // Of many missed times only the last counts; a long sleep need not be walked minute by minute.
    let mut last = None;
    let mut at = since.max(work.now - SignedDuration::from_hours(24 * 366));
    for _ in 0..100_000 {
        match schedule.next(at, &zone) {
            Some(next) if next <= work.now => {
                last = Some(next);
                at = next;
            }
            Some(_) | None => break,
        }
    }
    last
}

fn start(work: &mut Work, cron: &Value, active: &[&Value], time: Timestamp, status: &mut Value) {
    let (meta, spec) = (at(cron, &["metadata"]), at(cron, &["spec"]));
    match text(spec, "concurrencyPolicy") {
        "Forbid" if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            work.tell(COMPONENT, CRON_JOB, cron, "Normal", "JobAlreadyActive", message);
            return;
        }
        "Replace" => {
            for job in active {
                let options = json!({"propagationPolicy": "Background"});
                let _gone = work.delete_at(Program::ControllerManager, JOB, job, &options);
            }
            status["active"] = json!([]);
        }
        _ => {}
    }
    let template = at(spec, &["jobTemplate"]);
    let name = format!("{}-{}", text(meta, "name"), time.as_second() / 60);
    let stamp = crate::time::seconds(time);
    let mut annotations = at(template, &["metadata", "annotations"]).clone();
    if !annotations.is_object() {
        annotations = json!({});
    }
    annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"] = stamp.clone().into();
    let job = json!({
        "metadata": {"name": name, "namespace": text(meta, "namespace"), "annotations": annotations,
            "labels": at(template, &["metadata", "labels"]), "ownerReferences": [controller_ref(CRON_JOB, cron)]},
        "spec": at(template, &["spec"]),
    });
    match work.create(Program::ControllerManager, JOB, &job) {
        Ok(job) => {
            let mut list = list(status, "active").to_vec();
            list.push(reference(&job));
            status["active"] = list.into();
            status["lastScheduleTime"] = stamp.into();
            let message = format!("Created job {name}");
            work.tell(COMPONENT, CRON_JOB, cron, "Normal", "SuccessfulCreate", &message);
        }
        Err(refusal) if refusal.code == 409 => status["lastScheduleTime"] = stamp.into(),
        Err(refusal) => {
            let message = format!("Error creating job: {}", refusal.message);
            work.tell(COMPONENT, CRON_JOB, cron, "Warning", "FailedCreate", &message);
        }
    }
}
