//! What makes objects come true: the controllers of kube-controller-manager, the scheduler, and a kubelet for each node.
//!
//! [`Controllers::run`] does all that there is to do at a time and says when to call it again, or sooner if somebody
//! wrote ([`Controllers::changed`]). No task, no clock, no thread: the same requests at the same times give the same
//! objects, in virtual time too.
//!
//! Each controller looks at what is there and does the next step towards what is wanted (level-triggered), so it does
//! not matter what was missed. They write through [`Api::handle`] like anybody else, under the names of the real ones,
//! so that `managedFields`, generations and validation are as on a real cluster. They read from a `cache` of their
//! own, which follows the store before each step.
//!
//! * `deployments`, `replica_sets`, `stateful_sets`, `daemon_sets`, `jobs`, `cron_jobs`: workloads.
//! * `pods`: scheduling and life. `nodes`: where pods run.
//! * `services`: endpoints and addresses of load balancers.
//! * `namespaces`, `garbage`: how things end. `accounts`, `roles`, `volumes`, `budgets`: the rest.
//!
//! Absent: autoscaling, node failure (a node is ready as long as it is there), images and processes: a container runs
//! because it says so. Probes always pass.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::api::Api;

mod accounts;
mod budgets;
mod cache;
mod cron_jobs;
mod daemon_sets;
mod deployments;
mod garbage;
mod jobs;
mod namespaces;
mod nodes;
mod pods;
mod replica_sets;
mod revisions;
mod roles;
mod server;
mod services;
mod stateful_sets;
mod templates;
mod volumes;

use cache::Cache;

/// How a cluster behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The nodes; none if somebody else makes them.
    pub nodes: Vec<NodeSettings>,
    /// From a pod's binding until its containers run.
    pub pod_start: Duration,
    /// From a pod's deletion until it is gone, if its grace period is not shorter.
    pub pod_stop: Duration,
    /// How long a container runs that is meant to end.
    pub job_run: Duration,
    /// Where pods get their addresses.
    pub pod_addresses: Ipv4Net,
    /// What Services of type LoadBalancer get, in this order.
    pub load_balancers: Vec<IpAddr>,
    /// The storage class that claims get, whose volumes are made when they are wanted.
    pub storage_class: Option<String>,
    /// The certificates in each namespace's `kube-root-ca.crt`.
    pub root_certificates: String,
    /// How often a node renews its Lease; the kubelet's default is ten seconds.
    pub heartbeat: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: (0..3).map(|number| NodeSettings::new(format!("node-{number}"))).collect(),
            // No official reference: long enough to be seen, short enough not to be waited for.
            pod_start: Duration::from_millis(200),
            pod_stop: Duration::from_millis(200),
            job_run: Duration::from_secs(1),
            // kubeadm's documents and flannel use this network.
            pod_addresses: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16),
            load_balancers: Vec::new(),
            storage_class: Some("standard".to_owned()),
            root_certificates: String::new(),
            heartbeat: Duration::from_secs(10),
        }
    }
}

impl Settings {
    fn has_node(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name)
    }
}

/// A node, as its kubelet announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name.
    pub name: String,
    /// Where it says that it is (`topology.kubernetes.io/region` and `zone`), if anything.
    pub place: Option<(String, String)>,
    /// What it offers, in Kubernetes quantities; the scheduler keeps to it.
    pub capacity: BTreeMap<String, String>,
}

impl NodeSettings {
    /// A node of a usual size, in no particular place.
    pub fn new(name: impl Into<String>) -> Self {
        // No official reference: more than what is tried on one machine asks for.
        let capacity = [("cpu", "16"), ("memory", "64Gi"), ("ephemeral-storage", "200Gi"), ("pods", "250")];
        let capacity = capacity.into_iter().map(|(name, amount)| (name.to_owned(), amount.to_owned())).collect();
        Self { name: name.into(), place: None, capacity }
    }
}

/// All controllers of a cluster.
#[derive(Debug)]
pub struct Controllers {
    work: Work,
}

/// Whose step it is, and for which object. The order is that of a step's cost to get wrong: what ends goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    controller: Controller,
    namespace: String,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    /// An object with owners, by `table/name`.
    Owned,
    /// An object that waits for its dependents, by `table/name`.
    Owner,
    Namespace,
    Account,
    Role,
    Node,
    Volume,
    Claim,
    CronJob,
    Job,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    /// A pod that has no node.
    Schedule,
    /// A pod on its node.
    Life,
    Service,
    Budget,
    /// Old events go.
    Events,
}

