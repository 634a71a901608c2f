//! What the real server warns of, in the `Warning` headers of an answer that is otherwise fine.
//!
//! Absent: most of its many hints on pods; here are those that a manifest merged from two hands comes to.

use serde_json::Value;

use crate::handle::Call;

/// Warns of a new object, or of one that replaces another.
pub(crate) fn of(call: &Call<'_>, new: &Value, old: Option<&Value>) {
    let resource = &call.resource;
    // Workloads are looked at again when their spec has changed, pods never: people seldom write them.
    let changed = old.is_none_or(|old| old["metadata"]["generation"] != new["metadata"]["generation"]);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => {
            if new["spec"]["clusterIP"] == "None" && new["spec"]["sessionAffinity"] == "ClientIP" {
                call.warn("spec.SessionAffinity is ignored for headless services");
            }
        }
        ("", "secrets") => certificate(call, new),
        ("", "pods") if old.is_none() => ports(call, &new["spec"], "spec"),
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") | ("batch", "jobs") if changed => {
            ports(call, &new["spec"]["template"]["spec"], "spec.template.spec");
        }
        ("batch", "cronjobs") if changed => {
            let path = "spec.jobTemplate.spec.template.spec";
            ports(call, &new["spec"]["jobTemplate"]["spec"]["template"]["spec"], path);
        }
        (_, _) => {}
    }
}

fn certificate(call: &Call<'_>, secret: &Value) {
    if secret["type"] != "kubernetes.io/tls" {
        return;
    }
    let text = secret["data"]["tls.crt"].as_str().unwrap_or_default();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap_or_default();
    if !String::from_utf8_lossy(&bytes).contains("-----BEGIN ") {
        call.warn("tls: failed to find any PEM data in certificate input");
    }
}

/// One port of a container, and where it is.
struct Port<'a> {
    at: String,
    number: i64,
    protocol: &'a str,
    host: (&'a str, i64),
}

/// Containers of a pod share its addresses, so they should not open the same port twice.
fn ports(call: &Call<'_>, spec: &Value, path: &str) {
    let mut seen: Vec<Port<'_>> = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            for (number, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
                let port = Port {
                    at: format!("{path}.{list}[{index}].ports[{number}]"),
                    number: port["containerPort"].as_i64().unwrap_or_default(),
                    protocol: port["protocol"].as_str().unwrap_or("TCP"),
                    host: (port["hostIP"].as_str().unwrap_or_default(), port["hostPort"].as_i64().unwrap_or_default()),
                };
                let others = seen.iter().filter(|other| (other.number, other.protocol) == (port.number, port.protocol));
                for other in others {
                    let what = if other.host == port.host {
                        "duplicate"
                    } else if other.host.1 == 0 || port.host.1 == 0 {
                        "overlapping"
                    } else if other.host.1 == port.host.1 && other.host.0.is_empty() != port.host.0.is_empty() {
                        "dangerously ambiguous"
                    } else {
                        continue;
                    };
                    call.warn(format!("{}: {what} port definition with {}", port.at, other.at));
                }
                seen.push(port);
            }
        }
    }
}
