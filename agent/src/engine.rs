//! The delivery side as one task: the async shell around [`crate::core`], [`crate::apply`], [`crate::keep`],
//! [`crate::watch`] and [`crate::observe`]. It decides nothing.
//!
//! The hub is behind two channels, [`Input`] and [`Output`]; that there is a tunnel is not known here. Outputs are
//! level-triggered like the wire: a newer one replaces an older one that nobody has taken yet, so a hub that does not
//! listen never holds up a delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::wire::{self, ClusterReport, Digest, Ledger};
use bytes::Bytes;
use policies::id::AppId;
use policies::plan::GroupKind;
use policies::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::apply::{Applier, Run, Subject};
use crate::config::{AccessError, Config};
use crate::core::{Command, Core, Job};
use crate::keep::{KeepError, Keeper};
use crate::kept::Kept;
use crate::members::{Event, Members, WatchKey};
use crate::names;
use crate::observe;
use crate::watch::Watches;

/// Events of watches on their way. Full, it slows the watches down, which is what should give.
const EVENTS: usize = 1024;
/// First pause between attempts to read the memory at start; it doubles up to [`LOAD_MAX`].
const LOAD: Duration = Duration::from_millis(250);
/// Longest pause between attempts to read the memory.
const LOAD_MAX: Duration = Duration::from_secs(15);

/// What the hub says.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// What this cluster shall run.
    Desired(wire::Desired),
    /// A blob that was asked for by [`Output::Fetch`].
    Blob {
        /// Its name.
        digest: Digest,
        /// What it holds.
        bytes: Bytes,
    },
    /// A new session with a hub: what it may have missed is said again.
    Connected,
    /// The hub has revoked this agent's certificate.
    Dismissed,
}

