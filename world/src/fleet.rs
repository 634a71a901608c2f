//! A hub and its members.
//!
//! Addresses: a world has a `slot`, and the door of its k-th member is `127.(20 + slot).k.1`, so that worlds with
//! different slots run side by side. The hub has no door: nothing is served from it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use tempfile::TempDir;

use crate::assets::Assets;
use crate::cluster::{Cluster, ClusterSpec, Component};
use crate::ingress::{Ingress, IngressSpec};
use crate::load_balancer::LoadBalancer;

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

/// The second octet of the first world's addresses. Any of 127.0.0.0/8 would do; 127.0 and 127.1 are left to others.
const FIRST_NETWORK: u8 = 20;

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
    /// At most 254.
    pub members: Vec<MemberSpec>,
    /// Where the members' doors listen; 80 needs rights.
    pub ingress_port: u16,
    /// Where the clusters keep their files, one directory each; `None` for a directory that vanishes with the world.
    pub dir: Option<PathBuf>,
}

impl WorldSpec {
    /// Frankfurt, Virginia and Singapore in slot 0, with doors on port 80.
    pub fn new() -> Self {
        let members = PLACES.iter().take(3).map(place).collect();
        Self { slot: 0, members, ingress_port: 80, dir: None }
    }

    /// The same with this many members, taken in order from a list of cities around the world.
    ///
    /// # Errors
    /// When there are more than places.
    pub fn with_members(count: usize) -> anyhow::Result<Self> {
        ensure!(count <= PLACES.len(), "{count} members asked for, but only {} places are known", PLACES.len());
        Ok(Self { members: PLACES.iter().take(count).map(place).collect(), ..Self::new() })
    }

    fn address(&self, index: usize) -> anyhow::Result<Ipv4Addr> {
        let network = FIRST_NETWORK.checked_add(self.slot);
        let member = u8::try_from(index + 1).ok().filter(|member| *member < u8::MAX);
        match (network, member) {
            (Some(network), Some(member)) => Ok(Ipv4Addr::new(127, network, member, 1)),
            (None, _) => bail!("slot {} is too high; the last is {}", self.slot, u8::MAX - FIRST_NETWORK),
            (_, None) => bail!("a world has room for 254 members"),
        }
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
    _vanishing: Option<TempDir>,
}

impl World {
    /// Starts all clusters at once and waits for all.
    ///
    /// # Errors
    /// When one does not start; the others are killed then.
    pub async fn start(assets: &Assets, spec: WorldSpec) -> anyhow::Result<Self> {
        let (dir, vanishing) = match &spec.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::Builder::new().prefix("isochrone-world-").tempdir();
                let dir = dir.context("making a directory for the world")?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let hub = Cluster::start(assets, ClusterSpec::new("hub", dir.join("hub")));
        let members = try_join_all(
            spec.members.iter().enumerate().map(|(index, member)| start(assets, &spec, &dir, index, member)),
        );
        let (hub, members) = futures::try_join!(hub, members)?;
        Ok(Self { hub, members, dir, _vanishing: vanishing })
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
        let Self { hub, members, dir: _, _vanishing: vanishing } = self;
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
        drop(vanishing);
        killed
    }
}

async fn start(
    assets: &Assets,
    world: &WorldSpec,
    dir: &Path,
    index: usize,
    member: &MemberSpec,
) -> anyhow::Result<Member> {
    let address = world.address(index)?;
    let spec = ClusterSpec { region: member.region.clone(), ..ClusterSpec::new(&member.name, dir.join(&member.name)) };
    let cluster = Cluster::start(assets, spec).await?;
    let load_balancer = LoadBalancer::start(cluster.client(), address.into());
    let door = IngressSpec {
        cluster: member.name.clone(),
        region: member.region.clone(),
        address: address.into(),
        port: world.ingress_port,
    };
    let ingress = Ingress::start(cluster.client(), door).await?;
    Ok(Member { spec: member.clone(), address, ingress, load_balancer, cluster })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_slot_and_order() {
        let world = WorldSpec { slot: 3, ..WorldSpec::new() };
        assert_eq!(world.address(0).unwrap(), Ipv4Addr::new(127, 23, 1, 1));
        assert_eq!(world.address(2).unwrap(), Ipv4Addr::new(127, 23, 3, 1));
        assert_eq!(world.address(253).unwrap(), Ipv4Addr::new(127, 23, 254, 1));
        assert!(world.address(254).is_err());
        let last = WorldSpec { slot: 235, ..WorldSpec::new() };
        assert_eq!(last.address(0).unwrap(), Ipv4Addr::new(127, 255, 1, 1));
        assert!(WorldSpec { slot: 236, ..WorldSpec::new() }.address(0).is_err());
    }

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
