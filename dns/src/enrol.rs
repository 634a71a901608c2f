//! Who this DNS node is: key, certificate, its own id and its hubs, in its state directory.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tunnel::Timing;
use tunnel::client::{EnrolError, enrol};
use tunnel::identity::{Identity, IdentityError, Key, Role, Token, TokenError, random_id};
use tunnel::message::RefusalCode;
use tunnel::state::StateError;

/// The file with the addresses of the hubs, one a line.
const HUBS: &str = "hubs";
/// The file with the node's own id.
const UID: &str = "uid";
/// The file with the id of the token that it joined with.
const TOKEN: &str = "token";
/// Between two tries to reach a hub for enrolment: a person is watching.
const RETRY: Duration = Duration::from_secs(2);

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nothing is stored and no token was given.
    #[error(
        "this node has not joined yet: run `isochrone dns add NAME --region …` at the hub, then start the node with the \
         --join TOKEN that it prints"
    )]
    NoToken,
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is another role's.
    #[error("the token is for an agent, not for a DNS node: print one with `isochrone dns add NAME --region …`")]
    WrongRole,
    /// Another node's identity is stored here.
    #[error(
        "the state directory belongs to DNS node {stored}, and the token to {token}: write another --state, or no --join"
    )]
    Foreign {
        /// Who the stored identity is.
        stored: String,
        /// Whom the token is for.
        token: String,
    },
    /// The hub refused.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// Keys or certificates.
    #[error("the identity in the state directory cannot be used: move it away, and join again with a new token")]
    Identity(#[from] IdentityError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of the state directory.
    #[error("cannot use {file} in the state directory")]
    File {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A node's identity, its name, and where its hubs are.
pub struct Joined {
    /// Who it is.
    pub identity: Identity,
    /// Its name.
    pub name: String,
    /// Whom it dials.
    pub hubs: Vec<String>,
}

/// The stored identity, if there is one: with it a node serves, and needs no hub to start. With a token other than the
/// one that it came by, the node joins anew, for a new key, speaking from `source`, if a hub lets it; else it goes on
/// with what is stored.
///
/// # Errors
/// [`JoinError`].
pub async fn stored(dir: &Path, token: Option<&str>, source: Option<IpAddr>) -> Result<Option<Joined>, JoinError> {
    let Some(identity) = Identity::load(dir)? else { return Ok(None) };
    let name = identity.peer(SystemTime::now())?.name;
    if let Some(text) = token {
        let token = Token::parse(text)?;
        if token.name != name {
            return Err(JoinError::Foreign { stored: name, token: token.name });
        }
        match (read(dir, TOKEN)?, read(dir, UID)?) {
            (Some(joined_with), Some(uid)) if joined_with != token.id => {
                match enrol(&token, &uid, &Key::generate()?, source, &Timing::default()).await {
                    Ok(identity) => return keep(dir, identity, token).map(Some),
                    Err(error) => {
                        tracing::warn!(%error, "cannot join anew with this token; goes on with the identity that is stored");
                    }
                }
            }
            _ => tracing::info!("joined already; the token is not needed"),
        }
    }
    let hubs = read(dir, HUBS)?.unwrap_or_default().lines().map(str::to_owned).collect();
    Ok(Some(Joined { identity, name, hubs }))
}

/// Trades the token for an identity and stores it; asks, speaking from `source`, until a hub answers.
///
/// # Errors
/// [`JoinError`]; a hub out of reach is waited for.
pub async fn join(dir: &Path, token: Option<&str>, source: Option<IpAddr>) -> Result<Joined, JoinError> {
    let token = Token::parse(token.ok_or(JoinError::NoToken)?)?;
    if token.role != Role::Dns {
        return Err(JoinError::WrongRole);
    }
    let key = Key::load_or_create(dir)?;
    let uid = match read(dir, UID)? {
        Some(uid) => uid,
        None => {
            let uid = random_id();
            write(dir, UID, &uid)?;
            uid
        }
    };
    let identity = loop {
        match enrol(&token, &uid, &key, source, &Timing::default()).await {
            Err(error @ EnrolError::Unreachable { .. })
            | Err(error @ EnrolError::Refused { code: RefusalCode::Unavailable, .. }) => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(RETRY).await;
            }
            answered => break answered?,
        }
    };
    keep(dir, identity, token)
}

fn keep(dir: &Path, identity: Identity, token: Token) -> Result<Joined, JoinError> {
    write(dir, HUBS, &token.hubs.join("\n"))?;
    write(dir, TOKEN, &token.id)?;
    identity.save(dir)?;
    tracing::info!(node = %token.name, "joined");
    Ok(Joined { identity, name: token.name, hubs: token.hubs })
}

fn read(dir: &Path, file: &'static str) -> Result<Option<String>, JoinError> {
    match std::fs::read_to_string(dir.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JoinError::File { file, source }),
    }
}

fn write(dir: &Path, file: &'static str, text: &str) -> Result<(), JoinError> {
    std::fs::write(dir.join(file), text).map_err(|source| JoinError::File { file, source })
}
