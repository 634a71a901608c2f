use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use api::snapshot::{NameServer, Record, Snapshot, Soa, Zone};
use api::wire::{self, SnapshotHead};
use prost::Message as _;

use super::*;
use crate::snapshot::Accepted;

/// `example.test. TXT` with an id.
fn query(id: u8) -> Vec<u8> {
    let mut query = vec![0, id, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(b"\x07example\x04test\x00\x00\x10\x00\x01");
    query
}

fn framed(id: u8) -> Vec<u8> {
    let query = query(id);
    [&(query.len() as u16).to_be_bytes(), &query[..]].concat()
}

fn store(directory: &std::path::Path) -> Arc<Store> {
    let (store, _) = Store::open(directory, "node-1");
    let records = (0..40).map(|n| Record {
        name: "example.test".into(),
        r#type: "TXT".into(),
        ttl_s: 60,
        value: format!("\"{n:060}\""),
    });
    let zone = Zone {
        origin: "example.test".into(),
        soa: Some(Soa { rname: "hostmaster.example.test".into(), ..Soa::default() }),
        name_servers: vec![NameServer { name: "ns.example.test".into(), addresses: vec![] }],
        records: records.collect(),
        ..Zone::default()
    };
    let snapshot = Snapshot { term: 1, number: 1, zones: vec![zone], ..Snapshot::default() };
    let bytes = snapshot.encode_to_vec();
    let head = SnapshotHead { term: 1, number: 1, digest: wire::digest(&bytes) };
    assert!(matches!(store.offer(&head, &bytes), Ok(Accepted::Serving { unsaved: None })));
    Arc::new(store)
}

fn config() -> Config {
    Config { listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()], ..Config::default() }
}

/// Reads one framed reply; `None` when none comes.
fn reply(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).ok()?;
    Some(reply)
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_truncates_what_tcp_has_in_full() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&store(directory.path()), &config()).unwrap();
    for address in server.addresses() {
        let client = UdpSocket::bind((address.ip(), 0)).unwrap();
        client.set_read_timeout(PATIENCE).unwrap();
        client.send_to(&query(7), address).unwrap();
        let mut buffer = [0; 4096];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, *address);
        assert!(length < 512 && buffer[1] == 7 && buffer[2] & 0x02 != 0, "truncated");

        let mut stream = connect(*address);
        // Three queries at once, a fourth byte by byte; answered in order.
        stream.write_all(&[framed(1), framed(2), framed(3)].concat()).unwrap();
        for byte in framed(4) {
            stream.write_all(&[byte]).unwrap();
        }
        for id in 1..=4 {
            let reply = reply(&mut stream).unwrap();
            assert!(reply.len() > 2000 && reply[1] == id && reply[2] & 0x02 == 0 && reply[7] == 40);
        }
        // A client that has asked everything may close its side and still gets its answer.
        stream.write_all(&framed(5)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(reply(&mut stream).unwrap()[1], 5);
        closed(&mut stream);
    }
    server.stop().await;
}

/// Waits for the server to close its side; a connection that stays open is a failure, not an end.
fn closed(stream: &mut TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
}

/// Longer than any test: what ends a connection that has this to idle is not idling.
const FOREVER: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped_over_all_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { tcp_connections: 1, tcp_idle: FOREVER, ..config() };
    let server = Server::start(&store(directory.path()), &config).unwrap();
    let mut first = connect(server.addresses()[0]);
    first.write_all(&framed(1)).unwrap();
    assert!(reply(&mut first).is_some());
    closed(&mut connect(server.addresses()[1]));
    // The one that was there is not disturbed.
    first.write_all(&framed(2)).unwrap();
    assert_eq!(reply(&mut first).unwrap()[1], 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { tcp_idle: Duration::from_millis(50), ..config() };
    let server = Server::start(&store(directory.path()), &config).unwrap();
    closed(&mut connect(server.addresses()[0]));
    // Half a message is silence as well.
    let mut half = connect(server.addresses()[0]);
    half.write_all(&framed(1)[..5]).unwrap();
    closed(&mut half);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_query_ends_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&store(directory.path()), &Config { tcp_idle: FOREVER, ..config() }).unwrap();
    let mut stream = connect(server.addresses()[0]);
    stream.write_all(&[0, 3, 1, 2, 3]).unwrap();
    closed(&mut stream);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_everything_and_frees_the_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let server = Server::start(&store, &Config { tcp_idle: FOREVER, ..config() }).unwrap();
    let addresses = server.addresses().to_vec();
    let mut waiting = connect(addresses[0]);
    waiting.write_all(&framed(1)).unwrap();
    assert!(reply(&mut waiting).is_some());
    server.stop().await;
    closed(&mut waiting);
    let again = Server::start(&store, &Config { listen: addresses.clone(), ..Config::default() }).unwrap();
    assert_eq!(again.addresses(), addresses);
    // Another one cannot have them, and says which.
    let error = Server::start(&store, &Config { listen: addresses.clone(), ..Config::default() }).unwrap_err();
    assert!(error.to_string().contains(&addresses[0].to_string()), "{error}");
    again.stop().await;
}
