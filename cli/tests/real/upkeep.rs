//! What operators do to a system that serves: drain a cluster, upgrade an agent, lose and restart the hub while a member
//! is away, give an App rights. One world, one story after the other; each leaves it as it found it.
//!
//! That nothing was written is read from the members' own audit logs, and from the versions of the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use world::demo::{self, CLIENTS, HOST};
use world::failover::{Seen, View, Watcher};
use world::resolver::Resolver;
use world::system::{Role, System, kubectl};
use world::{Cluster, Component, World, WorldSpec, assets_from_env};

use crate::crowd::{Crowd, Place};
use crate::delivery::{ready, until};
use crate::{ISOCHRONE, ONE_WORLD};

/// Where the doors listen; a port that needs no rights.
pub(crate) const DOORS: u16 = 8080;
/// Who writes for us in a member, by itself or as somebody else.
const AGENT: &str = "system:serviceaccount:isochrone-system:isochrone-agent";
/// Where the agent has what is its own.
const OWN_NAMESPACE: &str = "isochrone-system";
/// As whom the Apps of the demo are applied.
const APP_USER: &str = "isochrone:app:shop";
/// How the audit log tells that an object of the demo's app was applied, or would have been had anything differed.
const DELIVERED: [&str; 3] = [
    "patch configmaps shop/settings as isochrone:app:shop",
    "patch deployments shop/web as isochrone:app:shop",
    "patch services shop/web as isochrone:app:shop",
];

#[tokio::test(flavor = "multi_thread")]
async fn real_drain_upgrade_restart_and_grant() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    let spec = WorldSpec { slot: 7, ingress_port: DOORS, ..WorldSpec::new() };
    let mut world = World::start(&assets_from_env()?, spec).await?;
    let mut system = System::start(&world, Path::new(ISOCHRONE)).await?;
    let done = stories(&mut world, &mut system).await.map_err(|error| error.context(system.tails()));
    system.stop().await;
    world.stop().await;
    done
}

async fn stories(world: &mut World, system: &mut System) -> anyhow::Result<()> {
    delivered_and_steered(world, system).await?;

    drained_under_load(world, system).await.context("a drain under load")?;
    memory(system)?;
    an_agent_is_upgraded(world, system).await.context("the upgrade of an agent")?;
    the_hub_restarts_while_a_member_is_away(world, system).await.context("the hub's restart")?;
    an_app_that_wants_more_asks_the_owner(world).await.context("an App that wants more rights")
}

/// Declares the demo, and waits until every node sends every user to the nearest member.
pub(crate) async fn delivered_and_steered(world: &World, system: &System) -> anyhow::Result<()> {
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await?;
    ready(world, "shop").await?;
    watch_when_all_are_nearest(world, system).await.map(drop)
}

/// Watches every node, from a moment at which it sends every user to the nearest member.
pub(crate) async fn watch_when_all_are_nearest(world: &World, system: &System) -> anyhow::Result<Watcher> {
    // A node that is late, such as one that has yet to reach a hub just started, still changes what it says while it is
    // waited for. The watcher to give away is one that has not seen that.
    let nearest = async || {
        let mut watcher = Watcher::start(&nodes(world, system)?, HOST, &users()?).await?;
        ensure!(watcher.until(PATIENCE, |seen| all_nearest(world, seen)).await, "not everybody is sent to the nearest");
        anyhow::Ok(watcher)
    };
    drop(nearest().await?);
    nearest().await
}

/// No wait of these stories is about speed; this only ends a test that would never end.
const PATIENCE: Duration = Duration::from_secs(90);

/// The members' names, each with where its DNS node answers.
pub(crate) fn nodes(world: &World, system: &System) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
    world.members.iter().map(|member| Ok((member.spec.name.clone(), system.dns(&member.spec.name)?))).collect()
}

fn users() -> anyhow::Result<BTreeMap<String, IpAddr>> {
    CLIENTS.into_iter().map(|(member, client)| Ok((member.to_owned(), client.parse()?))).collect()
}

/// Whether every node sends the users of every place to the member there.
fn all_nearest(world: &World, seen: &Seen) -> bool {
    let views = world.members.iter().flat_map(|node| world.members.iter().map(move |home| (node, home)));
    views.into_iter().all(|(node, home)| {
        let view = View { node: node.spec.name.clone(), users: home.spec.name.clone() };
        seen.now.get(&view).is_some_and(|answer| answer.addresses == [IpAddr::V4(home.address)])
    })
}

