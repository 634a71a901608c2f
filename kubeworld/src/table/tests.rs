use super::*;

fn now() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

/// Objects that a real server was given, and the rows that it made of them. `now` is when, to the second; where the
/// objects are those of a CRD, the columns are there too.
#[test]
fn rows_are_those_of_a_real_server() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let definition = recorded.iter().find(|one| one["resource"] == "customresourcedefinitions").unwrap();
    let custom =
        Printer::custom(definition["object"]["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap());
    assert!(recorded.len() > 100);
    let mut wrong = Vec::new();
    for one in &recorded {
        let text = |field: &str| one[field].as_str().unwrap();
        let (group, version, resource) = (text("group"), text("version"), text("resource"));
        let printer = match group {
            "g.example" => custom.clone(),
            _ => Printer::built_in(group, version, resource),
        };
        let table = printer.object(&one["object"], Include::Nothing, "v1", true, text("now").parse().unwrap());
        if let Some(columns) = one.get("columns") {
            assert_eq!(table["columnDefinitions"], *columns);
        }
        let row = &table["rows"][0];
        if row["cells"] != one["cells"] || row.get("conditions") != one.get("conditions") {
            wrong.push(format!(
                "{resource} {}:\n got  {row}\n real {}",
                one["object"]["metadata"]["name"], one["cells"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An object made an hour and a bit ago.
fn object(mut value: Value) -> Value {
    value["metadata"]["name"] = json!("it");
    value["metadata"]["creationTimestamp"] = json!("2026-11-26T10:59:00Z");
    value
}

fn cells(group: &str, resource: &str, value: Value) -> Value {
    Value::Array(built_in::cells(group, resource, &object(value), now()))
}

/// Checks all cells, and that the recorded columns are as many.
fn check(group: &str, version: &str, resource: &str, value: Value, expected: Value) {
    assert_eq!(cells(group, resource, value), expected, "{resource}");
    let columns = data::columns(group, version, resource).unwrap();
    assert_eq!(columns.len(), expected.as_array().unwrap().len(), "{resource} has columns {columns:?}");
}

/// What `kubectl get pods` says under READY, STATUS and RESTARTS.
fn pod(spec: Value, status: Value) -> [String; 3] {
    let cells = cells("", "pods", json!({"spec": spec, "status": status}));
    [1, 2, 3].map(|i| cells[i].as_str().unwrap().to_owned())
}

fn two() -> Value {
    json!({"containers": [{"name": "a"}, {"name": "b"}]})
}

fn running() -> Value {
    json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}})
}

fn ended(code: i64, reason: &str) -> Value {
    json!({"name": "b", "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}})
}

fn waiting(reason: &str) -> Value {
    json!({"name": "b", "restartCount": 0, "state": {"waiting": {"reason": reason}}})
}

#[test]
fn a_pod_has_one_word_for_all_its_containers() {
    let phase = |phase: &str, containers: Vec<Value>| json!({"phase": phase, "containerStatuses": containers});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let mut both = phase("Running", vec![running(), ended(0, "Completed")]);
    both["conditions"] = ready;
    for (status, expected) in [
        (phase("Pending", vec![]), ["0/2", "Pending"]),
        (phase("Running", vec![running(), running()]), ["2/2", "Running"]),
        (phase("Pending", vec![running(), waiting("ContainerCreating")]), ["1/2", "ContainerCreating"]),
        (phase("Running", vec![running(), waiting("CrashLoopBackOff")]), ["1/2", "CrashLoopBackOff"]),
        (phase("Running", vec![running(), ended(1, "Error")]), ["1/2", "Error"]),
        (phase("Running", vec![running(), ended(3, "")]), ["1/2", "ExitCode:3"]),
        (phase("Succeeded", vec![ended(0, "Completed"), ended(0, "Completed")]), ["0/2", "Completed"]),
        (phase("Failed", vec![ended(0, "Completed"), ended(1, "Error")]), ["0/2", "Error"]),
        (phase("Running", vec![running(), ended(0, "Completed")]), ["1/2", "NotReady"]),
        (both, ["1/2", "Running"]),
        (json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted"]),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            ["0/2", "SchedulingGated"],
        ),
    ] {
        let shown = pod(two(), status.clone());
        assert_eq!([&shown[0], &shown[1]], expected, "{status}");
    }
    let mut signalled = ended(137, "");
    signalled["state"]["terminated"]["signal"] = json!(9);
    assert_eq!(pod(two(), phase("Running", vec![signalled]))[1], "Signal:9");
}

#[test]
fn a_pod_that_starts_says_how_far_it_is() {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [
        {"name": "side", "restartPolicy": "Always"}, {"name": "one"}, {"name": "two"},
    ]});
    let side = json!({"name": "side", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}});
    let status = |others: Vec<Value>| {
        let all: Vec<Value> = std::iter::once(side.clone()).chain(others).collect();
        json!({"phase": "Pending", "initContainerStatuses": all, "containerStatuses": [waiting("PodInitializing")]})
    };
    let one = |state: Value| json!({"name": "one", "restartCount": 1, "state": state});
    let done = one(json!({"terminated": {"exitCode": 0}}));
    for (others, expected) in [
        (vec![one(json!({"running": {}}))], ["1/2", "Init:1/3", "3"]),
        (vec![done.clone(), json!({"name": "two", "state": {"waiting": {}}})], ["1/2", "Init:2/3", "3"]),
        (vec![one(json!({"waiting": {"reason": "ImagePullBackOff"}}))], ["1/2", "Init:ImagePullBackOff", "3"]),
        (vec![one(json!({"terminated": {"exitCode": 1, "reason": "Error"}}))], ["1/2", "Init:Error", "3"]),
        (vec![one(json!({"terminated": {"exitCode": 2}}))], ["1/2", "Init:ExitCode:2", "3"]),
        // All have ended: from here on only sidecars' restarts count.
        (vec![done], ["1/2", "PodInitializing", "2"]),
    ] {
        assert_eq!(pod(spec.clone(), status(others.clone())), expected, "{others:?}");
    }
}

#[test]
fn a_pod_that_goes_says_so_until_it_has_ended() {
    let deleted = |phase: &str, reason: &str| {
        let status = json!({"phase": phase, "reason": reason});
        cells("", "pods", json!({"metadata": {"deletionTimestamp": "2026-11-26T11:59:59Z"}, "status": status}))[2]
            .clone()
    };
    assert_eq!(deleted("Running", ""), "Terminating");
    assert_eq!(deleted("Succeeded", ""), "Succeeded");
    assert_eq!(deleted("Running", "NodeLost"), "Unknown");
}

#[test]
fn restarts_say_when() {
    let mut container = running();
    container["restartCount"] = json!(4);
    container["lastState"]["terminated"] = json!({"finishedAt": "2026-11-26T11:55:00Z"});
    assert_eq!(pod(two(), json!({"phase": "Running", "containerStatuses": [container]}))[2], "4 (5m ago)");
}

#[test]
fn wide_cells_of_a_pod() {
    let spec = json!({"nodeName": "n", "readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}]});
    let status =
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "g", "status": "True"}]});
    check(
        "",
        "v1",
        "pods",
        json!({"spec": spec, "status": status}),
        json!(["it", "0/0", "Running", "0", "61m", "10.0.0.1", "n", "<none>", "1/2"]),
    );
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}});
    let selector = json!({"matchLabels": {"app": "w"}, "matchExpressions": [
        {"key": "a", "operator": "In", "values": ["2", "1"]}, {"key": "z", "operator": "DoesNotExist"},
    ]});
    let spec = json!({"replicas": 3, "template": template, "selector": selector});
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
    let it = json!({"spec": spec, "status": status});
    let text = "a in (1,2),app=w,!z";
    check("apps", "v1", "deployments", it.clone(), json!(["it", "2/3", 1, 2, "61m", "a,b", "x:1,y", text]));
    check("apps", "v1", "replicasets", it.clone(), json!(["it", 3, 3, 2, "61m", "a,b", "x:1,y", text]));
    check("apps", "v1", "statefulsets", it, json!(["it", "2/3", "61m", "a,b", "x:1,y"]));
    check(
        "apps",
        "v1",
        "daemonsets",
        json!({"status": {"desiredNumberScheduled": 2, "numberReady": 1}}),
        json!(["it", 2, 0, 1, 0, 0, "<none>", "61m", "", "", "<none>"]),
    );
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "controller": true}]);
    check(
        "apps",
        "v1",
        "controllerrevisions",
        json!({"metadata": {"ownerReferences": owner}, "revision": 4}),
        json!(["it", "statefulset.apps/s", 4, "61m"]),
    );
}

