//! A DNS node: `dns::health::Health` over its own probes, its fellows' findings and the hub's words, in the shell that
//! `dns::runtime` is. What it takes in and answers is [`Serving`]'s.

use std::collections::BTreeMap;
use std::time::Duration;

use ::api::wire::{self, HubReport, Judged, NodeReport, SnapshotHead, TunnelReport, topic};
use bytes::Bytes;
use dns::health::{Fleet, Health, Kept};
use dns::runtime::RETRY;
use policies::failover::traffic::{Command, Probe, TELL_EVERY};
use policies::geo::Coordinates;
use policies::id::ClusterId;
use policies::steering::Class;
use policies::time::Instant;
use prost::Message as _;
use tunnel::outbox::Publication;

use super::hub::read;
use super::link::{Body, Link, Party};
use super::{Event, World};
use crate::clock::Clock;
use crate::fact::Fact;
use crate::network::SiteId;
use crate::serving::Serving;

/// How long a probe waits for an answer here: until the next one. No path of this world takes longer, so what the real
/// prober waits for beyond that never comes.
const PROBE: Duration = probe::EVERY;

/// The node's process, and its disk.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) site: SiteId,
    pub(super) clock: Clock,
    /// How many faults hold it down.
    pub(super) down: u32,
    pub(super) boot: u64,
    pub(super) link: Link,
    disk: Disk,
    serving: Serving,
    fleet: Fleet,
    health: Health,
    /// As the shell hands them to the answers.
    classes: BTreeMap<ClusterId, Class>,
    /// The snapshot that is wanted, and when it was last asked for.
    wanted: Option<(SnapshotHead, Instant)>,
    /// Probes without an answer yet, by cluster.
    probes: BTreeMap<usize, u64>,
    sequence: u64,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    snapshot: Option<(SnapshotHead, Bytes)>,
    kept: Kept,
}

