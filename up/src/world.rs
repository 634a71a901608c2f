//! The world itself: what runs in it, and what can be done to it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use api::v1alpha1::{App, ClusterProbe, ClusterSpec, Location, ProbeScheme, standing};
use controller::credentials::Credentials;
use futures::future::try_join_all;
use ingress::LoadBalancer;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use kubeworld::cluster::kubeconfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::identity::Role;

use crate::addresses::{self, Addresses, Relayed};
use crate::apply;
use crate::cluster::Cluster;
use crate::control;
use crate::lines::{self, Line};
use crate::network::{Clients, Network, Served, Site, tcp, udp};
use crate::seen::{Looked, Observer, State};
use crate::spec::{Act, Fault, HUB, Region, Spec};

/// The namespace of the hub's and the agents' own objects.
const NAMESPACE: &str = "isochrone-system";
/// What is declared from the start.
const SHOP: &str = include_str!("samples/shop.yaml");
/// Ready to be applied.
const CDN: &str = include_str!("samples/cdn.yaml");
/// The files that a world has for its users.
pub(crate) const KUBECONFIG: &str = "kubeconfig";
/// As [`KUBECONFIG`].
pub(crate) const CDN_FILE: &str = "cdn.yaml";
/// The host of the app that is declared from the start, and that of the other one.
pub const SHOP_HOST: &str = "shop.gslb.example.com";
/// As [`SHOP_HOST`].
pub const CDN_HOST: &str = "cdn.gslb.example.com";
/// A world is ready within seconds; on a busy machine within some more. Beyond this something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A role that does not end within this time after it was asked to is left behind, and said so.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at what DNS nodes say; there is no event to await, as for any resolver.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A world that runs.
pub struct World {
    spec: Arc<Spec>,
    network: Network,
    /// The hub's cluster, with an administrator's rights.
    hub: Client,
    dir: PathBuf,
    observer: Observer,
    /// One act after the other; those regions that were drained by one.
    acting: tokio::sync::Mutex<BTreeSet<String>>,
    /// `None` once it has ended.
    running: tokio::sync::Mutex<Option<Running>>,
    stop: Stop,
    tasks: TaskTracker,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("spec", &self.spec).field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What runs until the world ends.
#[derive(Debug)]
struct Running {
    roles: JoinSet<Ended>,
    hub: Cluster,
    regions: Vec<Member>,
    dir: TempDir,
}

/// A role that ended, and how.
type Ended = (String, Result<()>);

/// A region's cluster.
#[derive(Debug)]
struct Member {
    cluster: Cluster,
    _load_balancer: LoadBalancer,
}

/// What ends first, and what last: a role says goodbye through relays.
#[derive(Debug, Default)]
struct Stop {
    front: CancellationToken,
    members: CancellationToken,
    hub: CancellationToken,
    rest: CancellationToken,
}

impl World {
    /// Starts everything, and waits until users are served.
    ///
    /// # Errors
    /// When an address is taken or not there, or a part does not start; the text says which, and what to do.
    pub async fn start(spec: Spec, say: &(dyn Fn(&str) + Sync)) -> Result<Arc<Self>> {
        check_addresses(&spec)?;
        // First, since another world has it most likely.
        let control = control::bind(Addresses::hub(&spec).control()).await?;
        let dir = tempfile::Builder::new().prefix("isochrone-up-").tempdir().context("making a directory")?;
        let spec = Arc::new(spec);
        let network = network(&spec);
        let (stop, tasks) = (Stop::default(), TaskTracker::new());

        say("clusters: the Kubernetes API from memory");
        let hub = Cluster::start(HUB, Addresses::hub(&spec), None);
        let members = (1..)
            .zip(&spec.regions)
            .map(|(number, region)| Cluster::start(&region.name, Addresses::of(&spec, number), Some(region)));
        let (hub, members) = tokio::try_join!(hub, try_join_all(members))?;
        let parts = Parts { spec: &spec, network: &network, dir: dir.path(), stop: &stop, tasks: &tasks };
        parts.relay_tcp(Addresses::hub(&spec).api(), &Site::from(HUB)).await?;

        say("hub: decides what runs where, and tells agents and DNS nodes over QUIC");
        let mut roles = JoinSet::new();
        parts.start_hub(&hub, &mut roles).await?;
        say("regions: an agent and a DNS node in each, joined by token; doors for their users");
        let joined = (1..)
            .zip(spec.regions.iter().zip(members))
            .map(|(number, (region, cluster))| parts.start_region(&hub, number, region, cluster));
        let mut regions = vec![];
        for (member, started) in try_join_all(joined).await? {
            regions.push(member);
            for role in started {
                roles.spawn(role);
            }
        }
        parts.write_files(&hub, &regions)?;

        say("an app in all regions");
        apply::yaml(hub.client(), SHOP).await?;
        let observer = Observer::start(spec.clone(), network.clone(), hub.client().clone(), &tasks, &stop.front);
        let world = Arc::new(Self {
            spec,
            network,
            hub: hub.client().clone(),
            dir: dir.path().to_owned(),
            observer,
            acting: tokio::sync::Mutex::default(),
            running: tokio::sync::Mutex::new(Some(Running { roles, hub, regions, dir })),
            stop,
            tasks,
        });
        tokio::select! {
            ready = tokio::time::timeout(READY_WITHIN, world.until_served()) => {
                ready.with_context(|| format!("not everybody is served within {} s", READY_WITHIN.as_secs()))??;
            }
            ended = world.ended() => return Err(ended),
        }
        // How it came about was no event.
        world.observer.begin_anew();
        world.tasks.spawn(control::serve(control, Arc::downgrade(&world), world.stop.front.clone()));
        world.tasks.spawn(faults(world.spec.clone(), Arc::downgrade(&world), world.stop.front.clone()));
        Ok(world)
    }

