//! Which orders an agent obeys at all, and which snapshots a DNS node takes in.

use std::fmt;

use crate::id::{Epoch, Term};

/// What orders two desired states: the leader's term and its count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The leader's term.
    pub term: Term,
    /// Number of the desired state.
    pub number: u64,
}

/// What a DNS node does with a snapshot that it does not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is the one that is served.
    Same,
    /// It takes the place of the one that is served.
    Newer,
}

/// Whether a DNS node takes a snapshot in, by the order of what it serves (its term: the highest obeyed); `same`: both
/// have one content. A number stands for one content, so that of two with one number the first stays.
///
/// # Errors
/// A [`Refusal`]: it is of an older leader, or not newer.
pub fn admit_snapshot(served: Order, offered: Order, same: bool) -> Result<Offer, Refusal> {
    if offered.term < served.term {
        return Err(Refusal::StaleTerm { offered: offered.term, highest: served.term });
    }
    if offered.number == served.number && same {
        return Ok(Offer::Same);
    }
    if offered.number <= served.number {
        return Err(Refusal::StaleNumber { offered: offered.number, highest: served.number });
    }
    Ok(Offer::Newer)
}

/// Why an order is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A leader that has lost its Lease speaks.
    StaleTerm {
        /// Its term.
        offered: Term,
        /// The highest obeyed.
        highest: Term,
    },
    /// An earlier desired state arrives late, or from a hub that was restored from a backup.
    StaleNumber {
        /// Its number.
        offered: u64,
        /// The highest obeyed.
        highest: u64,
    },
    /// An earlier decision about one app.
    StaleEpoch {
        /// Its epoch.
        offered: Epoch,
        /// The highest obeyed.
        highest: Epoch,
    },
}

impl Refusal {
    /// The reason code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::StaleTerm { .. } => "StaleTerm",
            Self::StaleNumber { .. } => "StaleNumber",
            Self::StaleEpoch { .. } => "StaleEpoch",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleTerm { offered, highest } => {
                write!(f, "term {offered} is older than {highest}, which this agent has obeyed")
            }
            Self::StaleNumber { offered, highest } => {
                write!(f, "desired state {offered} is older than {highest}, which this agent has taken in")
            }
            Self::StaleEpoch { offered, highest } => {
                write!(f, "epoch {offered} is older than {highest}, which this agent has obeyed")
            }
        }
    }
}

/// Whether a desired state is obeyed after `highest`. The same number again is: a hub repeats itself after a lost
/// connection. Term and number must *both* not fall, so a new leader with an old memory is refused too; it learns the
/// number from the ledger.
pub fn admit(highest: Order, offered: Order) -> Result<(), Refusal> {
    if offered.term < highest.term {
        return Err(Refusal::StaleTerm { offered: offered.term, highest: highest.term });
    }
    if offered.number < highest.number {
        return Err(Refusal::StaleNumber { offered: offered.number, highest: highest.number });
    }
    Ok(())
}

/// Terms that a leader may skip to be obeyed again. A term is one start of a hub, so between a backup and its restore
/// there may have been one every second for eleven days; whoever reports more is damaged or lies, and one such report
/// must not use up the numbers that a Lease can count.
const TERMS_SKIPPED_MAX: u64 = 1_000_000;

/// The term that a leader must take to be obeyed again, when somebody has `obeyed` a higher one: the next above
/// the highest. `None`: its own is the highest.
///
/// A hub whose cluster was restored from a backup counts the terms of its Lease anew, and everybody refuses it. A leader
/// that merely lost its Lease sees the same; so the new term must be written **into the Lease**, by whoever still holds
/// it, before it is used.
pub fn term_to_take(own: Term, obeyed: impl IntoIterator<Item = Term>) -> Option<Term> {
    let possible = own.0.saturating_add(TERMS_SKIPPED_MAX);
    let highest = obeyed.into_iter().filter(|term| term.0 <= possible).max()?;
    (highest > own).then(|| Term(highest.0.saturating_add(1)))
}

/// Whether a decision about one app is obeyed after `highest`.
pub fn admit_epoch(highest: Epoch, offered: Epoch) -> Result<(), Refusal> {
    if offered < highest { Err(Refusal::StaleEpoch { offered, highest }) } else { Ok(()) }
}

/// Why no App may live in `namespace`, or `None` if it may: `kube-*` belongs to the cluster, `own` to the agent.
pub fn refuse_namespace(namespace: &str, own: &str) -> Option<String> {
    if namespace.starts_with("kube-") {
        Some(format!("namespace {namespace} belongs to the cluster itself; put the App into another namespace"))
    } else if namespace == own {
        Some(format!("namespace {namespace} belongs to the agent; put the App into another namespace"))
    } else {
        None
    }
}
