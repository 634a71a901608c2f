//! Clusters in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Controllers, NodeSettings, Settings};
use crate::api::{Api, Options, Reply, User};

struct World {
    api: Arc<Api>,
    controllers: Controllers,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let now: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
        let api = Api::new(Options::default(), now);
        let settings = Settings {
            load_balancers: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
            heartbeat: Duration::from_secs(3600),
            ..settings
        };
        let controllers = Controllers::new(api.clone(), settings);
        let mut world = Self { api, controllers, now };
        world.pass(1);
        world
    }

    /// Lets time pass, step by step.
    fn pass(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        loop {
            let next = self.controllers.run(self.now);
            match next {
                Some(next) if next <= end => self.now = next.max(self.now + SignedDuration::from_millis(1)),
                Some(_) | None => break,
            }
        }
        self.now = end;
        self.controllers.run(self.now);
    }

    fn request(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("content-type", content).body(body).unwrap();
        match self.api.handle(&request, &User::admin(), self.now) {
            Reply::Whole(answer) => {
                (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
            }
            Reply::Watch(_) => panic!("a watch"),
        }
    }

    fn get(&self, path: &str) -> Value {
        let (code, value) = self.request(Method::GET, path, &Value::Null);
        assert_eq!(code, 200, "{path}: {value}");
        value
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (code, value) = self.request(Method::POST, path, body);
        assert_eq!(code, 201, "{path}: {value}");
        value
    }

    fn patch(&self, path: &str, body: &Value) -> Value {
        let (code, value) = self.request(Method::PATCH, path, body);
        assert_eq!(code, 200, "{path}: {value}");
        value
    }

    fn delete(&self, path: &str, body: &Value) {
        let (code, value) = self.request(Method::DELETE, path, body);
        assert_eq!(code, 200, "{path}: {value}");
    }

    fn names(&self, path: &str) -> Vec<String> {
        let list = self.get(path);
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
            {"name": "a", "image": "nginx:1", "ports": [{"containerPort": 80, "name": "http"}]}]}}}})
}

fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|it| it["type"] == kind).unwrap_or_default()
}

#[test]
fn a_cluster_begins() {
    let world = World::new();
    for node in world.get("/api/v1/nodes")["items"].as_array().unwrap() {
        assert_eq!(condition(node, "Ready")["status"], "True");
        assert_eq!(node["spec"].get("taints"), None);
    }
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(world.names(&format!("/api/v1/namespaces/{namespace}/serviceaccounts")), ["default"]);
        assert_eq!(world.names(&format!("/api/v1/namespaces/{namespace}/configmaps")), ["kube-root-ca.crt"]);
    }
    assert_eq!(world.names("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases").len(), 3);
}

#[test]
fn a_deployment_comes_true() {
    let mut world = World::new();
    world.post(DEPLOYMENTS, &deployment("web", 3));
    world.pass(2);
    let object = world.get(&format!("{DEPLOYMENTS}/web"));
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    for key in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(object["status"][key], 3, "{key}");
    }
    assert_eq!(condition(&object, "Available")["reason"], "MinimumReplicasAvailable");
    let progressing = condition(&object, "Progressing");
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable");
    let sets = world.names(SETS);
    assert_eq!(progressing["message"], format!("ReplicaSet {:?} has successfully progressed.", sets[0]));
    let pods = world.get(PODS);
    let mut nodes: Vec<&str> =
        pods["items"].as_array().unwrap().iter().map(|pod| pod["spec"]["nodeName"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["node-0", "node-1", "node-2"]);
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["phase"], "Running");
        assert!(pod["metadata"]["name"].as_str().unwrap().starts_with(&format!("{}-", sets[0])));
    }
}

#[test]
fn a_rollout_keeps_enough_pods_and_can_be_undone() {
    let mut world = World::new();
    world.post(DEPLOYMENTS, &deployment("web", 4));
    world.pass(2);
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "nginx:2"}]}}}});
    world.patch(&format!("{DEPLOYMENTS}/web"), &change);
    for _ in 0..40 {
        let next = world.controllers.run(world.now).unwrap_or(world.now);
        world.now =
            next.max(world.now + SignedDuration::from_millis(1)).min(world.now + SignedDuration::from_millis(50));
        let pods = world.get(PODS);
        let ready = pods["items"].as_array().unwrap().iter().filter(|pod| {
            condition(pod, "Ready")["status"] == "True" && pod["metadata"].get("deletionTimestamp").is_none()
        });
        assert!(ready.count() >= 3, "maxUnavailable is 25 % of 4");
    }
    world.pass(3);
    let object = world.get(&format!("{DEPLOYMENTS}/web"));
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!(object["status"]["updatedReplicas"], 4);
    assert_eq!(object["status"]["replicas"], 4);
    assert_eq!(world.names(SETS).len(), 2);
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "nginx:1",
        "ports": [{"containerPort": 80, "name": "http"}]}]}}}});
    world.patch(&format!("{DEPLOYMENTS}/web"), &change);
    world.pass(3);
    let object = world.get(&format!("{DEPLOYMENTS}/web"));
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(world.names(SETS).len(), 2, "the first set is used again");
}

