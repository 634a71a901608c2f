//! The delivery side against a real API server, with the rights that we ship and no others.
//!
//! One cluster, several stories, each in namespaces of its own; the hub is played by the test.

mod fields;
mod refusals;

use std::collections::BTreeMap;
use std::time::Duration;

use agent::config::{Config, KubeAccess, NAMESPACE};
use agent::engine::{Engine, Input, Output};
use anyhow::{Context, ensure};
use api::wire::{self, ClusterReport, Desired, DesiredApp, Digest, Ledger, LedgerEntry, Phase, Render};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use world::{Cluster, ClusterSpec, LoadBalancer, assets_from_env};

/// No wait of these tests is about speed; this only ends a test that would never end.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn real_delivery_with_the_shipped_rights() -> anyhow::Result<()> {
    let assets = assets_from_env()?;
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(&assets, ClusterSpec::new("fra", dir.path().join("fra"))).await?;
    let _load_balancer = LoadBalancer::start(cluster.client(), "127.19.2.1".parse()?);
    for object in agent::manifests(NAMESPACE, "isochrone:test") {
        // The test is the agent; the cluster need not run one.
        if object["kind"] != "Deployment" {
            kubectl(&cluster, &["apply", "-f", "-"], &object).await?;
        }
    }
    let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, agent::AGENT).await?;
    // It lets everything through until it is told otherwise.
    let proxy = refusals::Proxy::start(&KubeAccess::Kubeconfig(kubeconfig)).await?;

    let mut hub = Hub::start(proxy.access());
    hub.report_is_of(&cluster).await?;
    ready_and_pruned_and_removed(&mut hub, &cluster).await.context("ready, pruned, removed")?;
    a_definition_needs_the_owners_consent(&mut hub, &cluster).await.context("CRD and custom resource")?;
    foreign_objects_are_left(&mut hub, &cluster).await.context("foreign objects")?;
    more_rights_are_refused(&mut hub, &cluster).await.context("more rights")?;
    refused_namespaces(&mut hub, &cluster).await.context("refused namespaces")?;
    fields::autoscalers_have_their_replicas(&mut hub, &cluster).await.context("autoscalers")?;
    fields::what_the_app_ignores_is_left(&mut hub, &cluster).await.context("ignored differences")?;
    fields::a_fight_is_reported_and_ended(&mut hub, &cluster).await.context("contested fields")?;
    fields::adoption_is_as_the_app_says(&mut hub, &cluster).await.context("adoption")?;
    refusals::a_refused_list_prunes_nothing(&proxy, &mut hub, &cluster).await.context("refused lists")?;
    refusals::a_prune_that_is_cut_short_is_ended_later(&proxy, &mut hub, &cluster)
        .await
        .context("a prune cut short")?;
    let hub = drift_is_corrected_also_without_a_hub(hub, &cluster, proxy.access()).await.context("drift, restart")?;
    let hub = refusals::an_altered_memory_removes_nothing(hub, &cluster, proxy.access()).await.context("memory")?;
    hub.stop().await?;
    cluster.stop().await;
    Ok(())
}

