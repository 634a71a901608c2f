//! The dialling end: enrolment, and a [`Link`] that is up whenever it can be.
//!
//! A link dials, greets, beats, renews its certificate when due, keeps each topic's newest payload with the hub, hands
//! over what the hub publishes, and dials again when the session ends. DNS nodes dial each other in the same way
//! ([`Toward::Fellow`]); there the other end is known by its certificate's subject, and nothing is renewed. Its owner
//! sees [`LinkEvent`]s, in order; from a session first `Connected`, then its publications, then `Disconnected`.
//!
//! The event channel is bounded: an owner that does not read holds up the hub's publications to it (each waits for its
//! receipt) and nothing else; beats and fetches go on.
//!
//! ```text
//! wait ─▶ connect ─▶ (expired? renew, again) ─▶ greet ─▶ session ─▶ wait …
//! ```

mod connect;
mod enrol;
mod fetch;
mod renewal;
mod runner;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use self::connect::Endpoints;
use self::runner::Runner;
use crate::Timing;
use crate::code::Code;
use crate::dial::Dialer;
use crate::identity::{Identity, IdentityError, Role, client_tls};
use crate::message::{Hello, HelloAck, RefusalCode};
use crate::outbox::Outbox;
use crate::session::Pulse;
use crate::streams::{Outgoing, lock};
use crate::transport::Connection;

pub use crate::streams::PublishError;
pub use enrol::{EnrolError, enrol};
pub use fetch::FetchError;

/// Events that wait for the owner: a hub has a handful of topics, so these are many sessions' worth.
const EVENTS_MAX: usize = 64;
/// Fetches under way at once; others wait. Well below what the hub serves at once.
const FETCHES_MAX: usize = 16;

/// Whom a link dials, and so whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toward {
    /// A hub, by the name in every hub's certificate.
    Hub,
    /// A peer of the same authority that serves with its own certificate: this one and no other.
    Fellow {
        /// What it is.
        role: Role,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Toward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub => f.write_str("the hub"),
            Self::Fellow { role, name } => write!(f, "{role} {name}"),
        }
    }
}

/// What a link needs.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Whom to expect there.
    pub toward: Toward,
    /// Where it is, `host:port` each; at least one.
    pub hubs: Vec<String>,
    /// Who we are.
    pub identity: Identity,
    /// How we introduce ourselves.
    pub hello: Hello,
    /// Which of this machine's addresses to speak from; `None`, or where it is of the other family: the one that the
    /// system chooses by the way there.
    pub source: Option<IpAddr>,
    /// The times to keep.
    pub timing: Timing,
}

/// Why a link cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is nobody to dial.
    #[error("no hub to dial: give at least one address host:port")]
    NoHub,
    /// The identity is unusable.
    #[error("the link's identity cannot be used")]
    Identity(#[source] IdentityError),
}

/// What happened on a link.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// A session began.
    Connected {
        /// The hub's words.
        hub: HelloAck,
        /// Counts this link's sessions, from 1.
        generation: u64,
    },
    /// The session ended; the link dials again by itself.
    Disconnected {
        /// For people.
        why: String,
    },
    /// The hub published. Only the newest payload of a topic counts.
    Published {
        /// Its topic.
        topic: String,
        /// The hub's number.
        number: u64,
        /// The bytes.
        payload: Bytes,
    },
    /// We have a newer certificate; **keep it**, the older one ends.
    Renewed(Identity),
    /// The hub does not accept us; the link goes on trying, slowly.
    Refused {
        /// Why.
        code: RefusalCode,
        /// What is wrong and what to do.
        message: String,
    },
}

/// A connection to the hub that comes back by itself. Dropped, it says goodbye without waiting for it to be said.
pub struct Link {
    shared: Arc<Shared>,
    leave: watch::Sender<Option<(Code, String)>>,
    done: watch::Receiver<bool>,
}

struct Shared {
    outgoing: Outgoing,
    live: watch::Sender<Option<Arc<dyn Connection>>>,
    fetches: Semaphore,
    endpoints: Mutex<Endpoints>,
    pulse: watch::Sender<Pulse>,
}

impl Link {
    /// Starts dialling, on the current tokio runtime.
    ///
    /// # Errors
    /// Without a hub, or if the identity is unusable.
    pub fn start(config: LinkConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        if config.hubs.is_empty() {
            return Err(LinkError::NoHub);
        }
        client_tls(&config.identity).map_err(LinkError::Identity)?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (leave, leaving) = watch::channel(None);
        let (finished, done) = watch::channel(false);
        let LinkConfig { toward, hubs, identity, hello, source, timing } = config;
        let shared = Arc::new(Shared {
            outgoing: Outgoing::new(Outbox::kept()),
            live: watch::channel(None).0,
            fetches: Semaphore::new(FETCHES_MAX),
            endpoints: Mutex::new(Endpoints::new(source)),
            pulse: watch::channel(Pulse::default()).0,
        });
        let origin = Instant::now();
        let runner = Runner {
            toward,
            dialer: Dialer::new(hubs, timing.backoff, Duration::ZERO, rand::random()),
            identity: Mutex::new(identity),
            hello,
            timing,
            origin,
            events,
            shared: shared.clone(),
            leave: leaving,
            generation: 0,
        };
        tokio::spawn(async move {
            runner.run().await;
            finished.send_replace(true);
        });
        Ok((Self { shared, leave, done }, received))
    }

    /// The topic's newest payload is this one. It takes the place of one that still waits, and is sent again after each
    /// reconnect, until [`Link::forget`].
    ///
    /// # Errors
    /// If the topic or the payload cannot be sent.
    pub fn publish(&self, topic: &str, number: u64, payload: Bytes) -> Result<(), PublishError> {
        self.shared.outgoing.publish(topic, number, payload)
    }

    /// The topic is no longer sent after a reconnect.
    pub fn forget(&self, topic: &str) {
        self.shared.outgoing.forget(topic);
    }

    /// What is known of the hub's end: its last beat, counted from the link's start.
    pub fn pulse(&self) -> Pulse {
        *self.shared.pulse.borrow()
    }

    /// Moves to new sockets: after a change of the machine's network, when the old ones may lead nowhere. A session that
    /// is open goes on.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn rebind(&self) -> io::Result<()> {
        lock(&self.shared.endpoints).rebind()
    }

    /// Says goodbye and waits until it is said; at most a second or two.
    pub async fn close(mut self, reason: &str) {
        self.leave.send_replace(Some((Code::Goodbye, reason.to_owned())));
        let _ = self.done.wait_for(|done| *done).await;
    }
}
