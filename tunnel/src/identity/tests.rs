use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

fn subject() -> Subject {
    Subject::new(Role::Agent, "eu-1", "6f2b-uid").expect("valid")
}

fn identity(authority: &Authority, lifetime: Duration) -> Identity {
    let key = Key::generate().expect("randomness");
    let pem = authority.sign(&key.request().expect("request"), &subject(), now(), lifetime).expect("signed");
    Identity::new(key.to_pem(), pem, authority.certificate_pem().to_owned()).expect("fits")
}

#[test]
fn an_authority_returns_from_its_pem_with_the_same_pin() {
    let authority = Authority::generate(now()).expect("authority");
    let (certificate, key) = authority.to_pem();
    let kept = Authority::from_pem(&certificate, &key).expect("kept");
    assert_eq!(kept.pin(), authority.pin());
    let (other, _) = Authority::generate(now()).expect("authority").to_pem();
    assert!(matches!(Authority::from_pem(&other, &key), Err(IdentityError::Pair { .. })));
    assert!(Authority::from_pem("nothing", &key).is_err());
}

#[test]
fn the_certificate_says_what_the_hub_decided() {
    let authority = Authority::generate(now()).expect("authority");
    let identity = identity(&authority, CLIENT_LIFETIME);
    let peer = identity.peer(now()).expect("peer");
    assert_eq!((peer.role, peer.name.as_str(), peer.uid.as_str()), (Role::Agent, "eu-1", "6f2b-uid"));
    assert_eq!(peer.not_after, now() + CLIENT_LIFETIME);
    assert!(!peer.expired);
    assert!(identity.peer(now() + CLIENT_LIFETIME + Duration::from_secs(1)).expect("peer").expired);
    assert_eq!(peer.serial.len(), 32);
    assert_eq!(peer.subject(), subject());
}

#[test]
fn a_request_that_asks_for_more_gets_only_its_own() {
    let authority = Authority::generate(now()).expect("authority");
    let key = KeyPair::generate().expect("key");
    let mut greedy = CertificateParams::new(vec!["hub.isochrone.internal".to_owned()]).expect("params");
    greedy.subject_alt_names.push(SanType::URI("spiffe://isochrone/agent/us-1/other".try_into().expect("uri")));
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    greedy.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let csr = greedy.serialize_request(&key).expect("request").der().to_vec();

    let pem = authority.sign(&csr, &subject(), now(), CLIENT_LIFETIME).expect("signed");
    let der = certificate_der(&pem).expect("certificate");
    let certificate = parse(&der).expect("readable");
    assert!(!certificate.is_ca());
    assert_eq!(certificate.subject().to_string(), "CN=eu-1");
    let names = certificate.subject_alternative_name().expect("readable").expect("there").value.general_names.clone();
    assert_eq!(names, [GeneralName::URI("spiffe://isochrone/agent/eu-1/6f2b-uid")]);
    let usage = certificate.extended_key_usage().expect("readable").expect("there").value.clone();
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let usage = certificate.key_usage().expect("readable").expect("there").value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert_eq!(public_key(&der).expect("key"), key.subject_public_key_info());
}

#[test]
fn a_request_that_is_not_signed_by_its_key_is_refused() {
    let authority = Authority::generate(now()).expect("authority");
    let good = Key::generate().expect("key").request().expect("request");
    for at in [good.len() - 1, good.len() / 2, 60] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(authority.sign(&bad, &subject(), now(), CLIENT_LIFETIME).is_err(), "byte {at}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(request_key_hash(&longer).is_err());
    assert!(request_key_hash(&good).is_ok());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let authority = Authority::generate(now()).expect("authority");
    let (a, b) = (identity(&authority, CLIENT_LIFETIME), identity(&authority, CLIENT_LIFETIME));
    let mixed = Identity::new(a.key_pem.clone(), b.certificate_pem, a.ca_pem.clone());
    assert!(matches!(mixed, Err(IdentityError::Pair { .. })));
    assert!(matches!(
        Identity::new(authority.to_pem().1, authority.certificate_pem().to_owned(), a.ca_pem.clone()),
        Err(IdentityError::NoPeer)
    ));
    assert!(!format!("{a:?}{authority:?}").contains("PRIVATE"));
}

#[test]
fn replicas_have_different_reset_keys_and_keep_them() {
    let authority = Authority::generate(now()).expect("authority");
    let key = |name: &str| *authority.issue_server(&[name.to_owned()], now()).expect("server").reset_key();
    assert_eq!(key("hub-0"), key("hub-0"));
    assert_ne!(key("hub-0"), key("hub-1"));
}

#[test]
fn names_that_could_be_taken_for_others_are_refused() {
    for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0", "a%2f", &"x".repeat(254)] {
        assert!(Subject::new(Role::Dns, bad, "u").is_err(), "{bad:?}");
        assert!(Subject::new(Role::Dns, "n", bad).is_err(), "{bad:?}");
    }
    for bad in [
        "spiffe://isochrone/agent/a",
        "spiffe://isochrone/agent/a/b/c",
        "spiffe://isochrone/hub/a/b",
        "spiffe://other/agent/a/b",
        "spiffe://isochrone/agent//b",
    ] {
        assert_eq!(Subject::from_uri(bad), None, "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn subjects_return_from_their_uri(name in "[A-Za-z0-9_-]{1,60}", uid in "[a-z0-9-]{1,40}", dns: bool) {
        let subject = Subject::new(if dns { Role::Dns } else { Role::Agent }, &name, &uid).expect("valid");
        prop_assert_eq!(Subject::from_uri(&subject.uri()), Some(subject));
    }

    #[test]
    fn renewal_is_due_between_a_third_and_a_third_plus_a_tenth(hours in 1u64..5000, random: u64) {
        let authority = Authority::generate(now()).expect("authority");
        let life = Duration::from_secs(hours * 3600);
        let due = identity(&authority, life).renewal_due(random).expect("due").duration_since(now()).expect("after");
        prop_assert!(due >= life / 3 && due <= life / 3 + life / 10 + Duration::from_secs(1));
    }

    #[test]
    fn any_bytes_are_no_certificate_and_no_request(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Peer::from_certificate(&bytes, now()).is_err());
        prop_assert!(request_key_hash(&bytes).is_err());
    }

    #[test]
    fn damaged_certificates_never_panic(at: prop::sample::Index, flip: u8) {
        let authority = Authority::generate(now()).expect("authority");
        let mut der = certificate_der(&identity(&authority, CLIENT_LIFETIME).certificate_pem).expect("der").to_vec();
        let at = at.index(der.len());
        der[at] ^= flip;
        drop(Peer::from_certificate(&der, now()));
    }
}
