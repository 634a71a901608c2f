//! Against real sockets on loopback, each with one way to behave. No test depends on speed: those that wait for silence
//! wait for the probe's own limit.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn target(ports: &[(u16, bool)]) -> Target {
    Target { addresses: vec![HERE], ports: ports.to_vec(), path: "/healthz".into(), host: "in.example.com".into() }
}

/// A server that reads a request and says `words`, then closes, or holds the connection open.
async fn server(words: &'static str, hold: bool) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            assert!(request.starts_with("GET /healthz HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("host: in.example.com\r\n"), "{request}");
            let _ = stream.write_all(words.as_bytes()).await;
            if hold {
                held.push(stream);
            }
        }
    });
    port
}

async fn closed_port() -> u16 {
    TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port()
}

async fn outcome(ports: &[(u16, bool)], limit: Duration) -> Probe {
    ask(&target(ports), &Tls::new().unwrap(), None, limit).await.outcome
}

#[tokio::test]
async fn a_whole_answer_below_500_is_a_sign_of_life() {
    for words in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://x/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nto the end",
    ] {
        let hold = !words.starts_with("HTTP/1.0");
        assert_eq!(outcome(&[(server(words, hold).await, false)], LONG).await, Probe::Success, "{words}");
    }
}

/// On Linux every address of 127.0.0.0/8 is this machine's; by itself the system chooses 127.0.0.1.
#[tokio::test]
async fn it_asks_from_the_address_that_it_is_given() {
    for (source, seen) in [("127.0.0.2", "127.0.0.2"), ("::1", "127.0.0.1")] {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let target = target(&[(listener.local_addr().unwrap().port(), false)]);
        let tls = Tls::new().unwrap();
        let asking = ask(&target, &tls, Some(source.parse().unwrap()), LONG);
        let answering = async {
            let (mut stream, client) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            (stream, client.ip().to_string())
        };
        let (answer, (_open, client)) = tokio::join!(asking, answering);
        assert_eq!((answer.outcome, client.as_str()), (Probe::Success, seen), "{}", answer.words);
    }
}

#[tokio::test]
async fn an_address_of_its_own_takes_no_port_before_it_is_known_for_whom() {
    let socket = speaking_from(Ipv4Addr::new(127, 0, 0, 2).into()).unwrap();
    assert_eq!(socket.local_addr().unwrap().port(), 0);
}

#[tokio::test]
async fn what_the_target_itself_says_is_a_refusal() {
    let failing = server("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", true).await;
    assert_eq!(outcome(&[(failing, false)], LONG).await, Probe::Refused);
    assert_eq!(outcome(&[(closed_port().await, false)], LONG).await, Probe::Refused);
    let garbage = server("SSH-2.0-OpenSSH_9.2\r\n", true).await;
    assert_eq!(outcome(&[(garbage, false)], LONG).await, Probe::Refused);
    let answer = ask(&target(&[(failing, false)]), &Tls::new().unwrap(), None, LONG).await;
    assert_eq!(answer.words, format!("127.0.0.1:{failing} said 503"));
}

#[tokio::test]
async fn accepted_without_a_whole_reply_is_silence() {
    for (words, hold, limit) in [
        ("", true, SHORT),
        ("", false, LONG),
        ("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nhalf", true, SHORT),
        ("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nhalf", false, LONG),
    ] {
        assert_eq!(outcome(&[(server(words, hold).await, false)], limit).await, Probe::Silence, "{words:?} {hold}");
    }
    assert_eq!(outcome(&[], LONG).await, Probe::Silence);
}

#[tokio::test]
async fn a_long_body_is_not_read_to_its_end() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    });
    assert_eq!(outcome(&[(port, false)], LONG).await, Probe::Success);
}

#[tokio::test]
async fn one_good_answer_is_enough_and_a_refusal_outweighs_silence() {
    let (good, silent, refused) = (
        server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true).await,
        server("", true).await,
        closed_port().await,
    );
    // Long: were the silent one waited for, this would take a minute.
    assert_eq!(outcome(&[(silent, false), (refused, false), (good, false)], LONG).await, Probe::Success);
    assert_eq!(outcome(&[(silent, false), (refused, false)], SHORT).await, Probe::Refused);
}

/// A TLS server under a certificate that nobody knows; `strict` asks for one of the client, which has none.
async fn tls_server(strict: bool) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["other.example.com".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if strict {
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn https_needs_an_answer_and_no_particular_certificate() {
    assert_eq!(outcome(&[(tls_server(false).await, true)], LONG).await, Probe::Success);
    assert_eq!(outcome(&[(tls_server(true).await, true)], LONG).await, Probe::Refused, "an alert is the target's word");
    let plain = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        let mut hello = [0; 1024];
        let _ = stream.read(&mut hello).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut hello).await;
    });
    assert_eq!(outcome(&[(port, true)], LONG).await, Probe::Refused, "who speaks no TLS has answered all the same");
}
