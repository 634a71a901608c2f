//! What a node answers from: the tables of one snapshot, and the classes of its clusters at this moment.
//!
//! [`Tables`] is compiled once per snapshot and never changes. [`View`] puts the node's verdicts beside it, by the
//! snapshot's numbering, so the two cannot belong to different snapshots; a change of health makes a new `View` over the
//! same tables, which costs a few bytes per cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::snapshot::Snapshot;
use policies::geo::Coordinates;
use policies::steering::{Class, Role};

use crate::compile::{Steering, TargetSet, compile};
use crate::health::Fleet;
use crate::locate::{self, Builtin, LocateError, Stack};
use crate::zone::{self, SteeredName, ZoneError, Zones};

/// Why a snapshot cannot be answered from.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// A zone is wrong.
    #[error("snapshot {number}")]
    Zone {
        /// The snapshot's number.
        number: u64,
        /// Which, and how.
        #[source]
        source: Box<ZoneError>,
    },
    /// A cluster lies nowhere.
    #[error("snapshot {number}: cluster {cluster}: {source}")]
    Place {
        /// The snapshot's number.
        number: u64,
        /// The cluster's name.
        cluster: String,
        /// What is wrong with its coordinates.
        source: policies::geo::CoordinatesError,
    },
    /// More clusters than a ranking can number.
    #[error("snapshot {number} has {clusters} clusters, more than 65535")]
    TooManyClusters {
        /// The snapshot's number.
        number: u64,
        /// How many.
        clusters: usize,
    },
    /// A host refers to a cluster that is not there, or twice to one.
    #[error("snapshot {number}: host {host} names cluster {cluster}, which is not there or named twice")]
    Target {
        /// The snapshot's number.
        number: u64,
        /// The host.
        host: String,
        /// The index it gives.
        cluster: u32,
    },
    /// An address of a host is none.
    #[error("snapshot {number}: {address:?} of host {host} is no IP address")]
    Address {
        /// The snapshot's number.
        number: u64,
        /// The host.
        host: String,
        /// What was written.
        address: String,
    },
    /// A geo database cannot be used.
    #[error("snapshot {number}")]
    Geo {
        /// The snapshot's number.
        number: u64,
        /// Which, and why.
        #[source]
        source: LocateError,
    },
}

/// One cluster of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Name of the `Cluster` object.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Where it lies.
    pub coordinates: Coordinates,
}

/// One cluster that serves a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) cluster: u16,
    pub(crate) ipv4: Vec<[u8; 4]>,
    pub(crate) ipv6: Vec<[u8; 16]>,
}

/// A steered host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) ttl_s: u32,
    pub(crate) role: Role,
    /// Index of its steering table.
    pub(crate) steering: usize,
    /// Sorted by cluster.
    pub(crate) targets: Vec<Target>,
}

impl Host {
    pub(crate) fn target(&self, cluster: u16) -> Option<&Target> {
        let found = self.targets.binary_search_by_key(&cluster, |target| target.cluster).ok()?;
        Some(&self.targets[found])
    }
}

/// A snapshot, compiled.
#[derive(Debug, Default)]
pub struct Tables {
    /// The leader's term that made it.
    pub term: u64,
    /// Its number; zero before the first one.
    pub number: u64,
    /// Its digest; empty before the first one.
    pub digest: Vec<u8>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) zones: Zones,
    pub(crate) hosts: Vec<Host>,
    pub(crate) steering: Vec<Steering>,
    fleet: Fleet,
    geo: Vec<PathBuf>,
}

impl Tables {
    /// Compiles `snapshot`, whose digest is `digest`, with the geo databases in `geo`, best first. The built-in country
    /// table stands below them.
    ///
    /// # Errors
    /// When the snapshot contradicts itself, or a database cannot be read. The message says which zone, host or cluster.
    pub fn compile(snapshot: &Snapshot, digest: Vec<u8>, geo: Vec<PathBuf>) -> Result<Self, TablesError> {
        let number = snapshot.number;
        let clusters = clusters_of(snapshot)?;
        let places: Vec<Coordinates> = clusters.iter().map(|cluster| cluster.coordinates).collect();

        let (mut hosts, mut zones, mut sets) = (Vec::new(), Zones::default(), BTreeMap::<TargetSet, usize>::new());
        for zone in &snapshot.zones {
            let first = hosts.len();
            for host in &zone.hosts {
                let targets = targets_of(number, host, clusters.len())?;
                let set = TargetSet {
                    clusters: targets.iter().map(|target| target.cluster).collect(),
                    tolerance: Duration::from_millis(host.tolerance_ms.into()),
                };
                let fresh = sets.len();
                let steering = *sets.entry(set).or_insert(fresh);
                hosts.push(Host {
                    name: host.name.clone(),
                    app: host.app.clone(),
                    ttl_s: host.ttl_s.min(i32::MAX as u32),
                    role: host.role().into(),
                    steering,
                    targets,
                });
            }
            let named = |(index, host): (usize, &Host)| (host.name.clone(), index);
            let names: Vec<(String, usize)> = hosts.iter().enumerate().skip(first).map(named).collect();
            let names: Vec<SteeredName<'_>> =
                names.iter().map(|(name, index)| SteeredName { name, index: *index }).collect();
            let refuse = |source| TablesError::Zone { number, source: Box::new(source) };
            let compiled = zone::compile(zone, &names).map_err(refuse)?;
            zones.add(compiled, &zone.origin).map_err(refuse)?;
        }

        let mut ordered: Vec<(TargetSet, usize)> = sets.into_iter().collect();
        ordered.sort_by_key(|(_, index)| *index);
        let sets: Vec<TargetSet> = ordered.into_iter().map(|(set, _)| set).collect();
        let stack = open(&geo).map_err(|source| TablesError::Geo { number, source })?;
        let centres = Builtin::get().centres().iter();
        let world: Vec<(Coordinates, u64)> = centres.map(|centre| (centre.place.coordinates, centre.people)).collect();
        let steering = compile(&stack, &world, &places, &sets).map_err(|source| TablesError::Geo { number, source })?;
        let fleet = Fleet::of(snapshot);
        Ok(Self { term: snapshot.term, number, digest, clusters, zones, hosts, steering, fleet, geo })
    }

