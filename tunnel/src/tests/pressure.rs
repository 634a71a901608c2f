//! Peers and owners that stall, and bytes that mean nothing.

use super::*;

#[tokio::test]
async fn a_stalled_peer_holds_up_nobody_and_gets_the_newest() {
    let mut hub = Hub::start();
    let raw = Raw::with(&hub, &hub.fresh("slow")).await;
    let control = tokio::spawn(beating(raw.greet("i1").await));
    let slow = hub.joined().await;
    let (_link, mut events, quick) = hub.agent("quick").await;

    // Larger than a stream's window: the first stays under way, its place is not left.
    let big = |n: u8| Bytes::from(vec![n; 8 << 20]);
    slow.publish("big", 1, big(1)).expect("taken");
    let mut first = soon("the first", raw.connection.accept_bi()).await.expect("accepted");
    let head = read_frame::<StreamHead>(&mut *first.recv, "head", HEAD_BYTES_MAX).await.expect("head");
    assert_eq!((head.topic.as_str(), head.number), ("big", 1));
    for number in 2..=50u8 {
        slow.publish("big", number.into(), big(number)).expect("taken");
    }

    // Another topic of the same peer, and another peer, pass.
    slow.publish("small", 1, Bytes::from_static(b"x")).expect("taken");
    let mut small = soon("the small one", raw.connection.accept_bi()).await.expect("accepted");
    let head = read_frame::<StreamHead>(&mut *small.recv, "head", HEAD_BYTES_MAX).await.expect("head");
    assert_eq!(head.topic, "small");
    quick.publish("t", 1, big(0)).expect("taken");
    assert!(matches!(next(&mut events).await, LinkEvent::Published { .. }));

    // The peer reads at last: after the first comes the last, and nothing between.
    for expected in [1u8, 50] {
        let mut stream = match expected {
            1 => Stream { send: first.send, recv: first.recv },
            _ => {
                let mut stream = soon("the newest", raw.connection.accept_bi()).await.expect("accepted");
                let head = read_frame::<StreamHead>(&mut *stream.recv, "head", HEAD_BYTES_MAX).await.expect("head");
                assert_eq!((head.topic.as_str(), head.number), ("big", 50));
                stream
            }
        };
        let (payload, _) = soon("a payload", read_all(&mut *stream.recv, PAYLOAD_BYTES_MAX)).await.expect("read");
        assert_eq!(payload, big(expected));
        stream.send.write(Bytes::from_static(&[RECEIPT])).await.expect("receipt");
        stream.send.finish();
        first = stream;
    }
    control.abort();
}

