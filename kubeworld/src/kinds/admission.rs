//! What the admission plugins that every cluster has do to a new object, after its defaults and before its strategy.
//!
//! Here are ServiceAccount, Priority, DefaultTolerationSeconds, TaintNodesByCondition, StorageObjectInUseProtection,
//! DefaultStorageClass, LimitRanger ([`limits`]) and PodSecurity ([`security`], which comes after the validation).
//! NamespaceLifecycle and the plugins for roles are the handler's. Absent: ResourceQuota, so quotas are stored and not enforced; webhooks and policies.

use serde_json::{Value, json};

mod limits;
pub(crate) mod security;

use super::{
    Kind,
    fields::{at, child, elements, field_text, fill, has, integer, list, text, truth},
};

/// What admission asks of the other objects.
pub(crate) trait Lookup {
    /// One object.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    /// All objects of a resource without a namespace.
    fn all(&self, group: &str, resource: &str) -> Vec<Value>;
    /// Five letters that no other name in sight ends with.
    fn suffix(&self) -> String;
}

/// Completes a new object, or says why it is forbidden.
/// `accounts` says whether the plugin ServiceAccount is one of them.
pub(crate) fn admit_create(
    kind: Kind<'_>,
    object: &mut Value,
    others: &dyn Lookup,
    accounts: bool,
) -> Result<(), String> {
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            limits::limit_pod(object, others)?;
            set_priority(object, others)?;
            tolerate_lost_nodes(object);
            if accounts { mount_token(object, others) } else { Ok(()) }
        }
        ("", "Node") => {
            taint_until_ready(object);
            Ok(())
        }
        ("", "PersistentVolume") => {
            add_finalizer(object, "kubernetes.io/pv-protection");
            Ok(())
        }
        ("", "PersistentVolumeClaim") => {
            add_finalizer(object, "kubernetes.io/pvc-protection");
            set_storage_class(object, others);
            limits::limit_claim(object, others)
        }
        _ => Ok(()),
    }
}

/// What admission gave a pod stays when an update leaves it out.
pub(crate) fn admit_update(kind: Kind<'_>, new: &mut Value, old: &Value) {
    if (kind.group, kind.kind) != ("", "Pod") {
        return;
    }
    let before = at(old, &["spec"]);
    if let Some(spec) = new.as_object_mut().and_then(|it| child(it, "spec")) {
        for key in ["priority", "preemptionPolicy"] {
            if has(before, key) {
                fill(spec, key, before[key].clone());
            }
        }
        tolerate_in(spec);
    }
}

