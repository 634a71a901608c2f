//! The network between the sites of a world: delay by distance, and cuts in which packets vanish.
//!
//! All processes of a world share one loopback interface, where everything arrives at once and whatever is closed is
//! refused. So each server listens where nobody looks, and a relay stands at the address that clients know ([`udp`],
//! [`tcp`]). A relay knows the site of its server and finds out that of a client, and carries what passes between them
//! as late as the distance is long, or not at all while the way is cut. It speaks to the server from the client's own
//! address, which is one of this machine's, too: the server sees who asks.
//!
//! Deliberately absent: loss in part, jitter, bandwidth, and IPv6 between sites.

pub mod tcp;
pub mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policies::geo::{Coordinates, distance_km, prior_rtt};
use tokio::sync::watch;

/// The name of a place with its own network: a region, the hub, a city with users.
pub type Site = Arc<str>;

/// Where sites are, whose addresses are whose, and which ways are cut.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: BTreeMap<Site, Coordinates>,
    /// Round trips that are known better than by distance; the smaller name first.
    round_trips: BTreeMap<(Site, Site), Duration>,
    /// By the first three octets: each site has a network of 256 addresses.
    networks: BTreeMap<[u8; 3], Site>,
    cuts: Mutex<Cuts>,
    /// Wakes who waits for a way to open.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Cuts {
    /// Nothing goes in or out.
    dark: BTreeSet<Site>,
    /// Nothing passes between the two; the smaller name first.
    apart: BTreeSet<(Site, Site)>,
}

impl Network {
    /// A network without cuts.
    pub fn new(
        places: impl IntoIterator<Item = (Site, Coordinates)>,
        networks: impl IntoIterator<Item = ([u8; 3], Site)>,
        round_trips: impl IntoIterator<Item = (Site, Site, Duration)>,
    ) -> Self {
        let pairs = round_trips.into_iter().map(|(one, other, time)| (pair(&one, &other), time));
        Self(Arc::new(Inner {
            places: places.into_iter().collect(),
            round_trips: pairs.collect(),
            networks: networks.into_iter().collect(),
            cuts: Mutex::default(),
            changed: watch::Sender::new(()),
        }))
    }

    /// Cuts a site off from all others, or lets it return.
    pub fn set_dark(&self, site: &Site, dark: bool) {
        self.change(|cuts| if dark { cuts.dark.insert(site.clone()) } else { cuts.dark.remove(site) });
    }

    /// Cuts the way between two sites, or mends it.
    pub fn set_apart(&self, one: &Site, other: &Site, apart: bool) {
        let pair = pair(one, other);
        self.change(|cuts| if apart { cuts.apart.insert(pair) } else { cuts.apart.remove(&pair) });
    }

    /// Whether a site is cut off from all others.
    pub fn is_dark(&self, site: &Site) -> bool {
        self.cuts().dark.contains(site)
    }

    /// Whether the way between two sites is cut as such; one that is dark is another matter.
    pub fn is_apart(&self, one: &Site, other: &Site) -> bool {
        self.cuts().apart.contains(&pair(one, other))
    }

    /// The site that has an address; none of them has 127.0.0.1, which is whoever sits at the machine.
    pub fn site_of(&self, address: IpAddr) -> Option<Site> {
        let IpAddr::V4(address) = address.to_canonical() else { return None };
        let [a, b, c, _] = address.octets();
        self.0.networks.get(&[a, b, c]).cloned()
    }

    fn cuts(&self) -> MutexGuard<'_, Cuts> {
        self.0.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Cuts) -> bool) {
        change(&mut self.cuts());
        self.0.changed.send_replace(());
    }

    /// How long a packet takes from one site to another and back: as was said, else what a path of that length takes.
    pub fn round_trip(&self, one: &Site, other: &Site) -> Duration {
        if one == other {
            return Duration::ZERO;
        }
        if let Some(known) = self.0.round_trips.get(&pair(one, other)) {
            return *known;
        }
        let (one, other) = (self.0.places.get(one), self.0.places.get(other));
        let by_distance = |(one, other): (&Coordinates, &Coordinates)| {
            Duration::from_micros(prior_rtt(distance_km(*one, *other)).as_micros().into())
        };
        one.zip(other).map_or(Duration::ZERO, by_distance)
    }

    fn way(&self, from: Option<Site>, to: Site) -> Way {
        // Who sits at the machine is near everything.
        let delay = from.as_ref().map_or(Duration::ZERO, |from| self.round_trip(from, &to) / 2);
        Way { network: self.clone(), from, to, delay }
    }
}

/// The way from a client to a server, and back.
#[derive(Clone, Debug)]
struct Way {
    network: Network,
    from: Option<Site>,
    to: Site,
    /// In one direction.
    delay: Duration,
}

impl Way {
    fn is_open(&self) -> bool {
        let from = self.from.as_ref().filter(|from| **from != self.to);
        // Within a site everything passes, whatever happens outside.
        if self.from.is_some() && from.is_none() {
            return true;
        }
        let network = &self.network;
        let dark = network.is_dark(&self.to) || from.is_some_and(|from| network.is_dark(from));
        !dark && !from.is_some_and(|from| network.is_apart(from, &self.to))
    }

    /// Waits until it is open.
    async fn open(&self) {
        let mut changed = self.network.0.changed.subscribe();
        while !self.is_open() {
            if changed.changed().await.is_err() {
                // The network itself went, and with it all that could mend the way.
                return std::future::pending().await;
            }
        }
    }
}

/// What a relay carries, and to whom.
#[derive(Clone, Debug)]
pub struct Served {
    /// The network that it is part of.
    pub network: Network,
    /// Who asks.
    pub clients: Clients,
    /// Where the server is.
    pub site: Site,
    /// The server's own address.
    pub address: SocketAddr,
}

impl Served {
    fn way(&self, client: IpAddr) -> Way {
        self.network.way(self.clients.site(&self.network, client), self.site.clone())
    }
}

/// The two as a key, whichever comes first.
fn pair(one: &Site, other: &Site) -> (Site, Site) {
    (one.min(other).clone(), one.max(other).clone())
}

/// Who a relay takes its clients for.
#[derive(Clone, Debug)]
pub enum Clients {
    /// All from this site, whatever their addresses.
    From(Site),
    /// From the sites of their addresses.
    ByAddress,
}

impl Clients {
    fn site(&self, network: &Network, address: IpAddr) -> Option<Site> {
        match self {
            Self::From(site) => Some(site.clone()),
            Self::ByAddress => network.site_of(address),
        }
    }
}

/// By which address a relay at `listen` knows a client, and speaks to the server for it: the client's own, where that is
/// one of loopback. Whoever chose none sits at the machine. The system then chooses 127.0.0.1; or, where addresses of
/// loopback were given to it one by one, the very address that the client speaks to.
fn known_by(client: SocketAddr, listen: SocketAddr) -> IpAddr {
    let address = client.ip();
    if address.is_loopback() && address != listen.ip() { address } else { Ipv4Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests;
