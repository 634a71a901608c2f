use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

fn site(name: &str) -> Site {
    Arc::from(name)
}

/// A network of `near` and `far`, 80 ms of round trip apart, whose clients have 127.77.1.x and 127.77.2.x.
fn network() -> Network {
    let place = |latitude| Coordinates::new(latitude, 0.0).unwrap();
    Network::new(
        [(site("near"), place(0.0)), (site("far"), place(10.0))],
        [([127, 77, 1], site("near")), ([127, 77, 2], site("far"))],
        [(site("near"), site("far"), Duration::from_millis(80))],
    )
}

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn served(network: &Network, clients: Clients, address: SocketAddr) -> Served {
    Served { network: network.clone(), clients, site: site("near"), address }
}

async fn udp_relay(network: &Network, clients: Clients) -> (SocketAddr, UdpSocket, DropGuard) {
    let server = UdpSocket::bind(any()).await.unwrap();
    let address = server.local_addr().unwrap();
    let relay = udp::Relay::bind(any(), served(network, clients, address)).await.unwrap();
    let listens = relay.address();
    let stop = CancellationToken::new();
    tokio::spawn(relay.run(stop.clone()));
    (listens, server, stop.drop_guard())
}

/// A relay to a server that sends back what it gets, and the connections that the server has open.
async fn tcp_relay(network: &Network) -> (SocketAddr, Arc<Mutex<usize>>, DropGuard) {
    let server = TcpListener::bind(any()).await.unwrap();
    let address = server.local_addr().unwrap();
    let open = Arc::new(Mutex::new(0));
    let counted = open.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                *counted.lock().unwrap() += 1;
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                *counted.lock().unwrap() -= 1;
            });
        }
    });
    let relay = tcp::Relay::bind(any(), served(network, Clients::ByAddress, address)).await.unwrap();
    let listens = relay.address();
    let stop = CancellationToken::new();
    tokio::spawn(relay.run(stop.clone()));
    (listens, open, stop.drop_guard())
}

async fn client(address: &str, server: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(server).await.unwrap()
}

async fn echoed(stream: &mut TcpStream, word: &[u8]) -> Vec<u8> {
    stream.write_all(word).await.unwrap();
    let mut back = vec![0; word.len()];
    stream.read_exact(&mut back).await.unwrap();
    back
}

#[tokio::test]
async fn datagrams_come_from_the_client_and_go_back_to_it() {
    let (relay, server, _stop) = udp_relay(&network(), Clients::ByAddress).await;
    for address in ["127.77.1.9:0", "127.77.2.9:0"] {
        let client = UdpSocket::bind(address).await.unwrap();
        client.connect(relay).await.unwrap();
        client.send(b"hello").await.unwrap();
        let mut buffer = [0; 16];
        let (length, seen) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], seen.ip()), (&b"hello"[..], client.local_addr().unwrap().ip()));
        server.send_to(b"hi", seen).await.unwrap();
        let length = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"hi");
    }
}

#[test]
fn whoever_chose_no_address_sits_at_the_machine() {
    let relay = "127.77.1.1:53".parse().unwrap();
    // The system's own choice is 127.0.0.1 or the relay's address; anything else but loopback is not ours to speak from.
    for (client, known) in [
        ("127.77.2.9", "127.77.2.9"),
        ("127.77.1.9", "127.77.1.9"),
        ("127.77.1.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.1", "127.0.0.1"),
    ] {
        assert_eq!(known_by(format!("{client}:4711").parse().unwrap(), relay).to_string(), known, "{client}");
    }
}

#[tokio::test]
async fn what_passes_takes_as_long_as_the_way() {
    let network = network();
    assert_eq!(network.round_trip(&site("far"), &site("near")), Duration::from_millis(80));
    let (relay, ..) = &tcp_relay(&network).await;
    let begun = Instant::now();
    let mut far = client("127.77.2.9", *relay).await;
    assert_eq!(echoed(&mut far, b"a").await, b"a");
    // Once for the connection, once for the question. Later is a busy machine; earlier is a fault.
    assert!(begun.elapsed() >= Duration::from_millis(160), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(echoed(&mut far, b"b").await, b"b");
    assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
    let near = network.way(Some(site("near")), site("near"));
    assert_eq!(near.delay, Duration::ZERO);
    assert_eq!(network.way(None, site("near")).delay, Duration::ZERO, "who sits at the machine");
}

#[tokio::test]
async fn a_cut_is_silence_and_what_waited_arrives_once_it_is_mended() {
    let network = network();
    let (relay, open, _stop) = tcp_relay(&network).await;
    let mut far = client("127.77.2.9", relay).await;
    echoed(&mut far, b"before").await;
    network.set_apart(&site("near"), &site("far"), true);
    let mut near = client("127.77.1.9", relay).await;
    echoed(&mut near, b"not cut").await;
    far.write_all(b"late").await.unwrap();
    let mut back = [0; 4];
    let waited = tokio::time::timeout(Duration::from_millis(300), far.read_exact(&mut back)).await;
    assert!(waited.is_err(), "something passed");

    // One that comes meanwhile is let in, and hears nothing; when it gives up, nothing of it stays.
    let before = *open.lock().unwrap();
    let mut hopeful = client("127.77.2.10", relay).await;
    hopeful.write_all(b"?").await.unwrap();
    while *open.lock().unwrap() == before {
        tokio::task::yield_now().await;
    }
    drop(hopeful);
    while *open.lock().unwrap() > before {
        tokio::task::yield_now().await;
    }

    network.set_apart(&site("far"), &site("near"), false);
    far.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"late");
}

#[tokio::test]
async fn a_dark_site_is_cut_off_from_all_but_itself() {
    let network = network();
    let way = |from: Option<&str>| network.way(from.map(site), site("near"));
    let open = |from| way(from).is_open();
    assert!(open(None) && open(Some("near")) && open(Some("far")));
    network.set_dark(&site("near"), true);
    assert!(!open(None) && open(Some("near")) && !open(Some("far")));
    network.set_dark(&site("near"), false);
    network.set_dark(&site("far"), true);
    assert!(open(None) && open(Some("near")) && !open(Some("far")));

    let (relay, server, _stop) = udp_relay(&network, Clients::From(site("far"))).await;
    let client = UdpSocket::bind("127.77.1.9:0").await.unwrap();
    client.connect(relay).await.unwrap();
    client.send(b"lost").await.unwrap();
    let mut buffer = [0; 16];
    let lost = tokio::time::timeout(Duration::from_millis(200), server.recv_from(&mut buffer)).await;
    assert!(lost.is_err(), "it counts as from the dark site, wherever it comes from");
    network.set_dark(&site("far"), false);
    client.send(b"found").await.unwrap();
    let (length, _) = server.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"found");
}