async fn ready_and_pruned_and_removed(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    let config =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"a": "b"}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}});
    // Not ours, in the same namespace, made before and after.
    kubectl(cluster, &["create", "namespace", "shop"], &Value::Null).await?;
    kubectl(cluster, &["-n", "shop", "create", "configmap", "bystander"], &Value::Null).await?;

    hub.tell(
        "shop",
        "web",
        &[config("one"), config("two"), secret.clone(), service.clone(), deployment("web", 2)],
        &["shop.example.com"],
    );
    let entry = hub.until("shop", "web", |e| e.phase() == Phase::Ready).await?;
    assert_eq!((entry.objects, entry.objects_ready, entry.replicas_ready), (5, 5, 2), "{entry:?}");
    assert_eq!(entry.addresses[0].addresses, ["127.19.2.1"], "{entry:?}");
    let parents = list(cluster, NAMESPACE, "configmaps", "applyset.kubernetes.io/id").await?;
    let parent = &parents[0]["metadata"]["annotations"];
    assert_eq!(parent["applyset.kubernetes.io/contains-group-kinds"], "ConfigMap,Deployment.apps,Secret,Service");
    assert_eq!(parent["applyset.kubernetes.io/additional-namespaces"], "shop");

    // A render without two objects and with a claim.
    hub.tell("shop", "web", &[config("one"), deployment("web", 1), claim], &[]);
    hub.until("shop", "web", |e| e.objects == 3 && e.reason == "NotCurrent").await?;
    assert_eq!(names(&list(cluster, "shop", "configmaps", "applyset.kubernetes.io/part-of").await?), ["one"]);
    assert!(list(cluster, "shop", "services", "").await?.is_empty());
    assert!(!names(&list(cluster, "shop", "secrets", "").await?).contains(&"key".to_owned()));
    // Removal takes all that is ours, the claim excepted, and nothing else.
    hub.remove("shop", "web");
    let entry = hub.until("shop", "web", |e| e.phase() == Phase::Removed).await?;
    assert_eq!(entry.reason, "Retained", "{entry:?}");
    assert!(list(cluster, "shop", "deployments", "").await?.is_empty());
    let left = names(&list(cluster, "shop", "configmaps", "").await?);
    assert_eq!(left, ["bystander", "kube-root-ca.crt"]);
    assert_eq!(names(&list(cluster, "shop", "persistentvolumeclaims", "").await?), ["data"]);
    // Wanted again and then removed with `Cascade`, it goes as well, and the set with it.
    hub.tell_render(
        "shop",
        "web",
        Render { objects: vec![config("one").to_string()], cascade: true, ..Default::default() },
    );
    hub.until("shop", "web", |e| e.phase() == Phase::Ready).await?;
    hub.remove("shop", "web");
    hub.until("shop", "web", |e| e.phase() == Phase::Removed && e.reason.is_empty()).await?;
    assert!(list(cluster, "shop", "persistentvolumeclaims", "").await?.is_empty());
    assert!(list(cluster, NAMESPACE, "configmaps", "applyset.kubernetes.io/id").await?.is_empty());
    Ok(())
}

async fn a_definition_needs_the_owners_consent(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let widget =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}});
    hub.tell("crds", "op", std::slice::from_ref(&widget), &[]);
    hub.until("crds", "op", |e| e.reason == "NoSuchKind" && e.message.contains("Widget.example.com")).await?;
    hub.tell("crds", "op", &[widget, crd], &[]);
    let line = "kubectl create clusterrolebinding isochrone-app-crds-customresourcedefinitions \
         --clusterrole=isochrone-app-crds-customresourcedefinitions --user=isochrone:app:crds";
    let entry = hub.until("crds", "op", |e| e.reason == "Forbidden" && e.message.contains(line)).await?;
    assert_eq!(entry.phase(), Phase::Failed);
    // The owner runs the printed lines as they are.
    run_hints(cluster, &entry.message).await?;
    let entry = hub
        .until("crds", "op", |e| e.reason == "Forbidden" && e.message.contains("--resource=widgets.example.com"))
        .await?;
    run_hints(cluster, &entry.message).await?;
    let entry = hub.until("crds", "op", |e| e.phase() == Phase::Ready).await?;
    assert_eq!(entry.objects_ready, 2);
    // Custom resources are watched with the App's own rights: a deletion is seen and undone.
    let uid = || async { anyhow::Ok(list(cluster, "crds", "widgets", "").await?[0]["metadata"]["uid"].clone()) };
    let before = uid().await?;
    kubectl(cluster, &["-n", "crds", "delete", "widgets", "w"], &Value::Null).await?;
    await_object(cluster, "crds", ("example.com", "v1", "Widget"), "w", |o| o.is_some()).await?;
    assert_ne!(uid().await?, before);
    Ok(())
}

async fn foreign_objects_are_left(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    kubectl(cluster, &["create", "namespace", "mixed"], &Value::Null).await?;
    kubectl(cluster, &["-n", "mixed", "create", "configmap", "theirs", "--from-literal=a=theirs"], &Value::Null)
        .await?;
    let config = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "ours"}});
    hub.tell("mixed", "web", &[config("theirs"), config("ours")], &[]);
    let entry = hub.until("mixed", "web", |e| e.reason == "ForeignObject").await?;
    assert!(entry.message.contains("ConfigMap mixed/theirs"), "{entry:?}");
    // The other object is delivered all the same, and removal touches only that one.
    await_object(cluster, "mixed", ("", "v1", "ConfigMap"), "ours", |o| o.is_some()).await?;
    hub.remove("mixed", "web");
    hub.until("mixed", "web", |e| e.phase() == Phase::Removed).await?;
    let left = list(cluster, "mixed", "configmaps", "").await?;
    assert_eq!(names(&left), ["kube-root-ca.crt", "theirs"]);
    assert_eq!(left[1]["data"]["a"], "theirs");
    assert!(left[1]["metadata"]["labels"].is_null());
    Ok(())
}

