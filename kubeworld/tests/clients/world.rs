//! A world of its own for each test.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use kubeworld::controllers::{Controllers, Settings};
use kubeworld::serve::{Config, Server};
use kubeworld::{Api, Options, User};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

/// The token of the one who may do everything.
pub(crate) const TOKEN: &str = "token-of-admin";

/// A server that serves as long as this is held.
pub(crate) struct World {
    pub(crate) api: Arc<Api>,
    /// Its certificate, when it has one.
    pub(crate) certificate: Option<String>,
    server: Server,
}

impl World {
    /// Over plain HTTP.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::serve(None, None).await
    }

    /// Over TLS: kubectl sends neither a token nor whom to impersonate without it.
    pub(crate) async fn start_with_tls() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let certificate = params.self_signed(&key)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut tls = tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::serve(Some(tls), Some(certificate.pem())).await
    }

    /// Over TLS, with all that makes objects come true.
    pub(crate) async fn start_with_controllers() -> anyhow::Result<Self> {
        let world = Self::start_with_tls().await?;
        let settings = Settings { load_balancers: vec![Ipv4Addr::new(127, 0, 0, 9).into()], ..Settings::default() };
        world.server.control(Controllers::new(world.api.clone(), settings), Arc::new(Timestamp::now));
        Ok(world)
    }

    async fn serve(tls: Option<ServerConfig>, certificate: Option<String>) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        // As the real server of these tests: with nobody who would make service accounts.
        let api = Api::new(Options { service_account_admission: false, ..Options::default() }, Timestamp::now());
        let groups = ["system:masters", "system:authenticated"].map(str::to_owned).to_vec();
        let admin = User { name: "admin".to_owned(), uid: "uid-of-admin".to_owned(), groups, ..User::default() };
        let tokens = BTreeMap::from([(TOKEN.to_owned(), admin)]);
        let config = Config { tls: tls.map(Arc::new), tokens, ..Config::default() };
        let server = Server::start(api.clone(), listener, config, Arc::new(Timestamp::now))?;
        Ok(Self { api, certificate, server })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }
}
