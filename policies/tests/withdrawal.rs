//! Withdrawals against a naive model that remembers everything.

use std::collections::BTreeMap;

use policies::withdrawal::{Facts, Verdict, Withdrawal, step};
use proptest::prelude::*;

const TTL: u32 = 30;

#[derive(Clone, Debug)]
struct Moment {
    seconds: u64,
    another_ready: bool,
    named: bool,
    published: bool,
    serves: Vec<u64>,
}

fn moment() -> impl Strategy<Value = Moment> {
    (
        0..25_u64,
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::collection::vec(0..3_u64, 2),
    )
        .prop_map(|(seconds, another_ready, named, published, serves)| Moment {
            seconds,
            another_ready,
            named,
            published,
            serves,
        })
}

proptest! {
    /// A copy goes only when, for a whole TTL until now, no answer of any node named it, and another copy is ready now;
    /// and when that has been so at two looks a TTL apart, it goes.
    #[test]
    fn a_copy_goes_a_ttl_after_its_last_answer(moments in prop::collection::vec(moment(), 0..60)) {
        let (mut now, mut newest, mut first_without) = (1_000, 10_u64, None);
        let mut state = Withdrawal::default();
        // The oldest look since which every node has served answers without it.
        let mut clear_since: Option<u64> = None;
        for moment in moments {
            now += moment.seconds;
            newest += u64::from(moment.published);
            first_without = if moment.named { None } else { Some(first_without.unwrap_or(newest)) };
            // Each node is zero, one or two snapshots behind.
            let nodes: BTreeMap<String, u64> =
                moment.serves.iter().enumerate().map(|(i, back)| (format!("ns{i}"), newest - back)).collect();
            let clear = first_without.is_some_and(|first| nodes.values().all(|serves| *serves >= first));
            clear_since = clear.then(|| clear_since.unwrap_or(now));
            let facts = Facts {
                now_s: now,
                another_ready: moment.another_ready,
                named: moment.named,
                snapshot: newest,
                nodes: &nodes,
                ttl_s: TTL,
            };
            let (after, verdict) = step(state, &facts);
            state = after;
            let run_out = clear_since.is_some_and(|since| now - since > u64::from(TTL));
            prop_assert_eq!(verdict == Verdict::Remove, run_out && moment.another_ready, "{:?} at {}", verdict, now);
            if !moment.another_ready {
                prop_assert_eq!(verdict, Verdict::NoOtherCopy);
            }
        }
    }
}

fn facts(now_s: u64, nodes: &BTreeMap<String, u64>) -> Facts<'_> {
    Facts { now_s, another_ready: true, named: false, snapshot: 7, nodes, ttl_s: TTL }
}

#[test]
fn a_clock_that_jumps_back_costs_at_most_a_ttl() {
    let nodes = BTreeMap::from([("ns1".to_owned(), 7)]);
    let (state, _) = step(Withdrawal::default(), &facts(1_000_000, &nodes));
    let (state, verdict) = step(state, &facts(50, &nodes));
    assert_eq!(verdict, Verdict::AnswersHeld { until_s: 81 });
    assert_eq!(step(state, &facts(81, &nodes)).1, Verdict::Remove);
}

#[test]
fn a_node_that_has_not_spoken_or_serves_what_nobody_here_made_is_waited_for() {
    for serves in [0, 8] {
        let nodes = BTreeMap::from([("ns1".to_owned(), 7), ("ns2".to_owned(), serves)]);
        let (_, verdict) = step(Withdrawal::default(), &facts(1_000, &nodes));
        assert_eq!(verdict, Verdict::NodesBehind(vec!["ns2".to_owned()]));
        assert!(verdict.to_string().contains("ns2"), "{verdict}");
    }
}
