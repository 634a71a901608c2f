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

use std::net::SocketAddr;

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
