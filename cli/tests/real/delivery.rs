//! The main job, whole: a hub and three members, a DNS node in each region; join by token, deliver, steer, lose the hub.
//!
//! It is told twice, word for word: on real kube-apiservers, and on the Kubernetes API from memory. Nothing in it kills
//! a part of a cluster, which only real ones have; tests of that are beside this one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dns::locate::{Builtin, Locate as _};
use world::demo::{self, CLIENTS, HOST};
use world::resolver::Resolver;
use world::system::{Role, System, kubectl};
use world::{Provider, World, WorldSpec, assets_from_env};

use crate::{ISOCHRONE, ONE_WORLD};

#[tokio::test(flavor = "multi_thread")]
async fn real_declare_deliver_steer_and_lose_the_hub() -> anyhow::Result<()> {
    told_on(Provider::Real(assets_from_env()?), 1).await
}

/// The hub, the agents and the DNS nodes are the same processes with the same rights, and kubectl is the real one.
#[tokio::test(flavor = "multi_thread")]
async fn real_the_same_on_clusters_from_memory() -> anyhow::Result<()> {
    told_on(Provider::memory_from_env()?, 4).await
}

async fn told_on(provider: Provider, slot: u8) -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    let spec = WorldSpec { slot, ingress_port: 8080, ..WorldSpec::new() };
    let world = World::start(provider, spec).await?;
    let mut system = System::start(&world, Path::new(ISOCHRONE)).await?;
    // The product's own words say more than an assertion.
    let done = story(&world, &mut system).await.map_err(|error| error.context(system.tails()));
    system.stop().await;
    world.stop().await;
    done
}

async fn story(world: &World, system: &mut System) -> anyhow::Result<()> {
    delivered_everywhere(world).await?;
    steered_by_region(world, system).await?;
    every_address_as_the_naive_look_up_says(world, system).await?;
    explained(system).await?;
    bad_tokens_are_refused_with_what_to_do(system).await?;
    a_second_app_needs_its_owners_leave(world).await?;
    drift_is_repaired_and_strangers_are_left_alone(world).await?;
    without_the_hub_nothing_moves(world, system).await?;
    removed_from_one_cluster_and_nothing_else(world).await?;
    drained(world, system).await?;
    deleted(world).await
}

async fn delivered_everywhere(world: &World) -> anyhow::Result<()> {
    // A declared TTL, so that the story shows it answered and waited out; half the default, since that wait is half of it.
    let manifests = demo::MANIFESTS.replace("{tolerance: 0s}", "{tolerance: 0s, ttl: 15s}");
    ensure!(manifests != demo::MANIFESTS, "the demo's policy has no traffic to declare a TTL in");
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], &manifests).await?;
    ready(world, "shop").await?;
    for member in &world.members {
        let wait = ["wait", "-n", "shop", "--for=condition=Available", "--timeout=30s", "deployment/web"];
        kubectl(&member.cluster, &wait, "").await?;
    }
    Ok(())
}

pub(crate) async fn ready(world: &World, app: &str) -> anyhow::Result<()> {
    let app = format!("apps.isochrone.dev/{app}");
    let waited = kubectl(&world.hub, &["wait", "-n", "shop", "--for=condition=Ready", "--timeout=60s", &app], "").await;
    if let Err(error) = waited {
        let status = kubectl(&world.hub, &["get", "-n", "shop", &app, "-o", "yaml"], "").await?;
        return Err(error.context(status));
    }
    Ok(())
}

/// Asks until `wanted` holds, a bounded time: what is awaited is another process's word.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    let mut last = None;
    while started.elapsed() < Duration::from_secs(60) {
        match ask().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("not within a minute"))).with_context(|| what.to_owned())
}

async fn steered_by_region(world: &World, system: &System) -> anyhow::Result<()> {
    for node in &world.members {
        let server = system.dns(&node.spec.name)?;
        let mut resolver = Resolver::new(server, HOST).await?;
        until("a DNS node has all three clusters", async || {
            let mut right = true;
            for (cluster, client) in CLIENTS {
                let address = world.member(cluster).context("member")?.address;
                right &= resolver.ask(client.parse()?).await?.addresses == [IpAddr::V4(address)];
            }
            Ok(right.then_some(()))
        })
        .await?;
    }
    // The lines that the demo prints for people to paste (kubectl, dig, curl, isochrone) say what they promise.
    for line in demo::lines(world, system)? {
        let shell = tokio::process::Command::new("sh").args(["-c", &line.command]).output().await?;
        let said = String::from_utf8_lossy(&shell.stdout);
        let errors = String::from_utf8_lossy(&shell.stderr);
        ensure!(said.contains(&line.says), "{}\nsaid {said}{errors}\nwithout {:?}", line.command, line.says);
    }
    Ok(())
}

