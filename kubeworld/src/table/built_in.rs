//! The cells of built-in kinds: what the API server's printers say of an object.
//!
//! One function for each kind that says more than its name and age. All are total over any JSON: what is missing or of
//! another type counts as empty, as it would in a Go struct.

mod pod;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::duration;

/// All cells of an object, the wide ones included.
pub(super) fn cells(group: &str, resource: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let this = Object { value: object, now };
    match (group, resource) {
        ("", "pods") => pod::cells(&this),
        ("", "podtemplates") => {
            let (names, images) = this.containers("/template/spec/containers");
            vec![this.name(), names, images, json!(labels(this.at("/template/metadata/labels")))]
        }
        ("", "replicationcontrollers") => {
            let (names, images) = this.containers("/spec/template/spec/containers");
            let selector = json!(labels(this.at("/spec/selector")));
            [this.replicas(), vec![names, images, selector]].concat()
        }
        ("", "services") => service(&this),
        ("", "endpoints") => vec![this.name(), json!(endpoints(&this)), this.age()],
        ("", "nodes") => node(&this),
        ("", "namespaces") => vec![this.name(), this.cell("/status/phase"), this.age()],
        ("", "secrets") => vec![this.name(), this.cell("/type"), this.size(&["/data"]), this.age()],
        ("", "configmaps") => vec![this.name(), this.size(&["/data", "/binaryData"]), this.age()],
        ("", "persistentvolumes") => persistent_volume(&this),
        ("", "persistentvolumeclaims") => persistent_volume_claim(&this),
        ("", "events") | ("events.k8s.io", "events") => event(&this),
        ("", "resourcequotas") => resource_quota(&this),
        ("", "componentstatuses") => component_status(&this),
        ("apps", "deployments") => deployment(&this),
        ("apps", "replicasets") => {
            let (names, images) = this.containers("/spec/template/spec/containers");
            let selector = json!(selector_or_none(this.at("/spec/selector")));
            [this.replicas(), vec![names, images, selector]].concat()
        }
        ("apps", "statefulsets") => {
            let (names, images) = this.containers("/spec/template/spec/containers");
            let ready = format!("{}/{}", this.int("/status/readyReplicas"), this.int("/spec/replicas"));
            vec![this.name(), json!(ready), this.age(), names, images]
        }
        ("apps", "daemonsets") => daemon_set(&this),
        ("apps", "controllerrevisions") => {
            vec![this.name(), json!(controller(&this)), json!(this.int("/revision")), this.age()]
        }
        ("batch", "jobs") => job(&this),
        ("batch", "cronjobs") => cron_job(&this),
        ("autoscaling", super::SCALES) => {
            vec![this.name(), json!(this.int("/spec/replicas")), json!(this.int("/status/replicas")), this.age()]
        }
        ("autoscaling", "horizontalpodautoscalers") => horizontal_pod_autoscaler(&this),
        ("discovery.k8s.io", "endpointslices") => {
            let [ports, addresses] = [slice_ports(&this), slice_addresses(&this)];
            vec![this.name(), this.cell("/addressType"), json!(ports), json!(addresses), this.age()]
        }
        ("networking.k8s.io", "ingresses") => ingress(&this),
        ("networking.k8s.io", "ingressclasses") => ingress_class(&this),
        ("networking.k8s.io", "networkpolicies") => {
            vec![this.name(), json!(selector_or_none(this.at("/spec/podSelector"))), this.age()]
        }
        ("networking.k8s.io", "servicecidrs") => {
            vec![this.name(), json!(this.texts("/spec/cidrs").join(",")), this.age()]
        }
        ("networking.k8s.io", "ipaddresses") => vec![this.name(), json!(ip_address_parent(&this)), this.age()],
        ("policy", "poddisruptionbudgets") => {
            let or_not = |path| this.shown(path).unwrap_or_else(|| "N/A".to_owned());
            let (min, max) = (or_not("/spec/minAvailable"), or_not("/spec/maxUnavailable"));
            vec![this.name(), json!(min), json!(max), json!(this.int("/status/disruptionsAllowed")), this.age()]
        }
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => vec![this.name(), this.created_at()],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(&this),
        ("storage.k8s.io", "storageclasses") => storage_class(&this),
        ("storage.k8s.io", "csinodes") => vec![this.name(), json!(this.list("/spec/drivers").len()), this.age()],
        ("storage.k8s.io", "csidrivers") => csi_driver(&this),
        ("storage.k8s.io", "volumeattachments") => {
            let [attacher, volume, node] =
                ["/spec/attacher", "/spec/source/persistentVolumeName", "/spec/nodeName"].map(|path| this.cell(path));
            vec![this.name(), attacher, volume, node, json!(this.is("/status/attached")), this.age()]
        }
        ("storage.k8s.io", "volumeattributesclasses") => vec![this.name(), this.cell("/driverName"), this.age()],
        ("coordination.k8s.io", "leases") => vec![this.name(), this.cell("/spec/holderIdentity"), this.age()],
        ("scheduling.k8s.io", "priorityclasses") => {
            let (value, global) = (json!(this.int("/value")), json!(this.is("/globalDefault")));
            vec![this.name(), value, global, this.age(), this.cell("/preemptionPolicy")]
        }
        ("node.k8s.io", "runtimeclasses") => vec![this.name(), this.cell("/handler"), this.age()],
        ("certificates.k8s.io", "certificatesigningrequests") => certificate_signing_request(&this),
        ("certificates.k8s.io", "clustertrustbundles") => {
            vec![this.name(), json!(this.text_or("/spec/signerName", "<none>"))]
        }
        ("certificates.k8s.io", "podcertificaterequests") => pod_certificate_request(&this),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow_schema(&this),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => priority_level(&this),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            vec![this.name(), json!(this.list("/webhooks").len()), this.age()]
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => policy(&this, "/spec/validations"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => policy(&this, "/spec/mutations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings") => {
            vec![this.name(), this.cell("/spec/policyName"), json!(policy_parameter(&this)), this.age()]
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => custom_resource_definition(&this),
        ("apiregistration.k8s.io", "apiservices") => api_service(&this),
        ("resource.k8s.io", "resourceclaims") => vec![this.name(), json!(resource_claim_state(&this)), this.age()],
        ("resource.k8s.io", "devicetaintrules") => {
            let [key, value, effect] =
                ["key", "value", "effect"].map(|field| this.cell(&format!("/spec/taint/{field}")));
            let added = json!(this.since("/spec/taint/timeAdded").unwrap_or_default());
            vec![this.name(), key, value, effect, added, this.age()]
        }
        ("resource.k8s.io", "resourceslices") => {
            let [node, driver, pool] =
                ["/spec/nodeName", "/spec/driver", "/spec/pool/name"].map(|path| this.cell(path));
            vec![this.name(), node, driver, pool, this.age()]
        }
        ("", "serviceaccounts") | ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => {
            vec![this.name(), this.age()]
        }
        // What the real server has no printer for says when it was made.
        (_, _) => vec![this.name(), this.created_at()],
    }
}

/// The class that a list marks as the default: of those that say so, the youngest, and of these the first by name.
pub(super) fn default_storage_class<'a>(classes: &[&'a Value]) -> Option<&'a str> {
    let annotated = |class: &&&Value| {
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|name| class["metadata"]["annotations"][*name] == "true")
    };
    let key = |class: &&'a Value| {
        let text = |field: &str| class["metadata"][field].as_str().unwrap_or_default();
        (text("creationTimestamp"), std::cmp::Reverse(text("name")))
    };
    let default = classes.iter().filter(annotated).copied().max_by_key(key)?;
    default["metadata"]["name"].as_str()
}

