//! A client that costs little: a connection, prepared bodies, and answers that are counted, not read.
//!
//! Not kube-rs, which parses every answer: it would take more of the two cores than kubeworld does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Some records of TLS, of 16 kB each.
const READ_AT_ONCE: usize = 64 * 1024;

/// How a server is reached.
#[derive(Clone)]
pub(super) struct Access {
    port: u16,
    tls: Arc<ClientConfig>,
    authorization: HeaderValue,
}

/// One connection, which is kept.
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    authorization: HeaderValue,
}

impl Access {
    /// To a server on loopback with a certificate that is its own authority.
    pub(super) fn new(port: u16, certificate: CertificateDer<'static>, token: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).context("trusting the certificate")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let authorization = HeaderValue::from_str(&format!("Bearer {token}")).context("a token for a header")?;
        Ok(Self { port, tls, authorization })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true).context("turning Nagle's algorithm off")?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        // rustls reads four kilobytes at a time, which costs a client of much data more than all else.
        let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("greeting in TLS")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("greeting in HTTP")?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Client { sender, driver, authorization: self.authorization.clone() })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Sends a request; the answer's body is yet to come.
    pub(super) async fn send(
        &mut self,
        method: Method,
        target: &str,
        kind: &'static str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, HeaderValue::from_static("localhost"))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(kind))
            .body(Full::new(body.into()))
            .with_context(|| format!("a request for {target}"))?;
        self.sender.ready().await.context("waiting for the connection")?;
        self.sender.send_request(request).await.with_context(|| format!("asking for {target}"))
    }

    /// Sends a request, demands that it succeeds, and says how many bytes came back.
    pub(super) async fn done(
        &mut self,
        method: Method,
        target: &str,
        kind: &'static str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<u64> {
        let response = self.send(method, target, kind, body).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            anyhow::bail!("{target}: {status}: {}", String::from_utf8_lossy(&text));
        }
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.with_context(|| format!("reading the answer to {target}"))?;
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }

    /// The whole of an answer to a GET, parsed.
    pub(super) async fn get(&mut self, target: &str) -> anyhow::Result<serde_json::Value> {
        let response = self.send(Method::GET, target, JSON, Bytes::new()).await?;
        let status = response.status();
        let body = response.into_body().collect().await.with_context(|| format!("reading {target}"))?.to_bytes();
        ensure!(status == StatusCode::OK, "{target}: {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("{target} is not JSON"))
    }
}

/// What bodies are, unless they are applied.
pub(super) const JSON: &str = "application/json";
