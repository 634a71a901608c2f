//! Volumes and claims: a claim gets a volume that is there, or one made for it if its storage class is known.

use serde_json::{Value, json};

use super::replica_sets::write_status;
use super::server::{CLAIM, CLASS, Program, VOLUME};
use super::templates::is_deleting;
use super::{Controller, Work, cache};
use crate::kinds::fields::{at, has, list, text};
use crate::kinds::{quantity, selectors};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Makes the storage class that the settings name.
pub(super) fn begin(work: &mut Work) {
    let Some(name) = work.settings.storage_class.clone() else { return };
    let class = json!({"metadata": {"name": name, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": "kubeworld.isochrone.dev/memory"});
    // It may be there from before.
    let _there = work.create(Program::ControllerManager, CLASS, &class);
}

fn set_finalizers(work: &mut Work, table: &str, object: &Value, drop: &str) {
    let meta = at(object, &["metadata"]);
    let (namespace, name) = (text(meta, "namespace"), text(meta, "name"));
    let Some(known) = work.cache.known(table, namespace, name) else { return };
    let rest: Vec<&String> = known.finalizers.iter().filter(|it| *it != drop).collect();
    if rest.len() < known.finalizers.len() {
        let patch = json!({"metadata": {"uid": known.uid, "finalizers": rest}});
        let _refused = work.merge(Program::ControllerManager, &known.resource, namespace, name, &patch);
    }
}

/// A claim.
pub(super) fn sync_claim(work: &mut Work, namespace: &str, name: &str) {
    let Some(claim) = work.cache.get(cache::CLAIMS, namespace, name) else { return };
    if is_deleting(&claim) {
        let used = work.cache.list(cache::PODS, namespace).any(|pod| {
            let ended = matches!(text(at(pod, &["status"]), "phase"), "Succeeded" | "Failed");
            let volumes = list(at(pod, &["spec"]), "volumes");
            !ended && volumes.iter().any(|volume| text(at(volume, &["persistentVolumeClaim"]), "claimName") == name)
        });
        if !used {
            set_finalizers(work, cache::CLAIMS, &claim, CLAIM_FINALIZER);
        }
        return;
    }
    let volume = text(at(&claim, &["spec"]), "volumeName");
    if !volume.is_empty() {
        complete(work, &claim, volume);
        return;
    }
    let volume = match find(work, &claim) {
        Some(volume) => Some(volume),
        None => provision(work, &claim),
    };
    let Some(volume) = volume else { return };
    bind(work, &claim, &volume);
}

fn is_ours(volume: &Value, claim: &Value) -> bool {
    let (reference, meta) = (at(volume, &["spec", "claimRef"]), at(claim, &["metadata"]));
    let uid = text(reference, "uid");
    text(reference, "namespace") == text(meta, "namespace")
        && text(reference, "name") == text(meta, "name")
        && (uid.is_empty() || uid == text(meta, "uid"))
}

fn size(value: &Value, path: &[&str]) -> i128 {
    at(value, path).as_str().and_then(quantity::parse).map_or(0, |amount| amount.nano)
}

/// The smallest volume that fits.
fn find(work: &Work, claim: &Value) -> Option<Value> {
    let spec = at(claim, &["spec"]);
    let wanted = size(claim, &["spec", "resources", "requests", "storage"]);
    let fits = |volume: &&std::sync::Arc<Value>| {
        let own = at(volume, &["spec"]);
        let free =
            !has(own, "claimRef") && !is_deleting(volume) && text(at(volume, &["status"]), "phase") != "Released";
        let modes = list(own, "accessModes");
        (is_ours(volume, claim) || free)
            && text(own, "storageClassName") == text(spec, "storageClassName")
            && text(own, "volumeMode") == text(spec, "volumeMode")
            && size(volume, &["spec", "capacity", "storage"]) >= wanted
            && list(spec, "accessModes").iter().all(|mode| modes.contains(mode))
            && (!has(spec, "selector")
                || selectors::matches(at(spec, &["selector"]), at(volume, &["metadata", "labels"])))
    };
    let volumes = work.cache.list(cache::VOLUMES, "").filter(fits);
    let best = volumes.min_by_key(|volume| (!is_ours(volume, claim), size(volume, &["spec", "capacity", "storage"])));
    best.map(|volume| (**volume).clone())
}

fn claim_ref(claim: &Value) -> Value {
    let meta = at(claim, &["metadata"]);
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": text(meta, "namespace"),
        "name": text(meta, "name"), "uid": text(meta, "uid"), "resourceVersion": text(meta, "resourceVersion")})
}

fn provision(work: &mut Work, claim: &Value) -> Option<Value> {
    let spec = at(claim, &["spec"]);
    let class_name = text(spec, "storageClassName");
    let class = work.cache.get(cache::CLASSES, "", class_name)?;
    let uid = text(at(claim, &["metadata"]), "uid");
    let provisioner = text(&class, "provisioner");
    let volume = json!({
        "metadata": {"name": format!("pvc-{uid}"), "annotations": {"pv.kubernetes.io/provisioned-by": provisioner}},
        "spec": {
            "accessModes": at(spec, &["accessModes"]), "capacity": at(spec, &["resources", "requests"]),
            "claimRef": claim_ref(claim), "storageClassName": class_name, "volumeMode": at(spec, &["volumeMode"]),
            "persistentVolumeReclaimPolicy": text(&class, "reclaimPolicy"),
            "hostPath": {"path": format!("/var/lib/kubeworld/{uid}"), "type": ""},
        },
    });
    let made = work.create(Program::ControllerManager, VOLUME, &volume).ok()?;
    let message = format!("Successfully provisioned volume pvc-{uid}");
    work.tell(provisioner, CLAIM, claim, "Normal", "ProvisioningSucceeded", &message);
    Some(made)
}

fn bind(work: &mut Work, claim: &Value, volume: &Value) {
    let by = Program::ControllerManager;
    let name = text(at(volume, &["metadata"]), "name").to_owned();
    if text(at(volume, &["spec", "claimRef"]), "uid").is_empty() {
        let mut volume = volume.clone();
        volume["spec"]["claimRef"] = claim_ref(claim);
        volume["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"] = "yes".into();
        if work.update(by, VOLUME, "", &volume).is_err() {
            return;
        }
    }
    let mut new = claim.clone();
    new["spec"]["volumeName"] = name.into();
    for key in ["pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"] {
        new["metadata"]["annotations"][key] = "yes".into();
    }
    // Its change brings us back to complete it.
    let _refused = work.update(by, CLAIM, "", &new);
}

fn complete(work: &mut Work, claim: &Value, volume: &str) {
    let Some(volume) = work.cache.get(cache::VOLUMES, "", volume) else {
        if text(at(claim, &["status"]), "phase") == "Bound" {
            let mut status = at(claim, &["status"]).clone();
            status["phase"] = "Lost".into();
            write_status(work, CLAIM, claim, status);
        }
        return;
    };
    let mut status = at(claim, &["status"]).clone();
    status["phase"] = "Bound".into();
    status["accessModes"] = at(&volume, &["spec", "accessModes"]).clone();
    status["capacity"] = at(&volume, &["spec", "capacity"]).clone();
    write_status(work, CLAIM, claim, status);
}

/// A volume.
pub(super) fn sync_volume(work: &mut Work, name: &str) {
    let Some(volume) = work.cache.get(cache::VOLUMES, "", name) else { return };
    let spec = at(&volume, &["spec"]);
    let reference = at(spec, &["claimRef"]);
    let uid = text(reference, "uid");
    let claim = work.cache.get(cache::CLAIMS, text(reference, "namespace"), text(reference, "name"));
    let held = claim.is_some_and(|claim| text(at(&claim, &["metadata"]), "uid") == uid);
    let phase = match (uid.is_empty(), held) {
        (true, _) => "Available",
        (false, true) => "Bound",
        (false, false) => "Released",
    };
    if is_deleting(&volume) {
        if phase != "Bound" {
            set_finalizers(work, cache::VOLUMES, &volume, VOLUME_FINALIZER);
        }
        return;
    }
    if phase == "Released" && text(spec, "persistentVolumeReclaimPolicy") == "Delete" {
        let _gone = work.delete_at(Program::ControllerManager, VOLUME, &volume, &Value::Null);
        return;
    }
    let mut status = at(&volume, &["status"]).clone();
    if text(&status, "phase") != phase {
        status["phase"] = phase.into();
        write_status(work, VOLUME, &volume, status);
    }
    if phase == "Available" {
        // Claims that wait may fit.
        let waiting: Vec<(String, String)> = work
            .cache
            .list(cache::CLAIMS, "")
            .filter(|claim| text(at(claim, &["spec"]), "volumeName").is_empty())
            .map(|claim| {
                let meta = at(claim, &["metadata"]);
                (text(meta, "namespace").to_owned(), text(meta, "name").to_owned())
            })
            .collect();
        for (namespace, name) in waiting {
            work.enqueue(Controller::Claim, &namespace, &name);
        }
    }
}
