//! Tokens for certificates.

use super::*;

#[tokio::test]
async fn tokens_work_once_and_only_at_their_hub() {
    let hub = Hub::start();
    let (token, key) = (hub.token("eu-1"), Key::generate().expect("key"));
    let enrol = |token: Token, key: Key| async move {
        match soon("enrolment", enrol(&token, "uid", &key, None, &timing())).await {
            Ok(identity) => Ok(identity),
            Err(EnrolError::Refused { code, .. }) => Err(Some(code)),
            Err(EnrolError::WrongHub { .. }) => Err(None),
            Err(other) => panic!("{other:?}"),
        }
    };
    let again = || Key::from_pem(&key.to_pem()).expect("key");
    let other = || Key::generate().expect("key");

    let wrong = Token { secret: [0; 32], ..token.clone() };
    assert_eq!(enrol(wrong, again()).await, Err(Some(RefusalCode::UnknownToken)));
    let unknown = Token { id: "nobody".into(), ..token.clone() };
    assert_eq!(enrol(unknown, again()).await, Err(Some(RefusalCode::UnknownToken)));
    let foreign = Token { pin: new_authority().pin(), ..token.clone() };
    assert_eq!(enrol(foreign, again()).await, Err(None), "a hub with another authority gets no secret");

    let first = enrol(token.clone(), again()).await.expect("enrolled");
    assert_eq!(enrol(token.clone(), other()).await, Err(Some(RefusalCode::UsedToken)));
    let retry = enrol(token.clone(), again()).await.expect("a retry");
    assert_eq!(
        retry.peer(SystemTime::now()).expect("peer").subject(),
        first.peer(SystemTime::now()).expect("peer").subject()
    );
    // A name that the token did not give is not taken from the answer.
    let renamed = Token { name: "us-1".into(), ..token };
    let error = soon("enrolment", crate::client::enrol(&renamed, "uid", &again(), None, &timing())).await;
    assert!(matches!(error, Err(EnrolError::Unusable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_unreachable_and_the_next_is_asked() {
    let hub = Hub::start();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let token = hub.token("eu-1");
    let token = Token { hubs: vec![silent.local_addr().expect("address").to_string(), token.hubs[0].clone()], ..token };
    let quick = Timing { handshake: Duration::from_secs(2), ..timing() };
    let key = Key::generate().expect("key");
    soon("enrolment", enrol(&token, "uid", &key, None, &quick)).await.expect("enrolled at the second");
    let token = Token { hubs: vec![token.hubs[0].clone()], ..token };
    let error = soon("enrolment", enrol(&token, "uid", &key, None, &quick)).await;
    assert!(matches!(error, Err(EnrolError::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_is_served() {
    let hub = Hub::start();
    let pin = hub.backend.authority.pin();
    for kind in [Kind::Control, Kind::Renew, Kind::Publish, Kind::Fetch] {
        let raw = Raw::dial(&hub, enrol_tls(pin).expect("tls")).await.expect("connected");
        let _stream = raw.open(&StreamHead { topic: "t".into(), ..StreamHead::of(kind) }).await;
        assert_eq!(raw.closed().await, Some(Code::NoCertificate), "{kind:?}");
    }
    let raw = Raw::dial(&hub, enrol_tls(pin).expect("tls")).await.expect("connected");
    let _first = raw.open(&StreamHead::of(Kind::Enrol)).await;
    let _second = raw.open(&StreamHead::of(Kind::Enrol)).await;
    assert_eq!(raw.closed().await, Some(Code::NoCertificate), "one stream only");
}