/// What the hub is told or asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Publish this on [`wire::topic::LEDGER`].
    Ledger(Ledger),
    /// Publish this on [`wire::topic::CLUSTER`].
    Cluster(ClusterReport),
    /// Get this blob; answer with [`Input::Blob`]. It is asked for again if no answer comes.
    Fetch(Digest),
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No way to the API server.
    #[error("reach the cluster's API server")]
    Access(#[from] AccessError),
    /// The configuration makes no client.
    #[error("make a client for the cluster's API server")]
    Client(#[source] kube::Error),
    /// The memory is there and cannot be understood. Going on would forget what must stay in place.
    #[error("read what the agent was told before")]
    Memory(#[source] KeepError),
}

/// The delivery side of one agent.
#[derive(Debug)]
pub struct Engine {
    core: Core,
    members: Members,
    watches: Watches,
    applier: Arc<Applier>,
    keeper: Keeper,
    namespace: String,
    started: tokio::time::Instant,
    tasks: JoinSet<Done>,
    outbox: Outbox,
    last_cluster: Option<ClusterReport>,
    keys: BTreeMap<AppId, BTreeSet<WatchKey>>,
}

/// A task that ended.
#[derive(Debug)]
enum Done {
    Ran(AppId, u64, Box<Run>),
    Kept(u64, Result<(), String>),
}

/// What the hub has not taken yet.
#[derive(Debug, Default)]
struct Outbox {
    fetches: BTreeSet<Digest>,
    ledger: Option<Ledger>,
    cluster: Option<ClusterReport>,
}

impl Engine {
    /// Runs until `shutdown`, or until nobody takes the outputs any more. Runs under way are dropped at shutdown; the
    /// next agent finds what they did.
    ///
    /// `rx` may end before: without a hub the agent goes on with what it was told.
    pub async fn run(
        config: Config,
        mut rx: mpsc::Receiver<Input>,
        tx: mpsc::Sender<Output>,
        shutdown: CancellationToken,
    ) -> Result<(), EngineError> {
        let access = config.kube.load().await?;
        let applier = Applier::new(access, &config.namespace).map_err(EngineError::Client)?;
        let keeper = Keeper::new(applier.own(), &config.namespace);
        let Some(memory) = load(&keeper, &shutdown).await? else {
            return Ok(());
        };

        let (events_tx, mut events) = mpsc::channel(EVENTS);
        let (reports_tx, mut reports) = mpsc::channel(1);
        let observer = tokio::spawn(observe::run(applier.own(), reports_tx));
        let mut engine = Self {
            core: Core::new(),
            members: Members::default(),
            watches: Watches::new(events_tx),
            applier: Arc::new(applier),
            keeper,
            namespace: config.namespace,
            started: tokio::time::Instant::now(),
            tasks: JoinSet::new(),
            outbox: Outbox::default(),
            last_cluster: None,
            keys: BTreeMap::new(),
        };
        if let Some((kept, blobs)) = memory {
            tracing::info!(apps = kept.apps.len(), number = kept.number, "remembers what it was told");
            engine.core.restore(engine.now(), kept, blobs);
        }
        let mut hub = true;
        loop {
            engine.perform();
            let timeout = engine.core.poll_timeout().map(|at| engine.started + at.since(Instant::ORIGIN));
            tokio::select! {
                () = shutdown.cancelled() => break,
                input = rx.recv(), if hub => match input {
                    Some(input) => engine.handle_input(input),
                    None => hub = false,
                },
                Some((key, event)) = events.recv() => engine.handle_event(&key, event),
                Some(report) = reports.recv() => engine.handle_report(report),
                Some(done) = engine.tasks.join_next() => engine.handle_done(done),
                permit = tx.reserve(), if !engine.outbox.is_empty() => match permit {
                    Ok(permit) => if let Some(output) = engine.outbox.take() {
                        permit.send(output);
                    },
                    Err(_) => break,
                },
                () = tokio::time::sleep_until(timeout.unwrap_or(engine.started)), if timeout.is_some() => {
                    engine.core.handle_timeout(engine.now());
                }
            }
        }
        observer.abort();
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::ORIGIN + self.started.elapsed()
    }

    fn handle_input(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Desired(desired) => {
                if let Err(refusal) = self.core.handle_desired(now, desired) {
                    tracing::warn!(reason = refusal.code(), "refuses a desired state: {refusal}");
                }
            }
            Input::Blob { digest, bytes } => {
                self.outbox.fetches.remove(&digest);
                self.core.handle_blob(now, &digest, bytes);
            }
            Input::Dismissed => self.core.handle_dismissed(now),
            Input::Connected => {
                self.core.handle_connected(now);
                self.outbox.cluster.clone_from(&self.last_cluster);
            }
        }
    }

    fn handle_report(&mut self, report: ClusterReport) {
        self.last_cluster = Some(report.clone());
        self.outbox.cluster = Some(report);
    }

    fn handle_event(&mut self, key: &WatchKey, event: Event) {
        // A watch that was ended may have left events behind.
        if !self.watches.contains(key) {
            return;
        }
        let went = matches!(event, Event::Delete(..) | Event::InitDone);
        for app in self.members.handle_event(key, event) {
            self.core.handle_view(self.now(), &app, self.members.view(&app));
            if went {
                self.core.handle_hint(self.now(), &app);
            }
        }
    }

    fn handle_done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Kept(seq, result)) => self.core.handle_kept(self.now(), seq, result),
            Ok(Done::Ran(app, run, result)) => self.handle_ran(&app, run, *result),
            // Tasks are only aborted when the engine is dropped; a panic in one is a bug that must be seen.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    fn handle_ran(&mut self, app: &AppId, number: u64, run: Run) {
        let now = self.now();
        for failure in &run.outcome.failures {
            tracing::warn!(%app, reason = failure.reason, "{}", failure.message);
        }
        if run.gone {
            self.members.forget(app);
            self.keys.remove(app);
        } else {
            for key in &run.watches {
                if !self.watches.contains(key) {
                    self.start_watch(key);
                }
            }
            let keys = self.keys.entry(app.clone()).or_default();
            // A run that was cut short does not know all that must be watched.
            if run.outcome.settled {
                keys.clear();
            }
            keys.extend(run.watches);
            self.members.handle_run(app, run.did);
        }
        self.core.handle_ran(now, app, number, run.outcome);
        self.core.handle_view(now, app, self.members.view(app));
        let needed: BTreeSet<&WatchKey> = self.keys.values().flatten().collect();
        self.watches.retain(|key| needed.contains(key));
    }

    fn start_watch(&mut self, key: &WatchKey) {
        let client = match &key.user {
            None => Ok(self.applier.own()),
            Some(namespace) => self.applier.user(namespace),
        };
        match client {
            Ok(client) => self.watches.start(key.clone(), client),
            Err(error) => tracing::error!(kind = %key.kind, error = &error as &dyn std::error::Error, "cannot watch"),
        }
    }

    /// Does what the heart wants done.
    fn perform(&mut self) {
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Fetch(digest) => drop(self.outbox.fetches.insert(digest)),
                Command::Publish(ledger) => self.outbox.ledger = Some(ledger),
                Command::Keep { seq, kept, blobs } => {
                    let keeper = self.keeper.clone();
                    self.tasks.spawn(async move {
                        let stored = keeper.store(&kept, &blobs).await;
                        Done::Kept(seq, stored.map_err(|e| causes(&e)))
                    });
                }
                Command::Run(job) => self.start_run(job),
            }
        }
    }

    fn start_run(&mut self, Job { app, run, work }: Job) {
        let set = names::set_id(&names::parent(&app), &self.namespace);
        let mut kinds: BTreeSet<GroupKind> = self.members.of_set(&set).into_iter().map(|id| id.kind).collect();
        let applied = self.members.applied(&app);
        kinds.extend(applied.keys().map(|id| id.kind.clone()));
        let subject = Subject { app, applied, kinds };
        let applier = Arc::clone(&self.applier);
        self.tasks.spawn(async move {
            let result = applier.run(&subject, &work).await;
            Done::Ran(subject.app, run, Box::new(result))
        });
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.fetches.is_empty() && self.ledger.is_none() && self.cluster.is_none()
    }

    fn take(&mut self) -> Option<Output> {
        let cluster = self.cluster.take().map(Output::Cluster);
        let fetch = || self.fetches.pop_first().map(Output::Fetch);
        cluster.or_else(fetch).or_else(|| self.ledger.take().map(Output::Ledger))
    }
}

/// Kept state and renders.
type Memory = Option<(Kept, BTreeMap<Digest, Bytes>)>;

/// Reads the memory, however long it takes: an API server that is away is no empty memory. `None` at shutdown.
async fn load(keeper: &Keeper, shutdown: &CancellationToken) -> Result<Option<Memory>, EngineError> {
    let mut pause = LOAD;
    loop {
        let loaded = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            loaded = keeper.load() => loaded,
        };
        match loaded {
            Ok(memory) => return Ok(Some(memory)),
            Err(error @ KeepError::Head { .. }) => return Err(EngineError::Memory(error)),
            Err(error @ KeepError::Api { .. }) => {
                tracing::warn!("cannot read what it was told before, tries again: {}", causes(&error));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => pause = LOAD_MAX.min(pause * 2),
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
