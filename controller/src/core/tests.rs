//! The heart on its own: what must hold whatever is missing.

use api::snapshot::Snapshot;
use api::v1alpha1::{App, Cluster};
use api::wire::{ClusterReport, HostAddresses, Ledger, LedgerEntry, Phase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use policies::id::{AppId, ClusterId};
use prost::Message as _;
use serde_json::json;

use super::*;

/// A hub with three joined clusters, one zone, one policy and one app with one host.
fn fleet() -> Seen {
    let mut seen = Seen::default();
    for (name, region) in [("fra", "eu-central-1"), ("iad", "us-east-1"), ("sin", "ap-southeast-1")] {
        let cluster: Cluster = object(json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name}, "spec": {"region": region},
        }));
        seen.clusters.insert(ClusterId::new(name), cluster);
        let report = ClusterReport { uid: format!("uid-{name}"), ..ClusterReport::default() };
        seen.reports.insert(ClusterId::new(name), report);
    }
    seen.policies.insert(
        AppId::new("shop", "everywhere-near"),
        object(json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "RegionPolicy",
            "metadata": {"name": "everywhere-near", "namespace": "shop"},
            "spec": {"activeActive": {"replicas": "Divided"}},
        })),
    );
    seen.zones.insert(
        "gslb".into(),
        object(json!({
            "apiVersion": "isochrone.dev/v1alpha1", "kind": "DnsZone", "metadata": {"name": "gslb"},
            "spec": {"origin": "gslb.example.com", "ttl": "1h", "allowedNamespaces": ["shop"],
                     "nameServers": [{"name": "ns1.gslb.example.com", "addresses": ["192.0.2.1"]}]},
        })),
    );
    seen.apps.insert(shop(), app(7));
    seen
}

fn shop() -> AppId {
    AppId::new("shop", "shop")
}

fn app(replicas: u32) -> App {
    object(json!({
        "apiVersion": "isochrone.dev/v1alpha1", "kind": "App",
        "metadata": {"name": "shop", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "policy": "everywhere-near", "prune": "Safe",
            "hosts": [{"host": "shop.gslb.example.com"}],
            "source": {"inline": {"manifests": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas}},
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"b": "2", "a": "1"}},
            ]}},
        },
    }))
}

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Every agent reports that it did what it was told.
fn obey(seen: &mut Seen, decision: &Decision) {
    for (id, desired) in &decision.desired {
        let entries = desired.apps.iter().map(|app| LedgerEntry {
            namespace: app.namespace.clone(),
            name: app.name.clone(),
            epoch: app.epoch,
            render: app.render.clone(),
            phase: if app.remove { Phase::Removed } else { Phase::Ready }.into(),
            addresses: vec![HostAddresses {
                host: "shop.gslb.example.com".into(),
                addresses: vec![format!("192.0.2.{}", id.as_str().len() + usize::from(id.as_str().as_bytes()[0]))],
                reason: String::new(),
            }],
            ..LedgerEntry::default()
        });
        let ledger = Ledger { term: desired.term, number: desired.number, entries: entries.collect() };
        seen.ledgers.insert(id.clone(), ledger);
    }
}

fn snapshot(decision: &Decision) -> Snapshot {
    Snapshot::decode(decision.snapshot.as_slice()).unwrap()
}

/// Decides, lets agents obey, and decides again.
fn settled(seen: &mut Seen) -> Decision {
    let first = decide(seen, &Choice::default(), 1);
    obey(seen, &first);
    decide(seen, &first.choice, 1)
}

