//! The agent's sync heart: what it was told, what it did, and what to do next. No async, no Kubernetes, no clock; the
//! simulator drives the same code.
//!
//! Inputs are `handle_*`; after each, call [`Core::poll_command`] until `None`, then [`Core::poll_timeout`].
//!
//! * **Kept before done.** A decision is written into the agent's own cluster before it is acted on. Else an agent that
//!   restarts without a hub would go back to what it was told before, and delete by stale intent.
//! * **Each app on its own.** Own backoff, own epoch, own run; a slow or failing app delays no other.
//! * **Dismissed means still.** An agent whose certificate was revoked, or whose cluster was forgotten, applies, corrects
//!   and deletes nothing, over restarts too, until a hub lets it in again.
//! * **An app that the hub does not name is left alone**: neither removed nor corrected; its entry stays in the ledger,
//!   so that a hub which lost its memory learns of it, and its epoch is not forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::wire::{self, DesiredApp, Digest, Ledger};
use bytes::Bytes;
use policies::id::{AppId, Epoch, Term};
use policies::plan::{self, Order, Refusal};
use policies::time::Instant;

use crate::kept::{Kept, KeptApp};
use crate::members::View;

mod entry;
#[cfg(test)]
mod tests;

/// First wait after a failed run; it doubles up to [`RETRY_MAX`]. Short, since most failures are a conflict or a
/// webhook that is just starting.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait between runs of a failing app. A cluster's owner who binds a missing right sees it work within it.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long drift is left before it is corrected: one `kubectl apply` of many objects is one correction, and the watch
/// has time to tell what our own run did.
const DRIFT: Duration = Duration::from_millis(500);
/// Drift of one app again within this time doubles its wait, so two controllers that fight cost little.
const DRIFT_CALM: Duration = Duration::from_secs(600);
/// Runs at once. Each has one request under way, so this bounds what the agent asks of its API server.
const RUNS: usize = 64;
/// A run that takes longer than this does not count against [`RUNS`], so slow apps never hold up the others.
const SLOW: Duration = Duration::from_secs(10);
/// Ledgers are published no faster than this; each is whole, so what changes in between is not lost.
const PUBLISH: Duration = Duration::from_millis(200);
/// A render that has not arrived is asked for again after this.
const FETCH: Duration = Duration::from_secs(10);

/// What the shell must now do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Get the blob; answer with [`Core::handle_blob`].
    Fetch(Digest),
    /// Write this into the agent's own cluster; answer with [`Core::handle_kept`]. One at a time.
    Keep {
        /// Names the write in the answer.
        seq: u64,
        /// What to write.
        kept: Kept,
        /// The renders it names, by digest.
        blobs: BTreeMap<Digest, Bytes>,
    },
    /// Bring one app where it shall be; answer with [`Core::handle_ran`]. Never two at once for one app.
    Run(Job),
    /// Tell the hub.
    Publish(Ledger),
}

/// One run over one app.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The app.
    pub app: AppId,
    /// Names the run in the answer.
    pub run: u64,
    /// What to do.
    pub work: Work,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Make the cluster hold exactly this encoded [`wire::Render`].
    Apply(Bytes),
    /// Take the app away.
    Remove {
        /// `prune: Cascade`.
        cascade: bool,
    },
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Objects in the render.
    pub objects: u32,
    /// What was refused or failed, in the order of the run.
    pub failures: Vec<Failure>,
    /// What is waited for (finalizers), for people.
    pub waiting: Vec<String>,
    /// What was kept on purpose when the app went, for people.
    pub retained: Vec<String>,
    /// Fields that others take again and again, and that are left to them, for people.
    pub contested: Vec<String>,
    /// Nothing is left to do.
    pub settled: bool,
}

/// One thing that was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase reason.
    pub reason: String,
    /// What failed and what to do, for people.
    pub message: String,
}

