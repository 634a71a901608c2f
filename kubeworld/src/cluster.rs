//! A whole cluster on a socket: the API, its controllers, TLS with certificates of its own, and the kubeconfigs by which
//! kubectl and others come in.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::api::{Api, Options, Reply, User};
use crate::controllers::{Controllers, Settings};
use crate::serve::{Clock, Config, Server};
use authority::{Authority, Pair};
use kubeconfig::Credential;

pub mod authority;
pub mod kubeconfig;

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Its name in kubeconfigs.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where clients reach it, if that is elsewhere, such as behind a relay.
    pub reached_at: Option<SocketAddr>,
    /// What is fixed when the API starts.
    pub options: Options,
    /// How its controllers behave; the root certificates are its own, whatever is said here.
    pub settings: Settings,
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Certificates.
    #[error("cannot make the certificates of the cluster {name}")]
    Certificates {
        /// The cluster.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The socket.
    #[error("the API of the cluster {name} cannot listen on {address}")]
    Listen {
        /// The cluster.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No token.
    #[error("the cluster {name} gives no token of the service account {account}: {said}")]
    Token {
        /// The cluster.
        name: String,
        /// `namespace/name`.
        account: String,
        /// What the API said.
        said: String,
    },
}

/// A cluster that serves.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    api: Arc<Api>,
    server: Server,
    url: String,
    ca_pem: String,
    admin: Pair,
    clock: Clocked,
}

/// [`Clock`] with a `Debug`.
#[derive(Clone)]
struct Clocked(Clock);

impl std::fmt::Debug for Clocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Cluster {
    /// Starts to serve.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn start(spec: ClusterSpec, clock: Clock) -> Result<Self, ClusterError> {
        let ClusterSpec { name, listen, reached_at, options, mut settings } = spec;
        let refused = |source| ClusterError::Listen { name: name.clone(), address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let reached_at = reached_at.unwrap_or(address);
        let (tls, ca_pem, admin) = certificates(&name, &[address, reached_at])
            .map_err(|source| ClusterError::Certificates { name: name.clone(), source })?;
        let api = Api::new(options, clock());
        let config = Config { tls: Some(Arc::new(tls)), ..Config::default() };
        let server = Server::start(api.clone(), listener, config, clock.clone()).map_err(refused)?;
        settings.root_certificates.clone_from(&ca_pem);
        server.control(Controllers::new(api.clone(), settings), clock.clone());
        let url = format!("https://{reached_at}");
        Ok(Self { name, api, server, url, ca_pem, admin, clock: Clocked(clock) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The API itself.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `https://ADDRESS:PORT`, as clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A kubeconfig of a member of `system:masters`.
    pub fn admin_kubeconfig(&self) -> Value {
        kubeconfig::content(&self.name, &self.url, &self.ca_pem, "admin", Credential::Certificate(&self.admin))
    }

    /// A kubeconfig with a token of a service account, which must exist. The token is good for `seconds`.
    ///
    /// # Errors
    /// [`ClusterError::Token`].
    pub fn service_account_kubeconfig(
        &self,
        namespace: &str,
        account: &str,
        seconds: u64,
    ) -> Result<Value, ClusterError> {
        let refused = |said: String| ClusterError::Token {
            name: self.name.clone(),
            account: format!("{namespace}/{account}"),
            said,
        };
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(format!(
                r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{{"expirationSeconds":{seconds}}}}}"#
            )))
            .map_err(|error| refused(error.to_string()))?;
        let Reply::Whole(answer) = self.api.handle(&request, &User::admin(), (self.clock.0)()) else {
            return Err(refused("a watch".to_owned()));
        };
        let body: Value = serde_json::from_slice(answer.body()).map_err(|error| refused(error.to_string()))?;
        match body["status"]["token"].as_str() {
            Some(token) => {
                Ok(kubeconfig::content(&self.name, &self.url, &self.ca_pem, account, Credential::Token(token)))
            }
            None => Err(refused(body["message"].as_str().unwrap_or("no word why").to_owned())),
        }
    }

    /// Ends all watches and connections, and waits for them.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// TLS for a server at these addresses, which takes client certificates; its authority; and an administrator's pair.
fn certificates(
    name: &str,
    addresses: &[SocketAddr],
) -> Result<(ServerConfig, String, Pair), Box<dyn std::error::Error + Send + Sync>> {
    let authority = Authority::new(&format!("{name} authority"))?;
    let ca_pem = authority.pair().certificate;
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    let server = authority.server(&["localhost", "kubernetes.default.svc"], &addresses)?;
    let admin = authority.client("kubernetes-admin", Some("system:masters"))?;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        // Tokens are another way to say who one is.
        .with_client_cert_verifier(clients.allow_unauthenticated().build()?)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server.certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(server.key.as_bytes())?,
        )?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((tls, ca_pem, admin))
}
