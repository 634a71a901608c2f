//! What must hold for every query: no panic, no reply over its limit, and steering that equals a naive look-up in every
//! address of the scope it names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use api::snapshot::{Cluster, Host, NameServer, Record, Snapshot, Soa, Target, Zone};
use dns::answer::{Peer, REPLY_UDP, Scratch, Transport, answer};
use dns::explain::{ExplainError, Explanation};
use dns::locate::{Builtin, Locate};
use dns::view::{Identity, Tables, View};
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use policies::geo::{Coordinates, distance_km};
use policies::steering::Class;
use policies::time::Instant;
use proptest::prelude::*;

/// Address of the host in each cluster, and where it lies: nine cities.
const CLUSTERS: [(&str, f64, f64); 9] = [
    ("198.51.100.0", 50.11, 8.68),
    ("198.51.100.1", 38.95, -77.45),
    ("198.51.100.2", 1.35, 103.82),
    ("198.51.100.3", 51.51, -0.13),
    ("198.51.100.4", -23.55, -46.63),
    ("198.51.100.5", 35.68, 139.69),
    ("198.51.100.6", -26.2, 28.05),
    ("198.51.100.7", 37.34, -121.89),
    ("198.51.100.8", -33.87, 151.21),
];

fn snapshot() -> Snapshot {
    let cluster = |(index, (_, latitude, longitude)): (usize, &(&str, f64, f64))| Cluster {
        name: format!("c{index}"),
        region: format!("r{index}"),
        latitude: *latitude,
        longitude: *longitude,
        probe: None,
    };
    let target = |(index, (address, ..)): (usize, &(&str, f64, f64))| Target {
        cluster: index as u32,
        addresses: vec![(*address).to_owned()],
    };
    let record = |name: &str, kind: &str, value: &str| Record {
        name: name.into(),
        r#type: kind.into(),
        ttl_s: 300,
        value: value.into(),
    };
    let zone = Zone {
        origin: "e.test".into(),
        soa: Some(Soa { rname: "h.e.test".into(), minimum_s: 30, ..Soa::default() }),
        name_servers: vec![NameServer { name: "ns.e.test".into(), addresses: vec!["192.0.2.53".into()] }],
        ttl_s: 3600,
        records: vec![
            record("a.e.test", "CNAME", "b"),
            record("b.e.test", "CNAME", "a"),
            record("*.w.e.test", "CNAME", "s"),
            record("d.e.test", "NS", "ns.d"),
            record("ns.d.e.test", "A", "192.0.2.1"),
            record("t.e.test", "TXT", &format!("\"{}\"", "x".repeat(250))),
            record("t.e.test", "TXT", &format!("\"{}\"", "y".repeat(250))),
        ],
        hosts: vec![Host {
            name: "s.e.test".into(),
            app: "shop/web".into(),
            ttl_s: 30,
            tolerance_ms: 0,
            targets: CLUSTERS.iter().enumerate().map(target).collect(),
            ..Host::default()
        }],
    };
    Snapshot {
        term: 1,
        number: 17,
        clusters: CLUSTERS.iter().enumerate().map(cluster).collect(),
        zones: vec![zone],
        ..Snapshot::default()
    }
}

static TABLES: LazyLock<Arc<Tables>> =
    LazyLock::new(|| Arc::new(Tables::compile(&snapshot(), vec![0; 32], vec![]).expect("the snapshot")));

fn view(classes: &[(&str, Class)]) -> View {
    let classes: BTreeMap<String, Class> = classes.iter().map(|(name, class)| ((*name).to_owned(), *class)).collect();
    View::new(TABLES.clone(), &classes, Arc::new(Identity::new("node-1")))
}

fn peer(transport: Transport) -> Peer {
    let address: SocketAddr = "192.0.2.99:4242".parse().expect("address");
    Peer { addr: address, local: address, transport, now: Instant::ORIGIN }
}

fn explain(view: &View, host: &str, client: IpAddr) -> Result<Explanation, ExplainError> {
    dns::explain::explain(view, host, client, &BTreeMap::new())
}

