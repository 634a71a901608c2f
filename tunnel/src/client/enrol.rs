//! Before there is an identity: a token traded for a certificate, over a connection that does nothing else.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::connect::{ConnectError, Endpoints, chain, connect, open};
use crate::Timing;
use crate::code::Code;
use crate::identity::{Identity, IdentityError, Key, Peer, Token, enrol_tls};
use crate::message::{EnrolRequest, FRAME_BYTES_MAX, Kind, RefusalCode, SignReply};
use crate::streams::lock;
use crate::transport::quic::{QuicConnection, client_config};
use crate::transport::{Connection as _, Ending, read_frame, write_frame};

/// Why enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The hub said no; trying again does not help unless the code is `Unavailable`.
    #[error("the hub refused the token: {message}")]
    Refused {
        /// Why.
        code: RefusalCode,
        /// What is wrong and what to do.
        message: String,
    },
    /// The one that answered is not the hub of this token.
    #[error(
        "{hub} is not the hub that gave this token: {why}; check the address, or get a new token by `isochrone cluster add NAME`"
    )]
    WrongHub {
        /// Its address.
        hub: String,
        /// What TLS said.
        why: String,
    },
    /// No hub answered; try again.
    #[error("hub {hub} cannot be reached: {why}")]
    Unreachable {
        /// The last one tried.
        hub: String,
        /// Why not.
        why: String,
    },
    /// The answer is not what was asked for.
    #[error("hub {hub} gave an unusable certificate")]
    Unusable {
        /// Its address.
        hub: String,
        /// What is wrong with it.
        #[source]
        source: IdentityError,
    },
    /// Our own key or token is unusable.
    #[error("cannot ask for a certificate")]
    Local(#[source] IdentityError),
}

/// Trades a token for an identity, at the first of its hubs that answers.
///
/// `key` must be kept **before** (see [`Key::load_or_create`]): if the answer is lost, the token is used, and only the
/// same key makes the next call a retry instead of a theft. `source` is as in [`LinkConfig`](super::LinkConfig).
///
/// # Errors
/// See [`EnrolError`].
pub async fn enrol(
    token: &Token,
    uid: &str,
    key: &Key,
    source: Option<IpAddr>,
    timing: &Timing,
) -> Result<Identity, EnrolError> {
    let request = EnrolRequest {
        token: token.id.clone(),
        secret: token.secret.to_vec(),
        csr: key.request().map_err(EnrolError::Local)?,
        uid: uid.to_owned(),
    };
    let mut last = EnrolError::Unreachable { hub: String::new(), why: "the token names no hub".to_owned() };
    for hub in &token.hubs {
        match enrol_at(hub, token, request.clone(), key, source, timing).await {
            Err(error @ (EnrolError::Unreachable { .. } | EnrolError::WrongHub { .. })) => last = error,
            result => return result,
        }
    }
    Err(last)
}

async fn enrol_at(
    hub: &str,
    token: &Token,
    request: EnrolRequest,
    key: &Key,
    source: Option<IpAddr>,
    timing: &Timing,
) -> Result<Identity, EnrolError> {
    let unreachable = |why: String| EnrolError::Unreachable { hub: hub.to_owned(), why };
    let config = client_config(enrol_tls(token.pin).map_err(EnrolError::Local)?, timing)
        .map_err(|error| unreachable(error.to_string()))?;
    let endpoints = Mutex::new(Endpoints::new(source));
    let connected = connect(hub, 0, config, timing, |peer| lock(&endpoints).for_peer(peer)).await;
    let connection = QuicConnection(connected.map_err(|error| {
        if let ConnectError::Ended(Ending::Untrusted(why)) = error {
            return EnrolError::WrongHub { hub: hub.to_owned(), why };
        }
        unreachable(chain(&error))
    })?);
    let asking = async {
        let mut stream = open(&connection, Kind::Enrol).await?;
        write_frame(&mut *stream.send, &request).await?;
        stream.send.finish();
        read_frame::<SignReply>(&mut *stream.recv, "reply to an enrolment", FRAME_BYTES_MAX).await
    };
    let reply = tokio::time::timeout(timing.handshake, asking).await;
    connection.close(Code::Goodbye, "");
    let all = lock(&endpoints).all();
    for endpoint in all {
        // The goodbye is on its way; the hub does not depend on it.
        let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
    }
    let reply = reply.map_err(|_| unreachable("no answer to our request".to_owned()))?;
    let reply = reply.map_err(|error| unreachable(chain(&error)))?;
    if let Some(refusal) = reply.refusal {
        return Err(EnrolError::Refused { code: refusal.reason(), message: refusal.message });
    }
    let signed = reply.signed.unwrap_or_default();
    let unusable = |source| EnrolError::Unusable { hub: hub.to_owned(), source };
    let identity = Identity::new(key.to_pem(), signed.chain_pem, signed.ca_pem).map_err(unusable)?;
    let peer: Peer = identity.peer(SystemTime::now()).map_err(unusable)?;
    if (peer.role, peer.name.as_str(), peer.uid.as_str()) != (token.role, token.name.as_str(), request.uid.as_str()) {
        return Err(unusable(IdentityError::NoPeer));
    }
    if identity.ca_pin().map_err(unusable)? != token.pin {
        return Err(unusable(IdentityError::Pair { what: "authority" }));
    }
    Ok(identity)
}
