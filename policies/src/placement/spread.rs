//! Which of the eligible clusters, when not all may be taken.

use std::collections::{BTreeMap, BTreeSet};

use super::Placement;
use crate::id::{ClusterId, RegionId};
use crate::inventory::Inventory;

/// Chooses at most `room` clusters over at least `min_regions` regions where that is possible: kept ones first, then
/// fresh ones, each next one from the region with the fewest so far, ties by name.
///
/// A kept cluster gives way to a fresh one only where the regions could not be reached otherwise, or where `room`
/// shrank: then the region with the most gives first.
pub(super) fn choose(
    seen: &Inventory,
    kept: &Placement,
    fresh: &Placement,
    room: usize,
    min_regions: usize,
) -> Placement {
    let region = |id: &ClusterId| seen.get(id).map(|facts| facts.region.clone());
    let mut chosen = Placement::new();
    let mut load: BTreeMap<RegionId, usize> = BTreeMap::new();
    let mut waiting: BTreeSet<&ClusterId> = kept.iter().chain(fresh).collect();
    let reachable: BTreeSet<_> = waiting.iter().filter_map(|id| region(id)).collect();
    let want = min_regions.min(reachable.len()).min(room);
    while chosen.len() < room {
        // Slots that must go to regions not yet covered.
        let missing = want.saturating_sub(load.len());
        let only_new_regions = missing > 0 && room - chosen.len() <= missing;
        let next = waiting
            .iter()
            .filter_map(|id| region(id).map(|region| (*id, region)))
            .map(|(id, region)| (load.get(&region).copied().unwrap_or(0), !kept.contains(id), id, region))
            .filter(|(count, ..)| !only_new_regions || *count == 0)
            .min_by(|a, b| (a.1, a.0, a.2).cmp(&(b.1, b.0, b.2)));
        let Some((_, _, id, region)) = next else { break };
        waiting.remove(id);
        *load.entry(region).or_default() += 1;
        chosen.insert(id.clone());
    }
    chosen
}