/// The A query of the steered host for a client subnet.
fn steered_query(client: IpAddr) -> Vec<u8> {
    let mut query = b"\x12\x34\0\0\0\x01\0\0\0\0\0\x01\x01s\x01e\x04test\0\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0".to_vec();
    let (family, octets) = match client {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let length = octets.len() as u8;
    query.extend_from_slice(&[0, 8 + length, 0, 8, 0, 4 + length, 0, family, 8 * length, 0]);
    query.extend_from_slice(&octets);
    query
}

/// The first address that `client` gets, and the scope.
fn steer(view: &View, client: IpAddr) -> (IpAddr, u8) {
    let mut reply = [0; REPLY_UDP];
    let length = answer(view, &peer(Transport::Udp), &mut Scratch::default(), &steered_query(client), &mut reply);
    let message = Message::from_vec(&reply[..length]).expect("a reply");
    let RData::A(address) = &message.answers[0].data else { panic!("{message:?}") };
    let address = IpAddr::from(address.0);
    let edns = message.edns.expect("EDNS");
    let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) else { panic!("no subnet") };
    assert_eq!(subnet.addr(), client);
    (address, subnet.scope_prefix())
}

/// The nearest cluster that is not down, by great-circle distance from where the database says.
fn naive(client: IpAddr, down: &[usize]) -> Option<IpAddr> {
    let place = Builtin::get().locate(client)?.place.coordinates;
    let far = |index: usize| {
        let (_, latitude, longitude) = CLUSTERS[index];
        distance_km(place, Coordinates::new(latitude, longitude).expect("place"))
    };
    let nearest = (0..CLUSTERS.len()).filter(|index| !down.contains(index)).min_by(|a, b| far(*a).total_cmp(&far(*b)));
    nearest.map(|index| CLUSTERS[index].0.parse().expect("address"))
}

fn client() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
        // Where IPv6 is given out.
        1 => (0x2001_0000..0x2c10_0000_u32, any::<u128>())
            .prop_map(|(head, tail)| IpAddr::from(Ipv6Addr::from(u128::from(head) << 96 | tail >> 32))),
    ]
}

/// `client` with the bits behind `scope` taken from `bits`.
fn sibling(client: IpAddr, scope: u8, bits: u128) -> IpAddr {
    match client {
        IpAddr::V4(v4) => {
            let tail = u32::MAX.checked_shr(scope.into()).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & !tail | bits as u32 & tail).into()
        }
        IpAddr::V6(v6) => {
            let tail = u128::MAX.checked_shr(scope.into()).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & !tail | bits & tail).into()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn answers_are_the_nearest_and_hold_in_all_of_their_scope(
        client in client(),
        down in prop::collection::vec(0..CLUSTERS.len(), 0..3),
        others in prop::collection::vec(any::<u128>(), 8),
    ) {
        let names: Vec<String> = down.iter().map(|index| format!("c{index}")).collect();
        let classes: Vec<(&str, Class)> = names.iter().map(|name| (name.as_str(), Class::Down)).collect();
        let view = view(&classes);
        let (address, scope) = steer(&view, client);
        if let Some(expected) = naive(client, &down) {
            prop_assert_eq!(address, expected);
        }
        for bits in others {
            let other = sibling(client, scope, bits);
            prop_assert_eq!(steer(&view, other), (address, scope), "{} in /{} of {}", other, scope, client);
        }
        // What explain says is what was answered.
        let explained = explain(&view, "S.e.test.", client).expect("a host");
        prop_assert_eq!(explained.ipv4.clone(), vec![address]);
        let length = format!("/{scope}");
        prop_assert!(explained.prefix.ends_with(&length));
        prop_assert_eq!(explained.candidates.iter().filter(|candidate| candidate.kept).count(), 1);
        prop_assert_eq!(explained.candidates.len(), CLUSTERS.len());
    }

    #[test]
    fn no_bytes_make_it_panic_or_speak_out_of_turn(query in query(), tcp: bool, room in 0..2_000_usize) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut reply = vec![0; room];
        let length = answer(&view(&[]), &peer(transport), &mut Scratch::default(), &query, &mut reply);
        prop_assert!(length <= room);
        if !tcp {
            prop_assert!(length <= REPLY_UDP);
        }
        if query.len() < 12 || query[2] & 0x80 != 0 || room < 512 {
            prop_assert_eq!(length, 0);
        } else {
            prop_assert!(length >= 12);
            let reply = &reply[..length];
            prop_assert_eq!(&reply[..2], &query[..2]);
            prop_assert!(reply[2] & 0x80 != 0 && reply[3] & 0xf0 == 0);
            // Hickory reads it back, but for subnets of family zero.
            if let Ok(message) = Message::from_vec(reply) {
                prop_assert_eq!(message.queries.len(), usize::from(reply[5]));
                // Truncated means empty (but for OPT).
                if reply[2] & 0x02 != 0 {
                    prop_assert!(message.answers.is_empty() && message.authorities.is_empty());
                    prop_assert!(message.additionals.is_empty());
                }
            } else {
                prop_assert!(reply.windows(6).any(|option| option == [0, 8, 0, 4, 0, 0]), "{:02x?}", reply);
            }
        }
    }
}

