//! What a DNS node serves: which snapshots it takes in, and what it answers.
//!
//! Admission is [`dns::snapshot::admit`], without a directory. Answers are those of `policies::steering` for one place
//! at a time: the node's own tables, which hold the same rankings for all places, take longer to compile than a whole
//! seed takes to run. `tests/answers.rs` holds them against the real ones.

use std::time::Duration;

use api::snapshot::Snapshot;
use api::wire::{self, SnapshotHead};
use dns::snapshot::{Refusal, Served, admit};
use policies::geo::Coordinates;
use policies::id::ClusterId;
use policies::steering::{Candidate, Class, Family, candidate, rank, select};

/// What is served.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    snapshot: Snapshot,
    served: Served,
    refused: String,
}

impl Serving {
    /// Takes a snapshot in; `Ok(false)`: it is the one being served.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn offer(&mut self, head: &SnapshotHead, bytes: &[u8]) -> Result<bool, Refusal> {
        let admitted = admit(&self.served, head, bytes);
        self.refused = admitted.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let Some(snapshot) = admitted? else {
            self.served.term = head.term;
            return Ok(false);
        };
        self.served = Served { term: head.term, number: head.number, digest: head.digest.clone() };
        self.snapshot = snapshot;
        Ok(true)
    }

    /// What is served; the number is zero before the first.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Its digest.
    pub const fn digest(&self) -> &wire::Digest {
        &self.served.digest
    }

    /// The highest term obeyed.
    pub const fn term(&self) -> u64 {
        self.served.term
    }

    /// Why the last offer was refused; empty when it was not.
    pub fn refused(&self) -> &str {
        &self.refused
    }

    /// The clusters for a client at `place` who asks for an A record of `host`; `None` when nothing is served.
    pub fn answer(
        &self,
        host: &str,
        place: Coordinates,
        class: impl Fn(&ClusterId) -> Class,
    ) -> Option<Vec<ClusterId>> {
        if self.snapshot.number == 0 {
            return None;
        }
        let clusters: Vec<(ClusterId, Option<Coordinates>)> = self
            .snapshot
            .clusters
            .iter()
            .map(|c| (ClusterId::new(&c.name), Coordinates::new(c.latitude, c.longitude).ok()))
            .collect();
        let mut hosts = self.snapshot.zones.iter().flat_map(|zone| &zone.hosts);
        let Some(host) = hosts.find(|known| known.name == host) else { return Some(Vec::new()) };
        let index = |cluster: u32| u16::try_from(cluster).unwrap_or(u16::MAX);
        let at = |target: &api::snapshot::Target| clusters.get(target.cluster as usize).and_then(|(_, at)| *at);
        let places: Vec<(u16, Coordinates)> =
            host.targets.iter().filter_map(|target| Some((index(target.cluster), at(target)?))).collect();
        let ranked = rank(place, &places, Duration::from_millis(host.tolerance_ms.into()));
        let stands = |cluster: u16| {
            let target = host.targets.iter().find(|target| index(target.cluster) == cluster)?;
            let ipv6 = target.addresses.iter().any(|address| address.contains(':'));
            let ipv4 = target.addresses.iter().any(|address| !address.contains(':'));
            let class = class(&clusters.get(usize::from(cluster))?.0);
            candidate(Family::Ipv4, Candidate { class, ipv4, ipv6 })
        };
        let chosen = select(&ranked, stands, host.role().into());
        Some(chosen.clusters().iter().filter_map(|c| Some(clusters.get(usize::from(*c))?.0.clone())).collect())
    }
}