fn set_priority(pod: &mut Value, others: &dyn Lookup) -> Result<(), String> {
    const CLASSES: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");
    let Some(spec) = pod.as_object_mut().and_then(|it| child(it, "spec")) else { return Ok(()) };
    let name = field_text(spec, "priorityClassName").to_owned();
    let class = if name.is_empty() {
        let all = others.all(CLASSES.0, CLASSES.1).into_iter().filter(|class| truth(class, "globalDefault"));
        all.min_by_key(|class| integer(class, "value"))
    } else {
        let class = others.get(CLASSES.0, CLASSES.1, "", &name);
        Some(class.ok_or_else(|| format!("no PriorityClass with name {name} was found"))?)
    };
    let (priority, policy) = match &class {
        Some(class) => {
            spec.insert("priorityClassName".into(), at(class, &["metadata", "name"]).clone());
            (integer(class, "value").unwrap_or_default(), text(class, "preemptionPolicy").to_owned())
        }
        None => (0, "PreemptLowerPriority".to_owned()),
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64)
        && given != priority
    {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    spec.insert("priority".into(), priority.into());
    if policy.is_empty() {
        return Ok(());
    }
    let given = field_text(spec, "preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec.insert("preemptionPolicy".into(), policy.into());
    Ok(())
}

/// A pod stays for five minutes on a node that is gone.
fn tolerate_lost_nodes(pod: &mut Value) {
    if let Some(spec) = pod.as_object_mut().and_then(|it| child(it, "spec")) {
        tolerate_in(spec);
    }
}

fn tolerate_in(spec: &mut super::fields::Fields) {
    let taints = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    let given = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let missing = taints.into_iter().filter(|taint| {
        !given.iter().any(|toleration| {
            let (key, effect) = (text(toleration, "key"), text(toleration, "effect"));
            (key == *taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        })
    });
    let added: Vec<Value> = missing
        .map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}))
        .collect();
    if !added.is_empty() {
        let all: Vec<Value> = given.iter().cloned().chain(added).collect();
        spec.insert("tolerations".into(), all.into());
    }
}

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn mount_token(pod: &mut Value, others: &dyn Lookup) -> Result<(), String> {
    let namespace = text(at(pod, &["metadata"]), "namespace").to_owned();
    let Some(spec) = pod.as_object_mut().and_then(|it| child(it, "spec")) else { return Ok(()) };
    let name = match field_text(spec, "serviceAccountName") {
        "" => "default",
        name => name,
    };
    let name = name.to_owned();
    let Some(account) = others.get("", "serviceaccounts", &namespace, &name) else {
        return Err(format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"));
    };
    spec.insert("serviceAccountName".into(), name.clone().into());
    spec.insert("serviceAccount".into(), name.into());
    let wanted = spec.get("automountServiceAccountToken").or_else(|| account.get("automountServiceAccountToken"));
    if wanted.and_then(Value::as_bool).unwrap_or(true) {
        add_token_volume(spec, others);
    }
    let secrets = list(&account, "imagePullSecrets");
    if spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty) && !secrets.is_empty() {
        spec.insert("imagePullSecrets".into(), json!(secrets));
    }
    Ok(())
}

fn add_token_volume(spec: &mut super::fields::Fields, others: &dyn Lookup) {
    let volumes = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let existing = volumes.iter().map(|volume| text(volume, "name")).find(|name| name.starts_with("kube-api-access-"));
    let name = existing.map_or_else(|| format!("kube-api-access-{}", others.suffix()), str::to_owned);
    let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH});
    let mut needed = false;
    for kind in ["initContainers", "containers"] {
        for container in elements(spec, kind) {
            fill(container, "volumeMounts", json!([]));
            let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") else { continue };
            if !mounts.iter().any(|mount| text(mount, "mountPath") == TOKEN_PATH) {
                mounts.push(mount.clone());
                needed = true;
            }
        }
    }
    if needed && existing.is_none() {
        let field = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
        let token = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ]}});
        let all: Vec<Value> = volumes.iter().cloned().chain([token]).collect();
        spec.insert("volumes".into(), all.into());
    }
}

fn taint_until_ready(node: &mut Value) {
    let Some(spec) = node.as_object_mut().and_then(|it| child(it, "spec")) else { return };
    fill(spec, "taints", json!([]));
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    if let Some(Value::Array(taints)) = spec.get_mut("taints")
        && !taints.iter().any(|it| it["key"] == taint["key"] && it["effect"] == taint["effect"])
    {
        taints.push(taint);
    }
}

fn add_finalizer(object: &mut Value, name: &str) {
    let Some(meta) = object.as_object_mut().and_then(|it| child(it, "metadata")) else { return };
    fill(meta, "finalizers", json!([]));
    if let Some(Value::Array(finalizers)) = meta.get_mut("finalizers")
        && !finalizers.contains(&json!(name))
    {
        finalizers.push(name.into());
    }
}

/// A claim without a class gets the default one, if the cluster has any.
fn set_storage_class(claim: &mut Value, others: &dyn Lookup) {
    if has(at(claim, &["spec"]), "storageClassName") {
        return;
    }
    let default = others.all("storage.k8s.io", "storageclasses").into_iter().find(|class| {
        text(at(class, &["metadata", "annotations"]), "storageclass.kubernetes.io/is-default-class") == "true"
    });
    if let Some(class) = default
        && let Some(spec) = claim.as_object_mut().and_then(|it| child(it, "spec"))
    {
        spec.insert("storageClassName".into(), at(&class, &["metadata", "name"]).clone());
    }
}

#[cfg(test)]
mod tests;
