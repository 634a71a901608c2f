//! Pods and their templates, which all workloads share.
//!
//! Absent: Windows' own rules, dynamic resource claims, and the insides of volume sources that no world has (cloud
//! disks, iSCSI, …), whose presence alone is counted.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, count, has, integer, list, option, text, truth},
    meta, names, selectors,
};

mod containers;
mod environment;
mod resources;
mod scheduling;
mod security;
mod update;
mod volumes;

use containers::{Surroundings, check_containers, check_ephemeral_containers, check_init_containers};
use resources::check_pod_level_resources;
use security::check_pod_security;

pub(super) use containers::{check_port, check_port_number};
pub(super) use resources::{check_amount, check_quota_resource, default_pod_level_resources, is_quota_resource};
pub(super) use scheduling::{check_node_selector, check_taint_effect};
pub(super) use update::{check_ephemeral_update, check_update, difference};
pub(super) use volumes::check_host_path;

/// What a pod spec is part of: some rules hold for pods only, since templates were never asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Pod,
    Template,
}

const SPEC: Path<'static> = Path::root("spec");

/// The rules for a new pod, after those for its metadata.
pub(super) fn check_create(causes: &mut Causes, pod: &Value) {
    check_pod(causes, pod);
    let spec = at(pod, &["spec"]);
    if count(spec, "ephemeralContainers") > 0 {
        causes.forbidden(SPEC.child("ephemeralContainers"), "cannot be set on create");
    }
    if !text(spec, "nodeName").is_empty() && count(spec, "schedulingGates") > 0 {
        causes.forbidden(SPEC.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

fn check_pod(causes: &mut Causes, pod: &Value) {
    let spec = at(pod, &["spec"]);
    let name = text(at(pod, &["metadata"]), "name");
    check_spec(causes, SPEC, spec, Owner::Pod, name);
    if text(spec, "serviceAccountName").is_empty() {
        let path = SPEC.child("volumes");
        for (index, volume) in list(spec, "volumes").iter().enumerate() {
            let path = path.index(index);
            let path = path.child("projected.sources");
            for (index, source) in list(at(volume, &["projected"]), "sources").iter().enumerate() {
                if has(source, "serviceAccountToken") {
                    let why = "must not be specified when serviceAccountName is not set";
                    causes.forbidden(path.index(index).child("serviceAccountToken"), why);
                }
            }
        }
    }
    causes.not_negative(SPEC.child("terminationGracePeriodSeconds"), integer(spec, "terminationGracePeriodSeconds"));
    for kind in ["containers", "initContainers"] {
        let path = SPEC.child(kind);
        for (index, container) in list(spec, kind).iter().enumerate() {
            check_image_spaces(causes, path.index(index).child("image"), text(container, "image"));
        }
    }
}

fn check_image_spaces(causes: &mut Causes, path: Path<'_>, image: &str) {
    if image.trim() != image {
        causes.invalid(path, image, "must not have leading or trailing whitespace");
    }
}

/// The rules for a template of pods.
pub(super) fn check_template(causes: &mut Causes, path: Path<'_>, template: &Value) {
    let metadata = at(template, &["metadata"]);
    selectors::check_labels(causes, path.child("labels"), at(metadata, &["labels"]));
    meta::check_annotations(causes, path.child("annotations"), at(metadata, &["annotations"]));
    let spec_path = path.child("spec");
    let spec = at(template, &["spec"]);
    check_spec(causes, spec_path, spec, Owner::Template, "");
    if count(spec, "ephemeralContainers") > 0 {
        let why = "ephemeral containers not allowed in pod template";
        causes.forbidden(spec_path.child("ephemeralContainers"), why);
    }
}

/// A template whose pods must run for ever, in the words of its kind.
pub(super) fn check_always_running(causes: &mut Causes, path: Path<'_>, template: &Value, kind: &str) {
    let spec = at(template, &["spec"]);
    let path = path.child("spec");
    if text(spec, "restartPolicy") != "Always" {
        causes.not_supported(path.child("restartPolicy"), text(spec, "restartPolicy"), &["Always"]);
    }
    if has(spec, "activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        causes.forbidden(path.child("activeDeadlineSeconds"), &why);
    }
}

fn check_spec(causes: &mut Causes, path: Path<'_>, spec: &Value, owner: Owner, pod_name: &str) {
    let grace = integer(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        causes.required(path.child("terminationGracePeriodSeconds"), "");
    }
    let around = Surroundings {
        volumes: volumes::check(causes, path.child("volumes"), list(spec, "volumes"), pod_name),
        grace,
        restart: text(spec, "restartPolicy"),
        host_users: spec.get("hostUsers") != Some(&json!(false)),
        os: at(spec, &["os"]),
    };
    check_containers(causes, path.child("containers"), spec, &around);
    check_init_containers(causes, path.child("initContainers"), spec, &around);
    check_ephemeral_containers(causes, path.child("ephemeralContainers"), spec, &around);
    check_pod_level_resources(causes, path.child("resources"), spec);
    check_host_network(causes, path.child("containers"), spec, owner);
    causes.one_of(path.child("restartPolicy"), around.restart, &["Always", "OnFailure", "Never"]);
    causes.one_of(
        path.child("dnsPolicy"),
        text(spec, "dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    selectors::check_labels(causes, path.child("nodeSelector"), at(spec, &["nodeSelector"]));
    check_pod_security(causes, path.child("securityContext"), at(spec, &["securityContext"]));
    if truth(spec, "hostPID") && truth(spec, "shareProcessNamespace") {
        causes.invalid(
            path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    scheduling::check_affinity(causes, path.child("affinity"), at(spec, &["affinity"]));
    check_dns(causes, path.child("dnsConfig"), spec);
    let gates = path.child("readinessGates");
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        let kind = text(gate, "conditionType");
        causes.each_invalid(gates.index(index).child("conditionType"), kind, names::qualified(kind));
    }
    check_scheduling_gates(causes, path.child("schedulingGates"), list(spec, "schedulingGates"));
    let spread = path.child("topologySpreadConstraints");
    scheduling::check_spread(causes, spread, list(spec, "topologySpreadConstraints"));
    check_names(causes, path, spec);
    scheduling::check_tolerations(causes, path.child("tolerations"), list(spec, "tolerations"));
    check_host_aliases(causes, path.child("hostAliases"), list(spec, "hostAliases"));
    for key in ["priorityClassName", "runtimeClassName"] {
        let name = text(spec, key);
        if !name.is_empty() {
            causes.each_invalid(path.child(key), name, names::dns_subdomain(name));
        }
    }
    if let Some(policy) = option(spec, "preemptionPolicy") {
        let policy = policy.as_str().unwrap_or_default();
        causes.one_of(path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    if has(spec, "os") {
        causes.one_of(path.child("os.name"), text(around.os, "name"), &["linux", "windows"]);
    }
}

fn check_names(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    let account = text(spec, "serviceAccountName");
    if !account.is_empty() {
        causes.each_invalid(path.child("serviceAccountName"), account, names::dns_subdomain(account));
    }
    let node = text(spec, "nodeName");
    if !node.is_empty() {
        causes.each_invalid(path.child("nodeName"), node, names::dns_subdomain(node));
    }
    if let Some(seconds) = integer(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        causes.invalid(path.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    for key in ["hostname", "subdomain"] {
        let name = text(spec, key);
        if !name.is_empty() {
            causes.each_invalid(path.child(key), name, names::dns_label(name));
        }
    }
}

fn check_host_aliases(causes: &mut Causes, path: Path<'_>, aliases: &[Value]) {
    for (index, alias) in aliases.iter().enumerate() {
        let path = path.index(index);
        names::check_ip(causes, path.child("ip"), text(alias, "ip"));
        let path = path.child("hostnames");
        for (index, host) in list(alias, "hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            causes.each_invalid(path.index(index), host, names::dns_subdomain(host));
        }
    }
}

fn check_scheduling_gates(causes: &mut Causes, path: Path<'_>, gates: &[Value]) {
    let mut seen = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        let name = text(gate, "name");
        causes.each_invalid(path.index(index), name, names::qualified(name));
        if !seen.insert(name) {
            causes.duplicate(path.index(index), name);
        }
    }
}

fn check_dns(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    let servers = list(at(spec, &["dnsConfig"]), "nameservers");
    if text(spec, "dnsPolicy") == "None" {
        if !has(spec, "dnsConfig") {
            causes.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            causes.required(path.child("nameservers"), why);
            return;
        }
    }
    if servers.len() > 3 {
        causes.invalid(path.child("nameservers"), json!(servers), "must not have more than 3 nameservers");
    }
    let server_path = path.child("nameservers");
    for (index, server) in servers.iter().enumerate() {
        names::check_ip(causes, server_path.index(index), server.as_str().unwrap_or_default());
    }
    let options = path.child("options");
    for (index, one) in list(at(spec, &["dnsConfig"]), "options").iter().enumerate() {
        if text(one, "name").is_empty() {
            causes.required(options.index(index), "must not be empty");
        }
    }
}

fn check_host_network(causes: &mut Causes, path: Path<'_>, spec: &Value, owner: Owner) {
    if !truth(spec, "hostNetwork") {
        return;
    }
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let path = path.index(index);
        let path = path.child("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let host = integer(port, "hostPort").unwrap_or_default();
            let own = integer(port, "containerPort").unwrap_or_default();
            if (owner == Owner::Pod || host != 0) && host != own {
                let why = "must match `containerPort` when `hostNetwork` is true";
                causes.invalid(path.index(index).child("hostPort"), host, why);
            }
        }
    }
}

/// Whether a pod can be bound to a node, by the body of its `binding` subresource.
pub(crate) fn validate_binding(binding: &Value) -> Vec<crate::status::Cause> {
    let mut causes = Causes::default();
    let target = at(binding, &["target"]);
    let kind = text(target, "kind");
    let path = Path::root("target");
    if !matches!(kind, "" | "Node") {
        causes.not_supported(path.child("kind"), kind, &["Node", "<empty>"]);
    }
    match text(target, "name") {
        "" => causes.required(path.child("name"), ""),
        name if matches!(kind, "" | "Node") => {
            causes.each_invalid(path.child("name"), name, names::dns_subdomain(name));
        }
        _ => {}
    }
    causes.0
}