impl Failure {
    /// A failure with this reason and text.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

/// The heart. See the module's documentation.
#[derive(Debug, Default)]
pub struct Core {
    now: Instant,
    highest: Order,
    apps: BTreeMap<AppId, App>,
    blobs: BTreeMap<Digest, Bytes>,
    fetching: BTreeMap<Digest, Instant>,
    keep: Keeping,
    runs: u64,
    dismissed: bool,
    /// Why the last desired state was refused, until one is taken in.
    refused: Option<Refusal>,
    published: Option<(Ledger, Instant)>,
    touched: bool,
}

/// The state of writing down what was told. `told` counts changes; `asked` and `done` say which of them are on their
/// way and written.
#[derive(Debug, Default)]
struct Keeping {
    told: u64,
    asked: u64,
    done: u64,
    attempts: u32,
    retry: Option<Instant>,
    error: String,
}

#[derive(Debug, Default)]
struct App {
    /// Highest epoch heard of.
    epoch: Epoch,
    /// The newest decision, while its render is on its way.
    told: Option<DesiredApp>,
    /// The decision that is acted upon.
    held: Option<DesiredApp>,
    /// Which [`Keeping::told`] contains `held`.
    held_seq: u64,
    absent: bool,
    cascade: bool,
    refused: Option<Refusal>,
    due: Option<Due>,
    running: Option<Running>,
    attempts: u32,
    outcome: Option<Outcome>,
    view: Option<View>,
    drift_runs: u32,
    drift_last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    /// Only to correct drift: dropped when the drift is gone before.
    drift: bool,
}

#[derive(Clone, Debug)]
struct Running {
    run: u64,
    since: Instant,
    desired: DesiredApp,
}

impl Core {
    /// A heart without a memory: a cluster's first agent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up what an earlier agent kept. Call it before any other input. Every app is run once, since only a run
    /// tells whether what was applied still stands.
    pub fn restore(&mut self, now: Instant, kept: Kept, blobs: BTreeMap<Digest, Bytes>) {
        self.now = now;
        self.highest = Order { term: Term(kept.term), number: kept.number };
        self.blobs = blobs;
        self.dismissed = kept.dismissed;
        for kept in kept.apps {
            let Some(desired) = kept.desired else { continue };
            let app = AppId::new(desired.namespace.clone(), desired.name.clone());
            let epoch = Epoch(kept.epoch.max(desired.epoch));
            let due = Some(Due { at: now, drift: false });
            let (absent, cascade) = (kept.absent, kept.cascade);
            let state = App { epoch, absent, cascade, due, ..App::default() };
            // A render that was lost is asked for again; until it comes the app is left as it is.
            let state = if desired.remove || self.blobs.contains_key(&desired.render) {
                App { held: Some(desired), ..state }
            } else {
                self.fetching.insert(desired.render.clone(), now);
                App { told: Some(desired), ..state }
            };
            self.apps.insert(app, state);
        }
        self.touched = true;
    }

    /// The hub says what this cluster shall run.
    pub fn handle_desired(&mut self, now: Instant, desired: wire::Desired) -> Result<(), Refusal> {
        self.advance(now);
        let offered = Order { term: Term(desired.term), number: desired.number };
        self.touched = true;
        if let Err(refusal) = plan::admit(self.highest, offered) {
            self.refused = Some(refusal.clone());
            return Err(refusal);
        }
        self.refused = None;
        if self.highest != offered {
            self.highest = offered;
            self.keep.told += 1;
        }
        let named: BTreeSet<AppId> = desired.apps.iter().map(id).collect();
        for (app, state) in &mut self.apps {
            if !named.contains(app) && !state.absent {
                state.absent = true;
                self.keep.told += 1;
            }
        }
        let known = self.apps.len();
        self.apps.retain(|_, a| !(a.absent && a.is_removed()));
        if self.apps.len() < known {
            self.keep.told += 1;
        }
        for told in desired.apps {
            self.tell(told);
        }
        self.collect_blobs();
        Ok(())
    }

