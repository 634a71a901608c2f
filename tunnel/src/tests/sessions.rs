//! How sessions begin, go on and end.

use super::*;

#[tokio::test]
async fn a_whole_life_enrol_connect_publish_fetch_goodbye() {
    let mut hub = Hub::start();
    let token = Token::parse(&hub.token("eu-1").to_string()).expect("token");
    let dir = tempfile::tempdir().expect("directory");
    let key = Key::load_or_create(dir.path()).expect("key");
    let identity = soon("enrolment", enrol(&token, "kube-system-uid", &key, None, &timing())).await.expect("enrolled");
    identity.save(dir.path()).expect("saved");
    match hub.event().await {
        StubEvent::Enrolled { peer, token: by, remote } => {
            assert_eq!((peer.name.as_str(), peer.uid.as_str()), ("eu-1", "kube-system-uid"));
            assert_eq!(by, token.id);
            assert!(remote.ip().is_loopback());
        }
        other => panic!("expected an enrolment, got {other:?}"),
    }

    let (link, mut events) = hub.link(Identity::load(dir.path()).expect("kept").expect("there"));
    link.publish("ledger", 1, Bytes::from_static(b"before the first connection")).expect("taken");
    assert_eq!(connected(&mut events).await, 1);
    let session = hub.joined().await;
    assert_eq!(session.peer().name, "eu-1");
    assert_eq!(session.hello(), &hello("i1"));
    match hub.event().await {
        StubEvent::Published { id, topic, number, payload, peer } => {
            assert_eq!((id, topic.as_str(), number), (session.id(), "ledger", 1));
            assert_eq!(payload, &b"before the first connection"[..]);
            assert_eq!(peer.role, Role::Agent);
        }
        other => panic!("expected a publication, got {other:?}"),
    }
    session.publish("desired", 9, Bytes::from(vec![5; 3_000_000])).expect("taken");
    session.publish("empty", 10, Bytes::new()).expect("taken");
    let mut got = BTreeMap::new();
    for _ in 0..2 {
        match next(&mut events).await {
            LinkEvent::Published { topic, number, payload } => got.insert(topic, (number, payload.len())),
            other => panic!("expected a publication, got {other:?}"),
        };
    }
    assert_eq!(got, BTreeMap::from([("desired".to_owned(), (9, 3_000_000)), ("empty".to_owned(), (10, 0))]));

    let blob = Bytes::from(vec![42; 5_000_000]);
    let digest = Sha256::digest(&blob);
    hub.blob(&digest, blob.clone());
    hub.blob(&[1; 32], Bytes::from_static(b"not what the digest says"));
    let minute = Duration::from_secs(60);
    assert_eq!(link.fetch(&digest, minute).await.expect("fetched"), blob);
    assert!(matches!(link.fetch(&[0; 32], minute).await, Err(FetchError::NotFound(_))));
    assert!(matches!(link.fetch(&[1; 32], minute).await, Err(FetchError::Corrupt(_))));
    assert!(matches!(link.fetch(&[1; 31], minute).await, Err(FetchError::Digest(31))));
    assert_eq!(link.publish("a b", 1, Bytes::new()), Err(PublishError::Topic));
    let huge = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert_eq!(link.publish("a", 1, huge), Err(PublishError::TooLarge(PAYLOAD_BYTES_MAX + 1)));

    soon("the goodbye", link.close("upgrade")).await;
    assert_eq!(hub.left().await, Left::Goodbye("upgrade".into()));
    assert_eq!(soon("the end of events", events.recv()).await, None);
    assert!(hub.stub.sessions().is_empty());
}

#[tokio::test]
async fn a_dropped_link_is_seen_as_goodbye() {
    let mut hub = Hub::start();
    let (link, _events, _session) = hub.agent("eu-1").await;
    drop(link);
    assert!(matches!(hub.left().await, Left::Goodbye(_)));
}

#[tokio::test]
async fn a_refused_hello_says_why() {
    let hub = Hub::start();
    let ancient = Hello { software: "ancient".into(), ..hello("i1") };
    let (_link, mut events) = hub.link_with(hub.fresh("eu-1"), ancient, timing());
    assert_eq!(refused(&mut events).await, (RefusalCode::Incompatible, "upgrade the agent".to_owned()));
    let (_link, mut events) = hub.link_with(hub.fresh("eu-1"), hello(""), timing());
    assert_eq!(refused(&mut events).await.0, RefusalCode::Malformed);
}