/// An object to be shown, with access to its fields by JSON pointer.
struct Object<'a> {
    value: &'a Value,
    now: Timestamp,
}

impl<'a> Object<'a> {
    fn at(&self, path: &str) -> &'a Value {
        self.value.pointer(path).unwrap_or(&Value::Null)
    }

    fn text(&self, path: &str) -> &'a str {
        self.at(path).as_str().unwrap_or_default()
    }

    fn text_or(&self, path: &str, empty: &'a str) -> &'a str {
        match self.text(path) {
            "" => empty,
            text => text,
        }
    }

    fn cell(&self, path: &str) -> Value {
        json!(self.text(path))
    }

    fn int(&self, path: &str) -> i64 {
        self.at(path).as_i64().unwrap_or_default()
    }

    fn is(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or_default()
    }

    /// A number or a text, which a quantity and a share may be either of.
    fn shown(&self, path: &str) -> Option<String> {
        shown(self.at(path))
    }

    fn list(&self, path: &str) -> &'a [Value] {
        list(self.at(path))
    }

    fn texts(&self, path: &str) -> Vec<&'a str> {
        self.list(path).iter().filter_map(Value::as_str).collect()
    }

    /// How many entries some maps have together.
    fn size(&self, paths: &[&str]) -> Value {
        json!(paths.iter().map(|path| self.at(path).as_object().map_or(0, serde_json::Map::len)).sum::<usize>())
    }

    fn name(&self) -> Value {
        self.cell("/metadata/name")
    }

    fn age(&self) -> Value {
        json!(self.since("/metadata/creationTimestamp").unwrap_or_else(unknown))
    }

    fn created_at(&self) -> Value {
        // Go's zero time is what an object without one has.
        json!(self.text_or("/metadata/creationTimestamp", "0001-01-01T00:00:00Z"))
    }

    fn time(&self, path: &str) -> Option<Timestamp> {
        self.text(path).parse().ok()
    }

    fn since(&self, path: &str) -> Option<String> {
        self.time(path).map(|time| duration::since(time, self.now))
    }

    fn is_terminating(&self) -> bool {
        !self.at("/metadata/deletionTimestamp").is_null()
    }

    /// The names and images of containers.
    fn containers(&self, path: &str) -> (Value, Value) {
        let joined = |field: &str| {
            let texts = self.list(path).iter().map(|container| container[field].as_str().unwrap_or_default());
            json!(texts.collect::<Vec<_>>().join(","))
        };
        (joined("name"), joined("image"))
    }

    /// Name, replicas wanted, there and ready, and age.
    fn replicas(&self) -> Vec<Value> {
        let [desired, current, ready] =
            ["/spec/replicas", "/status/replicas", "/status/readyReplicas"].map(|path| json!(self.int(path)));
        vec![self.name(), desired, current, ready, self.age()]
    }
}

