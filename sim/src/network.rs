//! Sites and the paths between them: delay, loss, cuts in one or both directions, sites that went dark.
//!
//! A packet is decided on when it is sent. Within a site everything passes, whatever happens outside: a site that is cut
//! off still works for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::geo::{Coordinates, distance_km, prior_rtt};

use crate::random::Random;

/// Index of a site.
pub type SiteId = usize;

/// A place where processes run, and one failure domain.
#[derive(Clone, Debug)]
pub struct Site {
    /// The region's name.
    pub region: &'static str,
    /// Where it lies.
    pub at: Coordinates,
}

/// All sites and paths.
#[derive(Debug)]
pub struct Network {
    /// The sites.
    pub sites: Vec<Site>,
    /// How many faults cut a direction at this moment.
    cut: BTreeMap<(SiteId, SiteId), u32>,
    /// How many faults hold a site in the dark.
    dark: BTreeMap<SiteId, u32>,
    /// How many faults make a direction lose packets.
    lossy: BTreeMap<(SiteId, SiteId), u32>,
    random: Random,
}

/// Loss that is always there, per mille: one packet in a thousand, a fair path between continents.
const BACKGROUND: u32 = 1;
/// Loss of a path that is called lossy, per mille. Beyond a quarter no transport is of use.
pub const LOSSY: u32 = 250;
/// Most jitter on top of a path's delay.
const JITTER: Duration = Duration::from_millis(8);

impl Network {
    /// A network of these sites, all well.
    pub fn new(sites: Vec<Site>, random: Random) -> Self {
        Self { sites, cut: BTreeMap::new(), dark: BTreeMap::new(), lossy: BTreeMap::new(), random }
    }

    /// Sends a packet: when it arrives, or `None` when it is lost without a word.
    pub fn send(&mut self, from: SiteId, to: SiteId) -> Option<Duration> {
        let jitter = self.random.between(Duration::ZERO, JITTER);
        let roll = self.random.below(1000);
        if from == to {
            return Some(jitter / 8 + Duration::from_micros(100));
        }
        let loss = if self.is_lossy(from, to) { LOSSY } else { BACKGROUND };
        if self.is_cut(from, to) || roll < loss as usize {
            return None;
        }
        let there_and_back = prior_rtt(distance_km(self.sites[from].at, self.sites[to].at));
        Some(Duration::from(there_and_back) / 2 + jitter)
    }

    /// Whether nothing passes from one site to the other.
    pub fn is_cut(&self, from: SiteId, to: SiteId) -> bool {
        from != to && (self.cut.contains_key(&(from, to)) || self.is_dark(from) || self.is_dark(to))
    }

    /// Whether nothing enters or leaves the site.
    pub fn is_dark(&self, site: SiteId) -> bool {
        self.dark.contains_key(&site)
    }

    /// Whether a path loses packets beyond the usual.
    pub fn is_lossy(&self, from: SiteId, to: SiteId) -> bool {
        self.lossy.contains_key(&(from, to))
    }

    /// Nothing passes in this direction any more; undone by the same with `false`.
    pub fn set_cut(&mut self, from: SiteId, to: SiteId, cut: bool) {
        count(&mut self.cut, (from, to), cut);
    }

    /// Nothing enters or leaves the site any more; undone by the same with `false`.
    pub fn set_dark(&mut self, site: SiteId, dark: bool) {
        count(&mut self.dark, site, dark);
    }

    /// Packets are lost in this direction; undone by the same with `false`.
    pub fn set_lossy(&mut self, from: SiteId, to: SiteId, lossy: bool) {
        count(&mut self.lossy, (from, to), lossy);
    }
}

/// Faults overlap: what two of them broke is whole when both have ended.
fn count<K: Ord>(map: &mut BTreeMap<K, u32>, key: K, more: bool) {
    let entry = map.entry(key);
    match (more, entry) {
        (true, entry) => *entry.or_default() += 1,
        (false, std::collections::btree_map::Entry::Occupied(mut held)) => {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        (false, std::collections::btree_map::Entry::Vacant(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let at = |latitude, longitude| Coordinates::new(latitude, longitude).unwrap();
        let sites = vec![Site { region: "eu", at: at(50.0, 8.0) }, Site { region: "us", at: at(39.0, -77.0) }];
        Network::new(sites, Random::new(1, "network"))
    }

    #[test]
    fn directions_fail_alone_and_sites_work_for_themselves() {
        let mut network = network();
        network.set_cut(0, 1, true);
        assert!((0..100).all(|_| network.send(0, 1).is_none()));
        assert!((0..100).any(|_| network.send(1, 0).is_some_and(|d| d > Duration::from_millis(50))));
        network.set_dark(1, true);
        assert!((0..100).all(|_| network.send(1, 0).is_none()));
        assert!(network.send(1, 1).is_some());
    }

    #[test]
    fn what_two_faults_broke_is_whole_after_both() {
        let mut network = network();
        network.set_cut(0, 1, true);
        network.set_cut(0, 1, true);
        network.set_cut(0, 1, false);
        assert!(network.is_cut(0, 1));
        network.set_cut(0, 1, false);
        assert!(!network.is_cut(0, 1));
    }
}