/// Bytes from nowhere; bytes that are nearly a query; a query with a few bytes changed.
fn query() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        &b"\x01s\x01e\x04test\0"[..],
        b"\x01a\x01e\x04test\0",
        b"\x01x\x01w\x01e\x04test\0",
        b"\x01x\x01d\x01e\x04test\0",
        b"\x01t\x01e\x04test\0",
        b"\x01e\x04test\0",
        b"\0",
        b"\x02id\x06server\0",
    ];
    let types = prop_oneof![Just(1_u16), Just(28), Just(16), Just(2), Just(255), Just(43), any::<u16>()];
    let option = (prop_oneof![Just(3_u16), Just(8), Just(10), any::<u16>()], prop::collection::vec(any::<u8>(), 0..20));
    let edns = prop::option::of((
        any::<u16>(),
        prop_oneof![9 => Just(0_u8), 1 => any::<u8>()],
        prop::collection::vec(option, 0..3),
    ));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let near = (prop::sample::select(names.to_vec()), types, prop_oneof![4 => Just(1_u8), 1 => Just(3)], edns, changes);
    let near = near.prop_map(|(name, rtype, class, edns, changes)| {
        let mut query = vec![7, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
        query.extend_from_slice(name);
        query.extend_from_slice(&rtype.to_be_bytes());
        query.extend_from_slice(&[0, class]);
        if let Some((payload, version, options)) = edns {
            let options: Vec<u8> = options
                .iter()
                .flat_map(|(code, value)| {
                    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
                })
                .collect();
            query.extend_from_slice(&[0, 0, 41]);
            query.extend_from_slice(&payload.to_be_bytes());
            query.extend_from_slice(&[0, version, 0x80, 0]);
            query.extend_from_slice(&(options.len() as u16).to_be_bytes());
            query.extend_from_slice(&options);
        }
        for (index, byte) in changes {
            let at = index.index(query.len());
            query[at] = byte;
        }
        query
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..600), 4 => near]
}

#[test]
fn before_the_first_snapshot_the_server_says_so() {
    let view = View::new(Arc::new(Tables::default()), &BTreeMap::new(), Arc::new(Identity::new("node-1")));
    let mut reply = [0; REPLY_UDP];
    let query = steered_query("91.0.0.1".parse().expect("address"));
    let length = answer(&view, &peer(Transport::Udp), &mut Scratch::default(), &query, &mut reply);
    // SERVFAIL, so that the resolver asks another server, with extended error 14, Not Ready.
    assert_eq!(reply[3] & 0x0f, 2);
    assert!(reply[..length].windows(6).any(|option| option == [0, 15, 0, 2, 0, 14]));
}