    /// What it was to be like.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The directory of its files, which goes with it: `kubeconfig` for all clusters, and `cdn.yaml`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What there is to see now.
    pub fn state(&self) -> State {
        self.observer.state()
    }

    /// The same, as it changes.
    pub fn changes(&self) -> Changes {
        Changes(self.observer.changes())
    }

    /// Lines to paste, with this program for `isochrone`.
    pub fn lines(&self, program: &Path) -> Vec<Line> {
        lines::of(&self.spec, &self.dir, program)
    }

    /// Ends when a role ends, which none should do by itself.
    pub async fn ended(&self) -> anyhow::Error {
        let ended = match &mut *self.running.lock().await {
            Some(running) => running.roles.join_next().await,
            None => None,
        };
        match ended {
            Some(Ok((role, Ok(())))) => anyhow::anyhow!("{role} ended by itself"),
            Some(Ok((role, Err(error)))) => error.context(format!("{role} ended")),
            Some(Err(error)) => anyhow::Error::new(error).context("a role broke down"),
            None => std::future::pending().await,
        }
    }

    /// Waits until every DNS node sends the user of every city to the cluster that is nearest by its place.
    async fn until_served(&self) -> Result<()> {
        let app: Api<App> = Api::namespaced(self.hub.clone(), "shop");
        let ready = await_condition(app, "shop", |app: Option<&App>| {
            let status = app.and_then(|app| app.status.as_ref());
            status.is_some_and(|status| standing(&status.conditions, "Ready") == "yes")
        });
        ready.await.context("waiting for the app")?;
        let mut changes = self.observer.changes();
        changes.wait_for(|state| state.everybody_is_served()).await.context("the observer ended")?;
        Ok(())
    }

    /// Does something to a region. `gracefully`: before it stops its users are led away.
    ///
    /// # Errors
    /// When there is no such region, or it cannot be done now; the text says why.
    pub async fn act(&self, act: Act, region: &str, gracefully: bool) -> Result<String> {
        let mut drained = self.acting.lock().await;
        let Some((_, found)) = self.spec.region(region) else {
            let known = self.spec.regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ");
            bail!("there is no region {region}: write one of {known}");
        };
        let (site, hub) = (Site::from(found.name.as_str()), Site::from(HUB));
        let dark = self.network.is_dark(&site);
        let said = match act {
            Act::Stop => {
                ensure!(!dark, "{region} is stopped already: isochrone world start {region}");
                if gracefully {
                    drained.insert(region.to_owned());
                    self.drain(region).await?;
                }
                self.network.set_dark(&site, true);
                format!("{region} is silent: nothing goes in or out")
            }
            Act::Start => {
                ensure!(dark, "{region} is not stopped");
                self.network.set_dark(&site, false);
                if drained.remove(region) {
                    self.set_drain(region, false).await?;
                }
                format!("{region} is there again")
            }
            Act::Partition => {
                ensure!(!self.network.is_apart(&site, &hub), "{region} and the hub are apart already");
                self.network.set_apart(&site, &hub, true);
                format!("nothing passes between {region} and the hub; its users do not notice")
            }
            Act::Heal => {
                ensure!(self.network.is_apart(&site, &hub), "{region} and the hub are not apart");
                self.network.set_apart(&site, &hub, false);
                format!("{region} and the hub hear each other again")
            }
        };
        self.observer.tell(&said);
        Ok(said)
    }

