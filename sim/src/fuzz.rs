//! Many seeds, several at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::checkers;
use crate::tally::Tally;
use crate::world::{Ran, Script, World};

/// A seed whose world broke a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The promise.
    pub invariant: String,
    /// Virtual time, milliseconds.
    pub at_ms: u64,
    /// How it was broken.
    pub what: String,
    /// The last lines of the trace.
    pub last: Vec<String>,
}

/// What a program reads of a [`Report`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome<'a> {
    /// Seeds that were run.
    pub seeds: u64,
    /// Events taken from the queues of all of them.
    pub events: u64,
    /// How often each interesting thing happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Left out when no seed failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<&'a Failure>,
}

/// What came of all seeds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// How often each interesting thing happened.
    pub tally: Tally,
    /// The failing seed with the lowest number, if any failed.
    pub failure: Option<Failure>,
}

impl Report {
    /// The report as programs read it.
    pub fn outcome(&self) -> Outcome<'_> {
        Outcome {
            seeds: self.seeds,
            events: self.tally.events,
            counts: self.tally.iter().collect(),
            failure: self.failure.as_ref(),
        }
    }
}

/// The world of one seed, with all checkers.
pub fn run_seed(seed: u64, verbose: bool) -> Ran {
    World::new(&Script::seed(seed), checkers::all(), verbose).run()
}

/// The failure of a run, if it is one.
pub fn failure(seed: u64, ran: &Ran) -> Option<Failure> {
    let violation = ran.violation.as_ref()?;
    Some(Failure {
        seed,
        invariant: violation.invariant.to_owned(),
        at_ms: violation.at.as_nanos() / 1_000_000,
        what: violation.what.clone(),
        last: ran.trace.lines().map(str::to_owned).collect(),
    })
}

/// Runs `count` seeds from `first` on in `jobs` threads, until one fails. `progress` hears how many are done.
///
/// Threads take seeds in their order and end those that they took, so every seed below one that fails is run: the
/// failure does not depend on the threads, only how many seeds were run beyond it does.
pub fn fuzz(first: u64, count: u64, jobs: usize, progress: &(dyn Fn(u64) + Sync)) -> Report {
    let (next, done, stop) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report::default());
    let end = first.saturating_add(count);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let ran = run_seed(seed, false);
            let failed = failure(seed, &ran);
            if failed.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.seeds += 1;
            report.tally.merge(&ran.tally);
            let lowest = report.failure.as_ref().map_or(u64::MAX, |failure| failure.seed);
            if let Some(failed) = failed.filter(|failed| failed.seed < lowest) {
                report.failure = Some(failed);
            }
            drop(report);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}