#[test]
fn jobs() {
    let job = |spec: Value, status: Value| {
        let cells = cells("batch", "jobs", json!({"spec": spec, "status": status}));
        [1, 2, 3].map(|i| cells[i].as_str().unwrap().to_owned())
    };
    let began = "2026-11-26T11:58:00Z";
    let of = |condition: &str| json!([{"type": condition, "status": "True"}]);
    for (spec, status, expected) in [
        (json!({"completions": 1}), json!({}), ["Running", "0/1", ""]),
        (json!({"completions": 2}), json!({"startTime": began, "succeeded": 1}), ["Running", "1/2", "2m"]),
        (json!({"parallelism": 3}), json!({"startTime": began}), ["Running", "0/1 of 3", "2m"]),
        (
            json!({"completions": 1}),
            json!({"startTime": began, "completionTime": "2026-11-26T11:58:07Z", "succeeded": 1,
                "conditions": of("Complete")}),
            ["Complete", "1/1", "7s"],
        ),
        (json!({}), json!({"conditions": of("Failed")}), ["Failed", "0/1", ""]),
        (json!({}), json!({"conditions": of("Suspended")}), ["Suspended", "0/1", ""]),
    ] {
        assert_eq!(job(spec.clone(), status.clone()), expected, "{spec} {status}");
    }
    check(
        "batch",
        "v1",
        "cronjobs",
        json!({"spec": {"schedule": "* * * * *", "suspend": false}, "status": {"lastScheduleTime": began}}),
        json!(["it", "* * * * *", "<none>", "False", 0, "2m", "61m", "", "", "<none>"]),
    );
}