    /// Leads the users of a region away: no answer names it any more, and those that did are forgotten.
    async fn drain(&self, region: &str) -> Result<()> {
        self.observer.tell(&format!("{region} is drained"));
        self.set_drain(region, true).await?;
        let mut changes = self.observer.changes();
        let gone = changes.wait_for(|state| !state.names(region));
        let gone = tokio::time::timeout(READY_WITHIN, gone).await;
        let ttl = gone.with_context(|| format!("answers still name {region}"))?.context("the observer ended")?.ttl();
        tokio::time::sleep(ttl).await;
        Ok(())
    }

    async fn set_drain(&self, region: &str, drain: bool) -> Result<()> {
        let clusters: Api<api::v1alpha1::Cluster> = Api::all(self.hub.clone());
        let patch = Patch::Merge(json!({"spec": {"drain": drain}}));
        let patched = clusters.patch(region, &PatchParams::default(), &patch).await;
        patched.map(drop).with_context(|| format!("setting spec.drain of Cluster {region}"))
    }

    /// Ends everything in order. Returns what did not end when asked.
    pub async fn stop(&self) -> Vec<String> {
        let Some(Running { mut roles, hub, regions, dir }) = self.running.lock().await.take() else { return vec![] };
        let (stop, tasks, mut left) = (&self.stop, &self.tasks, vec![]);
        stop.front.cancel();
        stop.members.cancel();
        // The hub last, so that it hears the others' goodbyes.
        let waited = tokio::time::timeout(ENDS_WITHIN, async {
            while roles.len() > 1 && roles.join_next().await.is_some() {}
            stop.hub.cancel();
            while roles.join_next().await.is_some() {}
        });
        if waited.await.is_err() {
            left.push(format!("{} roles", roles.len()));
            roles.shutdown().await;
        }
        for member in regions {
            member.cluster.stop().await;
        }
        hub.stop().await;
        stop.rest.cancel();
        tasks.close();
        if tokio::time::timeout(ENDS_WITHIN, tasks.wait()).await.is_err() {
            left.push(format!("{} tasks", tasks.len()));
        }
        if let Err(error) = dir.close() {
            left.push(format!("a directory ({error})"));
        }
        left
    }
}

/// What the parts of a world are made of.
#[derive(Clone, Copy)]
struct Parts<'a> {
    spec: &'a Spec,
    network: &'a Network,
    dir: &'a Path,
    stop: &'a Stop,
    tasks: &'a TaskTracker,
}

type Started = std::pin::Pin<Box<dyn Future<Output = Ended> + Send>>;

