//! Statuses: what people see of what was decided. No new facts, and no time; the shell stamps the conditions.

use std::collections::BTreeMap;

use api::lower;
use api::v1alpha1::{
    AppClusterStatus, AppHostStatus, AppStatus, ClusterStatus, Condition, DnsZoneStatus, RegionPolicyStatus, Truth,
};
use api::wire::{LedgerEntry, Phase};
use policies::failover::vote;
use policies::hosts::Outcome;
use policies::id::{AppId, ClusterId, RegionId};
use policies::inventory::Inventory;
use policies::placement::{Placement, PlacementReport, Shortfall, place};
use policies::withdrawal::Verdict;

use super::choice::{AppChoice, Choice, ClusterChoice};
use super::withdrawal::Waits;
use super::{Complaint, Seen, ledger_entry, steering};

/// Clusters that an App's status names at most: more would make it grow with the fleet.
const WORST_MAX: usize = 20;

fn condition(
    kind: &str,
    status: impl Into<Truth>,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
) -> Condition {
    Condition {
        r#type: kind.to_owned(),
        status: status.into(),
        reason: reason.to_owned(),
        message: message.into(),
        last_transition_time: String::new(),
        observed_generation: generation.unwrap_or_default(),
    }
}

/// Gives each condition its transition time: that of the previous one while the status is the same, else `now`.
pub fn stamp(conditions: &mut [Condition], previous: &[Condition], now: &str) {
    for condition in conditions {
        let same = previous.iter().find(|p| p.r#type == condition.r#type && p.status == condition.status);
        condition.last_transition_time = same.map_or_else(|| now.to_owned(), |p| p.last_transition_time.clone());
    }
}

pub(super) fn clusters(seen: &Seen, choice: &Choice) -> BTreeMap<ClusterId, ClusterStatus> {
    seen.clusters
        .iter()
        .map(|(id, cluster)| {
            let generation = cluster.metadata.generation;
            let accepted = match lower::location(cluster) {
                Ok(_) => condition("Accepted", true, "Accepted", "", generation),
                Err(error) => condition("Accepted", false, "LocationUnknown", error.to_string(), generation),
            };
            let connected = if seen.connected.contains(id) {
                condition("Connected", true, "SessionOpen", "", generation)
            } else if choice.uids.contains_key(id) {
                condition(
                    "Connected",
                    false,
                    "SessionClosed",
                    "its agent has no session; what runs there keeps running",
                    generation,
                )
            } else {
                let text =
                    format!("never joined: run the line that `isochrone cluster add {id}` prints in the cluster");
                condition("Connected", false, "NeverJoined", text, generation)
            };
            let report = seen.reports.get(id);
            let apps =
                choice.apps.values().filter(|app| app.clusters.get(id).is_some_and(ClusterChoice::stays)).count();
            let old = cluster.status.clone().unwrap_or_default();
            let status = ClusterStatus {
                uid: choice.uids.get(id).cloned(),
                // A cluster that has not reported since the hub started keeps what was known.
                kubernetes: report.map_or(old.kubernetes, |r| Some(r.kubernetes.clone())),
                nodes_ready: report.map_or(old.nodes_ready, |r| Some(r.nodes_ready)),
                apps: u32::try_from(apps).unwrap_or(u32::MAX),
                conditions: vec![
                    accepted,
                    connected,
                    watched(seen, choice, &cluster.spec.region, generation),
                    healthy(seen, id, generation),
                ],
            };
            (id.clone(), status)
        })
        .collect()
}

/// What connected DNS nodes hold of a cluster. They decide it, each for itself; here it is only shown.
fn healthy(seen: &Seen, id: &ClusterId, generation: Option<i64>) -> Condition {
    let mut by_class: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, report) in &seen.nodes {
        if let Some(judged) = report.judged.iter().find(|judged| judged.cluster == id.as_str()) {
            by_class.entry(&judged.class).or_default().push(node);
        }
    }
    let said = |(class, nodes): (&&str, &Vec<&str>)| format!("{class} for {}", nodes.join(", "));
    let text = by_class.iter().map(said).collect::<Vec<_>>().join("; ");
    let worst = [("drained", "Drained"), ("down", "Down"), ("suspect", "Suspect")];
    match worst.into_iter().find(|(class, _)| by_class.contains_key(class)) {
        Some((_, reason)) => condition("Healthy", false, reason, text, generation),
        None if by_class.is_empty() => {
            let text = "no connected DNS node watches it: none is there, or no answer names its address yet";
            condition("Healthy", Truth::Unknown, "NotWatched", text, generation)
        }
        None => condition("Healthy", true, "Healthy", text, generation),
    }
}

