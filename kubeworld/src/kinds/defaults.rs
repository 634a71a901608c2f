//! What the real server fills in, by struct.
//!
//! Each function sees one struct before its parts are visited, so what it adds gets its own defaults in turn.

use serde_json::{Value, json};

use super::{
    fields::{Fields, child, elements, existing, field_text, fill, fill_number, fill_text},
    strategy::TEMPLATE_GENERATION,
    types::Defaulter,
};

/// The defaults of a struct, if it has any.
pub(super) fn of(name: &str) -> Option<Defaulter> {
    Some(match name {
        "core.v1.Pod" => pod,
        "core.v1.PodSpec" => pod_spec,
        "core.v1.PodStatus" => pod_status,
        "core.v1.Container" | "core.v1.EphemeralContainer" => container,
        "core.v1.ContainerPort"
        | "core.v1.EndpointPort"
        | "core.v1.ServicePort"
        | "networking.v1.NetworkPolicyPort" => protocol,
        "discovery.v1.EndpointPort" => slice_port,
        "core.v1.Probe" => probe,
        "core.v1.HTTPGetAction" => http_get,
        "core.v1.GRPCAction" => |it| fill(it, "service", ""),
        "core.v1.ObjectFieldSelector" => |it| fill_text(it, "apiVersion", "v1"),
        "core.v1.FileKeySelector" => |it| fill(it, "optional", false),
        "core.v1.Volume" => volume,
        "core.v1.SecretVolumeSource"
        | "core.v1.ConfigMapVolumeSource"
        | "core.v1.DownwardAPIVolumeSource"
        | "core.v1.ProjectedVolumeSource" => |it| fill(it, "defaultMode", 0o644),
        "core.v1.ServiceAccountTokenProjection" => |it| fill(it, "expirationSeconds", 3600),
        "core.v1.HostPathVolumeSource" => |it| fill(it, "type", ""),
        "core.v1.RBDVolumeSource" | "core.v1.RBDPersistentVolumeSource" => rbd,
        "core.v1.ISCSIVolumeSource" | "core.v1.ISCSIPersistentVolumeSource" => {
            |it| fill_text(it, "iscsiInterface", "default")
        }
        "core.v1.AzureDiskVolumeSource" => azure_disk,
        "core.v1.ScaleIOVolumeSource" | "core.v1.ScaleIOPersistentVolumeSource" => scale_io,
        "core.v1.ReplicationController" => replication_controller,
        "core.v1.ReplicationControllerSpec" => |it| fill(it, "replicas", 1),
        "core.v1.Service" => service,
        "core.v1.Secret" => secret,
        "core.v1.Namespace" => namespace,
        "core.v1.NamespaceStatus" => |it| fill_text(it, "phase", "Active"),
        "core.v1.NodeStatus" => node_status,
        "core.v1.LimitRangeItem" => limit_range_item,
        "core.v1.PersistentVolume" => persistent_volume,
        "core.v1.PersistentVolumeClaim" => persistent_volume_claim,
        "core.v1.PersistentVolumeClaimSpec" => |it| fill(it, "volumeMode", "Filesystem"),
        "apps.v1.Deployment" => deployment,
        "apps.v1.ReplicaSet" => replica_set,
        "apps.v1.StatefulSet" => stateful_set,
        "apps.v1.DaemonSet" => daemon_set,
        "batch.v1.Job" => job,
        "batch.v1.CronJob" => cron_job,
        "batch.v1.JobSpec" => |_| {},
        "batch.v1.PodFailurePolicyOnPodConditionsPattern" => |it| fill_text(it, "status", "True"),
        "networking.v1.NetworkPolicy" => network_policy,
        "networking.v1.IngressClass" => ingress_class,
        "rbac.v1.RoleRef" => |it| fill_text(it, "apiGroup", RBAC),
        "rbac.v1.Subject" => subject,
        "storage.v1.StorageClass" => storage_class,
        "storage.v1.CSIDriver" => csi_driver,
        "autoscaling.v1.HorizontalPodAutoscaler" => autoscaler_v1,
        "autoscaling.v2.HorizontalPodAutoscaler" => autoscaler,
        "scheduling.v1.PriorityClass" => |it| fill(it, "preemptionPolicy", "PreemptLowerPriority"),
        "admissionregistration.v1.ValidatingWebhook" => webhook,
        "admissionregistration.v1.MutatingWebhook" => mutating_webhook,
        "admissionregistration.v1.Rule"
        | "admissionregistration.v1.RuleWithOperations"
        | "admissionregistration.v1.NamedRuleWithOperations" => |it| fill(it, "scope", "*"),
        "admissionregistration.v1.ServiceReference"
        | "apiextensions.v1.ServiceReference"
        | "apiregistration.v1.ServiceReference" => |it| fill(it, "port", 443),
        "admissionregistration.v1.ValidatingAdmissionPolicySpec"
        | "admissionregistration.v1.MutatingAdmissionPolicySpec" => |it| fill(it, "failurePolicy", "Fail"),
        "admissionregistration.v1.MatchResources" => match_resources,
        "apiextensions.v1.CustomResourceDefinition" => custom_resource_definition,
        "flowcontrol.v1.FlowSchemaSpec" => |it| fill_number(it, "matchingPrecedence", 1000),
        "flowcontrol.v1.ExemptPriorityLevelConfiguration" => exempt_priority,
        "flowcontrol.v1.LimitedPriorityLevelConfiguration" => limited_priority,
        "flowcontrol.v1.QueuingConfiguration" => queuing,
        "resource.v1.DeviceToleration" => |it| fill_text(it, "operator", "Equal"),
        _ => return None,
    })
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn pod(pod: &mut Fields) {
    let Some(spec) = child(pod, "spec") else { return };
    if let Some(seconds) = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64)
        && seconds < 0
    {
        spec.insert("terminationGracePeriodSeconds".into(), 1.into());
    }
    for kind in ["containers", "initContainers"] {
        for container in elements(spec, kind) {
            if let Some(resources) = existing(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    fill(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for kind in ["containers", "initContainers"] {
            for container in elements(spec, kind) {
                for port in elements(container, "ports") {
                    let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
                    fill_number(port, "hostPort", number);
                }
            }
        }
    }
}

/// Only for pods, not for their templates.
fn requests_from_limits(resources: &mut Fields) {
    let Some(limits) = existing(resources, "limits").cloned() else { return };
    if let Some(requests) = child(resources, "requests") {
        for (key, limit) in limits {
            fill(requests, &key, limit);
        }
    }
}

fn pod_spec(spec: &mut Fields) {
    let account = match field_text(spec, "serviceAccountName") {
        "" => field_text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if account.is_empty() {
        spec.remove("serviceAccount");
    } else {
        spec.insert("serviceAccountName".into(), account.clone().into());
        spec.insert("serviceAccount".into(), account.into());
    }
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_text(spec, "schedulerName", "default-scheduler");
}

fn pod_status(status: &mut Fields) {
    let one = field_text(status, "podIP").to_owned();
    let first = status.get("podIPs").and_then(|ips| ips.get(0)?.get("ip")?.as_str()).unwrap_or_default().to_owned();
    if one.is_empty() && !first.is_empty() {
        status.insert("podIP".into(), first.into());
    } else if !one.is_empty() && one != first {
        status.insert("podIPs".into(), json!([{"ip": one}]));
    }
}

/// `Always` for what may change under its tag.
fn container(container: &mut Fields) {
    let policy = if is_latest(field_text(container, "image")) { "Always" } else { "IfNotPresent" };
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
}

/// Whether an image reference means the tag `latest`, by name or because it names none. A reference that cannot be
/// read has no tag at all.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[path..].find(':') {
        Some(colon) => (&name[..path + colon], Some(&name[path + colon + 1..])),
        None => (name, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let readable = !repository.is_empty()
        && repository.chars().all(|c| word(c) || "/:[]".contains(c))
        && !repository.rsplit('/').next().unwrap_or_default().chars().any(|c| c.is_ascii_uppercase())
        && repository.split('/').all(|part| !part.is_empty() && !part.starts_with(['-', '.', '_']))
        && !repository.ends_with(['-', '.', '_'])
        && tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= 128 && tag.chars().all(word));
    readable && tag.map_or(digest.is_none(), |tag| tag == "latest")
}

fn protocol(port: &mut Fields) {
    fill_text(port, "protocol", "TCP");
}

fn slice_port(port: &mut Fields) {
    fill(port, "name", "");
    fill(port, "protocol", "TCP");
}

fn probe(probe: &mut Fields) {
    fill_number(probe, "timeoutSeconds", 1);
    fill_number(probe, "periodSeconds", 10);
    fill_number(probe, "successThreshold", 1);
    fill_number(probe, "failureThreshold", 3);
}

fn http_get(action: &mut Fields) {
    fill_text(action, "path", "/");
    fill_text(action, "scheme", "HTTP");
}

fn volume(volume: &mut Fields) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    if let Some(image) = existing(volume, "image") {
        let policy = if is_latest(field_text(image, "reference")) { "Always" } else { "IfNotPresent" };
        fill_text(image, "pullPolicy", policy);
    }
}

fn rbd(source: &mut Fields) {
    fill_text(source, "pool", "rbd");
    fill_text(source, "user", "admin");
    fill_text(source, "keyring", "/etc/ceph/keyring");
}

fn azure_disk(source: &mut Fields) {
    fill(source, "cachingMode", "ReadWrite");
    fill(source, "fsType", "ext4");
    fill(source, "readOnly", false);
    fill(source, "kind", "Shared");
}

fn scale_io(source: &mut Fields) {
    fill_text(source, "storageMode", "ThinProvisioned");
    fill_text(source, "fsType", "xfs");
}

fn replication_controller(controller: &mut Fields) {
    let labels = controller.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels")).cloned();
    let Some(Value::Object(labels)) = labels else { return };
    if let Some(spec) = existing(controller, "spec")
        && spec.get("selector").and_then(Value::as_object).is_none_or(Fields::is_empty)
    {
        spec.insert("selector".into(), labels.clone().into());
    }
    labels_unless_any(controller, labels);
}

fn labels_unless_any(object: &mut Fields, labels: Fields) {
    if let Some(meta) = child(object, "metadata")
        && meta.get("labels").and_then(Value::as_object).is_none_or(Fields::is_empty)
    {
        meta.insert("labels".into(), labels.into());
    }
}

fn service(service: &mut Fields) {
    let Some(spec) = child(service, "spec") else { return };
    fill_text(spec, "sessionAffinity", "None");
    match field_text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let timeout = spec.get("sessionAffinityConfig").and_then(|it| it.pointer("/clientIP/timeoutSeconds"));
            if timeout.is_none_or(Value::is_null) {
                spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": 10800}}));
            }
        }
        _ => {}
    }
    fill_text(spec, "type", "ClusterIP");
    for port in elements(spec, "ports") {
        let target = port.get("targetPort");
        if target.is_none_or(|it| it.is_null() || it.as_i64() == Some(0) || it.as_str() == Some("")) {
            let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
            port.insert("targetPort".into(), number);
        }
    }
    let kind = field_text(spec, "type").to_owned();
    let external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if kind == "LoadBalancer" || kind == "NodePort" || (kind == "ClusterIP" && external) {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    } else if kind == "ExternalName" {
        // Old versions stored it, and it is hidden when read.
        spec.remove("internalTrafficPolicy");
    }
    if kind != "LoadBalancer" {
        return;
    }
    fill(spec, "allocateLoadBalancerNodePorts", true);
    if let Some(balancer) = existing(service, "status").and_then(|status| existing(status, "loadBalancer")) {
        for address in elements(balancer, "ingress").filter(|address| !field_text(address, "ip").is_empty()) {
            fill(address, "ipMode", "VIP");
        }
    }
}