impl Parts<'_> {
    async fn start_hub(&self, hub: &Cluster, roles: &mut JoinSet<Ended>) -> Result<()> {
        let client = hub.client();
        let crds = api::v1alpha1::crds();
        apply::objects(client, crds.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?).await?;
        apply::objects(client, without_processes(controller::manifests::hub(NAMESPACE, "isochrone"))).await?;
        let at = Addresses::hub(self.spec);
        let advertise: Vec<String> = (1..)
            .zip(&self.spec.regions)
            .map(|(n, _)| Addresses::of(self.spec, n).tunnel().clients.to_string())
            .collect();
        let places = self.dir.join("places.csv");
        std::fs::write(&places, places_of(self.spec)).with_context(|| format!("writing {}", places.display()))?;
        let config = controller::runtime::Config {
            client: Client::try_from(hub.service_account(NAMESPACE, "isochrone-hub").await?)?,
            namespace: NAMESPACE.to_owned(),
            identity: HUB.to_owned(),
            listen: Addresses::of(self.spec, 1).tunnel().server,
            advertise,
            admin: at.hub_admin(),
            geoip: vec![places],
            // A failure domain of its own.
            region: Some(HUB.to_owned()),
            certificate_lifetime: tunnel::identity::CLIENT_LIFETIME,
        };
        let running = controller::runtime::run(config, self.stop.hub.clone());
        roles.spawn(async { ("the hub".to_owned(), running.await.map_err(Into::into)) });
        // Its authority must be there before tokens can be made.
        let trust: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let there = await_condition(trust, "isochrone-trust", |map: Option<&ConfigMap>| map.is_some());
        let there = tokio::select! {
            there = tokio::time::timeout(READY_WITHIN, there) => there,
            Some(ended) = roles.join_next() => match ended? {
                (_, Err(error)) => return Err(error.context("the hub ended")),
                (_, Ok(())) => bail!("the hub ended by itself"),
            },
        };
        there.context("the hub does not begin to work")?.context("waiting for the hub").map(drop)
    }

    async fn start_region(
        &self,
        hub: &Cluster,
        number: u8,
        region: &Region,
        cluster: Cluster,
    ) -> Result<(Member, [Started; 2])> {
        let (at, site) = (Addresses::of(self.spec, number), Site::from(region.name.as_str()));
        for relayed in [at.api(), at.door(), at.dns(), at.dns_admin()] {
            self.relay_tcp(relayed, &site).await?;
        }
        for relayed in [at.dns(), at.peering()] {
            self.relay_udp(relayed, Clients::ByAddress, &site).await?;
        }
        self.relay_udp(at.tunnel(), Clients::From(site), &Site::from(HUB)).await?;
        let load_balancer = cluster.open(at, region, self.tasks, &self.stop.rest).await?;

        apply::objects(cluster.client(), without_processes(agent::manifests(NAMESPACE, "isochrone"))).await?;
        let clusters: Api<api::v1alpha1::Cluster> = Api::all(hub.client().clone());
        let spec = ClusterSpec {
            region: region.region.clone(),
            location: Some(Location { latitude: region.place.at.latitude(), longitude: region.place.at.longitude() }),
            provider: None,
            ingress: None,
            // Doors have HTTP alone, on a port of the world's choice.
            probe: Some(ClusterProbe {
                scheme: ProbeScheme::HTTP,
                port: Some(self.spec.ports.http),
                path: "/".to_owned(),
                host: None,
            }),
            taints: vec![],
            drain: false,
        };
        let wanted = api::v1alpha1::Cluster::new(&region.name, spec);
        clusters.create(&PostParams::default(), &wanted).await.with_context(|| format!("adding {}", region.name))?;
        let config = agent::runtime::Config {
            kube: cluster.service_account(NAMESPACE, "isochrone-agent").await?,
            namespace: NAMESPACE.to_owned(),
            join: Some(self.token(hub, Role::Agent, &region.name, at, region).await?),
            instance: format!("agent-{}", region.name),
            admin: at.agent_admin(),
        };
        let running = agent::runtime::run(config, self.stop.members.clone());
        let name = format!("the agent of {}", region.name);
        let agent: Started = Box::pin(async { (name, running.await.map_err(Into::into)) });

        let node = format!("ns-{}", region.name);
        let config = dns::runtime::Config {
            join: Some(self.token(hub, Role::Dns, &node, at, region).await?),
            state: self.dir.join(&node),
            listen: vec![at.dns().server],
            threads: 1,
            admin: at.dns_admin().server,
            peering: at.peering().server,
            // So that relays know the region.
            source: Some(at.dns().server.ip()),
            advertise_peering: Some(at.peering().clients.to_string()),
        };
        let running = dns::runtime::run(config, self.stop.members.clone());
        let name = format!("the DNS node {node}");
        let dns: Started = Box::pin(async { (name, running.await.map_err(Into::into)) });
        Ok((Member { cluster, _load_balancer: load_balancer }, [agent, dns]))
    }

    /// A join token that knows the hub by the region's own way to it alone.
    async fn token(&self, hub: &Cluster, role: Role, name: &str, at: Addresses<'_>, region: &Region) -> Result<String> {
        let credentials = Credentials::new(hub.client(), NAMESPACE);
        let mut token = credentials.token(role, name, &region.region).await?;
        token.hubs = vec![at.tunnel().clients.to_string()];
        Ok(token.to_string())
    }

    fn served(&self, relayed: &Relayed, clients: Clients, site: &Site) -> Served {
        Served { network: self.network.clone(), clients, site: site.clone(), address: relayed.server }
    }

    async fn relay_tcp(&self, relayed: Relayed, site: &Site) -> Result<()> {
        let served = self.served(&relayed, Clients::ByAddress, site);
        let relay = tcp::Relay::bind(relayed.clients, served).await;
        let relay = relay.with_context(|| taken("TCP", relayed.clients))?;
        self.tasks.spawn(relay.run(self.stop.rest.clone()));
        Ok(())
    }

    async fn relay_udp(&self, relayed: Relayed, who: Clients, site: &Site) -> Result<()> {
        let served = self.served(&relayed, who, site);
        let relay = udp::Relay::bind(relayed.clients, served).await;
        let relay = relay.with_context(|| taken("UDP", relayed.clients))?;
        self.tasks.spawn(relay.run(self.stop.rest.clone()));
        Ok(())
    }

    fn write_files(&self, hub: &Cluster, regions: &[Member]) -> Result<()> {
        // The hub's first: it is the current context.
        let members = regions.iter().map(|member| member.cluster.admin_kubeconfig());
        let all: Vec<Value> = std::iter::once(hub.admin_kubeconfig()).chain(members).collect();
        kubeconfig::write(&self.dir.join(KUBECONFIG), &kubeconfig::merged(&all))?;
        let cdn = self.dir.join(CDN_FILE);
        std::fs::write(&cdn, CDN).with_context(|| format!("writing {}", cdn.display()))
    }
}