async fn more_rights_are_refused(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    let group = "rbac.authorization.k8s.io";
    let role_ref = json!({"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"});
    let subjects = json!([{"apiGroup": group, "kind": "User", "name": "isochrone:app:evil"}]);
    let binding = |kind: &str| {
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "rise"},
        "roleRef": role_ref, "subjects": subjects})
    };
    hub.tell("evil", "rise", &[binding("ClusterRoleBinding")], &[]);
    hub.until("evil", "rise", |e| e.reason == "Forbidden").await?;
    // In its own namespace it may bind, but nothing that it does not hold.
    hub.tell("evil", "rise", &[binding("RoleBinding")], &[]);
    hub.until("evil", "rise", |e| e.reason == "Forbidden" && e.message.contains("RoleBinding")).await?;
    // Nor may it reach into another namespace, not even to look at a Secret.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "grab", "namespace": "default"}});
    hub.tell("evil", "rise", &[secret], &[]);
    let entry = hub.until("evil", "rise", |e| e.reason == "Forbidden" && e.message.contains("default/grab")).await?;
    assert!(entry.message.contains("--namespace=default"), "{entry:?}");
    for kind in ["clusterrolebindings", "rolebindings"] {
        assert!(!names(&list(cluster, "evil", kind, "").await?).contains(&"rise".to_owned()));
    }
    Ok(())
}

async fn refused_namespaces(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
    let closed = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "closed", "labels": {"isochrone.dev/delivery": "refused"}}});
    kubectl(cluster, &["apply", "-f", "-"], &closed).await?;
    for namespace in ["kube-system", NAMESPACE, "closed"] {
        hub.tell(namespace, "web", std::slice::from_ref(&config), &[]);
        hub.until(namespace, "web", |e| e.reason == "NamespaceRefused").await?;
        assert!(!names(&list(cluster, namespace, "configmaps", "").await?).contains(&"x".to_owned()));
    }
    Ok(())
}

async fn drift_is_corrected_also_without_a_hub(
    mut hub: Hub,
    cluster: &Cluster,
    access: &KubeAccess,
) -> anyhow::Result<Hub> {
    // Larger than one piece of the memory.
    let big = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"a": "x".repeat(600 << 10)}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"a": "b"}});
    hub.tell("hold", "web", &[big, secret, deployment("web", 1)], &[]);
    hub.until("hold", "web", |e| e.phase() == Phase::Ready).await?;
    // Another manager's own fields are no drift, its change of ours is.
    kubectl(cluster, &["-n", "hold", "annotate", "deployments", "web", "note=mine"], &Value::Null).await?;
    kubectl(cluster, &["-n", "hold", "scale", "deployments", "web", "--replicas=3"], &Value::Null).await?;
    let apps = ("apps", "v1", "Deployment");
    let corrected = |o: Option<&Value>| o.is_some_and(|o| o["spec"]["replicas"] == 1);
    let seen = await_object(cluster, "hold", apps, "web", corrected).await?;
    assert_eq!(seen["metadata"]["annotations"]["note"], "mine");
    let pieces = list(cluster, NAMESPACE, "secrets", "isochrone.dev/kept=piece").await?;
    assert!(pieces.len() > 2, "a big render has several pieces");
    for piece in &pieces {
        let size = piece["data"]["piece"].as_str().map_or(0, str::len);
        assert!(size <= 512 << 10, "a piece of {size} bytes");
    }

    // No agent, and no hub after: what is deleted meanwhile comes back all the same.
    let number = hub.number;
    hub.stop().await?;
    kubectl(cluster, &["-n", "hold", "delete", "deployments", "web"], &Value::Null).await?;
    kubectl(cluster, &["-n", "hold", "delete", "secrets", "key"], &Value::Null).await?;
    let mut hub = Hub::start(access);
    await_object(cluster, "hold", apps, "web", |o| o.is_some()).await?;
    await_object(cluster, "hold", ("", "v1", "Secret"), "key", |o| o.is_some()).await?;
    let entry = hub.until("hold", "web", |e| e.phase() == Phase::Ready).await?;
    assert_eq!(entry.objects_ready, 3);
    // It remembers what it obeyed: an older order is refused, and removes nothing.
    assert_eq!(hub.ledger.number, number);
    hub.number = number.saturating_sub(2);
    hub.remove("hold", "web");
    hub.send(Input::Connected);
    hub.until("hold", "web", |e| e.phase() == Phase::Ready).await?;
    // An app that the hub does not name is left alone.
    hub.number = number;
    hub.apps.clear();
    hub.tell("last", "web", &[json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})], &[]);
    hub.until("last", "web", |e| e.phase() == Phase::Ready).await?;
    assert_eq!(names(&list(cluster, "hold", "deployments", "").await?), ["web"]);
    ensure!(hub.ledger.entries.iter().any(|e| e.namespace == "hold"), "it is still told of");
    Ok(hub)
}

