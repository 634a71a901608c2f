//! Bad input, each with the words that whoever wrote it sees; and through all of it one DNS node is asked without a
//! pause, and answers, while every certificate is good for a minute only.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use api::wire::topic;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tunnel::Timing;
use tunnel::client::{Link, LinkConfig, Toward};
use tunnel::identity::{Authority, Identity, Key, Role as PeerRole, Subject, Token};
use tunnel::message::Hello;
use world::demo::{self, CLIENTS, HOST};
use world::resolver::Resolver;
use world::system::{Role, System, kubectl};
use world::{World, WorldSpec, assets_from_env};

use crate::delivery::{ready, until};
use crate::{ISOCHRONE, ONE_WORLD, garbage};

/// The namespace of the product's own objects.
const OURS: &str = "isochrone-system";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn real_bad_input_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    let spec = WorldSpec { slot: 2, ingress_port: 8080, ..WorldSpec::with_members(2)? };
    let world = World::start(&assets_from_env()?, spec).await?;
    let mut system = System::start_with(&world, Path::new(ISOCHRONE), &["--certificate-lifetime", "60s"]).await?;
    let done = story(&world, &mut system).await.map_err(|error| error.context(system.tails()));
    system.stop().await;
    world.stop().await;
    done
}

async fn story(world: &World, system: &mut System) -> anyhow::Result<()> {
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await?;
    ready(world, "shop").await?;
    system.until_steered(HOST).await?;
    let asking = Asking::start(system.dns("fra")?).await?;
    let delivered = uids(world).await?;
    what_the_hub_does_not_accept(world, system).await.context("Apps")?;
    a_deleted_policy_changes_nothing(world).await.context("a deleted policy")?;
    tokens(world, system).await.context("tokens")?;
    arguments(world, system).await.context("arguments")?;
    what_the_hub_keeps_is_damaged(world, system).await.context("the hub's own objects")?;
    garbage::on_every_port(world, system).await.context("garbage")?;
    certificates_are_renewed_while_sessions_go_on(system).await.context("renewal")?;
    expired_and_foreign_certificates(world, system).await.context("certificates")?;
    a_damaged_state_directory(world, system).await.context("state directory")?;
    our_definitions_are_deleted(world, system).await.context("our CRDs deleted")?;
    ensure!(uids(world).await? == delivered, "what was delivered was made anew");
    asking.stop().await
}

/// Asks one node again and again.
struct Asking {
    stop: CancellationToken,
    task: JoinHandle<(u32, Vec<String>)>,
}

impl Asking {
    async fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let mut resolver = Resolver::new(server, HOST).await?;
        let (client, stop): (IpAddr, _) = (CLIENTS[0].1.parse()?, CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut asked, mut lost) = (0, vec![]);
            // Often enough to meet every change of the tables, and no load of its own.
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                asked += 1;
                match resolver.ask(client).await {
                    Ok(answer) if !answer.addresses.is_empty() => {}
                    Ok(answer) => lost.push(format!("question {asked}: {answer:?}")),
                    Err(error) => lost.push(format!("question {asked}: {error:#}")),
                }
            }
            (asked, lost)
        });
        Ok(Self { stop, task })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let (asked, lost) = self.task.await?;
        ensure!(lost.is_empty(), "{} of {asked} questions were not answered: {:?}", lost.len(), lost.first());
        ensure!(asked > 100, "{asked} questions show nothing");
        Ok(())
    }
}

/// What the demo has delivered, by cluster and object.
async fn uids(world: &World) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for member in &world.members {
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.uid}{\"\\n\"}{end}";
        let get = ["get", "-n", "shop", "deployment/web", "service/web", "configmap/settings", "-o", path];
        let said = kubectl(&member.cluster, &get, "").await?;
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        all.extend(pairs.map(|(object, uid)| (format!("{} {object}", member.spec.name), uid.to_owned())));
    }
    ensure!(all.len() == 3 * world.members.len(), "{all:?}");
    Ok(all)
}

