//! Placement against what must hold for every input.

use std::collections::{BTreeMap, BTreeSet};

use policies::id::{ClusterId, RegionId};
use policies::inventory::{ClusterFacts, Effect, Inventory, Taint};
use policies::placement::filter::{Requirement, Selector, Toleration};
use policies::placement::{Placement, PlacementSpec, Shortfall, Verdict, divide, place};
use proptest::prelude::*;

fn facts() -> impl Strategy<Value = ClusterFacts> {
    (0..4_u8, prop::collection::btree_map("[ab]", "[xy]", 0..3), any::<bool>(), prop::bool::weighted(0.9), 0..5_u8)
        .prop_map(|(region, labels, joined, accepted, taint)| ClusterFacts {
            region: RegionId::new(format!("r{region}")),
            labels,
            taints: match taint {
                0 => vec![Taint { key: "t".into(), value: "v".into(), effect: Effect::NoSchedule }],
                1 => vec![Taint { key: "t".into(), value: "v".into(), effect: Effect::NoExecute }],
                _ => vec![],
            },
            joined,
            accepted,
        })
}

fn inventory() -> impl Strategy<Value = Inventory> {
    prop::collection::btree_map("c[0-9]".prop_map(ClusterId::new), facts(), 0..9)
}

fn spec() -> impl Strategy<Value = PlacementSpec> {
    let requirement = prop_oneof![
        prop::collection::btree_set("[xy]", 1..3).prop_map(|v| Requirement::In("a".into(), v)),
        prop::collection::btree_set("[xy]", 1..3).prop_map(|v| Requirement::NotIn("a".into(), v)),
        Just(Requirement::Exists("b".into())),
        Just(Requirement::DoesNotExist("b".into())),
    ];
    let tolerations = prop_oneof![
        Just(vec![]),
        Just(vec![Toleration { key: "t".into(), value: None }]),
        Just(vec![Toleration { key: "t".into(), value: Some("other".into()) }]),
    ];
    (prop::collection::vec(requirement, 0..2), tolerations, prop::option::of(1..5_usize), prop::option::of(1..6_usize))
        .prop_map(|(requirements, tolerations, min_regions, max_clusters)| PlacementSpec {
            selector: Selector { equal: BTreeMap::new(), requirements },
            tolerations,
            min_regions,
            max_clusters,
        })
}

/// The constraints, written again in the plainest way.
fn allowed(spec: &PlacementSpec, facts: &ClusterFacts, placed: bool) -> bool {
    let labels = spec.selector.requirements.iter().all(|r| match r {
        Requirement::In(k, v) => facts.labels.get(k).is_some_and(|x| v.contains(x)),
        Requirement::NotIn(k, v) => !facts.labels.get(k).is_some_and(|x| v.contains(x)),
        Requirement::Exists(k) => facts.labels.contains_key(k),
        Requirement::DoesNotExist(k) => !facts.labels.contains_key(k),
    });
    let tolerated = spec.tolerations.iter().any(|t| t.value.is_none());
    let no_execute = facts.taints.iter().any(|t| t.effect == Effect::NoExecute) && !tolerated;
    let no_schedule = facts.taints.iter().any(|t| t.effect == Effect::NoSchedule) && !tolerated;
    labels && !no_execute && (placed || (facts.joined && facts.accepted && !no_schedule))
}

fn regions<'a>(seen: &'a Inventory, ids: impl Iterator<Item = &'a ClusterId>) -> BTreeSet<&'a RegionId> {
    ids.filter_map(|id| seen.get(id)).map(|f| &f.region).collect()
}

proptest! {
    #[test]
    fn every_promise_of_place(seen in inventory(), spec in spec(), previous in prop::collection::btree_set("c[0-9]".prop_map(ClusterId::new), 0..4)) {
        let (placement, report) = place(&spec, &seen, &previous);
        prop_assert_eq!(place(&spec, &seen, &previous), (placement.clone(), report.clone()), "equal inputs, equal decisions");

        let (known, unknown): (Placement, Placement) = placement.iter().cloned().partition(|id| seen.contains_key(id));
        for id in &known {
            prop_assert!(allowed(&spec, &seen[id], previous.contains(id)), "{} is not allowed", id);
        }
        // A Cluster object that vanished takes nothing with it.
        let gone: Placement = previous.iter().filter(|id| !seen.contains_key(*id)).cloned().collect();
        prop_assert_eq!(&unknown, &gone);

        let eligible: Placement = seen.iter().filter(|(id, f)| allowed(&spec, f, previous.contains(*id))).map(|(id, _)| id.clone()).collect();
        let room = spec.max_clusters.unwrap_or(usize::MAX);
        prop_assert_eq!(known.len(), eligible.len().min(room), "as many as there is room for");

        // As many regions as can be had.
        let best = regions(&seen, eligible.iter()).len().min(room).min(spec.min_regions.unwrap_or(1));
        let covered = regions(&seen, known.iter()).len();
        prop_assert!(covered >= best, "{} regions of {}", covered, best);
        let few = report.shortfall.iter().any(|s| matches!(s, Shortfall::FewRegions { .. }));
        prop_assert_eq!(few, !known.is_empty() && covered < spec.min_regions.unwrap_or(0));

        // Stability: with room for all of them, whoever was placed and may stay, stays.
        let staying: Placement = previous.intersection(&eligible).cloned().collect();
        if room >= staying.len() && regions(&seen, staying.iter()).len() >= best {
            prop_assert!(staying.is_subset(&known), "{:?} had to stay", staying);
        }
        // And placing again moves nothing.
        prop_assert_eq!(&place(&spec, &seen, &placement).0, &placement);

        // A verdict for everybody, and it agrees with the placement.
        for id in seen.keys().chain(&previous) {
            let kept = matches!(report.candidates[id], Verdict::Kept | Verdict::Chosen | Verdict::Unknown);
            prop_assert_eq!(kept, placement.contains(id));
        }
    }

    #[test]
    fn silence_moves_nothing(mut seen in inventory(), spec in spec()) {
        let (before, _) = place(&spec, &seen, &Placement::new());
        for facts in seen.values_mut() {
            facts.joined = false;
        }
        prop_assert_eq!(place(&spec, &seen, &before).0, before);
    }

    #[test]
    fn shares_add_up(total in 0..10_000_u32, clusters in 1..64_u32) {
        let shares: Vec<u32> = (0..clusters).map(|i| divide::share(total, clusters, i)).collect();
        prop_assert_eq!(shares.iter().sum::<u32>(), total);
        prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        prop_assert_eq!(divide::share(total, clusters, clusters), 0);
    }
}