#[test]
fn services_and_what_is_behind_them() {
    let service = |spec: Value, status: Value| {
        let cells = cells("", "services", json!({"spec": spec, "status": status}));
        [1, 2, 3, 4].map(|i| cells[i].as_str().unwrap().to_owned())
    };
    let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}]);
    for (spec, ingress, expected) in [
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.9"], "ports": ports}),
            json!([]),
            ["ClusterIP", "10.0.0.9", "<none>", "80/TCP,53:30053/UDP"],
        ),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1"]}),
            json!([]),
            ["ClusterIP", "None", "1.1.1.1", "<none>"],
        ),
        (json!({"type": "LoadBalancer"}), json!([]), ["LoadBalancer", "<none>", "<pending>", "<none>"]),
        (
            json!({"type": "LoadBalancer"}),
            json!([{"ip": "203.0.113.250"}, {"hostname": "a-long-name.example"}, {"ip": "203.0.113.250"}]),
            ["LoadBalancer", "<none>", "203.0.113.250,a-long-name.example", "<none>"],
        ),
        (
            json!({"type": "ExternalName", "externalName": "x.example"}),
            json!([]),
            ["ExternalName", "<none>", "x.example", "<none>"],
        ),
    ] {
        assert_eq!(service(spec.clone(), json!({"loadBalancer": {"ingress": ingress}})), expected, "{spec}");
    }
    let addresses = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]);
    let subset = json!({"addresses": addresses, "ports": [{"port": 80}, {"port": 443}]});
    let six = json!({"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]});
    for (subsets, expected) in [
        (json!(null), "<none>"),
        (json!([{}]), ""),
        (json!([{"addresses": addresses}]), "10.0.0.1,10.0.0.2"),
        (json!([subset]), "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more..."),
        (json!([six]), "[fd00::1]:80"),
    ] {
        check("", "v1", "endpoints", json!({"subsets": subsets}), json!(["it", expected, "61m"]));
    }
    let endpoint = json!({"addresses": ["10.0.0.1", "10.0.0.2"]});
    check(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}, {}], "endpoints": [endpoint, endpoint]}),
        json!(["it", "IPv4", "80,x,*", "10.0.0.1,10.0.0.2,10.0.0.1 + 1 more...", "61m"]),
    );
    check(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        json!({"addressType": "IPv4"}),
        json!(["it", "IPv4", "<unset>", "<unset>", "61m"]),
    );
}

#[test]
fn ingresses_show_some_hosts() {
    let hosts = |hosts: &[&str]| {
        let rules: Vec<_> = hosts.iter().map(|host| json!({"host": host})).collect();
        cells("networking.k8s.io", "ingresses", json!({"spec": {"rules": rules}}))[2].clone()
    };
    assert_eq!(hosts(&[]), "*");
    assert_eq!(hosts(&[""]), "*");
    assert_eq!(hosts(&["a", "b", "c"]), "a,b,c");
    assert_eq!(hosts(&["a", "b", "c", "d", "e"]), "a,b,c + 2 more...");
    assert_eq!(hosts(&["a", "", "b"]), "a,b");
}

