//! The rules for metadata, of built-in kinds and custom ones.
//!
//! What a name may look like depends on the kind: [`name_rule`]. The handler generates names before it asks here.

use serde_json::{Value, json};

use super::{
    Kind,
    causes::{Causes, Path},
    fields::{at, has, integer, list, text, truth},
    names, selectors,
};
use crate::status::Cause;

const META: Path<'static> = Path::root("metadata");

/// 256 KiB for all annotations of an object together.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Checks a name.
pub(crate) type NameRule = fn(&str) -> Vec<String>;

/// What the names of a kind may look like.
pub(crate) fn name_rule(kind: Kind<'_>) -> NameRule {
    match (kind.group, kind.kind) {
        ("", "Namespace" | "Service") | ("apps", "StatefulSet") => names::dns_label,
        ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io", "APIService") => names::path_segment,
        _ => names::dns_subdomain,
    }
}

/// What is wrong with the metadata of a new object of any kind.
pub(crate) fn validate_meta_create(kind: Kind<'_>, namespaced: bool, object: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    check_create(&mut causes, name_rule(kind), namespaced, object);
    causes.into_causes()
}

/// What is wrong with the metadata of an object within another one. It may be without a name.
pub(crate) fn validate_embedded(metadata: &Value) -> Vec<Cause> {
    let mut metadata = metadata.clone();
    if text(&metadata, "name").is_empty()
        && let Some(fields) = metadata.as_object_mut()
    {
        fields.insert("name".to_owned(), json!("fakename"));
    }
    let namespaced = !text(&metadata, "namespace").is_empty();
    let mut causes = Causes::default();
    check_create(&mut causes, names::path_segment, namespaced, &json!({"metadata": metadata}));
    causes.into_causes()
}

/// What is wrong with the metadata after an update.
pub(crate) fn validate_meta_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    check_update(&mut causes, new, old);
    causes.into_causes()
}

pub(super) fn check_create(causes: &mut Causes, rule: NameRule, namespaced: bool, object: &Value) {
    let meta = at(object, &["metadata"]);
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        causes.each_invalid(META.child("generateName"), prefix, rule(&masked(prefix)));
    }
    let name = text(meta, "name");
    if name.is_empty() {
        causes.required(META.child("name"), "name or generateName is required");
    } else {
        causes.each_invalid(META.child("name"), name, rule(name));
    }
    let namespace = text(meta, "namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => causes.required(META.child("namespace"), ""),
        (true, false) => causes.each_invalid(META.child("namespace"), namespace, names::dns_label(namespace)),
        (false, true) => {}
        (false, false) => causes.forbidden(META.child("namespace"), "not allowed on this type"),
    }
    causes.not_negative(META.child("generation"), integer(meta, "generation"));
    check_common(causes, meta);
    check_finalizers(causes, meta);
    check_managed_fields(causes, meta);
}

/// A prefix may end with a dash, since something follows.
fn masked(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut text: String = rest.to_owned();
            text.pop();
            text + "a"
        }
        Some(_) | None => prefix.to_owned(),
    }
}

pub(super) fn check_update(causes: &mut Causes, new: &Value, old: &Value) {
    let (new, old) = (at(new, &["metadata"]), at(old, &["metadata"]));
    if has(old, "deletionTimestamp") {
        let before = list(old, "finalizers");
        let mut extra: Vec<&str> =
            list(new, "finalizers").iter().filter(|one| !before.contains(one)).filter_map(Value::as_str).collect();
        extra.sort_unstable();
        extra.dedup();
        if !extra.is_empty() {
            let shown = extra.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{shown}}}"
            );
            causes.forbidden(META.child("finalizers"), &why);
        }
    }
    if text(new, "resourceVersion").is_empty() {
        causes.invalid(META.child("resourceVersion"), "", "must be specified for an update");
    }
    let generation = integer(new, "generation");
    causes.not_negative(META.child("generation"), generation);
    let generation = generation.unwrap_or_default();
    if generation < integer(old, "generation").unwrap_or_default() {
        causes.invalid(META.child("generation"), generation, "must not be decremented");
    }
    for key in ["name", "namespace", "uid"] {
        if text(new, key) != text(old, key) {
            causes.invalid(META.child(key), text(new, key), "field is immutable");
        }
    }
    for key in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        causes.immutable(META.child(key), at(new, &[key]), at(old, &[key]));
    }
    check_common(causes, new);
    check_managed_fields(causes, new);
}

/// What a create and an update have in common.
fn check_common(causes: &mut Causes, meta: &Value) {
    selectors::check_labels(causes, META.child("labels"), at(meta, &["labels"]));
    // The newer of the real server's two checks counts bytes, and labels have it.
    causes.say_bytes("metadata.labels");
    check_annotations(causes, META.child("annotations"), at(meta, &["annotations"]));
    check_owners(causes, meta);
}