    /// Clusters by the snapshot's index.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// Whom to watch, and whom to tell.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Opens the databases that these tables were compiled from. The tables do not keep them: they would take more
    /// memory than everything else.
    ///
    /// # Errors
    /// When a file is gone or damaged since.
    pub fn databases(&self) -> Result<Stack, LocateError> {
        open(&self.geo)
    }

    /// The steered host `name`, lower case and without the final dot.
    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }
}

fn open(geo: &[PathBuf]) -> Result<Stack, LocateError> {
    let mut stack = Stack::new();
    for path in geo {
        stack = stack.below_opened(locate::open(path)?);
    }
    Ok(stack.below(Builtin::get()))
}

fn clusters_of(snapshot: &Snapshot) -> Result<Vec<Cluster>, TablesError> {
    let number = snapshot.number;
    if snapshot.clusters.len() > usize::from(u16::MAX) {
        return Err(TablesError::TooManyClusters { number, clusters: snapshot.clusters.len() });
    }
    let cluster = |cluster: &api::snapshot::Cluster| {
        let coordinates = Coordinates::new(cluster.latitude, cluster.longitude)
            .map_err(|source| TablesError::Place { number, cluster: cluster.name.clone(), source })?;
        Ok(Cluster { name: cluster.name.clone(), region: cluster.region.clone(), coordinates })
    };
    snapshot.clusters.iter().map(cluster).collect()
}

fn targets_of(number: u64, host: &api::snapshot::Host, clusters: usize) -> Result<Vec<Target>, TablesError> {
    let mut targets = BTreeMap::new();
    for target in &host.targets {
        let refuse = || TablesError::Target { number, host: host.name.clone(), cluster: target.cluster };
        let cluster = u16::try_from(target.cluster).ok().filter(|cluster| usize::from(*cluster) < clusters);
        let cluster = cluster.ok_or_else(refuse)?;
        let mut compiled = Target { cluster, ..Target::default() };
        for address in &target.addresses {
            let parsed = address.parse().map_err(|_| TablesError::Address {
                number,
                host: host.name.clone(),
                address: address.clone(),
            })?;
            match parsed {
                IpAddr::V4(v4) => compiled.ipv4.push(v4.octets()),
                IpAddr::V6(v6) => compiled.ipv6.push(v6.octets()),
            }
        }
        if targets.insert(cluster, compiled).is_some() {
            return Err(refuse());
        }
    }
    Ok(targets.into_values().collect())
}

/// Who this node is, as it says over DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// A node called `name`. What does not fit into one label's length is cut: replies have room for no more.
    pub fn new(name: &str) -> Self {
        Self(name.chars().filter(char::is_ascii_graphic).take(63).collect())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tables with the classes of this moment.
#[derive(Clone, Debug)]
pub struct View {
    tables: Arc<Tables>,
    classes: Box<[Class]>,
    identity: Arc<Identity>,
    /// What NSID replies say: the node and its snapshot.
    pub(crate) nsid: Box<[u8]>,
}

impl View {
    /// Puts `classes`, by name of cluster, beside `tables`. A cluster without a verdict is healthy: nobody has seen it
    /// fail.
    pub fn new(tables: Arc<Tables>, classes: &BTreeMap<String, Class>, identity: Arc<Identity>) -> Self {
        let class = |cluster: &Cluster| classes.get(&cluster.name).copied().unwrap_or_default();
        let classes = tables.clusters.iter().map(class).collect();
        let nsid = format!("{} snapshot {}", identity.as_str(), tables.number).into_bytes().into();
        Self { tables, classes, identity, nsid }
    }

    /// The tables.
    pub const fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Who answers.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The class of a cluster by the snapshot's index.
    pub fn class(&self, cluster: u16) -> Class {
        self.classes.get(usize::from(cluster)).copied().unwrap_or_default()
    }
}