#[test]
fn nodes() {
    let status = json!({
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6.1", "architecture": "amd64", "osImage": "Debian"},
        "addresses": [{"type": "InternalIP", "address": "10.0.0.5"}],
    });
    let labels = json!({"node-role.kubernetes.io/b": "", "kubernetes.io/role": "a", "node-role.kubernetes.io/": ""});
    check(
        "",
        "v1",
        "nodes",
        json!({"metadata": {"labels": labels}, "spec": {"unschedulable": true}, "status": status}),
        json!([
            "it",
            "Ready,SchedulingDisabled",
            "a,b",
            "61m",
            "v1",
            "10.0.0.5",
            "<none>",
            "Debian",
            "6.1 (amd64)",
            "<unknown>"
        ]),
    );
    assert_eq!(cells("", "nodes", json!({}))[1], "Unknown");
}

#[test]
fn configuration_and_volumes() {
    check("", "v1", "configmaps", json!({"data": {"a": ""}, "binaryData": {"b": ""}}), json!(["it", 2, "61m"]));
    check("", "v1", "secrets", json!({"type": "Opaque", "data": {"a": ""}}), json!(["it", "Opaque", 1, "61m"]));
    check("", "v1", "namespaces", json!({"status": {"phase": "Active"}}), json!(["it", "Active", "61m"]));
    check("", "v1", "serviceaccounts", json!({}), json!(["it", "61m"]));
    check("", "v1", "limitranges", json!({}), json!(["it", "2026-11-26T10:59:00Z"]));
    check(
        "",
        "v1",
        "resourcequotas",
        json!({"status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1"}}}),
        json!(["it", "cpu: 0/1, pods: 1/4", "limits.cpu: 0/2", "61m"]),
    );
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"},
        "storageClassName": "fast", "volumeMode": "Filesystem"});
    check(
        "",
        "v1",
        "persistentvolumes",
        json!({"spec": spec, "status": {"phase": "Bound"}}),
        json!(["it", "1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "fast", "<unset>", "", "61m", "Filesystem"]),
    );
    check(
        "",
        "v1",
        "persistentvolumeclaims",
        json!({"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}),
        json!(["it", "Pending", "", "", "", "fast", "<unset>", "61m", "<unset>"]),
    );
}

#[test]
fn events_of_both_groups() {
    let involved = json!({"kind": "Pod", "name": "p", "fieldPath": "spec"});
    check(
        "",
        "v1",
        "events",
        json!({"type": "Normal", "reason": "Pulled", "message": " text\n", "involvedObject": involved,
            "source": {"component": "kubelet", "host": "n"}, "count": 3,
            "firstTimestamp": "2026-11-26T11:00:00Z", "lastTimestamp": "2026-11-26T11:59:00Z"}),
        json!(["60s", "Normal", "Pulled", "pod/p", "spec", "kubelet, n", "text", "60m", 3, "it"]),
    );
    check(
        "events.k8s.io",
        "v1",
        "events",
        json!({"type": "Normal", "reason": "Pulled", "note": "text", "regarding": involved,
            "reportingController": "c", "reportingInstance": "i", "eventTime": "2026-11-26T11:00:00.000000Z"}),
        json!(["60m", "Normal", "Pulled", "pod/p", "spec", "c, i", "text", "60m", 1, "it"]),
    );
}

#[test]
fn autoscalers() {
    let of = |metrics: Value, current: Value| {
        let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 9, "metrics": metrics});
        let it = json!({"spec": spec, "status": {"currentMetrics": current}});
        let cells = cells("autoscaling", "horizontalpodautoscalers", it);
        cells[2].as_str().unwrap().to_owned()
    };
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
    let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
    let external = json!({"type": "External", "external": {"target": {"averageValue": "5"}}});
    assert_eq!(of(json!([]), json!([])), "<none>");
    assert_eq!(of(json!([cpu]), json!([])), "cpu: <unknown>/80%");
    let current = json!([{"type": "Resource", "resource": {"current": {"averageUtilization": 40}}}]);
    assert_eq!(of(json!([cpu, pods]), current), "cpu: 40%/80%, <unknown>/10");
    assert_eq!(of(json!([external, pods, cpu]), json!([])), "<unknown>/5 (avg), <unknown>/10 + 1 more...");
    let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 9,
        "targetCPUUtilizationPercentage": 50});
    for version in ["v1", "v2"] {
        check(
            "autoscaling",
            version,
            "horizontalpodautoscalers",
            json!({"spec": spec, "status": {"currentReplicas": 2, "currentCPUUtilizationPercentage": 7}}),
            json!(["it", "Deployment/d", "cpu: 7%/50%", "1", 9, 2, "61m"]),
        );
    }
}