fn unknown() -> String {
    "<unknown>".to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The status of the first condition of a type.
fn condition<'a>(conditions: &'a [Value], of: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition["type"] == of)
}

fn is_true(conditions: &[Value], of: &str) -> bool {
    condition(conditions, of).is_some_and(|condition| condition["status"] == "True")
}

/// A map of labels, or that there are none.
fn labels(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let text = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect::<Vec<_>>();
    if text.is_empty() { "<none>".to_owned() } else { text.join(",") }
}

/// A label selector as text, its parts by key; none where an operator is unknown.
fn selector(selector: &Value) -> Option<String> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push((key, format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in list(&selector["matchExpressions"]) {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: BTreeSet<&str> = list(&expression["values"]).iter().filter_map(Value::as_str).collect();
        let values = values.into_iter().collect::<Vec<_>>().join(",");
        let part = match expression["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        };
        parts.push((key, part));
    }
    parts.sort_by_key(|(key, _)| *key);
    Some(parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(","))
}

fn selector_or_none(value: &Value) -> String {
    match selector(value) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
    }
}

/// How many parts of a list are shown before it is only said how many more there are.
const PARTS_SHOWN: usize = 3;

/// The first parts of a list, and how many more.
fn some_of(parts: &[String], empty: &str) -> String {
    let text = parts.iter().take(PARTS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    match parts.len().checked_sub(PARTS_SHOWN) {
        Some(more) if more > 0 => format!("{text} + {more} more..."),
        _ if text.is_empty() => empty.to_owned(),
        _ => text,
    }
}

/// The addresses of a load balancer, each once and in order.
fn load_balancer(this: &Object<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for ingress in this.list("/status/loadBalancer/ingress") {
        let address =
            ["ip", "hostname"].iter().filter_map(|field| ingress[*field].as_str()).find(|text| !text.is_empty());
        found.extend(address.map(str::to_owned));
    }
    found.into_iter().collect()
}

fn service(this: &Object<'_>) -> Vec<Value> {
    let external = this.texts("/spec/externalIPs");
    let external_ip = match this.text("/spec/type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut addresses = load_balancer(this);
            addresses.extend(external.into_iter().map(str::to_owned));
            if addresses.is_empty() { "<pending>".to_owned() } else { addresses.join(",") }
        }
        "ExternalName" => this.text("/spec/externalName").to_owned(),
        _ => unknown(),
    };
    let ports = this.list("/spec/ports").iter().map(|port| {
        let (number, protocol) =
            (port["port"].as_i64().unwrap_or_default(), port["protocol"].as_str().unwrap_or_default());
        match port["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    vec![
        this.name(),
        this.cell("/spec/type"),
        json!(this.text_or("/spec/clusterIPs/0", "<none>")),
        json!(external_ip),
        json!(if ports.is_empty() { "<none>" } else { &ports }),
        this.age(),
        json!(labels(this.at("/spec/selector"))),
    ]
}

/// Addresses with ports; only addresses where a subset has no ports.
fn endpoints(this: &Object<'_>) -> String {
    let mut found = Vec::new();
    for subset in this.list("/subsets") {
        let ips = || list(&subset["addresses"]).iter().map(|address| address["ip"].as_str().unwrap_or_default());
        let ports = list(&subset["ports"]);
        if ports.is_empty() {
            found.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = port["port"].as_i64().unwrap_or_default();
            found.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    some_of(&found, if this.list("/subsets").is_empty() { "<none>" } else { "" })
}

fn slice_ports(this: &Object<'_>) -> String {
    let ports = this.list("/ports").iter().map(|port| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    });
    some_of(&ports.collect::<Vec<_>>(), "<unset>")
}

fn slice_addresses(this: &Object<'_>) -> String {
    let addresses = this.list("/endpoints").iter().flat_map(|endpoint| list(&endpoint["addresses"]));
    some_of(&addresses.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>(), "<unset>")
}

fn node(this: &Object<'_>) -> Vec<Value> {
    // The last one of a type counts, as in a map that is filled in order.
    let ready = this.list("/status/conditions").iter().rev().find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if this.is("/spec/unschedulable") {
        status += ",SchedulingDisabled";
    }
    let mut roles = BTreeSet::new();
    for (key, value) in this.at("/metadata/labels").as_object().into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => "",
        };
        if !role.is_empty() {
            roles.insert(role);
        }
    }
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    let address = |of: &str| {
        let found = this.list("/status/addresses").iter().find(|address| address["type"] == of);
        found.map_or("<none>", |address| address["address"].as_str().unwrap_or_default())
    };
    let info = |field: &str| this.text_or(&format!("/status/nodeInfo/{field}"), "<unknown>");
    let kernel = match this.text("/status/nodeInfo/architecture") {
        "" => info("kernelVersion").to_owned(),
        architecture => format!("{} ({architecture})", info("kernelVersion")),
    };
    vec![
        this.name(),
        json!(status),
        json!(if roles.is_empty() { "<none>" } else { &roles }),
        this.age(),
        this.cell("/status/nodeInfo/kubeletVersion"),
        json!(address("InternalIP")),
        json!(address("ExternalIP")),
        json!(info("osImage")),
        json!(kernel),
        json!(info("containerRuntimeVersion")),
    ]
}

/// Access modes in short, in an order of their own.
fn access_modes(modes: &[&str]) -> String {
    let known =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found = known.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short);
    found.collect::<Vec<_>>().join(",")
}

/// The class of a volume or claim: an annotation of old goes first.
fn storage_class_name<'a>(this: &Object<'a>) -> &'a str {
    let annotation = this.at("/metadata/annotations/volume.beta.kubernetes.io~1storage-class").as_str();
    annotation.unwrap_or_else(|| this.text("/spec/storageClassName"))
}

