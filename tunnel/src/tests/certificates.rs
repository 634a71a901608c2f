//! What a certificate is good for, by its age, its authority and the word of the hub.

use super::*;

#[tokio::test]
async fn a_foreign_authority_is_refused_by_both_ends() {
    let hub = Hub::start();
    let foreign = identity(&new_authority(), "eu-1", Duration::ZERO, CLIENT_LIFETIME);

    // The client does not trust the hub.
    let (_link, mut events) = hub.link(foreign.clone());
    let (code, message) = refused(&mut events).await;
    assert_eq!(code, RefusalCode::Certificate);
    assert!(message.contains("refused here"), "{message}");

    // The hub does not trust the client.
    let ca_pem = hub.backend.authority.certificate_pem().to_owned();
    let (_link, mut events) = hub.link(Identity { ca_pem, ..foreign });
    let (code, message) = refused(&mut events).await;
    assert_eq!(code, RefusalCode::Certificate);
    assert!(message.contains("the peer refused our certificate"), "{message}");
    assert!(hub.stub.sessions().is_empty());
}

#[tokio::test]
async fn a_hubs_certificate_is_no_clients() {
    let hub = Hub::start();
    let tls = server_identity(&hub.backend.authority).tls_as_client();
    // The client's half of a TLS 1.3 handshake ends before the server has judged its certificate.
    let end = match Raw::dial(&hub, tls).await {
        Ok(raw) => soon("the end of the connection", raw.connection.closed()).await,
        Err(ending) => ending,
    };
    assert!(matches!(end, Ending::Untrusted(_)), "{end:?}");
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_renewal_only() {
    let mut hub = Hub::start();
    let expired = hub.identity("eu-1", 100 * DAY, 90 * DAY);

    let raw = Raw::with(&hub, &expired).await;
    let _stream = raw.open(&StreamHead::of(Kind::Control)).await;
    assert_eq!(raw.closed().await, Some(Code::ExpiredCertificate));

    let (_link, mut events) = hub.link(expired.clone());
    match next(&mut events).await {
        LinkEvent::Renewed(identity) => {
            let peer = identity.peer(SystemTime::now()).expect("peer");
            assert!(!peer.expired);
            assert_eq!(peer.subject(), expired.peer(SystemTime::now()).expect("peer").subject());
            assert_ne!(identity.key_pem, expired.key_pem);
        }
        other => panic!("expected a renewal, got {other:?}"),
    }
    connected(&mut events).await;
    assert!(!hub.joined().await.peer().expired);

    let (_link, mut events) = hub.link(hub.identity("us-1", 121 * DAY, 90 * DAY));
    let (code, message) = refused(&mut events).await;
    assert_eq!(code, RefusalCode::Certificate);
    assert!(message.contains("expired"), "{message}");
}

#[tokio::test]
async fn a_certificate_of_a_hub_whose_clock_is_ahead_is_accepted() {
    let mut hub = Hub::start();
    let ahead = SystemTime::now() + Duration::from_secs(120);
    let key = Key::generate().expect("key");
    let subject = Subject::new(Role::Agent, "eu-1", "u").expect("subject");
    let csr = key.request().expect("request");
    let pem = hub.backend.authority.sign(&csr, &subject, ahead, CLIENT_LIFETIME).expect("signed");
    let ca = hub.backend.authority.certificate_pem().to_owned();
    let (_link, mut events) = hub.link(Identity::new(key.to_pem(), pem, ca).expect("fits"));
    connected(&mut events).await;
    hub.joined().await;
}

#[tokio::test]
async fn certificates_of_two_seconds_are_renewed_while_the_session_goes_on() {
    let mut hub = Hub::start();
    *lock(&hub.backend.lifetime) = Duration::from_secs(2);
    let first = hub.identity("eu-1", Duration::ZERO, Duration::from_secs(2));
    let (_, first_ends) = first.validity().expect("validity");
    let (link, mut events) = hub.link(first);
    connected(&mut events).await;
    let session = hub.joined().await;
    let first_serial = session.peer().serial;
    // Until well after the first certificate's end, by events alone.
    loop {
        match next(&mut events).await {
            LinkEvent::Renewed(identity) => {
                let (start, _) = identity.validity().expect("validity");
                if start > first_ends + Duration::from_secs(1) {
                    break;
                }
            }
            other => panic!("expected only renewals, got {other:?}"),
        }
    }
    assert_ne!(session.peer().serial, first_serial);
    link.publish("t", 1, Bytes::from_static(b"still here")).expect("taken");
    assert_eq!(hub.published().await, session.id(), "the same session");
}

#[tokio::test]
async fn a_certificate_that_is_not_renewed_ends_its_session() {
    let mut hub = Hub::start();
    let raw = Raw::with(&hub, &hub.identity("eu-1", Duration::ZERO, Duration::from_secs(1))).await;
    let _control = raw.greet("i1").await;
    hub.joined().await;
    assert_eq!(hub.left().await, Left::Expired);
    assert_eq!(raw.closed().await, Some(Code::ExpiredCertificate));
}

#[tokio::test]
async fn a_revoked_peer_is_dropped_and_turned_away_until_it_is_welcome_again() {
    let mut hub = Hub::start();
    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    let (_other, mut other_events) = hub.link(hub.fresh("us-1"));
    connected(&mut events).await;
    connected(&mut other_events).await;
    hub.joined().await;
    hub.joined().await;
    lock(&hub.backend.revoked).insert("eu-1".to_owned());
    hub.stub.drop_revoked();
    assert_eq!(hub.left().await, Left::Revoked);
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { .. }));
    assert_eq!(refused(&mut events).await.0, RefusalCode::Revoked);
    assert_eq!(refused(&mut events).await.0, RefusalCode::Revoked, "it goes on trying");
    assert_eq!(hub.stub.sessions().len(), 1, "the other one stays");
    lock(&hub.backend.revoked).clear();
    loop {
        match next(&mut events).await {
            LinkEvent::Refused { .. } => {}
            LinkEvent::Connected { generation, .. } => break assert_eq!(generation, 2),
            other => panic!("expected a connection, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn new_connections_get_the_newer_server_certificate() {
    let mut hub = Hub::start();
    let (_link, _events, _session) = hub.agent("eu-1").await;
    hub.stub.set_identity(&server_identity(&hub.backend.authority)).expect("set");
    let (_other, _other_events, _session) = hub.agent("us-1").await;
    assert_eq!(hub.stub.sessions().len(), 2, "the open one goes on");
}

/// A DNS node's identity, made by `authority`.
fn node(authority: &Authority, name: &str) -> Identity {
    identity_as(authority, Role::Dns, name, Duration::ZERO, CLIENT_LIFETIME)
}

/// A link of `identity` to whoever listens at `address`, which shall be the DNS node `name`.
fn fellow(identity: Identity, name: &str, address: SocketAddr) -> (Link, mpsc::Receiver<LinkEvent>) {
    let toward = Toward::Fellow { role: Role::Dns, name: name.to_owned() };
    let hubs = vec![address.to_string()];
    Link::start(LinkConfig { toward, hubs, identity, hello: hello("i1"), source: None, timing: timing() })
        .expect("started")
}

#[tokio::test]
async fn dns_nodes_serve_each_other_and_are_known_by_their_subject() {
    let backend = TestBackend::new(new_authority());
    let serve = |identity: &Identity, name: &'static str| {
        let identity = ServerIdentity::of(identity).expect(name);
        let config = StubConfig { addr: (Ipv4Addr::LOCALHOST, 0).into(), identity, timing: timing() };
        Stub::bind(config, backend.clone()).expect("bound")
    };
    let (one, two) = (node(&backend.authority, "ns1"), node(&backend.authority, "ns2"));
    let (stub, mut events) = serve(&two, "ns2");
    let address = stub.local_addr().expect("address");

    let (link, mut said) = fellow(one.clone(), "ns2", address);
    connected(&mut said).await;
    link.publish("findings", 1, Bytes::from_static(b"all well")).expect("published");
    let published = async {
        loop {
            if let Some(StubEvent::Published { peer, topic, payload, .. }) = events.recv().await {
                return (peer.role, peer.name, topic, payload);
            }
        }
    };
    let published = soon("the findings", published).await;
    assert_eq!(published, (Role::Dns, "ns1".into(), "findings".into(), Bytes::from_static(b"all well")));

    // The right authority and role, another name; then the right name under another authority.
    let (_link, mut said) = fellow(one.clone(), "ns3", address);
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);
    let (_link, mut said) = fellow(node(&new_authority(), "ns1"), "ns2", address);
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);

    // A node cannot pass for a hub, nor an agent for a node.
    let hubs = vec![address.to_string()];
    let config =
        LinkConfig { toward: Toward::Hub, hubs, identity: one, hello: hello("i1"), source: None, timing: timing() };
    let (_link, mut said) = Link::start(config).expect("started");
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);
    let agent = identity(&backend.authority, "ns4", Duration::ZERO, CLIENT_LIFETIME);
    let (stub, _events) = serve(&agent, "ns4");
    let (_link, mut said) = fellow(two, "ns4", stub.local_addr().expect("address"));
    assert_eq!(refused(&mut said).await.0, RefusalCode::Certificate);
}