/// Ten thousand seeded random addresses: the cluster that a plain look-up and the great circle name, and the same answer
/// for addresses sampled inside each returned scope.
async fn every_address_as_the_naive_look_up_says(world: &World, system: &System) -> anyhow::Result<()> {
    let mut resolver = Resolver::new(system.dns("iad")?, HOST).await?;
    let table = Builtin::get();
    let mut random = Random(0x0015_0c44_0e5e_ed01);
    let (mut located, mut wrong) = (0, vec![]);
    let mut served: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for _ in 0..10_000 {
        let client = random.public_address();
        let answer = resolver.ask(client.into()).await?;
        ensure!(answer.addresses.len() == 1, "{client}: {answer:?}");
        *served.entry(answer.addresses[0]).or_default() += 1;
        let scope = u32::from(answer.scope.context("a steered answer has a scope")?);
        ensure!(scope <= 32, "{client}: scope {scope}");
        for _ in 0..2 {
            let keep = u32::MAX.checked_shl(32 - scope).unwrap_or(0);
            let inside = Ipv4Addr::from((u32::from(client) & keep) | (random.next() & !keep));
            let other = resolver.ask(inside.into()).await?;
            if other.addresses != answer.addresses {
                wrong.push(format!("{inside} differs from {client} within /{scope}"));
            }
        }
        // The query carries a /24, and so does the naive look-up.
        let network = Ipv4Addr::from(u32::from(client) & 0xffff_ff00);
        if let Some(found) = table.locate(network.into()) {
            located += 1;
            let here = (found.place.coordinates.latitude(), found.place.coordinates.longitude());
            let nearest = world
                .members
                .iter()
                .min_by(|a, b| {
                    let km = |m: &world::Member| great_circle_km(here, (m.spec.latitude, m.spec.longitude));
                    km(a).total_cmp(&km(b))
                })
                .context("members")?;
            if answer.addresses != [IpAddr::V4(nearest.address)] {
                wrong.push(format!("{client} ({here:?}) got {:?}, nearest is {}", answer.addresses, nearest.spec.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} wrong, such as {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    ensure!(located > 5_000, "only {located} of 10,000 are in the table: the comparison proves little");
    ensure!(served.len() == 3, "not every cluster serves somebody: {served:?}");
    Ok(())
}

/// A small seeded generator (xorshift64*), so that the ten thousand are the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).unwrap_or_default()
    }

    fn public_address(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from(self.next());
            let first = address.octets()[0];
            let special = first == 0 || first >= 224 || address.is_private() || address.is_loopback();
            if !special && !address.is_link_local() && first != 100 {
                return address;
            }
        }
    }
}

/// The haversine formula, written here again: the test shares no code with what it tests.
fn great_circle_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [(la, oa), (lb, ob)] = [a, b].map(|(lat, lon)| (lat.to_radians(), lon.to_radians()));
    let h = ((lb - la) / 2.0).sin().powi(2) + la.cos() * lb.cos() * ((ob - oa) / 2.0).sin().powi(2);
    2.0 * 6371.0 * h.sqrt().asin()
}

async fn explained(system: &System) -> anyhow::Result<()> {
    let node = system.dns_admin("sin")?;
    let said = system.isochrone(&["explain", HOST, "--client", CLIENTS[0].1, "--node", &node, "-o", "json"]).await?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(said.to_string().contains("fra"), "{said}");
    let table = system.isochrone(&["explain", HOST, "--client", CLIENTS[1].1, "--node", &node]).await?;
    ensure!(table.contains("iad") && table.contains("km") && table.contains("TTL      15 s"), "{table}");
    let assumed = ["explain", HOST, "--client", CLIENTS[1].1, "--node", &node, "--assume", "iad=down"];
    let table = system.isochrone(&assumed).await?;
    ensure!(table.contains("down"), "{table}");
    // The hub passes the question on, to the node that is named.
    let hub = format!("{}:7480", system.address(&Role::Hub)?);
    let through = ["explain", HOST, "--client", CLIENTS[0].1, "--hub", &hub, "--at", "ns-sin", "-o", "json"];
    let passed: serde_json::Value = serde_json::from_str(&system.isochrone(&through).await?)?;
    ensure!(passed["candidates"].as_array().is_some_and(|all| all.len() == 3), "{passed}");
    ensure!(passed["node"] == "ns-sin" && passed["location"] == said["location"], "{passed}\n{said}");
    let Err(error) = system.isochrone(&[&through[..7], &["nowhere"]].concat()).await else {
        anyhow::bail!("a node that does not exist has explained")
    };
    ensure!(error.to_string().contains("no DNS node nowhere is connected"), "{error}");
    Ok(())
}

async fn bad_tokens_are_refused_with_what_to_do(system: &System) -> anyhow::Result<()> {
    let given = |role: &Role, name: &str| system.argument(role, name).map(str::to_owned).context("argument");
    let agent = |name: &str| Role::Agent(name.to_owned());
    let node_token = given(&Role::Dns("fra".to_owned()), "--join")?;
    let (token, kubeconfig) = (given(&agent("fra"), "--join")?, given(&agent("iad"), "--kubeconfig")?);
    let state = tempfile::tempdir()?;
    let state = state.path().to_str().context("UTF-8")?;
    let dns = |token| ["dns", "--state", state, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--join", token];
    let agent_of_iad = ["agent", "--kubeconfig", &kubeconfig, "--admin", "127.0.0.1:0", "--join", &token];
    let mangled = format!("{}x{}", &node_token[..20], &node_token[21..]);
    let cases: [(&[&str], &str); 5] = [
        (&dns(&node_token), "used already, with another key"),
        (&dns(&token), "for an agent, not for a DNS node"),
        (&dns(&mangled), "token"),
        (&dns("hello"), "token"),
        (&agent_of_iad, "but the token is for cluster fra"),
    ];
    for (args, words) in cases {
        let Err(error) = system.isochrone(args).await else { anyhow::bail!("isochrone {args:?} succeeded") };
        ensure!(error.to_string().contains(words), "isochrone {args:?} said {error:#}, without {words:?}");
    }
    Ok(())
}

/// A CRD and its object need rights that only the member's owner gives; the refusal says which.
async fn a_second_app_needs_its_owners_leave(world: &World) -> anyhow::Result<()> {
    let asked = Instant::now();
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], WIDGETS).await?;
    let message = until("the refusal is told", async || {
        let path = "jsonpath={.status.worst[0].reason} {.status.worst[0].message}";
        let said = kubectl(&world.hub, &["get", "-n", "shop", "apps.isochrone.dev/widgets", "-o", path], "").await?;
        Ok(said.starts_with("Forbidden").then_some(said))
    })
    .await?;
    ensure!(message.contains("isochrone:app:shop") && message.contains("kubectl create"), "{message}");
    // It is told at once: the 30 s that an agent gives a definition to be Established are not for one that was refused.
    ensure!(asked.elapsed() < Duration::from_secs(25), "it was told only after {:?}", asked.elapsed());
    for member in &world.members {
        kubectl(&member.cluster, &["apply", "-f", "-"], WIDGET_RIGHTS).await?;
    }
    ready(world, "widgets").await?;
    for member in &world.members {
        kubectl(&member.cluster, &["get", "-n", "shop", "widgets.example.com/first"], "").await?;
    }
    Ok(())
}

