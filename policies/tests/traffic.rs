//! The traffic clock: the cases of the design by name, and every run against a naive model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policies::failover::traffic::{Command, Findings, Probe, Topology, Traffic};
use policies::failover::vote::Finding;
use policies::id::{ClusterId, RegionId};
use policies::steering::Class;
use policies::time::Instant;
use proptest::prelude::*;

const TICK: Duration = Duration::from_millis(250);

/// Three regions, a cluster and a DNS node in each; the node under test sits in `a`.
fn topology() -> Topology {
    let region = |name: &str| RegionId::new(name);
    Topology {
        clusters: ["a", "b", "c"].map(|r| (ClusterId::new(r), region(r))).into(),
        nodes: ["a", "b", "c"].map(|r| (format!("ns-{r}"), region(r))).into(),
        hub: None,
    }
}

/// What an observer gets from a target in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum See {
    Well,
    Nothing,
    Refuses,
}

/// The node under test, its fellows played by their own findings, and time.
struct Run {
    traffic: Traffic,
    now: Instant,
    fellows: BTreeMap<String, BTreeMap<ClusterId, (Instant, u32, bool)>>,
    changes: Vec<(Duration, ClusterId, Class)>,
    ticks: u32,
}

impl Run {
    fn new() -> Self {
        let now = Instant::from_nanos(7);
        let fellow = || topology().clusters.into_keys().map(|id| (id, (now, 0, false))).collect();
        Self {
            traffic: Traffic::new(now, "ns-a".into(), topology()),
            now,
            fellows: ["ns-b", "ns-c"].map(|n| (n.to_owned(), fellow())).into(),
            changes: vec![],
            ticks: 0,
        }
    }

    fn elapsed(&self) -> Duration {
        self.now.since(Instant::from_nanos(7))
    }

    /// One tick of a quarter second; each second everybody probes and tells. `see(observer, cluster)`; `told(fellow)`:
    /// whether its words arrive.
    fn tick(&mut self, see: impl Fn(&str, &str) -> See, told: impl Fn(&str) -> bool) {
        self.now = self.now + TICK;
        self.ticks += 1;
        if self.ticks.is_multiple_of(4) {
            for cluster in topology().clusters.keys() {
                let probe = match see("ns-a", cluster.as_str()) {
                    See::Well => Probe::Success,
                    See::Nothing => Probe::Silence,
                    See::Refuses => Probe::Refused,
                };
                self.traffic.handle_probe(self.now, cluster, probe);
            }
            for (name, found) in &mut self.fellows {
                for (cluster, (since, positives, seen)) in found.iter_mut() {
                    match see(name, cluster.as_str()) {
                        See::Well => (*since, *positives, *seen) = (self.now, 0, true),
                        See::Refuses => *positives += 1,
                        See::Nothing => {}
                    }
                }
                if told(name) {
                    let finding = |(since, positives, seen): &(Instant, u32, bool)| Finding {
                        silent: self.now.since(*since),
                        positives: *positives,
                        seen: *seen,
                    };
                    let clusters = found.iter().map(|(id, seen)| (id.clone(), finding(seen))).collect();
                    self.traffic.handle_findings(self.now, name, &Findings { blind: false, clusters });
                }
            }
        }
        self.traffic.handle_timeout(self.now);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(command) = self.traffic.poll_command() {
            if let Command::Classify { cluster, class } = command {
                self.changes.push((self.elapsed(), cluster, class));
            }
        }
    }

    fn seconds(&mut self, seconds: u32, see: impl Fn(&str, &str) -> See) {
        (0..seconds * 4).for_each(|_| self.tick(&see, |_| true));
    }

    fn class(&self, cluster: &str) -> Class {
        self.traffic.class(&ClusterId::new(cluster))
    }

    /// When `cluster` became `class`, after `from`.
    fn when(&self, cluster: &str, class: Class, from: Duration) -> Option<Duration> {
        self.changes
            .iter()
            .find(|(at, id, to)| *at >= from && id.as_str() == cluster && *to == class)
            .map(|c| c.0 - from)
    }
}

fn well(_: &str, _: &str) -> See {
    See::Well
}

#[test]
fn a_black_hole_is_suspect_after_four_seconds_and_down_after_ten() {
    let mut run = Run::new();
    run.seconds(60, well);
    assert_eq!(run.changes, [], "the first join counts at once");
    let from = run.elapsed();
    run.seconds(20, |_, cluster| if cluster == "b" { See::Nothing } else { See::Well });
    assert_eq!(run.when("b", Class::Suspect, from), Some(Duration::from_secs(4)));
    assert_eq!(run.when("b", Class::Down, from), Some(Duration::from_secs(10)));
    assert_eq!(run.changes.len(), 2);
}

