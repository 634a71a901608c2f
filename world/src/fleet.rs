//! A hub and its members.
//!
//! A world has a `slot`, which is part of all its addresses (see [`crate::network`]), so that worlds with different
//! slots run side by side. The hub has no door: nothing is served from it.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use ingress::LoadBalancer;
use tempfile::TempDir;

use crate::cluster::{Cluster, ClusterSpec, Component};
use crate::ingress::{Ingress, IngressSpec};
use crate::network::{Faults, HUB, Namespaces, Network, Places, net_argument};
use crate::provider::Provider;

/// Places for members, in the order in which worlds use them: name, region, city, latitude, longitude.
const PLACES: [(&str, &str, &str, f64, f64); 8] = [
    ("fra", "eu-central", "Frankfurt", 50.11, 8.68),
    ("iad", "us-east", "Virginia", 39.04, -77.49),
    ("sin", "ap-southeast", "Singapore", 1.35, 103.82),
    ("syd", "ap-south-east", "Sydney", -33.87, 151.21),
    ("gru", "sa-east", "São Paulo", -23.55, -46.63),
    ("nrt", "ap-northeast", "Tokyo", 35.68, 139.69),
    ("pdx", "us-west", "Oregon", 45.52, -122.68),
    ("bom", "ap-south", "Mumbai", 19.08, 72.88),
];

/// The region of a hub that is beside no member; none of theirs.
const HUB_REGION: &str = "home";

/// One member cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberSpec {
    /// A DNS label, unique in its world.
    pub name: String,
    /// The label `topology.kubernetes.io/region` of its nodes, and the `region` of its door's answers.
    pub region: String,
    /// Where it is, for people.
    pub city: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// A world to start.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldSpec {
    /// Tells worlds on one machine apart, see the module documentation.
    pub slot: u8,
    /// At most 249.
    pub members: Vec<MemberSpec>,
    /// Where the members' doors listen; 80 needs rights.
    pub ingress_port: u16,
    /// Where the clusters keep their files, one directory each; `None` for a directory that vanishes with the world.
    pub dir: Option<PathBuf>,
    /// What joins its processes.
    pub network: Network,
    /// The member in whose site the hub is; `None` for a site of its own. On loopback it makes no difference but in the
    /// hub's address.
    pub hub_beside: Option<String>,
}

impl WorldSpec {
    /// Frankfurt, Virginia and Singapore in slot 0, with doors on port 80.
    pub fn new() -> Self {
        let members = PLACES.iter().take(3).map(place).collect();
        Self { slot: 0, members, ingress_port: 80, dir: None, network: Network::Loopback, hub_beside: None }
    }

    /// The same with this many members, taken in order from a list of cities around the world.
    ///
    /// # Errors
    /// When there are more than places.
    pub fn with_members(count: usize) -> anyhow::Result<Self> {
        ensure!(count <= PLACES.len(), "{count} members asked for, but only {} places are known", PLACES.len());
        Ok(Self { members: PLACES.iter().take(count).map(place).collect(), ..Self::new() })
    }
}

impl Default for WorldSpec {
    fn default() -> Self {
        Self::new()
    }
}

fn place((name, region, city, latitude, longitude): &(&str, &str, &str, f64, f64)) -> MemberSpec {
    MemberSpec {
        name: (*name).to_owned(),
        region: (*region).to_owned(),
        city: (*city).to_owned(),
        latitude: *latitude,
        longitude: *longitude,
    }
}

/// A member cluster with its address and its door.
#[derive(Debug)]
pub struct Member {
    /// What was asked for.
    pub spec: MemberSpec,
    /// What the cluster's load balancers have as their address, and where its door listens.
    pub address: Ipv4Addr,
    /// The door; kill it alone, or revive it.
    pub ingress: Ingress,
    load_balancer: LoadBalancer,
    /// The cluster itself.
    pub cluster: Cluster,
}

/// A running world. Dropping it kills all of it; [`World::stop`] ends it in order.
#[derive(Debug)]
pub struct World {
    /// Where the control plane of the product goes; an ordinary cluster without a door.
    pub hub: Cluster,
    /// In the order of the spec.
    pub members: Vec<Member>,
    dir: PathBuf,
    pub(crate) places: Places,
    /// That of the member beside which it is, or one of its own.
    pub(crate) hub_region: String,
    _vanishing: Option<TempDir>,
    // Last: a namespace goes once its processes are gone.
    namespaces: Option<Namespaces>,
}

impl World {
    /// Starts all clusters at once, of what the provider has, and waits for all.
    ///
    /// # Errors
    /// When one does not start; the others are killed then.
    pub async fn start(provider: impl Into<Provider>, spec: WorldSpec) -> anyhow::Result<Self> {
        Self::start_on(&provider.into(), spec).await
    }

