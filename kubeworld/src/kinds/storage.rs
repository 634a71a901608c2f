//! Persistent volumes, claims on them, and storage classes.

use serde_json::{Value, json};

use super::{
    causes::{Causes, Path},
    fields::{at, count, entries, has, list, option, text},
    meta, names,
    pods::{self},
    quantity, selectors,
};

const SPEC: Path<'static> = Path::root("spec");
const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn check_access_modes(causes: &mut Causes, path: Path<'_>, spec: &Value, why: &str) {
    let path = path.child("accessModes");
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        causes.required(path, why);
    }
    let mut other = false;
    for mode in modes.iter().filter_map(Value::as_str) {
        if !ACCESS_MODES.contains(&mode) {
            causes.not_supported(path, mode, &ACCESS_MODES);
        } else if mode != "ReadWriteOncePod" {
            other = true;
        }
    }
    if other && modes.contains(&json!("ReadWriteOncePod")) {
        causes.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// What a claim asks for, in a claim or in a template of one.
pub(super) fn check_claim_spec(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    check_access_modes(causes, path, spec, "at least 1 access mode is required");
    selectors::check(causes, path.child("selector"), at(spec, &["selector"]));
    let resources = path.child("resources");
    let storage = resources.key("storage");
    match at(spec, &["resources", "requests", "storage"]).as_str() {
        None => causes.required(storage, ""),
        Some(shown) => {
            if quantity::parse(shown).is_some_and(|amount| amount.nano <= 0) {
                causes.invalid(storage, shown, "must be greater than zero");
            }
        }
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        causes.each_invalid(path.child("storageClassName"), class, names::dns_subdomain(class));
    }
    check_volume_mode(causes, path, spec);
}

fn check_volume_mode(causes: &mut Causes, path: Path<'_>, spec: &Value) {
    if let Some(mode) = option(spec, "volumeMode").and_then(Value::as_str)
        && !matches!(mode, "Block" | "Filesystem")
    {
        causes.not_supported(path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
}

/// A claim.
pub(super) fn check_claim(causes: &mut Causes, claim: &Value) {
    check_claim_spec(causes, SPEC, at(claim, &["spec"]));
}

/// A claim's update: only a bound claim's size may change, upwards.
pub(super) fn check_claim_update(causes: &mut Causes, new: &Value, old: &Value) {
    meta::check_create(causes, names::dns_subdomain, true, new);
    check_claim(causes, new);
    let (new_spec, old_spec) = (at(new, &["spec"]), at(old, &["spec"]));
    let mut munged = new_spec.clone();
    let bound = text(at(new, &["status"]), "phase") == "Bound";
    if let Some(fields) = munged.as_object_mut() {
        let mut kept = Vec::new();
        if !has(old_spec, "volumeName") {
            fields.remove("volumeName");
        }
        if bound {
            kept.extend(["resources", "volumeAttributesClassName"]);
        }
        for key in kept {
            match old_spec.get(key) {
                Some(value) => fields.insert(key.to_owned(), value.clone()),
                None => fields.remove(key),
            };
        }
    }
    if munged != *old_spec {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
        causes.forbidden(
            SPEC,
            &format!("{why}{}", pods::difference("core.v1.PersistentVolumeClaimSpec", old_spec, &munged)),
        );
    }
    let size = |claim: &Value, path: &[&str]| at(claim, path).as_str().and_then(quantity::parse);
    let requests = ["spec", "resources", "requests", "storage"];
    let capacity = size(old, &["status", "capacity", "storage"]).map_or(0, |size| size.nano);
    if let (Some(now), Some(before)) = (size(new, &requests), size(old, &requests))
        && now.nano < before.nano
        && now.nano <= capacity
    {
        let path = SPEC.child("resources.requests.storage");
        causes.forbidden(path, "field can not be less than status.capacity");
    }
    causes.immutable(Path::root("volumeMode"), at(new_spec, &["volumeMode"]), at(old_spec, &["volumeMode"]));
}

/// The sources that a volume can have, of which a world knows the insides of the first three.
const SOURCES: [&str; 22] = [
    "hostPath",
    "nfs",
    "local",
    "csi",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "storageos",
];

/// A volume.
pub(super) fn check_volume(causes: &mut Causes, volume: &Value) {
    let spec = at(volume, &["spec"]);
    check_access_modes(causes, SPEC, spec, "");
    let capacity = SPEC.child("capacity");
    if count(spec, "capacity") == 0 {
        causes.required(capacity, "");
    }
    if count(spec, "capacity") != 1 || !has(at(spec, &["capacity"]), "storage") {
        let shown = spec.get("capacity").cloned().unwrap_or(Value::Null);
        causes.not_supported(capacity, shown, &["storage"]);
    }
    for (name, amount) in entries(spec, "capacity") {
        let shown = amount.as_str().unwrap_or_default();
        if quantity::parse(shown).is_some_and(|amount| amount.nano <= 0) {
            causes.invalid(capacity.key(name), shown, "must be greater than zero");
        }
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !matches!(policy, "Delete" | "Recycle" | "Retain") {
        let path = SPEC.child("persistentVolumeReclaimPolicy");
        causes.not_supported(path, policy, &["Delete", "Recycle", "Retain"]);
    }
    if let Some(affinity) = option(spec, "nodeAffinity") {
        let path = SPEC.child("nodeAffinity.required");
        match option(affinity, "required") {
            Some(selector) => pods::check_node_selector(causes, path, selector),
            None => causes.required(path, "must specify required node constraints"),
        }
    }
    let sources: Vec<&str> = SOURCES.into_iter().filter(|kind| has(spec, kind)).collect();
    match sources.as_slice() {
        [] => causes.required(SPEC, "must specify a volume type"),
        [_, others @ ..] => {
            for kind in others {
                causes.forbidden(SPEC.child(kind), "may not specify more than 1 volume type");
            }
        }
    }
    if let Some(source) = option(spec, "hostPath") {
        pods::check_host_path(causes, SPEC.child("hostPath"), source);
    }
    if has(spec, "local") && !has(spec, "nodeAffinity") {
        causes.required(Path::root("metadata").child("annotations"), "Local volume requires node affinity");
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        causes.each_invalid(SPEC.child("storageClassName"), class, names::dns_subdomain(class));
    }
    check_volume_mode(causes, SPEC, spec);
}

/// A volume's update: where its bytes are may not change.
pub(super) fn check_volume_update(causes: &mut Causes, new: &Value, old: &Value) {
    meta::check_create(causes, names::dns_subdomain, false, new);
    check_volume(causes, new);
    let (new, old) = (at(new, &["spec"]), at(old, &["spec"]));
    if SOURCES.iter().any(|kind| new.get(kind) != old.get(kind)) {
        let only = |spec: &Value| -> Value {
            SOURCES.iter().filter_map(|kind| Some(((*kind).to_owned(), spec.get(kind)?.clone()))).collect()
        };
        let why = "spec.persistentvolumesource is immutable after creation\n";
        let difference = pods::difference("core.v1.PersistentVolumeSource", &only(old), &only(new));
        causes.forbidden(SPEC.child("persistentvolumesource"), &format!("{why}{difference}"));
    }
    causes.immutable(Path::root("volumeMode"), at(new, &["volumeMode"]), at(old, &["volumeMode"]));
}

/// A storage class.
pub(super) fn check_class_fields(causes: &mut Causes, class: &Value) {
    let provisioner = text(class, "provisioner").to_lowercase();
    if provisioner.is_empty() {
        causes.required_late(Path::root("provisioner"));
    } else {
        causes.each_invalid(Path::root("provisioner"), &provisioner, names::qualified(&provisioner));
    }
    let policy = text(class, "reclaimPolicy");
    if !policy.is_empty() && !matches!(policy, "Delete" | "Retain") {
        causes.not_supported(Path::root("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let mode = text(class, "volumeBindingMode");
    if !matches!(mode, "Immediate" | "WaitForFirstConsumer") {
        causes.not_supported(Path::root("volumeBindingMode"), mode, &["Immediate", "WaitForFirstConsumer"]);
    }
}

/// A storage class's update: almost nothing may change.
pub(super) fn check_class_update(causes: &mut Causes, new: &Value, old: &Value) {
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if new.get(key) != old.get(key) {
            causes.invalid(Path::root(key), Value::Null, "field is immutable");
        }
    }
}
