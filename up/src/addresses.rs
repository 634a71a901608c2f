//! Who is reached where.
//!
//! Each site has a network of 256 addresses, `A.B.k.0/24`: the hub *k* = 0, regions from 1 on, cities of users from 101
//! on. Clients use the addresses of the first column, which are relays' ([`crate::network`]); the servers themselves
//! listen at the second.
//!
//! | clients | server | port | what |
//! |---|---|---|---|
//! | `.1` | `.101` | `http` | the door of the cluster |
//! | `.6` | `.106` | `api` | its Kubernetes API |
//! | `.53` | `.153` | `dns`, 7444 | the DNS node, and where its fellows reach it |
//! | `.53` | `.153` | 7482 | the DNS node's admin port |
//! | | `.2` | 7481 | the agent's admin port |
//! | `.7` of a region | `.107` of the hub | 7443 | the hub's tunnel, as the region reaches it |
//! | | `.1` of the hub | 7480, 7490 | the hub's admin port, and that of the world itself |
//! | `.1` of a city | | | its user |
//!
//! The DNS node speaks to others from `.153`, so that relays know its region. An agent needs no such address: its way to
//! the hub is a relay that takes whoever comes for that region.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::spec::Spec;

/// Ports that the product has by itself.
const TUNNEL: u16 = 7443;
const PEERING: u16 = 7444;
const HUB_ADMIN: u16 = 7480;
const AGENT_ADMIN: u16 = 7481;
const DNS_ADMIN: u16 = 7482;
/// Where `isochrone world` reaches the world.
pub(crate) const CONTROL: u16 = 7490;

/// The number of the hub's network.
pub(crate) const HUB_NUMBER: u8 = 0;
/// From a client's address to its server's.
const BEHIND: u8 = 100;
/// The user in a city's network.
pub(crate) const USER: u8 = 1;

/// Where clients reach something, and where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) clients: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// The addresses of one site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses<'a> {
    spec: &'a Spec,
    number: u8,
}

impl<'a> Addresses<'a> {
    pub(crate) fn of(spec: &'a Spec, number: u8) -> Self {
        Self { spec, number }
    }

    pub(crate) fn hub(spec: &'a Spec) -> Self {
        Self::of(spec, HUB_NUMBER)
    }

    fn at(self, host: u8, port: u16) -> SocketAddr {
        (self.spec.address(self.number, host), port).into()
    }

    fn relayed(self, host: u8, port: u16) -> Relayed {
        Relayed { clients: self.at(host, port), server: self.at(host + BEHIND, port) }
    }

    pub(crate) fn door(self) -> Relayed {
        self.relayed(1, self.spec.ports.http)
    }

    pub(crate) fn api(self) -> Relayed {
        self.relayed(6, self.spec.ports.api)
    }

    pub(crate) fn dns(self) -> Relayed {
        self.relayed(53, self.spec.ports.dns)
    }

    pub(crate) fn peering(self) -> Relayed {
        self.relayed(53, PEERING)
    }

    pub(crate) fn dns_admin(self) -> Relayed {
        self.relayed(53, DNS_ADMIN)
    }

    pub(crate) fn agent_admin(self) -> SocketAddr {
        self.at(2, AGENT_ADMIN)
    }

    /// The hub's tunnel, as this region reaches it.
    pub(crate) fn tunnel(self) -> Relayed {
        Relayed { clients: self.at(7, TUNNEL), server: Self::hub(self.spec).at(7 + BEHIND, TUNNEL) }
    }

    pub(crate) fn hub_admin(self) -> SocketAddr {
        Self::hub(self.spec).at(1, HUB_ADMIN)
    }

    pub(crate) fn control(self) -> SocketAddr {
        Self::hub(self.spec).at(1, CONTROL)
    }
}

/// Networks of a world with hosts of the same numbers in each.
struct Networks {
    numbers: Vec<u8>,
    hosts: BTreeSet<u8>,
}

/// Every address at which somebody in a world listens, or from which somebody speaks.
fn networks(spec: &Spec) -> [Networks; 3] {
    let (hub, region) = (Addresses::hub(spec), Addresses::of(spec, 1));
    let of_hub = [hub.api().clients, hub.api().server, region.tunnel().server, hub.hub_admin(), hub.control()];
    let relayed = [region.door(), region.api(), region.dns(), region.peering(), region.dns_admin()];
    let of_region = relayed.into_iter().flat_map(|at| [at.clients, at.server]);
    let of_region = of_region.chain([region.agent_admin(), region.tunnel().clients]);
    [
        Networks { numbers: vec![HUB_NUMBER], hosts: hosts(of_hub) },
        Networks { numbers: (1..).zip(&spec.regions).map(|(number, _)| number).collect(), hosts: hosts(of_region) },
        Networks { numbers: spec.user_networks().map(|(number, _)| number).collect(), hosts: BTreeSet::from([USER]) },
    ]
}

fn hosts(of: impl IntoIterator<Item = SocketAddr>) -> BTreeSet<u8> {
    let host = |at: SocketAddr| match at.ip() {
        IpAddr::V4(address) => Some(address.octets()[3]),
        IpAddr::V6(_) => None,
    };
    of.into_iter().filter_map(host).collect()
}

/// All addresses of a world, in order.
pub(crate) fn all(spec: &Spec) -> Vec<Ipv4Addr> {
    let of = |Networks { numbers, hosts }: Networks| {
        numbers.into_iter().flat_map(move |number| hosts.clone().into_iter().map(move |host| (number, host)))
    };
    networks(spec).into_iter().flat_map(of).map(|(number, host)| spec.address(number, host)).collect()
}

/// The same as words that bash and zsh expand.
pub(crate) fn for_a_shell(spec: &Spec) -> String {
    let [a, b] = spec.network;
    let word = |Networks { numbers, hosts }: &Networks| {
        let numbers = match numbers.as_slice() {
            [] => return None,
            [number] => number.to_string(),
            [first, .., last] => format!("{{{first}..{last}}}"),
        };
        let hosts: Vec<_> = hosts.iter().map(u8::to_string).collect();
        let hosts = if let [host] = hosts.as_slice() { host.clone() } else { format!("{{{}}}", hosts.join(",")) };
        Some(format!("{a}.{b}.{numbers}.{hosts}"))
    };
    networks(spec).iter().filter_map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_all_of_them() {
        let spec = Spec::default();
        let words = for_a_shell(&spec);
        assert_eq!(words, "127.1.0.{1,6,106,107} 127.1.{1..3}.{1,2,6,7,53,101,106,153} 127.1.{101..106}.1");
        let expanded = std::process::Command::new("bash").args(["-c", &format!("echo {words}")]).output().unwrap();
        let expanded = String::from_utf8(expanded.stdout).unwrap();
        let all: Vec<_> = all(&spec).iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(expanded.split_whitespace().collect::<Vec<_>>(), all);
    }

    #[test]
    fn one_region_and_nobody_who_asks() {
        let spec = Spec { regions: Spec::default().regions[..1].to_vec(), users: vec![], ..Spec::default() };
        assert_eq!(for_a_shell(&spec), "127.1.0.{1,6,106,107} 127.1.1.{1,2,6,7,53,101,106,153}");
        assert_eq!(all(&spec).len(), 12);
    }
}
