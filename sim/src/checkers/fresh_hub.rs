//! 11: after a hub start nothing is moved, shrunk or pruned on account of a cluster that has not yet reported. Checked
//! where nobody wished anything since what the hub finds was decided: then every move would be the start's doing.

use controller::core::choice::{Choice, ClusterChoice};
use policies::time::Instant;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct FreshHub {
    /// What a hub found when it started, while nobody has wished anything since.
    found: Option<Choice>,
}

impl Checker for FreshHub {
    fn name(&self) -> &'static str {
        "11 a fresh hub moves nothing"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::HubUp { kept, quiet, .. } => self.found = quiet.then(|| (*kept).clone()),
            Fact::Wished { .. } => self.found = None,
            Fact::Decided { seen, decision, .. } => {
                let Some(found) = &self.found else { return Ok(()) };
                for (id, before) in &found.apps {
                    let Some(after) = decision.choice.apps.get(id) else {
                        if before.clusters.is_empty() || before.clusters.values().all(|entry| entry.removing) {
                            continue;
                        }
                        return Err(format!("a fresh hub forgets {id}"));
                    };
                    for (cluster, entry) in &before.clusters {
                        let now = after.clusters.get(cluster);
                        // How far users have left a copy that is not wanted any more is the hub's own note.
                        let told = |entry: &ClusterChoice| (entry.render.clone(), entry.removing);
                        let same = entry.leaving.is_some() || now.map(told) == Some(told(entry));
                        if !seen.ledgers.contains_key(cluster) && !same {
                            return Err(format!("a fresh hub changes {id} in {cluster}, which has not reported"));
                        }
                        if entry.stays() && now.is_none_or(|now| !now.stays()) {
                            return Err(format!("a fresh hub takes {id} away from {cluster}, and nobody asked"));
                        }
                    }
                    for (host, targets) in &before.hosts {
                        let now = after.hosts.get(host);
                        // Where the app is being taken away, the user asked, and its last address may go when another is
                        // there.
                        let stays = |cluster| before.clusters.get(cluster).is_some_and(ClusterChoice::stays);
                        for (cluster, addresses) in targets.0.iter().filter(|(cluster, _)| stays(*cluster)) {
                            let same = now.and_then(|targets| targets.0.get(cluster)) == Some(addresses);
                            if !seen.ledgers.contains_key(cluster) && !same {
                                return Err(format!(
                                    "a fresh hub changes {host} for {cluster}, which has not reported"
                                ));
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