/// Annotations, of an object or of a template.
pub(super) fn check_annotations(causes: &mut Causes, path: Path<'_>, annotations: &Value) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        causes.each_invalid(path, key, names::qualified(&key.to_lowercase()));
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        causes.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn check_owners(causes: &mut Causes, meta: &Value) {
    let path = META.child("ownerReferences");
    let owners = list(meta, "ownerReferences");
    let mut controller: Option<String> = None;
    for (index, owner) in owners.iter().enumerate() {
        let path = path.index(index);
        let version = text(owner, "apiVersion");
        if version.is_empty() {
            causes.required(path.child("apiVersion"), "must not be empty");
        } else if version.matches('/').count() > 1 || version.ends_with('/') {
            causes.invalid(path.child("apiVersion"), version, "must be <group>/<version> or <version>");
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                causes.required(path.child(key), "must not be empty");
            }
        }
        if version == "v1" && text(owner, "kind") == "Event" {
            causes.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if truth(owner, "controller") {
            let name = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            match &controller {
                Some(first) => {
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    );
                    let shown = owners.iter().map(shown_owner).collect::<Vec<_>>().join(",");
                    causes.invalid_shown(META.child("ownerReferences"), &format!("[{shown}]"), &why);
                }
                None => controller = Some(name),
            }
        }
    }
}

/// An owner with its fields in Go's order.
fn shown_owner(owner: &Value) -> String {
    let mut shown: Vec<String> = ["apiVersion", "kind", "name", "uid"]
        .iter()
        .map(|key| format!("{}:{}", json!(key), json!(text(owner, key))))
        .collect();
    for key in ["controller", "blockOwnerDeletion"] {
        if has(owner, key) {
            shown.push(format!("{}:{}", json!(key), at(owner, &[key])));
        }
    }
    format!("{{{}}}", shown.join(","))
}

/// What most built-in kinds ask of finalizers beyond their form.
pub(super) fn check_known_finalizers(causes: &mut Causes, object: &Value) {
    let path = META.child("finalizers");
    for (index, one) in list(at(object, &["metadata"]), "finalizers").iter().enumerate() {
        let one = one.as_str().unwrap_or_default();
        if !one.contains('/') && !matches!(one, "kubernetes" | "orphan" | "foregroundDeletion") {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.invalid(path.index(index), one, why);
        }
    }
}

/// What is wrong with a name that may have a domain in front.
pub(crate) fn qualified_name(name: &str) -> Vec<String> {
    names::qualified(name)
}

fn check_finalizers(causes: &mut Causes, meta: &Value) {
    let finalizers = list(meta, "finalizers");
    for one in finalizers.iter().filter_map(Value::as_str) {
        causes.each_invalid(META.child("finalizers"), one, names::qualified(one));
    }
    if finalizers.contains(&json!("orphan")) && finalizers.contains(&json!("foregroundDeletion")) {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.invalid(META.child("finalizers"), json!(finalizers), why);
    }
}

fn check_managed_fields(causes: &mut Causes, meta: &Value) {
    let path = META.child("managedFields");
    for (index, entry) in list(meta, "managedFields").iter().enumerate() {
        let path = path.index(index);
        match text(entry, "operation") {
            "" => causes.required(path.child("operation"), "must not be empty"),
            "Apply" | "Update" => {}
            other => causes.not_supported(path.child("operation"), other, &["Apply", "Update"]),
        }
        let fields_type = text(entry, "fieldsType");
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            causes.invalid(path.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        check_manager(causes, path.child("manager"), text(entry, "manager"));
        if text(entry, "subresource").len() > 256 {
            causes.too_long(path.child("subresource"), 256);
        }
    }
}

/// The name of a field manager.
pub(crate) fn check_manager(causes: &mut Causes, path: Path<'_>, manager: &str) {
    if manager.len() > 128 {
        causes.too_long(path, 128);
    }
    for (index, bad) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {index})", u32::from(bad));
        causes.invalid(path, manager, &why);
    }
}

/// The metadata of a template of another object, which holds labels and annotations only.
#[allow(dead_code, reason = "volume claim templates of pods will use it")]
pub(super) fn check_template(causes: &mut Causes, path: Path<'_>, meta: &Value) {
    check_annotations(causes, path.child("annotations"), at(meta, &["annotations"]));
    selectors::check_labels(causes, path.child("labels"), at(meta, &["labels"]));
    let other = meta.as_object().into_iter().flatten().filter(|(key, _)| *key != "labels" && *key != "annotations");
    for (key, _) in other {
        causes.forbidden(path.child(key), "cannot be set");
    }
}
