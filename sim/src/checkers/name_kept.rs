//! 9: a name that had an answer keeps one, at each node that ever gave one, as long as the user wants the app at all.

use std::collections::BTreeSet;

use policies::time::Instant;

use super::{Checker, EverDeleted};
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct NameKept {
    answered: BTreeSet<(String, String)>,
    deleted: EverDeleted,
}

impl Checker for NameKept {
    fn name(&self) -> &'static str {
        "9 a name keeps its answer"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Wished { wishes, .. } => {
                self.deleted.note(wishes);
                Ok(())
            }
            Fact::Answered { node, host, clusters, app, user } => {
                let key = ((*node).to_owned(), (*host).to_owned());
                if !clusters.is_empty() {
                    self.answered.insert(key);
                    return Ok(());
                }
                if self.answered.contains(&key) && !self.deleted.contains(app) {
                    return Err(format!("{node} has no answer for {user} about {host} any more"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
