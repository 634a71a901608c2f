//! Leadership by a `coordination.k8s.io/Lease`, and the term that fences every command.
//!
//! A Lease alone does not stop a leader that lost it, so the term (`leaseTransitions`) travels with every command and
//! the receiver refuses an older one. Losing the Lease ends the process: the next one starts from what was persisted.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

/// How long a Lease holds without renewal; client-go's default for controllers.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed: three tries fit before others may take it, and the last leaves 10 s for clock differences.
const RENEW: Duration = Duration::from_secs(3);
/// When a leader that could not renew stops leading: well before others may start.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The Lease's name.
const NAME: &str = "isochrone-hub";

/// Why leadership could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server said no, and waiting will not help.
    #[error("cannot use the Lease {NAME} in namespace {namespace}")]
    Kube {
        /// The hub's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else has it now, or it could not be renewed in time.
    #[error("leadership lost: the Lease {NAME} was not renewed for {GIVE_UP:?} or is held by {holder:?}")]
    Lost {
        /// Who holds it, as last seen.
        holder: String,
    },
}

/// A held Lease.
pub struct Leadership {
    api: Api<Lease>,
    identity: String,
    held: Lease,
    renewed: Instant,
}

impl Leadership {
    /// Waits until the Lease is free and takes it. `identity` names this process.
    ///
    /// # Errors
    /// [`LeaseError::Kube`] when the API server refuses; a server out of reach is waited for.
    pub async fn acquire(client: Client, namespace: &str, identity: &str) -> Result<Self, LeaseError> {
        let api: Api<Lease> = Api::namespaced(client, namespace);
        let wrong = |source| LeaseError::Kube { namespace: namespace.to_owned(), source: Box::new(source) };
        // Another's clock is not compared with ours: the Lease is free when it has not changed for its whole length.
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            let sent = Instant::now();
            match api.get_opt(NAME).await.map_err(wrong)? {
                None => {
                    let lease = Lease {
                        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
                        spec: Some(taken(identity, 1)),
                    };
                    match api.create(&PostParams::default(), &lease).await {
                        Ok(held) => {
                            return Ok(Self { api, identity: identity.to_owned(), held, renewed: sent });
                        }
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        Err(error) => return Err(wrong(error)),
                    }
                }
                Some(lease) => {
                    let version = lease.metadata.resource_version.clone();
                    let since = match &seen {
                        Some((old, since)) if *old == version => *since,
                        Some(_) | None => sent,
                    };
                    seen = Some((version, since));
                    let spec = lease.spec.clone().unwrap_or_default();
                    let holder = spec.holder_identity.unwrap_or_default();
                    if holder.is_empty() || holder == identity || since.elapsed() >= LEASE {
                        let term = spec.lease_transitions.unwrap_or_default() + 1;
                        let lease = Lease { spec: Some(taken(identity, term)), ..lease };
                        match api.replace(NAME, &PostParams::default(), &lease).await {
                            Ok(held) => {
                                return Ok(Self { api, identity: identity.to_owned(), held, renewed: sent });
                            }
                            Err(kube::Error::Api(status)) if status.code == 409 => {}
                            Err(error) => return Err(wrong(error)),
                        }
                    } else if since == sent {
                        tracing::info!(%holder, "waiting for the hub's Lease");
                    }
                }
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// The term: rises each time the Lease is taken.
    pub fn term(&self) -> u64 {
        let transitions = self.held.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or_default();
        u64::try_from(transitions).unwrap_or_default()
    }

    /// Renews until it is lost; returns only then.
    pub async fn keep(&mut self) -> LeaseError {
        loop {
            tokio::time::sleep(RENEW).await;
            let sent = Instant::now();
            let spec = LeaseSpec { renew_time: Some(now()), ..self.held.spec.clone().unwrap_or_default() };
            let lease = Lease { spec: Some(spec), ..self.held.clone() };
            // Bounded: a server that accepts and is silent must not make us lead for ever.
            match tokio::time::timeout(RENEW, self.api.replace(NAME, &PostParams::default(), &lease)).await {
                Ok(Ok(held)) => (self.held, self.renewed) = (held, sent),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    if let Ok(now) = self.api.get(NAME).await {
                        let holder = now.spec.as_ref().and_then(|s| s.holder_identity.clone()).unwrap_or_default();
                        if holder != self.identity {
                            return LeaseError::Lost { holder };
                        }
                        self.held = now;
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the hub's Lease"),
                Err(_) => tracing::warn!("the API server is silent; cannot renew the hub's Lease"),
            }
            if self.renewed.elapsed() > GIVE_UP {
                return LeaseError::Lost { holder: String::new() };
            }
        }
    }

    /// Gives the Lease up, so that the next hub need not wait for it to run out.
    pub async fn release(self) {
        let spec = LeaseSpec { holder_identity: None, ..self.held.spec.clone().unwrap_or_default() };
        let lease = Lease { spec: Some(spec), ..self.held };
        if let Err(error) = self.api.replace(NAME, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "cannot give up the hub's Lease; the next hub waits {LEASE:?}");
        }
    }
}

fn taken(identity: &str, term: i32) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
        acquire_time: Some(now()),
        renew_time: Some(now()),
        lease_transitions: Some(term),
        ..LeaseSpec::default()
    }
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}
