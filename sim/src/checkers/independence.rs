//! 5: one dead or slow cluster never slows another: what a healthy cluster is told on an open session reaches its agent
//! within [`BOUND`], whatever becomes of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::id::ClusterId;
use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// A path loses a packet in a thousand here and repeats it after a quarter of a second: three in a row do not happen
/// twice in the lives of all seeds, and a queue behind a dead peer takes ten seconds or more to show.
const BOUND: Duration = Duration::from_secs(3);

/// The checker.
#[derive(Debug, Default)]
pub struct Independence {
    /// What each undisturbed cluster was told and has not heard yet: number and since when.
    waiting: BTreeMap<ClusterId, (u64, Instant)>,
}

impl Checker for Independence {
    fn name(&self) -> &'static str {
        "5 no cluster slows another"
    }

    fn handle(&mut self, now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Told { cluster, number } => {
                self.waiting.insert((*cluster).clone(), (*number, now));
            }
            Fact::Disturbed { cluster } => _ = self.waiting.remove(*cluster),
            Fact::Reached { cluster, desired, .. }
                if self.waiting.get(*cluster).is_some_and(|(number, _)| *number <= desired.number) =>
            {
                self.waiting.remove(*cluster);
            }
            _ => {}
        }
        match self.waiting.iter().find(|(_, (_, since))| now.since(*since) > BOUND) {
            Some((cluster, (number, since))) => {
                Err(format!("{cluster} was told its desired state {number} at {since} and has not heard it"))
            }
            None => Ok(()),
        }
    }
}
