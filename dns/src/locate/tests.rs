use std::collections::BTreeMap;

use policies::geo::distance_km;
use proptest::prelude::*;

use super::fixture::{Value, database, flat, nested, text};
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(latitude: f64, longitude: f64) -> Coordinates {
    Coordinates::new(latitude, longitude).unwrap()
}

fn collect<A: Address>(ranges: Ranges<'_, A>) -> Vec<Range<A>> {
    ranges.map(|range| range.unwrap()).collect()
}

#[test]
fn the_built_in_table_is_whole_and_quick() {
    let begin = std::time::Instant::now();
    let builtin = Builtin::parse(include_bytes!("../../data/countries.bin"), CENTRES).unwrap();
    eprintln!("unpacked in {:?}", begin.elapsed());
    assert!(builtin.centres().len() > 200);
    assert!(collect((&*Box::leak(Box::new(builtin))).ipv4()).len() > 100_000);
}

const CENTRES: &str = include_str!("../../data/country-centres.csv");

#[test]
fn a_damaged_built_in_table_is_refused() {
    let table = include_bytes!("../../data/countries.bin");
    let error = |bytes: &[u8]| Builtin::parse(bytes, CENTRES).unwrap_err().to_string();
    assert!(error(b"").contains("ISOGEO01"));
    assert!(error(&table[..20]).contains("ends within its digest"));
    assert!(error(&table[..table.len() - 1]).contains("digest differs"));
    let mut flipped = table.to_vec();
    flipped[1000] ^= 1;
    assert!(error(&flipped).contains("digest differs"));
    assert!(Builtin::parse(table, "country\nDE,x").unwrap_err().to_string().contains("country-centres.csv"));
    // A digest that fits garbage.
    for body in [&b""[..], b"\x01ZZ", b"\x01DE\xff\xff\xff\xff\x00\x01", b"\x00\x00\x00\x00\x01\x01\x00"] {
        use sha2::Digest as _;
        let forged = [b"ISOGEO01", sha2::Sha256::digest(body).as_slice(), body].concat();
        assert!(error(&forged).contains("not what the digest covers"));
    }
}

#[test]
fn people_of_three_continents_are_near_their_cluster() {
    let clusters = [("Frankfurt", at(50.11, 8.68)), ("Virginia", at(38.95, -77.45)), ("Singapore", at(1.35, 103.82))];
    let nearest = |address: &str| {
        let place = Builtin::get().locate(ip(address)).expect(address).place;
        let far = |(_, cluster): &&(&str, Coordinates)| (distance_km(place.coordinates, *cluster) * 1000.0) as u64;
        (clusters.iter().min_by_key(far).unwrap().0, place.country.to_string())
    };
    let expect = |cluster, country: &str| (cluster, country.to_owned());
    // Deutsche Telekom, Hetzner; Comcast, Verizon in Ashburn; Singtel, StarHub.
    assert_eq!(nearest("91.0.0.1"), expect("Frankfurt", "DE"));
    assert_eq!(nearest("88.198.0.1"), expect("Frankfurt", "DE"));
    assert_eq!(nearest("2003::1"), expect("Frankfurt", "DE"));
    assert_eq!(nearest("73.0.0.1"), expect("Virginia", "US"));
    assert_eq!(nearest("71.126.0.1"), expect("Virginia", "US"));
    assert_eq!(nearest("2601::1"), expect("Virginia", "US"));
    assert_eq!(nearest("165.21.0.1"), expect("Singapore", "SG"));
    assert_eq!(nearest("203.116.0.1"), expect("Singapore", "SG"));
    for private in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "::1", "fd00::1", "fe80::1", "2001:db8::1"] {
        assert_eq!(Builtin::get().locate(ip(private)), None, "{private}");
    }
}

#[test]
fn ranges_and_lookups_of_the_built_in_table_agree() {
    let builtin = Builtin::get();
    fn check<A: Address>(builtin: &&'static Builtin, ranges: Vec<Range<A>>) {
        assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
        for range in ranges.iter().step_by(97) {
            for address in [range.first, range.last] {
                let found = builtin.locate(address.address()).unwrap();
                assert_eq!(found.place, range.place);
                // The prefix lies within the range, and its parent does not.
                let (network, broadcast) = (found.prefix.network(), found.prefix.broadcast());
                assert!(range.first.address() <= network && broadcast <= range.last.address(), "{range:?} {found:?}");
                let parent = found.prefix.supernet().unwrap();
                assert!(parent.network() < range.first.address() || parent.broadcast() > range.last.address());
            }
        }
    }
    check(&builtin, collect(builtin.ipv4()));
    check(&builtin, collect(builtin.ipv6()));
}

