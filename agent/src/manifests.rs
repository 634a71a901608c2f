//! What a cluster's owner applies to let an agent in, with the least rights that its work needs.
//!
//! * **Reads as itself**: the kinds of [`crate::reads`], no Secrets, no custom resources.
//! * **Makes** Namespaces, and RoleBindings to one ClusterRole ([`crate::names::APP_ROLE`]): `bind` names that role alone,
//!   so the agent can give an App's user nothing else.
//! * **Impersonates users.** RBAC knows exact names only, no prefix, and the names are those of Apps to come; so the
//!   right covers all users, and the agent itself refuses any name that does not begin with `isochrone:`
//!   ([`crate::names::app_user`] can make no other). No groups, no service accounts: no right comes in by a group.
//! * **Owns its namespace**: Secrets (its memory), ConfigMaps (ApplySet parents), Leases.
//!
//! What Apps may do by default is the ClusterRole [`crate::names::APP_ROLE`], bound in the App's own namespace: the usual
//! namespaced kinds. Roles and RoleBindings are among them, since many charts bring one for their service account, and
//! Kubernetes itself refuses to let a user grant what it does not have.

use serde_json::{Value, json};

use crate::names::APP_ROLE;
use crate::reads::OWN;

/// Name of the agent's service account, Deployment and roles.
pub const AGENT: &str = "isochrone-agent";

/// The Secret that the agent's pod takes its join token from, key `token`.
pub const JOIN_SECRET: &str = "isochrone-agent-join";

/// Every object, in the order to apply them. `image` is the container image of the `isochrone` binary.
pub fn manifests(namespace: &str, image: &str) -> Vec<Value> {
    let subject = json!({"kind": "ServiceAccount", "name": AGENT, "namespace": namespace});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": AGENT, "namespace": namespace}}),
        role("ClusterRole", APP_ROLE, None, app_rules()),
        role("ClusterRole", AGENT, None, agent_rules()),
        binding("ClusterRoleBinding", None, "ClusterRole", &subject),
        role("Role", AGENT, Some(namespace), own_namespace_rules()),
        binding("RoleBinding", Some(namespace), "Role", &subject),
        deployment(namespace, image),
    ]
}

fn agent_rules() -> Vec<Value> {
    let mut rules: Vec<Value> = OWN
        .iter()
        .map(|(group, kinds)| {
            let resources: Vec<&str> = kinds.iter().map(|(_, resource)| *resource).collect();
            rule(group, &resources, &["get", "list", "watch"])
        })
        .collect();
    let rbac = "rbac.authorization.k8s.io";
    rules.push(rule("", &["namespaces"], &["create"]));
    rules.push(rule(rbac, &["rolebindings"], &["create"]));
    rules.push(
        json!({"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": [APP_ROLE], "verbs": ["bind"]}),
    );
    rules.push(rule("", &["users"], &["impersonate"]));
    rules
}

fn own_namespace_rules() -> Vec<Value> {
    let all = ["get", "list", "watch", "create", "update", "patch", "delete"];
    vec![rule("", &["secrets", "configmaps"], &all), rule("coordination.k8s.io", &["leases"], &all)]
}

fn app_rules() -> Vec<Value> {
    let all = ["get", "list", "watch", "create", "update", "patch", "delete"];
    vec![
        rule(
            "",
            &[
                "configmaps",
                "secrets",
                "services",
                "serviceaccounts",
                "persistentvolumeclaims",
                "pods",
                "replicationcontrollers",
            ],
            &all,
        ),
        rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"], &all),
        rule("batch", &["cronjobs", "jobs"], &all),
        rule("autoscaling", &["horizontalpodautoscalers"], &all),
        rule("policy", &["poddisruptionbudgets"], &all),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &all),
        rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &all),
    ]
}

fn deployment(namespace: &str, image: &str) -> Value {
    let labels = json!({"app.kubernetes.io/name": AGENT});
    let container = json!({
        "name": "agent",
        "image": image,
        "args": ["agent", "--namespace", namespace, "--admin", "0.0.0.0:7481"],
        // Needed the first time only; afterwards its identity is in a Secret of its own.
        "env": [{"name": "ISOCHRONE_JOIN", "valueFrom": {"secretKeyRef":
            {"name": JOIN_SECRET, "key": "token", "optional": true}}}],
        "ports": [{"name": "admin", "containerPort": 7481}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "admin"}},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": AGENT, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            // Two at once would both deliver; harmless, but each undoes what the other has not heard of yet.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": AGENT, "containers": [container]},
            },
        },
    })
}

fn role(kind: &str, name: &str, namespace: Option<&str>, rules: Vec<Value>) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(name, namespace), "rules": rules})
}

fn binding(kind: &str, namespace: Option<&str>, role_kind: &str, subject: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(AGENT, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": AGENT},
        "subjects": [subject],
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    namespace.map_or_else(|| json!({"name": name}), |n| json!({"name": name, "namespace": n}))
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_reads_no_secret_outside_its_namespace_and_holds_no_wildcard() {
        for object in manifests("isochrone-system", "isochrone:test") {
            let text = object.to_string();
            assert!(!text.contains("\"*\""), "{text}");
            if object["kind"] == "ClusterRole" && object["metadata"]["name"] == AGENT {
                assert!(!text.contains("secrets"), "{text}");
                let bind: Vec<&Value> =
                    object["rules"].as_array().unwrap().iter().filter(|r| r["verbs"][0] == "bind").collect();
                assert_eq!(bind.len(), 1);
                assert_eq!(bind[0]["resourceNames"], json!([APP_ROLE]));
            }
        }
    }
}
