use super::*;
use crate::locate::fixture::{database, nested};

fn snapshot(term: u64, number: u64) -> Snapshot {
    let text = format!("version {number}");
    Snapshot {
        term,
        number,
        clusters: vec![api::snapshot::Cluster {
            name: "fra".into(),
            region: "eu".into(),
            latitude: 50.1,
            longitude: 8.7,
            probe: None,
        }],
        zones: vec![api::snapshot::Zone {
            origin: "example.test".into(),
            soa: Some(api::snapshot::Soa { rname: "hostmaster.example.test".into(), ..Default::default() }),
            name_servers: vec![api::snapshot::NameServer { name: "ns.example.test".into(), addresses: vec![] }],
            ttl_s: 60,
            records: vec![api::snapshot::Record {
                name: "example.test".into(),
                r#type: "TXT".into(),
                ttl_s: 60,
                value: format!("\"{text}\""),
            }],
            hosts: vec![],
        }],
        ..Snapshot::default()
    }
}

fn offer(store: &Store, snapshot: &Snapshot) -> Result<Accepted, Refusal> {
    let bytes = snapshot.encode_to_vec();
    let head = SnapshotHead { term: snapshot.term, number: snapshot.number, digest: wire::digest(&bytes) };
    store.offer(&head, &bytes)
}

fn serving(store: &Store) -> (u64, u64) {
    let view = store.view();
    (view.tables().term, view.tables().number)
}

#[test]
fn newer_ones_are_served_and_survive_without_a_hub() {
    let directory = tempfile::tempdir().unwrap();
    let (store, errors) = Store::open(directory.path(), "node-1");
    assert!(errors.is_empty() && serving(&store) == (0, 0));
    for number in 1..=3 {
        assert!(matches!(offer(&store, &snapshot(1, number)), Ok(Accepted::Serving { unsaved: None })));
    }
    assert!(matches!(offer(&store, &snapshot(1, 3)), Ok(Accepted::Unchanged)));
    drop(store);
    let (store, errors) = Store::open(directory.path(), "node-1");
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(serving(&store), (1, 3));
    let report = store.report();
    assert_eq!((report.snapshot, report.term, report.digest), (3, 1, wire::digest(&snapshot(1, 3).encode_to_vec())));
}

#[test]
fn older_and_damaged_ones_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), "node-1");
    let _ = offer(&store, &snapshot(5, 10)).unwrap();
    let refused = |snapshot: &Snapshot| offer(&store, snapshot).unwrap_err().to_string();
    assert!(refused(&snapshot(4, 11)).contains("of term 4; this node has obeyed term 5"));
    assert!(refused(&snapshot(5, 9)).contains("not newer than 10"));
    // The same number with other content, even from a later leader.
    let mut other = snapshot(6, 10);
    other.zones.clear();
    assert!(refused(&other).contains("not newer than 10"));
    // That leader was not obeyed.
    assert_eq!(store.report().term, 5);

    let bytes = snapshot(5, 11).encode_to_vec();
    let head = SnapshotHead { term: 5, number: 11, digest: wire::digest(b"other") };
    assert!(store.offer(&head, &bytes).unwrap_err().to_string().contains("digest"));
    let head = SnapshotHead { term: 5, number: 12, digest: wire::digest(&bytes) };
    assert!(store.offer(&head, &bytes).unwrap_err().to_string().contains("says of itself that it is 11"));
    let head = SnapshotHead { term: 5, number: 12, digest: wire::digest(b"\xff\xff") };
    assert!(store.offer(&head, b"\xff\xff").unwrap_err().to_string().contains("does not decode"));

    let mut wrong = snapshot(5, 11);
    wrong.zones[0].records[0].r#type = "MX".into();
    let _ = offer(&store, &wrong).unwrap_err();
    let report = store.report();
    assert!(report.refused.contains("example.test") && report.refused.contains("MX"), "{}", report.refused);
    assert_eq!((serving(&store), report.snapshot), ((5, 10), 10));
    // The next good one clears the reason.
    let _ = offer(&store, &snapshot(5, 11)).unwrap();
    assert_eq!(store.report().refused, "");
}

#[test]
fn a_damaged_file_is_reported_and_the_one_before_it_served() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), "node-1");
    let _ = (offer(&store, &snapshot(1, 1)).unwrap(), offer(&store, &snapshot(1, 2)).unwrap());
    let current = directory.path().join(CURRENT);
    let mut bytes = fs::read(&current).unwrap();
    bytes[60] ^= 1;
    fs::write(&current, &bytes).unwrap();
    let (store, errors) = Store::open(directory.path(), "node-1");
    assert_eq!(serving(&store), (1, 1));
    assert!(errors[0].to_string().contains("snapshot is damaged: its digest differs"), "{errors:?}");
    // The good one before it is not given up for the damaged one.
    let _ = offer(&store, &snapshot(1, 2)).unwrap();
    fs::write(&current, b"ISOSNAP1").unwrap();
    assert_eq!(serving(&Store::open(directory.path(), "node-1").0), (1, 1));
    for garbage in [&b""[..], b"ISOSNAP1", b"something else"] {
        fs::write(&current, garbage).unwrap();
        fs::write(directory.path().join(PREVIOUS), garbage).unwrap();
        let (store, errors) = Store::open(directory.path(), "node-1");
        assert_eq!((serving(&store), errors.len()), ((0, 0), 2));
        // It serves as soon as the hub is there.
        let _ = offer(&store, &snapshot(1, 2)).unwrap();
    }
}