/// Users of all places come all the time, by resolvers that keep answers. While `iad` is drained its users are served
/// elsewhere and after one TTL none comes any more; nobody notices, and nobody else moves.
async fn drained_under_load(world: &World, system: &System) -> anyhow::Result<()> {
    const TTL: Duration = Duration::from_secs(3);
    let short = format!(r#"{{"spec":{{"traffic":{{"ttl":"{}s"}}}}}}"#, TTL.as_secs());
    kubectl(&world.hub, &["patch", "-n", "shop", "rp/near", "--type=merge", "-p", &short], "").await?;
    let nodes = nodes(world, system)?;
    for node in nodes.values() {
        let mut resolver = Resolver::new(*node, HOST).await?;
        until("answers have the short TTL", async || {
            let answer = resolver.ask(CLIENTS[0].1.parse()?).await?;
            Ok((answer.ttl.map(u64::from) == Some(TTL.as_secs())).then_some(()))
        })
        .await?;
    }
    let home = world.member("iad").context("iad")?;
    let servers: Vec<SocketAddr> = nodes.values().copied().collect();
    let place = |(home, client): (&str, &str)| {
        let users = if home == "iad" { 8 } else { 3 };
        anyhow::Ok(Place { home: home.to_owned(), client: client.parse()?, users })
    };
    let places = CLIENTS.into_iter().map(place).collect::<anyhow::Result<Vec<_>>>()?;
    let mut watcher = Watcher::start(&nodes, HOST, &users()?).await?;
    let started = Instant::now();
    let crowd = Crowd::start(&servers, HOST, DOORS, &places).await?;
    let all_served_by = |place: &Place, cluster: &str, since: Instant| {
        let served = crowd.last_served(&place.home, since);
        served.len() == place.users && served.values().all(|by| by == cluster)
    };
    let all_at_home = |since| places.iter().all(|place| all_served_by(place, &place.home, since)).then_some(());
    until("everybody is served at home", async || Ok(all_at_home(started))).await?;

    let drain = async |drained: bool| {
        let patch = format!(r#"{{"spec":{{"drain":{drained}}}}}"#);
        kubectl(&world.hub, &["patch", "cluster.isochrone.dev/iad", "--type=merge", "-p", &patch], "").await
    };
    let drained = Instant::now();
    drain(true).await?;
    let gone = |seen: &Seen| {
        nodes.keys().all(|node| {
            let view = View { node: node.clone(), users: "iad".to_owned() };
            seen.now.get(&view).is_some_and(|answer| !answer.addresses.contains(&IpAddr::V4(home.address)))
        })
    };
    ensure!(watcher.until(PATIENCE, gone).await, "iad stays in the answers");
    // An answer with it was given before this moment, and is kept for one TTL from before its question.
    let silent = Instant::now() + TTL;
    // Frankfurt is nearer to them than Singapore. They ask there twice more: what comes late would come by then.
    let of_iad = places.iter().find(|place| place.home == "iad").context("users of iad")?;
    until("users of iad are served by fra", async || Ok(all_served_by(of_iad, "fra", silent + TTL * 2).then_some(())))
        .await?;
    let back = Instant::now();
    drain(false).await?;
    until("everybody is served at home again", async || Ok(all_at_home(back))).await?;

    let visits = crowd.visits();
    drop(crowd);
    let (seen, _) = watcher.finish().await;
    let failed: Vec<_> = visits.iter().filter(|visit| visit.served.is_err()).collect();
    ensure!(failed.is_empty(), "{} of {} visits failed, such as {:?}", failed.len(), visits.len(), failed[0]);
    let by = |cluster: &'static str| move |visit: &&crate::crowd::Visit| visit.served.as_deref() == Ok(cluster);
    let of_iad = || visits.iter().filter(|visit| visit.home == "iad");
    let late: Vec<_> = of_iad().filter(|visit| (silent..back).contains(&visit.at)).filter(by("iad")).collect();
    ensure!(late.is_empty(), "{} requests arrive at iad after a TTL, such as {:?}", late.len(), late[0]);
    let strays: Vec<_> =
        visits.iter().filter(|v| v.home != "iad" && v.served.as_deref() != Ok(v.home.as_str())).collect();
    ensure!(strays.is_empty(), "{} visits of others were moved, such as {:?}", strays.len(), strays[0]);
    let moved: Vec<_> = seen.changes.iter().filter(|c| c.view.users != "iad").collect();
    ensure!(moved.len() == 6, "answers for others changed: {moved:?}");
    let last = of_iad().filter(|visit| visit.at < back).filter(by("iad")).map(|visit| visit.at).max();
    let last = last.context("nobody was served by iad")?.saturating_duration_since(drained);
    eprintln!(
        "drain: {} visits without a failure; the last node moved after {:.2} s, the last request at iad began after \
         {:.2} s, TTL {} s",
        visits.len(),
        (silent - TTL - drained).as_secs_f64(),
        last.as_secs_f64(),
        TTL.as_secs()
    );
    Ok(())
}

/// Says what each process keeps in memory. No bar: the profile of the build and its allocator decide most of it.
fn memory(system: &System) -> anyhow::Result<()> {
    for role in [Role::Hub, Role::Agent("fra".to_owned()), Role::Dns("fra".to_owned())] {
        let pid = system.pid(&role).with_context(|| format!("{role:?} runs"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a resident set")?;
        eprintln!("memory: {role:?} has {}", rss.trim());
    }
    Ok(())
}

/// An agent ends as its orchestrator asks, and the next one starts with its identity: no answer changes, and no object
/// is written that was as it should be.
async fn an_agent_is_upgraded(world: &World, system: &mut System) -> anyhow::Result<()> {
    let agent = Role::Agent("fra".to_owned());
    let fra = &world.member("fra").context("fra")?.cluster;
    let watcher = watch_when_all_are_nearest(world, system).await?;
    let (before, audit) = (Objects::of(fra).await?, Audit::from_now(fra)?);
    let old = system.pid(&agent);
    system.end(&agent).await?;
    // The hub has noticed, so what it makes of it has its time.
    kubectl(&world.hub, &["wait", "--for=condition=Connected=false", "cluster.isochrone.dev/fra", WAIT], "").await?;
    system.revive(&agent)?;
    ensure!(system.pid(&agent) != old, "it is the same process");
    kubectl(&world.hub, &["wait", "--for=condition=Connected", "cluster.isochrone.dev/fra", WAIT], "").await?;
    // That one comes back shows that the new agent has looked at all of the app.
    kubectl(fra, &["delete", "-n", "shop", "configmap/settings"], "").await?;
    until("the deleted ConfigMap is back", async || {
        Ok(kubectl(fra, &["get", "-n", "shop", "configmap/settings"], "").await.ok())
    })
    .await?;
    still(watcher).await?;
    // What an earlier agent applied, a new one finds out by applying it; where nothing differs, nothing is written.
    let applied = BTreeSet::from_iter(audit.wrote()?);
    ensure!(applied == DELIVERED.map(str::to_owned).into(), "it wrote {applied:?}");
    let after = Objects::of(fra).await?;
    ensure!(before.without_settings() == after.without_settings(), "{before:?} became {after:?}");
    Ok(())
}

/// How long `kubectl wait` waits.
pub(crate) const WAIT: &str = "--timeout=90s";

/// The hub is killed while `sin` is away, with its API server and its agent, and starts again. It writes nothing anew in
/// the members that it reaches, and leaves the one that it does not reach in its place; that one finds its objects as
/// they were.
async fn the_hub_restarts_while_a_member_is_away(world: &mut World, system: &mut System) -> anyhow::Result<()> {
    let (hub, agent) = (Role::Hub, Role::Agent("sin".to_owned()));
    let watcher = watch_when_all_are_nearest(world, system).await?;
    let mut before = BTreeMap::new();
    for member in &world.members {
        before.insert(member.spec.name.clone(), Objects::of(&member.cluster).await?);
    }
    let here = |name: &str| world.member(name).map(|member| &member.cluster).context("a member");
    let (fra, iad, sin) = (here("fra")?, here("iad")?, here("sin")?);
    system.kill(&agent)?;
    sin.kill(Component::ApiServer).await?;
    system.kill(&hub)?;
    let audits = [("fra", fra, Audit::from_now(fra)?), ("iad", iad, Audit::from_now(iad)?)];
    let away = Audit::from_now(sin)?;
    system.revive(&hub)?;
    // An agent writes down in its own namespace what a hub of a new term told it, before it acts.
    for (name, _, audit) in &audits {
        until("an agent has heard the new hub", async || Ok((!audit.kept()?.is_empty()).then_some(())))
            .await
            .with_context(|| (*name).to_owned())?;
    }
    // Something new goes where somebody hears, and leaves the placement as it is.
    let patch = r#"[{"op":"replace","path":"/spec/source/inline/manifests/0/data/colour","value":"blue"}]"#;
    kubectl(&world.hub, &["patch", "-n", "shop", "apps.isochrone.dev/shop", "--type=json", "-p", patch], "").await?;
    for (_, cluster, _) in &audits {
        blue(cluster).await?;
    }
    let app = until("the App's status is of the new spec", async || {
        let app = object(&world.hub, &["-n", "shop", "apps.isochrone.dev/shop"]).await?;
        Ok((app["status"]["observedGeneration"] == app["metadata"]["generation"]).then_some(app))
    })
    .await?;
    let placed = (&app["status"]["clusters"], app["status"]["removing"].as_u64().unwrap_or_default());
    ensure!(placed == (&Value::from(3), 0), "{}", app["status"]);
    for (name, cluster, audit) in &audits {
        let wrote = audit.wrote()?;
        ensure!(wrote == DELIVERED[..1], "the agent of {name} wrote {wrote:?}");
        let after = Objects::of(cluster).await?;
        let before = &before[*name];
        ensure!(before.without_settings() == after.without_settings(), "{name}: {before:?} became {after:?}");
    }

    sin.revive(Component::ApiServer).await?;
    let (found, was) = (Objects::of(sin).await?, &before["sin"]);
    ensure!(was.as_delivered() == found.as_delivered(), "{was:?} became {found:?} while nobody was there");
    system.revive(&agent)?;
    blue(sin).await?;
    let applied = BTreeSet::from_iter(away.wrote()?);
    ensure!(applied == DELIVERED.map(str::to_owned).into(), "the agent of sin wrote {applied:?}");
    let after = Objects::of(sin).await?;
    let (was, after) = (was.without_settings(), after.without_settings());
    ensure!(was.as_delivered() == after.as_delivered(), "{was:?} became {after:?}");
    ready(world, "shop").await?;
    still(watcher).await
}

pub(crate) async fn blue(cluster: &Cluster) -> anyhow::Result<()> {
    let what = format!("{} has the changed ConfigMap", cluster.name());
    until(&what, async || {
        let settings = object(cluster, &["-n", "shop", "configmap/settings"]).await?;
        Ok((settings["data"]["colour"] == "blue").then_some(()))
    })
    .await
}

/// Ends a watch in which nothing was to move.
pub(crate) async fn still(watcher: Watcher) -> anyhow::Result<()> {
    let (seen, watched) = watcher.finish().await;
    ensure!(seen.changes.len() == seen.now.len(), "answers changed: {:?}", seen.changes);
    ensure!(seen.unanswered.is_empty(), "questions without an answer: {:?}", seen.unanswered);
    let mut by_node: BTreeMap<&str, u64> = BTreeMap::new();
    for (view, answers) in &seen.answered {
        *by_node.entry(&view.node).or_default() += answers;
    }
    for (node, answers) in by_node {
        let each_second = answers as f64 / watched.as_secs_f64();
        ensure!(each_second >= 20.0, "{each_second:.1} answers a second of {node} show nothing");
    }
    Ok(())
}

/// An App that would bind `cluster-admin`, and one that reaches into namespaces of others: the member itself refuses
/// both, the App's status has the lines that its owner may run, and once they are run the App is applied.
async fn an_app_that_wants_more_asks_the_owner(world: &World) -> anyhow::Result<()> {
    let audit = Audit::from_now(&world.member("fra").context("fra")?.cluster)?;
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], WANT_MORE).await?;
    for member in &world.members {
        let cluster = &member.cluster;
        let cannot = format!("User \"{APP_USER}\" cannot patch resource");
        let rise = refused(world, "rise", cluster, &[&cannot, "clusterrolebindings", "at the cluster scope"]).await?;
        let reach = [&*cannot, "in the namespace \"kube-system\"", "in the namespace \"default\""];
        let reach = refused(world, "reach", cluster, &reach).await?;
        nothing_is_there(cluster).await?;
        run_lines(cluster, &reach).await?;
        run_lines(cluster, &rise).await?;
    }
    // Who may write bindings may still not give what it does not have.
    for member in &world.members {
        let words = ["attempting to grant RBAC permissions not currently held", "--verb=bind", "cluster-admin"];
        let rise = refused(world, "rise", &member.cluster, &words).await?;
        let bindings = kubectl(&member.cluster, &["get", "clusterrolebindings", "-o", "name"], "").await?;
        ensure!(!bindings.contains("/rise"), "{bindings}");
        run_lines(&member.cluster, &rise).await?;
    }
    ready(world, "reach").await?;
    ready(world, "rise").await?;
    for member in &world.members {
        let rise = object(&member.cluster, &["clusterrolebinding/rise"]).await?;
        ensure!(rise["roleRef"]["name"] == "cluster-admin", "{rise}");
        for namespace in ["kube-system", "default"] {
            object(&member.cluster, &["-n", namespace, "configmap/from-shop"]).await?;
        }
    }
    // It was the member that refused, and it refused the App's user.
    let forbidden = audit.events()?.into_iter().filter(|event| event["responseStatus"]["code"] == 403);
    let of_user = forbidden.filter(|event| event["impersonatedUser"]["username"] == APP_USER);
    let refused: BTreeSet<String> = of_user.map(|event| line(&event)).collect();
    for wanted in ["clusterrolebindings /rise", "configmaps kube-system/from-shop", "configmaps default/from-shop"] {
        ensure!(refused.contains(&format!("patch {wanted} as {APP_USER}")), "{refused:?}");
    }
    Ok(())
}

/// What the App's status says of a cluster that refuses, once it has these words.
async fn refused(world: &World, app: &str, cluster: &Cluster, words: &[&str]) -> anyhow::Result<String> {
    let what = format!("the status of {app} tells what {} refuses: {words:?}", cluster.name());
    until(&what, async || {
        let status = object(&world.hub, &["-n", "shop", &format!("apps.isochrone.dev/{app}")]).await?;
        let entries = status["status"]["worst"].as_array().cloned().unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| entry["cluster"] == cluster.name()) else { return Ok(None) };
        let said = entry["message"].as_str().unwrap_or_default();
        if entry["reason"] == "Forbidden" && words.iter().all(|word| said.contains(word)) {
            return Ok(Some(said.to_owned()));
        }
        bail!("it says {entry}")
    })
    .await
}

async fn nothing_is_there(cluster: &Cluster) -> anyhow::Result<()> {
    let there = kubectl(cluster, &["get", "configmaps,clusterrolebindings", "-A", "-o", "name"], "").await?;
    ensure!(!there.contains("/rise") && !there.contains("/from-shop"), "{there}");
    Ok(())
}

/// Runs the kubectl lines of a refusal as they are, as a cluster's owner would.
async fn run_lines(cluster: &Cluster, message: &str) -> anyhow::Result<()> {
    let mut ran = 0;
    for lines in message.split(". The cluster's owner may allow it: ").skip(1) {
        for line in lines.split("; ").next().unwrap_or_default().split(" && ") {
            let args: Vec<&str> = line.split_whitespace().skip(1).collect();
            kubectl(cluster, &args, "").await?;
            ran += 1;
        }
    }
    ensure!(ran > 0, "no line to run in {message}");
    Ok(())
}

pub(crate) async fn object(cluster: &Cluster, what: &[&str]) -> anyhow::Result<Value> {
    let args = [&["get", "-o", "json"], what].concat();
    Ok(serde_json::from_str(&kubectl(cluster, &args, "").await?)?)
}

/// What was delivered to a namespace, and in which version it stands, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objects(BTreeMap<String, Version>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    uid: String,
    resource_version: String,
    generation: Option<u64>,
}

