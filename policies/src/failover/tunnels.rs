//! What a hub finds of clusters: how long their agents have been silent.
//!
//! Silence counts from the last sign of life of an agent that this hub has heard. One that it has not heard yet has no
//! finding: after a start the hub knows nothing of anybody. An agent that says goodbye says nothing about its cluster,
//! so its finding goes, too, until it is heard again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::vote::Finding;
use crate::id::ClusterId;
use crate::time::Instant;

/// The last sign of life of each agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels(BTreeMap<ClusterId, Instant>);

impl Tunnels {
    /// Nobody was heard yet.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// An agent of this cluster was heard last so long `ago`; less news than is known changes nothing.
    pub fn handle_heard(&mut self, now: Instant, ago: Duration, cluster: &ClusterId) {
        let at = Instant::ORIGIN + now.since(Instant::ORIGIN).saturating_sub(ago);
        let last = self.0.entry(cluster.clone()).or_insert(at);
        *last = at.max(*last);
    }

    /// Its last agent left on purpose, or was sent away.
    pub fn handle_goodbye(&mut self, cluster: &ClusterId) {
        self.0.remove(cluster);
    }

    /// What to tell DNS nodes now.
    pub fn findings(&self, now: Instant) -> BTreeMap<ClusterId, Finding> {
        let finding = |last: Instant| Finding { silent: now.since(last), positives: 0, seen: true };
        self.0.iter().map(|(id, last)| (id.clone(), finding(*last))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_word_and_a_goodbye_ends_it() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let fra = ClusterId::new("fra");
        let mut tunnels = Tunnels::new();
        assert!(tunnels.findings(at(100)).is_empty(), "nobody heard, nothing known");
        tunnels.handle_heard(at(6), Duration::from_secs(1), &fra);
        tunnels.handle_heard(at(7), Duration::from_secs(4), &fra);
        let silent = |tunnels: &Tunnels| tunnels.findings(at(11)).get(&fra).map(|finding| finding.silent);
        assert_eq!(silent(&tunnels), Some(Duration::from_secs(6)));
        tunnels.handle_goodbye(&fra);
        assert_eq!(silent(&tunnels), None);
    }
}
