//! One of several leads: leadership by a `coordination.k8s.io/Lease`, and its term. Of hubs one decides; of the agents in a
//! cluster one applies.
//!
//! A Lease alone does not stop a leader that lost it, so the term (`leaseTransitions`) travels with every command and
//! the receiver refuses an older one. Whoever loses the Lease drops all its work at once, and begins again from what was
//! persisted when it has the Lease again: a hub as a new process, an agent within its own.

#![forbid(unsafe_code)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a Lease holds without renewal; client-go's default for controllers.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed: three tries fit before others may take it, and the last leaves 10 s for clock differences.
const RENEW: Duration = Duration::from_secs(3);
/// When a leader that could not renew stops leading: well before others may start.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Why leadership could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server said no, and waiting will not help.
    #[error("cannot use the Lease {name} in namespace {namespace}")]
    Kube {
        /// The Lease.
        name: &'static str,
        /// Its namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else has it now, or it could not be renewed in time.
    #[error("leadership lost: the Lease {name} was not renewed for {GIVE_UP:?} or is held by {holder:?}")]
    Lost {
        /// The Lease.
        name: &'static str,
        /// Who holds it, as last seen.
        holder: String,
    },
}

/// The leader's term as it stands in the Lease, for the one who leads.
#[derive(Debug)]
pub struct Terms {
    written: watch::Receiver<u64>,
    wanted: watch::Sender<u64>,
}

impl Terms {
    /// The term that stands in the Lease.
    pub fn current(&self) -> u64 {
        *self.written.borrow()
    }

    /// Wants a higher term: it counts when [`Terms::current`] says so, which never happens if the Lease was lost.
    pub fn want(&self, term: u64) {
        self.wanted.send_replace(term);
    }

    /// Waits until the term has risen.
    pub async fn risen(&mut self) {
        if self.written.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A held Lease.
pub struct Leadership {
    api: Api<Lease>,
    name: &'static str,
    identity: String,
    held: Lease,
    renewed: Instant,
    written: watch::Sender<u64>,
    wanted: watch::Receiver<u64>,
}

impl Leadership {
    /// Waits until the Lease `name` is free and takes it; the term rises by that. `identity` names this process: one that
    /// comes back under the same identity need not wait.
    ///
    /// # Errors
    /// [`LeaseError::Kube`] when the API server refuses; a server out of reach is waited for.
    pub async fn acquire(
        client: Client,
        namespace: &str,
        name: &'static str,
        identity: &str,
    ) -> Result<(Self, Terms), LeaseError> {
        let api: Api<Lease> = Api::namespaced(client, namespace);
        // What the server says no to (rights, a missing namespace) does not pass by itself.
        let wrong = |source: kube::Error| {
            let refused = matches!(&source, kube::Error::Api(status) if status.code != 429 && status.code < 500);
            if refused {
                return Err(LeaseError::Kube { name, namespace: namespace.to_owned(), source: Box::new(source) });
            }
            tracing::warn!(error = %source, name, "cannot reach the API server for the Lease; trying again");
            Ok(())
        };
        // Another's clock is not compared with ours: the Lease is free when it has not changed for its whole length.
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            let sent = Instant::now();
            match api.get_opt(name).await {
                Err(error) => wrong(error)?,
                Ok(None) => {
                    let lease = Lease {
                        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                        spec: Some(taken(identity, 1)),
                    };
                    match api.create(&PostParams::default(), &lease).await {
                        Ok(held) => {
                            return Ok(Self::new(api, name, identity, held, sent));
                        }
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        Err(error) => wrong(error)?,
                    }
                }
                Ok(Some(lease)) => {
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
                        match api.replace(name, &PostParams::default(), &lease).await {
                            Ok(held) => {
                                return Ok(Self::new(api, name, identity, held, sent));
                            }
                            Err(kube::Error::Api(status)) if status.code == 409 => {}
                            Err(error) => wrong(error)?,
                        }
                    } else if since == sent {
                        tracing::info!(%holder, name, "waiting for the Lease");
                    }
                }
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    fn new(api: Api<Lease>, name: &'static str, identity: &str, held: Lease, renewed: Instant) -> (Self, Terms) {
        let (written, current) = watch::channel(term(&held));
        let (want, wanted) = watch::channel(0);
        let leadership = Self { api, name, identity: identity.to_owned(), held, renewed, written, wanted };
        (leadership, Terms { written: current, wanted: want })
    }

    /// Renews until it is lost; returns only then. A higher term that is wanted is written at once.
    pub async fn keep(&mut self) -> LeaseError {
        let mut listened = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW) => {}
                wanted = self.wanted.changed(), if listened => listened = wanted.is_ok(),
            }
            let sent = Instant::now();
            let wanted = i32::try_from(*self.wanted.borrow_and_update()).unwrap_or_default();
            let before = self.held.spec.clone().unwrap_or_default();
            let transitions = before.lease_transitions.unwrap_or_default().max(wanted);
            let spec = LeaseSpec { renew_time: Some(now()), lease_transitions: Some(transitions), ..before };
            let lease = Lease { spec: Some(spec), ..self.held.clone() };
            // Bounded: a server that accepts and is silent must not make us lead for ever.
            match tokio::time::timeout(RENEW, self.api.replace(self.name, &PostParams::default(), &lease)).await {
                Ok(Ok(held)) => {
                    (self.held, self.renewed) = (held, sent);
                    let now = term(&self.held);
                    self.written.send_if_modified(|term| std::mem::replace(term, now) != now);
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    if let Ok(now) = self.api.get(self.name).await {
                        let holder = now.spec.as_ref().and_then(|s| s.holder_identity.clone()).unwrap_or_default();
                        if holder != self.identity {
                            return LeaseError::Lost { name: self.name, holder };
                        }
                        self.held = now;
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the Lease"),
                Err(_) => tracing::warn!("the API server is silent; cannot renew the Lease"),
            }
            if self.renewed.elapsed() > GIVE_UP {
                return LeaseError::Lost { name: self.name, holder: String::new() };
            }
        }
    }

    /// Gives the Lease up, so that the next one need not wait for it to run out.
    pub async fn release(self) {
        let spec = LeaseSpec { holder_identity: None, ..self.held.spec.clone().unwrap_or_default() };
        let lease = Lease { spec: Some(spec), ..self.held };
        if let Err(error) = self.api.replace(self.name, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "cannot give up the Lease; the next one waits {LEASE:?}");
        }
    }
}

fn term(lease: &Lease) -> u64 {
    let transitions = lease.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or_default();
    u64::try_from(transitions).unwrap_or_default()
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