#[test]
fn an_app_is_placed_divided_delivered_and_steered() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    let mut replicas: Vec<u64> = decision
        .desired
        .values()
        .map(|d| {
            let render = wire::Render::decode(decision.renders[&d.apps[0].render].as_slice()).unwrap();
            serde_json::from_str::<serde_json::Value>(&render.objects[0]).unwrap()["spec"]["replicas"].as_u64().unwrap()
        })
        .collect();
    replicas.sort_unstable();
    assert_eq!(replicas, [2, 2, 3]);
    let snapshot = snapshot(&decision);
    assert_eq!(snapshot.zones[0].hosts[0].targets.len(), 3);
    let status = &decision.app_status[&shop()];
    assert_eq!((status.clusters, status.ready, status.failed), (3, 3, 0));
    assert!(status.conditions.iter().all(|c| c.status == api::v1alpha1::Truth::True), "{:?}", status.conditions);
    assert!(status.worst.is_empty());
    assert_eq!(decision.zone_status["gslb"].hosts, 1);
}

#[test]
fn deciding_again_changes_nothing_and_numbers_nothing_anew() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    let again = decide(&seen, &decision.choice, 1);
    assert_eq!(again.choice, decision.choice);
    assert_eq!(again.snapshot, decision.snapshot);
    assert_eq!(again.desired, decision.desired);
}

#[test]
fn a_restarted_hub_that_has_heard_from_nobody_moves_nothing() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    seen.ledgers.clear();
    seen.reports.clear();
    let restarted = decide(&seen, &decision.choice, 2);
    assert_eq!(restarted.choice, decision.choice, "what was chosen stays, addresses included");
    assert_eq!(restarted.snapshot, decision.snapshot, "the next leader has nothing new to say");
    assert_eq!(restarted.head, decision.head);
}

#[test]
fn what_is_missing_takes_nothing_away() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    for what in ["policy", "apps", "one cluster", "reports"] {
        let mut less = seen.clone();
        match what {
            "policy" => less.policies.clear(),
            "apps" => less.apps.clear(),
            "reports" => less.reports.clear(),
            _ => _ = less.clusters.remove(&ClusterId::new("iad")),
        }
        let after = decide(&less, &decision.choice, 1);
        assert_eq!(after.desired, decision.desired, "without {what}");
    }
}

#[test]
fn a_missing_policy_is_a_condition() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    seen.policies.clear();
    let after = decide(&seen, &decision.choice, 1);
    let accepted = &after.app_status[&shop()].conditions[0];
    assert_eq!((accepted.reason.as_str(), accepted.status), ("PolicyNotFound", api::v1alpha1::Truth::False));
}

#[test]
fn deletion_waits_for_every_agent_and_then_lets_go() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    let deleted = Time("2026-01-02T00:00:00Z".parse().unwrap());
    seen.apps.get_mut(&shop()).unwrap().metadata.deletion_timestamp = Some(deleted);
    let going = decide(&seen, &decision.choice, 1);
    assert!(going.release.is_empty());
    assert!(going.desired.values().all(|d| {
        d.apps.iter().all(|a| a.remove && a.epoch > decision.desired.values().next().unwrap().apps[0].epoch)
    }));
    assert!(snapshot(&going).zones[0].hosts.is_empty());
    // One agent stays silent: the app waits for it.
    let silent = seen.ledgers[&ClusterId::new("sin")].clone();
    obey(&mut seen, &going);
    seen.ledgers.insert(ClusterId::new("sin"), silent);
    let waiting = decide(&seen, &going.choice, 1);
    assert!(waiting.release.is_empty());
    assert_eq!(waiting.choice.apps[&shop()].clusters.len(), 1);
    obey(&mut seen, &waiting);
    let gone = decide(&seen, &waiting.choice, 1);
    assert_eq!(gone.release, [shop()]);
    assert!(gone.choice.apps.is_empty());
}

#[test]
fn an_app_that_goes_with_our_crds_is_orphaned_not_removed() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    seen.crds_going = true;
    seen.apps.get_mut(&shop()).unwrap().metadata.deletion_timestamp =
        Some(Time("2026-01-02T00:00:00Z".parse().unwrap()));
    let after = decide(&seen, &decision.choice, 1);
    assert_eq!(after.release, [shop()]);
    assert_eq!(after.desired, decision.desired);
    assert_eq!(after.snapshot, decision.snapshot, "its hosts keep their answers");
}

