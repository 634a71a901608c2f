//! One checker for each promise of DESIGN §5. A checker remembers what it needs of the facts so far and says what is wrong
//! with a new one; it never asks a role what it thinks.
//!
//! Absent: 6 (a glitch never moves data back) and 7 (one writer): nothing writes data yet.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a checker looks at the facts that concern it; a new one is none of its business"
)]

mod convergence;
mod determinism;
mod fresh_hub;
mod independence;
mod last_copy;
mod list_error;
mod name_kept;
mod older_orders;
mod stale_intent;
mod unreachable;
mod users_first;

use std::collections::BTreeSet;

use policies::id::AppId;
use policies::time::Instant;

use crate::fact::Fact;
use crate::wishes::Wishes;

pub use convergence::Convergence;
pub use determinism::Determinism;
pub use fresh_hub::FreshHub;
pub use independence::Independence;
pub use last_copy::LastCopy;
pub use list_error::ListError;
pub use name_kept::NameKept;
pub use older_orders::OlderOrders;
pub use stale_intent::StaleIntent;
pub use unreachable::Unreachable;
pub use users_first::UsersFirst;

/// Watches over one promise.
pub trait Checker {
    /// The promise, as messages name it.
    fn name(&self) -> &'static str;

    /// Takes a fact in.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn handle(&mut self, now: Instant, fact: &Fact<'_>) -> Result<(), String>;
}

/// Apps that a user deleted at some time: their names may lose every answer, and their copies go without waiting.
#[derive(Debug, Default)]
struct EverDeleted {
    known: BTreeSet<AppId>,
    deleted: BTreeSet<AppId>,
}

impl EverDeleted {
    fn note(&mut self, wishes: &Wishes) {
        self.known.extend(wishes.wanted.keys().cloned());
        self.deleted.extend(self.known.iter().filter(|app| !wishes.wanted.contains_key(*app)).cloned());
    }

    fn contains(&self, app: &AppId) -> bool {
        self.deleted.contains(app)
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at} {invariant}: {what}")]
pub struct Violation {
    /// Which promise.
    pub invariant: &'static str,
    /// When, in virtual time.
    pub at: Instant,
    /// How.
    pub what: String,
}

/// All checkers, in the order of the invariants.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(LastCopy::default()),
        Box::new(UsersFirst::default()),
        Box::new(StaleIntent::default()),
        Box::new(ListError::default()),
        Box::new(Unreachable),
        Box::new(Independence::default()),
        Box::new(OlderOrders::default()),
        Box::new(NameKept::default()),
        Box::new(Determinism),
        Box::new(FreshHub::default()),
        Box::new(Convergence),
    ]
}

#[cfg(test)]
pub(crate) mod tests;
