//! What a patch says of itself, and what is made of a fuzz with it. Pure.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// Where the header of a patch ends; `git apply` leaves aside what stands before it.
const DIFF: &str = "diff --git ";

/// One fault, as the header of its patch describes it:
///
/// ```text
/// Fault: one sentence that says what is wrong, and what comes of it; it may go on
///   in lines that begin with two spaces.
/// Caught-by: invariant 9
/// Seeds: 120
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its file's name, without `.patch`.
    pub(super) name: String,
    /// Its file.
    pub(super) path: PathBuf,
    /// What is wrong.
    pub(super) text: String,
    /// What must find it.
    pub(super) caught_by: Promise,
    /// Seeds that are enough to find it, generously.
    pub(super) seeds: u64,
}

/// A promise that a checker of the simulator watches over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// One of the numbered ones in docs/architecture.md.
    Invariant(u32),
    /// Another one, by its name.
    Other(String),
}

impl Promise {
    /// Of a checker's name: a number and words, or a name alone.
    pub(super) fn of_checker(name: &str) -> Self {
        let first = name.split(' ').next().unwrap_or(name);
        first.parse().map_or_else(|_| Self::Other(name.to_owned()), Self::Invariant)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        if let Some(number) = text.strip_prefix("invariant ") {
            return Ok(Self::Invariant(number.parse().with_context(|| format!("{number:?} is no number"))?));
        }
        ensure!(!text.is_empty() && !text.contains(' '), "{text:?} is neither `invariant N` nor one word");
        Ok(Self::Other(text.to_owned()))
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant(number) => write!(f, "invariant {number}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// By the checker that its header names.
    Caught,
    /// By another one, which says something else of it than its header.
    CaughtByOther,
    /// By none.
    Survived,
    /// It was not tried: why, for people.
    Broken(String),
}

impl Fault {
    /// Reads the header.
    ///
    /// # Errors
    /// A line that is none of a header, one that is missing or stands twice, a number that is none, or no diff below.
    pub(super) fn parse(name: &str, path: &Path, text: &str) -> anyhow::Result<Self> {
        let (mut fault, mut caught_by, mut seeds) = (None::<String>, None, None);
        let mut in_fault = false;
        let mut lines = text.lines();
        let mut has_diff = false;
        for line in lines.by_ref() {
            if line.starts_with(DIFF) {
                has_diff = true;
                break;
            }
            if let (true, Some(more), Some(fault)) = (in_fault, line.strip_prefix("  "), &mut fault) {
                fault.push(' ');
                fault.push_str(more);
                continue;
            }
            in_fault = false;
            let twice = match line.split_once(": ") {
                Some(("Fault", what)) => {
                    in_fault = true;
                    fault.replace(what.to_owned()).is_some()
                }
                Some(("Caught-by", promise)) => caught_by.replace(Promise::parse(promise)?).is_some(),
                Some(("Seeds", number)) => {
                    let number = number.parse::<u64>().with_context(|| format!("{number:?} seeds"))?;
                    ensure!(number > 0, "no seed finds anything");
                    seeds.replace(number).is_some()
                }
                Some(_) | None if line.is_empty() => false,
                Some(_) | None => bail!("{line:?} is no line of a header"),
            };
            ensure!(!twice, "{line:?} is there a second time");
        }
        ensure!(has_diff, "there is no `{DIFF}` below it");
        let text = fault.context("it has no line `Fault: …`")?;
        ensure!(text.ends_with('.'), "the fault is no sentence: {text}");
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            text,
            caught_by: caught_by.context("it has no line `Caught-by: …`")?,
            seeds: seeds.context("it has no line `Seeds: …`")?,
        })
    }

    /// What a fuzz with the fault says of it.
    pub(super) fn judge(&self, outcome: &Outcome) -> Verdict {
        match &outcome.finding {
            None => Verdict::Survived,
            Some(finding) if finding.promise() == self.caught_by => Verdict::Caught,
            Some(_) => Verdict::CaughtByOther,
        }
    }
}

/// What came of a fuzz, as `sim::fuzz::Outcome` is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The failure, if one seed failed.
    pub(super) finding: Option<Finding>,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The seed.
    pub(super) seed: u64,
    /// The name of the checker that found it.
    pub(super) invariant: String,
    /// What it says.
    pub(super) what: String,
}

impl Finding {
    /// The promise that was broken.
    pub(super) fn promise(&self) -> Promise {
        Promise::of_checker(&self.invariant)
    }
}

impl Outcome {
    /// Reads it from JSON.
    ///
    /// # Errors
    /// It is no outcome: what says nothing must not count as a fuzz that found nothing.
    pub(super) fn read(json: &[u8]) -> anyhow::Result<Self> {
        let outcome: Value = serde_json::from_slice(json).context("reading the outcome of the fuzz")?;
        ensure!(outcome["seeds"].as_u64().is_some_and(|seeds| seeds > 0), "the fuzz ran no seed");
        let finding = outcome.get("failure").map(|failure| {
            let text = |key: &str| failure[key].as_str().map(str::to_owned);
            Some(Finding { seed: failure["seed"].as_u64()?, invariant: text("invariant")?, what: text("what")? })
        });
        match finding {
            Some(None) => bail!("the fuzz names a failure that cannot be read: {}", outcome["failure"]),
            Some(Some(finding)) => Ok(Self { finding: Some(finding) }),
            None => Ok(Self { finding: None }),
        }
    }
}
