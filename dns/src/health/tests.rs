use api::snapshot::{Cluster, Node, Probe, ProbePort};
use api::wire::Finding;
use policies::failover::traffic::Probe as Outcome;
use std::time::Duration;

use super::*;

fn cluster(name: &str, region: &str, addresses: &[&str]) -> Cluster {
    let probe = Probe {
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        ports: vec![ProbePort { port: 80, tls: false }],
        path: "/".into(),
        host: String::new(),
    };
    Cluster { name: name.into(), region: region.into(), probe: Some(probe), ..Cluster::default() }
}

/// Two clusters and three nodes; `ns` sits beside `fra`.
fn fleet() -> Fleet {
    let node = |name: &str, region: &str| Node { name: name.into(), region: region.into(), ..Node::default() };
    Fleet::of(&Snapshot {
        clusters: vec![cluster("fra", "eu", &["192.0.2.1"]), cluster("iad", "us", &["192.0.2.2"])],
        nodes: vec![node("ns", "eu"), node("ns-iad", "us"), node("ns-sin", "ap")],
        hub_region: "hub".into(),
        ..Snapshot::default()
    })
}

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

fn report(term: u64, number: u64, drained: &[&str]) -> HubReport {
    HubReport { term, number, drained: drained.iter().map(|s| (*s).to_owned()).collect() }
}

fn class(health: &mut Health, cluster: &str) -> Class {
    while health.poll_command().is_some() {}
    health.classes()[cluster]
}

/// What goes to disk and comes back.
fn restarted(health: &Health) -> Health {
    let bytes = health.kept().encode_to_vec();
    Health::new(at(0), "ns", &fleet(), Kept::decode(bytes.as_slice()).unwrap())
}

#[test]
fn only_what_can_be_asked_is_watched() {
    let mut silent = cluster("gru", "sa", &["no address"]);
    let fleet = Fleet::of(&Snapshot { clusters: vec![silent.clone()], ..Snapshot::default() });
    assert_eq!(fleet, Fleet::default());
    silent.probe = None;
    let all = vec![silent, cluster("nrt", "jp", &["192.0.2.9", "2001:db8::9"])];
    let fleet = Fleet::of(&Snapshot { clusters: all, ..Snapshot::default() });
    let watched: Vec<(&str, usize)> = fleet.targets.iter().map(|(id, t)| (id.as_str(), t.addresses.len())).collect();
    assert_eq!(watched, [("nrt", 2)]);
}

#[test]
fn drains_survive_a_restart_and_older_words_count_for_nothing() {
    let mut health = Health::new(at(0), "ns", &fleet(), Kept::default());
    assert_eq!(class(&mut health, "iad"), Class::Healthy);
    assert!(health.handle_report(at(1), &report(2, 5, &["iad"])));
    assert_eq!(class(&mut health, "iad"), Class::Drained);
    for older in [report(1, 9, &[]), report(2, 4, &[]), report(2, 5, &[])] {
        assert!(!health.handle_report(at(2), &older));
    }
    let mut restarted = restarted(&health);
    assert_eq!(class(&mut restarted, "iad"), Class::Drained);
    assert!(restarted.handle_report(at(3), &report(3, 1, &[])));
    assert_eq!(class(&mut restarted, "iad"), Class::Healthy);
}

#[test]
fn what_was_down_stays_down_over_a_restart_until_it_has_been_well_long_enough() {
    let mut health = Health::new(at(0), "ns", &fleet(), Kept::default());
    let failed = |cluster: &str| wire::Findings {
        clusters: vec![Finding { cluster: cluster.into(), silent_ms: 0, positives: 2, seen: true }],
        ..wire::Findings::default()
    };
    for _ in 0..2 {
        health.handle_probe(at(1), &ClusterId::new("iad"), Outcome::Refused);
    }
    health.handle_findings(at(1), &"ns-sin".to_owned(), &failed("iad"));
    assert_eq!(class(&mut health, "iad"), Class::Down);

    let mut health = restarted(&health);
    let healthy_at = (1..60).find(|second| {
        health.handle_probe(at(*second), &ClusterId::new("iad"), Outcome::Success);
        class(&mut health, "iad") == Class::Healthy
    });
    // The first success is at one second; thirty more are asked for.
    assert_eq!(healthy_at, Some(31));
    assert_eq!(class(&mut restarted(&health), "iad"), Class::Healthy);
}

#[test]
fn the_hub_counts_as_its_own_region_and_an_older_leader_not_at_all() {
    let silent = |term| TunnelReport {
        term,
        tunnels: vec![Finding { cluster: "iad".into(), silent_ms: 60_000, positives: 0, seen: true }],
    };
    let mut health = Health::new(at(0), "ns", &fleet(), Kept::default());
    health.handle_report(at(0), &report(7, 1, &[]));
    for _ in 0..2 {
        health.handle_probe(at(1), &ClusterId::new("iad"), Outcome::Refused);
    }
    health.handle_tunnels(at(1), &silent(6));
    assert_eq!(class(&mut health, "iad"), Class::Suspect, "one domain only");
    health.handle_tunnels(at(1), &silent(7));
    assert_eq!(class(&mut health, "iad"), Class::Down);
}
