//! The cells of built-in kinds: what the API server's printers say of an object.
//!
//! One function for each kind that says more than its name and age. All are total over any JSON: what is missing or of
//! another type counts as empty, as it would in a Go struct.

mod core;
mod networking;
mod object;
mod pod;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::object::{Object, condition, is_true, labels, list, selector_or_none};
use super::duration;

pub(super) use self::storage::default_storage_class;

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
        ("", "services") => networking::service(&this),
        ("", "endpoints") => vec![this.name(), json!(networking::endpoints(&this)), this.age()],
        ("", "nodes") => core::node(&this),
        ("", "namespaces") => vec![this.name(), this.cell("/status/phase"), this.age()],
        ("", "secrets") => vec![this.name(), this.cell("/type"), this.size(&["/data"]), this.age()],
        ("", "configmaps") => vec![this.name(), this.size(&["/data", "/binaryData"]), this.age()],
        ("", "persistentvolumes") => storage::persistent_volume(&this),
        ("", "persistentvolumeclaims") => storage::persistent_volume_claim(&this),
        ("", "events") | ("events.k8s.io", "events") => core::event(&this),
        ("", "resourcequotas") => core::resource_quota(&this),
        ("", "componentstatuses") => core::component_status(&this),
        ("apps", "deployments") => workloads::deployment(&this),
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
        ("apps", "daemonsets") => workloads::daemon_set(&this),
        ("apps", "controllerrevisions") => {
            vec![this.name(), json!(workloads::controller(&this)), json!(this.int("/revision")), this.age()]
        }
        ("batch", "jobs") => workloads::job(&this),
        ("batch", "cronjobs") => workloads::cron_job(&this),
        ("autoscaling", super::SCALES) => {
            vec![this.name(), json!(this.int("/spec/replicas")), json!(this.int("/status/replicas")), this.age()]
        }
        ("autoscaling", "horizontalpodautoscalers") => workloads::horizontal_pod_autoscaler(&this),
        ("discovery.k8s.io", "endpointslices") => {
            let [ports, addresses] = [networking::slice_ports(&this), networking::slice_addresses(&this)];
            vec![this.name(), this.cell("/addressType"), json!(ports), json!(addresses), this.age()]
        }
        ("networking.k8s.io", "ingresses") => networking::ingress(&this),
        ("networking.k8s.io", "ingressclasses") => networking::ingress_class(&this),
        ("networking.k8s.io", "networkpolicies") => {
            vec![this.name(), json!(selector_or_none(this.at("/spec/podSelector"))), this.age()]
        }
        ("networking.k8s.io", "servicecidrs") => {
            vec![this.name(), json!(this.texts("/spec/cidrs").join(",")), this.age()]
        }
        ("networking.k8s.io", "ipaddresses") => {
            vec![this.name(), json!(networking::ip_address_parent(&this)), this.age()]
        }
        ("policy", "poddisruptionbudgets") => {
            let or_not = |path| this.shown(path).unwrap_or_else(|| "N/A".to_owned());
            let (min, max) = (or_not("/spec/minAvailable"), or_not("/spec/maxUnavailable"));
            vec![this.name(), json!(min), json!(max), json!(this.int("/status/disruptionsAllowed")), this.age()]
        }
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => vec![this.name(), this.created_at()],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(&this),
        ("storage.k8s.io", "storageclasses") => storage::storage_class(&this),
        ("storage.k8s.io", "csinodes") => vec![this.name(), json!(this.list("/spec/drivers").len()), this.age()],
        ("storage.k8s.io", "csidrivers") => storage::csi_driver(&this),
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
