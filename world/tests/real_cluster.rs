//! One real cluster from start to stop: the rig's own promises.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use ingress::LoadBalancer;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::wait::{await_condition, conditions};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use world::{Assets, Cluster, ClusterSpec, Component, Ingress, IngressSpec, World, WorldSpec, assets_from_env};

const SHOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop, app.kubernetes.io/version: "1.4.2"}}
    spec: {containers: [{name: web, image: example.com/shop, resources: {requests: {cpu: 100m}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, annotations: {isochrone.dev/host: shop.example}}
spec: {type: LoadBalancer, selector: {app: shop}, ports: [{port: 80}]}
"#;

const WORKLOADS: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: example.com/once}]}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template: {metadata: {labels: {app: each}}, spec: {containers: [{name: main, image: example.com/each}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec: {containers: [{name: main, image: example.com/huge, resources: {requests: {cpu: "100"}}}]}
"#;

const NAMED: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  rules:
  - host: shop.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: inner, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: inner}
spec: {selector: {app: shop}, ports: [{port: 80}]}
"#;

/// The door of this test, in a network that no world's slot uses.
const DOOR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 19, 1, 1));

#[tokio::test(flavor = "multi_thread")]
async fn real_cluster_serves_follows_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let (_dir, cluster) = start("fra").await?;
    let client = cluster.client();
    let _load_balancer = LoadBalancer::start(client.clone(), DOOR);
    let spec = IngressSpec { cluster: "fra".to_owned(), region: "eu-central".to_owned(), address: DOOR, port: 0 };
    let mut ingress = Ingress::start(&cluster, spec).await?;
    let door = ingress.address();
    assert_eq!(get(door, "shop.example").await?.0, 404);

    apply(&cluster, SHOP).await?;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let available = |deployment: Option<&Deployment>| {
        deployment.and_then(|deployment| deployment.status.as_ref()?.available_replicas) == Some(2)
    };
    await_condition(deployments, "shop", available).await?;
    let services = Api::<Service>::default_namespaced(client.clone());
    await_condition(services, "shop", has_address).await?;
    // The two pods share the two nodes.
    let pods = Api::<Pod>::default_namespaced(client.clone()).list(&ListParams::default()).await?;
    let mut nodes: Vec<_> = pods.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
    nodes.sort();
    assert_eq!(nodes, ["fra-1", "fra-2"]);

    let body = await_answer(door, 200).await?;
    assert_eq!(body["cluster"], "fra");
    assert_eq!(body["region"], "eu-central");
    assert_eq!(body["service"], "default/shop");
    assert_eq!(body["version"], "1.4.2");
    assert!(body["client"].as_str().is_some_and(|client| client.starts_with("127.")), "{body}");

    let output = cluster.kubectl(&["scale", "deployment/shop", "--replicas=0"]).await?;
    assert!(output.status.success(), "{output:?}");
    await_answer(door, 503).await?;

    ingress.kill();
    assert!(get(door, "shop.example").await.is_err());
    ingress.revive().await?;
    assert_eq!(get(door, "shop.example").await?.0, 503);

    let pids = cluster.processes();
    assert_eq!(pids.keys().copied().collect::<Vec<_>>(), Component::ALL);
    drop(ingress);
    cluster.stop().await;
    assert_eq!(alive(&pids), Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cluster_knows_identities_and_survives_a_killed_api_server() -> anyhow::Result<()> {
    let (_dir, cluster) = start("iad").await?;
    let uid = cluster.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]).await?;
    assert_eq!(String::from_utf8(uid.stdout)?, cluster.uid());

    // A service account has no rights until it gets some, and its reads are audited.
    let kubeconfig = cluster.kubeconfig_for_service_account("default", "default").await?;
    let list = ["get", "pods", "--kubeconfig", kubeconfig.to_str().context("a path")?];
    let output = cluster.kubectl(&list).await?;
    assert!(String::from_utf8(output.stderr)?.contains("Forbidden"));
    let grant = ["create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:default"];
    assert!(cluster.kubectl(&grant).await?.status.success());
    let output = cluster.kubectl(&list).await?;
    assert!(output.status.success(), "{output:?}");
    let audit = audit(&cluster.audit_log()?)?;
    let answers = |user: &str, verb: &str, resource: &str| -> Vec<&Value> {
        let events = audit.iter().filter(|event| {
            event["user"]["username"] == user && event["verb"] == verb && event["objectRef"]["resource"] == resource
        });
        events.map(|event| &event["responseStatus"]["code"]).collect()
    };
    assert_eq!(answers("system:serviceaccount:default:default", "list", "pods"), [403, 200]);
    assert_eq!(answers("admin", "create", "rolebindings"), [201]);
    assert_eq!(answers("admin", "get", "namespaces"), Vec::<&Value>::new());
    assert!(audit.iter().all(|event| event["level"] == "Metadata" && event["requestObject"].is_null()));

    cluster.kill(Component::ApiServer).await?;
    assert!(!cluster.processes().contains_key(&Component::ApiServer));
    assert!(cluster.kill(Component::ApiServer).await.is_err());
    let refused = cluster.client().apiserver_version().await;
    assert!(refused.is_err(), "{refused:?}");
    cluster.revive(Component::ApiServer).await?;
    apply(&cluster, SHOP).await?;
    let deployments = Api::<Deployment>::default_namespaced(cluster.client());
    await_condition(deployments, "shop", conditions::is_deployment_completed()).await?;

    // Dropped, not stopped: even so nothing stays.
    let pids = cluster.processes();
    drop(cluster);
    assert_eq!(alive(&pids), Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cluster_that_cannot_start_says_why() -> anyhow::Result<()> {
    let assets = assets_from_env()?;
    let dir = tempfile::tempdir()?;
    let mut spec = ClusterSpec::new("odd", dir.path());
    spec.node_capacity = BTreeMap::from([("cpu".to_owned(), "many".to_owned())]);
    let error = Cluster::start(&assets, spec).await.err().context("a cluster with many CPUs started")?;
    let error = format!("{error:#}");
    ensure!(error.contains("starting the cluster odd") && error.contains("making the node odd-1"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cluster_runs_every_kind_of_workload_that_fits() -> anyhow::Result<()> {
    let (_dir, cluster) = start("sin").await?;
    apply(&cluster, WORKLOADS).await?;
    let jobs = Api::<Job>::default_namespaced(cluster.client());
    await_condition(jobs, "once", conditions::is_job_completed()).await?;
    let sets = Api::<DaemonSet>::default_namespaced(cluster.client());
    let everywhere = |set: Option<&DaemonSet>| {
        set.and_then(|set| set.status.as_ref()).is_some_and(|status| status.number_ready == 2)
    };
    await_condition(sets, "each", everywhere).await?;
    let pods = Api::<Pod>::default_namespaced(cluster.client());
    let unschedulable = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        let message = conditions.into_iter().flatten().find_map(|condition| condition.message.as_deref());
        message == Some("0/2 nodes are available: 2 Insufficient cpu.")
    };
    await_condition(pods, "huge", unschedulable).await?;
    // An agent's pod may be deleted at any time; so may these.
    let output = cluster.kubectl(&["delete", "pods", "--all", "--wait", "--timeout=60s"]).await?;
    assert!(output.status.success(), "{output:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_world_has_a_hub_and_members_with_doors() -> anyhow::Result<()> {
    // Another port than 80, so that it needs no rights; a slot that nobody takes by default.
    let spec = WorldSpec { slot: 90, ingress_port: 0, ..WorldSpec::with_members(1)? };
    let mut world = World::start(&assets_from_env()?, spec).await?;
    let dir = world.dir().to_owned();
    let member = world.member_mut("fra").context("no member fra")?;
    assert_ne!(member.cluster.uid(), "");
    apply(&member.cluster, SHOP).await?;
    apply(&member.cluster, NAMED).await?;
    let client = member.cluster.client();
    let address = member.address.to_string();
    let filled = |ingress: Option<&IngressObject>| {
        let status = || ingress?.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.clone();
        status() == Some(address.clone())
    };
    await_condition(Api::<IngressObject>::default_namespaced(client.clone()), "shop", filled).await?;
    let deployments = Api::<Deployment>::default_namespaced(client);
    await_condition(deployments, "shop", conditions::is_deployment_completed()).await?;
    let door = member.ingress.address();
    assert_eq!(door.ip(), IpAddr::V4(Ipv4Addr::new(127, 110, 1, 1)));
    let body = await_answer(door, 200).await?;
    assert_eq!((&body["service"], &body["region"]), (&"default/inner".into(), &"eu-central".into()));

    // The door goes on while the API server is away.
    member.cluster.kill(Component::ApiServer).await?;
    assert_eq!(get(door, "shop.example").await?.0, 200);
    member.cluster.revive(Component::ApiServer).await?;

    let pids: Vec<_> = [&world.hub, &world.members[0].cluster].map(Cluster::processes).into();
    world.stop().await;
    for pids in &pids {
        assert_eq!(alive(pids), Vec::<PathBuf>::new());
    }
    assert!(!dir.exists());
    assert!(get(door, "shop.example").await.is_err());
    Ok(())
}

async fn start(name: &str) -> anyhow::Result<(tempfile::TempDir, Cluster)> {
    let assets: Assets = assets_from_env()?;
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(&assets, ClusterSpec::new(name, dir.path())).await?;
    Ok((dir, cluster))
}

async fn apply(cluster: &Cluster, manifest: &str) -> anyhow::Result<()> {
    let output = cluster.kubectl_with_input(&["apply", "-f", "-"], manifest.as_bytes()).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn has_address(service: Option<&Service>) -> bool {
    let address = || service?.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.clone();
    address() == Some(DOOR.to_string())
}

/// Asks until the door answers with this status; it follows the cluster by watches of its own, which nobody else can
/// await.
async fn await_answer(door: SocketAddr, status: u16) -> anyhow::Result<Value> {
    let asked = async {
        loop {
            let answer = get(door, "shop.example").await?;
            if answer.0 == status {
                return anyhow::Ok(answer.1);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let bound = Duration::from_secs(120);
    tokio::time::timeout(bound, asked).await.with_context(|| format!("no answer {status} in {bound:?}"))?
}

async fn get(door: SocketAddr, host: &str) -> anyhow::Result<(u16, Value)> {
    let mut stream = tokio::net::TcpStream::connect(door).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
    Ok((status, serde_json::from_str(body)?))
}

fn audit(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn alive(pids: &BTreeMap<Component, u32>) -> Vec<PathBuf> {
    pids.values().map(|pid| PathBuf::from(format!("/proc/{pid}"))).filter(|path| path.exists()).collect()
}