#[test]
fn kinds_of_the_control_plane() {
    let subjects = json!([{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"},
        {"kind": "Group", "name": "g"}, {"kind": "Group", "name": "h"}]);
    check(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": subjects}),
        json!(["it", "ClusterRole/r", "61m", "u", "g, h", "n/s"]),
    );
    check("rbac.authorization.k8s.io", "v1", "roles", json!({}), json!(["it", "2026-11-26T10:59:00Z"]));
    check(
        "policy",
        "v1",
        "poddisruptionbudgets",
        json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
        json!(["it", "50%", "N/A", 1, "61m"]),
    );
    check("coordination.k8s.io", "v1", "leases", json!({"spec": {"holderIdentity": "h"}}), json!(["it", "h", "61m"]));
    check(
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        json!({"value": 1000, "preemptionPolicy": "Never"}),
        json!(["it", 1000, false, "61m", "Never"]),
    );
    let versions = json!([{"name": "v1", "served": true, "storage": true}, {"name": "v1alpha1", "served": true},
        {"name": "v0", "served": false}]);
    check(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        json!({"spec": {"scope": "Namespaced", "group": "g", "names": {"kind": "K", "shortNames": ["a", "b"]},
            "versions": versions}, "status": {"conditions": [{"type": "Established", "status": "True"}]}}),
        json!(["it", "Namespaced", "v1(storage),v1alpha1", "2026-11-26T10:59:00Z", "g", "K", "a,b", true]),
    );
    let failed = json!([{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]);
    check(
        "apiregistration.k8s.io",
        "v1",
        "apiservices",
        json!({"spec": {"service": {"namespace": "n", "name": "s"}}, "status": {"conditions": failed}}),
        json!(["it", "n/s", "False (MissingEndpoints)", "61m"]),
    );
    check(
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
        json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 7200},
            "status": {"certificate": "x", "conditions": [{"type": "Approved"}]}}),
        json!(["it", "61m", "s", "u", "120m", "Approved,Issued"]),
    );
    check(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "prioritylevelconfigurations",
        json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0,
            "limitResponse": {"queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}}),
        json!(["it", "Limited", 0, 64, 6, 50, "61m"]),
    );
    let parameter = json!({"selector": {"matchLabels": {"a": "b"}}});
    check(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        json!({"spec": {"policyName": "p", "paramRef": parameter}}),
        json!([
            "it",
            "p",
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}",
            "61m"
        ]),
    );
}

