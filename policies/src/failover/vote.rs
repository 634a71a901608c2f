//! One vote for each failure domain outside the target's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::RegionId;

/// Silence after which a domain's vote is *failed*. On a steady path ten seconds of silence seen by two of three
/// observers happen 0.06 times a target and day by chance, five seconds 0.57 times.
pub const SILENT_FAILED: Duration = Duration::from_secs(10);
/// Silence after which a target is suspect: three beats missed, and one for the road.
pub const SILENT_SUSPECT: Duration = Duration::from_secs(4);
/// Positive failures in a row after which a domain's vote is *failed*: one may be a restart's, two are an answer.
pub const POSITIVE_FAILED: u32 = 2;
/// Failed domains that are needed to take a target down: one alone may itself be cut off.
pub const DOMAINS_DOWN: usize = 2;

/// What one observer has seen of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Time since the last success, or since it began to look when there was none.
    pub silent: Duration,
    /// Answers in a row by which the target itself said that it fails: a refused connection, a TLS alert, a 5xx.
    pub positives: u32,
    /// Whether there ever was a success; an observer that has just begun to look knows nothing yet.
    pub seen: bool,
}

impl Finding {
    /// The best of two observers in one domain: one success within a domain makes it a success.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        Self {
            silent: self.silent.min(other.silent),
            positives: self.positives.min(other.positives),
            seen: self.seen || other.seen,
        }
    }

    /// The vote of a domain that found this.
    pub fn vote(self) -> Vote {
        if self.positives >= POSITIVE_FAILED || self.silent >= SILENT_FAILED {
            Vote::Failed
        } else if self.silent >= SILENT_SUSPECT {
            Vote::Silent
        } else if self.seen && self.positives == 0 {
            Vote::Fine
        } else {
            Vote::Open
        }
    }
}

/// How one domain votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vote {
    /// A recent success.
    Fine,
    /// Too early to say.
    Open,
    /// Silent for a while; not yet failed.
    Silent,
    /// Failed.
    Failed,
}

impl Vote {
    /// The vote in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Open => "open",
            Self::Silent => "silent",
            Self::Failed => "failed",
        }
    }
}

/// What all votes together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nobody outside sees it, or nobody who sees it can tell: what was decided last stays.
    NoVoter,
    /// Every vote is fine, or fine and open.
    Well,
    /// Some domain is silent or has failed, and that is not enough to take it down.
    Suspect,
    /// At least two domains have failed, more than see it well.
    Down,
}

/// How many domains can see a target of `home` from outside. Below [`DOMAINS_DOWN`] it is never taken down.
pub fn observers<'a>(home: &RegionId, domains: impl IntoIterator<Item = &'a RegionId>) -> usize {
    domains.into_iter().filter(|domain| *domain != home).collect::<BTreeSet<_>>().len()
}

/// Counts the votes of the domains outside `home`.
///
/// The domain `tunnels` has looked at an agent's tunnel, not at what users reach. It counts like any other where somebody
/// who has probed the target accuses it, too, and accuses nobody alone: between the hub and one cluster a path may be cut
/// that no user takes.
pub fn count(home: &RegionId, votes: &BTreeMap<RegionId, Vote>, tunnels: Option<&RegionId>) -> Outcome {
    let outside = || votes.iter().filter(|(domain, _)| *domain != home);
    let number = |wanted: Vote| outside().filter(|(_, vote)| **vote == wanted).count();
    let (failed, fine) = (number(Vote::Failed), number(Vote::Fine));
    let accuses = |(domain, vote): (&RegionId, &Vote)| *vote >= Vote::Silent && Some(domain) != tunnels;
    let accused = outside().any(accuses);
    if accused && failed >= DOMAINS_DOWN && failed > fine {
        Outcome::Down
    } else if accused {
        Outcome::Suspect
    } else if fine > 0 {
        Outcome::Well
    } else {
        Outcome::NoVoter
    }
}
