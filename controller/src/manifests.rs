//! What the hub and DNS nodes need in a cluster, with the least rights. The agent's are the agent's own.

use serde_json::{Value, json};

/// Objects to apply for the hub, in order.
///
/// Rights: it reads our four kinds and writes their status; it holds a finalizer on Apps; in its own namespace it keeps
/// what it chose (ConfigMaps), its authority and join tokens (Secrets) and its Lease. It can read no Secret elsewhere,
/// and it needs no right in any member.
pub fn hub(namespace: &str, image: &str) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": "isochrone", "app.kubernetes.io/component": "hub"});
    let meta = |name: &str| json!({"name": name, "namespace": namespace, "labels": labels});
    let whole = |name: &str| json!({"name": name, "labels": labels});
    let subject = json!([{"kind": "ServiceAccount", "name": "isochrone-hub", "namespace": namespace}]);
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": whole(namespace)}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("isochrone-hub")}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": whole("isochrone-hub"),
            "rules": [
                {"apiGroups": ["isochrone.dev"], "resources": ["apps", "clusters", "dnszones", "regionpolicies"],
                 "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["isochrone.dev"],
                 "resources": ["apps/status", "clusters/status", "dnszones/status", "regionpolicies/status"],
                 "verbs": ["patch"]},
                // The finalizer lies in metadata.
                {"apiGroups": ["isochrone.dev"], "resources": ["apps"], "verbs": ["patch"]},
                // To tell an App that somebody removed from one that went with its CRD.
                {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
                 "verbs": ["get", "list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": whole("isochrone-hub"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "isochrone-hub"},
            "subjects": subject,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta("isochrone-hub"),
            "rules": [
                {"apiGroups": [""], "resources": ["configmaps", "secrets"],
                 "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta("isochrone-hub"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "isochrone-hub"},
            "subjects": subject,
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta("isochrone-hub"),
            "spec": {
                // One address per replica: behind several endpoints a QUIC flow may jump from one to another.
                "type": "LoadBalancer", "selector": labels,
                "ports": [{"name": "tunnel", "port": 7443, "protocol": "UDP", "targetPort": "tunnel"}],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("isochrone-hub"),
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                // A second one waits for the Lease; the old one gives it up when it ends.
                "strategy": {"type": "Recreate"},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": "isochrone-hub",
                        "securityContext": pod_security(),
                        "containers": [container("hub", image, json!([
                            "hub", "--namespace", namespace, "--admin", "0.0.0.0:7480", "--advertise", "$(ISOCHRONE_ADVERTISE)",
                        ]), 7480, json!([
                            {"name": "tunnel", "containerPort": 7443, "protocol": "UDP"},
                            {"name": "admin", "containerPort": 7480},
                        ]), json!([
                            {"name": "ISOCHRONE_ADVERTISE", "valueFrom": {"configMapKeyRef":
                                {"name": "isochrone-hub-address", "key": "advertise"}}},
                        ]), json!([]))],
                    },
                },
            },
        }),
    ]
}

/// Objects to apply for a DNS node in a cluster, in order. It uses no Kubernetes API at all: no token is mounted.
///
/// The join token comes from the Secret `isochrone-dns-join`, key `token`. Where fellow nodes do not reach it at the
/// address that the hub sees it come from, add `--advertise-peering HOST:7444`.
pub fn dns(namespace: &str, image: &str) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": "isochrone", "app.kubernetes.io/component": "dns"});
    let meta = |name: &str| json!({"name": name, "namespace": namespace, "labels": labels});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("isochrone-dns"),
               "automountServiceAccountToken": false}),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta("isochrone-dns"),
            "spec": {
                // Local keeps the resolver's own address, which steering needs.
                "type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": labels,
                "ports": [{"name": "dns-udp", "port": 53, "protocol": "UDP", "targetPort": "dns-udp"},
                          {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns-tcp"},
                          {"name": "peering", "port": 7444, "protocol": "UDP", "targetPort": "peering"}],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("isochrone-dns"),
            "spec": {
                "replicas": 1, "serviceName": "isochrone-dns", "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": "isochrone-dns",
                        "automountServiceAccountToken": false,
                        "securityContext": pod_security(),
                        "containers": [container("dns", image, json!([
                            "dns", "--state", "/var/lib/isochrone/dns", "--listen", "0.0.0.0:5353", "--admin", "0.0.0.0:7482",
                        ]), 7482, json!([
                            {"name": "dns-udp", "containerPort": 5353, "protocol": "UDP"},
                            {"name": "dns-tcp", "containerPort": 5353, "protocol": "TCP"},
                            {"name": "peering", "containerPort": 7444, "protocol": "UDP"},
                            {"name": "admin", "containerPort": 7482},
                        ]), json!([
                            {"name": "ISOCHRONE_JOIN", "valueFrom": {"secretKeyRef":
                                {"name": "isochrone-dns-join", "key": "token", "optional": true}}},
                        ]), json!([{"name": "state", "mountPath": "/var/lib/isochrone"}]))],
                    },
                },
                "volumeClaimTemplates": [{
                    "metadata": {"name": "state"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }],
            },
        }),
    ]
}

fn pod_security() -> Value {
    json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
           "seccompProfile": {"type": "RuntimeDefault"}})
}

fn container(name: &str, image: &str, args: Value, admin: u16, ports: Value, env: Value, mounts: Value) -> Value {
    json!({
        "name": name, "image": image, "args": args, "ports": ports, "env": env, "volumeMounts": mounts,
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": admin}},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": admin}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}},
    })
}
