//! The hub's authority and the join tokens, in Secrets of its own namespace.
//!
//! The authority's key never leaves its Secret and this process. Of a token only the hash of its secret is kept; a used
//! one stays as the record of who joined with which key, so that the same key may ask again (a reply that was lost) and
//! another one is refused. No credential of any member is here.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tunnel::identity::{Authority, CLIENT_LIFETIME, Role, Subject, Token};
use tunnel::message::{Refusal, RefusalCode, Signed};
use tunnel::server::Enrolment;

use crate::choice_store::MANAGER;

/// The authority's Secret.
const AUTHORITY: &str = "isochrone-authority";
/// What anybody who makes tokens must know: the hub's addresses and the authority's certificate.
const TRUST: &str = "isochrone-trust";
/// Label on token Secrets: the role they are for.
pub(crate) const LABEL_ROLE: &str = "isochrone.dev/token";
/// Label on token Secrets: the cluster or node they are for.
pub(crate) const LABEL_NAME: &str = "isochrone.dev/name";
/// Label on token Secrets: its region. A label, so that who is where can be watched without reading any secret.
pub(crate) const LABEL_REGION: &str = "isochrone.dev/region";

/// A token may be used for a day: long enough to hand it to the cluster's owner, short enough to forget in a chat.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Why credentials could not be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The API server refused or could not be reached.
    #[error("cannot {verb} {object} in namespace {namespace}")]
    Kube {
        /// What was tried.
        verb: &'static str,
        /// On what.
        object: String,
        /// The hub's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The hub has never run there.
    #[error(
        "there is no ConfigMap {TRUST} in namespace {namespace}, so no hub has started there: start it first, or write \
         --namespace"
    )]
    NoHub {
        /// The namespace looked into.
        namespace: String,
    },
    /// What is stored is not what was written.
    #[error("{object} in namespace {namespace} is damaged ({what}): restore it from a backup")]
    Damaged {
        /// Which object.
        object: String,
        /// The hub's namespace.
        namespace: String,
        /// What is wrong with it.
        what: String,
    },
    /// Keys or certificates could not be made or read.
    #[error("cannot use the hub's authority")]
    Identity(#[from] tunnel::identity::IdentityError),
}

/// Reads and writes the hub's credentials.
#[derive(Clone)]
pub struct Credentials {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    namespace: String,
    lifetime: Duration,
}

