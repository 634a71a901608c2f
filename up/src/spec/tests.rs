use super::*;

#[test]
fn what_is_left_out_is_as_in_the_default_world() {
    assert_eq!(Spec::parse("w", "{}").unwrap(), Spec::default());
    let spec = Spec::parse(
        "w",
        "network: 127.9.0.0/16\n\
         ports: {http: 8081}\n\
         regions:\n\
         - {name: mil, region: eu-south, city: milan, nodes: 2}\n\
         - {name: home, region: office, city: Village, latitude: 46.5, longitude: 9.8}\n\
         users: [{city: Zurich}]\n\
         hub: {city: Dublin}\n\
         latencies: [{between: [home, hub], roundTrip: 80ms}]\n\
         faults:\n\
         - {at: 1m, do: start, region: mil}\n\
         - {at: 30s, do: stop, region: mil}\n",
    )
    .unwrap();
    assert_eq!((spec.network, spec.ports), ([127, 9], Ports { http: 8081, ..Ports::default() }));
    let regions: Vec<_> = spec.regions.iter().map(|r| (r.name.as_str(), r.place.city.as_str(), r.nodes)).collect();
    assert_eq!(regions, [("mil", "Milan", 2), ("home", "Village", 3)]);
    assert_eq!(spec.hub.city, "Dublin");
    assert_eq!(spec.user_address("Zurich"), Some(Ipv4Addr::new(127, 9, 101, 1)));
    let between = ["home".to_owned(), "hub".to_owned()];
    assert_eq!(spec.latencies, [Latency { between, round_trip: Duration::from_millis(80) }]);
    let acts: Vec<_> = spec.faults.iter().map(|fault| (fault.at.as_secs(), fault.act)).collect();
    assert_eq!(acts, [(30, Act::Stop), (60, Act::Start)], "in the order of time");
}

#[test]
fn what_is_wrong_is_named_with_what_to_write() {
    let eleven = "regions: [".to_owned() + &"{name: a, region: a, city: Cairo},".repeat(21) + "]";
    for (text, words) in [
        ("regoins: []", ["regoins", "regions"]),
        ("network: 10.1.0.0/16", ["network: ", "write 127.N.0.0/16"]),
        ("network: 127.0.0.0/16", ["network: ", "write 127.N.0.0/16"]),
        ("ports: {http: 80000}", ["80000", "line 1"]),
        ("regions: []", ["regions: there are 0", "write one to 20"]),
        (&eleven, ["regions: there are 21", "write one to 20"]),
        ("users: [{city: Atlantis}]", ["users[0].city: where \"Atlantis\"", "write its latitude and longitude"]),
        ("users: [{city: X, latitude: 1}]", ["users[0]: ", "write both"]),
        ("users: [{city: X, latitude: 100, longitude: 0}]", ["users[0]: latitude 100", "write degrees"]),
        ("users: [{city: Cairo}, {city: cairo}]", ["\"Cairo\" is there twice", "users"]),
        ("regions: [{name: FRA, region: a, city: Cairo}]", ["regions[0].name: ", "write lower-case"]),
        ("regions: [{name: a, region: a, city: Cairo, nodes: 0}]", ["regions[0].nodes: 0", "between 1 and 100"]),
        ("latencies: [{between: [fra, rome], roundTrip: 1ms}]", ["latencies[0].between: there is no \"rome\"", "sin"]),
        ("latencies: [{between: [fra, sin], roundTrip: fast}]", ["latencies[0].roundTrip: ", "fast"]),
        ("faults: [{at: 1s, do: burn, region: fra}]", ["burn", "stop"]),
        ("faults: [{at: 1s, do: stop, region: rome}]", ["faults[0].region: ", "write one of fra, iad, sin"]),
        ("faults: [{at: soon, do: stop, region: fra}]", ["faults[0].at: ", "soon"]),
    ] {
        let error = Spec::parse("world.yaml", text).unwrap_err().to_string();
        assert!(error.starts_with("world.yaml: ") && words.iter().all(|word| error.contains(word)), "{text}: {error}");
    }
    let missing = Spec::read(Path::new("/nonexistent.yaml")).unwrap_err().to_string();
    assert!(missing.contains("/nonexistent.yaml"), "{missing}");
}