#[test]
fn a_deployment_that_cannot_start_times_out() {
    let mut world = World::new();
    let mut object = deployment("bad", 2);
    object["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:missing".into();
    object["spec"]["progressDeadlineSeconds"] = 10.into();
    world.post(DEPLOYMENTS, &object);
    world.pass(5);
    assert_eq!(condition(&world.get(&format!("{DEPLOYMENTS}/bad")), "Progressing")["reason"], "ReplicaSetUpdated");
    world.pass(10);
    let object = world.get(&format!("{DEPLOYMENTS}/bad"));
    assert_eq!(condition(&object, "Progressing")["reason"], "ProgressDeadlineExceeded");
    assert_eq!(condition(&object, "Available")["status"], "False");
}

#[test]
fn scaling_and_recreating() {
    let mut world = World::new();
    let mut object = deployment("web", 2);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    world.post(DEPLOYMENTS, &object);
    world.pass(2);
    world.patch(&format!("{DEPLOYMENTS}/web"), &json!({"spec": {"replicas": 5}}));
    world.pass(2);
    assert_eq!(world.names(PODS).len(), 5);
    world.patch(&format!("{DEPLOYMENTS}/web"), &json!({"spec": {"replicas": 1}}));
    world.pass(2);
    assert_eq!(world.names(PODS).len(), 1);
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "nginx:2"}]}}}});
    world.patch(&format!("{DEPLOYMENTS}/web"), &change);
    world.pass(5);
    let pods = world.get(PODS);
    assert_eq!(pods["items"].as_array().unwrap().len(), 1);
    assert_eq!(pods["items"][0]["spec"]["containers"][0]["image"], "nginx:2");
}

#[test]
fn a_service_finds_its_pods_and_an_address() {
    let mut world = World::new();
    world.post(DEPLOYMENTS, &deployment("web", 2));
    let service = json!({"metadata": {"name": "web", "labels": {"x": "1"}}, "spec": {"type": "LoadBalancer",
        "selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": "http"}]}});
    world.post(SERVICES, &service);
    world.pass(2);
    let service = world.get(&format!("{SERVICES}/web"));
    assert_eq!(service["status"]["loadBalancer"]["ingress"], json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]));
    let slices = world.get(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name=web",
    );
    assert_eq!(slices["items"].as_array().unwrap().len(), 1);
    let slice = &slices["items"][0];
    assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    assert_eq!(slice["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(slice["endpoints"][0]["conditions"], json!({"ready": true, "serving": true, "terminating": false}));
    assert_eq!(
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    let endpoints = world.get("/api/v1/namespaces/default/endpoints/web");
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().unwrap().len(), 2);
    world.delete(&format!("{SERVICES}/web"), &Value::Null);
    world.pass(2);
    assert!(!world.names(SERVICES).contains(&"web".to_owned()));
    let slices = world.names("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices");
    assert!(!slices.iter().any(|name| name.starts_with("web-")), "{slices:?}");
}

#[test]
fn what_nobody_owns_goes() {
    for (policy, pods_left, sets_left) in [("Background", 0, 0), ("Foreground", 0, 0), ("Orphan", 2, 1)] {
        let mut world = World::new();
        world.post(DEPLOYMENTS, &deployment("web", 2));
        world.pass(2);
        world.delete(&format!("{DEPLOYMENTS}/web"), &json!({"propagationPolicy": policy}));
        world.pass(3);
        assert_eq!(world.names(DEPLOYMENTS).len(), 0, "{policy}");
        assert_eq!(world.names(SETS).len(), sets_left, "{policy}");
        assert_eq!(world.names(PODS).len(), pods_left, "{policy}");
    }
}

#[test]
fn a_namespace_ends_with_its_content() {
    let mut world = World::new();
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}));
    let maps = "/api/v1/namespaces/shop/configmaps";
    world.post(maps, &json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}));
    world.post("/apis/apps/v1/namespaces/shop/deployments", &deployment("web", 2));
    world.pass(2);
    world.delete("/api/v1/namespaces/shop", &Value::Null);
    world.pass(3);
    let namespace = world.get("/api/v1/namespaces/shop");
    assert_eq!(namespace["status"]["phase"], "Terminating");
    assert_eq!(
        condition(&namespace, "NamespaceContentRemaining")["message"],
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    world.patch(&format!("{maps}/held"), &json!({"metadata": {"finalizers": null}}));
    world.pass(2);
    assert_eq!(world.request(Method::GET, "/api/v1/namespaces/shop", &Value::Null).0, 404);
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let mut world = World::new();
    let pod = json!({"metadata": {"name": "big"}, "spec": {"containers": [{"name": "a", "image": "a:1",
        "resources": {"requests": {"cpu": "100"}}}]}});
    world.post(PODS, &pod);
    world.pass(2);
    let pod = world.get(&format!("{PODS}/big"));
    assert_eq!(condition(&pod, "PodScheduled")["message"], "0/3 nodes are available: 3 Insufficient cpu.");
    let events = world.get("/api/v1/namespaces/default/events?fieldSelector=reason=FailedScheduling");
    assert_eq!(events["items"][0]["involvedObject"]["name"], "big");
}

