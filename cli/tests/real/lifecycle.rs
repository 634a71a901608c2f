//! What becomes of a fleet over the years: the hub's cluster is set back to a backup, a policy takes an app from where
//! users are, a cluster is given up and returns. One world, one story after the other.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use world::demo::{CLIENTS, HOST};
use world::resolver::Resolver;
use world::system::{Role, System, kubectl};
use world::{World, WorldSpec, assets_from_env};

use crate::crowd::{Crowd, Place};
use crate::delivery::{ready, until};
use crate::upkeep::{
    Audit, DOORS, Objects, WAIT, blue, delivered_and_steered, nodes, object, still, watch_when_all_are_nearest,
};
use crate::{ISOCHRONE, ONE_WORLD};

#[tokio::test(flavor = "multi_thread")]
async fn real_set_back_narrowed_and_forgotten() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    let spec = WorldSpec { slot: 8, ingress_port: DOORS, ..WorldSpec::new() };
    let world = World::start(&assets_from_env()?, spec).await?;
    let mut system = System::start(&world, Path::new(ISOCHRONE)).await?;
    let done = stories(&world, &mut system).await.map_err(|error| error.context(system.tails()));
    let killed = system.stop().await;
    world.stop().await;
    done?;
    ensure!(killed.is_empty(), "{killed:?} did not end when asked");
    Ok(())
}

async fn stories(world: &World, system: &mut System) -> anyhow::Result<()> {
    delivered_and_steered(world, system).await?;

    the_hub_is_set_back(world, system).await.context("the hub set back to a backup")?;
    narrowed_under_load(world, system).await.context("a policy narrowed under load")?;
    revoked_and_let_in_again(world, system).await.context("certificates revoked")?;
    given_up_and_back(world, system).await.context("a cluster given up")
}

/// The hub's cluster is set back to a copy of its etcd, from before two more leaders, many more numbers and one App. It
/// is obeyed again, no number goes backwards, nothing moves and nothing is written; what it does not know is left alone.
async fn the_hub_is_set_back(world: &World, system: &mut System) -> anyhow::Result<()> {
    let hub = Role::Hub;
    let backup = world.dir().join("backup");
    system.end(&hub).await?;
    world.hub.backup(&backup).await?;

    for _ in 0..2 {
        system.revive(&hub)?;
        drain(world, "sin", true).await?;
        users_of_sin_leave(world, system).await?;
        drain(world, "sin", false).await?;
        system.end(&hub).await?;
    }
    system.revive(&hub)?;
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], LATER).await?;
    ready(world, "later").await?;
    let watcher = watch_when_all_are_nearest(world, system).await?;
    let (numbers, term) = (snapshots(world, system).await?, lease_term(world).await?);
    let mut before = vec![];
    for member in &world.members {
        before.push((Objects::of(&member.cluster).await?, Audit::from_now(&member.cluster)?));
    }

    system.kill(&hub)?;
    world.hub.restore(&backup).await?;
    ensure!(lease_term(world).await? < term, "the Lease was not set back");
    system.revive(&hub)?;
    // An agent writes down what a leader of a new term told it.
    for (_, audit) in &before {
        until("an agent obeys the hub again", async || Ok((!audit.kept()?.is_empty()).then_some(()))).await?;
    }
    ensure!(lease_term(world).await? > term, "obeyed in a term that is not above all earlier ones");
    still(watcher).await?;
    for (member, (objects, audit)) in world.members.iter().zip(&before) {
        let wrote = audit.wrote()?;
        ensure!(wrote.is_empty(), "the agent of {} wrote {wrote:?}", member.spec.name);
        ensure!(*objects == Objects::of(&member.cluster).await?, "objects of {} changed", member.spec.name);
        object(&member.cluster, &["-n", "shop", "configmap/later"]).await.context("what the copy does not know")?;
    }
    // What is written now is done, everywhere, and the DNS nodes take in what it numbers.
    let patch = r#"[{"op":"replace","path":"/spec/source/inline/manifests/0/data/colour","value":"blue"}]"#;
    kubectl(&world.hub, &["patch", "-n", "shop", "apps.isochrone.dev/shop", "--type=json", "-p", patch], "").await?;
    for member in &world.members {
        blue(&member.cluster).await?;
    }
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], LATER).await?;
    ready(world, "later").await?;
    kubectl(&world.hub, &["label", "cluster.isochrone.dev/iad", "story=set-back"], "").await?;
    let ttl = r#"{"spec":{"traffic":{"ttl":"3s"}}}"#;
    kubectl(&world.hub, &["patch", "-n", "shop", "rp/near", "--type=merge", "-p", ttl], "").await?;
    until("every node serves a later snapshot", async || {
        let now = snapshots(world, system).await?;
        ensure!(now.iter().zip(&numbers).all(|(now, before)| now >= before), "{now:?} after {numbers:?}");
        Ok(now.iter().zip(&numbers).all(|(now, before)| now > before).then_some(()))
    })
    .await
}