/// Whether enough failure domains can see a cluster of `region` from outside to take it down by themselves.
fn watched(seen: &Seen, choice: &Choice, region: &str, generation: Option<i64>) -> Condition {
    let domains: Vec<RegionId> = choice.nodes.values().map(|node| RegionId::new(&node.region)).collect();
    let observers = vote::observers(&RegionId::new(region), domains.iter().chain(&seen.region));
    if observers >= vote::DOMAINS_DOWN {
        let text = format!("{observers} regions outside {region} see it");
        return condition("Watched", true, "EnoughObservers", text, generation);
    }
    let text = format!(
        "{observers} of {} regions outside {region} can see it, so it is never taken out of the answers automatically: \
         add DNS nodes in other regions with `isochrone dns add`",
        vote::DOMAINS_DOWN
    );
    condition("Watched", false, "FewObservers", text, generation)
}

pub(super) fn apps(
    seen: &Seen,
    choice: &Choice,
    complaints: &BTreeMap<AppId, Complaint>,
    placements: &BTreeMap<AppId, PlacementReport>,
    hosts: &BTreeMap<(AppId, String), Outcome>,
    waits: &Waits,
) -> BTreeMap<AppId, AppStatus> {
    seen.apps
        .iter()
        .map(|(id, app)| {
            let (nothing, nobody) = (AppChoice::default(), BTreeMap::new());
            let chosen = choice.apps.get(id).unwrap_or(&nothing);
            let waits = waits.get(id).unwrap_or(&nobody);
            let status = AppView { seen, id, chosen, waits, generation: app.metadata.generation }.status(
                complaints.get(id),
                placements.get(id),
                app.spec.hosts.iter().filter_map(|h| hosts.get_key_value(&(id.clone(), h.host.clone()))),
            );
            (id.clone(), status)
        })
        .collect()
}

struct AppView<'a> {
    seen: &'a Seen,
    id: &'a AppId,
    chosen: &'a AppChoice,
    waits: &'a BTreeMap<ClusterId, Verdict>,
    generation: Option<i64>,
}