/// Waits for a condition of an object to say `words`.
async fn says(world: &World, namespace: &str, object: &str, kind: &str, words: &str) -> anyhow::Result<()> {
    let path = format!("jsonpath={{.status.conditions[?(@.type==\"{kind}\")]['status','reason','message']}}");
    let mut last = String::new();
    let waited = until("the status says so", async || {
        last = kubectl(&world.hub, &["get", "-n", namespace, object, "-o", &path], "").await?;
        Ok(last.contains(words).then_some(()))
    })
    .await;
    waited.with_context(|| format!("{namespace} {object} says {last:?}, without {words:?}"))
}

async fn what_the_hub_does_not_accept(world: &World, system: &System) -> anyhow::Result<()> {
    let apply = async |object: &serde_json::Value| {
        kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], &object.to_string()).await
    };
    let api = "isochrone.dev/v1alpha1";
    let config = |bytes: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "x".repeat(bytes)}});
    let app = |namespace: &str, name: &str, policy: &str, host: &str, manifest: serde_json::Value| {
        let hosts = if host.is_empty() { json!([]) } else { json!([{"host": host}]) };
        json!({"apiVersion": api, "kind": "App", "metadata": {"name": name, "namespace": namespace},
            "spec": {"policy": policy, "hosts": hosts, "source": {"inline": {"manifests": [manifest]}}}})
    };
    let policy = |namespace: &str, name: &str, spec: serde_json::Value| json!({"apiVersion": api, "kind": "RegionPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    kubectl(&world.hub, &["create", "namespace", "bank"], "").await?;
    apply(&policy("bank", "near", json!({"activeActive": {}}))).await?;
    let nowhere = json!([{"key": "isochrone.dev/cluster", "operator": "In", "values": ["nowhere"]}]);
    apply(&policy("shop", "nowhere", json!({"everywhere": {}, "clusters": {"matchExpressions": nowhere}}))).await?;
    let cases = [
        (
            app("shop", "outside", "near", "www.elsewhere.org", config(1)),
            "Accepted",
            "False NoZone www.elsewhere.org lies in no DnsZone: create one whose origin is www.elsewhere.org or a parent of it",
        ),
        (
            app("bank", "bank", "near", "bank.gslb.example.com", config(1)),
            "Accepted",
            "False NamespaceNotAllowed zone gslb.example.com does not allow this namespace: add it to the DnsZone's \
             allowedNamespaces",
        ),
        (
            app("shop", "younger", "near", HOST, config(1)),
            "Accepted",
            "False HostTaken shop.gslb.example.com belongs to App shop/shop: choose another host, or remove it from there \
             first",
        ),
        (
            app("shop", "lost", "nowhere", "", config(1)),
            "Placed",
            "False NoCluster no cluster is eligible; fra: LabelMismatch, iad: LabelMismatch",
        ),
        (
            app("shop", "orphan", "none-such", "", config(1)),
            "Accepted",
            "False PolicyNotFound there is no RegionPolicy none-such in namespace shop: create it, or name another; what was \
             delivered stays as it is",
        ),
        (
            app("shop", "large", "near", "", config(1_200_000)),
            "Accepted",
            "more than 1000000: split the App, or use Git or OCI",
        ),
    ];
    for (object, kind, words) in &cases {
        apply(object).await?;
        let name = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        says(world, &name("namespace"), &format!("apps.isochrone.dev/{}", name("name")), kind, words).await?;
    }
    // Two megabytes do not even fit into the API server's own store.
    let Err(error) = apply(&app("shop", "huge", "near", "", config(2_000_000))).await else { bail!("2 MB were taken") };
    ensure!(format!("{error:#}").contains("too large"), "{error:#}");
    let mut kindless = config(1);
    kindless.as_object_mut().context("an object")?.remove("kind");
    let Err(error) = apply(&app("shop", "kindless", "near", "", kindless)).await else { bail!("no kind was taken") };
    let words = "spec.source.inline.manifests[0].kind";
    ensure!(format!("{error:#}").contains(words), "{error:#}");
    // The host stays with the oldest, and says so to users.
    says(world, "shop", "apps.isochrone.dev/shop", "Accepted", "True Accepted").await?;
    // A cluster that is not there, where a person names one.
    let node = system.dns_admin("fra")?;
    let assume = ["explain", HOST, "--client", CLIENTS[0].1, "--node", &node, "--assume", "nowhere=down"];
    refused(system, &assume, "there is no cluster nowhere in the snapshot").await?;
    for (object, _, _) in &cases {
        kubectl(&world.hub, &["delete", "--wait=false", "-f", "-"], &object.to_string()).await?;
    }
    Ok(())
}

async fn a_deleted_policy_changes_nothing(world: &World) -> anyhow::Result<()> {
    let before = uids(world).await?;
    kubectl(&world.hub, &["delete", "-n", "shop", "regionpolicies.isochrone.dev/near"], "").await?;
    let words = "False PolicyNotFound there is no RegionPolicy near in namespace shop: create it, or name another; what was \
                 delivered stays as it is";
    says(world, "shop", "apps.isochrone.dev/shop", "Accepted", words).await?;
    says(world, "shop", "apps.isochrone.dev/shop", "Placed", "True Unchanged the placement stays as it was").await?;
    ensure!(uids(world).await? == before);
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await?;
    says(world, "shop", "apps.isochrone.dev/shop", "Accepted", "True Accepted").await
}

/// Runs the program, which must fail and say `words`.
async fn refused(system: &System, args: &[&str], words: &str) -> anyhow::Result<()> {
    let Err(error) = system.isochrone(args).await else { bail!("isochrone {args:?} succeeded") };
    ensure!(error.to_string().contains(words), "isochrone {args:?} said {error:#}, without {words:?}");
    Ok(())
}

async fn tokens(world: &World, system: &System) -> anyhow::Result<()> {
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?;
    let fresh = async |name: &str| {
        let line = system.isochrone(&["dns", "add", name, "--region", "eu-west", "--kubeconfig", admin]).await?;
        let token = line.split_whitespace().skip_while(|word| *word != "--join").nth(1).context("a token")?;
        anyhow::Ok(Token::parse(token)?)
    };
    let secret = |token: &Token| format!("secret/isochrone-token-{}", token.id);
    let (wrong, foreign) = (fresh("ns-wrong").await?, fresh("ns-foreign").await?);
    let (old, gone) = (fresh("ns-old").await?, fresh("ns-gone").await?);
    let past = r#"{"stringData": {"expires": "2020-01-01T00:00:00Z"}}"#;
    kubectl(&world.hub, &["patch", "-n", OURS, &secret(&old), "--type=merge", "-p", past], "").await?;
    kubectl(&world.hub, &["delete", "-n", OURS, &secret(&gone)], "").await?;
    let unknown = "no such token: print a new one with `isochrone cluster add` or `isochrone dns add`";
    let cases = [
        (Token { secret: [7; 32], ..wrong }, unknown),
        (gone, unknown),
        (old, "the token is older than 24 hours: print a new one"),
        (Token { pin: [7; 32], ..foreign }, "is not the hub that gave this token"),
    ];
    for (token, words) in cases {
        let state = tempfile::tempdir()?;
        let (state, token) = (state.path().to_str().context("UTF-8")?, token.to_string());
        let args = ["dns", "--state", state, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--join", &token];
        refused(system, &args, words).await?;
    }
    Ok(())
}

async fn arguments(world: &World, system: &System) -> anyhow::Result<()> {
    let kubeconfig = system.argument(&Role::Hub, "--kubeconfig").context("argument")?;
    let hub = |more: &[&'static str]| {
        [&["hub", "--kubeconfig", kubeconfig, "--advertise", "127.0.0.1:1", "--admin", "127.0.0.1:0"], more].concat()
    };
    refused(system, &hub(&["--certificate-lifetime", "5s"]), "write a duration from 1m to 2160h (90 days)").await?;
    refused(system, &hub(&["--certificate-lifetime", "91"]), "--certificate-lifetime").await?;
    let file = world.dir().join("garbage.mmdb");
    std::fs::write(&file, [0xab; 4096])?;
    let path = file.to_str().context("UTF-8")?;
    let args = [&hub(&["--geoip"])[..], &[path]].concat();
    refused(system, &args, &format!("geo database {path} is damaged or not of MaxMind's format (.mmdb)")).await?;
    std::fs::remove_file(&file)?;
    refused(system, &args, &format!("read geo database {path}")).await
}

/// A hub in a namespace of its own does not start over what somebody changed, and says which object.
async fn what_the_hub_keeps_is_damaged(world: &World, system: &System) -> anyhow::Result<()> {
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?;
    kubectl(&world.hub, &["create", "namespace", "broken"], "").await?;
    let args =
        ["hub", "--kubeconfig", admin, "--namespace", "broken", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let args = [&args[..], &["--advertise", "127.0.0.1:1"]].concat();
    let numbers = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"choice.json": "{"},
        "metadata": {"name": "isochrone-numbers", "namespace": "broken", "labels": {"isochrone.dev/choice": "numbers"}}});
    kubectl(&world.hub, &["create", "-f", "-"], &numbers.to_string()).await?;
    let words = "ConfigMap isochrone-numbers does not hold what the hub wrote: restore it from a backup, or delete it";
    refused(system, &args, words).await?;
    let patch = ["patch", "-n", "broken", "secret/isochrone-authority", "--type=merge", "-p"];
    let data = r#"{"stringData": {"tls.crt": "nonsense"}}"#;
    kubectl(&world.hub, &[&patch[..], &[data]].concat(), "").await?;
    let words = "isochrone-authority in namespace broken is damaged";
    refused(system, &args, words).await?;
    refused(system, &args, "restore it from a backup").await
}

