//! What DNS nodes are told: the snapshot (tables, never verdicts) and the hub's own report (drains).

use std::collections::{BTreeMap, BTreeSet};

use api::lower;
use api::snapshot::{self, Snapshot, Target};
use api::v1alpha1::DnsZone;
use api::wire::{self, HubReport, NodeReport, SnapshotHead};
use policies::hosts::zone_of;
use policies::id::{AppId, ClusterId};
use prost::Message as _;
use tunnel::identity::Role;

use super::choice::{AppChoice, Choice, ClusterChoice, HostAddresses, NodeChoice};
use super::{Seen, is_ready, ledger_entry};

/// Takes in which DNS nodes there are. One that has not reported since the hub started stays; one whose tokens were all
/// removed is gone, for nobody knows its failure domain.
pub(super) fn choose_nodes(seen: &Seen, choice: &mut Choice) {
    for (name, region) in &seen.node_regions {
        let reported = seen.nodes.get(name);
        if let Some(node) = choice.nodes.get_mut(name) {
            node.region = region.to_string();
            if let Some(report) = reported {
                node.peering = sorted(report.peering.clone());
            }
        } else if let Some(report) = reported {
            let node = NodeChoice { region: region.to_string(), peering: sorted(report.peering.clone()) };
            choice.nodes.insert(name.clone(), node);
        }
    }
    choice.nodes.retain(|name, _| seen.node_regions.contains_key(name));
}

/// Takes in the addresses that agents found. A cluster joins a host's answers when the app is ready there for the first
/// time; from then on its health is the DNS nodes' business, and it leaves when the app does.
pub(super) fn choose_addresses(seen: &Seen, choice: &mut Choice) {
    for (id, app) in &mut choice.apps {
        let AppChoice { clusters, hosts, .. } = app;
        for (host, HostAddresses(targets)) in hosts {
            let before = targets.clone();
            for (cluster, placed) in clusters.iter() {
                let already = targets.contains_key(cluster);
                if placed.removing {
                    targets.remove(cluster);
                } else if let Some(found) = addresses(seen, id, host, cluster, (!already).then_some(placed))
                    && (already || placed.stays())
                {
                    targets.insert(cluster.clone(), found);
                }
            }
            targets.retain(|cluster, addresses| clusters.contains_key(cluster) && !addresses.is_empty());
            // Where others serve it, users are sent away from copies that shall go, before these go.
            let stays = |cluster: &ClusterId| clusters.get(cluster).is_some_and(ClusterChoice::stays);
            if targets.keys().any(stays) {
                targets.retain(|cluster, _| stays(cluster));
            }
            // A name that had an answer keeps one, as long as the app is anywhere at all.
            if targets.is_empty() && clusters.values().any(|c| !c.removing) {
                *targets = before;
            }
        }
    }
}

/// Addresses of a host in a cluster; `None`: nothing new is known. A copy that joins must be ready.
fn addresses(
    seen: &Seen,
    id: &AppId,
    host: &str,
    cluster: &ClusterId,
    joins: Option<&ClusterChoice>,
) -> Option<Vec<String>> {
    let entry = ledger_entry(seen.ledgers.get(cluster)?, id)?;
    if joins.is_some_and(|copy| !is_ready(entry, copy)) {
        return None;
    }
    if let Some(ingress) = seen.clusters.get(cluster).and_then(|c| c.spec.ingress.as_ref()) {
        return Some(sorted(ingress.addresses.clone()));
    }
    let found = entry.addresses.iter().find(|a| a.host == host)?;
    Some(sorted(found.addresses.clone()))
}