/// The phase of a volume or claim.
fn volume_phase<'a>(this: &Object<'a>) -> &'a str {
    if this.is_terminating() { "Terminating" } else { this.text("/status/phase") }
}

/// A text that may be absent, which is not the same as empty.
fn or_unset<'a>(this: &Object<'a>, path: &str) -> &'a str {
    this.at(path).as_str().unwrap_or("<unset>")
}

fn persistent_volume(this: &Object<'_>) -> Vec<Value> {
    let claim = if this.at("/spec/claimRef").is_object() {
        format!("{}/{}", this.text("/spec/claimRef/namespace"), this.text("/spec/claimRef/name"))
    } else {
        String::new()
    };
    vec![
        this.name(),
        json!(this.shown("/spec/capacity/storage").unwrap_or_else(|| "0".to_owned())),
        json!(access_modes(&this.texts("/spec/accessModes"))),
        this.cell("/spec/persistentVolumeReclaimPolicy"),
        json!(volume_phase(this)),
        json!(claim),
        json!(storage_class_name(this)),
        json!(or_unset(this, "/spec/volumeAttributesClassName")),
        this.cell("/status/reason"),
        this.age(),
        json!(or_unset(this, "/spec/volumeMode")),
    ]
}

fn persistent_volume_claim(this: &Object<'_>) -> Vec<Value> {
    let is_bound = !this.text("/spec/volumeName").is_empty();
    let (capacity, modes) = if is_bound {
        let capacity = this.shown("/status/capacity/storage").unwrap_or_else(|| "0".to_owned());
        (capacity, access_modes(&this.texts("/status/accessModes")))
    } else {
        (String::new(), String::new())
    };
    vec![
        this.name(),
        json!(volume_phase(this)),
        this.cell("/spec/volumeName"),
        json!(capacity),
        json!(modes),
        json!(storage_class_name(this)),
        json!(or_unset(this, "/spec/volumeAttributesClassName")),
        this.age(),
        json!(or_unset(this, "/spec/volumeMode")),
    ]
}

