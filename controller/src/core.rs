//! The hub's sync heart: everything it has seen and chosen goes in, everything it must do comes out.
//!
//! [`decide`] is level-triggered and total: it looks at the whole state each time and says what the whole state of
//! affairs shall be, so a lost event costs nothing and a restarted hub decides what the old one did. No async, no kube
//! client, no clock. Its promises:
//!
//! * Nothing is taken away because something is *absent*: an App, policy, Cluster or report that is not there leaves
//!   what was chosen as it was. Removal needs an App with a deletion time, or a policy that no longer wants the cluster.
//! * What is new in [`Choice`] must be persisted before any other part of the [`Decision`] is acted on.
//! * A host that had a target keeps one.

pub mod choice;
mod render;
pub mod status;
mod steering;
mod withdrawal;

use std::collections::{BTreeMap, BTreeSet};

use api::lower;
use api::v1alpha1::{
    App, AppStatus, Cluster, ClusterStatus, DnsZone, DnsZoneStatus, Prune, RegionPolicy, RegionPolicyStatus, Replicas,
};
use api::wire::{self, ClusterReport, Desired, DesiredApp, Digest, HubReport, Ledger, NodeReport, Phase};
use policies::hosts::{Claim, Outcome, ZoneRules, settle};
use policies::id::{AppId, ClusterId, RegionId, Term};
use policies::inventory::Inventory;
use policies::placement::{Placement, PlacementReport, place};
use policies::plan;
use prost::Message as _;
use tunnel::identity::Revocation;

use choice::{AppChoice, Choice, ClusterChoice, Traffic};

/// Held on Apps so that what was delivered is removed before the App is gone.
pub const FINALIZER: &str = "isochrone.dev/delivery";

/// Largest inline source. An object may have about 1.5 MB in all (etcd's limit), and its status needs room too.
pub const INLINE_BYTES_MAX: usize = 1_000_000;

/// Everything the hub has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `Cluster` objects by name.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// `App` objects.
    pub apps: BTreeMap<AppId, App>,
    /// `RegionPolicy` objects by namespace and name.
    pub policies: BTreeMap<AppId, RegionPolicy>,
    /// `DnsZone` objects by name.
    pub zones: BTreeMap<String, DnsZone>,
    /// True while our own CRDs are being deleted: Apps then vanish without anybody having asked to remove what they
    /// delivered.
    pub crds_going: bool,
    /// What each agent reported of its apps; no entry: not yet.
    pub ledgers: BTreeMap<ClusterId, Ledger>,
    /// What each agent reported of its cluster; no entry: not yet.
    pub reports: BTreeMap<ClusterId, ClusterReport>,
    /// Clusters with a session now.
    pub connected: BTreeSet<ClusterId>,
    /// What each DNS node reported.
    pub nodes: BTreeMap<String, NodeReport>,
    /// The region of every DNS node that somebody added and nobody removed, by name.
    pub node_regions: BTreeMap<String, RegionId>,
    /// The hub's own region, where somebody said.
    pub region: Option<RegionId>,
    /// Digests of geo databases that DNS nodes shall use.
    pub geo: Vec<Digest>,
    /// Clusters that their owner told to forget, whose `Cluster` object is gone too: what was chosen for them is over.
    pub forgotten: BTreeSet<ClusterId>,
    /// Certificates that are void.
    pub revoked: BTreeSet<Revocation>,
    /// Now, seconds since 1970.
    pub now_s: u64,
}

/// Everything the hub shall do.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Somebody has obeyed a later leader than this one: write this term into the Lease, and decide again with it. What
    /// else is decided here will be refused.
    pub take_term: Option<u64>,
    /// What was chosen: persist it first.
    pub choice: Choice,
    /// Desired state of each cluster.
    pub desired: BTreeMap<ClusterId, Desired>,
    /// Renders that desired states name, by digest.
    pub renders: BTreeMap<Digest, Vec<u8>>,
    /// The snapshot's bytes; its head names them.
    pub snapshot: Vec<u8>,
    /// Names the snapshot.
    pub head: wire::SnapshotHead,
    /// What the hub tells DNS nodes beside.
    pub report: HubReport,
    /// Apps that need [`FINALIZER`].
    pub hold: Vec<AppId>,
    /// Apps whose [`FINALIZER`] may go.
    pub release: Vec<AppId>,
    /// Statuses; conditions carry no time yet ([`status::stamp`]).
    pub app_status: BTreeMap<AppId, AppStatus>,
    /// The same for clusters.
    pub cluster_status: BTreeMap<ClusterId, ClusterStatus>,
    /// The same for policies.
    pub policy_status: BTreeMap<AppId, RegionPolicyStatus>,
    /// The same for zones.
    pub zone_status: BTreeMap<String, DnsZoneStatus>,
    /// Why each app runs where it does.
    pub placements: BTreeMap<AppId, PlacementReport>,
}