#[test]
fn a_cluster_joins_the_answers_when_ready_and_keeps_its_place() {
    let mut seen = fleet();
    let first = decide(&seen, &Choice::default(), 1);
    assert!(snapshot(&first).zones[0].hosts.is_empty(), "nothing is ready");
    obey(&mut seen, &first);
    for phase in [Phase::Progressing, Phase::Failed] {
        let mut seen = seen.clone();
        seen.ledgers.get_mut(&ClusterId::new("fra")).unwrap().entries[0].phase = phase.into();
        let targets = snapshot(&decide(&seen, &first.choice, 1)).zones[0].hosts[0].targets.len();
        assert_eq!(targets, 2, "{phase:?}");
    }
    let ready = decide(&seen, &first.choice, 1);
    seen.ledgers.get_mut(&ClusterId::new("fra")).unwrap().entries[0].phase = Phase::Failed.into();
    assert_eq!(snapshot(&decide(&seen, &ready.choice, 1)).zones[0].hosts[0].targets.len(), 3, "health is not ours");
}

#[test]
fn a_name_that_had_an_answer_keeps_one() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    for ledger in seen.ledgers.values_mut() {
        ledger.entries[0].addresses.clear();
        ledger.entries[0].addresses.push(HostAddresses {
            host: "shop.gslb.example.com".into(),
            addresses: vec![],
            reason: "NoAddress".into(),
        });
    }
    let after = decide(&seen, &decision.choice, 1);
    assert_eq!(snapshot(&after).zones[0].hosts[0].targets.len(), 3);
}

#[test]
fn numbers_never_go_backwards_after_a_restore() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    let before = decision.desired[&ClusterId::new("fra")].clone();
    seen.nodes.insert("ns1".into(), NodeReport { snapshot: 40, ..NodeReport::default() });
    for ledger in seen.ledgers.values_mut() {
        ledger.number = 50;
        ledger.entries[0].epoch = 60;
    }
    // The hub's own memory is older than what it is told.
    let restored = decide(&seen, &decision.choice, 3);
    assert!(restored.head.number > 40 && restored.choice.apps[&shop()].epoch > 60);
    let after = &restored.desired[&ClusterId::new("fra")];
    assert!(after.number > 50 && after.apps[0].epoch > 60, "{after:?}");
    assert_eq!(after.apps[0].render, before.apps[0].render, "nothing moves");
}

#[test]
fn too_large_a_source_is_refused_with_what_to_do() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    let blob = "x".repeat(INLINE_BYTES_MAX);
    seen.apps
        .get_mut(&shop())
        .unwrap()
        .spec
        .source
        .inline
        .manifests
        .push(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"blob": blob}}));
    let after = decide(&seen, &decision.choice, 1);
    let accepted = &after.app_status[&shop()].conditions[0];
    assert_eq!(accepted.reason, "SourceTooLarge");
    assert!(accepted.message.contains("use Git or OCI"), "{}", accepted.message);
    assert_eq!(after.desired, decision.desired);
}

#[test]
fn drain_is_told_and_changes_no_snapshot() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    seen.clusters.get_mut(&ClusterId::new("iad")).unwrap().spec.drain = true;
    let after = decide(&seen, &decision.choice, 1);
    assert_eq!(after.report.drained, ["iad"]);
    assert!(after.report.number > decision.report.number);
    assert_eq!(after.head, decision.head);
}

#[test]
fn what_was_chosen_survives_its_own_format() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    for app in decision.choice.apps.values() {
        let text = serde_json::to_string(app).unwrap();
        assert_eq!(serde_json::from_str::<AppChoice>(&text).unwrap(), *app);
    }
}

