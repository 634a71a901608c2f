//! Pods and their templates, which all workloads share.
//!
//! Absent: Windows' own rules, dynamic resource claims, and the insides of volume sources that no world has (cloud
//! disks, iSCSI, …), whose presence alone is counted.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, child, count, entries, has, integer, list, option, text, truth},
    meta, names, quantity,
    quantity::Quantity,
    selectors, shown,
    types::types,
};

mod scheduling;
mod volumes;

pub(super) use scheduling::{check_node_selector, check_taint_effect};
pub(super) use volumes::check_host_path;

/// What a pod spec is part of: some rules hold for pods only, since templates were never asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Pod,
    Template,
}

/// A pod that says something about its resources as a whole gets the rest from its containers.
pub(super) fn default_pod_level_resources(pod: &mut Value) {
    let spec = at(pod, &["spec"]);
    let whole = at(spec, &["resources"]);
    if entries(whole, "requests").next().is_none() && entries(whole, "limits").next().is_none() {
        return;
    }
    let mut requests: Map<String, Value> = entries(whole, "requests").map(|(k, v)| (k.clone(), v.clone())).collect();
    for (name, sum) in sum_of_containers(spec, "requests") {
        if matches!(name.as_str(), "cpu" | "memory") {
            requests.entry(name).or_insert_with(|| sum.to_string().into());
        }
    }
    for (name, limit) in entries(whole, "limits") {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    let resources = pod.as_object_mut().and_then(|it| child(it, "spec")).and_then(|it| child(it, "resources"));
    if let Some(resources) = resources
        && !requests.is_empty()
    {
        resources.insert("requests".into(), requests.into());
    }
}

fn sum_of_containers(spec: &Value, part: &str) -> Vec<(String, Quantity)> {
    let mut sums: Vec<(String, Quantity)> = Vec::new();
    for container in list(spec, "containers") {
        for (name, amount) in entries(at(container, &["resources"]), part) {
            let Some(amount) = amount.as_str().and_then(quantity::parse) else { continue };
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum = sum.plus(amount),
                None => sums.push((name.clone(), amount)),
            }
        }
    }
    sums
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

/// The rules for an update of a pod. Almost nothing of its spec may change.
pub(super) fn check_update(causes: &mut Causes, new_pod: &Value, old_pod: &Value) {
    meta::check_create(causes, names::dns_subdomain, true, new_pod);
    check_pod(causes, new_pod);
    let (new, old) = (at(new_pod, &["spec"]), at(old_pod, &["spec"]));
    for kind in ["containers", "initContainers"] {
        let path = SPEC.child(kind);
        if count(new, kind) != count(old, kind) {
            causes.forbidden(path, "pod updates may not add or remove containers");
            return;
        }
        for (index, container) in list(new, kind).iter().enumerate() {
            let image = text(container, "image");
            if image.is_empty() {
                causes.required(path.index(index).child("image"), "");
            }
            check_image_spaces(causes, path.index(index).child("image"), image);
        }
    }
    let path = SPEC.child("activeDeadlineSeconds");
    match (integer(new, "activeDeadlineSeconds"), integer(old, "activeDeadlineSeconds")) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            causes.invalid(path, now, "must be between 0 and 2147483647, inclusive");
            return;
        }
        (Some(now), Some(before)) if before < now => {
            causes.invalid(path, now, "must be less than or equal to previous value");
            return;
        }
        (None, Some(_)) => {
            causes.invalid(path, Value::Null, "must not update from a positive integer to nil value");
        }
        (Some(_) | None, _) => {}
    }
    check_added_tolerations(causes, new, old);
    check_removed_gates(causes, new, old);
    if new == old {
        return;
    }
    let munged = without_the_updatable(new, old);
    if munged != *old {
        let why = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            difference("core.v1.PodSpec", old, &munged)
        );
        causes.forbidden(SPEC, &why);
    }
}

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn check_added_tolerations(causes: &mut Causes, new: &Value, old: &Value) {
    let path = SPEC.child("tolerations");
    let bare = |toleration: &Value| {
        let mut fields = toleration.as_object().cloned().unwrap_or_default();
        fields.remove("tolerationSeconds");
        fields
    };
    let kept =
        list(old, "tolerations").iter().all(|old| list(new, "tolerations").iter().any(|new| bare(new) == bare(old)));
    if !kept {
        causes.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::check_tolerations(causes, path, list(new, "tolerations"));
}

fn check_removed_gates(causes: &mut Causes, new: &Value, old: &Value) {
    let path = SPEC.child("schedulingGates");
    let before: Vec<&str> = list(old, "schedulingGates").iter().map(|gate| text(gate, "name")).collect();
    for (index, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !before.contains(&name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            causes.forbidden(path.index(index).child("name"), &why);
        }
    }
}

/// The new spec with what may change as it was.
fn without_the_updatable(new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    let Some(fields) = munged.as_object_mut() else { return munged };
    for kind in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = fields.get_mut(kind) else { continue };
        for (container, old) in containers.iter_mut().zip(list(old, kind)) {
            if let (Some(container), Some(image)) = (container.as_object_mut(), old.get("image")) {
                container.insert("image".into(), image.clone());
            }
        }
    }
    let mut kept = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if count(old, "schedulingGates") > 0 {
        kept.extend(["nodeSelector", "affinity"]);
    }
    for key in kept {
        match old.get(key) {
            Some(value) => fields.insert(key.to_owned(), value.clone()),
            None => fields.remove(key),
        };
    }
    munged
}

