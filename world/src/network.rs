//! Where the processes of a world run, and by which addresses they reach each other.
//!
//! On [`Network::Loopback`] all share the machine's own network: no rights, nothing to clean up, but no packet can be
//! lost. With [`Network::Namespaces`] every site is a network namespace of its own, joined by a veth pair to a *router*
//! namespace that forwards, and one more pair joins the router to the namespace of this program, which so reaches every
//! site. What the router drops ([`Faults`]) vanishes: no refusal, no ICMP, links up and sockets open, as when a region
//! is lost.
//!
//! ```text
//!   this program ─── router ─┬─ fra: etcd, kube-apiserver, …, ingress, agent, DNS node
//!                            ├─ iad: …
//!                            └─ hub: … (or beside a member)
//! ```
//!
//! Addresses, by the slot *s* of the world and the number *k* of the site (members from 1 in order, the hub's own site
//! 250): the networks are `127.(20+s).k.0/24` on loopback and `10.(20+s).k.0/24` in namespaces. In each: `.1` the door,
//! `.2` the agent, `.53` the DNS node. The hub is `….250.1`, or `….k.7` beside member *k*. API servers listen on
//! 127.0.0.1 on loopback, else on `.3` (a member's) and `.6` (the hub's).
//!
//! Deliberately absent: delay, loss in part, and IPv6 between sites.

mod faults;
mod namespaces;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, bail, ensure};

pub use faults::{Cut, Faults};
pub(crate) use namespaces::{Namespaces, net_argument};

/// The name of the hub's site in [`Cut`], also where it is beside a member.
pub const HUB: &str = "hub";

/// Whether this program may make network namespaces in which packets vanish.
///
/// # Errors
/// When it may not; the text says what to do.
pub fn check_rights() -> anyhow::Result<()> {
    namespaces::check_rights()
}

/// The second octet of the first world's addresses. Any of 127.0.0.0/8 would do; 127.0 and 127.1 are left to others.
const FIRST_SLOT: u8 = 20;
/// The number of the hub's own site; members end below it.
const HUB_NUMBER: u8 = 250;

/// What joins the processes of a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The machine's own loopback.
    #[default]
    Loopback,
    /// A network namespace for each site; needs root, `ip` and `nsenter`.
    Namespaces,
}

/// Where a process runs, and by which address it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it listens.
    pub address: Ipv4Addr,
    /// The network namespace, by its name in `/run/netns`; `None` for this program's own.
    pub namespace: Option<String>,
}

impl Place {
    /// This program's own network, 127.0.0.1.
    pub const LOCAL: Self = Self { address: Ipv4Addr::LOCALHOST, namespace: None };
}

/// Who is where in one world.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    network: Network,
    second: u8,
    hub: u8,
    /// By the number of the site; empty on loopback.
    namespaces: BTreeMap<u8, String>,
}

impl Places {
    /// With the hub beside the member of this index, or in a site of its own.
    pub(crate) fn new(network: Network, slot: u8, hub_beside: Option<usize>) -> anyhow::Result<Self> {
        let second = FIRST_SLOT
            .checked_add(slot)
            .with_context(|| format!("slot {slot} is too high; the last is {}", u8::MAX - FIRST_SLOT))?;
        let hub = hub_beside.map_or(Ok(HUB_NUMBER), number)?;
        Ok(Self { network, second, hub, namespaces: BTreeMap::new() })
    }

    /// Makes the namespaces of all sites; nothing on loopback.
    pub(crate) fn join(&mut self, slot: u8, members: &[&str]) -> anyhow::Result<Option<Namespaces>> {
        ensure!(!members.contains(&HUB), "a member cannot have the hub's name");
        match self.network {
            Network::Loopback => Ok(None),
            Network::Namespaces => {
                let mut sites = BTreeMap::new();
                for (index, name) in members.iter().enumerate() {
                    sites.insert((*name).to_owned(), number(index)?);
                }
                sites.insert(HUB.to_owned(), self.hub);
                let namespaces = Namespaces::create(slot, self.second, &sites)?;
                self.namespaces = namespaces.names();
                Ok(Some(namespaces))
            }
        }
    }

    pub(crate) fn door(&self, member: usize) -> anyhow::Result<Place> {
        Ok(self.at(number(member)?, 1))
    }

    pub(crate) fn agent(&self, member: usize) -> anyhow::Result<Place> {
        Ok(self.at(number(member)?, 2))
    }

    pub(crate) fn dns(&self, member: usize) -> anyhow::Result<Place> {
        Ok(self.at(number(member)?, 53))
    }

    pub(crate) fn api(&self, member: usize) -> anyhow::Result<Place> {
        Ok(self.api_at(number(member)?, 3))
    }

    pub(crate) fn hub(&self) -> Place {
        self.at(self.hub, if self.hub == HUB_NUMBER { 1 } else { 7 })
    }

    pub(crate) fn hub_api(&self) -> Place {
        self.api_at(self.hub, 6)
    }

    fn api_at(&self, number: u8, host: u8) -> Place {
        match self.network {
            Network::Loopback => Place::LOCAL,
            Network::Namespaces => self.at(number, host),
        }
    }

    fn at(&self, number: u8, host: u8) -> Place {
        let first = match self.network {
            Network::Loopback => 127,
            Network::Namespaces => 10,
        };
        let address = Ipv4Addr::new(first, self.second, number, host);
        Place { address, namespace: self.namespaces.get(&number).cloned() }
    }
}

/// The number of the site of a member by its index.
fn number(index: usize) -> anyhow::Result<u8> {
    match u8::try_from(index + 1) {
        Ok(number) if number < HUB_NUMBER => Ok(number),
        Ok(_) | Err(_) => bail!("a world has room for {} members", HUB_NUMBER - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_slot_and_order() {
        let places = Places::new(Network::Loopback, 3, None).unwrap();
        assert_eq!(places.door(0).unwrap().address, Ipv4Addr::new(127, 23, 1, 1));
        assert_eq!(places.dns(2).unwrap().address, Ipv4Addr::new(127, 23, 3, 53));
        assert_eq!(places.agent(248).unwrap().address, Ipv4Addr::new(127, 23, 249, 2));
        assert!(places.door(249).is_err());
        assert_eq!(places.hub().address, Ipv4Addr::new(127, 23, 250, 1));
        assert_eq!((places.api(0).unwrap(), places.hub_api()), (Place::LOCAL, Place::LOCAL));
        let last = Places::new(Network::Loopback, 235, None).unwrap();
        assert_eq!(last.door(0).unwrap().address, Ipv4Addr::new(127, 255, 1, 1));
        assert!(Places::new(Network::Loopback, 236, None).is_err());
    }

    #[test]
    fn nothing_shares_an_address_with_a_hub_beside_a_member() {
        let places = Places::new(Network::Namespaces, 0, Some(1)).unwrap();
        assert_eq!(places.hub().address, Ipv4Addr::new(10, 20, 2, 7));
        let mut all = vec![places.hub().address, places.hub_api().address];
        for member in 0..2 {
            for place in [places.door(member), places.agent(member), places.dns(member), places.api(member)] {
                all.push(place.unwrap().address);
            }
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10);
    }
}
