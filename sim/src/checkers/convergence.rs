//! Some time after the last fault has ended, every cluster holds what the user wants, and every node answers with the
//! nearest healthy cluster. Without this, a world in which nothing ever happens would keep all other promises.

use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker; the comparison itself is the world's, which alone sees all of it.
#[derive(Debug)]
pub struct Convergence;

impl Checker for Convergence {
    fn name(&self) -> &'static str {
        "convergence"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Unsettled { what } => Err((*what).to_owned()),
            _ => Ok(()),
        }
    }
}
