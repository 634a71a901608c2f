//! 3: a list error is never an empty set: after a look that failed in part, a run deletes nothing until it has looked
//! again in full.

use std::collections::BTreeSet;

use policies::id::ClusterId;
use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct ListError {
    /// Runs whose last look failed in part.
    blind: BTreeSet<(ClusterId, u64)>,
}

impl Checker for ListError {
    fn name(&self) -> &'static str {
        "3 a list error is no empty set"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Started { cluster, job, .. } => {
                // Runs are numbered anew in each process.
                self.blind.remove(&((*cluster).clone(), job.run));
                Ok(())
            }
            Fact::Looked { cluster, run, complete } => {
                let key = ((*cluster).clone(), *run);
                if *complete {
                    self.blind.remove(&key);
                } else {
                    self.blind.insert(key);
                }
                Ok(())
            }
            Fact::Deleted(d) if self.blind.contains(&(d.cluster.clone(), d.run)) => {
                Err(format!("{} deletes {} after a list that failed", d.cluster, d.object))
            }
            _ => Ok(()),
        }
    }
}