#[test]
fn conditions_keep_their_time_while_they_hold() {
    let mut seen = fleet();
    let mut status = settled(&mut seen).app_status[&shop()].conditions.clone();
    status::stamp(&mut status, &[], "then");
    let mut later = status.clone();
    later[0].status = api::v1alpha1::Truth::False;
    status::stamp(&mut later, &status, "now");
    assert_eq!(later[0].last_transition_time, "now");
    assert_eq!(later[1].last_transition_time, "then");
}

/// A DNS node of `region` that somebody added, and that has reported where its fellows reach it.
fn node(seen: &mut Seen, name: &str, region: &str) {
    seen.node_regions.insert(name.to_owned(), RegionId::new(region));
    let report = NodeReport { peering: vec![format!("{name}.example.com:7444")], ..NodeReport::default() };
    seen.nodes.insert(name.to_owned(), report);
}

fn standing<'a>(decision: &'a Decision, cluster: &str, kind: &str) -> (&'a str, &'a str) {
    let conditions = &decision.cluster_status[&ClusterId::new(cluster)].conditions;
    let found = conditions.iter().find(|condition| condition.r#type == kind).unwrap();
    (&found.reason, &found.message)
}

#[test]
fn nodes_are_told_of_each_other_and_what_to_probe() {
    let mut seen = fleet();
    node(&mut seen, "ns2", "us-east-1");
    node(&mut seen, "ns1", "eu-central-1");
    // Nobody knows where this one is, so its word would count for nowhere.
    seen.nodes.insert("stranger".into(), NodeReport::default());
    seen.region = Some(RegionId::new("home"));
    let decision = settled(&mut seen);
    let told = snapshot(&decision);
    let nodes: Vec<(&str, &str)> = told.nodes.iter().map(|n| (n.name.as_str(), n.region.as_str())).collect();
    assert_eq!(nodes, [("ns1", "eu-central-1"), ("ns2", "us-east-1")]);
    assert_eq!((told.nodes[0].peering[0].as_str(), told.hub_region.as_str()), ("ns1.example.com:7444", "home"));
    let fra = told.clusters[0].probe.as_ref().unwrap();
    assert_eq!(fra.addresses, told.zones[0].hosts[0].targets[0].addresses);

    // A hub that has just started goes on telling of nodes that have not reported to it.
    seen.nodes.clear();
    let restarted = decide(&seen, &decision.choice, 2);
    assert_eq!(restarted.snapshot, decision.snapshot);
    // Its owner took it away.
    seen.node_regions.remove("ns2");
    assert_eq!(snapshot(&decide(&seen, &decision.choice, 2)).nodes.len(), 1);
}

#[test]
fn a_cluster_that_too_few_regions_see_is_named() {
    let mut seen = fleet();
    node(&mut seen, "ns1", "eu-central-1");
    node(&mut seen, "ns2", "us-east-1");
    let decision = settled(&mut seen);
    assert_eq!(standing(&decision, "sin", "Watched").0, "EnoughObservers");
    let (reason, message) = standing(&decision, "fra", "Watched");
    assert_eq!(reason, "FewObservers");
    assert!(message.starts_with("1 of 2 regions outside eu-central-1"), "{message}");
    seen.region = Some(RegionId::new("home"));
    assert_eq!(standing(&settled(&mut seen), "fra", "Watched").0, "EnoughObservers");
}

#[test]
fn what_nodes_hold_of_a_cluster_is_shown() {
    let mut seen = fleet();
    node(&mut seen, "ns1", "eu-central-1");
    node(&mut seen, "ns2", "us-east-1");
    assert_eq!(standing(&settled(&mut seen), "sin", "Healthy").0, "NotWatched");
    let mut judge = |node: &str, class: &str| {
        let judged = vec![wire::Judged { cluster: "sin".into(), class: class.into() }];
        seen.nodes.get_mut(node).unwrap().judged = judged;
        let decision = settled(&mut seen);
        let (reason, message) = standing(&decision, "sin", "Healthy");
        format!("{reason}: {message}")
    };
    assert_eq!(judge("ns1", "healthy"), "Healthy: healthy for ns1");
    assert_eq!(judge("ns2", "down"), "Down: down for ns2; healthy for ns1");
    assert_eq!(judge("ns1", "suspect"), "Down: down for ns2; suspect for ns1");
}

#[test]
fn the_role_of_a_host_is_told_and_outlives_its_app_object() {
    let mut seen = fleet();
    seen.apps.get_mut(&shop()).unwrap().spec.hosts[0].role = api::v1alpha1::HostRole::Write;
    let decision = settled(&mut seen);
    assert_eq!(snapshot(&decision).zones[0].hosts[0].role(), api::snapshot::Role::Write);
    seen.apps.clear();
    assert_eq!(decide(&seen, &decision.choice, 1).snapshot, decision.snapshot);
}

#[test]
fn a_hub_that_was_set_back_publishes_no_host_away() {
    let mut seen = fleet();
    node(&mut seen, "ns1", "eu-central-1");
    let decision = settled(&mut seen);
    seen.nodes.get_mut("ns1").unwrap().snapshot = 40;
    // Nothing is chosen, and one cluster has not reported yet.
    let all = std::mem::take(&mut seen.ledgers);
    let early = decide(&seen, &Choice::default(), 2);
    assert!(early.head.number < 40, "refused by the node, which goes on answering");
    seen.ledgers = all;
    obey(&mut seen, &early);
    let known = decide(&seen, &early.choice, 2);
    let later = decide(&seen, &known.choice, 2);
    assert!(later.head.number > 40 && snapshot(&later).zones[0].hosts.len() == 1, "{:?}", later.head);
    assert_eq!(decision.desired.len(), later.desired.len());
}

#[test]
fn a_number_that_a_node_serves_with_other_content_is_passed_by() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    seen.nodes.insert(
        "ns1".into(),
        NodeReport { snapshot: decision.head.number, digest: vec![7; 32], ..NodeReport::default() },
    );
    let after = decide(&seen, &decision.choice, 2);
    assert_eq!((after.head.number, after.head.term), (decision.head.number + 1, 2));
    assert_eq!(snapshot(&after).number, after.head.number);
    // Once is enough.
    assert_eq!(decide(&seen, &after.choice, 2).head, after.head);
}

