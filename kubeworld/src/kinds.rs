//! What the API server does to built-in kinds beyond their schema: defaults, what a create or an update may not change,
//! and what is refused.
//!
//! Pure functions over JSON, total over any JSON: what has a wrong type is left alone, since the schema's check reports
//! it. An unknown kind passes unchanged.
//!
//! * [`types`]: the one form that an object has once Go has decoded and encoded it.
//! * [`defaults`]: what is filled in, struct by struct.
//! * [`strategy`]: what a create and an update take out, keep, and count (`metadata.generation`).
//! * [`admission`]: what the usual plugins add to a new object.
//! * [`meta`]: the rules for metadata of any kind, custom ones too.
//! * The rest are the rules of each area, in the real server's order and words.
//!
//! Absent: rules that need other objects (quota, a Service's allocated addresses), which are the handler's.

use serde_json::Value;

use crate::status::Cause;

pub(crate) mod admission;
mod apps;
mod batch;
mod causes;
mod cluster;
mod config;
pub(crate) mod cron;
mod defaults;
pub(crate) mod definitions;
pub(crate) mod fields;
pub(crate) mod meta;
pub(crate) mod names;
mod networking;
pub(crate) mod pods;
pub(crate) mod quantity;
mod rbac;
pub(crate) mod selectors;
pub(crate) mod services;
mod shown;
mod storage;
pub(crate) mod strategy;
mod types;

use causes::Causes;
pub(crate) use names::sloppy_ip;

/// What a kind is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

/// Fills in what the user left out, as the real server's defaulting functions do, and gives the object the one form
/// that the real server's types give it. For every object that comes in, before anything else looks at it.
pub(crate) fn default(kind: Kind<'_>, object: &mut Value) {
    types::types().settle(kind, object, true);
}

/// Gives an object the one form that the real server's types give it, without defaults.
pub(crate) fn settle(kind: Kind<'_>, object: &mut Value) {
    types::types().settle(kind, object, false);
}

/// Why Go could not read an object whose form its schema allows, in Go's words: quantities and times are texts with
/// rules.
pub(crate) fn unreadable(kind: Kind<'_>, object: &Value) -> Option<String> {
    types::types().unreadable(kind, object)
}

/// Before a create: the status is emptied, the generation set, and what the user may not choose is taken out. The name,
/// the uid and the creation time must be set already, since a Job's selector and a volume's status are made of them.
pub(crate) fn prepare_create(kind: Kind<'_>, object: &mut Value) {
    strategy::prepare_create(kind, object);
    types::types().settle(kind, object, true);
}

/// Before an update of the object (`subresource` empty) or of `status`, `finalize` or `approval`: what that request may
/// not change is taken from `old`, and the generation is raised where the real server raises it.
pub(crate) fn prepare_update(kind: Kind<'_>, subresource: &str, new: &mut Value, old: &Value) {
    strategy::prepare_update(kind, subresource, new, old);
    types::types().settle(kind, new, true);
}

/// Why a text cannot be the name of a kind, if it cannot.
pub(crate) fn is_kind_name(text: &str) -> Option<String> {
    definitions::dns_1035(&text.to_lowercase())
}

/// Whether objects of a built-in kind live in namespaces.
fn is_namespaced(kind: Kind<'_>) -> bool {
    !matches!(
        (kind.group, kind.kind),
        ("", "Namespace" | "Node" | "PersistentVolume" | "ComponentStatus")
            | ("rbac.authorization.k8s.io", "ClusterRole" | "ClusterRoleBinding")
            | (
                "storage.k8s.io",
                "StorageClass" | "CSIDriver" | "CSINode" | "VolumeAttachment" | "VolumeAttributesClass"
            )
            | ("scheduling.k8s.io", "PriorityClass")
            | ("networking.k8s.io", "IngressClass" | "IPAddress" | "ServiceCIDR")
            | ("resource.k8s.io", "DeviceClass" | "ResourceSlice" | "DeviceTaintRule")
            | (
                "apiextensions.k8s.io"
                    | "apiregistration.k8s.io"
                    | "admissionregistration.k8s.io"
                    | "flowcontrol.apiserver.k8s.io"
                    | "certificates.k8s.io"
                    | "node.k8s.io"
                    | "authentication.k8s.io",
                _
            )
    )
}

/// What is wrong with a new object, its metadata included. For a built-in kind after [`prepare_create`]; for a custom one
/// only [`meta::validate_meta_create`] applies beside its schema.
pub(crate) fn validate_create(kind: Kind<'_>, object: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    let namespaced = is_namespaced(kind);
    // Events came before the rule that their namespace is checked as all others' are.
    if (kind.group, kind.kind) != ("", "Event") {
        meta::check_create(&mut causes, meta::name_rule(kind), namespaced, object);
        if knows_finalizers(kind) {
            meta::check_known_finalizers(&mut causes, object);
        }
    }
    check(&mut causes, kind, object, None);
    causes.into_causes()
}