#[test]
fn a_node_is_where_it_says_and_offers_what_it_says() {
    let capacity = [("cpu".to_owned(), "1".to_owned()), ("pods".to_owned(), "10".to_owned())].into();
    let place = Some(("eu-central".to_owned(), "eu-central-1".to_owned()));
    let node = NodeSettings { place, capacity, ..NodeSettings::new("fra-1") };
    let mut world = World::with(Settings { nodes: vec![node], ..Settings::default() });
    let node = world.get("/api/v1/nodes/fra-1");
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/region"], "eu-central");
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "eu-central-1");
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "1", "pods": "10"}));
    for name in ["first", "second"] {
        let containers = json!([{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "600m"}}}]);
        world.post(PODS, &json!({"metadata": {"name": name}, "spec": {"containers": containers}}));
        world.pass(2);
    }
    assert_eq!(world.get(&format!("{PODS}/first"))["status"]["phase"], "Running");
    let second = world.get(&format!("{PODS}/second"));
    assert_eq!(condition(&second, "PodScheduled")["message"], "0/1 nodes are available: 1 Insufficient cpu.");
}

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

fn job(name: &str, command: &str, more: &Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "a", "image": "busybox:1", "command": ["sh", "-c", command]}]}}}});
    for (key, value) in more.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

#[test]
fn jobs_end() {
    let mut world = World::new();
    world.post(
        JOBS,
        &job("good", "sleep 2", &json!({"completions": 3, "parallelism": 2, "ttlSecondsAfterFinished": 60})),
    );
    world.post(JOBS, &job("bad", "exit 3", &json!({"backoffLimit": 1})));
    world
        .post(JOBS, &job("indexed", "true", &json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"})));
    world.pass(1);
    assert_eq!(world.get(&format!("{JOBS}/good"))["status"]["active"], 2);
    world.pass(6);
    let good = world.get(&format!("{JOBS}/good"));
    assert_eq!(good["status"]["succeeded"], 3);
    assert_eq!(condition(&good, "Complete")["reason"], "CompletionsReached");
    assert_eq!(condition(&good, "SuccessCriteriaMet")["status"], "True");
    assert_eq!(good["status"]["uncountedTerminatedPods"], json!({}));
    assert!(good["status"]["completionTime"].is_string());
    assert_eq!(world.get(&format!("{JOBS}/indexed"))["status"]["completedIndexes"], "0-2");
    world.pass(30);
    let bad = world.get(&format!("{JOBS}/bad"));
    assert_eq!(bad["status"]["failed"], 2);
    assert_eq!(condition(&bad, "Failed")["reason"], "BackoffLimitExceeded");
    world.pass(60);
    assert!(!world.names(JOBS).contains(&"good".to_owned()), "its time is over");
}

#[test]
fn a_cron_job_starts_jobs() {
    let mut world = World::new();
    let path = "/apis/batch/v1/namespaces/default/cronjobs";
    world.post(
        path,
        &json!({"metadata": {"name": "tick"}, "spec": {"schedule": "*/5 * * * *",
        "successfulJobsHistoryLimit": 2, "jobTemplate": job("", "true", &json!({}))}}),
    );
    world.pass(299);
    assert_eq!(world.names(JOBS).len(), 1, "{:?}", world.names(JOBS));
    world.pass(1210);
    assert_eq!(world.names(JOBS).len(), 2);
    let cron = world.get(&format!("{path}/tick"));
    assert_eq!(cron["status"]["lastScheduleTime"], "2026-11-26T10:25:00Z");
    assert!(cron["status"]["lastSuccessfulTime"].is_string());
}

#[test]
fn a_stateful_set_comes_and_goes_in_order() {
    let mut world = World::new();
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    let set = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 3,
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "a", "image": "db:1",
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]}});
    world.post(path, &set);
    world.controllers.run(world.now);
    assert_eq!(world.names(PODS), ["db-0"], "the first must be ready before the second");
    world.pass(3);
    assert_eq!(world.names(PODS), ["db-0", "db-1", "db-2"]);
    let set = world.get(&format!("{path}/db"));
    assert_eq!(set["status"]["readyReplicas"], 3);
    let claims = world.get("/api/v1/namespaces/default/persistentvolumeclaims");
    for claim in claims["items"].as_array().unwrap() {
        assert_eq!(claim["status"]["phase"], "Bound", "{claim}");
    }
    let before = set["status"]["currentRevision"].clone();
    let change = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}},
        "template": {"spec": {"containers": [{"name": "a", "image": "db:2"}]}}}});
    world.patch(&format!("{path}/db"), &change);
    world.pass(5);
    let images: Vec<Value> = world.get(PODS)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["spec"]["containers"][0]["image"].clone())
        .collect();
    assert_eq!(json!(images), json!(["db:1", "db:2", "db:2"]));
    let set = world.get(&format!("{path}/db"));
    assert_eq!(set["status"]["currentRevision"], before);
    assert_ne!(set["status"]["updateRevision"], before);
    world.patch(&format!("{path}/db"), &json!({"spec": {"replicas": 1}}));
    world.pass(3);
    assert_eq!(world.names(PODS), ["db-0"]);
}

