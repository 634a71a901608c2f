//! In which order the kinds of one app are applied, and which kinds take more with them when they go.

use std::collections::BTreeSet;

use super::GroupKind;

/// A step of the order. What stands earlier is needed by what stands later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wave {
    /// Everything else lives in them.
    Namespaces,
    /// Custom resources need them, and they need a moment.
    Definitions,
    /// Pods are refused without their service account, and start without its rights.
    Identities,
    /// Pods do not start without what they mount, nor without their quota and class.
    Configuration,
    /// Before the pods, whose environment names the services that exist when they start.
    Services,
    /// What runs.
    Workloads,
    /// All else; also webhooks, which must not refuse their own app's pods before those serve.
    Rest,
    /// Custom resources whose CRD comes with the same app: its operator should run first.
    DefinedHere,
}

/// The wave of a kind, in an app that itself defines the kinds in `defined`.
pub fn wave(kind: &GroupKind, defined: &BTreeSet<&GroupKind>) -> Wave {
    if defined.contains(kind) {
        return Wave::DefinedHere;
    }
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => Wave::Namespaces,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Wave::Definitions,
        ("rbac.authorization.k8s.io", _) | ("", "ServiceAccount") => Wave::Identities,
        (
            "",
            "ConfigMap" | "Secret" | "PersistentVolume" | "PersistentVolumeClaim" | "ResourceQuota" | "LimitRange",
        )
        | ("storage.k8s.io" | "scheduling.k8s.io" | "node.k8s.io", _) => Wave::Configuration,
        ("", "Service") => Wave::Services,
        ("", "Pod" | "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job" | "CronJob") => Wave::Workloads,
        _ => Wave::Rest,
    }
}

/// Kinds whose deletion destroys data, or objects that nobody named.
pub(super) fn takes_more_with_it(kind: &GroupKind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Namespace" | "PersistentVolume" | "PersistentVolumeClaim")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}
