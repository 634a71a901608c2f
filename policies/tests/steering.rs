//! Steering: cases people meet, and what must hold for every input, against a model that looks at estimates directly.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::geo::{Coordinates, Rtt, distance_km, prior_rtt};
use policies::steering::{
    CAPACITY, Candidate, Class, Family, Reason, Role, TtlRule, Why, candidate, rank, rank_estimates, rank_unlocated,
    report, select,
};
use proptest::prelude::*;

fn at(latitude: f64, longitude: f64) -> Coordinates {
    Coordinates::new(latitude, longitude).expect("a place on earth")
}

const MS: u32 = 1000;

/// Estimates in milliseconds of clusters 0, 1, 2, …
fn estimates(ms: &[u32]) -> Vec<(u16, Rtt)> {
    ms.iter().enumerate().map(|(i, ms)| (i as u16, Rtt::from_micros(ms * MS))).collect()
}

fn tolerance(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One character per cluster: healthy, suspect, down, x for drained, - for none.
fn classes(text: &str) -> impl Fn(u16) -> Option<Class> + '_ {
    |cluster| match text.as_bytes()[usize::from(cluster)] {
        b'h' => Some(Class::Healthy),
        b's' => Some(Class::Suspect),
        b'd' => Some(Class::Down),
        b'x' => Some(Class::Drained),
        _ => None,
    }
}

#[test]
fn people_go_to_the_cluster_near_them() {
    let clusters = [(0, at(50.11, 8.68)), (1, at(38.95, -77.45)), (2, at(1.35, 103.82))];
    let order = |client| rank(client, &clusters, tolerance(15)).iter().map(|e| e.cluster).collect::<Vec<_>>();
    assert_eq!(order(at(48.86, 2.35)), [0, 1, 2]);
    assert_eq!(order(at(40.71, -74.01)), [1, 0, 2]);
    assert_eq!(order(at(-6.2, 106.8)), [2, 0, 1]);
}

#[test]
fn the_answer_under_each_state_of_health() {
    let ranked = rank_estimates(estimates(&[10, 20, 80]), tolerance(15));
    let answer = |text: &str, role| {
        let selection = select(&ranked, classes(text), role);
        (selection.clusters().to_vec(), selection.ttl, selection.why)
    };
    let any = |text| answer(text, Role::Any);
    assert_eq!(any("hhh"), (vec![0, 1], TtlRule::Host, Why::Nearest));
    assert_eq!(any("hdh"), (vec![0], TtlRule::Host, Why::Nearest));
    assert_eq!(any("dhh"), (vec![1], TtlRule::Host, Why::NearerOut));
    assert_eq!(any("xdh"), (vec![2], TtlRule::Host, Why::NearerOut));
    // The nearest is suspect: it stays beside the next best, behind it.
    assert_eq!(any("shh"), (vec![1, 0], TtlRule::Unsettled, Why::NearerSuspect));
    assert_eq!(answer("shh", Role::Write), (vec![1], TtlRule::Unsettled, Why::NearerSuspect));
    // The one in use is the second, since the first is down.
    assert_eq!(any("dsh"), (vec![2, 1], TtlRule::Unsettled, Why::NearerSuspect));
    // A suspect cluster behind the chosen one is nobody's.
    assert_eq!(any("hsh"), (vec![0], TtlRule::Host, Why::Nearest));
    // Never without the last one.
    assert_eq!(any("sss"), (vec![0, 1], TtlRule::Unsettled, Why::NoneHealthy));
    assert_eq!(any("ddd"), (vec![0, 1], TtlRule::Unsettled, Why::NoneHealthy));
    assert_eq!(any("xxd"), (vec![2], TtlRule::Unsettled, Why::NoneHealthy));
    assert_eq!(any("-x-"), (vec![1], TtlRule::Unsettled, Why::NoneHealthy));
    assert_eq!(any("---"), (vec![], TtlRule::Unsettled, Why::NoCandidate));
    assert_eq!((TtlRule::Host.apply(30), TtlRule::Unsettled.apply(30), TtlRule::Unsettled.apply(2)), (30, 5, 2));
}

#[test]
fn the_report_gives_each_candidate_its_reason() {
    use Reason::{AnswerFull, BeyondTolerance, Chosen, KeptWhileSuspect, NoAddress, WithinTolerance, WorseClass};
    let ranked = rank_estimates(estimates(&[10, 11, 12, 13, 14, 90, 95]), tolerance(15));
    let reasons = |text: &str| report(&ranked, classes(text), Role::Any);
    assert_eq!(
        reasons("shhhhhd"),
        [KeptWhileSuspect, Chosen, WithinTolerance, WithinTolerance, AnswerFull, BeyondTolerance, WorseClass]
    );
    assert_eq!(
        reasons("-hdhshs"),
        [NoAddress, Chosen, WorseClass, WithinTolerance, WorseClass, BeyondTolerance, WorseClass]
    );
}

#[test]
fn only_those_with_an_ipv4_address_stand_for_a_records() {
    let v6_only = Candidate { class: Class::Healthy, ipv4: false, ipv6: true };
    let v4_only = Candidate { class: Class::Down, ipv4: true, ipv6: false };
    assert_eq!(candidate(Family::Ipv4, v6_only), None);
    assert_eq!(candidate(Family::Ipv6, v6_only), Some(Class::Healthy));
    assert_eq!(candidate(Family::Ipv6, v4_only), Some(Class::Down));
}