/// What differs between two structs of a name in `types.txt`, for people.
pub(super) fn difference(name: &str, old: &Value, new: &Value) -> String {
    shown::difference(&types().shown(name, old), &types().shown(name, new))
}

/// The rules for an update of a pod's ephemeral containers, which may only be added.
pub(super) fn check_ephemeral_update(causes: &mut Causes, new: &Value, old: &Value) {
    check_pod(causes, new);
    let (new, old) = (at(new, &["spec"]), at(old, &["spec"]));
    let path = SPEC.child("ephemeralContainers");
    for before in list(old, "ephemeralContainers") {
        let name = text(before, "name");
        let now = list(new, "ephemeralContainers").iter().rev().find(|container| text(container, "name") == name);
        match now {
            None => causes.forbidden(path, &format!("existing ephemeral containers \"{name}\" may not be removed\n")),
            Some(now) if now != before => {
                let difference = difference("core.v1.EphemeralContainer", before, now);
                let why = format!("existing ephemeral containers \"{name}\" may not be changed\n{difference}");
                causes.forbidden(path, &why);
            }
            Some(_) => {}
        }
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

/// What containers are checked against.
struct Surroundings<'a> {
    /// The volumes that are well formed, with their sources.
    volumes: Vec<(&'a str, &'a Value)>,
    grace: Option<i64>,
    restart: &'a str,
    host_users: bool,
    os: &'a Value,
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

fn check_ids(causes: &mut Causes, path: Path<'_>, context: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(id) = integer(context, key)
            && !(0..=i64::from(i32::MAX)).contains(&id)
        {
            causes.invalid(path.child(key), id, "must be between 0 and 2147483647, inclusive");
        }
    }
}

fn check_pod_security(causes: &mut Causes, path: Path<'_>, context: &Value) {
    check_ids(causes, path, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    let groups = path.child("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or_default();
        if !(0..=i64::from(i32::MAX)).contains(&group) {
            causes.invalid(groups.index(index), group, "must be between 0 and 2147483647, inclusive");
        }
    }
    if let Some(policy) = option(context, "fsGroupChangePolicy").and_then(Value::as_str)
        && !matches!(policy, "Always" | "OnRootMismatch")
    {
        causes.not_supported(path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    check_seccomp(causes, path.child("seccompProfile"), at(context, &["seccompProfile"]));
}

fn check_seccomp(causes: &mut Causes, path: Path<'_>, profile: &Value) {
    if !profile.is_object() {
        return;
    }
    let kind = text(profile, "type");
    if kind.is_empty() {
        causes.required(path.child("type"), "type is required when seccompProfile is set");
    } else if !matches!(kind, "Localhost" | "RuntimeDefault" | "Unconfined") {
        causes.not_supported(path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let local = path.child("localhostProfile");
    match (kind == "Localhost", has(profile, "localhostProfile")) {
        (true, false) => causes.required(local, "must be set when seccomp type is Localhost"),
        (true, true) => volumes::check_descending(causes, local, text(profile, "localhostProfile")),
        (false, true) => {
            causes.invalid(local, profile.clone(), "can only be set when seccomp type is Localhost");
        }
        (false, false) => {}
    }
}

fn check_container_security(causes: &mut Causes, path: Path<'_>, context: &Value, around: &Surroundings<'_>) {
    if !context.is_object() {
        return;
    }
    check_ids(causes, path, context, &["runAsUser", "runAsGroup"]);
    if let Some(mount) = option(context, "procMount").and_then(Value::as_str) {
        if !matches!(mount, "Default" | "Unmasked") {
            causes.not_supported(path.child("procMount"), mount, &["Default", "Unmasked"]);
        }
        if around.host_users && mount == "Unmasked" {
            causes.invalid(path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    check_seccomp(causes, path.child("seccompProfile"), at(context, &["seccompProfile"]));
    if context.get("allowPrivilegeEscalation") == Some(&json!(false)) && truth(context, "privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.invalid_shown(path, &types().shown("core.v1.SecurityContext", context).compact(), why);
    }
}

fn check_containers(causes: &mut Causes, path: Path<'_>, spec: &Value, around: &Surroundings<'_>) {
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

fn check_init_containers(causes: &mut Causes, path: Path<'_>, spec: &Value, around: &Surroundings<'_>) {
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

fn check_ephemeral_containers(causes: &mut Causes, path: Path<'_>, spec: &Value, around: &Surroundings<'_>) {
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
pub(super) fn check_port_number(causes: &mut Causes, path: Path<'_>, number: i64) {
    for why in names::port_number(number) {
        causes.invalid(path, number, &why);
    }
}

/// A port by number or by name.
pub(super) fn check_port(causes: &mut Causes, path: Path<'_>, port: &Value) {
    match port {
        Value::String(name) => causes.each_invalid(path, name, names::port_name(name)),
        Value::Number(_) => check_port_number(causes, path, port.as_i64().unwrap_or_default()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => check_port_number(causes, path, 0),
    }
}

fn check_host_ports(causes: &mut Causes, path: Path<'_>, containers: &[Value]) {
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

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn check_env(causes: &mut Causes, path: Path<'_>, variables: &[Value]) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            causes.required(path.child("name"), "");
        } else {
            causes.each_invalid(path.child("name"), name, names::variable(name));
        }
        if has(variable, "valueFrom") {
            check_value_from(causes, path.child("valueFrom"), variable);
        }
    }
}

fn check_value_from(causes: &mut Causes, path: Path<'_>, variable: &Value) {
    let from = at(variable, &["valueFrom"]);
    let mut sources = 0;
    if let Some(field) = option(from, "fieldRef") {
        sources += 1;
        volumes::check_field(causes, path.child("fieldRef"), field, &ENV_FIELDS);
    }
    if let Some(field) = option(from, "resourceFieldRef") {
        sources += 1;
        check_resource_field(causes, path.child("resourceFieldRef"), field, false);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = option(from, key) else { continue };
        sources += 1;
        let path = path.child(key);
        let name = text(reference, "name");
        causes.each_invalid(path.child("name"), name, names::dns_subdomain(name));
        match text(reference, "key") {
            "" => causes.required(path.child("key"), ""),
            key => causes.each_invalid(path.child("key"), key, names::config_key(key)),
        }
    }
    sources += usize::from(has(from, "fileKeyRef"));
    if sources == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        causes.invalid(path, "", why);
    } else if !text(variable, "value").is_empty() {
        causes.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        causes.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn check_resource_field(causes: &mut Causes, path: Path<'_>, field: &Value, in_volume: bool) {
    let resource = text(field, "resource");
    if in_volume && text(field, "containerName").is_empty() {
        causes.required(path.child("containerName"), "");
    } else if resource.is_empty() {
        causes.required(path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource)
        && !resource.starts_with("limits.hugepages-")
        && !resource.starts_with("requests.hugepages-")
    {
        causes.not_supported(path.child("resource"), resource, &RESOURCE_FIELDS);
    }
}

fn check_env_from(causes: &mut Causes, path: Path<'_>, sources: &[Value]) {
    for (index, source) in sources.iter().enumerate() {
        let at_index = path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            causes.each_invalid(at_index.child("prefix"), prefix, names::variable(prefix));
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = option(source, key) else { continue };
            count += 1;
            let path = at_index.child(key);
            match text(reference, "name") {
                "" => causes.required(path.child("name"), ""),
                name => causes.each_invalid(path.child("name"), name, names::dns_subdomain(name)),
            }
        }
        if count == 0 {
            causes.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            causes.invalid(path, "", "may not have more than one field specified at a time");
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

/// What a container or a claim asks for, as names and amounts.
fn check_resources(causes: &mut Causes, path: Path<'_>, resources: &Value) {
    let limits = path.child("limits");
    for (name, amount) in entries(resources, "limits") {
        check_container_resource(causes, limits.key(name), name);
        check_amount(causes, limits.key(name), name, amount);
    }
    check_requests(causes, path, resources);
    let names: Vec<&str> = ["limits", "requests"]
        .iter()
        .flat_map(|part| entries(resources, part))
        .map(|(name, _)| name.as_str())
        .collect();
    if names.iter().any(|name| name.starts_with("hugepages-"))
        && !names.iter().any(|name| matches!(*name, "cpu" | "memory"))
    {
        causes.forbidden(path, "HugePages require cpu or memory");
    }
}

fn check_requests(causes: &mut Causes, path: Path<'_>, resources: &Value) {
    let requests = path.child("requests");
    for (name, amount) in entries(resources, "requests") {
        check_container_resource(causes, requests.key(name), name);
        check_amount(causes, requests.key(name), name, amount);
        let shown = amount.as_str().unwrap_or_default();
        let overcommit = is_native(name) && !name.starts_with("hugepages-");
        let limit = at(resources, &["limits", name]).as_str();
        match (quantity::parse(shown), limit.and_then(quantity::parse)) {
            (Some(asked), Some(most)) if !overcommit && !asked.equals(most) => {
                causes.invalid(requests, shown, &format!("must be equal to {name} limit of {most}"));
            }
            (Some(asked), Some(most)) if asked.nano > most.nano => {
                causes.invalid(requests, shown, &format!("must be less than or equal to {name} limit of {most}"));
            }
            (Some(_), None) if !overcommit => {
                causes.required(path.child("limits"), "Limit must be set for non overcommitable resources");
            }
            (Some(_) | None, Some(_) | None) => {}
        }
    }
}

fn check_pod_level_resources(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    let whole = at(spec, &["resources"]);
    if !whole.is_object() {
        return;
    }
    check_requests(causes, path, whole);
}

/// `cpu`, or anything in the project's own namespace.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

const STANDARD_RESOURCES: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// The name of a resource of any kind. False if it is wrong already by its form.
fn check_resource_name(causes: &mut Causes, path: Path<'_>, name: &str) {
    let reasons = names::qualified(name);
    if !reasons.is_empty() {
        causes.each_invalid(path, name, reasons);
    } else if !name.contains('/') && !STANDARD_RESOURCES.contains(&name) && !is_huge_page(name) {
        causes.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn check_container_resource(causes: &mut Causes, path: Path<'_>, name: &str) {
    check_resource_name(causes, path, name);
    if name.contains('/') {
        let extended = !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty();
        if !is_native(name) && !extended {
            causes.invalid(path, name, "doesn't follow extended resource name standard");
        }
    } else if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        causes.invalid(path, name, "must be a standard resource for containers");
    }
}

/// The name of a resource that a quota counts.
pub(super) fn check_quota_resource(causes: &mut Causes, path: Path<'_>, name: &str) {
    check_resource_name(causes, path, name);
    if !name.contains('/') && !is_quota_resource(name) {
        causes.invalid(path, name, "must be a standard resource for quota");
    }
}

/// Whether every quota knows the resource.
pub(super) fn is_quota_resource(name: &str) -> bool {
    (STANDARD_RESOURCES.contains(&name) && name != "storage") || is_huge_page(name)
}

/// An amount of a resource.
pub(super) fn check_amount(causes: &mut Causes, path: Path<'_>, name: &str, amount: &Value) {
    let shown = amount.as_str().unwrap_or_default();
    let Some(parsed) = quantity::parse(shown) else { return };
    if parsed.nano < 0 {
        causes.invalid(path, shown, "must be greater than or equal to 0");
    }
    let counted = matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    let extended = !is_native(name) && !name.starts_with("requests.");
    if (counted || extended) && !parsed.is_whole() {
        causes.invalid(path, shown, "must be an integer");
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
