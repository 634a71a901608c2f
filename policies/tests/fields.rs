//! Which fields are left to others, and contests against a model that keeps the whole history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policies::plan::fields::{Contest, Ignore, LEFT, REPLICAS, TAKEN_BACK, Taken, WITHIN, Why, left};
use policies::plan::{GroupKind, ObjectId};
use policies::time::Instant;
use proptest::prelude::*;

fn id(name: &str) -> ObjectId {
    ObjectId { kind: GroupKind::new("apps", "Deployment"), namespace: Some("shop".into()), name: name.into() }
}

fn taken(pointer: &str, manager: &str) -> Taken {
    Taken { pointer: pointer.into(), manager: manager.into() }
}

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

const IMAGE: &str = "/spec/template/spec/containers/0/image";

/// What is left of an object that wants replicas, an image and an annotation.
fn left_of(
    name: &str,
    taken: &[Taken],
    autoscaled: &[&str],
    ignores: &[Ignore],
    contest: &Contest,
) -> Vec<(String, Why)> {
    let wanted = [REPLICAS, IMAGE, "/metadata/annotations/a"].map(str::to_owned).into();
    let autoscaled: BTreeSet<ObjectId> = autoscaled.iter().map(|name| id(name)).collect();
    left(&id(name), &wanted, taken, &autoscaled, ignores, contest, at(100)).into_iter().collect()
}

#[test]
fn autoscalers_and_what_the_app_ignores_have_their_fields() {
    let none = Contest::default();
    assert_eq!(left_of("web", &[taken(IMAGE, "kubectl")], &["other"], &[], &none), []);
    assert_eq!(left_of("web", &[], &["web"], &[], &none), [(REPLICAS.to_owned(), Why::Autoscaler)]);
    let ignore = |name: Option<&str>, pointer: &str| Ignore {
        kind: GroupKind::new("apps", "Deployment"),
        name: name.map(str::to_owned),
        pointers: vec![pointer.to_owned()],
        managers: vec!["injector".to_owned()],
    };
    // A pointer covers what is below it, not what merely begins with its letters.
    let all = [ignore(None, "/spec/template"), ignore(None, "/metadata/annot"), ignore(Some("api"), "/spec")];
    assert_eq!(left_of("web", &[], &[], &all, &none), [(IMAGE.to_owned(), Why::Ignored)]);
    assert_eq!(left_of("api", &[], &[], &all, &none).len(), 2);
    let theirs = [taken("/metadata/annotations/a", "injector"), taken(REPLICAS, "kubectl")];
    assert_eq!(left_of("web", &theirs, &[], &all[1..2], &none), [("/metadata/annotations/a".to_owned(), Why::Ignored)]);
    let other_kind = Ignore { kind: GroupKind::new("apps", "StatefulSet"), ..ignore(None, "/spec") };
    assert_eq!(left_of("web", &[], &[], &[other_kind], &none), []);
}

#[test]
fn a_field_taken_five_times_is_left_with_its_takers_name() {
    let mut contest = Contest::default();
    for round in 1..=TAKEN_BACK as u64 {
        assert_eq!(left_of("web", &[], &[], &[], &contest), [], "round {round}");
        contest.handle_taken_back(at(10 * round), &id("web"), &[taken(IMAGE, "updater")]);
    }
    let why = Why::Contested { manager: "updater".into() };
    assert_eq!(left_of("web", &[], &[], &[], &contest), [(IMAGE.to_owned(), why)]);
    assert_eq!(left_of("api", &[], &[], &[], &contest), [], "another object");
}

proptest! {
    /// The model keeps every time for ever, and counts.
    #[test]
    fn contests_are_as_the_whole_history_says(
        steps in prop::collection::vec((0u64..400, 0usize..2, 0usize..2, any::<bool>()), 1..60),
    ) {
        let names = ["web", "api"];
        let fields = [IMAGE, REPLICAS];
        let mut contest = Contest::default();
        let mut history: BTreeMap<(usize, usize), Vec<Instant>> = BTreeMap::new();
        let mut seconds = 0;
        for (pause, name, field, long) in steps {
            seconds += if long { pause * 10 } else { pause };
            let now = at(seconds);
            contest.handle_taken_back(now, &id(names[name]), &[taken(fields[field], "m")]);
            history.entry((name, field)).or_default().push(now);
            for (name, field) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let times = history.get(&(name, field)).cloned().unwrap_or_default();
                let recent = times.len() >= TAKEN_BACK && {
                    let last = times[times.len() - 1];
                    // A field that was quiet for the whole of LEFT begins anew.
                    let run = times.windows(2).rev().take(TAKEN_BACK - 1).all(|pair| pair[1].since(pair[0]) < LEFT);
                    run && last.since(times[times.len() - TAKEN_BACK]) <= WITHIN && now.since(last) < LEFT
                };
                prop_assert_eq!(contest.contested(now, &id(names[name]), fields[field]).is_some(), recent);
            }
        }
    }
}
