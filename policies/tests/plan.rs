//! Delivery plans: cases people meet, and what must hold for every cluster, against a naive one that performs them.

use std::collections::{BTreeMap, BTreeSet};

use policies::id::{Epoch, Term};
use policies::plan::{
    Action, Adopt, Gate, GroupKind, Intent, Listing, Mark, ObjectId, Offer, Order, PlanReport, Seen, SetRecord, State,
    Terms, Verdict, Wanted, admit, admit_epoch, admit_snapshot, plan, refuse_namespace, term_to_take,
};
use proptest::prelude::*;

const SAFE: Terms = Terms { cascade: false, adopt: Adopt::Never };
const CASCADE: Terms = Terms { cascade: true, adopt: Adopt::Never };

fn id(kind: &str, name: &str) -> ObjectId {
    let kind: GroupKind = kind.parse().unwrap();
    let cluster = ["Namespace", "CustomResourceDefinition", "ClusterRole"].contains(&kind.kind.as_str());
    ObjectId { kind, namespace: (!cluster).then(|| "shop".into()), name: name.into() }
}

fn wanted(kind: &str, name: &str, content: u8) -> Wanted {
    Wanted { id: id(kind, name), digest: [content; 32], defines: None }
}

fn ours(applied: Option<u8>) -> Seen {
    Seen { mark: Mark::Ours, applied: applied.map(|b| [b; 32]), ..Seen::default() }
}

fn foreign() -> Seen {
    Seen::default()
}

/// A state in which every kind of `objects` was listed and recorded.
fn state(objects: Vec<(ObjectId, Seen)>) -> State {
    let kinds: BTreeSet<GroupKind> = objects.iter().map(|(id, _)| id.kind.clone()).collect();
    let namespaces = objects.iter().filter_map(|(id, _)| id.namespace.clone()).collect();
    State {
        kinds: kinds.iter().map(|k| (k.clone(), Listing::Complete)).collect(),
        set: (!kinds.is_empty()).then_some(SetRecord { kinds, namespaces }),
        objects: objects.into_iter().collect(),
    }
}

fn names(actions: &[Action]) -> Vec<String> {
    let line = |a: &Action| match a {
        Action::Widen(r) => format!("widen {}", join(r)),
        Action::Apply { id, ours } => format!("{} {id}", if *ours { "apply" } else { "make" }),
        Action::AwaitEstablished { crds } => format!("await {}", crds.join(",")),
        Action::Prune { id } => format!("prune {id}"),
        Action::Narrow(r) => format!("narrow {}", join(r)),
        Action::Dissolve => "dissolve".into(),
    };
    actions.iter().map(line).collect()
}

