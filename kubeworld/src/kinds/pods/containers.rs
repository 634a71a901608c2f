//! Containers of all three sorts, with their ports and probes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{
    causes::{Causes, Path},
    fields::{at, count, has, integer, list, option, text},
    names,
};
use super::{
    check_image_spaces,
    environment::{check_env, check_env_from},
    resources::check_resources,
    security::check_container_security,
    volumes,
};

/// What containers are checked against.
pub(super) struct Surroundings<'a> {
    /// The volumes that are well formed, with their sources.
    pub(super) volumes: Vec<(&'a str, &'a Value)>,
    pub(super) grace: Option<i64>,
    pub(super) restart: &'a str,
    pub(super) host_users: bool,
    pub(super) os: &'a Value,
}

pub(super) fn check_containers(causes: &mut Causes, path: Path<'_>, spec: &Value, around: &Surroundings<'_>) {
    let containers = list(spec, "containers");
    if containers.is_empty() {
        causes.required(path, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        check_container(causes, path, container, around);
        if !seen.insert(text(container, "name")) {
            causes.duplicate(path.child("name"), text(container, "name"));
        }
        check_lifecycle_and_probes(causes, path, container, around);
        check_restart_rules(causes, path, container);
    }
    check_host_ports(causes, path, containers);
}

pub(super) fn check_init_containers(causes: &mut Causes, path: Path<'_>, spec: &Value, around: &Surroundings<'_>) {
    let mut seen: BTreeSet<&str> = list(spec, "containers").iter().map(|container| text(container, "name")).collect();
    for (index, container) in list(spec, "initContainers").iter().enumerate() {
        let at_index = path.index(index);
        check_container(causes, at_index, container, around);
        check_restart_rules(causes, at_index, container);
        let name = text(container, "name");
        if seen.contains(name) {
            causes.duplicate(at_index.child("name"), name);
        } else if !name.is_empty() {
            seen.insert(name);
        }
        check_host_ports(causes, path, std::slice::from_ref(container));
        if text(container, "restartPolicy") == "Always" {
            check_lifecycle_and_probes(causes, at_index, container, around);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(container, key) {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    causes.forbidden(at_index.child(key), why);
                }
            }
        }
    }
}

pub(super) fn check_ephemeral_containers(causes: &mut Causes, path: Path<'_>, spec: &Value, around: &Surroundings<'_>) {
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| list(spec, kind))
        .map(|container| text(container, "name"))
        .collect();
    let mut seen = others.clone();
    for (index, container) in list(spec, "ephemeralContainers").iter().enumerate() {
        let path = path.index(index);
        check_container(causes, path, container, around);
        check_image_spaces(causes, path.child("image"), text(container, "image"));
        if !seen.insert(text(container, "name")) {
            causes.duplicate(path.child("name"), text(container, "name"));
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            causes.not_found(path.child("targetContainerName"), target);
        }
        for key in ["ports", "resizePolicy", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if has(container, key) {
                causes.forbidden(path.child(key), "cannot be set for an Ephemeral Container");
            }
        }
        if container.get("resources").is_some_and(|it| it.as_object().is_some_and(|it| !it.is_empty())) {
            causes.forbidden(path.child("resources"), "cannot be set for an Ephemeral Container");
        }
    }
}