#[test]
fn a_crash_that_refuses_is_down_after_two_probes() {
    let mut run = Run::new();
    run.seconds(60, well);
    let from = run.elapsed();
    run.seconds(5, |_, cluster| if cluster == "b" { See::Refuses } else { See::Well });
    assert_eq!(run.when("b", Class::Down, from), Some(Duration::from_secs(2)));
}

#[test]
fn one_domain_alone_takes_nobody_down() {
    let mut run = Run::new();
    run.seconds(60, well);
    // Only we lose b: c's node sees it well.
    run.seconds(600, |observer, cluster| if (observer, cluster) == ("ns-a", "b") { See::Nothing } else { See::Well });
    assert_eq!(run.class("b"), Class::Suspect);
    // The target's own domain does not count: its node sees it well, both others do not.
    run.seconds(20, |observer, cluster| if cluster == "b" && observer != "ns-b" { See::Nothing } else { See::Well });
    assert_eq!(run.class("b"), Class::Down);
}

#[test]
fn recovery_takes_thirty_seconds_and_doubles_with_each_flap() {
    let mut run = Run::new();
    run.seconds(60, well);
    for hold in [30, 60, 120, 240, 480, 900, 900] {
        run.seconds(12, |_, cluster| if cluster == "b" { See::Nothing } else { See::Well });
        assert_eq!(run.class("b"), Class::Down);
        let from = run.elapsed();
        run.seconds(hold + 5, well);
        let took = run.when("b", Class::Healthy, from).expect("it recovers");
        assert!(
            took >= Duration::from_secs(hold.into()) && took <= Duration::from_secs(u64::from(hold) + 2),
            "{hold}: {took:?}"
        );
    }
    // Well for long enough, the past is forgotten.
    run.seconds(31 * 60, well);
    run.seconds(12, |_, cluster| if cluster == "b" { See::Nothing } else { See::Well });
    let from = run.elapsed();
    run.seconds(35, well);
    assert!(run.when("b", Class::Healthy, from).is_some());
}

#[test]
fn flapping_every_three_seconds_moves_answers_at_most_twice() {
    for bad in [See::Nothing, See::Refuses] {
        let mut run = Run::new();
        run.seconds(60, well);
        run.changes.clear();
        for _ in 0..10 {
            run.seconds(3, |_, cluster| if cluster == "b" { bad } else { See::Well });
            run.seconds(3, well);
        }
        assert!(run.changes.len() <= 2, "{bad:?}: {:?}", run.changes);
    }
}

#[test]
fn a_blind_node_changes_nothing() {
    let mut run = Run::new();
    run.seconds(60, well);
    run.changes.clear();
    // Cut off from everybody but its own region's cluster.
    (0..400).for_each(|_| run.tick(|_, cluster| if cluster == "a" { See::Well } else { See::Nothing }, |_| false));
    assert!(run.traffic.is_blind());
    assert_eq!(run.changes, []);
}

#[test]
fn a_dead_fellow_is_no_witness() {
    let mut run = Run::new();
    run.seconds(60, well);
    run.changes.clear();
    // The whole region c goes, node and cluster; c's node falls silent and must not count as seeing b fail.
    (0..120).for_each(|_| {
        run.tick(|_, cluster| if cluster == "c" { See::Nothing } else { See::Well }, |fellow| fellow != "ns-c")
    });
    assert_eq!(run.class("c"), Class::Down, "seen by a and b");
    assert_eq!((run.class("a"), run.class("b")), (Class::Healthy, Class::Healthy));
}

#[test]
fn whoever_dies_accuses_nobody_with_their_last_words() {
    // A fellow's, the hub's, and both at once; before that all was well, and it is well for everybody who is left.
    for (fellow_dies, hub_dies) in [(true, false), (false, true), (true, true)] {
        let mut run = Run::new();
        let topology = Topology { hub: Some(RegionId::new("d")), ..topology() };
        run.traffic.handle_topology(run.now, topology.clone());
        let fine = Finding { silent: Duration::from_millis(900), positives: 0, seen: true };
        let tunnels: BTreeMap<ClusterId, Finding> = topology.clusters.into_keys().map(|id| (id, fine)).collect();
        for second in 0..120 {
            let (fellow, hub) = (second < 60 || !fellow_dies, second < 60 || !hub_dies);
            if hub {
                run.traffic.handle_hub(run.now, &tunnels);
            }
            (0..4).for_each(|_| run.tick(well, |name| fellow || name != "ns-c"));
        }
        assert_eq!(run.changes, [], "fellow {fellow_dies}, hub {hub_dies}");
    }
}