/// The hub's end of an agent's two channels.
struct Hub {
    number: u64,
    apps: BTreeMap<(String, String), DesiredApp>,
    renders: BTreeMap<Digest, Vec<u8>>,
    ledger: Ledger,
    cluster: Option<ClusterReport>,
    input: mpsc::UnboundedSender<Input>,
    output: mpsc::Receiver<Output>,
    shutdown: CancellationToken,
    engine: JoinHandle<anyhow::Result<()>>,
}

impl Hub {
    fn start(access: &KubeAccess) -> Self {
        let config = Config { kube: access.clone(), namespace: NAMESPACE.into() };
        let (input, mut inputs) = mpsc::unbounded_channel();
        let (to_engine, engine_rx) = mpsc::channel(1);
        let (engine_tx, output) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let ends = shutdown.clone();
        tokio::spawn(async move {
            while let Some(input) = inputs.recv().await {
                if to_engine.send(input).await.is_err() {
                    return;
                }
            }
        });
        let engine = tokio::spawn(async move { Ok(Engine::run(config, engine_rx, engine_tx, ends).await?) });
        let (ledger, cluster) = (Ledger::default(), None);
        Self {
            number: 0,
            apps: BTreeMap::new(),
            renders: BTreeMap::new(),
            ledger,
            cluster,
            input,
            output,
            shutdown,
            engine,
        }
    }

    fn tell(&mut self, namespace: &str, name: &str, objects: &[Value], hosts: &[&str]) {
        let objects = objects.iter().map(Value::to_string).collect();
        let hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
        self.tell_render(namespace, name, Render { objects, hosts, ..Render::default() });
    }

    fn tell_render(&mut self, namespace: &str, name: &str, render: Render) {
        let bytes = render.encode_to_vec();
        let digest = wire::digest(&bytes);
        self.renders.insert(digest.clone(), bytes);
        self.publish(DesiredApp {
            namespace: namespace.into(),
            name: name.into(),
            render: digest,
            ..Default::default()
        });
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        self.publish(DesiredApp { namespace: namespace.into(), name: name.into(), remove: true, ..Default::default() });
    }

    fn publish(&mut self, mut app: DesiredApp) {
        self.number += 1;
        app.epoch = self.number;
        self.apps.insert((app.namespace.clone(), app.name.clone()), app);
        let apps = self.apps.values().cloned().collect();
        self.send(Input::Desired(Desired { term: 1, number: self.number, apps }));
    }

    fn send(&self, input: Input) {
        // An engine that ended is noticed when its outputs are waited for.
        let _ = self.input.send(input);
    }

    /// Serves the agent until its entry for the newest decision about the app is as wished.
    async fn until(
        &mut self,
        namespace: &str,
        name: &str,
        wish: impl Fn(&LedgerEntry) -> bool,
    ) -> anyhow::Result<LedgerEntry> {
        let epoch = self.apps.get(&(namespace.to_owned(), name.to_owned())).map_or(0, |a| a.epoch);
        let mut last = None;
        let wait = async {
            loop {
                let found = self.ledger.entries.iter().find(|e| e.namespace == namespace && e.name == name);
                if let Some(entry) = found.filter(|e| e.epoch >= epoch) {
                    last = Some(entry.clone());
                    if wish(entry) {
                        return Ok(entry.clone());
                    }
                }
                self.serve_one().await?;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, wait).await;
        answer.unwrap_or_else(|_| Err(anyhow::anyhow!("{namespace}/{name} stays {last:?}")))
    }

    async fn serve_one(&mut self) -> anyhow::Result<()> {
        match self.output.recv().await.context("the engine ended")? {
            Output::Ledger(ledger) => self.ledger = ledger,
            Output::Cluster(report) => self.cluster = Some(report),
            // One that has just started has rendered nothing yet.
            Output::Fetch(_) if self.renders.is_empty() => {}
            Output::Fetch(digest) => {
                let bytes = self.renders.get(&digest).context("asks for a blob that nobody named")?.clone();
                self.send(Input::Blob { digest, bytes: bytes.into() });
            }
        }
        Ok(())
    }

    async fn report_is_of(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let wait = async {
            while self.cluster.as_ref().is_none_or(|c| c.nodes_ready < 2) {
                self.serve_one().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, wait).await??;
        let report = self.cluster.clone().context("a report")?;
        assert_eq!((report.uid.as_str(), report.nodes, report.api_ready), (cluster.uid(), 2, true));
        assert!(report.kubernetes.starts_with("v1."), "{report:?}");
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.engine.await?
    }
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "example.com/web"}]}},
    }})
}