/// An object that has nothing of what its kind should have.
#[test]
fn every_resource_has_as_many_cells_as_columns() {
    let mut checked = 0;
    for root in ["api", "apis"] {
        for group in data::discovery()[root]["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                for resource in version["resources"].as_array().unwrap() {
                    let resource = resource["resource"].as_str().unwrap();
                    let Some(columns) = data::columns(name, version["version"].as_str().unwrap(), resource) else {
                        continue;
                    };
                    for value in [json!({}), json!({"spec": 1, "status": [], "metadata": {"labels": [1]}})] {
                        let cells = built_in::cells(name, resource, &value, now());
                        // The real server has an age for IP addresses, and forgets the column.
                        let forgotten = usize::from(resource == "ipaddresses");
                        assert_eq!(cells.len(), columns.len() + forgotten, "{name} {resource}: {cells:?}");
                    }
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn a_table_of_one_object() {
    let printer = Printer::built_in("", "v1", "configmaps");
    let map = object(json!({"data": {"a": "b"}, "metadata": {"resourceVersion": "7"}}));
    let table = printer.object(&map, Include::Metadata, "v1", true, now());
    assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    let partial = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": map["metadata"]});
    assert_eq!(table["rows"], json!([{"cells": ["it", 1, "61m"], "object": partial}]));
    let bare = printer.object(&map, Include::Nothing, "v1beta1", false, now());
    assert_eq!(bare["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(bare["columnDefinitions"], Value::Null);
    assert_eq!(bare["rows"][0]["object"], Value::Null);
    let whole = printer.object(&map, Include::Object, "v1", true, now());
    assert_eq!(whole["rows"][0]["object"], map);
}

#[test]
fn rows_of_ended_pods_say_so() {
    let printer = Printer::built_in("", "v1", "pods");
    let row = |phase: &str| {
        let table = printer.object(&json!({"status": {"phase": phase}}), Include::Nothing, "v1", true, now());
        table["rows"][0].clone()
    };
    assert_eq!(row("Succeeded")["conditions"][0]["type"], "Completed");
    assert_eq!(row("Failed")["conditions"][0]["message"], "The pod failed.");
    assert!(row("Running").get("conditions").is_none());
}

#[test]
fn an_empty_list_has_an_empty_table() {
    let list = |printer: Printer| printer.list(&[], json!({}), Include::Metadata, "v1", now())["rows"].clone();
    assert_eq!(list(Printer::built_in("", "v1", "pods")), json!([]));
    assert_eq!(list(Printer::custom(&[])), json!([]));
    assert_eq!(list(Printer::built_in("", "v1", "limitranges")), Value::Null);
}

#[test]
fn lists_know_more_than_their_objects() {
    let class = |name: &str, created: &str, default: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}}})
    };
    let classes = [
        class("a", "2026-11-26T10:00:00Z", "true"),
        class("c", "2026-11-26T11:00:00Z", "true"),
        class("b", "2026-11-26T11:00:00Z", "true"),
        class("d", "2026-11-26T11:30:00Z", "false"),
    ];
    let names = |group: &str, resource: &str, objects: &[Value]| {
        let table = Printer::built_in(group, "v1", resource).list(objects, json!({}), Include::Nothing, "v1", now());
        table["rows"].as_array().unwrap().iter().map(|row| row["cells"][0].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("storage.k8s.io", "storageclasses", &classes), ["a", "c", "b (default)", "d"]);
    let schema =
        |name: &str, precedence: i64| json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence}});
    let schemas = [schema("late", 9000), schema("b", 1), schema("a", 1)];
    assert_eq!(names("flowcontrol.apiserver.k8s.io", "flowschemas", &schemas), ["a", "b", "late"]);
}

#[test]
fn scales_have_a_table_of_their_own() {
    let scale = object(json!({"spec": {"replicas": 3}, "status": {"replicas": 2}}));
    for custom in [false, true] {
        let table = Printer::scale(custom).object(&scale, Include::Nothing, "v1", true, now());
        assert_eq!(table["rows"][0]["cells"], json!(["it", 3, 2, "61m"]));
        let names = table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].clone());
        assert_eq!(names.collect::<Vec<_>>(), ["Name", "Desired", "Available", "Age"]);
    }
}

#[test]
fn columns_of_a_crd() {
    let column = |name: &str, of: &str, path: &str| json!({"name": name, "type": of, "jsonPath": path});
    let columns = [
        column("Text", "string", ".spec.text"),
        column("Count", "integer", ".spec.count"),
        column("Share", "number", ".spec.share"),
        column("On", "boolean", ".spec.on"),
        column("Since", "date", ".spec.since"),
    ];
    let printer = Printer::custom(&columns);
    let cells =
        |spec: Value| printer.row(&object(json!({"spec": spec})), Include::Nothing, "v1", None, now())["cells"].clone();
    assert_eq!(
        cells(json!({"text": "t", "count": 3, "share": 0.5, "on": true, "since": "2026-11-26T11:00:00Z"})),
        json!(["it", "t", 3, 0.5, true, "60m"]),
    );
    assert_eq!(cells(json!({})), json!(["it", null, null, null, null, null]));
    assert_eq!(
        cells(json!({"text": [1], "count": "3", "share": 2, "on": "x", "since": "soon"})),
        json!(["it", "[1]", null, 2, null, "<invalid>"]),
    );
    let described = &printer.columns[2];
    assert_eq!(described["description"], "Custom resource definition column (in JSONPath format): .spec.count");
    assert_eq!(printer.columns[0]["description"], describe("name"));
    let plain = Printer::custom(&[]);
    assert_eq!(plain.row(&object(json!({})), Include::Nothing, "v1", None, now())["cells"], json!(["it", "61m"]));
    assert_eq!(plain.columns[1]["name"], "Age");
}
