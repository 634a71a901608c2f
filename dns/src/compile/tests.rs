use std::net::{Ipv4Addr, Ipv6Addr};

use policies::geo::distance_km;
use proptest::prelude::*;

use super::*;
use crate::locate::{Builtin, Country, Location, Range, Stack};

fn at(latitude: f64, longitude: f64) -> Coordinates {
    Coordinates::new(latitude, longitude).unwrap()
}

fn world() -> Vec<(Coordinates, u64)> {
    Builtin::get().centres().iter().map(|centre| (centre.place.coordinates, centre.people)).collect()
}

/// Frankfurt, Virginia, Singapore.
fn three() -> Vec<Coordinates> {
    vec![at(50.11, 8.68), at(38.95, -77.45), at(1.35, 103.82)]
}

fn set(clusters: &[u16], tolerance_ms: u64) -> TargetSet {
    TargetSet { clusters: clusters.to_vec(), tolerance: Duration::from_millis(tolerance_ms) }
}

fn order(found: Found<'_>) -> Vec<u16> {
    found.ranking.iter().map(|entry| entry.cluster).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_built_in_table_compiles_and_steers() {
    let builtin = Stack::new().below(Builtin::get());
    let sets = [set(&[0, 1, 2], 15), set(&[1, 2], 15)];
    let tables = compile(&builtin, &world(), &three(), &sets).unwrap();
    assert_eq!(order(tables[0].find(ip("91.0.0.1")))[0], 0);
    assert_eq!(order(tables[0].find(ip("73.0.0.1")))[0], 1);
    assert_eq!(order(tables[0].find(ip("::ffff:165.21.0.1")))[0], 2);
    assert_eq!(order(tables[1].find(ip("2003::1"))), [1, 2]);
    let special = tables[0].find(ip("10.1.2.3"));
    assert!(special.special && special.scope == 8, "{special:?}");
    // Documentation addresses are unknown, not special: their holder may be anybody.
    assert!(!tables[0].find(ip("192.0.2.1")).special);
    assert_eq!(order(tables[0].find(ip("192.0.2.1"))), order(special));
    // No set, no table; no cluster, empty rankings.
    assert!(compile(&builtin, &world(), &three(), &[]).unwrap().is_empty());
    assert!(compile(&builtin, &world(), &three(), &[set(&[], 0)]).unwrap()[0].find(ip("1.1.1.1")).ranking.is_empty());
}

#[test]
fn what_a_database_knows_is_not_special() {
    struct Office;
    impl Locate for Office {
        fn locate(&self, _: IpAddr) -> Option<Location> {
            None
        }
        fn ipv4(&self) -> Ranges<'_, u32> {
            let place = Place { coordinates: at(1.0, 103.0), country: Country::UNKNOWN };
            Box::new(std::iter::once(Ok(Range { first: 0x0a01_0000, last: 0x0a01_ffff, place })))
        }
        fn ipv6(&self) -> Ranges<'_, u128> {
            Box::new(std::iter::empty())
        }
    }
    let tables = compile(&Office, &world(), &three(), &[set(&[0, 1, 2], 0)]).unwrap();
    let office = tables[0].find(ip("10.1.2.3"));
    assert_eq!((order(office)[0], office.scope, office.special), (2, 16, false));
    let other = tables[0].find(ip("10.2.2.3"));
    assert_eq!((other.scope, other.special), (15, true));
    // Mapped IPv4 belongs to the other table: no scope of IPv6 covers it.
    assert!(tables[0].find(ip("::fffe:1.2.3.4")).scope > 80);
    assert_eq!(tables[0].find(ip("2001:db8::1")).scope, 3);
    assert_eq!(tables[0].find(ip("fe80::1")).scope, 10);
}

/// Disjoint ranges in a corner of IPv4 and IPv6, each at one of a few places.
#[derive(Clone, Debug)]
struct Corner(Vec<(u32, u32, Coordinates)>);

const CORNER: u32 = 0x0500_0000;

impl Locate for Corner {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        let IpAddr::V4(v4) = address else { return None };
        let bits = u32::from(v4);
        let (_, _, coordinates) = self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&bits))?;
        let prefix = ipnet::IpNet::new(address, 32).ok()?;
        Some(Location { place: Place { coordinates: *coordinates, country: Country::UNKNOWN }, prefix })
    }

    fn ipv4(&self) -> Ranges<'_, u32> {
        Box::new(self.0.iter().map(|(first, last, coordinates)| {
            let place = Place { coordinates: *coordinates, country: Country::UNKNOWN };
            Ok(Range { first: *first, last: *last, place })
        }))
    }

    fn ipv6(&self) -> Ranges<'_, u128> {
        let high = |bits: u32| u128::from(bits) << 96;
        Box::new(self.0.iter().map(move |(first, last, coordinates)| {
            let place = Place { coordinates: *coordinates, country: Country::UNKNOWN };
            Ok(Range { first: high(*first), last: high(*last) | (u128::MAX >> 32), place })
        }))
    }
}