/// The settled fleet with one DNS node, and the policy then names fra and iad only: sin shall be left.
fn narrowed() -> (Seen, Decision) {
    let mut seen = fleet();
    node(&mut seen, "ns1", "eu-central-1");
    seen.connected = seen.clusters.keys().cloned().collect();
    let decision = settled(&mut seen);
    serves(&mut seen, &decision);
    let policy = json!({
        "apiVersion": "isochrone.dev/v1alpha1", "kind": "RegionPolicy",
        "metadata": {"name": "everywhere-near", "namespace": "shop"},
        "spec": {"activeActive": {"replicas": "Divided"}, "clusters": {"matchExpressions": [
            {"key": lower::LABEL_CLUSTER, "operator": "NotIn", "values": ["sin"]}]}},
    });
    seen.policies.insert(AppId::new("shop", "everywhere-near"), object(policy));
    (seen, decision)
}

/// The DNS node takes the snapshot in.
fn serves(seen: &mut Seen, decision: &Decision) {
    let node = seen.nodes.get_mut("ns1").unwrap();
    (node.snapshot, node.digest) = (decision.head.number, decision.head.digest.clone());
}

fn sin() -> ClusterId {
    ClusterId::new("sin")
}

fn removes(decision: &Decision) -> bool {
    decision.desired[&sin()].apps[0].remove
}

fn targets(decision: &Decision) -> usize {
    snapshot(decision).zones[0].hosts[0].targets.len()
}

fn why(decision: &Decision) -> String {
    let worst = &decision.app_status[&shop()].worst;
    worst.iter().find(|pair| pair.cluster == "sin").map(|pair| pair.reason.clone()).unwrap_or_default()
}

