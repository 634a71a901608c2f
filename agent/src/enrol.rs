//! Who this agent is: key and certificate, in a Secret of its own namespace, so that a new pod is the same agent.
//!
//! The key is made here and kept before it is used: if the answer to an enrolment is lost, the same key makes the next
//! try a retry instead of a theft.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use tunnel::Timing;
use tunnel::client::{EnrolError, enrol};
use tunnel::identity::{Identity, IdentityError, Key, Role, Token, TokenError};
use tunnel::message::RefusalCode;

/// The Secret.
const NAME: &str = "isochrone-agent-identity";
/// Field manager of what the agent writes for itself.
const MANAGER: &str = "isochrone-agent";
/// Between two tries to reach a hub for enrolment: a person is watching.
const RETRY: Duration = Duration::from_secs(2);

/// Why an agent has no identity.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nothing is stored and no token was given.
    #[error(
        "this cluster has not joined yet: run `isochrone cluster add NAME --region …` at the hub, then start the agent \
         with the --join TOKEN that it prints"
    )]
    NoToken,
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is another role's.
    #[error("the token is for a DNS node, not for an agent: print one with `isochrone cluster add NAME --region …`")]
    WrongRole,
    /// Another cluster's identity is stored here.
    #[error(
        "Secret {NAME} says that this cluster is {stored}, but {found}: delete the Secret, and join again with a new token"
    )]
    Foreign {
        /// Who the stored identity is.
        stored: String,
        /// What speaks against it.
        found: String,
    },
    /// The hub refused.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// Keys or certificates.
    #[error("the identity in Secret {NAME} cannot be used: delete the Secret, and join again with a new token")]
    Identity(#[from] IdentityError),
    /// The agent's own API server.
    #[error("cannot {verb} in the agent's own cluster")]
    Kube {
        /// What was tried.
        verb: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// An agent's identity and where its hubs are.
pub struct Joined {
    /// Who it is.
    pub identity: Identity,
    /// Whom it dials.
    pub hubs: Vec<String>,
    /// Id of the token that it joined with; empty where an earlier version did not write it down.
    pub token: String,
}

/// Keeps the identity.
pub struct IdentityStore {
    secrets: Api<Secret>,
}

impl IdentityStore {
    /// Identities in `namespace`.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client.clone(), namespace) }
    }

    /// The stored identity, or a new one for `token`; asks until a hub answers. With a token other than the one that the
    /// stored identity came by, it joins anew, for a new key, if a hub lets it.
    ///
    /// # Errors
    /// [`JoinError`]; a hub out of reach is waited for.
    pub async fn join(&self, uid: &str, token: Option<&str>) -> Result<Joined, JoinError> {
        let token = token.map(Token::parse).transpose()?;
        if token.as_ref().is_some_and(|token| token.role != Role::Agent) {
            return Err(JoinError::WrongRole);
        }
        let stored = self.read().await?;
        let field = |key: &str| stored.get(key).cloned().filter(|text| !text.is_empty());
        if let (Some(key), Some(certificate), Some(ca)) = (field("tls.key"), field("tls.crt"), field("ca.crt")) {
            let identity = Identity::new(key, certificate, ca)?;
            let peer = identity.peer(SystemTime::now())?;
            let foreign = |found: String| JoinError::Foreign { stored: peer.to_string(), found };
            if peer.uid != uid {
                return Err(foreign(format!("the UID of its namespace kube-system is {uid}")));
            }
            let hubs = field("hubs").map(|hubs| hubs.lines().map(str::to_owned).collect()).unwrap_or_default();
            let joined = Joined { identity, hubs, token: field("token").unwrap_or_default() };
            let Some(token) = token else { return Ok(joined) };
            if token.name != peer.name {
                return Err(foreign(format!("the token is for cluster {}", token.name)));
            }
            if joined.token.is_empty() || joined.token == token.id {
                tracing::info!("joined already; the token is not needed");
                return Ok(joined);
            }
            return self.join_anew(uid, token, joined).await;
        }
        let token = token.ok_or(JoinError::NoToken)?;
        let key = match field("tls.key") {
            Some(pem) => Key::from_pem(&pem)?,
            None => {
                let key = Key::generate()?;
                self.write(&[("tls.key", &key.to_pem())]).await?;
                key
            }
        };
        let identity = until_answered(&token, uid, &key).await?;
        tracing::info!(cluster = %token.name, "joined");
        let joined = Joined { identity, hubs: token.hubs, token: token.id };
        self.save(&joined).await?;
        Ok(joined)
    }

    /// Whatever speaks against it, the identity that is stored goes on to serve: an agent must start without a hub.
    async fn join_anew(&self, uid: &str, token: Token, stored: Joined) -> Result<Joined, JoinError> {
        match enrol(&token, uid, &Key::generate()?, None, &Timing::default()).await {
            Ok(identity) => {
                tracing::info!(cluster = %token.name, "joined anew");
                let joined = Joined { identity, hubs: token.hubs, token: token.id };
                self.save(&joined).await?;
                Ok(joined)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot join anew with this token; goes on with the identity that is stored");
                Ok(stored)
            }
        }
    }

    /// Keeps an identity, such as a renewed one.
    ///
    /// # Errors
    /// [`JoinError::Kube`].
    pub async fn save(&self, joined: &Joined) -> Result<(), JoinError> {
        let Joined { identity, hubs, token } = joined;
        let hubs = hubs.join("\n");
        self.write(&[
            ("tls.key", &identity.key_pem),
            ("tls.crt", &identity.certificate_pem),
            ("ca.crt", &identity.ca_pem),
            ("hubs", &hubs),
            ("token", token),
        ])
        .await
    }

    async fn read(&self) -> Result<BTreeMap<String, String>, JoinError> {
        let wrong = |source| JoinError::Kube { verb: "read its identity", source: Box::new(source) };
        let secret = self.secrets.get_opt(NAME).await.map_err(wrong)?;
        let text = |(key, value): (String, ByteString)| String::from_utf8(value.0).ok().map(|value| (key, value));
        Ok(secret.and_then(|s| s.data).unwrap_or_default().into_iter().filter_map(text).collect())
    }

    async fn write(&self, fields: &[(&str, &str)]) -> Result<(), JoinError> {
        let data = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            data: Some(fields.iter().map(data).collect()),
            ..Secret::default()
        };
        let params = PatchParams::apply(MANAGER).force();
        let wrong = |source| JoinError::Kube { verb: "keep its identity", source: Box::new(source) };
        self.secrets.patch(NAME, &params, &Patch::Apply(&secret)).await.map_err(wrong)?;
        Ok(())
    }
}

async fn until_answered(token: &Token, uid: &str, key: &Key) -> Result<Identity, EnrolError> {
    loop {
        match enrol(token, uid, key, None, &Timing::default()).await {
            Err(error @ EnrolError::Unreachable { .. })
            | Err(error @ EnrolError::Refused { code: RefusalCode::Unavailable, .. }) => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(RETRY).await;
            }
            answered => return answered,
        }
    }
}

/// What this cluster *is*: the UID of its namespace `kube-system`.
///
/// # Errors
/// [`JoinError::Kube`].
pub async fn cluster_uid(client: &Client) -> Result<String, JoinError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let wrong = |source| JoinError::Kube { verb: "read namespace kube-system", source: Box::new(source) };
    let namespace = namespaces.get("kube-system").await.map_err(wrong)?;
    Ok(namespace.metadata.uid.unwrap_or_default())
}