/// The plain texts join the data, and win; the real one does this when it decodes.
fn secret(secret: &mut Fields) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    fill_text(secret, "type", "Opaque");
    if secret.get("stringData").is_none_or(Value::is_null) {
        secret.remove("stringData");
        return;
    }
    let all_text = secret["stringData"].as_object().is_some_and(|map| map.values().all(Value::is_string));
    if !all_text {
        return;
    }
    if let Some(Value::Object(plain)) = secret.remove("stringData")
        && !plain.is_empty()
        && let Some(data) = child(secret, "data")
    {
        for (key, value) in plain {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
}

fn namespace(namespace: &mut Fields) {
    let name = namespace.get("metadata").and_then(|meta| meta.get("name")?.as_str()).unwrap_or_default().to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = child(namespace, "metadata").and_then(|meta| child(meta, "labels")) {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

fn node_status(status: &mut Fields) {
    if let Some(capacity) = status.get("capacity").cloned() {
        fill(status, "allocatable", capacity);
    }
}

fn limit_range_item(item: &mut Fields) {
    if field_text(item, "type") != "Container" {
        return;
    }
    let max = existing(item, "max").cloned().unwrap_or_default();
    let min = existing(item, "min").cloned().unwrap_or_default();
    let Some(limits) = child(item, "default") else { return };
    for (key, value) in max {
        fill(limits, &key, value);
    }
    let limits = limits.clone();
    let Some(requests) = child(item, "defaultRequest") else { return };
    for (key, value) in limits.into_iter().chain(min) {
        fill(requests, &key, value);
    }
}

fn persistent_volume(volume: &mut Fields) {
    if let Some(status) = child(volume, "status") {
        fill_text(status, "phase", "Pending");
    }
    if let Some(spec) = child(volume, "spec") {
        fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
    }
}

fn persistent_volume_claim(claim: &mut Fields) {
    if let Some(status) = child(claim, "status") {
        fill_text(status, "phase", "Pending");
    }
}

fn deployment(deployment: &mut Fields) {
    let Some(spec) = child(deployment, "spec") else { return };
    fill(spec, "replicas", 1);
    if let Some(strategy) = child(spec, "strategy") {
        fill_text(strategy, "type", "RollingUpdate");
        if field_text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

fn replica_set(set: &mut Fields) {
    if let Some(spec) = child(set, "spec") {
        fill(spec, "replicas", 1);
    }
}

fn stateful_set(set: &mut Fields) {
    let Some(spec) = child(set, "spec") else { return };
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child(spec, "updateStrategy") {
        if field_text(strategy, "type").is_empty() {
            fill_text(strategy, "type", "RollingUpdate");
            fill(strategy, "rollingUpdate", json!({}));
        }
        if field_text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = existing(strategy, "rollingUpdate")
        {
            fill(rolling, "partition", 0);
            fill(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(retention) = child(spec, "persistentVolumeClaimRetentionPolicy") {
        fill_text(retention, "whenDeleted", "Retain");
        fill_text(retention, "whenScaled", "Retain");
    }
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    for claim in elements(spec, "volumeClaimTemplates") {
        fill_text(claim, "apiVersion", "v1");
        fill_text(claim, "kind", "PersistentVolumeClaim");
    }
}

fn daemon_set(set: &mut Fields) {
    if let Some(annotations) = child(set, "metadata").and_then(|meta| child(meta, "annotations")) {
        fill(annotations, TEMPLATE_GENERATION, "0");
    }
    let Some(spec) = child(set, "spec") else { return };
    if let Some(strategy) = child(spec, "updateStrategy") {
        fill_text(strategy, "type", "RollingUpdate");
        if field_text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
}

fn job(job: &mut Fields) {
    let labels = job.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels")).cloned();
    let Some(spec) = child(job, "spec") else { return };
    let unset = |spec: &Fields, key: &str| spec.get(key).is_none_or(Value::is_null);
    if unset(spec, "completions") && unset(spec, "parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let backoff = if unset(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    fill(spec, "backoffLimit", backoff);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = if unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", false);
    if let Some(Value::Object(labels)) = labels {
        labels_unless_any(job, labels);
    }
}

fn cron_job(job: &mut Fields) {
    let Some(spec) = child(job, "spec") else { return };
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
}

fn network_policy(policy: &mut Fields) {
    let Some(spec) = child(policy, "spec") else { return };
    if spec.get("policyTypes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

fn ingress_class(class: &mut Fields) {
    if let Some(parameters) = child(class, "spec").and_then(|spec| existing(spec, "parameters")) {
        fill(parameters, "scope", "Cluster");
    }
}

fn subject(subject: &mut Fields) {
    if matches!(field_text(subject, "kind"), "User" | "Group") {
        fill_text(subject, "apiGroup", RBAC);
    }
}

fn storage_class(class: &mut Fields) {
    fill(class, "reclaimPolicy", "Delete");
    fill(class, "volumeBindingMode", "Immediate");
}

fn csi_driver(driver: &mut Fields) {
    let Some(spec) = child(driver, "spec") else { return };
    fill(spec, "attachRequired", true);
    fill(spec, "podInfoOnMount", false);
    fill(spec, "storageCapacity", false);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
    fill(spec, "requiresRepublish", false);
    fill(spec, "seLinuxMount", false);
    fill(spec, "preventPodSchedulingIfMissing", false);
}

fn autoscaler_v1(autoscaler: &mut Fields) {
    if let Some(spec) = child(autoscaler, "spec") {
        fill(spec, "minReplicas", 1);
        fill(spec, "targetCPUUtilizationPercentage", 80);
    }
}

fn autoscaler(autoscaler: &mut Fields) {
    let Some(spec) = child(autoscaler, "spec") else { return };
    fill(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec.insert("metrics".into(), json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    let Some(behavior) = existing(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = child(behavior, "scaleUp") {
        fill(up, "stabilizationWindowSeconds", 0);
        fill(up, "selectPolicy", "Max");
        fill(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
    }
    if let Some(down) = child(behavior, "scaleDown") {
        fill(down, "selectPolicy", "Max");
        fill(down, "policies", json!([percent]));
    }
}

fn webhook(webhook: &mut Fields) {
    fill(webhook, "failurePolicy", "Fail");
    match_resources(webhook);
    fill(webhook, "timeoutSeconds", 10);
}

fn mutating_webhook(hook: &mut Fields) {
    webhook(hook);
    fill(hook, "reinvocationPolicy", "Never");
}

fn match_resources(it: &mut Fields) {
    fill(it, "matchPolicy", "Equivalent");
    fill(it, "namespaceSelector", json!({}));
    fill(it, "objectSelector", json!({}));
}

fn custom_resource_definition(definition: &mut Fields) {
    let Some(spec) = child(definition, "spec") else { return };
    fill(spec, "conversion", json!({"strategy": "None"}));
    if let Some(names) = child(spec, "names") {
        let kind = field_text(names, "kind").to_owned();
        fill_text(names, "singular", &kind.to_lowercase());
        if !kind.is_empty() {
            fill_text(names, "listKind", &format!("{kind}List"));
        }
    }
    let stored = spec.get("versions").and_then(Value::as_array).and_then(|versions| {
        versions.iter().find(|version| version["storage"] == json!(true)).map(|version| version["name"].clone())
    });
    if let Some(stored) = stored
        && let Some(status) = child(definition, "status")
        && status.get("storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        status.insert("storedVersions".into(), json!([stored]));
    }
}

fn exempt_priority(level: &mut Fields) {
    fill(level, "nominalConcurrencyShares", 0);
    fill(level, "lendablePercent", 0);
}

fn limited_priority(level: &mut Fields) {
    fill(level, "nominalConcurrencyShares", 30);
    fill(level, "lendablePercent", 0);
}

fn queuing(it: &mut Fields) {
    fill_number(it, "handSize", 8);
    fill_number(it, "queues", 64);
    fill_number(it, "queueLengthLimit", 50);
}
