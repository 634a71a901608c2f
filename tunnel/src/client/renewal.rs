//! The next certificate, before the one in use runs out; or after, which is all that an expired one is good for.

use std::time::{Duration, SystemTime};

use super::LinkEvent;
use super::connect::{chain, open};
use super::runner::{Outcome, Runner};
use crate::WALL_CLOCK_STEP;
use crate::identity::{Identity, IdentityError, Key};
use crate::message::{FRAME_BYTES_MAX, Kind, RefusalCode, RenewRequest, SignReply};
use crate::streams::lock;
use crate::transport::{Connection, StreamError, read_frame, write_frame};

/// Two days: a certificate of 90 days gets a dozen tries in the month before it ends.
const RENEWAL_PAUSE_MAX: Duration = Duration::from_secs(2 * 24 * 60 * 60);

impl Runner {
    pub(super) async fn renew_first(&self, connection: &dyn Connection) -> Outcome {
        match self.renew(connection).await {
            Ok(identity) => {
                if self.emit(LinkEvent::Renewed(identity)).await {
                    Outcome::Again
                } else {
                    Outcome::Orphaned
                }
            }
            Err(RenewError::Refused { code, message }) => Outcome::Refused { code, message, session: false },
            Err(RenewError::Stream(error)) => self.broken(connection, error, false).await,
            Err(error @ (RenewError::Late | RenewError::Identity(_))) => Outcome::Failed(chain(&error)),
        }
    }

    pub(super) async fn keep_renewed(&self, connection: &dyn Connection) {
        let random = rand::random();
        let mut not_before = SystemTime::UNIX_EPOCH;
        loop {
            let due = lock(&self.identity).renewal_due(random);
            let life = lock(&self.identity).validity();
            let (Ok(due), Ok((start, end))) = (due, life) else {
                return;
            };
            // A thirtieth of its life (three days of ninety) between two tries, also after one that went well: a clock
            // that runs ahead of the hub's would otherwise renew without end.
            let pause = end.duration_since(start).unwrap_or_default() / 30;
            wait_until(due.max(not_before)).await;
            match self.renew(connection).await {
                Ok(identity) => {
                    if self.events.send(LinkEvent::Renewed(identity)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "certificate not renewed, trying again later"
                    );
                }
            }
            not_before = SystemTime::now() + pause.min(RENEWAL_PAUSE_MAX);
        }
    }

    /// A new key, a new certificate for it.
    async fn renew(&self, connection: &dyn Connection) -> Result<Identity, RenewError> {
        let key = Key::generate().map_err(RenewError::Identity)?;
        let request = RenewRequest { csr: key.request().map_err(RenewError::Identity)? };
        let asking = async {
            let mut stream = open(connection, Kind::Renew).await?;
            write_frame(&mut *stream.send, &request).await?;
            stream.send.finish();
            read_frame::<SignReply>(&mut *stream.recv, "reply to a renewal", FRAME_BYTES_MAX).await
        };
        let reply = tokio::time::timeout(self.timing.handshake, asking)
            .await
            .map_err(|_| RenewError::Late)?
            .map_err(RenewError::Stream)?;
        if let Some(refusal) = reply.refusal {
            return Err(RenewError::Refused { code: refusal.reason(), message: refusal.message });
        }
        let signed = reply.signed.unwrap_or_default();
        let before = lock(&self.identity).clone();
        // The authority stays the one that enrolment gave us.
        let identity =
            Identity::new(key.to_pem(), signed.chain_pem, before.ca_pem.clone()).map_err(RenewError::Identity)?;
        let now = SystemTime::now();
        let (was, is) = (before.peer(now), identity.peer(now));
        match (was, is) {
            (Ok(was), Ok(is)) if was.subject() == is.subject() => {}
            (Ok(_) | Err(_), Ok(_) | Err(_)) => return Err(RenewError::Identity(IdentityError::NoPeer)),
        }
        *lock(&self.identity) = identity.clone();
        Ok(identity)
    }
}

async fn wait_until(time: SystemTime) {
    while let Ok(rest) = time.duration_since(SystemTime::now()) {
        if rest.is_zero() {
            return;
        }
        tokio::time::sleep(rest.min(WALL_CLOCK_STEP)).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the hub refused the renewal ({code:?}): {message}")]
    Refused { code: RefusalCode, message: String },
    #[error("the renewal's stream broke")]
    Stream(#[source] StreamError),
    #[error("the hub did not answer the renewal in time")]
    Late,
    #[error("the hub's answer to the renewal is not for us")]
    Identity(#[source] IdentityError),
}