/// What is wrong with an App as written, as a reason and a text.
type Complaint = (&'static str, String);

/// Decides everything anew. `previous` is what was persisted last; `term` the leader's own.
pub fn decide(seen: &Seen, previous: &Choice, term: u64) -> Decision {
    let take_term = plan::term_to_take(Term(term), obeyed(seen)).map(|term| term.0);
    let mut decision = Decision { take_term, choice: previous.clone(), ..Decision::default() };
    let choice = &mut decision.choice;
    forget_clusters(seen, choice);
    adopt_reported_numbers(seen, choice);
    for (id, report) in seen.reports.iter().filter(|(id, _)| !is_forgotten(seen, id)) {
        choice.uids.entry(id.clone()).or_insert_with(|| report.uid.clone());
    }
    let inventory: Inventory = seen
        .clusters
        .iter()
        .map(|(id, cluster)| (id.clone(), lower::cluster(cluster, choice.uids.contains_key(id))))
        .collect();

    let mut complaints: BTreeMap<AppId, Complaint> = BTreeMap::new();
    for (id, app) in &seen.apps {
        let mut after = choice.apps.get(id).cloned().unwrap_or_default();
        let deleting = app.metadata.deletion_timestamp.is_some();
        if deleting && seen.crds_going {
            decision.release.push(id.clone());
            continue;
        }
        if deleting {
            after.clusters.values_mut().for_each(|c| (c.removing, c.leaving) = (true, None));
        } else {
            match intend(id, app, seen, &inventory, &mut after, &mut decision.renders) {
                Ok(report) => _ = decision.placements.insert(id.clone(), report),
                Err(complaint) => _ = complaints.insert(id.clone(), complaint),
            }
            if !has_finalizer(app) {
                decision.hold.push(id.clone());
            }
        }
        forget_removed(id, seen, &mut after);
        if deleting && after.clusters.is_empty() {
            choice.apps.remove(id);
            decision.release.push(id.clone());
        } else {
            choice.apps.insert(id.clone(), after);
        }
    }

    steering::choose_nodes(seen, choice);
    let hosts = claim_hosts(seen, choice, &complaints);
    steering::choose_addresses(seen, choice);
    (decision.head, decision.snapshot) = steering::snapshot(seen, choice, term);
    let waits = withdrawal::advance(seen, choice);
    raise_epochs(previous, choice);
    decision.desired = desired(choice, &seen.clusters, term);
    number_desired(choice, &mut decision.desired);
    decision.report = steering::report(seen, choice, term);
    decision.cluster_status = status::clusters(seen, choice);
    decision.app_status = status::apps(seen, choice, &complaints, &decision.placements, &hosts, &waits);
    decision.policy_status = status::policies(seen, &inventory);
    decision.zone_status = status::zones(seen, choice, &hosts);
    decision
}

fn is_forgotten(seen: &Seen, id: &ClusterId) -> bool {
    seen.forgotten.contains(id) && !seen.clusters.contains_key(id)
}

/// What was chosen for forgotten clusters is over: nothing waits for them any more. Their owner said so; nobody deletes
/// anything in them.
fn forget_clusters(seen: &Seen, choice: &mut Choice) {
    for id in seen.forgotten.iter().filter(|id| is_forgotten(seen, id)) {
        choice.uids.remove(id);
        choice.desired.remove(id);
        choice.apps.values_mut().for_each(|app| _ = app.clusters.remove(id));
    }
}

/// An app whose delivery changed gets the next epoch.
fn raise_epochs(previous: &Choice, choice: &mut Choice) {
    let nothing = AppChoice::default();
    for (id, app) in &mut choice.apps {
        if app.differs_in_delivery(previous.apps.get(id).unwrap_or(&nothing)) {
            app.epoch += 1;
        }
    }
}

/// The terms of the leaders that anybody says to have obeyed.
fn obeyed(seen: &Seen) -> impl Iterator<Item = Term> {
    let agents = seen.ledgers.values().map(|ledger| ledger.term);
    let nodes = seen.nodes.values().map(|node| node.term.max(node.obeyed));
    agents.chain(nodes).map(Term)
}

/// A hub restored from an old copy must never count backwards: whoever has seen a higher number wins.
fn adopt_reported_numbers(seen: &Seen, choice: &mut Choice) {
    for (id, ledger) in seen.ledgers.iter().filter(|(id, _)| !is_forgotten(seen, id)) {
        let number = choice.desired.entry(id.clone()).or_default();
        number.number = number.number.max(ledger.number);
        for entry in &ledger.entries {
            if let Some(app) = choice.apps.get_mut(&AppId::new(&entry.namespace, &entry.name))
                && entry.epoch > app.epoch
            {
                app.epoch = entry.epoch + 1;
            }
        }
    }
    let highest = seen.nodes.values().map(|node| node.snapshot).max().unwrap_or(0);
    // A hub that was set back may know no address of a host whose clusters have not reported to it yet. Above the number
    // that nodes serve it would publish that host away; until then its snapshots are refused, and the old one answers.
    let hollow = seen.apps.values().flat_map(|app| &app.spec.hosts).any(|host| {
        !choice.apps.values().any(|app| app.hosts.get(&host.host).is_some_and(|targets| !targets.0.is_empty()))
    });
    let unheard = seen.clusters.keys().any(|id| !seen.ledgers.contains_key(id));
    if highest > choice.snapshot.number && !(hollow && unheard) {
        choice.snapshot.number = highest;
        choice.snapshot.digest.clear();
    }
}

/// What an App that is not being deleted shall come to: placement by its policy, and a render for each cluster.
fn intend(
    id: &AppId,
    app: &App,
    seen: &Seen,
    inventory: &Inventory,
    after: &mut AppChoice,
    renders: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<PlacementReport, Complaint> {
    let bytes = render::inline_bytes(app);
    if bytes > INLINE_BYTES_MAX {
        return Err((
            "SourceTooLarge",
            format!(
                "the inline source has {bytes} bytes, more than {INLINE_BYTES_MAX}: split the App, or use Git or OCI"
            ),
        ));
    }
    let current: Placement = after.clusters.iter().filter(|(_, c)| c.stays()).map(|(id, _)| id.clone()).collect();
    let policy = seen.policies.get(&AppId::new(&id.namespace, &app.spec.policy));
    let (placement, outcome) = match policy.map(|policy| (policy, lower::traffic(policy.spec.traffic.as_ref()))) {
        Some((policy, Ok(steering))) => {
            after.divided = policy.spec.active_active.as_ref().is_some_and(|m| m.replicas == Replicas::Divided);
            after.traffic = policy.spec.active_active.as_ref().map(|_| Traffic::from(steering));
            let (placement, report) = place(&lower::placement(&policy.spec), inventory, &current);
            (placement, Ok(report))
        }
        Some((_, Err(error))) => {
            (current, Err(("PolicyInvalid", format!("RegionPolicy {}: {error}", app.spec.policy))))
        }
        None => (
            current,
            Err((
                "PolicyNotFound",
                format!(
                    "there is no RegionPolicy {} in namespace {}: create it, or name another; what was delivered stays as it is",
                    app.spec.policy, id.namespace
                ),
            )),
        ),
    };
    let count = u32::try_from(placement.len()).unwrap_or(u32::MAX);
    for (cluster, entry) in &mut after.clusters {
        if placement.contains(cluster) {
            if entry.removing {
                entry.since = after.epoch + 1;
            }
            (entry.removing, entry.leaving) = (false, None);
        } else if after.traffic.is_none() {
            // A baseline serves nobody: there is no one to wait for.
            (entry.removing, entry.leaving) = (true, None);
        } else if !entry.removing {
            entry.leaving.get_or_insert_default();
        }
    }
    for (index, cluster) in (0..count).zip(&placement) {
        let divided = after.divided.then_some((count, index));
        let bytes = render::render(app, divided, app.spec.prune == Prune::Cascade).encode_to_vec();
        let digest = wire::digest(&bytes);
        after.clusters.entry(cluster.clone()).or_default().render = digest.clone();
        renders.insert(digest, bytes);
    }
    outcome
}

/// Pairs whose removal the agent has reported, at this epoch or a later one, are forgotten.
fn forget_removed(id: &AppId, seen: &Seen, after: &mut AppChoice) {
    let epoch = after.epoch;
    after.clusters.retain(|cluster, entry| {
        let reported = seen.ledgers.get(cluster).and_then(|ledger| ledger_entry(ledger, id));
        !(entry.removing && reported.is_some_and(|e| e.phase() == Phase::Removed && e.epoch >= epoch && epoch > 0))
    });
}

/// What a ledger says of one app.
pub(crate) fn ledger_entry<'a>(ledger: &'a Ledger, id: &AppId) -> Option<&'a wire::LedgerEntry> {
    ledger.entries.iter().find(|e| e.namespace == id.namespace && e.name == id.name)
}

