//! What a create and an update take out, keep, and count.
//!
//! Every kind with a status subresource loses the status it is created with and keeps its own on an update; an update of
//! `status` keeps the spec. Whether a kind counts generations, and what raises the number, differs from kind to kind:
//! [`generation`] says so.

use serde_json::{Value, json};

use super::{
    Kind,
    fields::{at, child, existing, fill, fill_text, has, list, text, truth},
    quantity,
};

/// When `metadata.generation` rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// There is none.
    Absent,
    /// It starts at 1 and stays: nothing but the metadata may change, or nobody counts.
    Fixed,
    /// With the spec.
    Spec,
    /// With the spec or the annotations.
    SpecOrAnnotations,
    /// With anything beside the metadata.
    Content,
    /// With anything beside the metadata, or the labels.
    ContentOrLabels,
}

fn generation(kind: Kind<'_>) -> Generation {
    match (kind.group, kind.kind) {
        ("apps", "Deployment") => Generation::SpecOrAnnotations,
        ("apps", "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job" | "CronJob")
        | ("", "Pod" | "ReplicationController")
        | ("networking.k8s.io", "Ingress" | "NetworkPolicy" | "IngressClass")
        | ("policy", "PodDisruptionBudget")
        | ("flowcontrol.apiserver.k8s.io", _)
        | ("resource.k8s.io", "ResourceSlice" | "DeviceClass")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding"
            | "MutatingAdmissionPolicy"
            | "MutatingAdmissionPolicyBinding",
        ) => Generation::Spec,
        ("admissionregistration.k8s.io", _) => Generation::Content,
        ("autoscaling", "HorizontalPodAutoscaler") => Generation::Spec,
        ("", "PodTemplate") => Generation::Content,
        ("discovery.k8s.io", "EndpointSlice") => Generation::ContentOrLabels,
        ("scheduling.k8s.io", "PriorityClass") => Generation::Fixed,
        _ => Generation::Absent,
    }
}

/// Whether the kind's status is not the user's to write on a create.
fn has_status(kind: Kind<'_>) -> bool {
    matches!(
        (kind.group, kind.kind),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            | ("batch", "Job" | "CronJob")
            | (
                "",
                "Pod"
                    | "ReplicationController"
                    | "Service"
                    | "Namespace"
                    | "PersistentVolume"
                    | "PersistentVolumeClaim"
                    | "ResourceQuota"
                    | "Node"
            )
            | ("networking.k8s.io", "Ingress" | "ServiceCIDR")
            | ("policy", "PodDisruptionBudget")
            | ("autoscaling", "HorizontalPodAutoscaler")
            | ("certificates.k8s.io", "CertificateSigningRequest")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("apiregistration.k8s.io", "APIService")
            | ("storage.k8s.io", "VolumeAttachment")
            | ("resource.k8s.io", "ResourceClaim")
            | ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")
    )
}