fn check_restart_rules(causes: &mut Causes, path: Path<'_>, container: &Value) {
    let policy = option(container, "restartPolicy").and_then(Value::as_str);
    let rules = list(container, "restartPolicyRules");
    match policy {
        None if !rules.is_empty() => {
            causes.required(path.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
        }
        Some(policy) if !matches!(policy, "Always" | "Never" | "OnFailure") => {
            causes.not_supported(path.child("restartPolicy"), policy, &["Always", "Never", "OnFailure"]);
        }
        Some(_) | None => {}
    }
    if rules.len() > 20 {
        causes.too_many(path.child("restartPolicyRules"), rules.len(), 20);
    }
}

fn check_container(causes: &mut Causes, path: Path<'_>, container: &Value, around: &Surroundings<'_>) {
    let name = text(container, "name");
    if name.is_empty() {
        causes.required(path.child("name"), "");
    } else {
        causes.each_invalid(path.child("name"), name, names::dns_label(name));
    }
    if text(container, "image").is_empty() {
        causes.required(path.child("image"), "");
    }
    let policy = text(container, "terminationMessagePolicy");
    causes.one_of(path.child("terminationMessagePolicy"), policy, &["File", "FallbackToLogsOnError"]);
    check_ports(causes, path.child("ports"), list(container, "ports"));
    check_env(causes, path.child("env"), list(container, "env"));
    check_env_from(causes, path.child("envFrom"), list(container, "envFrom"));
    volumes::check_mounts(causes, path.child("volumeMounts"), container, &around.volumes);
    volumes::check_devices(causes, path.child("volumeDevices"), container, &around.volumes);
    let pull = text(container, "imagePullPolicy");
    causes.one_of(path.child("imagePullPolicy"), pull, &["Always", "IfNotPresent", "Never"]);
    check_resources(causes, path.child("resources"), at(container, &["resources"]));
    check_resize(causes, path.child("resizePolicy"), list(container, "resizePolicy"), around.restart);
    let context = at(container, &["securityContext"]);
    check_container_security(causes, path.child("securityContext"), context, around);
}

fn check_resize(causes: &mut Causes, path: Path<'_>, policies: &[Value], restart: &str) {
    let mut seen = BTreeSet::new();
    for (index, one) in policies.iter().enumerate() {
        let name = text(one, "resourceName");
        if !seen.insert(name) {
            causes.duplicate(path.index(index), name);
        }
        causes.one_of(path, name, &["cpu", "memory"]);
        let policy = text(one, "restartPolicy");
        causes.one_of(path, policy, &["NotRequired", "RestartContainer"]);
        if restart == "Never" && policy != "NotRequired" {
            causes.invalid(path, policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

fn check_ports(causes: &mut Causes, path: Path<'_>, ports: &[Value]) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let reasons = names::port_name(name);
            if !reasons.is_empty() {
                causes.each_invalid(path.child("name"), name, reasons);
            } else if !seen.insert(name) {
                causes.duplicate(path.child("name"), name);
            }
        }
        match integer(port, "containerPort").unwrap_or_default() {
            0 => causes.required(path.child("containerPort"), ""),
            number => check_port_number(causes, path.child("containerPort"), number),
        }
        match integer(port, "hostPort").unwrap_or_default() {
            0 => {}
            number => check_port_number(causes, path.child("hostPort"), number),
        }
        causes.one_of(path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// A port by its number.
pub(in super::super) fn check_port_number(causes: &mut Causes, path: Path<'_>, number: i64) {
    for why in names::port_number(number) {
        causes.invalid(path, number, &why);
    }
}

/// A port by number or by name.
pub(in super::super) fn check_port(causes: &mut Causes, path: Path<'_>, port: &Value) {
    match port {
        Value::String(name) => causes.each_invalid(path, name, names::port_name(name)),
        Value::Number(_) => check_port_number(causes, path, port.as_i64().unwrap_or_default()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => check_port_number(causes, path, 0),
    }
}

pub(super) fn check_host_ports(causes: &mut Causes, path: Path<'_>, containers: &[Value]) {
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let number = integer(port, "hostPort").unwrap_or_default();
            let shown = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if number != 0 && !seen.insert(shown.clone()) {
                causes.duplicate(path.index(index).child("hostPort"), shown);
            }
        }
    }
}

fn check_lifecycle_and_probes(causes: &mut Causes, path: Path<'_>, container: &Value, around: &Surroundings<'_>) {
    if let Some(lifecycle) = option(container, "lifecycle") {
        let path = path.child("lifecycle");
        for key in ["postStart", "preStop"] {
            if let Some(handler) = option(lifecycle, key) {
                check_handler(causes, path.child(key), handler, around.grace);
            }
        }
        if has(lifecycle, "stopSignal") && !around.os.is_object() {
            causes.forbidden(path.child("stopSignal"), "may not be set for containers with empty `spec.os.name`");
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = option(container, key) {
            check_probe(causes, path.child(key), probe, key == "readinessProbe");
        }
    }
}

fn check_probe(causes: &mut Causes, path: Path<'_>, probe: &Value, readiness: bool) {
    check_handler(causes, path, probe, None);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        causes.not_negative(path.child(key), integer(probe, key));
    }
    let grace = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = integer(probe, "terminationGracePeriodSeconds") {
        if seconds <= 0 {
            causes.invalid(grace, seconds, "must be greater than 0");
        }
        if readiness {
            causes.invalid(grace, seconds, "must not be set for readinessProbes");
        }
    }
    let threshold = integer(probe, "successThreshold").unwrap_or_default();
    if !readiness && threshold != 1 {
        causes.invalid(path.child("successThreshold"), threshold, "must be 1");
    }
}

fn check_handler(causes: &mut Causes, path: Path<'_>, handler: &Value, grace: Option<i64>) {
    let mut found = false;
    for key in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = option(handler, key) else { continue };
        let path = path.child(key);
        if found {
            causes.forbidden(path, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match key {
            "exec" if count(action, "command") == 0 => causes.required(path.child("command"), ""),
            "httpGet" => check_http_get(causes, path, action),
            "tcpSocket" | "grpc" => check_port(causes, path.child("port"), at(action, &["port"])),
            "sleep" => {
                let seconds = integer(action, "seconds").unwrap_or_default();
                if let Some(grace) = grace
                    && !(0..=grace).contains(&seconds)
                {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    causes.invalid(path, seconds, &why);
                }
            }
            _ => {}
        }
    }
    if !found {
        causes.required(path, "must specify a handler type");
    }
}

fn check_http_get(causes: &mut Causes, path: Path<'_>, action: &Value) {
    if text(action, "path").is_empty() {
        causes.required(path.child("path"), "");
    }
    check_port(causes, path.child("port"), at(action, &["port"]));
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        causes.not_supported(path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        causes.each_invalid(path.child("httpHeaders"), name, names::http_header(name));
    }
}