/// Whether an agent says that the copy stands as it shall, and speaks of this one.
fn is_ready(entry: &wire::LedgerEntry, copy: &ClusterChoice) -> bool {
    entry.phase() == Phase::Ready && entry.epoch >= copy.since
}

fn has_finalizer(app: &App) -> bool {
    app.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// Settles who owns which host, and writes it into the choice. The outcome of every claim is returned for statuses.
fn claim_hosts(
    seen: &Seen,
    choice: &mut Choice,
    complaints: &BTreeMap<AppId, Complaint>,
) -> BTreeMap<(AppId, String), Outcome> {
    let holder: BTreeMap<String, AppId> =
        choice.apps.iter().flat_map(|(id, app)| app.hosts.keys().map(|host| (host.clone(), id.clone()))).collect();
    let zones: Vec<ZoneRules> = seen
        .zones
        .values()
        .map(|zone| ZoneRules {
            origin: zone.spec.origin.clone(),
            namespaces: zone.spec.allowed_namespaces.clone(),
            patterns: zone.spec.host_patterns.clone(),
        })
        .collect();
    let claims: Vec<Claim> = seen
        .apps
        .iter()
        // One that goes with its CRD keeps what it claimed.
        .filter(|(_, app)| seen.crds_going || app.metadata.deletion_timestamp.is_none())
        .filter(|(id, _)| complaints.get(id).is_none_or(|(reason, _)| *reason != "SourceTooLarge"))
        .flat_map(|(id, app)| {
            let created_s = app.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second());
            app.spec.hosts.iter().map(move |h| Claim { host: h.host.clone(), app: id.clone(), created_s })
        })
        .collect();
    let outcomes = settle(&claims, &zones, &holder);
    let mut owned: BTreeMap<AppId, BTreeSet<String>> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (claim, outcome) in claims.into_iter().zip(outcomes) {
        if matches!(outcome, Outcome::Owned { .. }) {
            owned.entry(claim.app.clone()).or_default().insert(claim.host.clone());
        }
        all.insert((claim.app, claim.host), outcome);
    }
    for (id, app) in &mut choice.apps {
        // An App that is not there (its CRD may be gone) keeps its hosts; one that is there says which it wants.
        if let Some(written) = seen.apps.get(id) {
            app.roles = written.spec.hosts.iter().map(|h| (h.host.clone(), h.role)).collect();
            let mine = owned.remove(id).unwrap_or_default();
            app.hosts.retain(|host, _| mine.contains(host));
            mine.into_iter().for_each(|host| _ = app.hosts.entry(host).or_default());
        }
    }
    all
}

