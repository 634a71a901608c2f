//! Cells of volumes, claims and their classes.

use serde_json::{Value, json};

use super::object::Object;

/// Access modes in short, in an order of their own.
pub(super) fn access_modes(modes: &[&str]) -> String {
    let known =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found = known.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short);
    found.collect::<Vec<_>>().join(",")
}

/// The class of a volume or claim: an annotation of old goes first.
pub(super) fn storage_class_name<'a>(this: &Object<'a>) -> &'a str {
    let annotation = this.at("/metadata/annotations/volume.beta.kubernetes.io~1storage-class").as_str();
    annotation.unwrap_or_else(|| this.text("/spec/storageClassName"))
}

/// The phase of a volume or claim.
pub(super) fn volume_phase<'a>(this: &Object<'a>) -> &'a str {
    if this.is_terminating() { "Terminating" } else { this.text("/status/phase") }
}

/// A text that may be absent, which is not the same as empty.
pub(super) fn or_unset<'a>(this: &Object<'a>, path: &str) -> &'a str {
    this.at(path).as_str().unwrap_or("<unset>")
}

pub(super) fn persistent_volume(this: &Object<'_>) -> Vec<Value> {
    let claim = if this.at("/spec/claimRef").is_object() {
        format!("{}/{}", this.text("/spec/claimRef/namespace"), this.text("/spec/claimRef/name"))
    } else {
        String::new()
    };
    vec![
        this.name(),
        json!(this.shown("/spec/capacity/storage").unwrap_or_else(|| "0".to_owned())),
        json!(access_modes(&this.texts("/spec/accessModes"))),
        this.cell("/spec/persistentVolumeReclaimPolicy"),
        json!(volume_phase(this)),
        json!(claim),
        json!(storage_class_name(this)),
        json!(or_unset(this, "/spec/volumeAttributesClassName")),
        this.cell("/status/reason"),
        this.age(),
        json!(or_unset(this, "/spec/volumeMode")),
    ]
}

pub(super) fn persistent_volume_claim(this: &Object<'_>) -> Vec<Value> {
    let is_bound = !this.text("/spec/volumeName").is_empty();
    let (capacity, modes) = if is_bound {
        let capacity = this.shown("/status/capacity/storage").unwrap_or_else(|| "0".to_owned());
        (capacity, access_modes(&this.texts("/status/accessModes")))
    } else {
        (String::new(), String::new())
    };
    vec![
        this.name(),
        json!(volume_phase(this)),
        this.cell("/spec/volumeName"),
        json!(capacity),
        json!(modes),
        json!(storage_class_name(this)),
        json!(or_unset(this, "/spec/volumeAttributesClassName")),
        this.age(),
        json!(or_unset(this, "/spec/volumeMode")),
    ]
}

pub(super) fn storage_class(this: &Object<'_>) -> Vec<Value> {
    vec![
        this.name(),
        this.cell("/provisioner"),
        json!(this.at("/reclaimPolicy").as_str().unwrap_or("Delete")),
        json!(this.at("/volumeBindingMode").as_str().unwrap_or("Immediate")),
        json!(this.is("/allowVolumeExpansion")),
        this.age(),
    ]
}

pub(super) fn csi_driver(this: &Object<'_>) -> Vec<Value> {
    let modes = this.texts("/spec/volumeLifecycleModes").join(",");
    let audiences = |requests: &Vec<Value>| {
        let audiences = requests.iter().map(|request| request["audience"].as_str().unwrap_or_default());
        audiences.collect::<Vec<_>>().join(",")
    };
    let tokens = this.at("/spec/tokenRequests").as_array().map_or_else(|| "<unset>".to_owned(), audiences);
    vec![
        this.name(),
        json!(this.at("/spec/attachRequired").as_bool().unwrap_or(true)),
        json!(this.is("/spec/podInfoOnMount")),
        json!(this.is("/spec/storageCapacity")),
        json!(tokens),
        json!(this.is("/spec/requiresRepublish")),
        json!(if modes.is_empty() { "<none>" } else { &modes }),
        this.age(),
    ]
}

/// The class that a list marks as the default: of those that say so, the youngest, and of these the first by name.
pub(in crate::table) fn default_storage_class<'a>(classes: &[&'a Value]) -> Option<&'a str> {
    let annotated = |class: &&&Value| {
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|name| class["metadata"]["annotations"][*name] == "true")
    };
    let key = |class: &&'a Value| {
        let text = |field: &str| class["metadata"][field].as_str().unwrap_or_default();
        (text("creationTimestamp"), std::cmp::Reverse(text("name")))
    };
    let default = classes.iter().filter(annotated).copied().max_by_key(key)?;
    default["metadata"]["name"].as_str()
}
