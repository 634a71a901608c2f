//! What this node holds of each cluster: the traffic clock of `policies`, fed with what the node hears.
//!
//! So far it hears the hub's report of drains, which is kept on disk, so that a restart without a hub does not send users
//! back to a cluster that its owner drained. Probes and fellow nodes' findings are not fed yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api::wire::HubReport;
use policies::failover::traffic::{Topology, Traffic};
use policies::id::{ClusterId, RegionId};
use policies::steering::Class;
use policies::time::Instant;
use prost::Message as _;

/// The file with the hub's last report.
const REPORT: &str = "hub-report";

/// Judges clusters for one node.
pub struct Health {
    file: PathBuf,
    report: HubReport,
    clusters: BTreeMap<ClusterId, RegionId>,
    traffic: Traffic,
    started: std::time::Instant,
}

impl Health {
    /// Goes on from what is kept in `dir`; a report that cannot be read counts as none, and the hub tells it anew.
    pub fn open(dir: &Path, node: &str) -> Self {
        let file = dir.join(REPORT);
        let report =
            fs::read(&file).ok().and_then(|bytes| HubReport::decode(bytes.as_slice()).ok()).unwrap_or_default();
        let traffic = Traffic::new(Instant::ORIGIN, node.to_owned(), Topology::default());
        let mut health = Self { file, report, clusters: BTreeMap::new(), traffic, started: std::time::Instant::now() };
        health.tell_hub();
        health
    }

    /// The clusters of the snapshot that is served, with their regions.
    pub fn handle_clusters<'a>(&mut self, clusters: impl Iterator<Item = (&'a str, &'a str)>) {
        self.clusters = clusters.map(|(name, region)| (ClusterId::new(name), RegionId::new(region))).collect();
        let topology = Topology { clusters: self.clusters.clone(), ..Topology::default() };
        self.traffic.handle_topology(self.now(), topology);
    }

    /// The hub reported. One of an older leader, or older than the last, is left aside.
    ///
    /// # Errors
    /// When it cannot be written down; it counts all the same.
    pub fn handle_hub(&mut self, report: &HubReport) -> io::Result<()> {
        if (report.term, report.number) < (self.report.term, self.report.number) {
            return Ok(());
        }
        self.report = report.clone();
        self.tell_hub();
        let aside = self.file.with_extension("new");
        fs::write(&aside, report.encode_to_vec())?;
        fs::rename(&aside, &self.file)
    }

    /// The class of each cluster now.
    pub fn classes(&mut self) -> BTreeMap<String, Class> {
        // Commands say what changed; here the whole is asked for.
        while self.traffic.poll_command().is_some() {}
        self.clusters.keys().map(|id| (id.to_string(), self.traffic.class(id))).collect()
    }

    fn tell_hub(&mut self) {
        let drained: BTreeSet<ClusterId> = self.report.drained.iter().map(ClusterId::new).collect();
        self.traffic.handle_hub(self.now(), &BTreeMap::new(), &drained);
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(health: &mut Health) -> Vec<(String, Class)> {
        health.handle_clusters([("fra", "eu"), ("iad", "us")].into_iter());
        health.classes().into_iter().collect()
    }

    fn report(term: u64, number: u64, drained: &[&str]) -> HubReport {
        HubReport { term, number, drained: drained.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn drains_survive_a_restart_and_older_words_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut health = Health::open(dir.path(), "ns");
        assert_eq!(classes(&mut health)[1].1, Class::Healthy);
        health.handle_hub(&report(2, 5, &["iad"])).unwrap();
        assert_eq!(classes(&mut health)[1].1, Class::Drained);
        for older in [report(1, 9, &[]), report(2, 4, &[])] {
            health.handle_hub(&older).unwrap();
        }
        let mut restarted = Health::open(dir.path(), "ns");
        assert_eq!(classes(&mut restarted)[1].1, Class::Drained);
        restarted.handle_hub(&report(3, 1, &[])).unwrap();
        assert_eq!(classes(&mut restarted)[1].1, Class::Healthy);
        fs::write(dir.path().join(REPORT), b"\xff\xff\xff").unwrap();
        assert_eq!(classes(&mut Health::open(dir.path(), "ns"))[1].1, Class::Healthy);
    }
}