#[test]
fn a_reply_that_no_message_can_carry_is_servfail() {
    let mut snapshot = snapshot();
    let value = |n: usize| format!("\"{n:0250}\"");
    snapshot.zones[0].records = (0..300)
        .map(|n| Record { name: "t.e.test".into(), r#type: "TXT".into(), ttl_s: 60, value: value(n) })
        .collect();
    let tables = Arc::new(Tables::compile(&snapshot, vec![0; 32], vec![]).expect("the snapshot"));
    let view = View::new(tables, &BTreeMap::new(), Arc::new(Identity::new("node-1")));
    let mut query = steered_query("91.0.0.1".parse().expect("address"));
    (query[13], query[23]) = (b't', 16);
    let mut reply = vec![0; 65_535];
    let length = answer(&view, &peer(Transport::Tcp), &mut Scratch::default(), &query, &mut reply);
    assert_eq!((reply[3] & 0x0f, reply[2] & 0x06, &reply[6..8]), (2, 0, &[0, 0][..]));
    assert!(length < 100);
}

#[test]
fn explain_names_place_reasons_and_evidence() {
    let view = view(&[("c0", Class::Suspect), ("c3", Class::Drained)]);
    let explained = explain(&view, "s.e.test", "91.0.0.1".parse().expect("address")).expect("a host");
    let location = explained.location.as_ref().expect("a place");
    assert_eq!((location.country.as_str(), explained.ttl_s, explained.snapshot), ("DE", 5, 17));
    let reasons: Vec<(&str, &str, &str)> =
        explained.candidates.iter().map(|c| (c.cluster.as_str(), c.class.as_str(), c.reason.as_str())).collect();
    assert_eq!(
        reasons[..3],
        [("c0", "suspect", "KeptWhileSuspect"), ("c3", "drained", "WorseClass"), ("c1", "healthy", "Chosen"),]
    );
    assert!(explained.candidates.windows(2).all(|pair| pair[0].distance_km <= pair[1].distance_km));
    let json = serde_json::to_value(&explained).expect("JSON");
    assert_eq!((&json["ttlS"], &json["ipv4"][1], &json["node"]), (&5.into(), &"198.51.100.0".into(), &"node-1".into()));

    let private = explain(&view, "s.e.test", "10.0.0.1".parse().expect("address")).expect("a host");
    assert!(private.location.is_none() && private.note.contains("private") && private.prefix == "10.0.0.0/8");
    let unknown = explain(&view, "s.e.test", "192.0.2.1".parse().expect("address")).expect("a host");
    assert!(unknown.note.contains("no database knows"));
    let error = explain(&view, "nobody.e.test", "10.0.0.1".parse().expect("address")).expect_err("no host");
    assert!(error.to_string().contains("nobody.e.test"));
}

/// Each contradiction refuses the snapshot, and the message says where it is and what to write.
#[test]
fn wrong_snapshots_say_where() {
    let refuse = |change: &dyn Fn(&mut Snapshot)| {
        let mut wrong = snapshot();
        change(&mut wrong);
        let error = Tables::compile(&wrong, vec![], vec![]).expect_err("a wrong snapshot");
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    };
    let record = |name: &'static str, kind: &'static str, value: &'static str| {
        let add = move |snapshot: &mut Snapshot| {
            let (name, kind, value) = (name.into(), kind.into(), value.into());
            snapshot.zones[0].records.push(Record { name, r#type: kind, ttl_s: 60, value });
        };
        refuse(&add)
    };
    let expect = |text: String, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    };
    expect(record("x.e.test", "A", "192.0.2"), &["snapshot 17", "zone e.test", "A record of x.e.test", "192.0.2"]);
    expect(record("x.e.test", "MX", "mail"), &["MX record of x.e.test"]);
    expect(record("x.e.test", "A", "192.0.2.1\ny 0 IN A 192.0.2.2"), &["A record of x.e.test"]);
    expect(record("x.e.test", "A", "192.0.2.1 192.0.2.2"), &["A record of x.e.test"]);
    expect(record("x.e.test", "TXT", "\"open"), &["TXT record of x.e.test"]);
    expect(record("x.e.test", "BOGUS", "1"), &["type BOGUS"]);
    expect(record("x.e.test", "SOA", "a b 1 2 3 4 5"), &["type SOA"]);
    expect(record("x.e.test", "OPT", ""), &["type OPT"]);
    expect(record("x.e.test", "TYPE65280", "\\# 3 aabb"), &["TYPE65280 record of x.e.test"]);
    expect(record("x.other.test", "A", "192.0.2.1"), &["x.other.test lies outside the zone"]);
    expect(record("x..e.test", "A", "192.0.2.1"), &["no DNS name"]);
    expect(record("a.e.test", "A", "192.0.2.1"), &["a.e.test has a CNAME and something else"]);
    expect(record("a.e.test", "CNAME", "c"), &["a.e.test has a CNAME and something else"]);
    expect(record("s.e.test", "A", "192.0.2.1"), &["s.e.test is steered"]);
    expect(record("s.e.test", "CNAME", "a"), &["s.e.test is steered"]);
    expect(refuse(&|s| s.zones[0].soa = None), &["zone e.test has no SOA"]);
    expect(refuse(&|s| s.zones[0].name_servers.clear()), &["zone e.test has no name server"]);
    expect(refuse(&|s| s.zones[0].name_servers[0].addresses[0] = "x".into()), &["\"x\" of ns.e.test"]);
    expect(refuse(&|s| s.zones[0].origin = String::new()), &["no DNS name"]);
    expect(
        refuse(&|s| {
            let zones = s.zones.clone();
            s.zones.extend(zones);
        }),
        &["zone e.test is there twice"],
    );
    expect(
        refuse(&|s| {
            let hosts = s.zones[0].hosts.clone();
            s.zones[0].hosts.extend(hosts);
        }),
        &["s.e.test is steered"],
    );
    expect(refuse(&|s| s.zones[0].hosts[0].targets[0].cluster = 99), &["s.e.test names cluster 99"]);
    expect(refuse(&|s| s.zones[0].hosts[0].targets[0].cluster = 1), &["s.e.test names cluster 1"]);
    expect(
        refuse(&|s| s.zones[0].hosts[0].targets[0].addresses[0] = "lb.example".into()),
        &["\"lb.example\" of host s.e.test"],
    );
    expect(refuse(&|s| s.clusters[0].latitude = f64::NAN), &["cluster c0", "-90 to 90"]);
}