pub(super) fn prepare_create(kind: Kind<'_>, object: &mut Value) {
    let created = at(object, &["metadata", "creationTimestamp"]).clone();
    let Some(fields) = object.as_object_mut() else { return };
    if has_status(kind) && (kind.group, kind.kind) != ("", "Node") {
        fields.remove("status");
    }
    if generation(kind) != Generation::Absent
        && let Some(meta) = child(fields, "metadata")
    {
        meta.insert("generation".into(), 1.into());
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => prepare_pod(object),
        ("", "Namespace") => prepare_namespace(object),
        ("", "PersistentVolume") => {
            if let Some(status) = child(fields, "status") {
                status.insert("phase".into(), "Pending".into());
                status.insert("lastPhaseTransitionTime".into(), created);
            }
        }
        ("", "PersistentVolumeClaim") => same_data_sources(object),
        ("apps", "DaemonSet") => template_generation(object, 1),
        ("batch", "Job") => job_selector(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => stored_versions(object),
        _ => {}
    }
}

pub(super) fn prepare_update(kind: Kind<'_>, subresource: &str, new: &mut Value, old: &Value) {
    let Some(fields) = new.as_object_mut() else { return };
    if let Some(meta) = existing(fields, "metadata") {
        // A client can neither set nor raise it.
        let before = at(old, &["metadata", "generation"]);
        if before.is_null() {
            meta.remove("generation");
        } else {
            meta.insert("generation".into(), before.clone());
        }
    }
    match subresource {
        "status" => prepare_status(kind, new, old),
        "approval" => {
            let conditions = at(new, &["status", "conditions"]).clone();
            keep(new, old, "spec");
            keep(new, old, "status");
            if let Some(status) = new.as_object_mut().and_then(|new| child(new, "status")) {
                status.insert("conditions".into(), conditions);
            }
        }
        "finalize" => keep(new, old, "status"),
        "" => prepare_main(kind, new, old),
        _ => raise(kind, new, old),
    }
}

fn prepare_main(kind: Kind<'_>, new: &mut Value, old: &Value) {
    if has_status(kind) {
        keep(new, old, "status");
    }
    match (kind.group, kind.kind) {
        ("", "Namespace") => {
            if let Some(spec) = new.as_object_mut().and_then(|new| child(new, "spec")) {
                spec.insert("finalizers".into(), at(old, &["spec", "finalizers"]).clone());
            }
        }
        ("", "Secret") if text(new, "type").is_empty() => keep(new, old, "type"),
        ("", "Service") => super::services::drop_what_the_type_lost(new, old),
        ("", "PersistentVolumeClaim") => same_data_sources(new),
        ("", "Pod") => {
            let before = at(old, &["spec", "resources"]);
            if !before.is_null()
                && let Some(spec) = new.as_object_mut().and_then(|new| existing(new, "spec"))
            {
                fill(spec, "resources", before.clone());
            }
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => keep(new, old, "spec"),
        ("apps", "DaemonSet") => {
            let before = at(old, &["metadata", "annotations", TEMPLATE_GENERATION]).as_str();
            let before: i64 = before.and_then(|text| text.parse().ok()).unwrap_or_default();
            let changed = at(new, &["spec", "template"]) != at(old, &["spec", "template"]);
            set_template_generation(new, if changed { before + 1 } else { before });
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => stored_versions(new),
        _ => {}
    }
    raise(kind, new, old);
}

fn prepare_status(kind: Kind<'_>, new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    match (kind.group, kind.kind) {
        ("apps", "Deployment") => keep_meta(new, old, "labels"),
        ("", "Pod") => {
            keep_meta(new, old, "ownerReferences");
            let class = at(old, &["status", "qosClass"]).clone();
            let Some(status) = new.as_object_mut().and_then(|new| child(new, "status")) else { return };
            fill_text(status, "qosClass", class.as_str().unwrap_or_default());
            for key in ["resourceClaimStatuses", "extendedResourceClaimStatus", "nodeAllocatableResourceClaimStatuses"]
            {
                fill(status, key, at(old, &["status", key]).clone());
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            // Only the status is taken, beside the metadata that the generic update allows.
        }
        _ => {}
    }
}

fn raise(kind: Kind<'_>, new: &mut Value, old: &Value) {
    let changed = match generation(kind) {
        Generation::Absent | Generation::Fixed => false,
        Generation::Spec => new.get("spec") != old.get("spec"),
        Generation::SpecOrAnnotations => {
            let annotations = ["metadata", "annotations"];
            new.get("spec") != old.get("spec") || at(new, &annotations) != at(old, &annotations)
        }
        Generation::Content => content_differs(new, old),
        Generation::ContentOrLabels => {
            let labels = ["metadata", "labels"];
            content_differs(new, old) || at(new, &labels) != at(old, &labels)
        }
    };
    if changed {
        let number = at(old, &["metadata", "generation"]).as_i64().unwrap_or_default() + 1;
        if let Some(meta) = new.as_object_mut().and_then(|new| child(new, "metadata")) {
            meta.insert("generation".into(), number.into());
        }
    }
}

fn content_differs(new: &Value, old: &Value) -> bool {
    let content = |value: &Value| {
        let fields = value.as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(key, _)| key != "metadata").collect::<serde_json::Map<_, _>>()
    };
    content(new) != content(old)
}

/// Takes a field from the old object, absence too.
fn keep(new: &mut Value, old: &Value, key: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(key) {
        Some(value) => fields.insert(key.to_owned(), value.clone()),
        None => fields.remove(key),
    };
}

fn keep_meta(new: &mut Value, old: &Value, key: &str) {
    let value = at(old, &["metadata", key]).clone();
    if let Some(meta) = new.as_object_mut().and_then(|new| child(new, "metadata")) {
        meta.insert(key.to_owned(), value);
    }
}

fn prepare_namespace(namespace: &mut Value) {
    let Some(fields) = namespace.as_object_mut() else { return };
    if let Some(status) = child(fields, "status") {
        status.insert("phase".into(), "Active".into());
    }
    let Some(spec) = child(fields, "spec") else { return };
    fill(spec, "finalizers", json!([]));
    if let Some(Value::Array(finalizers)) = spec.get_mut("finalizers")
        && !finalizers.contains(&json!("kubernetes"))
    {
        finalizers.push("kubernetes".into());
    }
}

fn prepare_pod(pod: &mut Value) {
    super::pods::default_pod_level_resources(pod);
    let gated = !list(at(pod, &["spec"]), "schedulingGates").is_empty();
    let class = quality_of_service(at(pod, &["spec"]));
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": at(pod, &["metadata", "creationTimestamp"]),
        }]);
    }
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("status".into(), status);
    }
}