fn sorted(mut addresses: Vec<String>) -> Vec<String> {
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The snapshot and its head, with a higher number when its content changed.
pub(super) fn snapshot(seen: &Seen, choice: &mut Choice, term: u64) -> (SnapshotHead, Vec<u8>) {
    let placed: Vec<(&ClusterId, snapshot::Cluster)> = seen
        .clusters
        .iter()
        .filter_map(|(id, cluster)| {
            let location = lower::location(cluster).ok()?;
            let placed = snapshot::Cluster {
                name: id.to_string(),
                region: cluster.spec.region.clone(),
                latitude: location.latitude,
                longitude: location.longitude,
                probe: lower::probe(cluster, ingress_addresses(choice, id)),
            };
            Some((id, placed))
        })
        .collect();
    let index: BTreeMap<&ClusterId, u32> = (0..).zip(&placed).map(|(i, (id, _))| (*id, i)).collect();
    let mut zones: Vec<&DnsZone> = seen.zones.values().collect();
    zones.sort_by(|a, b| (&a.spec.origin, &a.metadata.name).cmp(&(&b.spec.origin, &b.metadata.name)));
    zones.dedup_by(|a, b| a.spec.origin == b.spec.origin);
    let origins: Vec<&str> = zones.iter().map(|zone| zone.spec.origin.as_str()).collect();
    let zones = zones.iter().filter_map(|zone| self::zone(zone, &origins, choice, &index)).collect::<Vec<_>>();
    let mut all = Snapshot {
        term: 0,
        number: 0,
        clusters: placed.into_iter().map(|(_, cluster)| cluster).collect(),
        zones: zones.into_iter().map(|zone| numbered(zone, choice)).collect(),
        geo: seen.geo.clone(),
        nodes: choice
            .nodes
            .iter()
            .map(|(name, node)| snapshot::Node {
                name: name.clone(),
                region: node.region.clone(),
                peering: node.peering.clone(),
            })
            .collect(),
        hub_region: seen.region.as_ref().map(ToString::to_string).unwrap_or_default(),
        revoked: seen
            .revoked
            .iter()
            .filter(|who| who.role == Role::Dns && !who.is_over(seen.now_s))
            .map(|who| snapshot::Revoked { node: who.name.clone(), until_s: who.until_s })
            .collect(),
    };
    let before = choice.snapshot.number;
    all.number = choice.snapshot.touch(wire::digest(&all.encode_to_vec()));
    if all.number != before {
        choice.snapshot_term = term;
    }
    all.term = choice.snapshot_term;
    let mut bytes = all.encode_to_vec();
    // A hub that was set back may count to a number that a node already serves with other content, or may have numbered
    // what it says in a term that nodes have left behind: they would refuse it again and again.
    let named = wire::digest(&bytes);
    let refuses = |node: &NodeReport| {
        node.snapshot == all.number && node.digest != named || node.term > all.term && node.term <= term
    };
    if seen.nodes.values().any(refuses) {
        choice.snapshot.number += 1;
        choice.snapshot_term = term;
        (all.number, all.term) = (choice.snapshot.number, term);
        bytes = all.encode_to_vec();
    }
    (SnapshotHead { term: all.term, number: all.number, digest: wire::digest(&bytes) }, bytes)
}

/// Where users reach a cluster, over all hosts, sorted: what is worth probing is what answers name.
fn ingress_addresses(choice: &Choice, cluster: &ClusterId) -> BTreeSet<String> {
    let hosts = choice.apps.values().flat_map(|app| app.hosts.values());
    hosts.filter_map(|HostAddresses(targets)| targets.get(cluster)).flatten().cloned().collect()
}

/// Gives a zone its serial, a higher one when its content changed (RFC 1035 §3.3.13).
fn numbered(mut zone: snapshot::Zone, choice: &mut Choice) -> snapshot::Zone {
    let serial = choice.zones.entry(zone.origin.clone()).or_default().touch(wire::digest(&zone.encode_to_vec()));
    if let Some(soa) = &mut zone.soa {
        // Serials live on a circle of 32 bits (RFC 1982).
        soa.serial = u32::try_from(serial & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    }
    zone
}

/// One zone, serial zero; `None` when a duration in it cannot be read (its status says which).
fn zone(
    zone: &DnsZone,
    origins: &[&str],
    choice: &Choice,
    index: &BTreeMap<&ClusterId, u32>,
) -> Option<snapshot::Zone> {
    let spec = &zone.spec;
    let origin = &spec.origin;
    let ZoneTimes { ttl_s, refresh_s, retry_s, expire_s, minimum_s } = zone_times(zone).ok()?;
    let absolute = |name: &str| match name {
        "@" => origin.clone(),
        relative => format!("{}.{origin}", relative.to_ascii_lowercase()),
    };
    let mut records: Vec<snapshot::Record> = spec
        .records
        .iter()
        .flat_map(|record| {
            let ttl = record.ttl.as_deref().and_then(|t| seconds("", t).ok()).unwrap_or(ttl_s);
            record.values.iter().map(move |value| (record, ttl, value))
        })
        .map(|(record, ttl_s, value)| snapshot::Record {
            name: absolute(&record.name),
            r#type: record.r#type.clone(),
            ttl_s,
            value: value.clone(),
        })
        .collect();
    records.sort_by(|a, b| (&a.name, &a.r#type, &a.value).cmp(&(&b.name, &b.r#type, &b.value)));
    Some(snapshot::Zone {
        origin: origin.clone(),
        soa: Some(snapshot::Soa {
            rname: spec.mailbox.clone().unwrap_or_else(|| format!("hostmaster.{origin}")),
            serial: 0,
            refresh_s,
            retry_s,
            expire_s,
            minimum_s,
        }),
        name_servers: spec
            .name_servers
            .iter()
            .map(|ns| snapshot::NameServer {
                name: ns.name.to_ascii_lowercase(),
                addresses: sorted(ns.addresses.clone()),
            })
            .collect(),
        ttl_s,
        records,
        hosts: hosts(origin, origins, choice, index),
    })
}

/// The hosts of a zone: those that no longer origin contains.
fn hosts(origin: &str, origins: &[&str], choice: &Choice, index: &BTreeMap<&ClusterId, u32>) -> Vec<snapshot::Host> {
    let belongs = |host: &str| zone_of(host, origins, |origin| *origin) == Some(&origin);
    let mut hosts: Vec<snapshot::Host> = choice
        .apps
        .iter()
        .filter_map(|(id, app)| app.traffic.map(|traffic| (id, app, traffic)))
        .flat_map(|(id, app, traffic)| {
            app.hosts.iter().map(move |(host, targets)| (id, traffic, &app.roles, host, &targets.0))
        })
        .filter(|(_, _, _, host, targets)| belongs(host) && !targets.is_empty())
        .map(|(id, traffic, roles, host, targets)| snapshot::Host {
            name: host.clone(),
            app: id.to_string(),
            ttl_s: traffic.ttl_s,
            tolerance_ms: traffic.tolerance_ms,
            targets: targets
                .iter()
                .filter_map(|(cluster, addresses)| {
                    Some(Target { cluster: *index.get(cluster)?, addresses: addresses.clone() })
                })
                .collect(),
            role: lower::role(roles.get(host).copied().unwrap_or_default()).into(),
        })
        .filter(|host| !host.targets.is_empty())
        .collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts
}

/// A zone's times, in seconds.
pub(super) struct ZoneTimes {
    ttl_s: u32,
    refresh_s: u32,
    retry_s: u32,
    expire_s: u32,
    minimum_s: u32,
}

/// Reads every duration of a zone.
pub(super) fn zone_times(zone: &DnsZone) -> Result<ZoneTimes, lower::LowerError> {
    let spec = &zone.spec;
    for (i, record) in spec.records.iter().enumerate() {
        if let Some(ttl) = &record.ttl {
            seconds(&format!("spec.records[{i}].ttl"), ttl)?;
        }
    }
    Ok(ZoneTimes {
        ttl_s: seconds("spec.ttl", &spec.ttl)?,
        refresh_s: seconds("spec.soa.refresh", &spec.soa.refresh)?,
        retry_s: seconds("spec.soa.retry", &spec.soa.retry)?,
        expire_s: seconds("spec.soa.expire", &spec.soa.expire)?,
        minimum_s: seconds("spec.soa.minimum", &spec.soa.minimum)?,
    })
}

fn seconds(field: &str, text: &str) -> Result<u32, lower::LowerError> {
    // TTLs have 31 bits (RFC 2181 §8).
    lower::duration(field, text).map(|d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs()))
}

/// What the hub contributes to verdicts: drains.
pub(super) fn report(seen: &Seen, choice: &mut Choice, term: u64) -> HubReport {
    let drained = seen.clusters.iter().filter(|(_, c)| c.spec.drain).map(|(id, _)| id.to_string()).collect();
    let report = HubReport { term, number: 0, drained };
    // A hub that was set back may have a term that others had before it, and counts on from an older number: a node goes
    // by the highest that it has heard, and by the first of two with one number.
    let last = &mut choice.report;
    let goes_by_another = |node: &NodeReport| {
        node.report > last.number || node.report > 0 && node.report == last.number && node.report_digest != last.digest
    };
    if seen.nodes.values().any(goes_by_another) {
        last.number = seen.nodes.values().map(|node| node.report).fold(last.number, u64::max);
        last.digest.clear();
    }
    let number = choice.report.touch(report.content());
    HubReport { number, ..report }
}