/// An event of either group: the newer one has other names for the same fields.
fn event(this: &Object<'_>) -> Vec<Value> {
    let since = |paths: [&str; 2]| paths.iter().find_map(|path| this.since(path));
    let first = since(["/firstTimestamp", "/deprecatedFirstTimestamp"]);
    let first = first.or_else(|| this.since("/eventTime")).unwrap_or_else(unknown);
    let last = since(["/lastTimestamp", "/deprecatedLastTimestamp"]).unwrap_or_else(|| first.clone());
    let counted = match this.int("/count") {
        0 => this.int("/deprecatedCount"),
        count => count,
    };
    let (last, count) = if this.at("/series").is_object() {
        (this.since("/series/lastObservedTime").unwrap_or_else(unknown), this.int("/series/count"))
    } else {
        (last, counted.max(1))
    };
    let either =
        |paths: [&str; 2]| paths.iter().map(|path| this.text(path)).find(|text| !text.is_empty()).unwrap_or("");
    let about = |field: &str| either([&format!("/involvedObject/{field}"), &format!("/regarding/{field}")]);
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let reporter =
        |fields: [&str; 3]| fields.iter().map(|path| this.text(path)).find(|text| !text.is_empty()).unwrap_or_default();
    let component = reporter(["/source/component", "/deprecatedSource/component", "/reportingController"]);
    // The two groups have different names for the instance.
    let component = if component.is_empty() { this.text("/reportingComponent") } else { component };
    let instance = reporter(["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let source = if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") };
    vec![
        json!(last),
        this.cell("/type"),
        this.cell("/reason"),
        json!(target),
        json!(about("fieldPath")),
        json!(source),
        json!(either(["/message", "/note"]).trim()),
        json!(first),
        json!(count),
        this.name(),
    ]
}

fn resource_quota(this: &Object<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard: BTreeMap<&String, &Value> = this.at("/status/hard").as_object().into_iter().flatten().collect();
    for (resource, hard) in hard {
        let used = shown(&this.at("/status/used")[resource]).unwrap_or_else(|| "0".to_owned());
        let part = format!("{resource}: {used}/{}", shown(hard).unwrap_or_default());
        if resource.starts_with("limits.") { limits.push(part) } else { requests.push(part) }
    }
    vec![this.name(), json!(requests.join(", ")), json!(limits.join(", ")), this.age()]
}

fn component_status(this: &Object<'_>) -> Vec<Value> {
    let healthy = condition(this.list("/conditions"), "Healthy").unwrap_or(&Value::Null);
    let status = match healthy["status"].as_str() {
        None => "Unknown",
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
    };
    let text = |field: &str| json!(healthy[field].as_str().unwrap_or_default());
    vec![this.name(), json!(status), text("message"), text("error")]
}

fn deployment(this: &Object<'_>) -> Vec<Value> {
    let (names, images) = this.containers("/spec/template/spec/containers");
    vec![
        this.name(),
        json!(format!("{}/{}", this.int("/status/readyReplicas"), this.int("/spec/replicas"))),
        json!(this.int("/status/updatedReplicas")),
        json!(this.int("/status/availableReplicas")),
        this.age(),
        names,
        images,
        json!(selector(this.at("/spec/selector")).unwrap_or_else(|| "<invalid>".to_owned())),
    ]
}

fn daemon_set(this: &Object<'_>) -> Vec<Value> {
    let (names, images) = this.containers("/spec/template/spec/containers");
    let counts = [
        "/status/desiredNumberScheduled",
        "/status/currentNumberScheduled",
        "/status/numberReady",
        "/status/updatedNumberScheduled",
        "/status/numberAvailable",
    ];
    let mut cells = vec![this.name()];
    cells.extend(counts.iter().map(|path| json!(this.int(path))));
    cells.extend([json!(labels(this.at("/spec/template/spec/nodeSelector"))), this.age(), names, images]);
    cells.push(json!(selector_or_none(this.at("/spec/selector"))));
    cells
}