impl AppView<'_> {
    fn status<'h>(
        &self,
        complaint: Option<&Complaint>,
        placement: Option<&PlacementReport>,
        hosts: impl Iterator<Item = (&'h (AppId, String), &'h Outcome)>,
    ) -> AppStatus {
        let placed: Vec<&ClusterId> =
            self.chosen.clusters.iter().filter(|(_, c)| c.stays()).map(|(id, _)| id).collect();
        let removing = self.chosen.clusters.len() - placed.len();
        let mut pairs: Vec<AppClusterStatus> = self.chosen.clusters.keys().map(|cluster| self.pair(cluster)).collect();
        let count = |phase: &str| pairs.iter().filter(|p| p.phase == phase).count();
        let (ready, failed) = (count("Ready"), count("Failed"));
        // One that is ready and says something (a contested field) is worth a look, after all others.
        pairs.retain(|p| p.phase != "Ready" || !p.reason.is_empty());
        pairs.sort_by_key(|p| {
            (
                ["Failed", "Unknown", "Progressing", "Removing", "Leaving", "Ready"].iter().position(|x| *x == p.phase),
                p.cluster.clone(),
            )
        });
        let total = placed.len();
        let all_ready = if ready == total && total > 0 {
            condition("Ready", true, "Ready", "", self.generation)
        } else if failed > 0 {
            let first = pairs.first().map(|p| format!("{}: {}", p.cluster, p.message)).unwrap_or_default();
            condition(
                "Ready",
                false,
                "Failed",
                format!("{failed} of {total} clusters failed; {first}"),
                self.generation,
            )
        } else {
            condition("Ready", false, "Progressing", format!("{ready} of {total} clusters are ready"), self.generation)
        };
        pairs.truncate(WORST_MAX);
        let hosts: Vec<AppHostStatus> = hosts.map(|((_, host), outcome)| self.host(host, outcome)).collect();
        let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        AppStatus {
            observed_generation: self.generation.unwrap_or_default(),
            clusters: whole(total),
            ready: whole(ready),
            failed: whole(failed),
            removing: whole(removing),
            conditions: vec![self.accepted(complaint, &hosts), self.placed(placement, total), all_ready],
            worst: pairs,
            hosts,
        }
    }

    fn accepted(&self, complaint: Option<&Complaint>, hosts: &[AppHostStatus]) -> Condition {
        let refused = hosts.iter().find(|h| h.zone.is_empty());
        match (complaint, refused) {
            (Some((reason, message)), _) => condition("Accepted", false, reason, message, self.generation),
            (None, Some(host)) => condition("Accepted", false, &host.reason, &host.message, self.generation),
            (None, None) => condition("Accepted", true, "Accepted", "", self.generation),
        }
    }

    fn placed(&self, report: Option<&PlacementReport>, total: usize) -> Condition {
        let Some(report) = report else {
            return condition("Placed", total > 0, "Unchanged", "the placement stays as it was", self.generation);
        };
        let dropped = |codes: &PlacementReport| {
            let list: Vec<String> = codes
                .candidates
                .iter()
                .filter(|(id, _)| self.chosen.clusters.get(*id).is_none_or(|c| !c.stays()))
                .take(WORST_MAX)
                .map(|(id, verdict)| format!("{id}: {}", verdict.code()))
                .collect();
            list.join(", ")
        };
        match report.shortfall.first() {
            None => condition("Placed", true, "Placed", dropped(report), self.generation),
            Some(Shortfall::NoCluster) => {
                let text = match dropped(report) {
                    none if none.is_empty() => "there is no cluster: add one with `isochrone cluster add`".to_owned(),
                    list => format!("no cluster is eligible; {list}"),
                };
                condition("Placed", false, "NoCluster", text, self.generation)
            }
            Some(Shortfall::FewRegions { have, want }) => {
                let text = format!("{have} of {want} regions; {}", dropped(report));
                condition("Placed", false, "FewRegions", text, self.generation)
            }
        }
    }

    fn pair(&self, cluster: &ClusterId) -> AppClusterStatus {
        let chosen = &self.chosen.clusters[cluster];
        let entry = self.seen.ledgers.get(cluster).and_then(|ledger| ledger_entry(ledger, self.id));
        let fresh = |e: &&LedgerEntry| chosen.removing || e.render == chosen.render;
        let (phase, reason, message) = match entry.filter(fresh) {
            _ if chosen.removing => ("Removing", "Removing", "waiting for its agent to report the removal"),
            Some(entry) => (phase_name(entry.phase()), entry.reason.as_str(), entry.message.as_str()),
            None if self.seen.ledgers.contains_key(cluster) => ("Progressing", "NotYetApplied", "sent to its agent"),
            None => ("Unknown", "NotReported", "its agent has not reported since the hub started"),
        };
        let message = match (chosen.removing, entry) {
            (true, Some(entry)) if !entry.message.is_empty() => entry.message.clone(),
            (true, _) if !self.seen.connected.contains(cluster) => {
                format!("its agent has no session; if it never returns: isochrone cluster forget {cluster}")
            }
            _ => message.to_owned(),
        };
        let (phase, reason, message) = match self.waits.get(cluster) {
            Some(wait) => ("Leaving", wait.code(), wait.to_string()),
            None => (phase, reason, message),
        };
        AppClusterStatus { cluster: cluster.to_string(), phase: phase.to_owned(), reason: reason.to_owned(), message }
    }

    fn host(&self, host: &str, outcome: &Outcome) -> AppHostStatus {
        let zone = match outcome {
            Outcome::Owned { zone } => zone.clone(),
            Outcome::NoZone
            | Outcome::NamespaceNotAllowed { .. }
            | Outcome::HostNotAllowed { .. }
            | Outcome::Taken { .. } => String::new(),
        };
        let served = self.chosen.hosts.get(host).map_or(0, |targets| targets.0.len());
        let (reason, message) = match (zone.is_empty(), &self.chosen.traffic) {
            (true, _) => (outcome.code(), outcome.message(host)),
            (false, None) => ("NoTraffic", "the policy's mode has no traffic: use activeActive".to_owned()),
            (false, Some(_)) => self.missing_addresses(host).unwrap_or_default(),
        };
        AppHostStatus {
            host: host.to_owned(),
            zone,
            clusters: u32::try_from(served).unwrap_or(u32::MAX),
            reason: reason.to_owned(),
            message,
        }
    }

    /// Why the first cluster that does not serve a host does not.
    fn missing_addresses(&self, host: &str) -> Option<(&'static str, String)> {
        let served = self.chosen.hosts.get(host);
        let (cluster, _) = self
            .chosen
            .clusters
            .iter()
            .find(|(id, c)| c.stays() && !served.is_some_and(|targets| targets.0.contains_key(*id)))?;
        let entry = self.seen.ledgers.get(cluster).and_then(|ledger| ledger_entry(ledger, self.id));
        let found = entry.and_then(|e| e.addresses.iter().find(|a| a.host == host));
        Some(match (entry, found) {
            (Some(entry), Some(found)) if entry.phase() == Phase::Ready && found.reason == "LoadBalancerHostname" => (
                "LoadBalancerHostname",
                format!(
                    "in {cluster} the load balancer has a host name and no address: write the Cluster's ingress.addresses"
                ),
            ),
            (Some(entry), _) if entry.phase() == Phase::Ready => (
                "NoAddress",
                format!(
                    "{cluster} has no Ingress or LoadBalancer Service of this app with an address: add one, or write the Cluster's ingress.addresses"
                ),
            ),
            _ => ("NotYetReady", format!("{cluster} joins the answers when the app is ready there")),
        })
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Unknown => "Unknown",
        Phase::Progressing => "Progressing",
        Phase::Ready => "Ready",
        Phase::Failed => "Failed",
        Phase::Removing | Phase::Removed => "Removing",
    }
}