    async fn start_on(provider: &Provider, spec: WorldSpec) -> anyhow::Result<Self> {
        let (dir, vanishing) = match &spec.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::Builder::new().prefix("isochrone-world-").tempdir();
                let dir = dir.context("making a directory for the world")?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let names: Vec<&str> = spec.members.iter().map(|member| member.name.as_str()).collect();
        let beside = spec.hub_beside.as_deref().map(|beside| {
            let index = names.iter().position(|name| *name == beside);
            index.with_context(|| format!("the hub cannot be beside {beside}: there is no such member"))
        });
        let beside = beside.transpose()?;
        let hub_region = beside.and_then(|index| spec.members.get(index)).map_or(HUB_REGION, |member| &member.region);
        let mut places = Places::new(spec.network, spec.slot, beside)?;
        let namespaces = places.join(spec.slot, &names)?;
        let hub = ClusterSpec { place: places.hub_api(), ..ClusterSpec::new("hub", dir.join("hub")) };
        let hub = Cluster::start(provider.clone(), hub);
        let members = try_join_all(
            spec.members.iter().enumerate().map(|(index, member)| start(provider, &spec, &places, &dir, index, member)),
        );
        let (hub, members) = futures::try_join!(hub, members)?;
        let hub_region = hub_region.to_owned();
        Ok(Self { hub, members, dir, places, hub_region, _vanishing: vanishing, namespaces })
    }

    /// What may be lost between the sites.
    ///
    /// # Errors
    /// On loopback, where nothing can be lost.
    pub fn faults(&self) -> anyhow::Result<&Faults> {
        let namespaces = self.namespaces.as_ref();
        namespaces.map(Namespaces::faults).context("a world on loopback cannot lose packets: use Network::Namespaces")
    }

    /// A program to run inside the network of a site: a member's name, or [`crate::network::HUB`].
    ///
    /// # Errors
    /// On loopback, and when there is no such site.
    pub fn inside(&self, site: &str, program: impl AsRef<OsStr>) -> anyhow::Result<tokio::process::Command> {
        let place = match self.members.iter().position(|member| member.spec.name == site) {
            Some(index) => self.places.door(index)?,
            None if site == HUB => self.places.hub(),
            None => bail!("there is no site {site}"),
        };
        let namespace = place.namespace.context("a world on loopback has no sites to enter")?;
        let mut command = tokio::process::Command::new("nsenter");
        command.args([&net_argument(&namespace), "--"]).arg(program).kill_on_drop(true);
        Ok(command)
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.spec.name == name)
    }

    /// As [`Self::member`], to kill or revive its door.
    pub fn member_mut(&mut self, name: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.spec.name == name)
    }

    /// The directory of all clusters' files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends everything, all clusters at once. Returns the components that had to be killed, by cluster.
    pub async fn stop(self) -> Vec<(String, Component)> {
        let Self { hub, members, dir: _, places: _, hub_region: _, _vanishing: vanishing, namespaces } = self;
        let clusters = members.into_iter().map(|member| {
            let Member { ingress, load_balancer, cluster, spec: _, address: _ } = member;
            // Their watches would keep the API server from ending.
            drop((ingress, load_balancer));
            cluster
        });
        let stops = clusters.chain([hub]).map(|cluster| async {
            let name = cluster.name().to_owned();
            cluster.stop().await.into_iter().map(|component| (name.clone(), component)).collect::<Vec<_>>()
        });
        let killed = futures::future::join_all(stops).await.concat();
        drop((vanishing, namespaces));
        killed
    }
}

async fn start(
    provider: &Provider,
    world: &WorldSpec,
    places: &Places,
    dir: &Path,
    index: usize,
    member: &MemberSpec,
) -> anyhow::Result<Member> {
    let address = places.door(index)?.address;
    let spec = ClusterSpec {
        region: member.region.clone(),
        place: places.api(index)?,
        ..ClusterSpec::new(&member.name, dir.join(&member.name))
    };
    let cluster = Cluster::start(provider.clone(), spec).await?;
    let load_balancer = LoadBalancer::start(cluster.client(), address.into());
    let door = IngressSpec {
        cluster: member.name.clone(),
        region: member.region.clone(),
        address: address.into(),
        port: world.ingress_port,
    };
    let ingress = Ingress::start(&cluster, door).await?;
    Ok(Member { spec: member.clone(), address, ingress, load_balancer, cluster })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_names_of_their_own() {
        let world = WorldSpec::with_members(8).unwrap();
        let mut names: Vec<_> = world.members.iter().map(|member| &member.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 8);
        assert!(WorldSpec::with_members(9).is_err());
    }
}