/// What is wrong with an update, after [`prepare_update`].
pub(crate) fn validate_update(kind: Kind<'_>, subresource: &str, new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    match (subresource, kind.group, kind.kind) {
        ("", _, _) => {
            if is_checked_again_after(kind) {
                check(&mut causes, kind, new, Some(old));
                meta::check_update(&mut causes, new, old);
            } else {
                meta::check_update(&mut causes, new, old);
                if knows_finalizers(kind) {
                    meta::check_known_finalizers(&mut causes, new);
                }
                check(&mut causes, kind, new, Some(old));
            }
        }
        ("status" | "finalize", _, _) => {
            meta::check_update(&mut causes, new, old);
            check_subresource(&mut causes, kind, subresource, new);
        }
        ("ephemeralcontainers", "", "Pod") => {
            meta::check_update(&mut causes, new, old);
            pods::check_ephemeral_update(&mut causes, new, old);
        }
        _ => meta::check_update(&mut causes, new, old),
    }
    causes.into_causes()
}

/// Whether a finalizer without a domain must be one of the project's own.
fn knows_finalizers(kind: Kind<'_>) -> bool {
    !matches!(kind.group, "rbac.authorization.k8s.io" | "coordination.k8s.io" | "apiextensions.k8s.io")
}

/// Kinds whose update is checked as a create first, and for what changed last.
fn is_checked_again_after(kind: Kind<'_>) -> bool {
    kind.group == "rbac.authorization.k8s.io"
}