#[test]
fn a_tunnel_that_is_cut_moves_nobody_while_those_who_look_see_the_cluster_well() {
    let mut run = Run::new();
    run.traffic.handle_topology(run.now, Topology { hub: Some(RegionId::new("d")), ..topology() });
    let id = ClusterId::new("b");
    for second in 0..60 {
        let silent = Finding { silent: Duration::from_secs(second), positives: 0, seen: true };
        run.traffic.handle_hub(run.now, &BTreeMap::from([(id.clone(), silent)]));
        run.seconds(1, well);
    }
    assert_eq!(run.changes, []);
    // It counts once one who has looked agrees: the two are more than the one that sees it well.
    for second in 60..80 {
        let silent = Finding { silent: Duration::from_secs(second), positives: 0, seen: true };
        run.traffic.handle_hub(run.now, &BTreeMap::from([(id.clone(), silent)]));
        run.seconds(1, |observer, cluster| if (observer, cluster) == ("ns-a", "b") { See::Nothing } else { See::Well });
    }
    assert_eq!(run.class("b"), Class::Down);
}

#[test]
fn a_node_that_was_cut_off_comes_back_and_accuses_nobody() {
    let mut run = Run::new();
    run.seconds(60, well);
    // Cut off again and again, each time for less than makes it blind, with a moment of words and no probe in between.
    for _ in 0..20 {
        for _ in 0..14 {
            run.now = run.now + TICK;
            run.traffic.handle_timeout(run.now);
            run.poll();
        }
        let words = Findings { blind: false, clusters: BTreeMap::new() };
        run.traffic.handle_findings(run.now, &"ns-b".to_owned(), &words);
        run.poll();
        let silent = run.traffic.findings().clusters.values().map(|found| found.silent).max();
        assert_eq!(silent, Some(Duration::ZERO), "it was cut off, and says nothing of others");
    }
    assert_eq!(["b", "c"].map(|c| run.class(c)), [Class::Healthy; 2]);
}

#[test]
fn a_drain_counts_at_once_and_judgement_goes_on_beneath() {
    let mut run = Run::new();
    run.seconds(60, well);
    let drained = BTreeSet::from([ClusterId::new("b")]);
    run.traffic.handle_drained(run.now, &drained);
    run.poll();
    assert_eq!(run.class("b"), Class::Drained);
    run.seconds(15, |_, cluster| if cluster == "b" { See::Nothing } else { See::Well });
    assert_eq!(run.class("b"), Class::Drained);
    run.traffic.handle_drained(run.now, &BTreeSet::new());
    run.poll();
    assert_eq!(run.class("b"), Class::Down, "it failed while nobody used it");
}

#[test]
fn the_tunnel_votes_only_for_a_domain_without_a_node() {
    let silent =
        BTreeMap::from([(ClusterId::new("b"), Finding { silent: Duration::from_secs(60), positives: 0, seen: true })]);
    for (hub, class) in [("d", Class::Down), ("c", Class::Suspect)] {
        let mut traffic =
            Traffic::new(Instant::ORIGIN, "ns-a".into(), Topology { hub: Some(RegionId::new(hub)), ..topology() });
        let mut now = Instant::ORIGIN;
        for _ in 0..60 {
            now = now + Duration::from_secs(1);
            traffic.handle_probe(now, &ClusterId::new("c"), Probe::Success);
            traffic.handle_hub(now, &silent);
            while traffic.poll_command().is_some() {}
        }
        assert_eq!(traffic.class(&ClusterId::new("b")), class, "hub in {hub}");
    }
}

#[test]
fn too_few_domains_are_named_and_take_nobody_down() {
    let mut topology = topology();
    topology.nodes.remove("ns-c");
    let mut traffic = Traffic::new(Instant::ORIGIN, "ns-a".into(), topology);
    for second in 1..100 {
        let now = Instant::ORIGIN + Duration::from_secs(second);
        traffic.handle_probe(now, &ClusterId::new("b"), Probe::Refused);
        while traffic.poll_command().is_some() {}
    }
    let evidence = &traffic.evidence()[&ClusterId::new("b")];
    assert!(evidence.few_domains);
    assert_eq!(evidence.class, Class::Suspect);
}

/// One second of the world: what each observer sees of each cluster, and whose words arrive.
type Second = ([[See; 3]; 3], [bool; 2]);