#[test]
fn a_client_of_unknown_place_is_most_likely_where_people_are() {
    let world = [(at(50.0, 10.0), 500), (at(40.0, -90.0), 300), (at(10.0, 105.0), 2_000)];
    let clusters = [(0, at(50.11, 8.68)), (1, at(38.95, -77.45)), (2, at(1.35, 103.82))];
    let ranked = rank_unlocated(&world, &clusters, tolerance(0));
    assert_eq!(ranked.iter().map(|e| e.cluster).collect::<Vec<_>>(), [2, 0, 1]);
    // Nobody anywhere: all are equal, so the order is by index.
    assert_eq!(rank_unlocated(&[], &clusters, tolerance(0)).iter().map(|e| e.cluster).collect::<Vec<_>>(), [0, 1, 2]);
}

/// The rule in its own words, from estimates instead of a ranking.
fn model(
    estimates: &BTreeMap<u16, u32>,
    tolerance_us: u32,
    class: impl Fn(u16) -> Option<Class>,
    role: Role,
) -> (Vec<u16>, bool) {
    let mut near: Vec<(u32, u16)> = estimates.iter().map(|(cluster, us)| (*us, *cluster)).collect();
    near.sort_unstable();
    near.retain(|(_, cluster)| class(*cluster).is_some());
    let Some(best) = near.iter().filter_map(|(_, cluster)| class(*cluster)).min() else {
        return (vec![], true);
    };
    let of_best: Vec<(u32, u16)> = near.iter().copied().filter(|(_, c)| class(*c) == Some(best)).collect();
    let joins = |us: u32| us - of_best[0].0 <= tolerance_us;
    let mut answer: Vec<u16> = of_best.iter().filter(|(us, _)| joins(*us)).map(|(_, c)| *c).collect();
    let used = near.iter().find(|(_, c)| class(*c) <= Some(Class::Suspect));
    let suspect = used.filter(|(_, c)| class(*c) == Some(Class::Suspect) && best == Class::Healthy).map(|(_, c)| *c);
    let kept = suspect.filter(|_| role != Role::Write);
    answer.truncate(CAPACITY - usize::from(kept.is_some()));
    answer.extend(kept);
    (answer, best != Class::Healthy || suspect.is_some())
}

fn any_class() -> impl Strategy<Value = Option<Class>> {
    prop_oneof![
        4 => Just(Some(Class::Healthy)),
        3 => Just(Some(Class::Suspect)),
        2 => Just(Some(Class::Down)),
        1 => Just(Some(Class::Drained)),
        1 => Just(None),
    ]
}

fn any_place() -> impl Strategy<Value = Coordinates> {
    (-90.0..=90.0_f64, -180.0..=180.0_f64).prop_map(|(latitude, longitude)| at(latitude, longitude))
}

proptest! {
    #[test]
    fn select_does_what_the_model_says(
        // A narrow range of estimates, so that ties and edges of the tolerance are met.
        clusters in prop::collection::btree_map(0..40_u16, (0..60_u32, any_class()), 0..10),
        tolerance_us in 0..30_u32,
        write: bool,
    ) {
        let role = if write { Role::Write } else { Role::Any };
        let class = |cluster: u16| clusters[&cluster].1;
        let ranked = rank_estimates(
            clusters.iter().map(|(c, (us, _))| (*c, Rtt::from_micros(*us))),
            Duration::from_micros(u64::from(tolerance_us)),
        );
        let selection = select(&ranked, class, role);
        let plain = clusters.iter().map(|(c, (us, _))| (*c, *us)).collect();
        let (answer, unsettled) = model(&plain, tolerance_us, class, role);
        prop_assert_eq!(selection.clusters(), &answer[..]);
        prop_assert_eq!(selection.ttl == TtlRule::Unsettled, unsettled);
        // Never empty while anybody stands.
        prop_assert_eq!(answer.is_empty(), ranked.iter().all(|e| class(e.cluster).is_none()));
        // The report agrees with the answer about every candidate.
        let reasons = report(&ranked, class, role);
        prop_assert_eq!(reasons.len(), ranked.len());
        for (entry, reason) in ranked.iter().zip(reasons) {
            prop_assert_eq!(reason.kept(), answer.contains(&entry.cluster), "{:?}", entry);
        }
    }

    #[test]
    fn the_nearest_stays_the_nearest(client in any_place(), places in prop::collection::vec(any_place(), 1..9)) {
        let clusters: Vec<(u16, Coordinates)> = places.iter().enumerate().map(|(i, p)| (i as u16, *p)).collect();
        let ranked = rank(client, &clusters, Duration::ZERO);
        let far = |cluster: u16| distance_km(client, places[usize::from(cluster)]);
        // A microsecond is at most 90 m.
        prop_assert!(ranked.windows(2).all(|pair| far(pair[0].cluster) <= far(pair[1].cluster) + 0.1));
        let key = |cluster: u16| (prior_rtt(far(cluster)), cluster);
        prop_assert!(ranked.windows(2).all(|pair| key(pair[0].cluster) < key(pair[1].cluster)));
        prop_assert_eq!(ranked.len(), places.len());
    }
}
