//! 2: a region that reconnects (or an agent that restarts) never deletes by stale intent: an object is not deleted by an
//! order older than the one that applied it, a run acts on what is written down, and what is written down never goes
//! back.

use std::collections::BTreeMap;

use agent::core::Work;
use policies::id::{AppId, ClusterId};
use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct StaleIntent {
    /// Epoch of each app's order as last written down; forgotten when the memory forgets the app.
    kept: BTreeMap<(ClusterId, AppId), u64>,
}

impl Checker for StaleIntent {
    fn name(&self) -> &'static str {
        "2 no deletion by stale intent"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Deleted(d) if d.epoch < d.applied => Err(format!(
                "{} deletes {} by an order of epoch {}; epoch {} had applied it",
                d.cluster, d.object, d.epoch, d.applied
            )),
            Fact::Kept { cluster, kept } => {
                let orders: BTreeMap<AppId, u64> = kept
                    .apps
                    .iter()
                    .filter_map(|app| app.desired.as_ref())
                    .map(|order| (AppId::new(&order.namespace, &order.name), order.epoch))
                    .collect();
                for (app, epoch) in &orders {
                    if self.kept.get(&((*cluster).clone(), app.clone())).is_some_and(|before| epoch < before) {
                        return Err(format!("{cluster} goes back to epoch {epoch} of {app}"));
                    }
                }
                self.kept.retain(|(of, app), _| of != *cluster || orders.contains_key(app));
                self.kept.extend(orders.into_iter().map(|(app, epoch)| (((*cluster).clone(), app), epoch)));
                Ok(())
            }
            Fact::Started { cluster, job, kept } => {
                let orders = kept.apps.iter().filter_map(|app| app.desired.as_ref());
                let order = orders.into_iter().find(|o| o.namespace == job.app.namespace && o.name == job.app.name);
                let right = order.is_some_and(|order| match &job.work {
                    Work::Remove { .. } => order.remove,
                    Work::Apply(bytes) => !order.remove && api::wire::digest(bytes) == order.render,
                });
                if right { Ok(()) } else { Err(format!("{cluster} runs {} by an order that it did not keep", job.app)) }
            }
            _ => Ok(()),
        }
    }
}
