//! Who answers for which host name: which zone it lies in, and which App owns it.

use std::collections::BTreeMap;

use crate::id::AppId;

/// A zone as host claims see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRules {
    /// Origin in lower case without the final dot.
    pub origin: String,
    /// Namespaces whose Apps may claim hosts; `*` allows all.
    pub namespaces: Vec<String>,
    /// Hosts that may be claimed: exact, or `*.sub` for everything below; empty: every name in the zone.
    pub patterns: Vec<String>,
}

/// An App that asks for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The host in lower case without the final dot.
    pub host: String,
    /// Who asks.
    pub app: AppId,
    /// When the App was created, seconds since the epoch: the older claim wins, ties by name.
    pub created_s: i64,
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The App owns the host in this zone.
    Owned {
        /// The zone's origin.
        zone: String,
    },
    /// No zone contains the host.
    NoZone,
    /// The zone does not allow the App's namespace.
    NamespaceNotAllowed {
        /// The zone's origin.
        zone: String,
    },
    /// None of the zone's patterns matches the host.
    HostNotAllowed {
        /// The zone's origin.
        zone: String,
    },
    /// Another App owns it.
    Taken {
        /// Who owns it.
        by: AppId,
    },
}

impl Outcome {
    /// The reason code, as conditions print it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Owned { .. } => "Owned",
            Self::NoZone => "NoZone",
            Self::NamespaceNotAllowed { .. } => "NamespaceNotAllowed",
            Self::HostNotAllowed { .. } => "HostNotAllowed",
            Self::Taken { .. } => "HostTaken",
        }
    }

    /// What is wrong and what to do, for people; empty when owned.
    pub fn message(&self, host: &str) -> String {
        match self {
            Self::Owned { .. } => String::new(),
            Self::NoZone => {
                format!("{host} lies in no DnsZone: create one whose origin is {host} or a parent of it")
            }
            Self::NamespaceNotAllowed { zone } => {
                format!("zone {zone} does not allow this namespace: add it to the DnsZone's allowedNamespaces")
            }
            Self::HostNotAllowed { zone } => {
                format!("no pattern of zone {zone} matches {host}: add it to the DnsZone's hostPatterns")
            }
            Self::Taken { by } => {
                format!("{host} belongs to App {by}: choose another host, or remove it from there first")
            }
        }
    }
}

/// Settles every claim. The zone of a host is the one with the longest origin that contains it; among permitted claims
/// `holder`, the one that owned the host before, keeps it (a restored App has a newer creation time than the one it
/// replaces), else the oldest wins, ties by namespace and name.
///
/// One outcome for each claim, in the order given.
pub fn settle(claims: &[Claim], zones: &[ZoneRules], holder: &BTreeMap<String, AppId>) -> Vec<Outcome> {
    let permitted: Vec<Outcome> = claims.iter().map(|claim| permit(claim, zones)).collect();
    let mut owner: BTreeMap<&str, &Claim> = BTreeMap::new();
    for (claim, outcome) in claims.iter().zip(&permitted) {
        if !matches!(outcome, Outcome::Owned { .. }) {
            continue;
        }
        let seniority = |c: &Claim| (holder.get(&c.host) != Some(&c.app), c.created_s, c.app.clone());
        let best = owner.entry(&claim.host).or_insert(claim);
        if seniority(claim) < seniority(best) {
            *best = claim;
        }
    }
    claims
        .iter()
        .zip(permitted)
        .map(|(claim, outcome)| match (owner.get(claim.host.as_str()), outcome) {
            (Some(best), Outcome::Owned { .. }) if best.app != claim.app => Outcome::Taken { by: best.app.clone() },
            (_, outcome) => outcome,
        })
        .collect()
}

fn permit(claim: &Claim, zones: &[ZoneRules]) -> Outcome {
    let Some(zone) = zone_of(&claim.host, zones, |zone| &zone.origin) else {
        return Outcome::NoZone;
    };
    let origin = zone.origin.clone();
    if !zone.namespaces.iter().any(|n| n == "*" || *n == claim.app.namespace) {
        return Outcome::NamespaceNotAllowed { zone: origin };
    }
    if !zone.patterns.is_empty() && !zone.patterns.iter().any(|pattern| pattern_matches(pattern, &claim.host)) {
        return Outcome::HostNotAllowed { zone: origin };
    }
    Outcome::Owned { zone: origin }
}

/// The zone that answers for `host`: the one with the longest origin that contains it, and of several with that origin
/// the first. `None`: no zone contains it.
pub fn zone_of<'a, Z>(host: &str, zones: &'a [Z], origin: impl Fn(&Z) -> &str) -> Option<&'a Z> {
    // The last of equals wins `max_by_key`, hence from the end.
    zones.iter().rev().filter(|zone| within(host, origin(zone))).max_by_key(|zone| origin(zone).len())
}

/// True when `host` is `origin` or lies below it.
fn within(host: &str, origin: &str) -> bool {
    host.strip_suffix(origin).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn pattern_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host != parent && within(host, parent),
        None => pattern == host,
    }
}
