//! The real server, as the battery asks it.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{Request, Response, exchange};
use crate::processes::Processes;
use crate::run::{ANSWER_WITHIN, Provider, USERS, bearer};

/// etcd and kube-apiserver.
pub(crate) struct Server {
    _processes: Processes,
    port: u16,
    tls: Arc<ClientConfig>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let tls = tls(write_files(dir.path())?)?;
        let mut processes = Processes::start(dir.path())?;
        let port = processes.port;
        let request =
            Request { method: "GET".to_owned(), target: "/readyz".to_owned(), headers: bearer("admin"), body: None };
        processes.until_ready(|| match send(port, &tls, &request) {
            Ok(response) if response.status == 200 => Ok(()),
            answer => Err(format!("{answer:?}")),
        })?;
        Ok(Self { _processes: processes, port, tls, _dir: dir })
    }
}

fn send(port: u16, tls: &Arc<ClientConfig>, request: &Request) -> anyhow::Result<Response> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to kube-apiserver")?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let connection = ClientConnection::new(Arc::clone(tls), name)?;
    exchange(StreamOwned::new(connection, stream), request)
}

impl Provider for Server {
    fn send(&self, request: &Request) -> anyhow::Result<Response> {
        send(self.port, &self.tls, request)
    }

    fn credentials(&self, user: &str) -> Vec<(String, String)> {
        bearer(user)
    }
}

/// Certificates, keys and users. The server's certificate is its own authority.
fn write_files(dir: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    let certificate = params.self_signed(&key)?;
    let tokens = KeyPair::generate()?;
    let users = USERS.map(|(name, groups)| format!("token-of-{name},{name},uid-of-{name},\"{groups}\"\n"));
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("tokens.key", tokens.serialize_pem()),
        ("tokens.pub", tokens.public_key_pem()),
        ("tokens.csv", users.concat()),
    ] {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(certificate.der().clone())
}

fn tls(certificate: CertificateDer<'static>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