impl Node {
    pub(super) fn new(name: &'static str, site: SiteId, clock: Clock) -> Self {
        Self {
            name,
            site,
            clock,
            down: 0,
            boot: 0,
            link: Link::new(),
            disk: Disk::default(),
            serving: Serving::default(),
            fleet: Fleet::default(),
            health: Health::new(Instant::ORIGIN, name, &Fleet::default(), Kept::default()),
            classes: BTreeMap::new(),
            wanted: None,
            probes: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// The clusters of the answer; `None` when the node has no snapshot.
    pub(super) fn answer(&self, host: &str, place: Coordinates) -> Option<Vec<ClusterId>> {
        self.serving.answer(host, place, |cluster| self.classes.get(cluster).copied().unwrap_or_default())
    }

    fn classify(&mut self) {
        self.classes = self.health.classes().into_iter().map(|(name, class)| (ClusterId::new(name), class)).collect();
    }

    /// When the node itself believes the last cluster again; on its own clock.
    pub(super) fn well_at(&self) -> Option<Instant> {
        self.health.evidence().values().filter_map(|evidence| evidence.well_at).max()
    }
}

impl World {
    /// A node's process starts, from its disk.
    pub(super) fn node_start(&mut self, i: usize) {
        let now = self.now();
        let Node { name, site, clock, down, boot, .. } = self.nodes[i];
        let disk = std::mem::take(&mut self.nodes[i].disk);
        let mut node = Node { down, boot: boot + 1, ..Node::new(name, site, clock.restarted(now)) };
        if let Some((head, bytes)) = &disk.snapshot {
            // What an earlier process took in is taken in again.
            _ = node.serving.offer(head, bytes);
            node.fleet = Fleet::of(node.serving.snapshot());
            self.watch.tally.add("node serves from its disk");
        }
        node.health = Health::new(Instant::ORIGIN, name, &node.fleet, disk.kept.clone());
        if !disk.kept.down.is_empty() || !disk.kept.suspect.is_empty() {
            self.watch.tally.add("node remembers what was ill");
        }
        node.disk = disk;
        node.classify();
        self.nodes[i] = node;
        self.node_report(i);
        let at = now + Duration::from_millis(7 * i as u64);
        self.queue.push(at, Event::Tick(Party::Dns(i), boot + 1));
        self.queue.push(at, Event::Judge(i, boot + 1));
    }

    pub(super) fn node_stop(&mut self, i: usize) {
        self.nodes[i].link = Link::new();
    }

    pub(super) fn node_connected(&mut self, i: usize) {
        self.node_report(i);
    }

    pub(super) fn node_take(&mut self, i: usize, publication: &Publication) {
        let (now, payload) = (self.local(Party::Dns(i)), publication.payload.clone());
        match publication.topic.as_str() {
            topic::SNAPSHOT => {
                let head = read(SnapshotHead::decode(payload));
                let serving = &self.nodes[i].serving;
                if (serving.snapshot().number, serving.digest()) != (head.number, &head.digest) {
                    self.nodes[i].wanted = Some((head, now));
                    self.node_ask(i);
                }
            }
            topic::HUB_REPORT => {
                let report = read(HubReport::decode(payload));
                let node = &mut self.nodes[i];
                let held = node.health.kept().report.unwrap_or_default();
                if node.health.handle_report(now, &report) {
                    node.disk.kept = node.health.kept();
                } else if report != held {
                    self.watch.tally.add("node leaves an older report aside");
                }
            }
            topic::TUNNELS => self.nodes[i].health.handle_tunnels(now, &read(TunnelReport::decode(payload))),
            _ => {}
        }
    }

    fn node_ask(&mut self, i: usize) {
        let now = self.local(Party::Dns(i));
        let node = &mut self.nodes[i];
        if let (Some((head, asked)), Some(session)) = (&mut node.wanted, node.link.session) {
            *asked = now;
            let digest = head.digest.clone();
            self.post(Party::Dns(i), Party::Hub, session, Body::Ask(digest));
        }
    }

    pub(super) fn node_blob(&mut self, i: usize, digest: &wire::Digest, bytes: Option<Bytes>) {
        let Some((head, _)) = self.nodes[i].wanted.clone().filter(|(head, _)| head.digest == *digest) else { return };
        // Without bytes it is asked for again.
        let Some(bytes) = bytes else { return };
        self.nodes[i].wanted = None;
        self.node_offer(i, &head, &bytes);
        self.node_report(i);
    }

    fn node_offer(&mut self, i: usize, head: &SnapshotHead, bytes: &Bytes) {
        let now = self.now();
        let node = &mut self.nodes[i];
        let refused = node.serving.offer(head, bytes).err().map(|refusal| refusal.code());
        match refused {
            None => node.disk.snapshot = Some((head.clone(), bytes.clone())),
            Some("OlderTerm") => self.watch.tally.add("node refuses an older term"),
            Some(_) => self.watch.tally.add("node refuses an older snapshot"),
        }
        let serving = &self.nodes[i].serving;
        let fact = Fact::Served {
            node: self.nodes[i].name,
            offered: (head.term, head.number),
            serves: (serving.snapshot().term, serving.snapshot().number),
            refused,
        };
        self.watch.tell(now, &fact);
        let local = self.local(Party::Dns(i));
        let node = &mut self.nodes[i];
        node.fleet = Fleet::of(node.serving.snapshot());
        node.health.handle_fleet(local, &node.fleet);
        node.classify();
    }

    fn node_report(&mut self, i: usize) {
        let serving = &self.nodes[i].serving;
        let judged = self.nodes[i].classes.iter();
        let (held, report_digest) = self.nodes[i].health.report_held();
        let report = NodeReport {
            judged: judged.map(|(id, class)| Judged { cluster: id.to_string(), class: class.to_string() }).collect(),
            snapshot: serving.snapshot().number,
            digest: serving.digest().clone(),
            refused: serving.refused().to_owned(),
            term: serving.term(),
            report: held,
            report_digest,
            obeyed: self.nodes[i].health.obeyed().max(serving.term()),
            listening: Vec::new(),
            peering: vec![format!("{}:7483", self.nodes[i].name)],
        };
        self.publish(Party::Dns(i), topic::NODE, report.encode_to_vec().into());
    }

    /// A second went by: probe every cluster, tell every fellow, ask again for what did not come.
    pub(super) fn node_tick(&mut self, i: usize) {
        let (now, boot) = (self.local(Party::Dns(i)), self.nodes[i].boot);
        if self.nodes[i].wanted.as_ref().is_some_and(|(_, asked)| now.since(*asked) >= RETRY) {
            self.node_ask(i);
        }
        let targets = &self.nodes[i].fleet.targets;
        let known: Vec<usize> =
            (0..self.ids.len()).filter(|cluster| targets.contains_key(&self.ids[*cluster])).collect();
        for cluster in known {
            let node = &mut self.nodes[i];
            node.sequence += 1;
            let sequence = node.sequence;
            node.probes.insert(cluster, sequence);
            self.post(Party::Dns(i), Party::Ingress(cluster), 0, Body::Probe(sequence));
            // Just before the next one.
            let at = self.later(Party::Dns(i), PROBE - Duration::from_millis(1));
            self.queue.push(at, Event::ProbeSilent(i, boot, cluster, sequence));
        }
        self.node_tell(i);
    }

    fn node_tell(&mut self, i: usize) {
        let findings = self.nodes[i].health.findings();
        if findings.blind {
            self.watch.tally.add("node blind for a second");
        }
        let peering = &self.nodes[i].fleet.peering;
        let dialled = |fellow: &usize| peering.get(self.nodes[*fellow].name).is_some_and(|at| !at.is_empty());
        let fellows: Vec<usize> = (0..self.nodes.len()).filter(|fellow| *fellow != i).filter(dialled).collect();
        for fellow in fellows {
            self.post(Party::Dns(i), Party::Dns(fellow), 0, Body::Findings(findings.clone()));
        }
    }

    pub(super) fn node_findings(&mut self, i: usize, from: Party, findings: &wire::Findings) {
        if let Party::Dns(fellow) = from {
            let (now, name) = (self.local(Party::Dns(i)), self.nodes[fellow].name.to_owned());
            self.nodes[i].health.handle_findings(now, &name, findings);
        }
    }

    pub(super) fn node_probed(&mut self, i: usize, boot: u64, cluster: usize, sequence: u64, probe: Probe) {
        if self.boot(Party::Dns(i)) != Some(boot) || self.nodes[i].probes.get(&cluster) != Some(&sequence) {
            return;
        }
        self.nodes[i].probes.remove(&cluster);
        let now = self.local(Party::Dns(i));
        self.nodes[i].health.handle_probe(now, &self.ids[cluster], probe);
        self.watch.tally.add(match probe {
            Probe::Success => "probe answered",
            Probe::Refused => "probe refused",
            Probe::Silence => "probe silent",
        });
    }

    /// What came in since the last time is judged together.
    pub(super) fn node_judge(&mut self, i: usize, boot: u64) {
        if self.boot(Party::Dns(i)) != Some(boot) {
            return;
        }
        let (now, local) = (self.now(), self.local(Party::Dns(i)));
        self.nodes[i].health.handle_timeout(local);
        // A node that watches nobody yet looks again when it would tell.
        let due = self.nodes[i].health.poll_timeout().map_or(TELL_EVERY, |at| at.since(local));
        let at = self.later(Party::Dns(i), due);
        self.queue.push(at, Event::Judge(i, boot));
        let (mut tell, mut changed) = (false, false);
        while let Some(command) = self.nodes[i].health.poll_command() {
            match command {
                Command::Tell => tell = true,
                Command::Classify { cluster, class } => {
                    changed = true;
                    self.watch.tally.add(match class {
                        Class::Healthy => "cluster believed again",
                        Class::Suspect => "cluster suspected",
                        Class::Down => "cluster voted down",
                        Class::Drained => "cluster drained at a node",
                    });
                    self.watch.tell(now, &Fact::Classified { node: self.nodes[i].name, cluster: &cluster, class });
                }
            }
        }
        if changed {
            self.nodes[i].disk.kept = self.nodes[i].health.kept();
            self.nodes[i].classify();
            self.node_report(i);
        }
        if tell {
            self.node_tell(i);
        }
    }
}