/// On Linux every address of 127.0.0.0/8 is this machine's; by itself the system chooses 127.0.0.1.
#[tokio::test]
async fn a_link_speaks_from_the_address_that_it_is_given() {
    let mut hub = Hub::start();
    let (key, token) = (Key::generate().expect("key"), hub.token("eu-1"));
    let source = Some(Ipv4Addr::new(127, 0, 0, 2).into());
    let identity = soon("enrolment", enrol(&token, "uid", &key, source, &timing())).await.expect("enrolled");
    match hub.event().await {
        StubEvent::Enrolled { remote, .. } => assert_eq!(Some(remote.ip()), source),
        other => panic!("expected an enrolment, got {other:?}"),
    }
    let hubs = vec![hub.addr.to_string()];
    let config = LinkConfig { toward: Toward::Hub, hubs, identity, hello: hello("i1"), source, timing: timing() };
    let (link, _events) = Link::start(config).expect("started");
    let session = hub.joined().await;
    let before = session.remote();
    assert_eq!(Some(before.ip()), source);
    // Also from the sockets that take the place of the first.
    link.rebind().expect("rebound");
    link.publish("t", 1, Bytes::from_static(b"from a new port")).expect("taken");
    assert_eq!(hub.published().await, session.id());
    assert!(session.remote() != before && Some(session.remote().ip()) == source, "{}", session.remote());
}

#[tokio::test]
async fn a_changed_address_is_survived() {
    let mut hub = Hub::start();
    let (link, mut events, session) = hub.agent("eu-1").await;
    let before = session.remote();
    link.rebind().expect("rebound");
    link.publish("t", 1, Bytes::from_static(b"from a new port")).expect("taken");
    assert_eq!(hub.published().await, session.id());
    assert_ne!(session.remote(), before);
    session.publish("u", 1, Bytes::from_static(b"to a new port")).expect("taken");
    assert!(matches!(next(&mut events).await, LinkEvent::Published { .. }));
}

#[tokio::test]
async fn a_new_session_of_an_instance_ends_the_old_one_first() {
    let mut hub = Hub::start();
    let raw = Raw::with(&hub, &hub.fresh("eu-1")).await;
    let _control = raw.greet("i1").await;
    let old = hub.joined().await;
    let other = Raw::with(&hub, &hub.fresh("eu-1")).await;
    let _other_control = other.greet("i2").await;
    let second = hub.joined().await;

    let (_link, mut events) = hub.link(hub.fresh("eu-1"));
    connected(&mut events).await;
    match hub.event().await {
        StubEvent::Left { id, why, .. } => assert_eq!((id, why), (old.id(), Left::Replaced)),
        other => panic!("the old one ends first, got {other:?}"),
    }
    let new = hub.joined().await;
    assert_eq!(raw.closed().await, Some(Code::Replaced));
    let open: Vec<_> = hub.stub.sessions().iter().map(Session::id).collect();
    assert_eq!(open, [second.id(), new.id()], "the other instance stays");
}

#[tokio::test]
async fn a_peer_that_lives_but_does_not_beat_is_silent() {
    let backend = TestBackend::new(new_authority());
    let mut hub = Hub::start_with(backend, Timing { silence: Duration::from_millis(500), ..timing() });
    let raw = Raw::with(&hub, &hub.fresh("eu-1")).await;
    let _control = raw.greet("i1").await;
    hub.joined().await;
    assert_eq!(hub.left().await, Left::Silent);
    assert_eq!(raw.closed().await, Some(Code::Silent));
}

