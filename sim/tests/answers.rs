//! What the world's DNS nodes answer, held against the real store and the real answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::snapshot::{Cluster, Host, NameServer, Snapshot, Soa, Target, Zone};
use api::wire::{self, SnapshotHead};
use dns::explain::explain;
use dns::locate::{Builtin, Locate as _};
use dns::snapshot::Store;
use policies::id::ClusterId;
use policies::steering::Class;
use prost::Message as _;
use sim::serving::Serving;

const HOST: &str = "web.gslb.example.com";

fn snapshot(targets: &[u32]) -> (SnapshotHead, Vec<u8>) {
    let (term, number) = (1, 1);
    let places = [("fra", 50.11, 8.68), ("gru", -23.55, -46.63), ("iad", 38.95, -77.45), ("sin", 1.35, 103.82)];
    let cluster = |(name, latitude, longitude): (&str, f64, f64)| Cluster {
        name: name.into(),
        region: name.into(),
        latitude,
        longitude,
        ..Cluster::default()
    };
    let address = |cluster: u32| vec![format!("192.0.2.{cluster}")];
    let host = Host {
        name: HOST.into(),
        app: "shop/web".into(),
        ttl_s: 30,
        tolerance_ms: 5,
        targets: targets.iter().map(|c| Target { cluster: *c, addresses: address(*c) }).collect(),
        ..Host::default()
    };
    let zone = Zone {
        origin: "gslb.example.com".into(),
        soa: Some(Soa { rname: "hostmaster.gslb.example.com".into(), ..Soa::default() }),
        name_servers: vec![NameServer { name: "ns1.gslb.example.com".into(), addresses: vec!["192.0.2.53".into()] }],
        ttl_s: 60,
        records: vec![],
        hosts: vec![host],
    };
    let snapshot =
        Snapshot { term, number, clusters: places.map(cluster).to_vec(), zones: vec![zone], ..Snapshot::default() };
    let bytes = snapshot.encode_to_vec();
    (SnapshotHead { term, number, digest: wire::digest(&bytes) }, bytes)
}

#[test]
fn answers_are_the_same_under_every_state_of_health() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = Store::open(directory.path(), "ns");
    let mut serving = Serving::default();
    let (head, bytes) = snapshot(&[0, 1, 2, 3]);
    assert!(store.offer(&head, &bytes).is_ok());
    assert!(serving.offer(&head, &bytes).is_ok_and(|taken| taken));
    let all = [Class::Healthy, Class::Suspect, Class::Down, Class::Drained];
    let names = ["fra", "gru", "iad", "sin"];
    let clients: [IpAddr; 3] = ["193.0.6.139", "200.160.2.3", "1.1.1.1"].map(|text| text.parse().expect("an address"));
    for state in 0..256_usize {
        let class = |cluster: usize| all[(state >> (2 * cluster)) & 3];
        store.set_classes(names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), class(i))).collect());
        for client in clients {
            let place = Builtin::get().locate(client).expect("a country").place.coordinates;
            let real = explain(&store.view(), HOST, client, &BTreeMap::new()).expect("a host");
            let ours = serving
                .answer(HOST, place, |id| {
                    let index = names.iter().position(|name| ClusterId::new(*name) == *id);
                    index.map(class).unwrap_or_default()
                })
                .expect("a snapshot");
            let addresses = ours.iter().map(|id| {
                let index = names.iter().position(|name| ClusterId::new(*name) == *id).expect("a cluster");
                IpAddr::from([192, 0, 2, index as u8])
            });
            assert_eq!(real.ipv4, addresses.collect::<Vec<_>>(), "state {state}, client {client}");
        }
    }
}
