//! The ranking of clusters for one place.

use std::ops::Deref;
use std::time::Duration;

use crate::geo::{Coordinates, Rtt, distance_km, prior_rtt};

/// One cluster in a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Index of the cluster, as the caller numbers them.
    pub cluster: u16,
    /// How many of the entries that follow lie within tolerance of this one.
    pub reach: u16,
}

/// Clusters, nearest first, with what lies within tolerance of each.
///
/// Equal rankings give equal answers whatever the clusters' health: [`super::select`] looks at nothing else of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranked(Box<[Entry]>);

impl Deref for Ranked {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0
    }
}

/// Ranks `clusters` for a client at `client` by the distance prior, ties by index. An index comes at most once.
pub fn rank(client: Coordinates, clusters: &[(u16, Coordinates)], tolerance: Duration) -> Ranked {
    rank_estimates(clusters.iter().map(|(index, place)| (*index, prior_rtt(distance_km(client, *place)))), tolerance)
}

/// Ranks clusters by estimates that the caller has, ties by index.
pub fn rank_estimates(estimates: impl IntoIterator<Item = (u16, Rtt)>, tolerance: Duration) -> Ranked {
    let mut sorted: Vec<(Rtt, u16)> = estimates.into_iter().map(|(index, rtt)| (rtt, index)).collect();
    sorted.sort_unstable();
    let within = |nearer: Rtt, farther: Rtt| farther.excess(nearer) <= tolerance;
    let entries = sorted.iter().enumerate().map(|(i, (rtt, cluster))| {
        let reach = sorted[i + 1..].partition_point(|(other, _)| within(*rtt, *other));
        Entry { cluster: *cluster, reach: u16::try_from(reach).unwrap_or(u16::MAX) }
    });
    Ranked(entries.collect())
}

/// Ranks `clusters` for a client of whom nothing is known but that it is one of `world`'s: places with how many people
/// live there.
///
/// By the mean estimate over all of them, so that the first is the cluster which such a client reaches soonest on
/// average. An order by name, or by distance from one centre, would be as deterministic and worse: the centre of all
/// people lies in Central Asia, near nobody, and ranks a cluster there before those where people are.
pub fn rank_unlocated(world: &[(Coordinates, u64)], clusters: &[(u16, Coordinates)], tolerance: Duration) -> Ranked {
    let people: u128 = world.iter().map(|(_, people)| u128::from(*people)).sum();
    let mean = |place: Coordinates| {
        let estimate = |(at, people): &(Coordinates, u64)| {
            u128::from(prior_rtt(distance_km(*at, place)).as_micros()) * u128::from(*people)
        };
        let total: u128 = world.iter().map(estimate).sum();
        Rtt::from_micros(u32::try_from(total.checked_div(people).unwrap_or(0)).unwrap_or(u32::MAX))
    };
    rank_estimates(clusters.iter().map(|(index, place)| (*index, mean(*place))), tolerance)
}