impl Credentials {
    /// Credentials in `namespace`.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            lifetime: CLIENT_LIFETIME,
        }
    }

    /// The same, for certificates that are good for `lifetime` instead of [`CLIENT_LIFETIME`].
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Reads the authority, or makes it at the very first start; then says publicly where and who the hub is.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn open(&self, hubs: &[String]) -> Result<Authority, CredentialError> {
        let authority = match self.secrets.get_opt(AUTHORITY).await.map_err(|e| self.wrong("read", AUTHORITY, e))? {
            Some(secret) => self.authority(&secret)?,
            None => {
                let made = Authority::generate(SystemTime::now())?;
                let (certificate, key) = made.to_pem();
                let secret = Secret {
                    metadata: ObjectMeta { name: Some(AUTHORITY.to_owned()), ..ObjectMeta::default() },
                    type_: Some("kubernetes.io/tls".to_owned()),
                    data: Some(BTreeMap::from([
                        ("tls.crt".to_owned(), ByteString(certificate.into_bytes())),
                        ("tls.key".to_owned(), ByteString(key.into_bytes())),
                    ])),
                    ..Secret::default()
                };
                // Only one hub makes it: whoever comes second reads the first one's.
                match self.secrets.create(&PostParams::default(), &secret).await {
                    Ok(_) => made,
                    Err(kube::Error::Api(status)) if status.code == 409 => {
                        let secret = self.secrets.get(AUTHORITY).await.map_err(|e| self.wrong("read", AUTHORITY, e))?;
                        self.authority(&secret)?
                    }
                    Err(error) => return Err(self.wrong("create", AUTHORITY, error)),
                }
            }
        };
        let trust = ConfigMap {
            metadata: ObjectMeta { name: Some(TRUST.to_owned()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([
                ("ca.crt".to_owned(), authority.certificate_pem().to_owned()),
                ("pin".to_owned(), hex(&authority.pin())),
                ("hubs".to_owned(), hubs.join("\n")),
            ])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(MANAGER).force();
        self.maps.patch(TRUST, &params, &Patch::Apply(&trust)).await.map_err(|e| self.wrong("write", TRUST, e))?;
        Ok(authority)
    }

    fn authority(&self, secret: &Secret) -> Result<Authority, CredentialError> {
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|b| b.0.clone()).unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        let read = Authority::from_pem(&text("tls.crt"), &text("tls.key"));
        read.map_err(|error| self.damaged(AUTHORITY, &error.to_string()))
    }

    /// Makes a join token for a cluster's agent or a DNS node, with the rights of whoever calls this.
    ///
    /// # Errors
    /// [`CredentialError`]; [`CredentialError::NoHub`] when no hub has started in this namespace yet.
    pub async fn token(&self, role: Role, name: &str, region: &str) -> Result<Token, CredentialError> {
        let trust = self.maps.get_opt(TRUST).await.map_err(|e| self.wrong("read", TRUST, e))?;
        let trust = trust.ok_or_else(|| CredentialError::NoHub { namespace: self.namespace.clone() })?;
        let data = trust.data.unwrap_or_default();
        let damaged = |what: &str| self.damaged(TRUST, what);
        let pin = data.get("pin").and_then(|text| unhex(text)).ok_or_else(|| damaged("its pin is no SHA-256"))?;
        let hubs: Vec<String> = data.get("hubs").map(|h| h.lines().map(str::to_owned).collect()).unwrap_or_default();
        let token = Token::generate(role, name, pin, hubs);
        let expires = Timestamp::now() + TOKEN_LIFETIME;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(object_name(&token.id)),
                labels: Some(BTreeMap::from([
                    (LABEL_ROLE.to_owned(), role.to_string()),
                    (LABEL_NAME.to_owned(), name.to_owned()),
                    (LABEL_REGION.to_owned(), region.to_owned()),
                ])),
                ..ObjectMeta::default()
            },
            string_data: Some(BTreeMap::from([
                ("secret-sha256".to_owned(), hex(&token.secret_hash())),
                ("role".to_owned(), role.to_string()),
                ("name".to_owned(), name.to_owned()),
                ("expires".to_owned(), expires.to_string()),
            ])),
            ..Secret::default()
        };
        let created = self.secrets.create(&PostParams::default(), &secret).await;
        created.map_err(|e| self.wrong("create", &object_name(&token.id), e))?;
        Ok(token)
    }

    /// Answers an enrolment: the token must be known, unexpired, and unused or used with the same key.
    ///
    /// # Errors
    /// A [`Refusal`] that says what to do.
    pub async fn enrol(&self, authority: &Authority, request: &Enrolment) -> Result<Signed, Refusal> {
        let unavailable = |what: String| Refusal::new(RefusalCode::Unavailable, what);
        // The id comes from the network and becomes part of a name.
        let well_formed = request.token.len() <= 64 && request.token.bytes().all(|b| b.is_ascii_alphanumeric());
        let unknown = || {
            let text = "no such token: print a new one with `isochrone cluster add` or `isochrone dns add`";
            Refusal::new(RefusalCode::UnknownToken, text)
        };
        if !well_formed {
            return Err(unknown());
        }
        let name = object_name(&request.token.to_ascii_lowercase());
        let stored =
            self.secrets.get_opt(&name).await.map_err(|e| unavailable(format!("the hub cannot read tokens: {e}")))?;
        let mut secret = stored.ok_or_else(unknown)?;
        let text = |secret: &Secret, key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|b| b.0.clone()).unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        // Compared as hashes: how long that takes says nothing about the secret.
        if text(&secret, "secret-sha256") != hex(&request.secret_hash) {
            return Err(unknown());
        }
        let expires: Option<Timestamp> = text(&secret, "expires").parse().ok();
        let used_by = text(&secret, "used-by");
        let key = hex(&request.key_hash);
        if used_by.is_empty() && expires.is_none_or(|at| at < Timestamp::now()) {
            let text = format!("the token is older than {} hours: print a new one", TOKEN_LIFETIME.as_secs() / 3600);
            return Err(Refusal::new(RefusalCode::ExpiredToken, text));
        }
        if !used_by.is_empty() && used_by != key {
            let text = "the token was used already, with another key: print a new one; if it was not you, find out who";
            return Err(Refusal::new(RefusalCode::UsedToken, text));
        }
        let malformed = |e: tunnel::identity::IdentityError| Refusal::new(RefusalCode::Malformed, e.to_string());
        let role = Role::from_word(&text(&secret, "role")).ok_or_else(unknown)?;
        let subject = Subject::new(role, &text(&secret, "name"), &request.uid).map_err(malformed)?;
        let signed = self.sign(authority, &request.csr, &subject)?;
        if used_by.is_empty() {
            secret.data.get_or_insert_default().insert("used-by".to_owned(), ByteString(key.into_bytes()));
            secret.data.get_or_insert_default().insert("uid".to_owned(), ByteString(request.uid.clone().into_bytes()));
            // Of two who use it at once the second meets a newer resource version.
            let replaced = self.secrets.replace(&name, &PostParams::default(), &secret).await;
            replaced
                .map_err(|e| unavailable(format!("the hub cannot note that the token was used: {e}; try again")))?;
        }
        Ok(signed)
    }

    /// Signs a request for `subject`, whatever else the request asks for.
    ///
    /// # Errors
    /// A [`Refusal`] when the request cannot be read.
    pub fn sign(&self, authority: &Authority, csr: &[u8], subject: &Subject) -> Result<Signed, Refusal> {
        let chain_pem = authority
            .sign(csr, subject, SystemTime::now(), self.lifetime)
            .map_err(|e| Refusal::new(RefusalCode::Malformed, e.to_string()))?;
        Ok(Signed { chain_pem, ca_pem: authority.certificate_pem().to_owned() })
    }

    fn wrong(&self, verb: &'static str, object: &str, source: kube::Error) -> CredentialError {
        CredentialError::Kube {
            verb,
            object: object.to_owned(),
            namespace: self.namespace.clone(),
            source: Box::new(source),
        }
    }

    fn damaged(&self, object: &str, what: &str) -> CredentialError {
        CredentialError::Damaged { object: object.to_owned(), namespace: self.namespace.clone(), what: what.to_owned() }
    }
}

fn object_name(token: &str) -> String {
    format!("isochrone-token-{token}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}