/// Each peer has had three more by now, so that its first one has ended; and nobody's session has.
async fn certificates_are_renewed_while_sessions_go_on(system: &System) -> anyhow::Result<()> {
    let peers = ["agent fra (", "agent iad (", "dns ns-fra (", "dns ns-iad ("];
    for peer in peers {
        let mut renewed = 0;
        // Three take a minute and a quarter at most: each comes after a third of a life, and up to a tenth.
        while renewed < 3 {
            renewed = until("another renewal", async || {
                let log = system.log(&Role::Hub)?;
                let count = log.lines().filter(|l| l.contains("certificate renewed") && l.contains(peer)).count();
                Ok((count > renewed || count >= 3).then_some(count))
            })
            .await
            .with_context(|| peer.to_owned())?;
        }
    }
    for role in ["fra", "iad"].into_iter().flat_map(|name| [Role::Agent(name.into()), Role::Dns(name.into())]) {
        let log = system.log(&role)?;
        let dropped: Vec<&str> = log.lines().filter(|l| l.contains("disconnected; ")).collect();
        ensure!(dropped.is_empty(), "{role:?}: {dropped:?}");
    }
    Ok(())
}

async fn expired_and_foreign_certificates(world: &World, system: &mut System) -> anyhow::Result<()> {
    let read = ["get", "-n", OURS, "secret/isochrone-authority", "-o", "json"];
    let secret: Secret = serde_json::from_str(&kubectl(&world.hub, &read, "").await?)?;
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).context("a key of the Secret")?;
        anyhow::Ok(String::from_utf8(bytes.0.clone())?)
    };
    let authority = Authority::from_pem(&text("tls.crt")?, &text("tls.key")?)?;
    let other = Authority::generate(SystemTime::now())?;
    an_unreadable_ledger_changes_nothing(world, system, &authority).await.context("an unreadable ledger")?;
    let iad = &world.member("iad").context("iad")?.cluster;
    let agent = Role::Agent("iad".to_owned());
    let put = async |identity: &Identity| {
        let data = json!({"tls.key": identity.key_pem, "tls.crt": identity.certificate_pem, "ca.crt": identity.ca_pem});
        let patch = json!({"stringData": data}).to_string();
        let args = ["patch", "-n", OURS, "secret/isochrone-agent-identity", "--type=merge", "-p", &patch];
        kubectl(iad, &args, "").await.map(drop)
    };

    // Another authority's, for the right cluster. The agent trusts the right hub, and the hub does not trust it.
    let forged = Identity {
        ca_pem: authority.certificate_pem().to_owned(),
        ..identity(&other, PeerRole::Agent, "iad", iad.uid(), Duration::ZERO)?
    };
    system.kill(&agent)?;
    put(&forged).await?;
    let from = system.log(&agent)?.len();
    system.revive(&agent)?;
    let line = said(system, &agent, from, "the hub refuses this agent; trying again, slowly").await?;
    ensure!(line.contains("the peer refused our certificate"), "{line}");

    // Ended ten days ago: renewed first, and then as any other.
    system.kill(&agent)?;
    put(&identity(&authority, PeerRole::Agent, "iad", iad.uid(), 100 * DAY)?).await?;
    let (from, hub_from) = (system.log(&agent)?.len(), system.log(&Role::Hub)?.len());
    system.revive(&agent)?;
    said(system, &agent, from, "connected").await?;
    said(system, &Role::Hub, hub_from, "certificate renewed").await?;
    let connected = ["wait", "--for=condition=Connected", "clusters.isochrone.dev/iad", "--timeout=60s"];
    kubectl(&world.hub, &connected, "").await?;

    // The same for a DNS node, whose identity is in a file.
    let node = Role::Dns("iad".to_owned());
    let state = state(system, &node)?;
    let uid = std::fs::read_to_string(state.join("uid"))?;
    system.kill(&node)?;
    let expired = identity(&authority, PeerRole::Dns, "ns-iad", &uid, 100 * DAY)?;
    expired.save(&state)?;
    let from = system.log(&node)?.len();
    system.revive(&node)?;
    said(system, &node, from, "connected").await?;
    until("the renewed certificate is kept", async || {
        let kept = Identity::load(&state)?.context("an identity")?;
        Ok((kept != expired).then_some(()))
    })
    .await
}

