//! Workloads that end.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    cron,
    fields::{at, has, integer, list, option, text, truth},
    names, pods, selectors,
    types::types,
};

const SPEC: Path<'static> = Path::root("spec");

/// A new Job.
pub(super) fn check_job(causes: &mut Causes, job: &Value) {
    check_generated_selector(causes, job);
    let spec = at(job, &["spec"]);
    check_spec(causes, SPEC, spec);
    check_selector(causes, spec);
    check_name(causes, job);
}

/// The selector that is made from the uid must have stayed what it was made.
fn check_generated_selector(causes: &mut Causes, job: &Value) {
    let spec = at(job, &["spec"]);
    if truth(spec, "manualSelector") || !has(spec, "selector") {
        return;
    }
    let meta = at(job, &["metadata"]);
    let (name, uid) = (text(meta, "name"), text(meta, "uid"));
    if uid.is_empty() {
        causes.required(Path::root("metadata").child("uid"), "");
    }
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let labels = at(spec, &["template", "metadata", "labels"]);
    let path = SPEC.child("template.metadata.labels");
    for (key, value) in expected {
        match labels.get(key).and_then(Value::as_str) {
            None => causes.required(path.key(key), &format!("must be '{value}'")),
            Some(found) if found != value => {
                causes.invalid(path.key(key), labels.clone(), &format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let labels: Value = expected.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    if !selectors::matches(at(spec, &["selector"]), &labels) {
        causes.invalid(SPEC.child("selector"), at(spec, &["selector"]).clone(), "`selector` not auto-generated");
    }
}

fn check_selector(causes: &mut Causes, spec: &Value) {
    let selector = at(spec, &["selector"]);
    if has(spec, "selector") {
        selectors::check(causes, SPEC.child("selector"), selector);
    } else {
        causes.required(SPEC.child("selector"), "");
    }
    let labels = at(spec, &["template", "metadata", "labels"]);
    if selectors::is_usable(selector) && !selectors::matches(selector, labels) {
        let path = SPEC.child("template.metadata.labels");
        causes.invalid(path, labels.clone(), "`selector` does not match template `labels`");
    }
}

fn check_name(causes: &mut Causes, job: &Value) {
    let spec = at(job, &["spec"]);
    let name = text(at(job, &["metadata"]), "name");
    if let Some(completions) = integer(spec, "completions")
        && completions > 0
        && text(spec, "completionMode") == "Indexed"
    {
        let host = format!("{name}-{}", completions - 1);
        if !names::dns_label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            causes.invalid(Path::root("metadata").child("name"), name, &why);
        }
    }
}

fn check_spec(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        causes.not_negative(path.child(key), integer(spec, key));
    }
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        causes.required(path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    check_mode(causes, path, spec);
    let failure = option(spec, "podFailurePolicy");
    if let Some(replacement) = option(spec, "podReplacementPolicy").and_then(Value::as_str) {
        let allowed: &[&str] = if failure.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !allowed.contains(&replacement) {
            causes.not_supported(path.child("podReplacementPolicy"), replacement, allowed);
        }
    }
    pods::check_template(causes, path.child("template"), at(spec, &["template"]));
    let restart = text(at(spec, &["template", "spec"]), "restartPolicy");
    let path = path.child("template.spec.restartPolicy");
    match restart {
        "" | "Always" => causes.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if failure.is_some() => {
            causes.invalid(path, restart, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => causes.not_supported(path, other, &["OnFailure", "Never"]),
    }
}

fn check_mode(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    let mode = text(spec, "completionMode");
    match mode {
        "" | "NonIndexed" => {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(number) = integer(spec, key) {
                    causes.invalid(path.child(key), number, "requires indexed completion mode");
                }
            }
        }
        "Indexed" => {
            if !has(spec, "completions") {
                causes.required(path.child("completions"), "when completion mode is Indexed");
            }
            if let Some(parallelism) = integer(spec, "parallelism")
                && parallelism > 100_000
            {
                let why = "must be less than or equal to 100000 when completion mode is Indexed";
                causes.invalid(path.child("parallelism"), parallelism, why);
            }
            if let (Some(failed), Some(all)) = (integer(spec, "maxFailedIndexes"), integer(spec, "completions"))
                && failed > all
            {
                causes.invalid(path.child("maxFailedIndexes"), failed, "must be less than or equal to completions");
            }
        }
        other => causes.not_supported(path.child("completionMode"), other, &["NonIndexed", "Indexed"]),
    }
    if has(spec, "successPolicy") && mode != "Indexed" {
        let shown = at(spec, &["successPolicy"]).clone();
        causes.invalid(path.child("successPolicy"), shown, "requires indexed completion mode");
    }
}

/// A Job's update: what it runs and how often may not change once it is there.
pub(super) fn check_job_update(causes: &mut Causes, new: &Value, old: &Value) {
    let (new_spec, old_spec) = (at(new, &["spec"]), at(old, &["spec"]));
    check_spec(causes, SPEC, new_spec);
    check_selector(causes, new_spec);
    let immutable = |causes: &mut Causes, key: &str| {
        causes.immutable(SPEC.child(key), at(new_spec, &[key]), at(old_spec, &[key]));
    };
    if text(new_spec, "completionMode") != "Indexed" {
        immutable(causes, "completions");
    } else if new_spec.get("completions") != old_spec.get("completions")
        && new_spec.get("completions") != new_spec.get("parallelism")
    {
        let shown = at(new_spec, &["completions"]).clone();
        causes.invalid(SPEC.child("completions"), shown, "can only be modified in tandem with spec.parallelism");
    }
    immutable(causes, "selector");
    check_template_update(causes, new, old);
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(causes, key);
    }
    check_name(causes, new);
}

/// A suspended Job that never started may still be told where to run.
fn check_template_update(causes: &mut Causes, new: &Value, old: &Value) {
    let template = at(new, &["spec", "template"]);
    let mut before = at(old, &["spec", "template"]).clone();
    let suspended = truth(at(old, &["spec"]), "suspend");
    if suspended && !has(at(old, &["status"]), "startTime") {
        for (part, keys) in [
            ("metadata", ["annotations", "labels"].as_slice()),
            ("spec", &["nodeSelector", "tolerations", "schedulingGates", "affinity"]),
        ] {
            let Some(fields) = before.get_mut(part).and_then(Value::as_object_mut) else { continue };
            for key in keys {
                match template.get(part).and_then(|it| it.get(key)) {
                    Some(value) => fields.insert((*key).to_owned(), value.clone()),
                    None => fields.remove(*key),
                };
            }
        }
        let mut copy = template.clone();
        for whole in [&mut copy, &mut before] {
            for kind in ["containers", "initContainers"] {
                let list = whole.get_mut("spec").and_then(|spec| spec.get_mut(kind)).and_then(Value::as_array_mut);
                for container in list.into_iter().flatten().filter_map(Value::as_object_mut) {
                    container.remove("resources");
                }
            }
        }
        if at(&copy, &["metadata"]) == at(&before, &["metadata"]) {
            if copy != before {
                let shown = types().shown("core.v1.PodSpec", at(template, &["spec"])).compact();
                causes.invalid_shown(SPEC.child("template.spec"), &shown, "field is immutable");
            }
            return;
        }
        before = Value::Null;
    }
    if *template != before {
        let shown = types().shown("core.v1.PodTemplateSpec", template).compact();
        causes.invalid_shown(SPEC.child("template"), &shown, "field is immutable");
    }
}

/// A CronJob.
pub(super) fn check_cron_job(causes: &mut Causes, job: &Value, old: Option<&Value>) {
    let spec = at(job, &["spec"]);
    let schedule = text(spec, "schedule");
    let path = SPEC.child("schedule");
    if schedule.is_empty() {
        causes.required(path, "");
    } else {
        if let Err(why) = cron::parse(schedule) {
            causes.invalid(path, schedule, &why);
        }
        let tolerated = old.is_some_and(|old| text(at(old, &["spec"]), "schedule").contains("TZ"));
        if schedule.contains("TZ") && !tolerated {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            causes.invalid(path, schedule, why);
        }
    }
    causes.not_negative(SPEC.child("startingDeadlineSeconds"), integer(spec, "startingDeadlineSeconds"));
    if old.is_none_or(|old| at(old, &["spec", "timeZone"]) != at(spec, &["timeZone"])) {
        check_time_zone(causes, SPEC.child("timeZone"), spec);
    }
    let policy = text(spec, "concurrencyPolicy");
    causes.one_of(SPEC.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
    let inner = at(spec, &["jobTemplate", "spec"]);
    let path = SPEC.child("jobTemplate.spec");
    check_spec(causes, path, inner);
    if let Some(selector) = option(inner, "selector") {
        causes.invalid(path.child("selector"), selector.clone(), "`selector` will be auto-generated");
    }
    if truth(inner, "manualSelector") {
        causes.not_supported(path.child("manualSelector"), true, &["nil", "false"]);
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        causes.not_negative(SPEC.child(key), integer(spec, key));
    }
    let name = text(at(job, &["metadata"]), "name");
    if old.is_none() && name.len() > 52 {
        causes.invalid(Path::root("metadata").child("name"), name, "must be no more than 52 characters");
    }
}

fn check_time_zone(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    let Some(zone) = option(spec, "timeZone").and_then(Value::as_str) else { return };
    if zone.is_empty() {
        causes.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        causes.invalid(path, zone, why);
    }
    if TimeZone::get(zone).is_err() {
        causes.invalid(path, zone, &format!("unknown time zone {zone}"));
    }
}

/// A Job's status: what it says must fit together.
pub(super) fn check_job_status(causes: &mut Causes, job: &Value) {
    let status = at(job, &["status"]);
    let path = Path::root("status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        causes.not_negative(path.child(key), integer(status, key));
    }
    let conditions = list(status, "conditions");
    let is = |kind: &str| conditions.iter().any(|it| text(it, "type") == kind && text(it, "status") == "True");
    if is("Complete") && is("Failed") {
        let why = "cannot set Complete=True and Failed=true conditions";
        causes.invalid_unshown(path.child("conditions"), why);
    }
    let finished = is("Complete") || is("Failed");
    if has(status, "completionTime") && !is("Complete") {
        let shown = at(status, &["completionTime"]).clone();
        let why = "cannot set completionTime when there is no Complete=True condition";
        causes.invalid(path.child("completionTime"), shown, why);
    }
    if is("Complete") && !has(status, "completionTime") {
        causes.required(path.child("completionTime"), "completionTime is required for Complete jobs");
    }
    if is("Failed") && !is("FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        causes.invalid_unshown(path.child("conditions"), why);
    }
    if is("Complete") && !is("SuccessCriteriaMet") {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        causes.invalid_unshown(path.child("conditions"), why);
    }
    let active = integer(status, "active").unwrap_or_default();
    if finished && active > 0 {
        causes.invalid(path.child("active"), active, "active>0 is invalid for finished job");
    }
    if finished && !has(status, "startTime") {
        causes.required(path.child("startTime"), "startTime is required for finished job");
    }
    if let Some(ready) = integer(status, "ready")
        && ready > active
    {
        causes.invalid(path.child("ready"), ready, "cannot set more ready pods than active");
    }
}