/// What a step can see and do.
#[derive(Debug)]
pub(crate) struct Work {
    api: Arc<Api>,
    settings: Settings,
    cache: Cache,
    now: Timestamp,
    queue: BTreeSet<Key>,
    timers: BTreeSet<(Timestamp, Key)>,
    /// Events that were told already, and how often.
    told: BTreeMap<(String, String, String), (String, i64)>,
    /// Makes names of events different.
    events: u64,
    /// Which addresses are held, by which pods' uids.
    addresses: BTreeMap<Ipv4Addr, String>,
    /// Where the search for a free address goes on, as an offset in the network.
    next_address: u32,
    /// When pods began what they do now, finer than their objects say it, by uid.
    started: BTreeMap<String, Timestamp>,
    /// When pods were seen to be deleted, by uid.
    stopping: BTreeMap<String, Timestamp>,
    /// What runs on each node.
    loads: BTreeMap<String, pods::Load>,
    /// Which Services hold which addresses, by uid.
    balancers: BTreeMap<String, IpAddr>,
}

/// More steps than this in one call mean that two controllers undo each other; the rest waits for the next call.
const STEPS_MAX: usize = 200_000;

impl Controllers {
    /// Controllers for a server.
    pub fn new(api: Arc<Api>, settings: Settings) -> Self {
        let work = Work {
            api,
            settings,
            cache: Cache::default(),
            now: Timestamp::UNIX_EPOCH,
            queue: BTreeSet::new(),
            timers: BTreeSet::new(),
            told: BTreeMap::new(),
            events: 0,
            addresses: BTreeMap::new(),
            next_address: 0,
            started: BTreeMap::new(),
            stopping: BTreeMap::new(),
            loads: BTreeMap::new(),
            balancers: BTreeMap::new(),
        };
        Self { work }
    }

    /// The server that they work on.
    pub fn api(&self) -> &Arc<Api> {
        &self.work.api
    }

    /// Does all that there is to do now. Answers when to call again at the latest; `None` if only a write can make work.
    pub fn run(&mut self, now: Timestamp) -> Option<Timestamp> {
        let first = self.work.now == Timestamp::UNIX_EPOCH;
        self.work.now = now;
        if first {
            nodes::begin(&mut self.work);
            volumes::begin(&mut self.work);
            self.work.queue.insert(Key::new(Controller::Events, "", ""));
        }
        self.work.follow();
        self.work.ring(now);
        for _ in 0..STEPS_MAX {
            let Some(key) = self.work.queue.pop_first() else {
                return self.work.timers.first().map(|(time, _)| *time);
            };
            step(&mut self.work, &key);
            self.work.follow();
        }
        tracing::warn!("the controllers do not come to rest");
        Some(now + jiff::SignedDuration::from_secs(1))
    }

    /// Whether anything was written since the last call of `run`.
    pub fn changed(&self) -> bool {
        self.work.api.revision() != self.work.cache.revision()
    }
}

fn step(work: &mut Work, key: &Key) {
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    match key.controller {
        Controller::Owned => garbage::check_owners(work, namespace, name),
        Controller::Owner => garbage::check_dependents(work, namespace, name),
        Controller::Namespace => namespaces::sync(work, name),
        Controller::Account => accounts::sync(work, name),
        Controller::Role => roles::sync(work, name),
        Controller::Node => nodes::sync(work, name),
        Controller::Volume => volumes::sync_volume(work, name),
        Controller::Claim => volumes::sync_claim(work, namespace, name),
        Controller::CronJob => cron_jobs::sync(work, namespace, name),
        Controller::Job => jobs::sync(work, namespace, name),
        Controller::Deployment => deployments::sync(work, namespace, name),
        Controller::ReplicaSet => replica_sets::sync(work, namespace, name),
        Controller::StatefulSet => stateful_sets::sync(work, namespace, name),
        Controller::DaemonSet => daemon_sets::sync(work, namespace, name),
        Controller::Schedule => pods::schedule(work, namespace, name),
        Controller::Life => pods::live(work, namespace, name),
        Controller::Service => services::sync(work, namespace, name),
        Controller::Budget => budgets::sync(work, namespace, name),
        Controller::Events => server::forget_events(work),
    }
}

impl Key {
    fn new(controller: Controller, namespace: &str, name: &str) -> Self {
        Self { controller, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Work {
    /// Takes in what was written, and notes whose business it is.
    fn follow(&mut self) {
        let changes = self.cache.follow(&self.api);
        for change in changes {
            cache::notify(self, &change);
        }
    }

    /// Timers that are due become work.
    fn ring(&mut self, now: Timestamp) {
        while let Some((time, _)) = self.timers.first()
            && *time <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.queue.insert(key);
        }
    }

    /// Comes back to an object later; at once if that is past.
    fn again(&mut self, at: Timestamp, controller: Controller, namespace: &str, name: &str) {
        let key = Key::new(controller, namespace, name);
        if at <= self.now {
            self.queue.insert(key);
        } else {
            self.timers.insert((at, key));
        }
    }

    fn enqueue(&mut self, controller: Controller, namespace: &str, name: &str) {
        self.queue.insert(Key::new(controller, namespace, name));
    }

    /// Now, as objects have it.
    fn time(&self) -> String {
        crate::time::seconds(self.now)
    }
}

#[cfg(test)]
mod tests;