#[test]
fn a_daemon_set_is_everywhere() {
    let mut world = World::new();
    let path = "/apis/apps/v1/namespaces/default/daemonsets";
    let set = json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [
            {"name": "a", "image": "agent:1"}]}}}});
    world.post(path, &set);
    world.pass(2);
    let status = world.get(&format!("{path}/agent"))["status"].clone();
    assert_eq!(status["desiredNumberScheduled"], 3);
    assert_eq!(status["numberAvailable"], 3);
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "agent:2"}]}}}});
    world.patch(&format!("{path}/agent"), &change);
    world.pass(10);
    let pods = world.get(PODS);
    assert_eq!(pods["items"].as_array().unwrap().len(), 3);
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["spec"]["containers"][0]["image"], "agent:2");
    }
    let status = world.get(&format!("{path}/agent"))["status"].clone();
    assert_eq!(status["updatedNumberScheduled"], 3);
    world.patch("/api/v1/nodes/node-1", &json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}));
    world.pass(3);
    assert_eq!(world.names(PODS).len(), 2);
}

#[test]
fn budgets_and_aggregated_roles() {
    let mut world = World::new();
    world.post(DEPLOYMENTS, &deployment("web", 3));
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    world.post(
        budgets,
        &json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1,
        "selector": {"matchLabels": {"app": "web"}}}}),
    );
    world.pass(2);
    let status = world.get(&format!("{budgets}/web"))["status"].clone();
    assert_eq!((&status["disruptionsAllowed"], &status["desiredHealthy"]), (&json!(1), &json!(2)));
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert!(!world.get(&format!("{roles}/view"))["rules"].as_array().unwrap().is_empty());
    world.post(
        roles,
        &json!({"metadata": {"name": "part", "labels": {
        "rbac.authorization.k8s.io/aggregate-to-view": "true"}}, "rules": [
            {"apiGroups": ["x.example"], "resources": ["widgets"], "verbs": ["get"]}]}),
    );
    world.pass(1);
    let view = world.get(&format!("{roles}/view"));
    assert!(view["rules"].as_array().unwrap().iter().any(|rule| rule["apiGroups"] == json!(["x.example"])));
}

/// The same requests at the same times give the same bytes.
#[test]
fn deterministic() {
    let run = || {
        let mut world = World::new();
        world.post(DEPLOYMENTS, &deployment("web", 3));
        world.post(JOBS, &job("good", "sleep 2", &json!({"completions": 3})));
        world.pass(20);
        (world.get(PODS), world.get("/api/v1/events"))
    };
    assert_eq!(run(), run());
}
