//! 8: no older term, number or epoch is obeyed, by agents or DNS nodes. Measured against what stands durably: an agent
//! that dies between hearing and keeping has not obeyed yet.

use std::collections::BTreeMap;

use policies::id::ClusterId;
use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct OlderOrders {
    /// Term and number in each agent's memory.
    agents: BTreeMap<ClusterId, (u64, u64)>,
    /// Term and number of what each node serves.
    nodes: BTreeMap<String, (u64, u64)>,
}

impl Checker for OlderOrders {
    fn name(&self) -> &'static str {
        "8 no older order is obeyed"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Reached { cluster, desired, refused: None } => {
                let offered = (desired.term, desired.number);
                match self.agents.get(*cluster) {
                    Some(kept) if is_older(offered, *kept) => {
                        Err(format!("{cluster} obeys {offered:?} and has kept {kept:?}"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Kept { cluster, kept } => {
                let fresh = (kept.term, kept.number);
                match self.agents.insert((*cluster).clone(), fresh) {
                    Some(before) if is_older(fresh, before) => {
                        Err(format!("the memory of {cluster} goes back from {before:?} to {fresh:?}"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Served { node, serves, .. } => match self.nodes.insert((*node).to_owned(), *serves) {
                Some(before) if is_older(*serves, before) => {
                    Err(format!("{node} goes back from snapshot {before:?} to {serves:?}"))
                }
                Some(_) | None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Term and number must both not fall.
const fn is_older(offered: (u64, u64), than: (u64, u64)) -> bool {
    offered.0 < than.0 || offered.1 < than.1
}