/// One file of both families, or a pair; each schema; each record size.
#[test]
fn both_schemas_all_record_sizes_one_file_or_two() {
    for record_bits in [24, 28, 32] {
        let joined = database(
            6,
            record_bits,
            &[
                ("1.2.3.0/24", nested("DE", "Berlin", 52.5, 13.4)),
                ("1.2.4.0/22", nested("US", "Dallas", 32.8, -96.8)),
                ("2001:4::/32", nested("SG", "Singapore", 1.3, 103.8)),
            ],
        );
        let joined = Mmdb::from_bytes("joined", joined).unwrap();
        let v4 = database(4, record_bits, &[("1.2.3.0/24", flat("DE", "Berlin", 52.5, 13.4))]);
        let v6 = database(6, record_bits, &[("2001:4::/32", flat("SG", "Singapore", 1.3, 103.8))]);
        let pair = Stack::new().below(Mmdb::from_bytes("v4", v4).unwrap()).below(Mmdb::from_bytes("v6", v6).unwrap());
        for database in [&joined as &dyn Locate, &pair] {
            for address in ["1.2.3.4", "::ffff:1.2.3.4"] {
                let found = database.locate(ip(address)).unwrap();
                assert_eq!((found.place.country.as_str(), found.prefix.to_string()), ("DE", "1.2.3.0/24".to_owned()));
                assert!(distance_km(found.place.coordinates, at(52.5, 13.4)) < 1.0);
            }
            assert_eq!(database.locate(ip("2001:4:5::")).unwrap().prefix.to_string(), "2001:4::/32");
            assert_eq!(database.locate(ip("9.9.9.9")), None);
            assert_eq!(database.locate(ip("2001:5::")), None);
            assert_eq!(collect(database.ipv4())[0].last, u32::from_be_bytes([1, 2, 3, 255]));
            assert_eq!(collect(database.ipv6()).len(), 1);
        }
        assert_eq!(collect(joined.ipv4()).len(), 2);
    }
}

#[test]
fn a_country_without_a_city_is_its_centre() {
    let kansas = nested("US", "", 37.751, -97.822);
    let nowhere = flat("ZZ", "", 10.0, 20.0);
    let country = Value::Map(vec![("country_code", text("SG"))]);
    let asn = Value::Map(vec![("autonomous_system_number", text("1"))]);
    let bytes =
        database(4, 24, &[("1.0.0.0/8", kansas), ("2.0.0.0/8", nowhere), ("3.0.0.0/8", country), ("4.0.0.0/8", asn)]);
    let database = Mmdb::from_bytes("countries", bytes).unwrap();
    let place = |address: &str| database.locate(ip(address)).map(|found| found.place);
    assert_eq!(place("1.1.1.1"), Builtin::get().centre(Country::new("US")));
    assert_eq!(place("2.1.1.1").unwrap().coordinates, at(10.0, 20.0));
    assert_eq!(place("3.1.1.1"), Builtin::get().centre(Country::new("sg")));
    assert_eq!(place("4.1.1.1"), None);
}

#[test]
fn what_is_no_geo_database_is_refused_with_a_reason() {
    let error = |bytes: Vec<u8>| Mmdb::from_bytes("the-file", bytes).unwrap_err().to_string();
    assert!(error(b"hello".to_vec()).contains("the-file is damaged or not of MaxMind's format"));
    let asn = database(4, 24, &[("1.0.0.0/8", Value::Map(vec![("asn", text("1"))]))]);
    assert!(error(asn).contains("the-file (test) names no place"));
    let missing = Mmdb::open(Path::new("/nonexistent/x.mmdb")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/x.mmdb"));
    // Cut anywhere, it is an error or still a database, never a panic.
    let whole = database(
        6,
        28,
        &[("1.2.3.0/24", nested("DE", "Berlin", 52.5, 13.4)), ("2001::/16", flat("SG", "S", 1.0, 103.0))],
    );
    for length in 0..whole.len() {
        for bytes in [whole[..length].to_vec(), whole[length..].to_vec()] {
            if let Ok(database) = Mmdb::from_bytes("cut", bytes) {
                let _ = (database.ipv4().count(), database.ipv6().count(), database.locate(ip("1.2.3.4")));
            }
        }
    }
}

/// A database in memory.
struct Known<A>(Vec<Range<A>>);

impl Locate for Known<u32> {
    fn locate(&self, _: IpAddr) -> Option<Location> {
        None
    }

    fn ipv4(&self) -> Ranges<'_, u32> {
        Box::new(self.0.iter().map(|range| Ok(*range)))
    }

    fn ipv6(&self) -> Ranges<'_, u128> {
        Box::new(std::iter::empty())
    }
}

fn ranges_of(places: &BTreeMap<u32, u8>) -> Vec<Range<u32>> {
    let place = |n: u8| Place { coordinates: at(f64::from(n), 0.0), country: Country::UNKNOWN };
    places.iter().map(|(a, n)| Range { first: *a, last: *a, place: place(*n) }).collect()
}

proptest! {
    #[test]
    fn the_first_that_knows_an_address_decides(
        layers in prop::collection::vec(
            // Addresses at both ends of the family, where sums overflow.
            prop::collection::btree_map(prop_oneof![0..12_u32, (u32::MAX - 12)..=u32::MAX], 0..3_u8, 0..20),
            0..4,
        ),
    ) {
        let mut expected = BTreeMap::new();
        let mut stack = Stack::new();
        for layer in &layers {
            for (address, place) in layer {
                expected.entry(*address).or_insert(*place);
            }
            stack = stack.below(Known(ranges_of(layer)));
        }
        prop_assert_eq!(collect(stack.ipv4()), ranges_of(&expected));
    }
}

#[test]
fn an_error_below_reaches_the_reader() {
    struct Broken;
    impl Locate for Broken {
        fn locate(&self, _: IpAddr) -> Option<Location> {
            None
        }
        fn ipv4(&self) -> Ranges<'_, u32> {
            Box::new(std::iter::once(Err(LocateError::Builtin { what: "test" })))
        }
        fn ipv6(&self) -> Ranges<'_, u128> {
            Box::new(std::iter::empty())
        }
    }
    let known = || Known(ranges_of(&BTreeMap::from([(5, 1)])));
    for stack in [Stack::new().below(known()).below(Broken), Stack::new().below(Broken).below(known())] {
        let found: Vec<_> = stack.ipv4().collect();
        assert!(found.iter().any(Result::is_err) && found.len() <= 2);
    }
}
