//! A pod's volumes, and how containers mount them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{
        causes::{Causes, Path},
        fields::{at, has, integer, list, option, text, truth},
        names, quantity, storage,
    },
    environment::check_resource_field,
};

/// The kinds of volume, in the order in which the real server looks at them.
const SOURCES: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
    "",
];

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks the volumes, and gives those that containers can mount.
pub(super) fn check<'a>(
    causes: &mut Causes,
    path: Path<'_>,
    volumes: &'a [Value],
    pod_name: &str,
) -> Vec<(&'a str, &'a Value)> {
    let mut good: Vec<(&str, &Value)> = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let before = causes.0.len();
        check_source(causes, path, volume, pod_name);
        let name = text(volume, "name");
        if name.is_empty() {
            causes.required(path.child("name"), "");
        } else {
            causes.each_invalid(path.child("name"), name, names::dns_label(name));
        }
        if good.iter().any(|(known, _)| *known == name) {
            causes.duplicate(path.child("name"), name);
        }
        if causes.0.len() == before {
            good.push((name, volume));
        }
    }
    good
}

fn check_source(causes: &mut Causes, path: Path<'_>, volume: &Value, pod_name: &str) {
    let mut found = false;
    for kind in SOURCES {
        let Some(source) = option(volume, kind) else { continue };
        if found {
            causes.forbidden(path.child(kind), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        check_one(causes, path.child(kind), kind, source);
        let name = text(volume, "name");
        if kind == "ephemeral" && !pod_name.is_empty() && !name.is_empty() {
            let claim = format!("{pod_name}-{name}");
            for why in names::dns_subdomain(&claim) {
                causes.invalid(path.child("name"), name, &format!("PVC name {claim:?}: {why}"));
            }
        }
    }
    if !found {
        causes.required(path, "must specify a volume type");
    }
}

fn check_one(causes: &mut Causes, path: Path<'_>, kind: &str, source: &Value) {
    match kind {
        "emptyDir" if quantity::parse(text(source, "sizeLimit")).is_some_and(|size| size.nano < 0) => {
            causes.forbidden(path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
        "hostPath" => check_host_path(causes, path, source),
        "secret" => {
            require(causes, path, source, "secretName");
            check_items(causes, path, source);
        }
        "configMap" => {
            require(causes, path, source, "name");
            check_items(causes, path, source);
        }
        "nfs" => {
            require(causes, path, source, "server");
            require(causes, path, source, "path");
            if !text(source, "path").starts_with('/') {
                causes.invalid(path.child("path"), text(source, "path"), "must be an absolute path");
            }
        }
        "persistentVolumeClaim" => require(causes, path, source, "claimName"),
        "downwardAPI" => {
            check_mode(causes, path.child("defaultMode"), source, "defaultMode");
            for file in list(source, "items") {
                check_downward_file(causes, path, file);
            }
        }
        "projected" => check_projected(causes, path, source),
        "csi" => require(causes, path, source, "driver"),
        "ephemeral" => match option(source, "volumeClaimTemplate") {
            None => causes.required(path.child("volumeClaimTemplate"), ""),
            Some(template) => {
                let path = path.child("volumeClaimTemplate.spec");
                storage::check_claim_spec(causes, path, at(template, &["spec"]));
            }
        },
        "image" => {
            require(causes, path, source, "reference");
            let policy = text(source, "pullPolicy");
            causes.one_of(path.child("pullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
        }
        _ => {}
    }
}

fn require(causes: &mut Causes, path: Path<'_>, source: &Value, key: &str) {
    if text(source, key).is_empty() {
        causes.required(path.child(key), "");
    }
}

/// A path on the node.
pub(in super::super) fn check_host_path(causes: &mut Causes, path: Path<'_>, source: &Value) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let target = text(source, "path");
    if target.is_empty() {
        causes.required(path.child("path"), "");
        return;
    }
    check_backsteps(causes, path.child("path"), target);
    let kind = text(source, "type");
    if !TYPES.contains(&kind) {
        causes.not_supported(path.child("type"), kind, &TYPES);
    }
}

fn check_mode(causes: &mut Causes, path: Path<'_>, source: &Value, key: &str) {
    if let Some(mode) = integer(source, key)
        && !(0..=0o777).contains(&mode)
    {
        causes.invalid(path, mode, FILE_MODE);
    }
}

fn check_items(causes: &mut Causes, path: Path<'_>, source: &Value) {
    check_mode(causes, path.child("defaultMode"), source, "defaultMode");
    let path = path.child("items");
    for (index, item) in list(source, "items").iter().enumerate() {
        check_item(causes, path.index(index), item);
    }
}

fn check_item(causes: &mut Causes, path: Path<'_>, item: &Value) {
    require(causes, path, item, "key");
    require(causes, path, item, "path");
    check_not_reserved(causes, path.child("path"), text(item, "path"));
    check_mode(causes, path.child("mode"), item, "mode");
}

fn check_backsteps(causes: &mut Causes, path: Path<'_>, target: &str) {
    if target.split('/').any(|part| part == "..") {
        causes.invalid(path, target, "must not contain '..'");
    }
}

/// A path below something.
pub(super) fn check_descending(causes: &mut Causes, path: Path<'_>, target: &str) {
    if target.starts_with('/') {
        causes.invalid(path, target, "must be a relative path");
    }
    check_backsteps(causes, path, target);
}

fn check_not_reserved(causes: &mut Causes, path: Path<'_>, target: &str) {
    check_descending(causes, path, target);
    if target.starts_with("..") && !target.starts_with("../") {
        causes.invalid(path, target, "must not start with '..'");
    }
}

fn check_downward_file(causes: &mut Causes, path: Path<'_>, file: &Value) {
    const FIELDS: [&str; 5] =
        ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    require(causes, path, file, "path");
    check_not_reserved(causes, path.child("path"), text(file, "path"));
    match (option(file, "fieldRef"), option(file, "resourceFieldRef")) {
        (Some(field), other) => {
            check_field(causes, path.child("fieldRef"), field, &FIELDS);
            if other.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                causes.invalid(path, "resource", why);
            }
        }
        (None, Some(field)) => check_resource_field(causes, path.child("resourceFieldRef"), field, true),
        (None, None) => causes.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    check_mode(causes, path.child("mode"), file, "mode");
}

/// A field of the pod that a variable or a file shows.
pub(super) fn check_field(causes: &mut Causes, path: Path<'_>, field: &Value, supported: &[&str]) {
    const KNOWN: [&str; 14] = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let version = text(field, "apiVersion");
    let target = text(field, "fieldPath");
    if version.is_empty() {
        causes.required(path.child("apiVersion"), "");
        return;
    }
    if target.is_empty() {
        causes.required(path.child("fieldPath"), "");
        return;
    }
    let path_error = |causes: &mut Causes, why: String| {
        causes.invalid(path.child("fieldPath"), target, &format!("error converting fieldPath: {why}"));
    };
    if version != "v1" {
        path_error(causes, format!("unsupported pod version: {version}"));
        return;
    }
    let subscript = target.split_once("['").and_then(|(base, rest)| Some((base, rest.strip_suffix("']")?)));
    match subscript {
        Some(("metadata.annotations", key)) => {
            causes.each_invalid(path, &key.to_lowercase(), names::qualified(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => causes.each_invalid(path, key, names::qualified(key)),
        Some((base, _)) => path_error(causes, format!("field label does not support subscript: {base}")),
        None if !KNOWN.contains(&target) && target != "spec.host" => {
            path_error(causes, format!("field label not supported: {target}"));
        }
        None if !supported.contains(&target) => {
            causes.not_supported(path.child("fieldPath"), target, supported);
        }
        None => {}
    }
}

fn check_projected(causes: &mut Causes, path: Path<'_>, projected: &Value) {
    check_mode(causes, path.child("defaultMode"), projected, "defaultMode");
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let sources = path.child("sources");
    for (index, source) in list(projected, "sources").iter().enumerate() {
        let at_index = sources.index(index);
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        for kind in kinds.into_iter().filter(|kind| has(source, kind)) {
            let part = at(source, &[kind]);
            let part_path = at_index.child(kind);
            match kind {
                "secret" | "configMap" => {
                    require(causes, part_path, part, "name");
                    let items = part_path.child("items");
                    for (index, item) in list(part, "items").iter().enumerate() {
                        check_item(causes, items.index(index), item);
                        let target = text(item, "path");
                        if !target.is_empty() && !taken.insert(target) {
                            causes.invalid(path, text(part, "name"), "conflicting duplicate paths");
                        }
                    }
                }
                "downwardAPI" => {
                    for file in list(part, "items") {
                        check_downward_file(causes, part_path, file);
                        let target = text(file, "path");
                        if !target.is_empty() && !taken.insert(target) {
                            causes.invalid(path, target, "conflicting duplicate paths");
                        }
                    }
                }
                "serviceAccountToken" => check_token(causes, path, part_path, part),
                _ => {}
            }
        }
        if kinds.iter().filter(|kind| has(source, kind)).count() > 1 {
            causes.forbidden(at_index, "may not specify more than 1 volume type per source");
        }
    }
}

fn check_token(causes: &mut Causes, whole: Path<'_>, path: Path<'_>, token: &Value) {
    let expires = path.child("expirationSeconds");
    match integer(token, "expirationSeconds") {
        None => causes.required(expires, ""),
        Some(seconds) if seconds < 600 => {
            causes.invalid(expires, seconds, "may not specify a duration less than 10 minutes");
        }
        Some(seconds) if seconds > 1 << 32 => {
            causes.invalid(expires, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        Some(_) => {}
    }
    match text(token, "path") {
        "" => causes.required(whole.child("path"), ""),
        target => check_not_reserved(causes, whole.child("path"), target),
    }
}

/// Where a container mounts volumes.
pub(super) fn check_mounts(causes: &mut Causes, path: Path<'_>, container: &Value, volumes: &[(&str, &Value)]) {
    let devices = list(container, "volumeDevices");
    let mut seen = BTreeSet::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at_index = path.index(index);
        let name = text(mount, "name");
        let target = text(mount, "mountPath");
        if name.is_empty() {
            causes.required(at_index.child("name"), "");
        }
        if !volumes.iter().any(|(known, _)| *known == name) {
            causes.not_found(at_index.child("name"), name);
        }
        if target.is_empty() {
            causes.required(at_index.child("mountPath"), "");
        }
        if !seen.insert(target) {
            causes.invalid(at_index.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            causes.invalid(at_index.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(device, "devicePath") == target) {
            causes.invalid(at_index.child("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        check_sub_path(causes, path, at_index, mount);
        check_propagation(causes, path.child("mountPropagation"), mount, container);
    }
}

fn check_sub_path(causes: &mut Causes, path: Path<'_>, at_index: Path<'_>, mount: &Value) {
    let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    if !sub.is_empty() {
        check_descending(causes, path.child("subPath"), sub);
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            causes.invalid(at_index.child("subPathExpr"), expression, why);
        }
        check_descending(causes, path.child("subPathExpr"), expression);
    }
}

fn check_propagation(causes: &mut Causes, path: Path<'_>, mount: &Value, container: &Value) {
    const MODES: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    let Some(mode) = option(mount, "mountPropagation").and_then(Value::as_str) else { return };
    if !MODES.contains(&mode) {
        causes.not_supported(path, mode, &MODES);
    }
    if mode == "Bidirectional" && !truth(at(container, &["securityContext"]), "privileged") {
        causes.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

/// Raw block devices that a container uses.
pub(super) fn check_devices(causes: &mut Causes, path: Path<'_>, container: &Value, volumes: &[(&str, &Value)]) {
    let mut seen = BTreeSet::new();
    for (index, device) in list(container, "volumeDevices").iter().enumerate() {
        let path = path.index(index);
        let name = text(device, "name");
        if name.is_empty() {
            causes.required(path.child("name"), "");
        }
        if !name.is_empty() && !seen.insert(name) {
            causes.invalid(path.child("name"), name, "must be unique");
        }
        match volumes.iter().find(|(known, _)| *known == name) {
            Some((_, volume)) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                causes.invalid(path.child("name"), name, why);
            }
            Some(_) => {}
            None => causes.not_found(path.child("name"), name),
        }
        if text(device, "devicePath").is_empty() {
            causes.required(path.child("devicePath"), "");
        }
    }
}
