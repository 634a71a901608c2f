//! 4: during a partition a change leaves unreachable replicas alone: what was chosen for a cluster without a session stays
//! chosen, unless the user no longer wants it there.

use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug)]
pub struct Unreachable;

impl Checker for Unreachable {
    fn name(&self) -> &'static str {
        "4 unreachable replicas are left alone"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Decided { seen, before, decision, wishes, .. } = fact else { return Ok(()) };
        for (id, app) in &before.apps {
            for (cluster, _) in app.clusters.iter().filter(|(_, entry)| entry.stays()) {
                if seen.connected.contains(cluster) || !wishes.wants(id, cluster) {
                    continue;
                }
                let after = decision.choice.apps.get(id).and_then(|app| app.clusters.get(cluster));
                if after.is_none_or(|entry| !entry.stays()) {
                    return Err(format!("{id} leaves {cluster}, which is out of reach and where the user wants it"));
                }
            }
        }
        Ok(())
    }
}