async fn drift_is_repaired_and_strangers_are_left_alone(world: &World) -> anyhow::Result<()> {
    let fra = &world.member("fra").context("fra")?.cluster;
    kubectl(fra, &["create", "configmap", "-n", "shop", "strangers", "--from-literal=a=b"], "").await?;
    kubectl(fra, &["delete", "-n", "shop", "configmap/settings"], "").await?;
    until("the deleted ConfigMap is back", async || {
        Ok(kubectl(fra, &["get", "-n", "shop", "configmap/settings"], "").await.ok())
    })
    .await?;
    let patch = ["patch", "-n", "shop", "configmap/settings", "--type=merge", "-p", r#"{"data":{"colour":"red"}}"#];
    kubectl(fra, &patch, "").await?;
    until("the changed ConfigMap is as declared", async || {
        let path = ["get", "-n", "shop", "configmap/settings", "-o", "jsonpath={.data.colour}"];
        Ok((kubectl(fra, &path, "").await? == "green").then_some(()))
    })
    .await
}

/// Hub and one agent die; an object is deleted; the agent alone brings it back. DNS answers all the while.
async fn without_the_hub_nothing_moves(world: &World, system: &mut System) -> anyhow::Result<()> {
    let (hub, agent) = (Role::Hub, Role::Agent("fra".to_owned()));
    system.kill(&hub)?;
    system.kill(&agent)?;
    let fra = &world.member("fra").context("fra")?.cluster;
    kubectl(fra, &["delete", "-n", "shop", "deployment/web", "--wait"], "").await?;
    system.revive(&agent)?;
    let wait = ["wait", "-n", "shop", "--for=create", "--timeout=60s", "deployment/web"];
    kubectl(fra, &wait, "").await.context("without a hub the agent brings the Deployment back")?;
    // A DNS node that starts without a hub answers from its own disk.
    let node = Role::Dns("sin".to_owned());
    system.kill(&node)?;
    system.revive(&node)?;
    let mut resolver = Resolver::new(system.dns("sin")?, HOST).await?;
    for (cluster, client) in CLIENTS {
        let address = world.member(cluster).context("member")?.address;
        until("the node answers without a hub", async || {
            let answer = resolver.ask(client.parse()?).await?;
            Ok((answer.addresses == [IpAddr::V4(address)]).then_some(()))
        })
        .await?;
    }
    system.revive(&hub)?;
    ready(world, "shop").await
}

/// A policy that no longer wants a cluster: what was delivered there is gone, and nothing else.
async fn removed_from_one_cluster_and_nothing_else(world: &World) -> anyhow::Result<()> {
    let narrowed = r#"{"spec":{"clusters":{"matchExpressions":[{"key":"isochrone.dev/cluster","operator":"NotIn","values":["fra"]}]}}}"#;
    kubectl(&world.hub, &["patch", "-n", "shop", "rp/near", "--type=merge", "-p", narrowed], "").await?;
    let fra = &world.member("fra").context("fra")?.cluster;
    for object in ["deployment/web", "service/web", "configmap/settings"] {
        let wait = ["wait", "-n", "shop", "--for=delete", "--timeout=60s", object];
        kubectl(fra, &wait, "").await.with_context(|| format!("{object} is removed from fra"))?;
    }
    kubectl(fra, &["get", "-n", "shop", "configmap/strangers"], "").await.context("a stranger's object stays")?;
    kubectl(fra, &["get", "crd", "widgets.example.com"], "").await.context("a CRD is not pruned without Cascade")?;
    for name in ["iad", "sin"] {
        let cluster = &world.member(name).context("member")?.cluster;
        kubectl(cluster, &["get", "-n", "shop", "deployment/web"], "").await?;
    }
    until("the App counts two clusters", async || {
        let path =
            ["get", "-n", "shop", "apps.isochrone.dev/shop", "-o", "jsonpath={.status.clusters}/{.status.removing}"];
        Ok((kubectl(&world.hub, &path, "").await? == "2/0").then_some(()))
    })
    .await
}

/// `drain` moves a cluster's users away at once, and only its own.
async fn drained(world: &World, system: &System) -> anyhow::Result<()> {
    let patch = ["patch", "cluster.isochrone.dev/iad", "--type=merge", "-p", r#"{"spec":{"drain":true}}"#];
    kubectl(&world.hub, &patch, "").await?;
    let sin = world.member("sin").context("sin")?.address;
    for node in ["fra", "iad", "sin"] {
        let mut resolver = Resolver::new(system.dns(node)?, HOST).await?;
        until("users of iad are sent elsewhere", async || {
            let answer = resolver.ask(CLIENTS[1].1.parse()?).await?;
            Ok((answer.addresses == [IpAddr::V4(sin)]).then_some(()))
        })
        .await?;
    }
    let patch = ["patch", "cluster.isochrone.dev/iad", "--type=merge", "-p", r#"{"spec":{"drain":false}}"#];
    kubectl(&world.hub, &patch, "").await.map(drop)
}

/// Deleting an App removes it everywhere and only then lets the object go.
async fn deleted(world: &World) -> anyhow::Result<()> {
    kubectl(&world.hub, &["delete", "-n", "shop", "apps.isochrone.dev/shop", "--timeout=60s"], "").await?;
    for name in ["iad", "sin"] {
        let cluster = &world.member(name).context("member")?.cluster;
        let left = kubectl(cluster, &["get", "-n", "shop", "deployment,service,configmap", "-o", "name"], "").await?;
        ensure!(!left.contains("/web") && !left.contains("settings"), "{name} still has {left}");
    }
    Ok(())
}

const WIDGETS: &str = r#"
apiVersion: isochrone.dev/v1alpha1
kind: App
metadata: {name: widgets, namespace: shop}
spec:
  policy: near
  source:
    inline:
      manifests:
        - apiVersion: example.com/v1
          kind: Widget
          metadata: {name: first}
          spec: {size: 3}
        - apiVersion: apiextensions.k8s.io/v1
          kind: CustomResourceDefinition
          metadata: {name: widgets.example.com}
          spec:
            group: example.com
            scope: Namespaced
            names: {kind: Widget, plural: widgets, singular: widget}
            versions:
              - name: v1
                served: true
                storage: true
                schema:
                  openAPIV3Schema:
                    type: object
                    properties: {spec: {type: object, properties: {size: {type: integer}}}}
"#;

/// What the members' owners bind so that namespace shop may bring its own kind.
const WIDGET_RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: widgets}
rules:
  - apiGroups: [apiextensions.k8s.io]
    resources: [customresourcedefinitions]
    verbs: [get, list, watch, create, update, patch, delete]
  - apiGroups: [example.com]
    resources: [widgets]
    verbs: [get, list, watch, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: widgets-of-shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: widgets}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "isochrone:app:shop"}]
"#;