/// A policy takes the app from `iad` while its users come all the time: they are sent elsewhere first, and when the copy
/// goes nobody is there any more. Nobody notices.
async fn narrowed_under_load(world: &World, system: &System) -> anyhow::Result<()> {
    let servers: Vec<_> = nodes(world, system)?.into_values().collect();
    let place =
        |(home, client): (&str, &str)| anyhow::Ok(Place { home: home.to_owned(), client: client.parse()?, users: 4 });
    let places = CLIENTS.into_iter().map(place).collect::<anyhow::Result<Vec<_>>>()?;
    let started = Instant::now();
    let crowd = Crowd::start(&servers, HOST, DOORS, &places).await?;
    let served_by = |home: &str, cluster: &str, since: Instant| {
        let served = crowd.last_served(home, since);
        served.len() == 4 && served.values().all(|by| by == cluster)
    };
    let at_home = |since| places.iter().all(|place| served_by(&place.home, &place.home, since)).then_some(());
    until("everybody is served at home", async || Ok(at_home(started))).await?;

    let select = async |spec: &str| {
        kubectl(&world.hub, &["patch", "-n", "shop", "rp/near", "--type=merge", "-p", spec], "").await
    };
    select(r#"{"spec":{"clusters":{"matchExpressions":[{"key":"isochrone.dev/cluster","operator":"NotIn","values":["iad"]}]}}}"#)
        .await?;
    let iad = &world.member("iad").context("iad")?.cluster;
    kubectl(iad, &["wait", "-n", "shop", "--for=delete", WAIT, "deployment/web"], "").await?;
    let gone = Instant::now();
    until("users of iad are served elsewhere", async || Ok(served_by("iad", "fra", gone).then_some(()))).await?;
    select(r#"{"spec":{"clusters":null}}"#).await?;
    let back = Instant::now();
    until("everybody is served at home again", async || Ok(at_home(back))).await?;

    let visits = crowd.visits();
    drop(crowd);
    let failed: Vec<_> = visits.iter().filter(|visit| visit.served.is_err()).collect();
    ensure!(failed.is_empty(), "{} of {} visits failed, such as {:?}", failed.len(), visits.len(), failed[0]);
    eprintln!("narrowed: {} visits without a failure", visits.len());
    Ok(())
}

/// A revoked agent holds still, a revoked node goes on answering; each is let in again by a new token.
async fn revoked_and_let_in_again(world: &World, system: &mut System) -> anyhow::Result<()> {
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?.to_owned();
    let agent = Role::Agent("fra".to_owned());
    let said = system.isochrone(&["cluster", "revoke", "fra", "--kubeconfig", &admin]).await?;
    ensure!(said.contains("isochrone cluster add fra --region"), "{said}");
    kubectl(&world.hub, &["wait", "--for=condition=Connected=false", "cluster.isochrone.dev/fra", WAIT], "").await?;
    until("the agent knows", async || Ok(system.tails().contains("dismissed").then_some(()))).await?;
    // It holds still over a restart, which would else repair at once; it is refused again after that.
    let fra = &world.member("fra").context("fra")?.cluster;
    let audit = Audit::from_now(fra)?;
    kubectl(fra, &["delete", "-n", "shop", "configmap/settings"], "").await?;
    system.end(&agent).await?;
    system.revive(&agent)?;
    until("the restarted agent is refused", async || {
        let log = system.log(&agent)?;
        Ok((log.matches("the hub refuses this agent").count() >= 2).then_some(()))
    })
    .await?;
    ensure!(audit.wrote()?.is_empty(), "{:?}", audit.wrote()?);

    system.end(&agent).await?;
    let line = added(world, system, "cluster", "fra").await?;
    system.join_anew(&agent, &line)?;
    kubectl(&world.hub, &["wait", "--for=condition=Connected", "cluster.isochrone.dev/fra", WAIT], "").await?;
    until("the deleted ConfigMap is back", async || {
        Ok(kubectl(fra, &["get", "-n", "shop", "configmap/settings"], "").await.ok())
    })
    .await?;

    let node = Role::Dns("sin".to_owned());
    system.isochrone(&["dns", "revoke", "ns-sin", "--kubeconfig", &admin]).await?;
    until("the hub turns the node away", async || {
        let log = system.log(&node)?;
        Ok(log.contains("revoked this certificate").then_some(()))
    })
    .await?;
    let mut resolver = Resolver::new(system.dns("sin")?, HOST).await?;
    ensure!(!resolver.ask(CLIENTS[0].1.parse()?).await?.addresses.is_empty(), "it goes on answering");
    system.end(&node).await?;
    let line =
        system.isochrone(&["dns", "add", "ns-sin", "--region", "ap-southeast-1", "--kubeconfig", &admin]).await?;
    system.join_anew(&node, &line)?;
    until("the node is connected", async || {
        let metrics = system.dns_metrics("sin").await?;
        Ok(metrics.contains("isochrone_dns_connected 1").then_some(()))
    })
    .await
}

/// A cluster that never returns holds an App's deletion up until it is forgotten; when it does return, it keeps what it
/// has, and its agent holds still until it joins anew.
async fn given_up_and_back(world: &World, system: &mut System) -> anyhow::Result<()> {
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?.to_owned();
    let (agent, forget) = (Role::Agent("iad".to_owned()), ["cluster", "forget", "iad", "--kubeconfig", &admin]);
    for unknown in [["cluster", "forget"], ["cluster", "revoke"], ["dns", "forget"], ["dns", "revoke"]] {
        let args = [&unknown[..], &["typo", "--kubeconfig", &admin]].concat();
        let Err(error) = system.isochrone(&args).await else { anyhow::bail!("isochrone {args:?} succeeded") };
        ensure!(error.to_string().contains("typo"), "{error}");
    }
    let Err(error) = system.isochrone(&forget).await else { anyhow::bail!("a connected cluster was forgotten") };
    ensure!(error.to_string().contains("iad is connected") && error.to_string().contains("--connected"), "{error}");
    system.kill(&agent)?;
    kubectl(&world.hub, &["wait", "--for=condition=Connected=false", "cluster.isochrone.dev/iad", WAIT], "").await?;
    kubectl(&world.hub, &["delete", "-n", "shop", "apps.isochrone.dev/shop", "--wait=false"], "").await?;
    until("the status says what to do", async || {
        let app = object(&world.hub, &["-n", "shop", "apps.isochrone.dev/shop"]).await?;
        let worst = app["status"]["worst"].as_array().cloned().unwrap_or_default();
        let told = |pair: &serde_json::Value| {
            pair["cluster"] == "iad"
                && pair["message"].as_str().unwrap_or_default().contains("isochrone cluster forget iad")
        };
        Ok((worst.len() == 1 && worst.iter().all(told)).then_some(()))
    })
    .await?;
    let said = system.isochrone(&forget).await?;
    ensure!(said.contains("iad is forgotten") && said.contains("shop/shop"), "{said}");
    kubectl(&world.hub, &["wait", "-n", "shop", "--for=delete", WAIT, "apps.isochrone.dev/shop"], "").await?;

    let iad = &world.member("iad").context("iad")?.cluster;
    let audit = Audit::from_now(iad)?;
    system.revive(&agent)?;
    until("the agent is dismissed", async || Ok(system.log(&agent)?.contains("dismissed").then_some(()))).await?;
    ensure!(!audit.wrote()?.iter().any(|line| line.starts_with("delete")), "{:?}", audit.wrote()?);
    kubectl(iad, &["get", "-n", "shop", "deployment/web"], "").await.context("what runs there stays")?;
    system.end(&agent).await?;
    let line = added(world, system, "cluster", "iad").await?;
    system.join_anew(&agent, &line)?;
    kubectl(&world.hub, &["wait", "--for=condition=Connected", "cluster.isochrone.dev/iad", WAIT], "").await?;
    kubectl(iad, &["get", "-n", "shop", "deployment/web"], "").await.context("what runs there stays")?;
    Ok(())
}

/// The line that `cluster add` or `dns add` prints for a member.
async fn added(world: &World, system: &System, kind: &str, member: &str) -> anyhow::Result<String> {
    let spec = &world.member(member).context("a member")?.spec;
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?;
    let name = if kind == "dns" { format!("ns-{member}") } else { member.to_owned() };
    let location = format!("{},{}", spec.latitude, spec.longitude);
    let mut add = vec![kind, "add", &name, "--region", &spec.region, "--kubeconfig", admin];
    if kind == "cluster" {
        add.extend(["--location", &location]);
    }
    system.isochrone(&add).await
}

async fn drain(world: &World, cluster: &str, drained: bool) -> anyhow::Result<()> {
    let (cluster, patch) = (format!("cluster.isochrone.dev/{cluster}"), format!(r#"{{"spec":{{"drain":{drained}}}}}"#));
    kubectl(&world.hub, &["patch", &cluster, "--type=merge", "-p", &patch], "").await.map(drop)
}

/// Waits until the node of `sin` sends its own users elsewhere.
async fn users_of_sin_leave(world: &World, system: &System) -> anyhow::Result<()> {
    let home = IpAddr::V4(world.member("sin").context("sin")?.address);
    let mut resolver = Resolver::new(system.dns("sin")?, HOST).await?;
    until("users of sin are sent elsewhere", async || {
        let answer = resolver.ask(CLIENTS[2].1.parse()?).await?;
        Ok((!answer.addresses.contains(&home)).then_some(()))
    })
    .await
}

/// The number of the snapshot that each node serves.
async fn snapshots(world: &World, system: &System) -> anyhow::Result<Vec<u64>> {
    let mut numbers = vec![];
    for member in &world.members {
        let metrics = system.dns_metrics(&member.spec.name).await?;
        let number = metrics.lines().find_map(|line| line.strip_prefix("isochrone_dns_snapshot "));
        numbers.push(number.context("a metric")?.parse()?);
    }
    Ok(numbers)
}

async fn lease_term(world: &World) -> anyhow::Result<u64> {
    let lease = object(&world.hub, &["-n", "isochrone-system", "lease/isochrone-hub"]).await?;
    lease["spec"]["leaseTransitions"].as_u64().context("a term")
}

const LATER: &str = r#"
apiVersion: isochrone.dev/v1alpha1
kind: App
metadata: {name: later, namespace: shop}
spec:
  policy: near
  source:
    inline:
      manifests:
        - {apiVersion: v1, kind: ConfigMap, metadata: {name: later}, data: {a: b}}
"#;