#[test]
fn a_copy_leaves_the_answers_a_ttl_before_it_is_removed() {
    let (mut seen, before) = narrowed();
    seen.now_s = 1_000;
    let first = decide(&seen, &before.choice, 1);
    assert_eq!((targets(&first), removes(&first), why(&first).as_str()), (2, false, "NodesBehind"));
    assert!(first.head.number > before.head.number);
    assert_eq!(first.desired[&sin()].apps[0].render, before.desired[&sin()].apps[0].render, "it goes on as it is");
    // A hub that starts anew goes on where it was.
    serves(&mut seen, &first);
    let second = decide(&seen, &first.choice, 1);
    assert_eq!((removes(&second), why(&second).as_str()), (false, "AnswersHeld"));
    seen.now_s = 1_030;
    let third = decide(&seen, &second.choice, 1);
    assert!(!removes(&third), "a TTL of 30 s and the rest of a second");
    seen.now_s = 1_031;
    let fourth = decide(&seen, &third.choice, 1);
    assert!(removes(&fourth));
    assert_eq!(fourth.head, third.head, "answers are as they were");
    obey(&mut seen, &fourth);
    let last = decide(&seen, &fourth.choice, 1);
    assert_eq!(last.desired[&sin()].apps, []);
}

#[test]
fn a_copy_stays_until_another_one_is_ready_and_believed() {
    let (mut seen, before) = narrowed();
    let first = decide(&seen, &before.choice, 1);
    serves(&mut seen, &first);
    // The others fall silent, are not ready, or are down for the node: sin is the last healthy copy.
    let connected = std::mem::take(&mut seen.connected);
    seen.now_s = 1_000;
    let silent = decide(&seen, &first.choice, 1);
    assert_eq!((removes(&silent), why(&silent).as_str()), (false, "NoOtherCopy"));
    seen.connected = connected;
    let down = |cluster: &str| wire::Judged { cluster: cluster.into(), class: "down".into() };
    seen.nodes.get_mut("ns1").unwrap().judged = vec![down("fra"), down("iad")];
    let judged = decide(&seen, &silent.choice, 1);
    assert_eq!((removes(&judged), why(&judged).as_str()), (false, "NoOtherCopy"));
    seen.nodes.get_mut("ns1").unwrap().judged.clear();
    seen.now_s = 1_100;
    assert!(removes(&decide(&seen, &judged.choice, 1)), "the answers have run out meanwhile");
}

#[test]
fn a_copy_that_is_wanted_again_was_never_gone() {
    let (mut seen, before) = narrowed();
    let first = decide(&seen, &before.choice, 1);
    seen.policies = fleet().policies;
    let again = decide(&seen, &first.choice, 1);
    assert_eq!(targets(&again), 3);
    assert!(again.choice.apps[&shop()].clusters[&sin()].stays());
}

#[test]
fn a_policy_that_wants_no_cluster_at_all_leaves_the_copies_that_serve() {
    let (mut seen, before) = narrowed();
    let spec = &mut seen.policies.get_mut(&AppId::new("shop", "everywhere-near")).unwrap().spec;
    *spec = object(json!({"activeActive": {}, "clusters": {"matchLabels": {"env": "typo"}}}));
    let mut decision = before;
    for now_s in [1_000, 2_000, 3_000] {
        seen.now_s = now_s;
        decision = decide(&seen, &decision.choice, 1);
        serves(&mut seen, &decision);
    }
    assert_eq!((targets(&decision), removes(&decision), why(&decision).as_str()), (3, false, "NoOtherCopy"));
}