pub(super) fn policies(seen: &Seen, inventory: &Inventory) -> BTreeMap<AppId, RegionPolicyStatus> {
    seen.policies
        .iter()
        .map(|(id, policy)| {
            let generation = policy.metadata.generation;
            let accepted = match lower::traffic(policy.spec.traffic.as_ref()) {
                Ok(_) => condition("Accepted", true, "Accepted", "", generation),
                Err(error) => condition("Accepted", false, "Invalid", error.to_string(), generation),
            };
            let eligible = place(&lower::placement(&policy.spec), inventory, &Placement::new()).0.len();
            let apps =
                seen.apps.iter().filter(|(app, a)| app.namespace == id.namespace && a.spec.policy == id.name).count();
            let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let status = RegionPolicyStatus {
                mode: if policy.spec.everywhere.is_some() { "Everywhere" } else { "ActiveActive" }.to_owned(),
                eligible: whole(eligible),
                apps: whole(apps),
                conditions: vec![accepted],
            };
            (id.clone(), status)
        })
        .collect()
}

pub(super) fn zones(
    seen: &Seen,
    choice: &Choice,
    hosts: &BTreeMap<(AppId, String), Outcome>,
) -> BTreeMap<String, DnsZoneStatus> {
    seen.zones
        .iter()
        .map(|(name, zone)| {
            let generation = zone.metadata.generation;
            let origin = &zone.spec.origin;
            let twin = seen.zones.iter().find(|(other, z)| *other < name && z.spec.origin == *origin);
            let accepted = match (twin, steering::zone_times(zone)) {
                (Some((other, _)), _) => {
                    let text =
                        format!("DnsZone {other} has the same origin and comes first by name: delete one of them");
                    condition("Accepted", false, "OriginTaken", text, generation)
                }
                (None, Err(error)) => condition("Accepted", false, "Invalid", error.to_string(), generation),
                (None, Ok(_)) => condition("Accepted", true, "Accepted", "", generation),
            };
            let owned = hosts.values().filter(|o| matches!(o, Outcome::Owned { zone } if zone == origin)).count();
            let status = DnsZoneStatus {
                serial: choice
                    .zones
                    .get(origin)
                    .map_or(0, |z| u32::try_from(z.number & u64::from(u32::MAX)).unwrap_or(0)),
                hosts: u32::try_from(owned).unwrap_or(u32::MAX),
                conditions: vec![accepted],
            };
            (name.clone(), status)
        })
        .collect()
}
