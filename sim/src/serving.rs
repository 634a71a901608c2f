//! What a DNS node serves: which snapshots it takes in, and what it answers.
//!
//! Admission follows `dns::snapshot::Store::take_in`, which cannot be had without a directory, and answers follow
//! `dns::answer`, whose tables take longer to compile than a whole seed takes to run. Both are said again here in few
//! lines, over the same `policies::steering`; `tests/real_node.rs` holds them against the real store and the real
//! answers.

use std::time::Duration;

use api::snapshot::Snapshot;
use api::wire::{self, SnapshotHead};
use policies::geo::Coordinates;
use policies::id::ClusterId;
use policies::steering::{Candidate, Class, Family, Role, candidate, rank, select};
use prost::Message as _;

/// What is served, as far as orders go.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    snapshot: Snapshot,
    digest: wire::Digest,
    /// Highest term obeyed.
    term: u64,
    refused: String,
}

impl Serving {
    /// Takes a snapshot in; `Ok(false)`: it is the one being served.
    ///
    /// # Errors
    /// Why it is refused, as the name of the refusal.
    pub fn offer(&mut self, head: &SnapshotHead, bytes: &[u8]) -> Result<bool, &'static str> {
        let result = self.take_in(head, bytes);
        self.refused = result.err().unwrap_or_default().to_owned();
        result
    }

    fn take_in(&mut self, head: &SnapshotHead, bytes: &[u8]) -> Result<bool, &'static str> {
        if head.term < self.term {
            return Err("OlderTerm");
        }
        if head.number == self.snapshot.number && head.digest == self.digest {
            self.term = head.term;
            return Ok(false);
        }
        if head.number <= self.snapshot.number {
            return Err("OlderNumber");
        }
        if wire::digest(bytes) != head.digest {
            return Err("Digest");
        }
        let snapshot = Snapshot::decode(bytes).map_err(|_| "Decode")?;
        if (snapshot.term, snapshot.number) != (head.term, head.number) {
            return Err("Head");
        }
        (self.snapshot, self.digest, self.term) = (snapshot, head.digest.clone(), head.term);
        Ok(true)
    }

    /// What is served; the number is zero before the first.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Its digest.
    pub const fn digest(&self) -> &wire::Digest {
        &self.digest
    }

    /// The highest term obeyed.
    pub const fn term(&self) -> u64 {
        self.term
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
        let role = match host.role() {
            api::snapshot::Role::Any => Role::Any,
            api::snapshot::Role::Read => Role::Read,
            api::snapshot::Role::Write => Role::Write,
        };
        let chosen = select(&ranked, stands, role);
        Some(chosen.clusters().iter().filter_map(|c| Some(clusters.get(usize::from(*c))?.0.clone())).collect())
    }
}