/// The rules of a kind beyond its metadata; with `old` those for an update.
fn check(causes: &mut Causes, kind: Kind<'_>, object: &Value, old: Option<&Value>) {
    match (kind.group, kind.kind) {
        ("", _) => check_core(causes, kind, object, old),
        ("apps", _) => check_apps(causes, kind, object, old),
        ("batch", "Job") => match old {
            None => batch::check_job(causes, object),
            Some(old) => batch::check_job_update(causes, object, old),
        },
        ("batch", "CronJob") => batch::check_cron_job(causes, object, old),
        ("rbac.authorization.k8s.io", _) => check_rbac(causes, kind, object, old),
        ("networking.k8s.io", "Ingress") => {
            if old.is_some() {
                meta::check_create(causes, names::dns_subdomain, true, object);
            }
            networking::check_ingress(causes, object);
            if old.is_none() {
                networking::check_ingress_class_annotation(causes, object);
            }
        }
        ("networking.k8s.io", "NetworkPolicy") => networking::check_policy(causes, object),
        ("networking.k8s.io", "IngressClass") => networking::check_ingress_class(causes, object),
        ("discovery.k8s.io", "EndpointSlice") => {
            networking::check_slice(causes, object, old);
            if let Some(old) = old {
                let path = causes::Path::root("addressType");
                if fields::at(object, &["addressType"]) != fields::at(old, &["addressType"]) {
                    causes.invalid(path, Value::Null, "field is immutable");
                }
            }
        }
        ("policy", "PodDisruptionBudget") => cluster::check_budget(causes, object),
        ("autoscaling", "HorizontalPodAutoscaler") => cluster::check_autoscaler(causes, object),
        ("coordination.k8s.io", "Lease") => cluster::check_lease(causes, object),
        ("scheduling.k8s.io", "PriorityClass") => match old {
            None => cluster::check_priority_class(causes, object),
            Some(old) => cluster::check_priority_class_update(causes, object, old),
        },
        ("storage.k8s.io", "StorageClass") => match old {
            None => storage::check_class_fields(causes, object),
            Some(old) => storage::check_class_update(causes, object, old),
        },
        ("events.k8s.io", "Event") => {
            cluster::check_event(causes, object, true);
            if old.is_none() {
                cluster::check_new_event(causes, object);
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definitions::check(causes, object, old),
        _ => {}
    }
}

fn check_core(causes: &mut Causes, kind: Kind<'_>, object: &Value, old: Option<&Value>) {
    match (kind.kind, old) {
        ("Pod", None) => pods::check_create(causes, object),
        ("Pod", Some(old)) => pods::check_update(causes, object, old),
        ("PodTemplate", _) => {
            pods::check_template(causes, causes::Path::root("template"), fields::at(object, &["template"]));
        }
        ("ReplicationController", _) => apps::check_replication_controller(causes, object),
        ("Service", None) => services::check(causes, object, None),
        ("Service", Some(old)) => services::check_update(causes, object, old),
        ("ConfigMap", old) => {
            if let Some(old) = old {
                config::check_immutable(causes, object, old, &["data", "binaryData"]);
                meta::check_create(causes, names::dns_subdomain, true, object);
            }
            config::check_config_map(causes, object);
        }
        ("Secret", old) => {
            if let Some(old) = old {
                let path = causes::Path::root("type");
                causes.immutable(path, fields::at(object, &["type"]), fields::at(old, &["type"]));
                config::check_immutable(causes, object, old, &["data"]);
                meta::check_create(causes, names::dns_subdomain, true, object);
            }
            config::check_secret(causes, object);
        }
        ("Namespace", None) => cluster::check_namespace(causes, object),
        ("Node", None) => cluster::check_node(causes, object),
        ("Node", Some(old)) => cluster::check_node_update(causes, object, old),
        ("ServiceAccount", Some(_)) => meta::check_create(causes, names::dns_subdomain, true, object),
        ("ResourceQuota", _) => cluster::check_quota(causes, object),
        ("LimitRange", _) => cluster::check_limit_range(causes, object),
        ("Endpoints", _) => networking::check_endpoints(causes, object),
        ("PersistentVolumeClaim", None) => storage::check_claim(causes, object),
        ("PersistentVolumeClaim", Some(old)) => storage::check_claim_update(causes, object, old),
        ("PersistentVolume", None) => storage::check_volume(causes, object),
        ("PersistentVolume", Some(old)) => storage::check_volume_update(causes, object, old),
        ("Event", _) => cluster::check_event(causes, object, false),
        _ => {}
    }
}

fn check_apps(causes: &mut Causes, kind: Kind<'_>, object: &Value, old: Option<&Value>) {
    match kind.kind {
        "Deployment" => apps::check_deployment(causes, object),
        "ReplicaSet" => apps::check_replica_set(causes, object),
        "StatefulSet" => apps::check_stateful_set(causes, object),
        "DaemonSet" => {
            // Here what changed is looked at first.
            if let Some(old) = old {
                apps::check_same_selector(causes, object, old);
            }
            apps::check_daemon_set(causes, object);
        }
        "ControllerRevision" => apps::check_revision(causes, object),
        _ => {}
    }
    match (kind.kind, old) {
        ("Deployment" | "ReplicaSet", Some(old)) => apps::check_same_selector(causes, object, old),
        ("StatefulSet", Some(old)) => apps::check_stateful_set_update(causes, object, old),
        ("ControllerRevision", Some(old)) => {
            causes.immutable(causes::Path::root("data"), fields::at(object, &["data"]), fields::at(old, &["data"]));
        }
        _ => {}
    }
}

fn check_rbac(causes: &mut Causes, kind: Kind<'_>, object: &Value, old: Option<&Value>) {
    let namespaced = is_namespaced(kind);
    if old.is_some() {
        meta::check_create(causes, names::path_segment, namespaced, object);
    }
    match kind.kind {
        "Role" | "ClusterRole" => rbac::check_role(causes, object, namespaced),
        "RoleBinding" | "ClusterRoleBinding" => {
            rbac::check_binding(causes, object, namespaced);
            if let Some(old) = old {
                rbac::check_binding_update(causes, object, old);
            }
        }
        _ => {}
    }
}

fn check_subresource(causes: &mut Causes, kind: Kind<'_>, subresource: &str, object: &Value) {
    const MORE_THAN_ALL: &str = "cannot be greater than status.replicas";
    match (kind.group, kind.kind) {
        ("", "Namespace") => cluster::check_namespace_part(causes, object, subresource),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definitions::check_status(causes, object),
        ("", "Service") => services::check_status(causes, object),
        ("networking.k8s.io", "Ingress") => {
            let status = fields::at(object, &["status", "loadBalancer"]);
            networking::check_balancer(causes, causes::Path::root("status.loadBalancer"), status, false);
        }
        ("batch", "Job") => batch::check_job_status(causes, object),
        ("apps", "Deployment") => apps::check_status(
            causes,
            object,
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            &[
                ("updatedReplicas", "replicas", MORE_THAN_ALL),
                ("readyReplicas", "replicas", MORE_THAN_ALL),
                ("availableReplicas", "replicas", MORE_THAN_ALL),
                ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
            ],
        ),
        ("apps", "ReplicaSet") => apps::check_status(
            causes,
            object,
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ],
            &[
                ("fullyLabeledReplicas", "replicas", MORE_THAN_ALL),
                ("readyReplicas", "replicas", MORE_THAN_ALL),
                ("availableReplicas", "replicas", MORE_THAN_ALL),
                ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
            ],
        ),
        ("apps", "StatefulSet") => apps::check_status(
            causes,
            object,
            &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ],
            &[
                ("readyReplicas", "replicas", MORE_THAN_ALL),
                ("currentReplicas", "replicas", MORE_THAN_ALL),
                ("updatedReplicas", "replicas", MORE_THAN_ALL),
                ("availableReplicas", "replicas", MORE_THAN_ALL),
                ("availableReplicas", "readyReplicas", "cannot be greater than status.readyReplicas"),
            ],
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
