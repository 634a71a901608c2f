//! What is made of what was seen.

use std::net::Ipv4Addr;

use super::*;
use crate::resolver::Answer;

const DEAD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const NEXT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 3, 1));

/// Changes of (milliseconds since the fault, node, users, addresses, TTL); negative times are before it.
fn check(changes: &[(i64, &str, &str, &[IpAddr], u32)]) -> Run {
    let fault = Instant::now() + Duration::from_secs(100);
    let mut seen = Seen::default();
    for (at, node, users, addresses, ttl) in changes {
        let by = Duration::from_millis(at.unsigned_abs());
        let at = if *at < 0 { fault - by } else { fault + by };
        let view = View { node: (*node).to_owned(), users: (*users).to_owned() };
        let answer = Answer { code: 0, addresses: addresses.to_vec(), ttl: Some(*ttl), scope: None };
        seen.now.insert(view.clone(), answer.clone());
        seen.answered.insert(view.clone(), 400);
        seen.changes.push(Change { at, view, answer });
    }
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    let nodes = ["iad", "sin"].map(|node| (node.to_owned(), here)).into();
    let total = Duration::from_secs(10);
    summary(Scenario::BlackHole, "fra", DEAD, &nodes, &seen, fault, total, total)
}

#[test]
fn the_last_node_counts() {
    let run = check(&[
        (-50, "iad", "fra", &[DEAD], 30),
        (-40, "sin", "fra", &[DEAD], 30),
        (4000, "iad", "fra", &[DEAD, NEXT], 5),
        (4500, "sin", "fra", &[DEAD, NEXT], 5),
        (10_000, "sin", "fra", &[NEXT], 30),
        (10_200, "iad", "fra", &[NEXT], 30),
    ]);
    assert_eq!(run.demoted, Some(Duration::from_millis(4500)));
    assert_eq!(run.absent, Some(Duration::from_millis(10_200)));
    assert_eq!((run.moves, run.moves_of_others, run.changes.len()), (2, 0, 4));
    assert!((run.polls_per_second - 40.0).abs() < 1e-9);
}

#[test]
fn one_node_that_never_moves_leaves_no_time() {
    let run =
        check(&[(-50, "iad", "fra", &[DEAD], 30), (-40, "sin", "fra", &[DEAD], 30), (4000, "iad", "fra", &[NEXT], 30)]);
    assert_eq!((run.demoted, run.absent, run.moves), (None, None, 1));
}

#[test]
fn an_address_that_returns_was_not_absent_before() {
    let run = check(&[
        (-50, "iad", "fra", &[DEAD], 30),
        (-50, "sin", "fra", &[DEAD], 30),
        (2000, "iad", "fra", &[NEXT], 30),
        (2000, "sin", "fra", &[NEXT], 30),
        (3000, "sin", "fra", &[DEAD], 30),
        (5000, "sin", "fra", &[NEXT], 30),
        (6000, "sin", "fra", &[FAR], 30),
    ]);
    assert_eq!(run.demoted, Some(Duration::from_secs(2)));
    assert_eq!(run.absent, Some(Duration::from_secs(5)));
    assert_eq!(run.moves, 4);
}

#[test]
fn other_users_are_counted_apart_and_a_ttl_is_no_move() {
    let run = check(&[
        (-50, "iad", "iad", &[NEXT], 30),
        (-50, "sin", "iad", &[FAR], 30),
        (-20, "sin", "iad", &[NEXT], 30),
        (1000, "iad", "iad", &[NEXT], 5),
        (2000, "iad", "iad", &[FAR], 5),
        (2500, "iad", "iad", &[NEXT], 5),
    ]);
    assert_eq!((run.moves, run.moves_of_others, run.changes.len()), (0, 2, 3));
}
