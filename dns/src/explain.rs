//! Why a client gets the answer it gets, by the same tables and functions that answer it.
//!
//! Distances and estimates are worked out anew from the databases, since the tables keep orders only; the order shown is
//! the tables'.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use policies::failover::traffic::Evidence;
use policies::geo::{distance_km, prior_rtt};
use policies::steering::{Family, report};
use serde::Serialize;

use crate::answer::{choose, class_of};
use crate::locate::{Locate, canonical};
use crate::view::{Host, View};

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No steered host has this name.
    #[error("snapshot {snapshot} has no steered host {host}: see `isochrone status` for the hosts there are")]
    NoHost {
        /// What was asked for.
        host: String,
        /// The snapshot's number.
        snapshot: u64,
    },
}

/// Where a client is believed to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedLocation {
    /// ISO 3166-1 code, `--` where unknown.
    pub country: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The prefix that the database says it of.
    pub prefix: String,
}

/// One candidate, nearest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedCandidate {
    /// Name of the cluster.
    pub cluster: String,
    /// Its region.
    pub region: String,
    /// Kilometres from the client; left out where it is of unknown place.
    pub distance_km: Option<f64>,
    /// Estimated round trip in milliseconds; left out likewise.
    pub estimate_ms: Option<f64>,
    /// Its class on this node: healthy, suspect, down, drained.
    pub class: String,
    /// Whether its addresses are in the answer.
    pub kept: bool,
    /// Reason code.
    pub reason: String,
    /// Why it has its class; left out where no running node says, or nobody watches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
}

/// Why a node holds of a cluster what it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The vote of each failure domain outside the cluster's own: fine, open, silent or failed.
    pub votes: BTreeMap<String, String>,
    /// What the node's own last probe said.
    pub probe: String,
    /// Fewer than two domains see it from outside, so it is never taken down automatically.
    pub few_observers: bool,
}

impl Observed {
    /// From the traffic clock's evidence and the last probe's words.
    pub fn new(evidence: &Evidence, probe: String) -> Self {
        let votes = evidence.votes.iter().map(|(domain, vote)| (domain.to_string(), vote.as_str().to_owned()));
        Self { votes: votes.collect(), probe, few_observers: evidence.few_domains }
    }
}

/// Why a client gets what it gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The host.
    pub host: String,
    /// The App that owns it, `namespace/name`.
    pub app: String,
    /// The client's address.
    pub client: IpAddr,
    /// The largest prefix around it in which everybody gets the same: the ECS scope of the answer.
    pub prefix: String,
    /// Where the client is believed to be; left out where no database knows.
    pub location: Option<ExplainedLocation>,
    /// Why there is no location, or why it may differ from the one that the tables were made with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Every cluster that serves the host, nearest first.
    pub candidates: Vec<ExplainedCandidate>,
    /// The A records.
    pub ipv4: Vec<IpAddr>,
    /// The AAAA records.
    pub ipv6: Vec<IpAddr>,
    /// TTL of the answer, seconds.
    pub ttl_s: u32,
    /// Why the first one is first.
    pub why: String,
    /// Who says so.
    pub node: String,
    /// Number of the snapshot that it answers from.
    pub snapshot: u64,
}

/// Explains what `client`, asking itself or by ECS, gets for `host`; `observed` says why clusters have their classes, by
/// name.
///
/// # Errors
/// When no steered host has this name.
pub fn explain(
    view: &View,
    host: &str,
    client: IpAddr,
    observed: &BTreeMap<String, Observed>,
) -> Result<Explanation, ExplainError> {
    let tables = view.tables();
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let host = tables.host(&name).ok_or(ExplainError::NoHost { host: name, snapshot: tables.number })?;
    let client = canonical(client);
    let found = tables.steering[host.steering].find(client);
    let (location, mut note) = match tables.databases() {
        Ok(databases) => (databases.locate(client), String::new()),
        Err(error) => (None, format!("the databases cannot be read any more: {error}")),
    };
    if location.is_none() && note.is_empty() {
        note = match found.special {
            true => {
                "the address is private: a query with it as its subnet is answered by the resolver's address".into()
            }
            false => "no database knows the address: clusters are ranked by their mean distance to all people".into(),
        };
    }
    // The family that more clients use, unless the host has none of it.
    let has_ipv4 = host.targets.iter().any(|target| !target.ipv4.is_empty());
    let family = if has_ipv4 { Family::Ipv4 } else { Family::Ipv6 };
    let selection = choose(view, host, found.ranking, family);
    let reasons = report(found.ranking, |cluster| class_of(view, host, cluster, family), host.role);
    let candidates = found.ranking.iter().zip(reasons).map(|(entry, reason)| {
        let cluster = &tables.clusters()[usize::from(entry.cluster)];
        let distance = location.map(|location| distance_km(location.place.coordinates, cluster.coordinates));
        ExplainedCandidate {
            cluster: cluster.name.clone(),
            region: cluster.region.clone(),
            distance_km: distance.map(|km| km.round()),
            estimate_ms: distance.map(|km| f64::from(prior_rtt(km).as_micros() / 100) / 10.0),
            class: view.class(entry.cluster).to_string(),
            kept: reason.kept(),
            reason: reason.code().to_owned(),
            observed: observed.get(&cluster.name).cloned(),
        }
    });
    Ok(Explanation {
        candidates: candidates.collect(),
        host: host.name.clone(),
        app: host.app.clone(),
        client,
        prefix: IpNet::new(client, found.scope).map(|net| net.trunc().to_string()).unwrap_or_default(),
        location: location.map(|location| ExplainedLocation {
            country: location.place.country.to_string(),
            latitude: location.place.coordinates.latitude(),
            longitude: location.place.coordinates.longitude(),
            prefix: location.prefix.to_string(),
        }),
        note,
        ipv4: addresses(view, host, Family::Ipv4, found.ranking),
        ipv6: addresses(view, host, Family::Ipv6, found.ranking),
        ttl_s: selection.ttl.apply(host.ttl_s),
        why: selection.why.as_str().to_owned(),
        node: view.identity().as_str().to_owned(),
        snapshot: tables.number,
    })
}

fn addresses(view: &View, host: &Host, family: Family, ranking: &[policies::steering::Entry]) -> Vec<IpAddr> {
    let selection = choose(view, host, ranking, family);
    let targets = selection.clusters().iter().filter_map(|cluster| host.target(*cluster));
    match family {
        Family::Ipv4 => targets.flat_map(|target| target.ipv4.iter().map(|octets| IpAddr::from(*octets))).collect(),
        Family::Ipv6 => targets.flat_map(|target| target.ipv6.iter().map(|octets| IpAddr::from(*octets))).collect(),
    }
}