/// What was described to happen by itself, each at its time.
async fn faults(spec: Arc<Spec>, world: Weak<World>, stop: CancellationToken) {
    let begun = Instant::now();
    for Fault { at, act, region } in &spec.faults {
        tokio::select! {
            () = tokio::time::sleep_until(begun + *at) => {}
            () = stop.cancelled() => return,
        }
        let Some(world) = world.upgrade() else { return };
        if let Err(error) = world.act(*act, region, false).await {
            world.observer.tell(&format!("{error:#}"));
        }
    }
}

/// A world's state as it changes.
#[derive(Debug)]
pub struct Changes(watch::Receiver<Looked>);

impl Changes {
    /// The next one that differs; `None` once the world has ended.
    pub async fn next(&mut self) -> Option<State> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().state.clone())
    }
}

pub(crate) fn taken(transport: &str, address: std::net::SocketAddr) -> String {
    format!(
        "cannot listen on {transport} {address}: end what listens there, or describe a world with other ports or another \
         network (--config)"
    )
}

/// All addresses of a world must be this machine's own, as on Linux all of 127.0.0.0/8 are.
fn check_addresses(spec: &Spec) -> Result<()> {
    let all = addresses::all(spec);
    let lacks = |address: &Ipv4Addr| match std::net::UdpSocket::bind((*address, 0)) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => Ok(true),
        Err(error) => Err(error).with_context(|| format!("trying whether this machine has the address {address}")),
    };
    let lacking = all.iter().map(lacks).collect::<Result<Vec<_>>>()?.into_iter().filter(|lacks| *lacks).count();
    ensure!(
        lacking == 0,
        "this machine lacks {lacking} of the {} loopback addresses of this world (Linux has all of 127.0.0.0/8, macOS \
         127.0.0.1 alone): give it all of them, until its next start, by `for address in {}; do sudo ifconfig lo0 alias \
         $address; done`, and run this again",
        all.len(),
        addresses::for_a_shell(spec)
    );
    Ok(())
}

/// The shipped objects without those that would run a role in a pod: here it runs in this process.
fn without_processes(objects: Vec<Value>) -> impl Iterator<Item = Value> {
    objects.into_iter().filter(|object| object["kind"] != "Deployment" && object["kind"] != "Service")
}

/// Where the addresses of a world are, for DNS nodes.
fn places_of(spec: &Spec) -> String {
    let line = |number: u8, place: &crate::spec::Place| {
        let (latitude, longitude) = (place.at.latitude(), place.at.longitude());
        format!("{}/24, {latitude}, {longitude} # {}\n", spec.address(number, 0), place.city)
    };
    let regions = (1..).zip(&spec.regions).map(|(number, region)| line(number, &region.place));
    let users = spec.user_networks().map(|(number, user)| line(number, user));
    regions.chain(users).chain([line(addresses::HUB_NUMBER, &spec.hub)]).collect()
}

fn network(spec: &Spec) -> Network {
    let [a, b] = spec.network;
    let site = |name: &str| Site::from(name);
    let regions = (1..).zip(&spec.regions).map(|(number, region)| ([a, b, number], site(&region.name)));
    let users = spec.user_networks().map(|(number, user)| ([a, b, number], site(&user.city)));
    let hub = [([a, b, addresses::HUB_NUMBER], site(HUB))];
    let known = spec.latencies.iter().map(|latency| {
        let [one, other] = &latency.between;
        (site(one), site(other), latency.round_trip)
    });
    Network::new(spec.sites().map(|(name, at)| (site(name), at)), regions.chain(users).chain(hub), known)
}
