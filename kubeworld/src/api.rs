//! The server: everything under one lock, and the way in.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::access::Access;
use crate::custom::Customs;
use crate::handle::{Content, Outcome};
use crate::registry::Registry;
use crate::store::Store;
use crate::tokens::Tokens;
use crate::watch::Watch;

/// What is fixed when a server starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seeds uids and generated names: the same seed and the same requests give the same bytes.
    pub seed: u64,
    /// Addresses of Services.
    pub service_addresses: Ipv4Net,
    /// Whether a pod needs a service account, which gives it a token: the plugin `ServiceAccount`.
    pub service_account_admission: bool,
    /// The version that `/version` names.
    pub version: String,
}

impl Options {
    /// The default for one of several servers, with uids of its own: by them clusters are told apart. The same name
    /// gives the same uids in every run.
    pub fn of(name: &str) -> Self {
        // FNV-1a.
        let seed = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { seed, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            // What kubeadm gives Services.
            service_addresses: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 96, 0, 0), 16),
            service_account_admission: true,
            version: "v1.37.2".to_owned(),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name, such as `system:serviceaccount:shop:default`.
    pub name: String,
    /// Its uid, where there is one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further attributes.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

impl User {
    /// A member of `system:masters`, who may do everything.
    pub fn admin() -> Self {
        Self {
            name: "kubernetes-admin".to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            ..Self::default()
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }
}

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// All of it.
    Whole(Response<Bytes>),
    /// It goes on until the client or the server ends it.
    Watch(Box<Watch>),
}

/// A Kubernetes API server in memory.
#[derive(Debug)]
pub struct Api {
    state: Mutex<State>,
    options: Options,
}

/// What requests change.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) customs: Customs,
    pub(crate) random: Random,
    pub(crate) tokens: Tokens,
    pub(crate) access: Access,
    pub(crate) options: Options,
}

/// Uids and names.
#[derive(Debug)]
pub(crate) struct Random(StdRng);

impl Random {
    /// A uid in the form of RFC 9562, version 4.
    pub(crate) fn uid(&mut self) -> String {
        let mut bytes: [u8; 16] = self.0.random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// Five letters after a `generateName`, of those that make no words (as the real server's).
    pub(crate) fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).map(|_| char::from(LETTERS[self.0.random_range(0..LETTERS.len())])).collect()
    }
}

impl Api {
    /// A server with what every cluster has from the start: the namespaces, and the roles of RBAC.
    pub fn new(options: Options, now: Timestamp) -> Arc<Self> {
        let state = State {
            store: Store::new(),
            registry: Arc::new(Registry::built_in().clone()),
            customs: Customs::default(),
            random: Random(StdRng::seed_from_u64(options.seed)),
            tokens: Tokens::default(),
            access: Access::default(),
            options: options.clone(),
        };
        let api = Arc::new(Self { state: Mutex::new(state), options });
        crate::bootstrap::run(&mut api.state(), now);
        api
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Answers a request. `user` is whom the connection speaks for, before impersonation.
    pub fn handle(self: &Arc<Self>, request: &Request<Bytes>, user: &User, now: Timestamp) -> Reply {
        match self.outcome(request, user, now, || {}) {
            Outcome::Whole(response) => {
                let mut response = response.map(Content::joined);
                // Of no use to who has the bytes.
                response.headers_mut().remove(http::header::CONTENT_LENGTH);
                Reply::Whole(response)
            }
            Outcome::Watch(watch) => Reply::Watch(watch),
        }
    }

    /// The same, with long lists in pieces. `read` is called when the answer is known and only its text is to be written,
    /// for which nobody else need wait; or never.
    pub(crate) fn outcome(
        self: &Arc<Self>,
        request: &Request<Bytes>,
        user: &User,
        now: Timestamp,
        read: impl FnOnce(),
    ) -> Outcome {
        crate::handle::handle(self, request, user, now, read)
    }

    /// Whose token of a service account this is, while it is valid.
    pub fn user_of_token(&self, token: &str, now: Timestamp) -> Option<User> {
        self.state().tokens.user(token, now)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug that a test shows; the state itself is whole after each step.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Forgets the past, so that watches from before get 410 Gone.
    pub fn compact(&self) {
        self.state().store.compact();
    }

    /// A receiver that learns of each change: of the revision that came of it.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.state().store.subscribe_to_all()
    }

    /// The last revision.
    pub fn revision(&self) -> u64 {
        self.state().store.revision()
    }
}
