//! The real server, as the battery asks it.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{Request, Response, exchange};
use crate::processes::{Processes, READY_WITHIN};
use crate::run::{ANSWER_WITHIN, Provider, USERS, bearer};

/// etcd and kube-apiserver.
pub(crate) struct Server {
    processes: Processes,
    tls: Arc<ClientConfig>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let tls = tls(write_files(dir.path())?)?;
        let mut server = Self { processes: Processes::start(dir.path())?, tls, _dir: dir };
        server.until_ready()?;
        Ok(server)
    }

    fn until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let request = Request {
            method: "GET".to_owned(),
            target: "/readyz".to_owned(),
            headers: self.credentials("admin"),
            body: None,
        };
        loop {
            let answer = self.send(&request);
            if answer.as_ref().is_ok_and(|response| response.status == 200) {
                return Ok(());
            }
            self.processes.check()?;
            if started.elapsed() > READY_WITHIN {
                bail!("kube-apiserver is not ready: {answer:?}\n{}", self.processes.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Provider for Server {
    fn send(&self, request: &Request) -> anyhow::Result<Response> {
        let address = (Ipv4Addr::LOCALHOST, self.processes.port);
        let stream = TcpStream::connect(address).context("connecting to kube-apiserver")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)?;
        exchange(StreamOwned::new(connection, stream), request)
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