#[test]
fn a_disk_that_cannot_be_written_does_not_stop_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path().join("state"), "node-1");
    let _ = offer(&store, &snapshot(1, 1)).unwrap();
    // A file where the directory was: nothing can be written below it, whoever runs this.
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    fs::write(directory.path().join("state"), b"").unwrap();
    let accepted = offer(&store, &snapshot(1, 2)).unwrap();
    assert!(
        matches!(&accepted, Accepted::Serving { unsaved: Some(error) } if error.to_string().contains("snapshot")),
        "{accepted:?}"
    );
    assert_eq!(serving(&store), (1, 2));
    assert!(store.save_again().is_err());
    // Once it can be written, it is, and once only.
    fs::remove_file(directory.path().join("state")).unwrap();
    fs::create_dir_all(directory.path().join("state/geo")).unwrap();
    assert!(store.save_again().unwrap() && !store.save_again().unwrap());
    assert_eq!(serving(&Store::open(directory.path().join("state"), "node-1").0), (1, 2));
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    fs::write(directory.path().join("state"), b"").unwrap();
    let (store, errors) = Store::open(directory.path().join("state"), "node-1");
    assert!(!errors.is_empty());
    let _ = offer(&store, &snapshot(1, 3)).unwrap();
    assert_eq!(serving(&store), (1, 3));
}

#[test]
fn geo_databases_come_first_and_go_with_the_last_snapshot_that_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), "node-1");
    let geo = database(4, 24, &[("91.0.0.0/8", nested("SG", "Singapore", 1.3, 103.8))]);
    let digest = wire::digest(&geo);
    let mut named = snapshot(1, 1);
    named.geo.push(digest.clone());
    let missing = offer(&store, &named).unwrap_err();
    assert!(matches!(&missing, Refusal::MissingGeo { missing, .. } if *missing == [digest.clone()]), "{missing}");
    assert!(store.put_geo(&digest, b"other").unwrap_err().to_string().contains("digest"));
    store.put_geo(&digest, &geo).unwrap();
    assert!(store.missing_geo(&named).is_empty());
    let _ = offer(&store, &named).unwrap();

    // A database that is none is refused by name; what is served stays.
    let mut wrong = snapshot(1, 2);
    wrong.geo.push(wire::digest(b"\xff"));
    store.put_geo(&wrong.geo[0], b"\xff").unwrap();
    let refused = offer(&store, &wrong).unwrap_err();
    assert!(chain(&refused).contains("not of MaxMind's format"), "{}", chain(&refused));
    assert_eq!(serving(&store), (1, 1));

    // After a restart with the database gone, the answers are coarser, and still there.
    let path = geo_path(directory.path(), &digest);
    fs::rename(&path, directory.path().join("away")).unwrap();
    let (without, errors) = Store::open(directory.path(), "node-1");
    assert!(errors.is_empty() && serving(&without) == (1, 1));
    fs::rename(directory.path().join("away"), &path).unwrap();

    let _ = (offer(&store, &snapshot(1, 3)).unwrap(), path.is_file().then_some(()).unwrap());
    let _ = offer(&store, &snapshot(1, 4)).unwrap();
    assert!(!path.exists());
}

/// A kernel that has no room left: `/dev/full` takes nothing.
#[test]
fn a_full_disk_says_so_and_keeps_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), "node-1");
    let _ = offer(&store, &snapshot(1, 1)).unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("snapshot.new")).unwrap();
    let Accepted::Serving { unsaved: Some(error) } = offer(&store, &snapshot(1, 2)).unwrap() else { panic!("saved") };
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().starts_with("write ") && cause.contains("No space left"), "{error}: {cause}");
    assert_eq!(serving(&store), (1, 2));
    assert_eq!(serving(&Store::open(directory.path(), "node-1").0), (1, 1));
    assert!(store.save_again().unwrap());
    assert_eq!(serving(&Store::open(directory.path(), "node-1").0), (1, 2));
}

#[test]
fn a_damaged_database_makes_room_for_a_whole_one() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), "node-1");
    let geo = database(4, 24, &[("91.0.0.0/8", nested("SG", "Singapore", 1.3, 103.8))]);
    let digest = wire::digest(&geo);
    let named = |number| Snapshot { geo: vec![digest.clone()], ..snapshot(1, number) };
    store.put_geo(&digest, &geo).unwrap();
    let _ = offer(&store, &named(1)).unwrap();
    for damaged in [&b"none"[..], b"\xff", &geo[..geo.len() / 2]] {
        fs::write(geo_path(directory.path(), &digest), damaged).unwrap();
        let (store, errors) = Store::open(directory.path(), "node-1");
        assert!(errors.is_empty() && serving(&store).1 > 0, "{errors:?}");
        // The next one is not refused for it: the node is told what to fetch.
        let missing = offer(&store, &named(9)).unwrap_err();
        assert!(matches!(&missing, Refusal::MissingGeo { missing, .. } if *missing == [digest.clone()]), "{missing}");
        assert_eq!(missing.to_string(), "snapshot 9 needs 1 geo databases that are not here yet");
    }
    let (store, _) = Store::open(directory.path(), "node-1");
    store.put_geo(&digest, &geo).unwrap();
    let _ = offer(&store, &named(9)).unwrap();
    assert_eq!(serving(&store), (1, 9));
}

#[test]
fn classes_outlive_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), "node-1");
    store.set_classes(BTreeMap::from([("fra".to_owned(), Class::Down), ("gone".to_owned(), Class::Down)]));
    let _ = offer(&store, &snapshot(1, 1)).unwrap();
    assert_eq!(store.view().class(0), Class::Down);
    store.set_classes(BTreeMap::new());
    assert_eq!(store.view().class(0), Class::Healthy);
}
