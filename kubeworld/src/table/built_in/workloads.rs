//! Cells of what makes pods, and of what scales it.

use serde_json::{Value, json};

use super::object::{Object, is_true, labels, selector, selector_or_none, shown, unknown};
use crate::table::duration;

pub(super) fn deployment(this: &Object<'_>) -> Vec<Value> {
    let (names, images) = this.containers("/spec/template/spec/containers");
    vec![
        this.name(),
        json!(format!("{}/{}", this.int("/status/readyReplicas"), this.int("/spec/replicas"))),
        json!(this.int("/status/updatedReplicas")),
        json!(this.int("/status/availableReplicas")),
        this.age(),
        names,
        images,
        json!(selector(this.at("/spec/selector")).unwrap_or_else(|| "<invalid>".to_owned())),
    ]
}

pub(super) fn daemon_set(this: &Object<'_>) -> Vec<Value> {
    let (names, images) = this.containers("/spec/template/spec/containers");
    let counts = [
        "/status/desiredNumberScheduled",
        "/status/currentNumberScheduled",
        "/status/numberReady",
        "/status/updatedNumberScheduled",
        "/status/numberAvailable",
    ];
    let mut cells = vec![this.name()];
    cells.extend(counts.iter().map(|path| json!(this.int(path))));
    cells.extend([json!(labels(this.at("/spec/template/spec/nodeSelector"))), this.age(), names, images]);
    cells.push(json!(selector_or_none(this.at("/spec/selector"))));
    cells
}

/// The controller among the owners, as `kind.group/name`.
pub(super) fn controller(this: &Object<'_>) -> String {
    let owner = this.list("/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
    let Some(owner) = owner else { return "<none>".to_owned() };
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = if group.is_empty() { text("kind").to_owned() } else { format!("{}.{group}", text("kind")) };
    format!("{}/{}", kind.to_lowercase(), text("name"))
}

pub(super) fn job(this: &Object<'_>) -> Vec<Value> {
    let succeeded = this.int("/status/succeeded");
    let completions = match (this.at("/spec/completions").as_i64(), this.int("/spec/parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let took = match (this.time("/status/startTime"), this.time("/status/completionTime")) {
        (None, _) => String::new(),
        (Some(start), None) => duration::since(start, this.now),
        (Some(start), Some(end)) => duration::since(start, end),
    };
    let conditions = this.list("/status/conditions");
    let status = match () {
        () if is_true(conditions, "Complete") => "Complete",
        () if is_true(conditions, "Failed") => "Failed",
        () if this.is_terminating() => "Terminating",
        () if is_true(conditions, "Suspended") => "Suspended",
        () if is_true(conditions, "FailureTarget") => "FailureTarget",
        () if is_true(conditions, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let (names, images) = this.containers("/spec/template/spec/containers");
    let selector = json!(selector_or_none(this.at("/spec/selector")));
    vec![this.name(), json!(status), json!(completions), json!(took), this.age(), names, images, selector]
}

pub(super) fn cron_job(this: &Object<'_>) -> Vec<Value> {
    let template = "/spec/jobTemplate/spec";
    let (names, images) = this.containers(&format!("{template}/template/spec/containers"));
    let suspend = match this.at("/spec/suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        this.name(),
        this.cell("/spec/schedule"),
        json!(this.at("/spec/timeZone").as_str().unwrap_or("<none>")),
        json!(suspend),
        json!(this.list("/status/active").len()),
        json!(this.since("/status/lastScheduleTime").unwrap_or_else(|| "<none>".to_owned())),
        this.age(),
        names,
        images,
        json!(selector_or_none(this.at(&format!("{template}/selector")))),
    ]
}

pub(super) fn horizontal_pod_autoscaler(this: &Object<'_>) -> Vec<Value> {
    let of = format!("{}/{}", this.text("/spec/scaleTargetRef/kind"), this.text("/spec/scaleTargetRef/name"));
    vec![
        this.name(),
        json!(of),
        json!(metrics(this)),
        json!(this.shown("/spec/minReplicas").unwrap_or_else(|| "<unset>".to_owned())),
        json!(this.int("/spec/maxReplicas")),
        json!(this.int("/status/currentReplicas")),
        this.age(),
    ]
}

/// How many metrics are shown before it is only said how many more there are.
const METRICS_SHOWN: usize = 2;

pub(super) fn metrics(this: &Object<'_>) -> String {
    let current = this.list("/status/currentMetrics");
    let percent = |value: &Value| value.as_i64().map(|number| format!("{number}%"));
    let specs = this.list("/spec/metrics").iter().enumerate();
    let mut all: Vec<String> = specs.map(|(i, spec)| metric(spec, current.get(i).unwrap_or(&Value::Null))).collect();
    // The first version of the API knows one metric only, by its share.
    if let Some(target) = percent(this.at("/spec/targetCPUUtilizationPercentage")) {
        let current = percent(this.at("/status/currentCPUUtilizationPercentage")).unwrap_or_else(unknown);
        all.push(format!("cpu: {current}/{target}"));
    }
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let text = all.iter().take(METRICS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(METRICS_SHOWN) {
        0 => text,
        more => format!("{text} + {more} more..."),
    }
}

/// What a metric is and is to be, given its spec and its status.
pub(super) fn metric(spec: &Value, status: &Value) -> String {
    let Some(source) = spec["type"].as_str() else { return "<unknown type>".to_owned() };
    let field = match source {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[field]["target"], &status[field]["current"]);
    let is_resource = matches!(source, "Resource" | "ContainerResource");
    let prefix =
        if is_resource { format!("{}: ", spec[field]["name"].as_str().unwrap_or_default()) } else { String::new() };
    let quantity = |value: &Value| shown(value);
    let percent = |value: &Value| value.as_i64().map(|number| format!("{number}%"));
    if let Some(average) = quantity(&target["averageValue"]) {
        let current = quantity(&current["averageValue"]).unwrap_or_else(unknown);
        let suffix = if is_resource || source == "Pods" { "" } else { " (avg)" };
        return format!("{prefix}{current}/{average}{suffix}");
    }
    if is_resource {
        let current = percent(&current["averageUtilization"]).unwrap_or_else(unknown);
        let target = percent(&target["averageUtilization"]).unwrap_or_else(|| "<auto>".to_owned());
        return format!("{prefix}{current}/{target}");
    }
    let current = quantity(&current["value"]).unwrap_or_else(unknown);
    format!("{current}/{}", quantity(&target["value"]).unwrap_or_else(|| "0".to_owned()))
}