/// Answers each beat of the hub by one, and reads nothing else.
async fn beating(mut control: Stream) {
    for sequence in 1.. {
        let heard = read_frame::<Control>(&mut *control.recv, "beat", FRAME_BYTES_MAX).await;
        let beat = Control::from(ControlBody::Beat(crate::message::Beat { sequence, rtt_us: 0 }));
        if heard.is_err() || write_frame(&mut *control.send, &beat).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_owner_that_does_not_read_gets_the_newest_later() {
    let mut hub = Hub::start();
    let (_link, mut events, session) = hub.agent("eu-1").await;
    // More than the event channel holds, one by one under way.
    for number in 1..=500 {
        session.publish(&format!("t{}", number % 100), number, Bytes::new()).expect("taken");
    }
    let mut newest = BTreeMap::new();
    while newest.values().filter(|&&number| number > 400).count() < 100 {
        match next(&mut events).await {
            LinkEvent::Published { topic, number, .. } => {
                let before = newest.insert(topic, number);
                assert!(before < Some(number), "a topic's payloads come in order");
            }
            other => panic!("expected publications, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn garbage_harms_nothing() {
    let mut hub = Hub::start();
    let (link, _events, session) = hub.agent("eu-1").await;

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    for n in 0..2000u32 {
        let mut datagram: Vec<u8> = (0..n % 1400 + 1).map(|_| rand::random()).collect();
        if n % 2 == 0 && datagram.len() > 6 {
            // The face of a QUIC v1 Initial.
            let first = 0xc0 | (datagram[0] & 0x0f);
            datagram[..6].copy_from_slice(&[first, 0, 0, 0, 1, 8]);
        }
        socket.send_to(&datagram, hub.addr).expect("sent");
    }

    // A stream of garbage ends alone; the connection serves the next.
    let raw = Raw::with(&hub, &hub.fresh("odd")).await;
    let _control = raw.greet("i1").await;
    let odd = hub.joined().await;
    let unknown_kind = StreamHead { kind: 99, ..StreamHead::of(Kind::Fetch) };
    let unknown_version = StreamHead { version: 2, ..StreamHead::of(Kind::Fetch) };
    let no_topic = StreamHead::of(Kind::Publish);
    for (head, code) in [
        (unknown_kind, Code::UnknownKind),
        (unknown_version, Code::UnknownVersion),
        (no_topic, Code::Malformed),
        (StreamHead::of(Kind::Control), Code::NotAllowed),
        (StreamHead::of(Kind::Enrol), Code::NotAllowed),
        (StreamHead::fetch(b"short"), Code::NotFound),
    ] {
        let mut stream = raw.open(&head).await;
        assert_eq!(reset_code(&mut stream).await, Some(code), "{head:?}");
    }
    for _ in 0..100 {
        let mut stream = soon("a stream", raw.connection.open_bi()).await.expect("open");
        let bytes: Vec<u8> = (0..rand::random::<u8>()).map(|_| rand::random()).collect();
        // The hub may have ended the stream already.
        let _ = stream.send.write(Bytes::from(bytes)).await;
        stream.send.finish();
        let _ = soon("the end of the stream", read_all(&mut *stream.recv, 1 << 20)).await;
    }
    let mut stream = raw.open(&StreamHead::publish("t", 3)).await;
    stream.send.write(Bytes::from_static(b"sane again")).await.expect("written");
    stream.send.finish();
    loop {
        match hub.event().await {
            // Random bytes may have been a publication.
            StubEvent::Published { id, number: 3, payload, .. } if payload == b"sane again"[..] => {
                break assert_eq!(id, odd.id());
            }
            StubEvent::Published { .. } => {}
            other => panic!("expected a publication, got {other:?}"),
        }
    }

    // Garbage on the control stream ends that session, and no other.
    let raw = Raw::with(&hub, &hub.fresh("mad")).await;
    let mut control = raw.greet("i1").await;
    let mad = hub.joined().await;
    control.send.write(Bytes::from_static(&[0xff; 64])).await.expect("written");
    assert_eq!(raw.closed().await, Some(Code::Protocol));
    match hub.event().await {
        StubEvent::Left { id, why: Left::Lost(_), .. } => assert_eq!(id, mad.id()),
        other => panic!("expected an end, got {other:?}"),
    }
    link.publish("t", 1, Bytes::new()).expect("taken");
    assert_eq!(hub.published().await, session.id());
}

/// Four hundred greetings of TLS to which nobody answers further: more than one address may have under way.
#[tokio::test]
async fn stalled_handshakes_keep_nobody_out() {
    const STALLED: usize = 400;
    let mut hub = Hub::start();
    let relay = crate::transport::quic::bind_udp((Ipv4Addr::LOCALHOST, 0).into()).expect("socket");
    relay.set_nonblocking(true).expect("set");
    let relay = tokio::net::UdpSocket::from_std(relay).expect("socket");
    let endpoint = client_endpoint((Ipv4Addr::LOCALHOST, 0).into()).expect("socket");
    let tls = enrol_tls(hub.backend.authority.pin()).expect("tls");
    let config = client_config(tls, &timing()).expect("settings");
    let mut stalled = Vec::new();
    let mut seen = BTreeSet::new();
    let mut datagram = [0; 2048];
    while seen.len() < STALLED {
        let to = relay.local_addr().expect("address");
        stalled.push(endpoint.connect_with(config.clone(), to, SERVER_NAME).expect("dialled"));
        // The first flight may be several datagrams; later ones are forwarded with the next rounds.
        let length = soon("a first flight", relay.recv(&mut datagram)).await.expect("received");
        relay.send_to(&datagram[..length], hub.addr).await.expect("sent");
        seen.insert(datagram[6..14].to_vec());
    }
    let (_link, _events, _session) = hub.agent("eu-1").await;
}