impl Objects {
    pub(crate) async fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let ours = ["-n", "shop", "-l", "applyset.kubernetes.io/part-of", "configmaps,deployments,services"];
        let list = object(cluster, &ours).await?;
        let items = list["items"].as_array().context("a list")?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let objects = items.iter().map(|item| {
            let meta = &item["metadata"];
            let version = Version {
                uid: text(&meta["uid"])?,
                resource_version: text(&meta["resourceVersion"])?,
                generation: meta["generation"].as_u64(),
            };
            Ok((format!("{}/{}", text(&item["kind"])?, text(&meta["name"])?), version))
        });
        let objects = Self(objects.collect::<anyhow::Result<_>>()?);
        ensure!(objects.0.len() >= 3, "{objects:?}");
        Ok(objects)
    }

    fn without_settings(&self) -> Self {
        Self(self.0.clone().into_iter().filter(|(name, _)| name != "ConfigMap/settings").collect())
    }

    /// Without what a status changes, which in a cluster that was away is Kubernetes' own: pods are not ready for a while.
    fn as_delivered(&self) -> Self {
        let mut objects = self.clone();
        for (name, version) in &mut objects.0 {
            if name.starts_with("Deployment/") {
                version.resource_version.clear();
            }
        }
        objects
    }
}

/// The audit log of a member, from some moment on.
pub(crate) struct Audit {
    log: PathBuf,
    from: usize,
}