#[test]
fn a_forgotten_cluster_holds_nothing_up_and_is_not_chosen_again() {
    let mut seen = fleet();
    let decision = settled(&mut seen);
    seen.connected.clear();
    seen.apps.get_mut(&shop()).unwrap().metadata.deletion_timestamp = "2026-01-02T00:00:00Z".parse().ok().map(Time);
    let waiting = decide(&seen, &decision.choice, 1);
    obey(&mut seen, &waiting);
    seen.ledgers.insert(sin(), Ledger::default());
    let waiting = decide(&seen, &waiting.choice, 1);
    assert_eq!(waiting.release, [], "sin has not said so");
    let pair = &waiting.app_status[&shop()].worst[0];
    assert!(pair.message.contains("isochrone cluster forget sin"), "{pair:?}");
    // Either half alone changes nothing: an object deleted by mistake, or one made anew under a forgotten name.
    seen.forgotten.insert(sin());
    assert_eq!(decide(&seen, &waiting.choice, 1).release, []);
    let object = seen.clusters.remove(&sin());
    let done = decide(&seen, &waiting.choice, 1);
    assert_eq!(done.release, [shop()]);
    assert!(!done.choice.uids.contains_key(&sin()) && !done.desired.contains_key(&sin()));
    seen.forgotten.clear();
    assert_eq!(decide(&seen, &waiting.choice, 1).release, []);
    drop(object);
}

#[test]
fn a_hub_that_was_set_back_with_its_lease_asks_for_a_higher_term() {
    let mut seen = fleet();
    node(&mut seen, "ns1", "eu-central-1");
    let decision = settled(&mut seen);
    assert_eq!(decision.take_term, None);
    // A later leader numbered less than this one has by now, and the node obeyed it.
    let report = seen.nodes.get_mut("ns1").unwrap();
    (report.snapshot, report.term, report.obeyed) = (1, 6, 7);
    let refused = decide(&seen, &decision.choice, 2);
    assert_eq!(refused.take_term, Some(8));
    let obeyed = decide(&seen, &refused.choice, 8);
    assert_eq!((obeyed.take_term, obeyed.head.term), (None, 8), "numbered anew, so that the node takes it");
    assert_eq!(obeyed.desired[&sin()].term, 8);
}

#[test]
fn a_report_has_a_number_above_the_one_that_nodes_go_by() {
    let mut seen = fleet();
    node(&mut seen, "ns1", "eu-central-1");
    let decision = settled(&mut seen);
    let number = decision.report.number;
    let holds = |seen: &mut Seen, report, content: &[u8]| {
        let node = seen.nodes.get_mut("ns1").unwrap();
        (node.report, node.report_digest) = (report, content.to_vec());
    };
    holds(&mut seen, number, &decision.report.content());
    assert_eq!(decide(&seen, &decision.choice, 1).report, decision.report, "what it goes by is not said anew");
    // A hub that was set back: the node goes by a later report, or by another one of this number.
    for (held, content) in [(number + 5, decision.report.content()), (number, vec![0; 32]), (number, vec![0xff; 32])] {
        holds(&mut seen, held, &content);
        let after = decide(&seen, &decision.choice, 1);
        assert_eq!(after.report.number, held + 1);
        assert_eq!(decide(&seen, &after.choice, 1).report, after.report, "once is enough");
    }
}

#[test]
fn a_copy_that_is_wanted_again_joins_by_what_its_agent_says_from_then_on() {
    let (mut seen, before) = narrowed();
    seen.now_s = 1_000;
    let first = decide(&seen, &before.choice, 1);
    // It is ready there and in the others, at the epoch of the new placement.
    obey(&mut seen, &first);
    serves(&mut seen, &first);
    let second = decide(&seen, &first.choice, 1);
    seen.now_s = 2_000;
    let told = decide(&seen, &second.choice, 1);
    assert!(removes(&told));
    // Wanted again before anything is heard of the removal: the last word of its agent is of the old copy.
    seen.policies = fleet().policies;
    let again = decide(&seen, &told.choice, 1);
    assert!(!removes(&again));
    assert_eq!(targets(&again), 2);
    obey(&mut seen, &again);
    assert_eq!(targets(&decide(&seen, &again.choice, 1)), 3);
}
