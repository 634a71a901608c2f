//! Certificates: the first for a token, the next for the one before. The backend decides and signs.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::{Enrolment, Shared, StubEvent};
use crate::identity::{Peer, hash_secret, request_key_hash};
use crate::message::{EnrolRequest, FRAME_BYTES_MAX, Refusal, RefusalCode, RenewRequest, SignReply, Signed};
use crate::transport::{Stream, StreamError, read_frame, write_frame};

/// A token's bearer becomes a peer, or learns why not.
pub(super) async fn enrol(shared: &Shared, remote: SocketAddr, stream: &mut Stream) {
    let request = match read_frame::<EnrolRequest>(&mut *stream.recv, "enrolment", FRAME_BYTES_MAX).await {
        Ok(request) => request,
        Err(error) => return stream.abort(error.code()),
    };
    let token = request.token.clone();
    let result = match request_key_hash(&request.csr) {
        Ok(key_hash) => {
            let EnrolRequest { token, secret, csr, uid } = request;
            let secret_hash = hash_secret(&secret);
            shared.backend.enrol(Enrolment { token, secret_hash, csr, key_hash, uid, remote }).await
        }
        Err(error) => Err(Refusal::new(RefusalCode::Malformed, error.to_string())),
    };
    match &result {
        Ok(signed) => match Peer::from_pem(&signed.chain_pem, SystemTime::now()) {
            Ok(peer) => {
                tracing::info!(%remote, %peer, token, "enrolled");
                // In front of the answer: when the peer knows, the owner does.
                let _ = shared.events.send(StubEvent::Enrolled { peer, token, remote }).await;
            }
            Err(error) => tracing::error!(%remote, token, %error, "the backend signed a certificate that names nobody"),
        },
        Err(refusal) => {
            tracing::warn!(%remote, token, code = ?refusal.reason(), message = refusal.message, "enrolment refused");
        }
    }
    if let Err(error) = reply(stream, result).await {
        tracing::debug!(%remote, %error, "answer to an enrolment not delivered");
    }
}

/// The peer as its new certificate says, if it got one.
pub(super) async fn renew(shared: &Shared, peer: &Peer, stream: &mut Stream) -> Option<Peer> {
    let request = match read_frame::<RenewRequest>(&mut *stream.recv, "renewal", FRAME_BYTES_MAX).await {
        Ok(request) => request,
        Err(error) => {
            stream.abort(error.code());
            return None;
        }
    };
    let result = match request_key_hash(&request.csr) {
        // Asked again: a session may be older than the revocation.
        Ok(_) if shared.backend.revoked(peer) => Err(Refusal::new(
            RefusalCode::Revoked,
            "the hub has revoked this certificate; enrol again with a new token",
        )),
        Ok(_) => shared.backend.renew(peer, &request.csr).await,
        Err(error) => Err(Refusal::new(RefusalCode::Malformed, error.to_string())),
    };
    let renewed = match &result {
        Ok(signed) => Peer::from_pem(&signed.chain_pem, SystemTime::now()).ok(),
        Err(refusal) => {
            tracing::warn!(%peer, code = ?refusal.reason(), message = refusal.message, "renewal refused");
            None
        }
    };
    if let Err(error) = reply(stream, result).await {
        // It may have the answer or not; if not, it asks again with its old certificate.
        tracing::debug!(%peer, %error, "answer to a renewal not delivered");
    }
    renewed
}

async fn reply(stream: &mut Stream, result: Result<Signed, Refusal>) -> Result<(), StreamError> {
    let reply = match result {
        Ok(signed) => SignReply { signed: Some(signed), refusal: None },
        Err(refusal) => SignReply { signed: None, refusal: Some(refusal) },
    };
    write_frame(&mut *stream.send, &reply).await?;
    stream.send.finish();
    stream.send.delivered().await
}