/// What a pod's requests and limits make of it.
pub(crate) fn quality_of_service(spec: &Value) -> &'static str {
    if let Some(resources) = spec.get("resources")
        && (has(resources, "requests") || has(resources, "limits"))
    {
        return class_of(resources);
    }
    let mut class = "";
    for container in list(spec, "initContainers").iter().chain(list(spec, "containers")) {
        let one = class_of(at(container, &["resources"]));
        if one == "Burstable" || (!class.is_empty() && class != one) {
            return "Burstable";
        }
        class = one;
    }
    if class.is_empty() { "BestEffort" } else { class }
}

fn class_of(resources: &Value) -> &'static str {
    let mut class = "";
    for name in ["cpu", "memory"] {
        let amount = |part: &str| {
            at(resources, &[part, name]).as_str().and_then(quantity::parse).map_or(0, |quantity| quantity.nano)
        };
        let one = match (amount("requests"), amount("limits")) {
            (0, 0) => "BestEffort",
            (request, limit) if request == limit => "Guaranteed",
            _ => "Burstable",
        };
        if one == "Burstable" || (!class.is_empty() && class != one) {
            return "Burstable";
        }
        class = one;
    }
    class
}

/// The annotation that stands for a field that the newest API version lost.
pub(super) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &mut Value, least: i64) {
    let given = at(set, &["metadata", "annotations", TEMPLATE_GENERATION]).as_str();
    let given = given.and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    set_template_generation(set, given.max(least));
}

fn set_template_generation(set: &mut Value, number: i64) {
    let annotations =
        set.as_object_mut().and_then(|set| child(set, "metadata")).and_then(|meta| child(meta, "annotations"));
    if let Some(annotations) = annotations {
        annotations.insert(TEMPLATE_GENERATION.into(), number.to_string().into());
    }
}

/// A claim's `dataSource` and `dataSourceRef` say the same where both can.
fn same_data_sources(claim: &mut Value) {
    let Some(spec) = claim.as_object_mut().and_then(|claim| existing(claim, "spec")) else { return };
    let source = spec.get("dataSource").cloned().unwrap_or_default();
    let reference = spec.get("dataSourceRef").cloned().unwrap_or_default();
    match (source, reference) {
        (Value::Object(source), Value::Null) => {
            spec.insert("dataSourceRef".into(), source.into());
        }
        (Value::Null, Value::Object(reference)) if !reference.contains_key("namespace") => {
            spec.insert("dataSource".into(), reference.into());
        }
        _ => {}
    }
}

const JOB_NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const JOB_UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// A Job selects its pods by its own uid unless the user chose to.
fn job_selector(job: &mut Value) {
    if truth(at(job, &["spec"]), "manualSelector") {
        return;
    }
    let name = at(job, &["metadata", "name"]).clone();
    let uid = at(job, &["metadata", "uid"]).clone();
    let Some(spec) = job.as_object_mut().and_then(|job| child(job, "spec")) else { return };
    let labels = child(spec, "template").and_then(|it| child(it, "metadata")).and_then(|it| child(it, "labels"));
    if let Some(labels) = labels {
        for label in JOB_NAME_LABELS {
            fill(labels, label, name.clone());
        }
        for label in JOB_UID_LABELS {
            fill(labels, label, uid.clone());
        }
    }
    if let Some(labels) = child(spec, "selector").and_then(|it| child(it, "matchLabels")) {
        fill(labels, JOB_UID_LABELS[1], uid);
    }
}

fn stored_versions(definition: &mut Value) {
    let versions = list(at(definition, &["spec"]), "versions");
    let Some(stored) = versions.iter().find(|version| truth(version, "storage")) else { return };
    let name = stored.get("name").cloned().unwrap_or_default();
    let Some(status) = definition.as_object_mut().and_then(|it| child(it, "status")) else { return };
    fill(status, "storedVersions", json!([]));
    if let Some(Value::Array(list)) = status.get_mut("storedVersions")
        && !list.contains(&name)
    {
        list.push(name);
    }
}
