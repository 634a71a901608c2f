//! What this node holds of each cluster: the traffic clock of `policies`, fed with what the node hears. Pure; the shell
//! brings the time, the probes and the messages, and keeps [`Health::kept`] on disk.
//!
//! Order of calls as of [`Traffic`]: any `handle_*`, then [`Health::poll_command`] until `None`, then
//! [`Health::poll_timeout`].
//!
//! What is kept over a restart, so that a node that comes up without a hub does not send users back to where it would not
//! have sent them before: the hub's last report (drains), and which clusters were down or suspect.

use std::collections::{BTreeMap, BTreeSet};

use api::snapshot::{Revoked, Snapshot};
use api::wire::{self, HubReport, TunnelReport};
use policies::failover::traffic::{self, Command, Evidence, NodeId, Topology, Traffic};
use policies::id::{ClusterId, RegionId};
use policies::steering::Class;
use policies::time::Instant;
use prost::Message;
use tunnel::identity::{Revocation, Role};

/// Who there is, as a snapshot says: whom to ask, whom to tell, and whose word counts for which failure domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Failure domains. Clusters without a known address are left out: nobody can ask them, and no answer names them.
    pub topology: Topology,
    /// What to ask of each of these clusters.
    pub targets: BTreeMap<ClusterId, probe::Target>,
    /// Where each DNS node is told what others found, `host:port`.
    pub peering: BTreeMap<NodeId, Vec<String>>,
    /// Certificates of DNS nodes that count for nothing.
    pub revoked: BTreeSet<Revocation>,
}

impl Fleet {
    /// Reads it from a snapshot. An address or port that is none is left out.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut fleet = Self::default();
        for cluster in &snapshot.clusters {
            let Some(target) = cluster.probe.as_ref().and_then(target) else { continue };
            let id = ClusterId::new(&cluster.name);
            fleet.topology.clusters.insert(id.clone(), RegionId::new(&cluster.region));
            fleet.targets.insert(id, target);
        }
        for node in &snapshot.nodes {
            fleet.topology.nodes.insert(node.name.clone(), RegionId::new(&node.region));
            fleet.peering.insert(node.name.clone(), node.peering.clone());
        }
        let void = |who: &Revoked| Revocation { role: Role::Dns, name: who.node.clone(), until_s: who.until_s };
        fleet.revoked = snapshot.revoked.iter().map(void).collect();
        fleet.topology.hub = (!snapshot.hub_region.is_empty()).then(|| RegionId::new(&snapshot.hub_region));
        fleet
    }
}

fn target(probe: &api::snapshot::Probe) -> Option<probe::Target> {
    let target = probe::Target {
        addresses: probe.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        ports: probe.ports.iter().filter_map(|port| Some((u16::try_from(port.port).ok()?, port.tls))).collect(),
        path: probe.path.clone(),
        host: probe.host.clone(),
    };
    (!target.addresses.is_empty() && !target.ports.is_empty()).then_some(target)
}

/// What a node keeps over a restart.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    /// The hub's last report.
    #[prost(message, optional, tag = "1")]
    pub report: Option<HubReport>,
    /// Clusters that were suspect.
    #[prost(string, repeated, tag = "2")]
    pub suspect: Vec<String>,
    /// Clusters that were down.
    #[prost(string, repeated, tag = "3")]
    pub down: Vec<String>,
}

/// Judges clusters for one node.
#[derive(Clone, Debug)]
pub struct Health {
    traffic: Traffic,
    report: HubReport,
}

impl Health {
    /// Goes on from what was kept.
    pub fn new(now: Instant, node: &str, fleet: &Fleet, kept: Kept) -> Self {
        let mut traffic = Traffic::new(now, node.to_owned(), fleet.topology.clone());
        let named =
            |names: &[String], class| names.iter().map(|name| (ClusterId::new(name), class)).collect::<Vec<_>>();
        let judged = [named(&kept.suspect, Class::Suspect), named(&kept.down, Class::Down)].concat();
        traffic.restore(&judged.into_iter().collect());
        let mut health = Self { traffic, report: kept.report.unwrap_or_default() };
        health.tell_drained(now);
        health
    }

    /// What to keep now.
    pub fn kept(&self) -> Kept {
        let judged = self.traffic.judged();
        let of = |wanted| judged.iter().filter(|(_, class)| **class == wanted).map(|(id, _)| id.to_string()).collect();
        Kept { report: Some(self.report.clone()), suspect: of(Class::Suspect), down: of(Class::Down) }
    }

    /// Another snapshot is served.
    pub fn handle_fleet(&mut self, now: Instant, fleet: &Fleet) {
        self.traffic.handle_topology(now, fleet.topology.clone());
    }

    /// A probe of one's own ended.
    pub fn handle_probe(&mut self, now: Instant, cluster: &ClusterId, outcome: traffic::Probe) {
        self.traffic.handle_probe(now, cluster, outcome);
    }

    /// A fellow node told what it found. Who it is, its certificate has said.
    pub fn handle_findings(&mut self, now: Instant, from: &NodeId, findings: &wire::Findings) {
        let clusters = wire::found(&findings.clusters);
        self.traffic.handle_findings(now, from, &traffic::Findings { blind: findings.blind, clusters });
    }

    /// The hub told of drains; whether that is news. A report of an older leader, or older than the last, is left aside.
    pub fn handle_report(&mut self, now: Instant, report: &HubReport) -> bool {
        let news = (report.term, report.number) > (self.report.term, self.report.number);
        if news {
            self.report = report.clone();
            self.tell_drained(now);
        }
        news
    }

    /// The hub told how long agents have been silent. A leader that has been followed by another has no say.
    pub fn handle_tunnels(&mut self, now: Instant, report: &TunnelReport) {
        if report.term >= self.report.term {
            self.traffic.handle_hub(now, &wire::found(&report.tunnels));
        }
    }

    /// Highest leader term of a report that it obeyed.
    pub fn obeyed(&self) -> u64 {
        self.report.term
    }

    /// Number and content of the report that it goes by.
    pub fn report_held(&self) -> (u64, wire::Digest) {
        let content = if self.report.number == 0 { wire::Digest::new() } else { self.report.content() };
        (self.report.number, content)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.traffic.handle_timeout(now);
    }

    /// What to do, in order; poll until `None`.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.traffic.poll_command()
    }

    /// When to call [`Health::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.traffic.poll_timeout()
    }

    /// What to tell fellow nodes now.
    pub fn findings(&self) -> wire::Findings {
        let found = self.traffic.findings();
        wire::Findings { blind: found.blind, clusters: wire::findings(&found.clusters) }
    }

    /// The class of each cluster now, by name.
    pub fn classes(&self) -> BTreeMap<String, Class> {
        self.traffic.classes().into_iter().map(|(id, class)| (id.to_string(), class)).collect()
    }

    /// Why each cluster has its class.
    pub fn evidence(&self) -> BTreeMap<ClusterId, Evidence> {
        self.traffic.evidence()
    }

    fn tell_drained(&mut self, now: Instant) {
        let drained: BTreeSet<ClusterId> = self.report.drained.iter().map(ClusterId::new).collect();
        self.traffic.handle_drained(now, &drained);
    }
}

#[cfg(test)]
mod tests;