#[tokio::test]
async fn beats_tell_both_ends_that_the_other_lives() {
    let mut hub = Hub::start();
    let (link, _events, session) = hub.agent("eu-1").await;
    soon("three beats each way", async {
        while session.pulse().sequence < 3 || link.pulse().sequence < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(session.last_beat() < Duration::from_secs(60));
    assert!(session.pulse().peer_rtt.is_some());
}

#[tokio::test]
async fn a_draining_hub_sends_its_peers_to_the_next() {
    let mut first = Hub::start();
    let authority = first.backend.authority.to_pem();
    let authority = Authority::from_pem(&authority.0, &authority.1).expect("kept");
    let mut second = Hub::start_with(TestBackend::new(authority), timing());
    let hubs = vec![first.addr.to_string(), second.addr.to_string()];
    let config = LinkConfig {
        toward: Toward::Hub,
        hubs,
        identity: first.fresh("eu-1"),
        hello: hello("i1"),
        source: None,
        timing: timing(),
    };
    let (link, mut events) = Link::start(config).expect("started");
    link.publish("t", 4, Bytes::from_static(b"kept")).expect("taken");
    connected(&mut events).await;
    // Which of the two it dialled is random.
    let in_second = tokio::select! {
        _ = first.joined() => false,
        _ = second.joined() => true,
    };
    let (mut from, mut to) = if in_second { (second, first) } else { (first, second) };
    assert!(matches!(from.event().await, StubEvent::Published { number: 4, .. }));
    soon("the drain", from.stub.close("upgrade")).await;
    match soon("an end", from.events.recv()).await {
        Some(StubEvent::Left { why: Left::Closed { code: Code::Draining, reason }, .. }) => {
            assert_eq!(reason, "upgrade")
        }
        other => panic!("expected an end, got {other:?}"),
    }
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { why } if why.contains("upgrade")));
    assert_eq!(connected(&mut events).await, 2);
    to.joined().await;
    assert!(matches!(to.event().await, StubEvent::Published { number: 4, .. }), "published again by itself");
}

/// The hub's process is gone without a word and comes back: its stateless reset tells, long before any idle limit.
#[test]
fn a_restarted_hub_is_noticed_by_its_reset() {
    let patient = Timing { idle: Duration::from_secs(600), silence: Duration::from_secs(600), ..timing() };
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let (clients, hubs) = (runtime(), runtime());
    let backend = TestBackend::new(new_authority());
    let mut hub = hubs.block_on(async { Hub::start_with(backend.clone(), patient) });
    let (_link, mut events) = clients.block_on(async { hub.link_with(hub.fresh("eu-1"), hello("i1"), patient) });
    clients.block_on(connected(&mut events));
    hubs.block_on(hub.joined());
    let addr = hub.addr;
    // Waits until its tasks are gone, so that nothing is left that could say goodbye.
    hubs.shutdown_timeout(Duration::from_secs(60));
    drop(hub);

    clients.block_on(async {
        let identity = server_identity(&backend.authority);
        let bind = || Stub::bind(StubConfig { addr, identity: identity.clone(), timing: patient }, backend.clone());
        // The port is free once the last handle to the old socket is dropped.
        let (_stub, mut stub_events) = soon("the port", async {
            loop {
                match bind() {
                    Ok(bound) => return bound,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        match next(&mut events).await {
            LinkEvent::Disconnected { why } => assert!(why.contains("restarted"), "{why}"),
            other => panic!("expected a disconnect, got {other:?}"),
        }
        assert_eq!(connected(&mut events).await, 2);
        assert!(matches!(soon("a session", stub_events.recv()).await, Some(StubEvent::Joined(_))));
    });
}

#[tokio::test]
async fn a_fetch_waits_for_a_connection_and_for_no_longer_than_told() {
    let hub = Hub::start();
    let blob = Bytes::from_static(b"blob");
    let digest = Sha256::digest(&blob);
    hub.blob(&digest, blob.clone());
    let (link, _events) = hub.link(hub.fresh("eu-1"));
    assert_eq!(soon("a blob", link.fetch(&digest, Duration::from_secs(60))).await.expect("fetched"), blob);

    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let hubs = vec![silent.local_addr().expect("address").to_string()];
    let config = LinkConfig {
        toward: Toward::Hub,
        hubs,
        identity: hub.fresh("eu-1"),
        hello: hello("i1"),
        source: None,
        timing: timing(),
    };
    let (link, _events) = Link::start(config).expect("started");
    assert!(matches!(link.fetch(&digest, Duration::from_millis(50)).await, Err(FetchError::Late { .. })));
    assert!(
        Link::start(LinkConfig {
            toward: Toward::Hub,
            hubs: Vec::new(),
            identity: hub.fresh("a"),
            hello: hello("i"),
            source: None,
            timing: timing()
        })
        .is_err()
    );
}
