//! 1: never delete the last healthy copy automatically. What a user asks for is done: an order to remove is in order when,
//! at the moment of the decision, the user had deleted the app or wanted it elsewhere.

use std::collections::BTreeSet;

use policies::id::{AppId, ClusterId};
use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct LastCopy {
    /// Removals that a user asked for: app, cluster, epoch.
    asked: BTreeSet<(AppId, ClusterId, u64)>,
}

impl Checker for LastCopy {
    fn name(&self) -> &'static str {
        "1 the last healthy copy stays"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Decided { decision, wishes, .. } => {
                for (cluster, desired) in &decision.desired {
                    for order in desired.apps.iter().filter(|order| order.remove) {
                        let app = AppId::new(&order.namespace, &order.name);
                        if !wishes.wants(&app, cluster) {
                            self.asked.insert((app, cluster.clone(), order.epoch));
                        }
                    }
                }
                Ok(())
            }
            Fact::Deleted(d) if d.removing => {
                let asked = self.asked.contains(&(d.app.clone(), d.cluster.clone(), d.epoch));
                if asked || d.elsewhere > 0 {
                    return Ok(());
                }
                Err(format!(
                    "{} takes {} away, nobody asked for it, and no other cluster has it whole",
                    d.cluster, d.app
                ))
            }
            // A new version prunes what it does not have any more only once all it has is in place.
            Fact::Deleted(d) if !d.whole => {
                Err(format!("{} deletes {} of {} before the new version is in place", d.cluster, d.object, d.app))
            }
            _ => Ok(()),
        }
    }
}