fn corner() -> impl Strategy<Value = Corner> {
    let places = [at(50.0, 9.0), at(40.0, -80.0), at(2.0, 103.0), at(48.0, 2.0), at(-30.0, 20.0)];
    prop::collection::vec((0..6_u32, 1..40_u32, 0..places.len()), 0..30).prop_map(move |pieces| {
        let mut next = CORNER;
        let mut piece = |(gap, length, place): (u32, u32, usize)| {
            let first = next + gap;
            next = first + length;
            (first, next - 1, places[place])
        };
        Corner(pieces.into_iter().map(&mut piece).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_address_has_its_naive_ranking_and_its_scope_is_exact(
        corner in corner(),
        tolerance_ms in 0..120_u64,
        offsets in prop::collection::vec(0..1400_u32, 1..20),
    ) {
        let clusters: Vec<(u16, Coordinates)> = (0..).zip(three()).collect();
        let tolerance = Duration::from_millis(tolerance_ms);
        let anybody = rank_unlocated(&world(), &clusters, tolerance);
        let naive = |bits: u32| match corner.locate(Ipv4Addr::from(bits).into()) {
            Some(location) => rank(location.place.coordinates, &clusters, tolerance),
            None => anybody.clone(),
        };
        let tables = compile(&corner, &world(), &three(), &[set(&[0, 1, 2], tolerance_ms)]).unwrap();
        for offset in offsets {
            let bits = CORNER + offset;
            let found = tables[0].find(Ipv4Addr::from(bits).into());
            let expected = naive(bits);
            prop_assert_eq!(found.ranking, &expected[..]);
            // Nearest by distance, in the plain sense.
            if let Some(location) = corner.locate(Ipv4Addr::from(bits).into()) {
                let far = |cluster: u16| distance_km(location.place.coordinates, three()[usize::from(cluster)]);
                prop_assert!(found.ranking.iter().all(|entry| far(entry.cluster) >= far(found.ranking[0].cluster)));
            }
            // Everything in the scope is equal; in its parent, something is not.
            let equal_within = |length: u8| {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let (first, last) = (bits & mask, bits | !mask);
                // Beyond the corner all is unknown, so its edges stand for it.
                let (low, high) = (first.max(CORNER - 1), last.min(CORNER + 2000));
                (low..=high).all(|other| naive(other) == expected)
            };
            if found.scope >= 20 {
                prop_assert!(equal_within(found.scope));
            }
            if found.scope > 20 {
                prop_assert!(!equal_within(found.scope - 1));
            }
            // IPv6 has the same in its first 32 bits.
            let v6 = tables[0].find(Ipv6Addr::from(u128::from(bits) << 96 | 7).into());
            prop_assert_eq!(v6.ranking, found.ranking);
            if found.scope > 20 {
                prop_assert_eq!(v6.scope, found.scope);
            }
        }
    }

    #[test]
    fn heads_change_nothing(starts in prop::collection::btree_set(any::<u32>(), 5000), probes in prop::collection::vec(any::<u32>(), 200)) {
        let mut table = Table::default();
        table.push(0_u32, 0);
        for (number, start) in starts.iter().enumerate().filter(|(_, start)| **start > 0) {
            table.push(*start, number as u32 + 1);
        }
        let before: Vec<_> = probes.iter().chain(&starts).map(|probe| table.find(*probe)).collect();
        table.finish();
        prop_assert!(!table.heads.is_empty());
        let after: Vec<_> = probes.iter().chain(&starts).map(|probe| table.find(*probe)).collect();
        prop_assert_eq!(before, after);
    }
}

/// Time and memory with a real city database: `DNS_CITY_DATABASE=v4.mmdb:v6.mmdb cargo test -p dns city -- --ignored`.
#[test]
#[ignore = "needs a city database, which is too large to ship"]
fn a_city_database_compiles() {
    let files = std::env::var("DNS_CITY_DATABASE").unwrap();
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        (field("VmRSS"), field("VmHWM"))
    };
    let begin = std::time::Instant::now();
    let mut stack = Stack::new();
    for file in files.split(':') {
        stack = stack.below(crate::locate::Mmdb::open(file.as_ref()).unwrap());
    }
    let stack = stack.below(Builtin::get());
    eprintln!("opened after {:?}, {:?}", begin.elapsed(), memory());
    let mut clusters = three();
    clusters.extend([
        at(37.3, -121.9),
        at(-23.5, -46.6),
        at(51.5, -0.1),
        at(18.5, 73.9),
        at(35.7, 139.7),
        at(32.8, -96.8),
        at(-26.2, 28.0),
        at(25.2, 55.3),
        at(-33.9, 151.2),
    ]);
    let all: Vec<u16> = (0..12).collect();
    let tables = compile(&stack, &world(), &clusters, &[set(&[0, 1, 2], 15), set(&all, 15)]).unwrap();
    eprintln!("compiled after {:?}, {:?}", begin.elapsed(), memory());
    drop(stack);
    eprintln!("databases dropped: {:?}", memory());
    for table in &tables {
        eprintln!("IPv4 runs, IPv6 runs, rankings: {:?}", table.size());
    }
    assert!(tables.iter().all(|table| table.size().0 > 1000));
}