async fn kubectl(cluster: &Cluster, args: &[&str], input: &Value) -> anyhow::Result<String> {
    let output = cluster.kubectl_with_input(args, input.to_string().as_bytes()).await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {error}", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// Objects of a kind; `selector` may be empty.
async fn list(cluster: &Cluster, namespace: &str, resource: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
    let text =
        kubectl(cluster, &["-n", namespace, "get", resource, "-l", selector, "-o", "json"], &Value::Null).await?;
    let list: Value = serde_json::from_str(&text)?;
    Ok(list["items"].as_array().context("no list")?.clone())
}

fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().filter_map(|o| o["metadata"]["name"].as_str()).map(str::to_owned).collect()
}

/// Waits for an object to be as wished; `None` stands for its absence.
async fn await_object(
    cluster: &Cluster,
    namespace: &str,
    (group, version, kind): (&str, &str, &str),
    name: &str,
    wish: impl Fn(Option<&Value>) -> bool,
) -> anyhow::Result<Value> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), namespace, &resource);
    let json = |o: &DynamicObject| serde_json::to_value(o).expect("an object is JSON");
    let matches = |o: Option<&DynamicObject>| wish(o.map(json).as_ref());
    let found = tokio::time::timeout(PATIENCE, await_condition(api, name, matches)).await;
    let found = found.with_context(|| format!("{kind} {namespace}/{name} does not become as wished"))??;
    Ok(found.as_ref().map(json).unwrap_or_default())
}

/// Runs the kubectl lines of a ledger message, as a cluster's owner would.
async fn run_hints(cluster: &Cluster, message: &str) -> anyhow::Result<()> {
    let mut ran = 0;
    for line in message.split(". The cluster's owner may allow it: ").skip(1) {
        for command in line.split("; ").next().unwrap_or_default().split(" && ") {
            let args: Vec<&str> = command.split_whitespace().skip(1).collect();
            kubectl(cluster, &args, &Value::Null).await?;
            ran += 1;
        }
    }
    ensure!(ran > 0, "no line to run in {message}");
    Ok(())
}

/// The rights of the agent itself, asked of the API server.
#[tokio::test(flavor = "multi_thread")]
async fn real_rights_of_the_agent_end_where_they_should() -> anyhow::Result<()> {
    let assets = assets_from_env()?;
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(&assets, ClusterSpec::new("iad", dir.path().join("iad"))).await?;
    for object in agent::manifests(NAMESPACE, "isochrone:test") {
        kubectl(&cluster, &["apply", "-f", "-"], &object).await?;
    }
    let access = KubeAccess::Kubeconfig(cluster.kubeconfig_for_service_account(NAMESPACE, agent::AGENT).await?);
    let applier = agent::apply::Applier::new(access.load().await?, NAMESPACE)?;
    let resource = |group: &str, kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let secrets = resource("", "Secret");
    let forbidden = |error: kube::Error| matches!(&error, kube::Error::Api(status) if status.code == 403);

    let elsewhere: Api<DynamicObject> = Api::namespaced_with(applier.own(), "kube-system", &secrets);
    assert!(elsewhere.list(&Default::default()).await.is_err_and(forbidden));
    let app: Api<DynamicObject> = Api::namespaced_with(applier.user("default")?, "default", &secrets);
    assert!(app.list(&Default::default()).await.is_err_and(forbidden), "no rights before the binding");
    // It may bind the one role, and no other; and it may not touch workloads as itself.
    let group = "rbac.authorization.k8s.io";
    let bindings: Api<DynamicObject> = Api::namespaced_with(applier.own(), "default", &resource(group, "RoleBinding"));
    let bind = |role: &str| {
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "b"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "isochrone:app:default"}]})
    };
    let create = |role: &str| serde_json::from_value::<DynamicObject>(bind(role));
    assert!(bindings.create(&Default::default(), &create("edit")?).await.is_err_and(forbidden));
    bindings.create(&Default::default(), &create(agent::names::APP_ROLE)?).await?;
    let workloads: Api<DynamicObject> = Api::namespaced_with(applier.own(), "default", &resource("apps", "Deployment"));
    let patch = Patch::Apply(deployment("web", 1));
    assert!(workloads.patch("web", &PatchParams::apply("test"), &patch).await.is_err_and(forbidden));
    cluster.stop().await;
    Ok(())
}
