use super::*;
use crate::registry::Registry;

fn change(revision: u64, at: i64) -> Change {
    let object = Object {
        namespace: "shop".to_owned(),
        name: format!("object-{revision}"),
        uid: String::new(),
        revision,
        labels: Vec::new(),
        fields: Vec::new(),
        emptied: serde_json::Map::new(),
        rest: Bytes::new(),
    };
    let time = Timestamp::from_second(at).unwrap();
    Change { revision, time, object: Arc::new(object), previous: None, deleted: false }
}

fn revisions(history: &History, after: u64) -> Option<Vec<u64>> {
    match history.after(after, None) {
        After::Gone => None,
        After::Changes(changes) => Some(changes.iter().map(|change| change.revision).collect()),
        After::Told(..) => panic!("told to nobody"),
    }
}

fn audience(version: &str, namespace: &str) -> Audience {
    let resource = Registry::built_in().find("autoscaling", version, "horizontalpodautoscalers").unwrap();
    Audience { resource: resource.clone(), namespace: namespace.to_owned() }
}

#[test]
fn old_changes_are_forgotten_when_there_are_others() {
    let history = History::new(3);
    assert_eq!(revisions(&history, 2), None);
    assert_eq!(revisions(&history, 3), Some(vec![]));
    let many = CHANGES_MIN as u64;
    for revision in 4..4 + many {
        history.record(change(revision, 0));
    }
    // However old, so many are kept.
    history.record(change(4 + many, 10_000));
    assert_eq!(revisions(&history, 3), None);
    assert_eq!(revisions(&history, 4).map(|left| left.len()), Some(CHANGES_MIN));
    history.compact(4 + many);
    assert_eq!(revisions(&history, 3 + many), None);
    assert_eq!(revisions(&history, 4 + many), Some(vec![]));
}

#[test]
fn what_was_told_is_for_the_same_audience_and_changes_alone() {
    let history = History::new(0);
    for revision in [5, 7] {
        history.record(change(revision, 0));
    }
    let all = audience("v2", "");
    let After::Changes(changes) = history.after(0, Some(&all)) else { panic!("nobody told anything") };
    history.tell(&all, &changes, &Bytes::from_static(b"5 and 7"));
    let told = |after, of: &Audience| match history.after(after, Some(of)) {
        After::Told(last, lines) => Some((last, lines)),
        After::Changes(_) | After::Gone => None,
    };
    let both = Some((7, Bytes::from_static(b"5 and 7")));
    assert_eq!(told(0, &all), both);
    assert_eq!(told(4, &all), both);
    // Less than that, nothing, or somebody else's.
    assert_eq!(told(5, &all), None);
    assert_eq!(told(7, &all), None);
    assert_eq!(told(0, &audience("v2", "shop")), None);
    assert_eq!(told(0, &audience("v1", "")), None);
    history.record(change(8, 0));
    assert_eq!(told(0, &all), None);
}

#[test]
fn what_was_told_goes_with_its_changes() {
    let history = History::new(0);
    history.record(change(1, 0));
    let all = audience("v2", "");
    let After::Changes(changes) = history.after(0, Some(&all)) else { panic!("nobody told anything") };
    let lines = Bytes::from(b"1".to_vec());
    history.tell(&all, &changes, &lines);
    assert!(!lines.is_unique());
    for revision in 2..=CHANGES_MIN as u64 + 1 {
        history.record(change(revision, 10_000));
    }
    assert!(lines.is_unique());
}