impl Audit {
    pub(crate) fn from_now(cluster: &Cluster) -> anyhow::Result<Self> {
        let log = cluster.audit_log()?;
        let from = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?.len();
        Ok(Self { log, from })
    }

    fn events(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        let text = text.get(self.from..).context("an audit log that only grows")?;
        // The last line may be half written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("an event is JSON")).collect()
    }

    /// What the agent's identity wrote or tried to write, by itself or as an App's user.
    fn writes(&self) -> anyhow::Result<Vec<Value>> {
        let mut events = self.events()?;
        events.retain(|event| {
            let writes = ["create", "update", "patch", "delete", "deletecollection"];
            let writes = event["verb"].as_str().is_some_and(|verb| writes.contains(&verb));
            let uri = event["requestURI"].as_str().unwrap_or_default();
            // Questions about rights are asked by creating, too.
            let asks = uri.contains("dryRun=All") || event["objectRef"]["apiGroup"] == "authorization.k8s.io";
            event["user"]["username"] == AGENT && writes && !asks
        });
        Ok(events)
    }

    /// What it wrote down in its own namespace; not that it lives, which its Lease says every few seconds.
    pub(crate) fn kept(&self) -> anyhow::Result<Vec<Value>> {
        let mut events = self.writes()?;
        let own = |of: &Value| of["namespace"] == OWN_NAMESPACE && of["resource"] == "secrets";
        events.retain(|event| own(&event["objectRef"]));
        Ok(events)
    }