/// A second agent of a cluster, by its certificate the cluster's own, sends what is no ledger.
async fn an_unreadable_ledger_changes_nothing(
    world: &World,
    system: &System,
    authority: &Authority,
) -> anyhow::Result<()> {
    let fra = &world.member("fra").context("fra")?.cluster;
    let hello = Hello { software: "garbage".into(), instance: "odd".into(), boot: "odd".into(), ..Hello::default() };
    let (link, _events) = Link::start(LinkConfig {
        toward: Toward::Hub,
        hubs: vec![format!("{}:7443", system.address(&Role::Hub)?)],
        identity: identity(authority, PeerRole::Agent, "fra", fra.uid(), Duration::ZERO)?,
        hello,
        source: None,
        timing: Timing::default(),
    })?;
    let from = system.log(&Role::Hub)?.len();
    link.publish(topic::LEDGER, u64::MAX, Bytes::from_static(&[0xff; 40]))?;
    let line = said(system, &Role::Hub, from, "cannot read what was published").await?;
    ensure!(line.contains("agent fra (") && line.contains(topic::LEDGER), "{line}");
    link.close("done").await;
    ready(world, "shop").await
}

/// An identity that `authority` signed `age` ago for ninety days.
fn identity(authority: &Authority, role: PeerRole, name: &str, uid: &str, age: Duration) -> anyhow::Result<Identity> {
    let key = Key::generate()?;
    let subject = Subject::new(role, name, uid)?;
    let chain = authority.sign(&key.request()?, &subject, SystemTime::now() - age, 90 * DAY)?;
    Ok(Identity::new(key.to_pem(), chain, authority.certificate_pem().to_owned())?)
}

