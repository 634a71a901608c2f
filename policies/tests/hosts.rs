//! Host claims: cases people meet, and what must hold for every input.

use std::collections::BTreeMap;

use policies::hosts::{Claim, Outcome, ZoneRules, settle};
use policies::id::AppId;
use proptest::prelude::*;

fn zone(origin: &str, namespaces: &[&str], patterns: &[&str]) -> ZoneRules {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    ZoneRules { origin: origin.into(), namespaces: own(namespaces), patterns: own(patterns) }
}

fn claim(host: &str, app: &str, created_s: i64) -> Claim {
    Claim { host: host.into(), app: AppId::new("shop", app), created_s }
}

#[test]
fn each_refusal_has_its_reason() {
    let zones = [
        zone("example.com", &["*"], &[]),
        zone("gslb.example.com", &["shop"], &["*.shop.gslb.example.com", "www.gslb.example.com"]),
        zone("other.org", &["bank"], &[]),
    ];
    let holder = BTreeMap::new();
    let code = |host: &str| settle(&[claim(host, "a", 1)], &zones, &holder)[0].clone();
    assert_eq!(code("www.example.com"), Outcome::Owned { zone: "example.com".into() });
    assert_eq!(code("a.b.shop.gslb.example.com"), Outcome::Owned { zone: "gslb.example.com".into() });
    assert_eq!(code("www.gslb.example.com"), Outcome::Owned { zone: "gslb.example.com".into() });
    // The longest zone decides, even where a shorter one would allow it; a wildcard does not match its parent.
    assert_eq!(code("x.gslb.example.com").code(), "HostNotAllowed");
    assert_eq!(code("shop.gslb.example.com").code(), "HostNotAllowed");
    assert_eq!(code("www.other.org").code(), "NamespaceNotAllowed");
    // Labels, not letters: this is no child of example.com.
    assert_eq!(code("wwwexample.com"), Outcome::NoZone);
}

#[test]
fn of_two_zones_with_one_origin_the_first_decides() {
    let zones = [zone("example.com", &["shop"], &[]), zone("example.com", &["bank"], &[])];
    let outcome = &settle(&[claim("www.example.com", "a", 1)], &zones, &BTreeMap::new())[0];
    assert_eq!(*outcome, Outcome::Owned { zone: "example.com".into() });
}

#[test]
fn the_holder_keeps_its_host_and_else_the_oldest_wins() {
    let zones = [zone("example.com", &["*"], &[])];
    let claims = [claim("h.example.com", "young", 2), claim("h.example.com", "old", 1)];
    let taken = |by: &str| Outcome::Taken { by: AppId::new("shop", by) };
    assert_eq!(settle(&claims, &zones, &BTreeMap::new())[0], taken("old"));
    let holder = BTreeMap::from([("h.example.com".to_owned(), AppId::new("shop", "young"))]);
    assert_eq!(settle(&claims, &zones, &holder)[1], taken("young"));
}

proptest! {
    #[test]
    fn one_owner_for_each_permitted_host(
        claims in prop::collection::vec(("[a-c]", "[a-d]", 0..3_i64).prop_map(|(h, a, t)| claim(&format!("{h}.example.com"), &a, t)), 0..12),
        held in prop::collection::btree_map("[a-c]".prop_map(|h| format!("{h}.example.com")), "[a-f]".prop_map(|a| AppId::new("shop", a)), 0..3),
    ) {
        let zones = [zone("example.com", &["shop"], &["*.example.com"])];
        let outcomes = settle(&claims, &zones, &held);
        prop_assert_eq!(outcomes.len(), claims.len());
        for (i, c) in claims.iter().enumerate() {
            let rivals: Vec<&Claim> = claims.iter().filter(|r| r.host == c.host).collect();
            let best = rivals.iter().min_by_key(|r| (held.get(&r.host) != Some(&r.app), r.created_s, r.app.clone())).unwrap();
            match &outcomes[i] {
                Outcome::Owned { .. } => prop_assert_eq!(&best.app, &c.app),
                Outcome::Taken { by } => prop_assert_eq!(&best.app, by),
                refused @ (Outcome::NoZone | Outcome::NamespaceNotAllowed { .. } | Outcome::HostNotAllowed { .. }) => {
                    prop_assert!(false, "{:?}", refused);
                }
            }
        }
    }
}
