//! What the agent may read with its own identity, and what only as the user of an App's namespace.
//!
//! RBAC has no "all but": rights add up, so whoever may read `*` reads every Secret of the cluster. The agent
//! therefore reads, as itself, exactly the kinds below, for one watch per kind instead of one per kind and namespace.
//! **Secrets are not among them**, nor is any custom resource: those it reads as the App's user, who can read them
//! only where the cluster's owner lets it write them. The shipped ClusterRole is made from this very table.

use policies::plan::GroupKind;

/// Kinds that the agent reads as itself: group, and each kind with its resource name.
pub const OWN: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            ("ConfigMap", "configmaps"),
            ("LimitRange", "limitranges"),
            ("Namespace", "namespaces"),
            ("Node", "nodes"),
            ("PersistentVolume", "persistentvolumes"),
            ("PersistentVolumeClaim", "persistentvolumeclaims"),
            ("Pod", "pods"),
            ("ReplicationController", "replicationcontrollers"),
            ("ResourceQuota", "resourcequotas"),
            ("Service", "services"),
            ("ServiceAccount", "serviceaccounts"),
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
            ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        ],
    ),
    ("apiextensions.k8s.io", &[("CustomResourceDefinition", "customresourcedefinitions")]),
    (
        "apps",
        &[
            ("DaemonSet", "daemonsets"),
            ("Deployment", "deployments"),
            ("ReplicaSet", "replicasets"),
            ("StatefulSet", "statefulsets"),
        ],
    ),
    ("autoscaling", &[("HorizontalPodAutoscaler", "horizontalpodautoscalers")]),
    ("batch", &[("CronJob", "cronjobs"), ("Job", "jobs")]),
    (
        "networking.k8s.io",
        &[("Ingress", "ingresses"), ("IngressClass", "ingressclasses"), ("NetworkPolicy", "networkpolicies")],
    ),
    ("policy", &[("PodDisruptionBudget", "poddisruptionbudgets")]),
    (
        "rbac.authorization.k8s.io",
        &[
            ("ClusterRole", "clusterroles"),
            ("ClusterRoleBinding", "clusterrolebindings"),
            ("Role", "roles"),
            ("RoleBinding", "rolebindings"),
        ],
    ),
    ("scheduling.k8s.io", &[("PriorityClass", "priorityclasses")]),
    ("storage.k8s.io", &[("StorageClass", "storageclasses")]),
];

/// Whether the agent reads this kind as itself.
pub fn as_agent(kind: &GroupKind) -> bool {
    OWN.iter().any(|(group, kinds)| *group == kind.group && kinds.iter().any(|(k, _)| *k == kind.kind))
}