    /// What it wrote elsewhere.
    pub(crate) fn wrote(&self) -> anyhow::Result<Vec<String>> {
        let elsewhere = self.writes()?.into_iter().filter(|event| event["objectRef"]["namespace"] != OWN_NAMESPACE);
        Ok(elsewhere.map(|event| line(&event)).collect())
    }
}

/// An event in a line: what was done to what, and as whom.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (of, user) = (&event["objectRef"], &event["impersonatedUser"]["username"]);
    let user = user.as_str().unwrap_or("itself");
    let (verb, resource) = (text(&event["verb"]), text(&of["resource"]));
    format!("{verb} {resource} {}/{} as {user}", text(&of["namespace"]), text(&of["name"]))
}

/// Two Apps of the demo's namespace.
const WANT_MORE: &str = r#"
apiVersion: isochrone.dev/v1alpha1
kind: App
metadata: {name: rise, namespace: shop}
spec:
  policy: near
  source:
    inline:
      manifests:
        - apiVersion: rbac.authorization.k8s.io/v1
          kind: ClusterRoleBinding
          metadata: {name: rise}
          roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
          subjects: [{kind: ServiceAccount, namespace: shop, name: operator}]
---
apiVersion: isochrone.dev/v1alpha1
kind: App
metadata: {name: reach, namespace: shop}
spec:
  policy: near
  source:
    inline:
      manifests:
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: from-shop, namespace: kube-system}
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: from-shop, namespace: default}
"#;