    /// A blob that was asked for. What was not, or does not match its digest, is dropped.
    pub fn handle_blob(&mut self, now: Instant, digest: &[u8], bytes: Bytes) {
        self.advance(now);
        if !self.fetching.contains_key(digest) || wire::digest(&bytes) != digest {
            return;
        }
        self.fetching.remove(digest);
        self.blobs.insert(digest.to_vec(), bytes);
        let waiting = |a: &App| a.told.as_ref().is_some_and(|t| t.render == digest);
        let apps: Vec<AppId> = self.apps.iter().filter(|(_, a)| waiting(a)).map(|(id, _)| id.clone()).collect();
        for app in apps {
            self.hold(&app);
        }
        self.collect_blobs();
    }

    /// A new session with a hub: what it may have missed is said again.
    pub fn handle_connected(&mut self, now: Instant) {
        self.advance(now);
        self.published = None;
        self.touched = true;
        self.set_dismissed(false);
        for at in self.fetching.values_mut() {
            *at = now;
        }
    }

    /// The hub has revoked this agent's certificate.
    pub fn handle_dismissed(&mut self, now: Instant) {
        self.advance(now);
        self.set_dismissed(true);
    }

    /// How the write `seq` went.
    pub fn handle_kept(&mut self, now: Instant, seq: u64, result: Result<(), String>) {
        self.advance(now);
        if seq != self.keep.asked {
            return;
        }
        self.touched = true;
        match result {
            Ok(()) => {
                self.keep = Keeping { told: self.keep.told, asked: seq, done: seq, ..Keeping::default() };
            }
            Err(error) => {
                self.keep.attempts += 1;
                self.keep.asked = self.keep.done;
                self.keep.retry = Some(now + backoff(self.keep.attempts, 0));
                self.keep.error = error;
            }
        }
    }

    /// What came of a run.
    pub fn handle_ran(&mut self, now: Instant, job_app: &AppId, run: u64, outcome: Outcome) {
        self.advance(now);
        let Some(app) = self.apps.get_mut(job_app) else { return };
        let Some(running) = app.running.take_if(|r| r.run == run) else {
            return;
        };
        self.touched = true;
        if app.held.as_ref() != Some(&running.desired) {
            // Told otherwise meanwhile; what came of the old decision says nothing about the new one.
            app.due = Some(Due { at: now, drift: false });
            return;
        }
        if outcome.settled && outcome.failures.is_empty() {
            app.attempts = 0;
        } else {
            app.attempts += 1;
            app.due = Some(Due { at: now + backoff(app.attempts, seed(job_app)), drift: false });
        }
        app.outcome = Some(outcome);
        if app.absent && app.is_removed() {
            self.apps.remove(job_app);
            self.keep.told += 1;
        }
    }

    /// How an app's objects stand now.
    pub fn handle_view(&mut self, now: Instant, app: &AppId, view: View) {
        self.advance(now);
        let Some(state) = self.apps.get_mut(app) else { return };
        let drifted = !view.drifted.is_empty();
        if state.view.as_ref() != Some(&view) {
            state.view = Some(view);
            self.touched = true;
        }
        if state.running.is_some() || state.outcome.is_none() || state.held.as_ref().is_none_or(|h| h.remove) {
            return;
        }
        if drifted && state.due.is_none() {
            if state.drift_last.is_none_or(|last| now.since(last) > DRIFT_CALM) {
                state.drift_runs = 0;
            }
            let wait = RETRY_MAX.min(DRIFT * 2_u32.saturating_pow(state.drift_runs));
            state.due = Some(Due { at: now + wait, drift: true });
        } else if !drifted && state.due.is_some_and(|d| d.drift) {
            state.due = None;
        }
    }