fn second() -> impl Strategy<Value = Second> {
    let see = prop_oneof![3 => Just(See::Well), 2 => Just(See::Nothing), 1 => Just(See::Refuses)];
    (prop::array::uniform3(prop::array::uniform3(see)), prop::array::uniform2(prop::bool::weighted(0.8)))
}

/// The same rules, computed each second from the whole history.
fn naive(history: &[Second], cluster: usize) -> Vec<Class> {
    let mut classes = vec![];
    let (mut class, mut joined, mut falls, mut well_for, mut healthy_for) =
        (Class::Healthy, false, 0_u32, None::<u32>, 0_u32);
    for end in 1..=history.len() {
        let past = &history[..end];
        let heard = |i: usize| past[i].1.iter().any(|t| *t) || [1, 2].iter().any(|c| past[i].0[0][*c] != See::Nothing);
        // When the node under test heard nobody for a whole second and then somebody: its silences begin anew.
        let came_back = |i: &usize| heard(*i) && (0..*i).rev().find(|j| heard(*j)).map_or(*i + 1, |j| *i - j) >= 2;
        // What an observer knows after `past`: seconds of silence, refusals in a row, any success.
        let knows = |observer: usize, until: usize| {
            let last = past[..until].iter().rposition(|s| s.0[observer][cluster] == See::Well);
            let after = last.map_or(0, |i| i + 1);
            let refusals = past[after..until].iter().filter(|s| s.0[observer][cluster] == See::Refuses).count();
            let back = (0..until).rev().filter(|_| observer == 0).find(came_back);
            // What others told counts as they told it then.
            (until - last.max(back).map_or(0, |i| i + 1), refusals, last.is_some())
        };
        let blind = end - (0..end).rev().find(|i| heard(*i)).map_or(0, |i| i + 1) >= 4;
        let mut votes = vec![];
        for observer in 0..3 {
            if observer == cluster || (observer == 0 && blind) {
                continue;
            }
            let until = if observer == 0 {
                end
            } else {
                match (0..end).rev().find(|i| past[*i].1[observer - 1]) {
                    Some(i) if end - (i + 1) < 4 => i + 1,
                    _ => continue,
                }
            };
            let (silent, refusals, seen) = knows(observer, until);
            votes.push(match () {
                () if refusals >= 2 || silent >= 10 => 'F',
                () if silent >= 4 => 'S',
                () if seen && refusals == 0 => 'W',
                () => '?',
            });
        }
        let n = |v: char| votes.iter().filter(|x| **x == v).count();
        let (down, suspect) = (n('F') >= 2 && n('F') > n('W'), n('F') + n('S') > 0);
        if down || suspect {
            if class == Class::Healthy {
                falls = if healthy_for >= 30 * 60 { 1 } else { falls + 1 };
            }
            well_for = None;
            class = if down || class == Class::Down { Class::Down } else { Class::Suspect };
            healthy_for = 0;
        } else if n('W') > 0 {
            if class == Class::Healthy || !joined {
                class = Class::Healthy;
                joined = true;
                healthy_for += 1;
            } else {
                let good = well_for.map_or(0, |s| s + 1);
                well_for = Some(good);
                if good >= (30 << (falls - 1)).min(900) {
                    class = Class::Healthy;
                    healthy_for = 1;
                }
            }
        } else if class == Class::Healthy {
            healthy_for += u32::from(healthy_for > 0);
            well_for = well_for.map(|s| s + 1);
        } else {
            well_for = well_for.map(|s| s + 1);
        }
        classes.push(class);
    }
    classes
}

proptest! {
    #[test]
    fn every_history_ends_as_the_naive_model_says(
        blocks in prop::collection::vec((second(), 1..25_usize), 1..16),
        calm in prop::option::of(20..80_usize),
    ) {
        let mut history: Vec<Second> = blocks.into_iter().flat_map(|(s, n)| std::iter::repeat_n(s, n)).collect();
        let all_well = ([[See::Well; 3]; 3], [true; 2]);
        history.extend(std::iter::repeat_n(all_well, calm.unwrap_or(0)));
        let mut run = Run::new();
        let mut got: [Vec<Class>; 3] = [vec![], vec![], vec![]];
        let index = |name: &str| usize::from(name.as_bytes()[name.len() - 1] - b'a');
        for (sees, told) in &history {
            for _ in 0..4 {
                run.tick(|o, c| sees[index(o)][index(c)], |fellow| told[index(fellow) - 1]);
            }
            (0..3).for_each(|c| got[c].push(run.class(["a", "b", "c"][c])));
        }
        for (c, got) in got.iter().enumerate() {
            prop_assert_eq!(got, &naive(&history, c), "cluster {}", c);
        }
    }
}