/// Desired states without their numbers. A cluster whose object is gone keeps its own.
fn desired(choice: &Choice, clusters: &BTreeMap<ClusterId, Cluster>, term: u64) -> BTreeMap<ClusterId, Desired> {
    let mut all: BTreeMap<ClusterId, Desired> = clusters.keys().map(|id| (id.clone(), Desired::default())).collect();
    for (id, app) in &choice.apps {
        for (cluster, ClusterChoice { render, removing, .. }) in &app.clusters {
            all.entry(cluster.clone()).or_default().apps.push(DesiredApp {
                namespace: id.namespace.clone(),
                name: id.name.clone(),
                epoch: app.epoch,
                render: if *removing { Digest::new() } else { render.clone() },
                remove: *removing,
            });
        }
    }
    all.values_mut().for_each(|desired| desired.term = term);
    all
}

/// Gives each desired state a number, a higher one when its content changed.
fn number_desired(choice: &mut Choice, desired: &mut BTreeMap<ClusterId, Desired>) {
    for (cluster, desired) in desired {
        let content = Desired { term: 0, number: 0, apps: desired.apps.clone() };
        let digest = wire::digest(&content.encode_to_vec());
        let last = choice.desired.entry(cluster.clone()).or_default();
        if last.digest != digest {
            last.number += 1;
            last.digest = digest;
        }
        desired.number = last.number;
    }
}

#[cfg(test)]
mod tests;