    /// Something that an app waits for happened (an object with finalizers went): look again at once, without counting
    /// it as a failure.
    pub fn handle_hint(&mut self, now: Instant, app: &AppId) {
        self.advance(now);
        let Some(state) = self.apps.get_mut(app) else { return };
        let waits = state.outcome.as_ref().is_some_and(|o| o.failures.is_empty() && !o.settled);
        if waits && state.running.is_none() {
            state.due = Some(Due { at: now, drift: false });
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// What to do now, in order.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.poll_fetch().or_else(|| self.poll_keep()).or_else(|| self.poll_run()).or_else(|| self.poll_publish())
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let fetch = self.fetching.values().copied();
        let keep = self.keep.retry;
        let publish = self.published.as_ref().filter(|_| self.touched).map(|(_, at)| *at + PUBLISH);
        let runnable = |a: &&App| a.running.is_none() && !a.absent && a.held_seq <= self.keep.done;
        let runs = self.apps.values().filter(runnable).filter_map(|a| a.due).map(|d| d.at).min();
        let runs = runs.filter(|_| !self.dismissed);
        // All places taken: the next is free when a run ends, or becomes slow.
        let runs = if self.busy() < RUNS { runs } else { runs.map(|at| at.max(self.next_slow())) };
        fetch.chain(keep).chain(publish).chain(runs).min()
    }

    /// Apps whose objects shall be watched and run: all that are known and not gone.
    pub fn apps(&self) -> impl Iterator<Item = &AppId> {
        self.apps.keys()
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn set_dismissed(&mut self, dismissed: bool) {
        if std::mem::replace(&mut self.dismissed, dismissed) != dismissed {
            self.keep.told += 1;
        }
    }

    /// One app of a desired state that was admitted.
    fn tell(&mut self, told: DesiredApp) {
        let app = id(&told);
        let state = self.apps.entry(app.clone()).or_default();
        if state.absent {
            state.absent = false;
            state.due = Some(Due { at: self.now, drift: false });
            self.keep.told += 1;
        }
        if let Err(refusal) = plan::admit_epoch(state.epoch, Epoch(told.epoch)) {
            state.refused = Some(refusal);
            return;
        }
        state.refused = None;
        if state.told.as_ref().or(state.held.as_ref()) == Some(&told) {
            return;
        }
        state.epoch = Epoch(told.epoch);
        let here = told.remove || self.blobs.contains_key(&told.render);
        let digest = told.render.clone();
        state.told = Some(told);
        self.keep.told += 1;
        if here {
            self.hold(&app);
        } else {
            self.fetching.entry(digest).or_insert(self.now);
        }
    }

    /// The render of what was told is here: act upon it from now on.
    fn hold(&mut self, app: &AppId) {
        let Some(state) = self.apps.get_mut(app) else { return };
        let Some(told) = state.told.take() else { return };
        self.keep.told += 1;
        state.held_seq = self.keep.told;
        if let Some(blob) = self.blobs.get(&told.render) {
            use prost::Message as _;
            // A render that does not decode keeps the older answer: the safe one is what the app said last.
            state.cascade = wire::Render::decode(blob.clone()).map_or(state.cascade, |r| r.cascade);
        }
        state.held = Some(told);
        state.outcome = None;
        state.attempts = 0;
        state.due = Some(Due { at: self.now, drift: false });
        self.touched = true;
    }

    /// Forgets renders that nobody needs, and stops asking for them.
    fn collect_blobs(&mut self) {
        let told = self.apps.values().filter_map(|a| a.told.as_ref());
        let held = self.apps.values().filter_map(|a| a.held.as_ref());
        let needed: BTreeSet<&Digest> = told.chain(held).map(|d| &d.render).collect();
        self.blobs.retain(|digest, _| needed.contains(digest));
        self.fetching.retain(|digest, _| needed.contains(digest));
    }

    fn poll_fetch(&mut self) -> Option<Command> {
        let (digest, at) = self.fetching.iter_mut().find(|(_, at)| **at <= self.now)?;
        *at = self.now + FETCH;
        Some(Command::Fetch(digest.clone()))
    }

    fn poll_keep(&mut self) -> Option<Command> {
        let idle = self.keep.asked == self.keep.done && self.keep.retry.is_none_or(|at| at <= self.now);
        if !idle || self.keep.told == self.keep.done {
            return None;
        }
        self.keep.asked = self.keep.told;
        self.keep.retry = None;
        let apps = self.apps.values().filter(|a| a.held.is_some()).map(|a| KeptApp {
            desired: a.held.clone(),
            absent: a.absent,
            cascade: a.cascade,
            epoch: a.epoch.0,
        });
        let kept = Kept {
            term: self.highest.term.0,
            number: self.highest.number,
            apps: apps.collect(),
            dismissed: self.dismissed,
        };
        let blobs = kept.renders().into_iter().filter_map(|d| self.blobs.get(&d).map(|b| (d, b.clone()))).collect();
        Some(Command::Keep { seq: self.keep.asked, kept, blobs })
    }

    fn poll_run(&mut self) -> Option<Command> {
        if self.dismissed || self.busy() >= RUNS {
            return None;
        }
        let done = self.keep.done;
        let ready = |a: &App| a.running.is_none() && !a.absent && a.held.is_some() && a.held_seq <= done;
        let due = self.apps.iter().filter(|(_, a)| ready(a)).filter_map(|(id, a)| a.due.map(|d| (d.at, id)));
        let (at, app) = due.min()?;
        if at > self.now {
            return None;
        }
        let app = app.clone();
        let state = self.apps.get_mut(&app)?;
        let desired = state.held.clone()?;
        if state.due.take().is_some_and(|d| d.drift) {
            state.drift_runs = state.drift_runs.saturating_add(1);
            state.drift_last = Some(self.now);
        }
        let work = if desired.remove {
            Work::Remove { cascade: state.cascade }
        } else {
            Work::Apply(self.blobs.get(&desired.render)?.clone())
        };
        self.runs += 1;
        state.running = Some(Running { run: self.runs, since: self.now, desired });
        self.touched = true;
        Some(Command::Run(Job { app, run: self.runs, work }))
    }

    fn poll_publish(&mut self) -> Option<Command> {
        let early = self.published.as_ref().is_some_and(|(_, at)| self.now < *at + PUBLISH);
        if !self.touched || early {
            return None;
        }
        self.touched = false;
        let ledger = self.ledger();
        if self.published.as_ref().is_some_and(|(last, _)| *last == ledger) {
            return None;
        }
        self.published = Some((ledger.clone(), self.now));
        Some(Command::Publish(ledger))
    }

    /// Runs under way that are not slow.
    fn busy(&self) -> usize {
        let running = self.apps.values().filter_map(|a| a.running.as_ref());
        running.filter(|r| self.now.since(r.since) < SLOW).count()
    }

    fn next_slow(&self) -> Instant {
        let running = self.apps.values().filter_map(|a| a.running.as_ref()).map(|r| r.since + SLOW);
        running.filter(|at| *at > self.now).min().unwrap_or(self.now)
    }

    /// The ledger as it stands.
    pub fn ledger(&self) -> Ledger {
        let entries = self.apps.iter().filter_map(|(id, app)| app.entry(id, &self.keep)).collect();
        Ledger { term: self.highest.term.0, number: self.highest.number, entries }
    }

    /// Why the newest desired state was refused, if it was.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }
}

fn id(app: &DesiredApp) -> AppId {
    AppId::new(app.namespace.clone(), app.name.clone())
}

/// The wait after `attempts` failures, stretched by up to a quarter so that apps which failed together do not return
/// together. Which quarter follows from the app's name: no randomness here.
fn backoff(attempts: u32, seed: u32) -> Duration {
    let base = RETRY_MAX.min(RETRY * 2_u32.saturating_pow(attempts.saturating_sub(1)));
    base + base * (seed.wrapping_add(attempts.wrapping_mul(7)) % 16) / 64
}

fn seed(app: &AppId) -> u32 {
    app.namespace.bytes().chain(app.name.bytes()).fold(0, |h: u32, b| h.wrapping_mul(31).wrapping_add(u32::from(b)))
}