/// The controller among the owners, as `kind.group/name`.
fn controller(this: &Object<'_>) -> String {
    let owner = this.list("/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
    let Some(owner) = owner else { return "<none>".to_owned() };
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = if group.is_empty() { text("kind").to_owned() } else { format!("{}.{group}", text("kind")) };
    format!("{}/{}", kind.to_lowercase(), text("name"))
}

fn job(this: &Object<'_>) -> Vec<Value> {
    let succeeded = this.int("/status/succeeded");
    let completions = match (this.at("/spec/completions").as_i64(), this.int("/spec/parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let took = match (this.time("/status/startTime"), this.time("/status/completionTime")) {
        (None, _) => String::new(),
        (Some(start), None) => duration::since(start, this.now),
        (Some(start), Some(end)) => duration::since(start, end),
    };
    let conditions = this.list("/status/conditions");
    let status = match () {
        () if is_true(conditions, "Complete") => "Complete",
        () if is_true(conditions, "Failed") => "Failed",
        () if this.is_terminating() => "Terminating",
        () if is_true(conditions, "Suspended") => "Suspended",
        () if is_true(conditions, "FailureTarget") => "FailureTarget",
        () if is_true(conditions, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let (names, images) = this.containers("/spec/template/spec/containers");
    let selector = json!(selector_or_none(this.at("/spec/selector")));
    vec![this.name(), json!(status), json!(completions), json!(took), this.age(), names, images, selector]
}

fn cron_job(this: &Object<'_>) -> Vec<Value> {
    let template = "/spec/jobTemplate/spec";
    let (names, images) = this.containers(&format!("{template}/template/spec/containers"));
    let suspend = match this.at("/spec/suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        this.name(),
        this.cell("/spec/schedule"),
        json!(this.at("/spec/timeZone").as_str().unwrap_or("<none>")),
        json!(suspend),
        json!(this.list("/status/active").len()),
        json!(this.since("/status/lastScheduleTime").unwrap_or_else(|| "<none>".to_owned())),
        this.age(),
        names,
        images,
        json!(selector_or_none(this.at(&format!("{template}/selector")))),
    ]
}

fn horizontal_pod_autoscaler(this: &Object<'_>) -> Vec<Value> {
    let of = format!("{}/{}", this.text("/spec/scaleTargetRef/kind"), this.text("/spec/scaleTargetRef/name"));
    vec![
        this.name(),
        json!(of),
        json!(metrics(this)),
        json!(this.shown("/spec/minReplicas").unwrap_or_else(|| "<unset>".to_owned())),
        json!(this.int("/spec/maxReplicas")),
        json!(this.int("/status/currentReplicas")),
        this.age(),
    ]
}

/// How many metrics are shown before it is only said how many more there are.
const METRICS_SHOWN: usize = 2;

fn metrics(this: &Object<'_>) -> String {
    let current = this.list("/status/currentMetrics");
    let percent = |value: &Value| value.as_i64().map(|number| format!("{number}%"));
    let specs = this.list("/spec/metrics").iter().enumerate();
    let mut all: Vec<String> = specs.map(|(i, spec)| metric(spec, current.get(i).unwrap_or(&Value::Null))).collect();
    // The first version of the API knows one metric only, by its share.
    if let Some(target) = percent(this.at("/spec/targetCPUUtilizationPercentage")) {
        let current = percent(this.at("/status/currentCPUUtilizationPercentage")).unwrap_or_else(unknown);
        all.push(format!("cpu: {current}/{target}"));
    }
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let text = all.iter().take(METRICS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(METRICS_SHOWN) {
        0 => text,
        more => format!("{text} + {more} more..."),
    }
}

/// What a metric is and is to be, given its spec and its status.
fn metric(spec: &Value, status: &Value) -> String {
    let Some(source) = spec["type"].as_str() else { return "<unknown type>".to_owned() };
    let field = match source {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[field]["target"], &status[field]["current"]);
    let is_resource = matches!(source, "Resource" | "ContainerResource");
    let prefix =
        if is_resource { format!("{}: ", spec[field]["name"].as_str().unwrap_or_default()) } else { String::new() };
    let quantity = |value: &Value| shown(value);
    let percent = |value: &Value| value.as_i64().map(|number| format!("{number}%"));
    if let Some(average) = quantity(&target["averageValue"]) {
        let current = quantity(&current["averageValue"]).unwrap_or_else(unknown);
        let suffix = if is_resource || source == "Pods" { "" } else { " (avg)" };
        return format!("{prefix}{current}/{average}{suffix}");
    }
    if is_resource {
        let current = percent(&current["averageUtilization"]).unwrap_or_else(unknown);
        let target = percent(&target["averageUtilization"]).unwrap_or_else(|| "<auto>".to_owned());
        return format!("{prefix}{current}/{target}");
    }
    let current = quantity(&current["value"]).unwrap_or_else(unknown);
    format!("{current}/{}", quantity(&target["value"]).unwrap_or_else(|| "0".to_owned()))
}

fn ingress(this: &Object<'_>) -> Vec<Value> {
    let rules = this.list("/spec/rules");
    // Rules without a host take none of the places, but count among those that are not shown.
    let (mut hosts, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= hosts.len() == PARTS_SHOWN;
        if let (false, Some(host)) = (more, rule["host"].as_str().filter(|host| !host.is_empty())) {
            hosts.push(host);
        }
    }
    let hosts = match hosts.join(",") {
        text if text.is_empty() => "*".to_owned(),
        text if more => format!("{text} + {} more...", rules.len().saturating_sub(PARTS_SHOWN)),
        text => text,
    };
    let ports = if this.list("/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        this.name(),
        json!(this.at("/spec/ingressClassName").as_str().unwrap_or("<none>")),
        json!(hosts),
        json!(load_balancer(this).join(",")),
        json!(ports),
        this.age(),
    ]
}

fn ingress_class(this: &Object<'_>) -> Vec<Value> {
    let mut name = this.text("/metadata/name").to_owned();
    if this.text("/metadata/annotations/ingressclass.kubernetes.io~1is-default-class") == "true" {
        name += " (default)";
    }
    let parameters = if this.at("/spec/parameters").is_object() {
        let text = |field: &str| this.text(&format!("/spec/parameters/{field}"));
        let group = this.at("/spec/parameters/apiGroup").as_str().map(|group| format!(".{group}"));
        format!("{}{}/{}", text("kind"), group.unwrap_or_default(), text("name"))
    } else {
        "<none>".to_owned()
    };
    vec![json!(name), this.cell("/spec/controller"), json!(parameters), this.age()]
}

fn ip_address_parent(this: &Object<'_>) -> String {
    if !this.at("/spec/parentRef").is_object() {
        return "<none>".to_owned();
    }
    let text = |field: &str| this.text(&format!("/spec/parentRef/{field}"));
    let resource = match text("group") {
        "" => text("resource").to_owned(),
        group => format!("{}.{group}", text("resource")),
    };
    let namespace = if text("namespace").is_empty() { String::new() } else { format!("/{}", text("namespace")) };
    format!("{}{namespace}/{}", resource.to_lowercase(), text("name"))
}

fn binding(this: &Object<'_>) -> Vec<Value> {
    let role = format!("{}/{}", this.text("/roleRef/kind"), this.text("/roleRef/name"));
    let subjects = |kind: &str| {
        let of_kind = this.list("/subjects").iter().filter(|subject| subject["kind"] == kind);
        let text = |subject: &Value, field: &str| subject[field].as_str().unwrap_or_default().to_owned();
        let names = of_kind.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
            _ => text(subject, "name"),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    let [users, groups, accounts] = ["User", "Group", "ServiceAccount"].map(subjects);
    vec![this.name(), json!(role), this.age(), users, groups, accounts]
}

fn storage_class(this: &Object<'_>) -> Vec<Value> {
    vec![
        this.name(),
        this.cell("/provisioner"),
        json!(this.at("/reclaimPolicy").as_str().unwrap_or("Delete")),
        json!(this.at("/volumeBindingMode").as_str().unwrap_or("Immediate")),
        json!(this.is("/allowVolumeExpansion")),
        this.age(),
    ]
}

fn csi_driver(this: &Object<'_>) -> Vec<Value> {
    let modes = this.texts("/spec/volumeLifecycleModes").join(",");
    let audiences = |requests: &Vec<Value>| {
        let audiences = requests.iter().map(|request| request["audience"].as_str().unwrap_or_default());
        audiences.collect::<Vec<_>>().join(",")
    };
    let tokens = this.at("/spec/tokenRequests").as_array().map_or_else(|| "<unset>".to_owned(), audiences);
    vec![
        this.name(),
        json!(this.at("/spec/attachRequired").as_bool().unwrap_or(true)),
        json!(this.is("/spec/podInfoOnMount")),
        json!(this.is("/spec/storageCapacity")),
        json!(tokens),
        json!(this.is("/spec/requiresRepublish")),
        json!(if modes.is_empty() { "<none>" } else { &modes }),
        this.age(),
    ]
}

fn certificate_signing_request(this: &Object<'_>) -> Vec<Value> {
    let conditions = this.list("/status/conditions");
    let mut status = match () {
        () if condition(conditions, "Denied").is_some() => "Denied".to_owned(),
        () if condition(conditions, "Approved").is_some() => "Approved".to_owned(),
        () => "Pending".to_owned(),
    };
    if condition(conditions, "Failed").is_some() {
        status += ",Failed";
    }
    if !this.text("/status/certificate").is_empty() {
        status += ",Issued";
    }
    let lasts = this.at("/spec/expirationSeconds").as_i64();
    let lasts = lasts.map_or_else(|| "<none>".to_owned(), |lasts| duration::human(i128::from(lasts) * 1_000_000_000));
    vec![
        this.name(),
        this.age(),
        json!(this.text_or("/spec/signerName", "<none>")),
        this.cell("/spec/username"),
        json!(lasts),
        json!(status),
    ]
}

fn pod_certificate_request(this: &Object<'_>) -> Vec<Value> {
    let states = ["Issued", "Denied", "Failed"];
    let state = this
        .list("/status/conditions")
        .iter()
        .rev()
        .find_map(|condition| states.into_iter().find(|state| condition["type"] == *state));
    let mut cells = vec![this.name()];
    let fields = ["/spec/podName", "/spec/serviceAccountName", "/spec/nodeName", "/spec/signerName"];
    cells.extend(fields.iter().map(|path| this.cell(path)));
    cells.push(json!(state.unwrap_or("Pending")));
    cells.push(json!(labels(this.at("/spec/unverifiedUserAnnotations"))));
    cells
}

fn flow_schema(this: &Object<'_>) -> Vec<Value> {
    let dangling = condition(this.list("/status/conditions"), "Dangling");
    let by = if this.at("/spec/distinguisherMethod").is_object() {
        this.text("/spec/distinguisherMethod/type")
    } else {
        "<none>"
    };
    vec![
        this.name(),
        this.cell("/spec/priorityLevelConfiguration/name"),
        json!(this.int("/spec/matchingPrecedence")),
        json!(by),
        this.age(),
        json!(dangling.map_or("?", |condition| condition["status"].as_str().unwrap_or_default())),
    ]
}

fn priority_level(this: &Object<'_>) -> Vec<Value> {
    let none = json!("<none>");
    let shares = if this.at("/spec/limited").is_object() {
        this.at("/spec/limited/nominalConcurrencyShares").clone()
    } else {
        none.clone()
    };
    let queuing = "/spec/limited/limitResponse/queuing";
    let has_queues = this.at(queuing).is_object();
    let queue = |field: &str| {
        if has_queues { json!(this.int(&format!("{queuing}/{field}"))) } else { none.clone() }
    };
    vec![
        this.name(),
        this.cell("/spec/type"),
        shares,
        queue("queues"),
        queue("handSize"),
        queue("queueLengthLimit"),
        this.age(),
    ]
}

fn policy(this: &Object<'_>, rules: &str) -> Vec<Value> {
    let parameter = if this.at("/spec/paramKind").is_object() {
        format!("{}/{}", this.text("/spec/paramKind/apiVersion"), this.text("/spec/paramKind/kind"))
    } else {
        "<unset>".to_owned()
    };
    vec![this.name(), json!(this.list(rules).len()), json!(parameter), this.age()]
}

fn policy_parameter(this: &Object<'_>) -> String {
    let (name, selector) = (this.text("/spec/paramRef/name"), this.at("/spec/paramRef/selector"));
    match this.text("/spec/paramRef/namespace") {
        _ if name.is_empty() && selector.is_object() => go_selector(selector),
        _ if name.is_empty() => "<unset>".to_owned(),
        "" => format!("*/{name}"),
        namespace => format!("{namespace}/{name}"),
    }
}

/// A selector as the printer of Go's generated types has it, which nobody would choose.
fn go_selector(selector: &Value) -> String {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let pairs: String = pairs.map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default())).collect();
    let expressions = list(&selector["matchExpressions"]).iter().map(|expression| {
        let text = |field: &str| expression[field].as_str().unwrap_or_default();
        let values: Vec<&str> = list(&expression["values"]).iter().filter_map(Value::as_str).collect();
        let (key, operator, values) = (text("key"), text("operator"), values.join(" "));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn custom_resource_definition(this: &Object<'_>) -> Vec<Value> {
    let served = this.list("/spec/versions").iter().filter(|version| version["served"] == true);
    let mut versions: Vec<String> = served
        .map(|version| {
            let stored = if version["storage"] == true { "(storage)" } else { "" };
            format!("{}{stored}", version["name"].as_str().unwrap_or_default())
        })
        .collect();
    versions.sort();
    vec![
        this.name(),
        this.cell("/spec/scope"),
        json!(versions.join(",")),
        this.created_at(),
        this.cell("/spec/group"),
        this.cell("/spec/names/kind"),
        json!(this.texts("/spec/names/shortNames").join(",")),
        json!(is_true(this.list("/status/conditions"), "Established")),
    ]
}

fn api_service(this: &Object<'_>) -> Vec<Value> {
    let service = if this.at("/spec/service").is_object() {
        format!("{}/{}", this.text("/spec/service/namespace"), this.text("/spec/service/name"))
    } else {
        "Local".to_owned()
    };
    let available = match condition(this.list("/status/conditions"), "Available") {
        None => "Unknown".to_owned(),
        Some(condition) => {
            let (status, reason) = (condition["status"].as_str(), condition["reason"].as_str());
            match (status.unwrap_or_default(), reason.unwrap_or_default()) {
                (status, reason) if status == "True" || reason.is_empty() => status.to_owned(),
                (status, reason) => format!("{status} ({reason})"),
            }
        }
    };
    vec![this.name(), json!(service), json!(available), this.age()]
}

fn resource_claim_state(this: &Object<'_>) -> String {
    let is_allocated = this.at("/status/allocation").is_object();
    let states = [
        (this.is_terminating(), "deleted"),
        (!is_allocated && !this.is_terminating(), "pending"),
        (is_allocated, "allocated"),
        (is_allocated && !this.list("/status/reservedFor").is_empty(), "reserved"),
    ];
    states.iter().filter(|(holds, _)| *holds).map(|(_, state)| *state).collect::<Vec<_>>().join(",")
}