fn join(record: &SetRecord) -> String {
    record.kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn what_is_needed_comes_first_and_custom_resources_wait_for_their_definition() {
    let mut crd = wanted("CustomResourceDefinition.apiextensions.k8s.io", "widgets.example.com", 1);
    crd.defines = Some("Widget.example.com".parse().unwrap());
    let list = [
        wanted("Widget.example.com", "w", 1),
        wanted("Ingress.networking.k8s.io", "web", 1),
        wanted("Deployment.apps", "web", 1),
        wanted("Service", "web", 1),
        wanted("ConfigMap", "web", 1),
        wanted("ServiceAccount", "web", 1),
        crd,
        wanted("Namespace", "extra", 1),
    ];
    let mut seen = State::default();
    for w in &list {
        let known = if w.id.kind.kind == "Widget" { Listing::NoSuchKind } else { Listing::Complete };
        seen.kinds.insert(w.id.kind.clone(), known);
    }
    let (actions, report) = plan(Intent::Run(&list), SAFE, &seen);
    assert_eq!(
        names(&actions)[1..],
        [
            "make Namespace extra",
            "make CustomResourceDefinition.apiextensions.k8s.io widgets.example.com",
            "make ServiceAccount shop/web",
            "make ConfigMap shop/web",
            "make Service shop/web",
            "make Deployment.apps shop/web",
            "make Ingress.networking.k8s.io shop/web",
            "await widgets.example.com",
            "make Widget.example.com shop/w",
        ]
    );
    assert!(matches!(&actions[0], Action::Widen(r) if r.kinds.len() == 8 && r.namespaces.contains("shop")));
    assert!(!report.settled());
}

#[test]
fn three_rounds_apply_prune_narrow() {
    let list = [wanted("ConfigMap", "a", 2)];
    let mut seen = state(vec![(id("ConfigMap", "a"), ours(Some(1))), (id("Secret", "old"), ours(Some(1)))]);
    let (actions, report) = plan(Intent::Run(&list), SAFE, &seen);
    assert_eq!(names(&actions), ["apply ConfigMap shop/a"]);
    assert_eq!(report.verdicts[&id("Secret", "old")], Verdict::Held);
    seen.objects.insert(id("ConfigMap", "a"), ours(Some(2)));
    let (actions, _) = plan(Intent::Run(&list), SAFE, &seen);
    assert_eq!(names(&actions), ["prune Secret shop/old"]);
    seen.objects.remove(&id("Secret", "old"));
    let (actions, _) = plan(Intent::Run(&list), SAFE, &seen);
    assert_eq!(names(&actions), ["narrow ConfigMap"]);
    seen.set.as_mut().unwrap().kinds.remove(&"Secret".parse().unwrap());
    let (actions, report) = plan(Intent::Run(&list), SAFE, &seen);
    assert_eq!(names(&actions), [""; 0]);
    assert!(report.settled());
}

#[test]
fn a_list_error_is_no_empty_set() {
    let mut seen = state(vec![(id("ConfigMap", "a"), ours(Some(1))), (id("Secret", "b"), ours(Some(1)))]);
    let kind: GroupKind = "Secret".parse().unwrap();
    seen.objects.remove(&id("Secret", "b"));
    for listing in [Some(Listing::Failed { error: "503".into() }), None] {
        match listing {
            Some(listing) => drop(seen.kinds.insert(kind.clone(), listing)),
            None => drop(seen.kinds.remove(&kind)),
        }
        let (actions, report) = plan(Intent::Remove, CASCADE, &seen);
        assert_eq!(names(&actions), [""; 0]);
        assert!(matches!(&report.held[..], [Gate::NotListed { kind: k, .. }] if *k == kind));
        assert!(!report.settled());
    }
    // A kind that the server does not know any more holds nothing.
    seen.kinds.insert(kind, Listing::NoSuchKind);
    assert_eq!(names(&plan(Intent::Remove, CASCADE, &seen).0), ["prune ConfigMap shop/a"]);
}

#[test]
fn foreign_objects_are_named_and_left() {
    let list = [wanted("ConfigMap", "a", 1), wanted("ConfigMap", "b", 1)];
    let other = Seen { mark: Mark::Other { set: "kro".into() }, ..Seen::default() };
    let seen = state(vec![(id("ConfigMap", "a"), foreign()), (id("ConfigMap", "b"), other)]);
    let (actions, report) = plan(Intent::Run(&list), CASCADE, &seen);
    assert_eq!(names(&actions), [""; 0]);
    assert_eq!(report.verdicts[&id("ConfigMap", "a")], Verdict::Foreign { set: String::new() });
    assert_eq!(report.verdicts[&id("ConfigMap", "b")], Verdict::Foreign { set: "kro".into() });
    // Removal of the app touches neither.
    assert_eq!(names(&plan(Intent::Remove, CASCADE, &seen).0), ["dissolve"]);
}

#[test]
fn data_goes_only_with_cascade_and_finalizers_are_waited_for() {
    let mut seen = state(vec![
        (id("PersistentVolumeClaim", "data"), ours(Some(1))),
        (id("Deployment.apps", "web"), Seen { deleting: true, ..ours(Some(1)) }),
    ]);
    let (actions, report) = plan(Intent::Remove, SAFE, &seen);
    assert_eq!(names(&actions), [""; 0], "the set stays as wide as its members");
    assert!(!report.settled());
    seen.objects.remove(&id("Deployment.apps", "web"));
    let (actions, report) = plan(Intent::Remove, SAFE, &seen);
    assert_eq!(names(&actions), ["narrow PersistentVolumeClaim"]);
    assert_eq!(report.verdicts[&id("PersistentVolumeClaim", "data")], Verdict::Retained);
    assert!(report.settled());
    assert_eq!(names(&plan(Intent::Remove, CASCADE, &seen).0), ["prune PersistentVolumeClaim shop/data"]);
}

#[test]
fn one_object_twice_is_an_error_of_the_render() {
    let list = [wanted("ConfigMap", "a", 1), wanted("ConfigMap", "a", 2)];
    let mut seen = State::default();
    seen.kinds.insert("ConfigMap".parse().unwrap(), Listing::Complete);
    let (actions, report) = plan(Intent::Run(&list), SAFE, &seen);
    assert_eq!(names(&actions), ["widen ConfigMap"]);
    assert_eq!(report.verdicts[&id("ConfigMap", "a")], Verdict::Duplicate);
}

#[test]
fn older_orders_are_refused() {
    let at = |term, number| Order { term: Term(term), number };
    assert_eq!(admit(at(2, 5), at(2, 5)), Ok(()));
    assert_eq!(admit(at(2, 5), at(3, 5)), Ok(()));
    assert_eq!(admit(at(2, 5), at(1, 9)).unwrap_err().code(), "StaleTerm");
    assert_eq!(admit(at(2, 5), at(3, 4)).unwrap_err().code(), "StaleNumber");
    assert_eq!(admit_epoch(Epoch(4), Epoch(3)).unwrap_err().code(), "StaleEpoch");
    assert_eq!(admit_epoch(Epoch(4), Epoch(4)), Ok(()));
    assert!(refuse_namespace("kube-system", "isochrone-system").is_some());
    assert!(refuse_namespace("isochrone-system", "isochrone-system").is_some());
    assert!(refuse_namespace("kubeshop", "isochrone-system").is_none());
}

/// Kinds of the generated worlds: two that are pruned freely, two that need `Cascade`.
const KINDS: [&str; 4] =
    ["ConfigMap", "Deployment.apps", "PersistentVolumeClaim", "CustomResourceDefinition.apiextensions.k8s.io"];

fn any_id() -> impl Strategy<Value = ObjectId> {
    (0..KINDS.len(), "[a-c]").prop_map(|(kind, name)| id(KINDS[kind], &name))
}

fn any_wanted() -> impl Strategy<Value = Vec<Wanted>> {
    let one = (any_id(), 0..3_u8);
    prop::collection::btree_map(any_id(), one, 0..8)
        .prop_map(|map| map.into_iter().map(|(id, (_, b))| Wanted { id, digest: [b; 32], defines: None }).collect())
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let mark = prop_oneof![
        3 => Just(Mark::Ours),
        1 => Just(Mark::None),
        1 => Just(Mark::Other { set: "other".into() }),
    ];
    (mark, prop::option::of((0..3_u8).prop_map(|b| [b; 32])), prop::bool::weighted(0.1))
        .prop_map(|(mark, applied, deleting)| Seen { mark, applied, deleting, ..Seen::default() })
}

/// A cluster that does what it is told, and fails where it is told to.
struct Naive {
    objects: BTreeMap<ObjectId, Seen>,
    set: Option<SetRecord>,
    unlistable: BTreeSet<GroupKind>,
    refuses: BTreeSet<ObjectId>,
}

impl Naive {
    /// What a lister sees: our objects of the recorded and wanted kinds, and what stands under wanted names.
    fn look(&self, wanted: &[Wanted]) -> State {
        let mut seen = State { set: self.set.clone(), ..State::default() };
        let recorded = self.set.iter().flat_map(|s| s.kinds.iter().cloned());
        for kind in recorded.chain(wanted.iter().map(|w| w.id.kind.clone())) {
            let failed = self.unlistable.contains(&kind);
            if !failed {
                let of_kind = self.objects.iter().filter(|(id, s)| id.kind == kind && s.mark == Mark::Ours);
                seen.objects.extend(of_kind.map(|(id, s)| (id.clone(), s.clone())));
            }
            let listing = if failed { Listing::Failed { error: "503".into() } } else { Listing::Complete };
            seen.kinds.insert(kind, listing);
        }
        for w in wanted {
            if let Some(found) = self.objects.get(&w.id) {
                seen.objects.insert(w.id.clone(), found.clone());
            }
        }
        seen
    }

    fn perform(&mut self, action: &Action, wanted: &[Wanted]) {
        match action {
            Action::Widen(r) | Action::Narrow(r) => self.set = Some(r.clone()),
            Action::Dissolve => self.set = None,
            Action::AwaitEstablished { .. } => {}
            Action::Apply { id, ours } => {
                assert_eq!(*ours, self.objects.get(id).is_some_and(|s| s.mark == Mark::Ours));
                assert!(*ours || !self.objects.contains_key(id), "took a foreign object");
                if !self.refuses.contains(id) {
                    let digest = wanted.iter().find(|w| w.id == *id).expect("an applied object was wanted").digest;
                    self.objects
                        .insert(id.clone(), Seen { mark: Mark::Ours, applied: Some(digest), ..Seen::default() });
                }
            }
            Action::Prune { id } => {
                let gone = self.objects.remove(id).expect("a pruned object was there");
                assert_eq!(gone.mark, Mark::Ours, "pruned a foreign object");
            }
        }
        // The record covers every member that a plan made or found, at every instant a crash could happen.
        let record = self.set.clone().unwrap_or_default();
        for (id, seen) in &self.objects {
            assert!(seen.mark != Mark::Ours || record.kinds.contains(&id.kind), "{id} is outside the record");
        }
    }

    fn run(&mut self, intent: Intent<'_>, wanted: &[Wanted], cascade: bool) -> PlanReport {
        let mut before = Vec::new();
        for _ in 0..5 {
            let (actions, report) = plan(intent, Terms { cascade, ..Terms::default() }, &self.look(wanted));
            // The same once more: what is left is refused for good.
            if actions.is_empty() || actions == before {
                return report;
            }
            for action in &actions {
                self.perform(action, wanted);
            }
            before = actions;
        }
        panic!("no fixed point after five rounds");
    }
}

fn needs_cascade(id: &ObjectId) -> bool {
    ["PersistentVolumeClaim", "CustomResourceDefinition"].contains(&id.kind.kind.as_str())
}

proptest! {
    #[test]
    fn the_cluster_ends_as_wanted_and_nothing_else_changes(
        wanted in any_wanted(),
        objects in prop::collection::btree_map(any_id(), any_seen(), 0..10),
        unlistable in prop::collection::btree_set((0..KINDS.len()).prop_map(|k| KINDS[k].parse::<GroupKind>().unwrap()), 0..2),
        refuses in prop::collection::btree_set(any_id(), 0..2),
        cascade: bool,
        remove: bool,
    ) {
        let kinds: BTreeSet<GroupKind> =
            objects.iter().filter(|(_, s)| s.mark == Mark::Ours).map(|(id, _)| id.kind.clone()).collect();
        let set = (!kinds.is_empty()).then_some(SetRecord { kinds: kinds.clone(), namespaces: BTreeSet::new() });
        let mut cluster = Naive { objects: objects.clone(), set, unlistable, refuses };
        let wanted = if remove { Vec::new() } else { wanted };
        let intent = if remove { Intent::Remove } else { Intent::Run(&wanted) };
        let report = cluster.run(intent, &wanted, cascade);

        let all_listed = kinds.iter().chain(wanted.iter().map(|w| &w.id.kind)).all(|k| !cluster.unlistable.contains(k));
        let mut all_applied = true;
        for w in &wanted {
            let before = objects.get(&w.id);
            let blocked = before.is_some_and(|s| s.mark != Mark::Ours || s.deleting);
            let same = before.is_some_and(|s| s.applied == Some(w.digest));
            let refused = cluster.refuses.contains(&w.id) && !same;
            all_applied &= !blocked && !refused;
            if blocked {
                prop_assert_eq!(cluster.objects.get(&w.id), before);
            } else if !refused {
                prop_assert_eq!(cluster.objects[&w.id].applied, Some(w.digest));
            }
        }
        for (id, before) in &objects {
            if wanted.iter().any(|w| w.id == *id) {
                continue;
            }
            let gone = before.mark == Mark::Ours && !before.deleting && all_listed && all_applied
                && (cascade || !needs_cascade(id));
            prop_assert_eq!(!cluster.objects.contains_key(id), gone, "{}", id);
        }
        let waits = objects.iter().any(|(_, s)| s.mark == Mark::Ours && s.deleting);
        prop_assert_eq!(report.settled(), all_listed && all_applied && !waits);
    }
}

#[test]
fn what_was_there_before_is_adopted_as_the_app_says_and_another_sets_never() {
    let list = [wanted("ConfigMap", "a", 1)];
    let there = |seen: Seen| state(vec![(id("ConfigMap", "a"), seen)]);
    let same = Seen { identical: true, ..Seen::default() };
    let going = Seen { deleting: true, ..Seen::default() };
    let other = Seen { mark: Mark::Other { set: "kro".into() }, identical: true, ..Seen::default() };
    for (adopt, seen, taken) in [
        (Adopt::Never, &same, false),
        (Adopt::IfIdentical, &foreign(), false),
        (Adopt::IfIdentical, &same, true),
        (Adopt::Always, &foreign(), true),
        (Adopt::Always, &going, false),
        (Adopt::Always, &other, false),
    ] {
        let terms = Terms { cascade: true, adopt };
        let (actions, report) = plan(Intent::Run(&list), terms, &there(seen.clone()));
        let expected: &[&str] = if taken { &["apply ConfigMap shop/a"] } else { &[] };
        assert_eq!(names(&actions), expected, "{adopt:?} {seen:?}");
        assert_eq!(report.verdicts[&list[0].id] == Verdict::Adopt, taken);
        // Whatever it says: what is not the set's is not removed with it.
        assert!(!names(&plan(Intent::Remove, terms, &there(seen.clone())).0).iter().any(|a| a.starts_with("prune")));
    }
}

proptest! {
    /// Whatever is offered in whatever order: what is served never goes back, neither in term nor in number, and a number
    /// never changes its content.
    #[test]
    fn served_snapshots_only_go_forward(offers in prop::collection::vec((0u64..4, 0u64..6, 0u8..3), 0..40)) {
        let (mut served, mut content) = (Order::default(), None);
        let mut seen: BTreeMap<u64, u8> = BTreeMap::new();
        for (term, number, bytes) in offers {
            let offered = Order { term: Term(term), number };
            let same = content == Some(bytes);
            let taken = admit_snapshot(served, offered, same);
            let fits = term >= served.term.0 && (number > served.number || (number == served.number && same));
            prop_assert_eq!(taken.is_ok(), fits, "{:?} after {:?}", offered, served);
            match taken {
                Ok(Offer::Newer) => {
                    prop_assert!(number > served.number);
                    prop_assert_eq!(*seen.entry(number).or_insert(bytes), bytes);
                    (served, content) = (offered, Some(bytes));
                }
                Ok(Offer::Same) => served.term = offered.term,
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_leader_that_was_set_back_takes_the_next_term_above_all_that_were_obeyed() {
    let take = |own, obeyed: &[u64]| term_to_take(Term(own), obeyed.iter().copied().map(Term)).map(|term| term.0);
    assert_eq!(take(3, &[]), None);
    assert_eq!(take(3, &[1, 3, 2]), None, "its own is not taken again: that is the usual start");
    assert_eq!(take(3, &[7, 4]), Some(8));
    assert_eq!(take(3, &[u64::MAX, 5, 3_000_000]), Some(6), "nobody can have led so often");
    assert_eq!(take(u64::MAX, &[u64::MAX]), None);
}