fn state(system: &System, node: &Role) -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(system.argument(node, "--state").context("a state directory")?))
}

/// Waits for a role to write a line with these words, behind what it had written before.
async fn said(system: &System, role: &Role, from: usize, words: &str) -> anyhow::Result<String> {
    let waited = until("it says so", async || {
        let log = system.log(role)?;
        Ok(log.get(from..).unwrap_or_default().lines().find(|line| line.contains(words)).map(str::to_owned))
    });
    waited.await.with_context(|| format!("{role:?} does not say {words:?}"))
}

async fn a_damaged_state_directory(world: &World, system: &mut System) -> anyhow::Result<()> {
    let node = Role::Dns("iad".to_owned());
    let state = state(system, &node)?;
    system.kill(&node)?;
    let file = |name: &str| state.join(name);
    let mut bytes = std::fs::read(file("snapshot"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file("snapshot"), bytes)?;
    std::fs::write(file("health"), b"\xff\xff\xff")?;
    let from = system.log(&node)?.len();
    system.revive(&node)?;
    let words =
        "snapshot is damaged: its digest differs from its content; it is ignored, remove it or let the hub replace it";
    said(system, &node, from, words).await?;
    said(system, &node, from, "damaged; what was known of clusters is forgotten").await?;
    let mut resolver = Resolver::new(system.dns("iad")?, HOST).await?;
    let iad = world.member("iad").context("iad")?.address;
    until("it answers", async || {
        let answer = resolver.ask(CLIENTS[1].1.parse()?).await?;
        Ok((answer.addresses == [IpAddr::V4(iad)]).then_some(()))
    })
    .await?;

    // Without an identity it is nobody; it says which file, and what to do.
    system.kill(&node)?;
    let whole = std::fs::read(file("identity.pem"))?;
    std::fs::write(file("identity.pem"), "nonsense")?;
    let path = state.to_str().context("UTF-8")?;
    let args = ["dns", "--state", path, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    refused(system, &args, "identity.pem holds no usable identity: remove it and enrol again with a new token").await?;
    // An address of nobody (RFC 5737).
    let elsewhere = [args.as_slice(), &["--source", "192.0.2.1"]].concat();
    refused(system, &elsewhere, "cannot speak from 192.0.2.1: give --source one of this machine's addresses").await?;
    std::fs::write(file("identity.pem"), whole)?;
    system.revive(&node)
}

/// Deleting our CRDs orphans: nothing is removed from members, no name loses its answer; and all comes back with them.
async fn our_definitions_are_deleted(world: &World, system: &System) -> anyhow::Result<()> {
    let before = uids(world).await?;
    let kinds = ["apps", "clusters", "dnszones", "regionpolicies"].map(|plural| format!("{plural}.isochrone.dev"));
    let delete = ["delete", "crd", "--timeout=60s"].into_iter().chain(kinds.iter().map(String::as_str));
    kubectl(&world.hub, &delete.collect::<Vec<_>>(), "").await?;
    // The agents go on with what they were told.
    let fra = &world.member("fra").context("fra")?.cluster;
    let patch = ["patch", "-n", "shop", "configmap/settings", "--type=merge", "-p", r#"{"data":{"colour":"drift"}}"#];
    kubectl(fra, &patch, "").await?;
    until("drift is repaired", async || {
        let read = ["get", "-n", "shop", "configmap/settings", "-o", "jsonpath={.data.colour}"];
        Ok((kubectl(fra, &read, "").await? != "drift").then_some(()))
    })
    .await?;
    ensure!(uids(world).await? == before, "something was removed with our CRDs");
    for node in ["fra", "iad"] {
        let mut resolver = Resolver::new(system.dns(node)?, HOST).await?;
        let answer = resolver.ask(CLIENTS[0].1.parse()?).await?;
        ensure!(answer.addresses.len() == 1, "{node}: {answer:?}");
    }

    let crds = system.isochrone(&["crds"]).await?;
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], &crds).await?;
    kubectl(&world.hub, &["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await?;
    let admin = world.hub.admin_kubeconfig().to_str().context("UTF-8")?;
    until("our kinds are served again", async || {
        Ok(kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await.ok())
    })
    .await?;
    for member in &world.members {
        let (name, region) = (&member.spec.name, &member.spec.region);
        let place = format!("{},{}", member.spec.latitude, member.spec.longitude);
        let add = ["cluster", "add", name, "--region", region, "--location", &place, "--kubeconfig", admin];
        system.isochrone(&add).await?;
    }
    ready(world, "shop").await?;
    says(world, "shop", "apps.isochrone.dev/shop", "Accepted", "True Accepted").await
}
