//! The choice among ranked clusters by health, for one query. No allocation.

use std::fmt;

use super::Entry;

/// What one DNS node holds of one cluster, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It answers.
    #[default]
    Healthy,
    /// Silent for some observers or some seconds; it may be back in a moment.
    Suspect,
    /// Voted down.
    Down,
    /// Taken out by its owner: worse than down, since somebody said so.
    Drained,
}

impl Class {
    /// The class in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a host is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Any cluster that serves it will do.
    #[default]
    Any,
    /// Reads: as `Any`.
    Read,
    /// Writes: clients must agree on one place, so a suspect cluster is never offered beside another.
    Write,
}

/// The address family that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A records.
    Ipv4,
    /// AAAA records.
    Ipv6,
}

/// One cluster as [`candidate`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its class.
    pub class: Class,
    /// Whether it has an IPv4 address for the host.
    pub ipv4: bool,
    /// Whether it has an IPv6 address for the host.
    pub ipv6: bool,
}

/// Whether a cluster stands for election in a query of this family, and with which class.
///
/// A client that asks for IPv4 alone has no other way, so a cluster without IPv4 does not stand. For IPv6 each one
/// stands, and the answer is empty when those chosen have none: a client with both families prefers IPv6, and would
/// follow a record to a far cluster although a near one serves it over IPv4; one with IPv6 only sits behind DNS64, which
/// makes the near cluster reachable exactly because there is no AAAA record.
pub const fn candidate(family: Family, candidate: Candidate) -> Option<Class> {
    match family {
        Family::Ipv4 if !candidate.ipv4 => None,
        Family::Ipv4 | Family::Ipv6 => Some(candidate.class),
    }
}

/// How many clusters one answer may name. Clients try addresses one after the other and give up after a few, so more
/// would make answers longer and nothing more available.
pub const CAPACITY: usize = 4;

/// How long an answer may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TtlRule {
    /// The host's own TTL.
    Host,
    /// At most [`TtlRule::UNSETTLED_S`] seconds: the state behind the answer may change at any moment.
    Unsettled,
}

impl TtlRule {
    /// Seconds that an unsettled answer lives: about as long as a suspicion takes to become a verdict.
    pub const UNSETTLED_S: u32 = 5;

    /// The TTL in seconds of a host whose own is `host_s`.
    pub const fn apply(self, host_s: u32) -> u32 {
        match self {
            Self::Unsettled if host_s > Self::UNSETTLED_S => Self::UNSETTLED_S,
            Self::Host | Self::Unsettled => host_s,
        }
    }
}

/// Why an answer is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// There is no candidate; the selection is empty.
    NoCandidate,
    /// The nearest candidate is healthy.
    Nearest,
    /// Nearer candidates are down or drained.
    NearerOut,
    /// A nearer candidate is suspect.
    NearerSuspect,
    /// None is healthy: the best there is still answers.
    NoneHealthy,
}

impl Why {
    /// The reason as a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCandidate => "no cluster has an address for this question",
            Self::Nearest => "the nearest cluster is healthy",
            Self::NearerOut => "the nearest healthy cluster; nearer ones are down or drained",
            Self::NearerSuspect => "the nearest healthy cluster; a nearer one is suspect",
            Self::NoneHealthy => "no cluster is healthy; the best there is still answers",
        }
    }
}

/// The clusters of one answer, the one to use first in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    clusters: [u16; CAPACITY],
    len: u8,
    /// How long the answer may be kept.
    pub ttl: TtlRule,
    /// Why it is what it is.
    pub why: Why,
}

impl Selection {
    /// Indices of the clusters.
    pub fn clusters(&self) -> &[u16] {
        &self.clusters[..usize::from(self.len)]
    }

    fn push(&mut self, cluster: u16) {
        self.clusters[usize::from(self.len)] = cluster;
        self.len += 1;
    }
}

/// Chooses among `ranked`. `class_of` gives a cluster's class, or `None` where it does not stand for election.
///
/// The answer comes from the best class present, nearest first within it; another cluster joins only when it has the
/// same class and lies within tolerance of the chosen one, for resolvers shuffle what they are given. One exception:
/// while the nearest cluster that is neither down nor drained, the one that its clients use, is suspect, it stays beside
/// the next best, since a suspicion is wrong more often than right; not for a `Write` host. So the answer is never empty
/// while anybody stands for election, and the last one always answers.
pub fn select(ranked: &[Entry], class_of: impl Fn(u16) -> Option<Class>, role: Role) -> Selection {
    let mut selection = Selection { clusters: [0; CAPACITY], len: 0, ttl: TtlRule::Unsettled, why: Why::NoCandidate };
    let Some(Survey { chosen, best, home }) = survey(ranked, &class_of) else {
        return selection;
    };
    let suspect_home = home.filter(|(home, class)| *home < chosen && *class == Class::Suspect);
    let kept = suspect_home.filter(|_| role != Role::Write).map(|(home, _)| ranked[home].cluster);

    let room = CAPACITY - usize::from(kept.is_some());
    for entry in equals(ranked, chosen).filter(|entry| class_of(entry.cluster) == Some(best)).take(room) {
        selection.push(entry.cluster);
    }
    if let Some(cluster) = kept {
        selection.push(cluster);
    }
    let first = ranked.iter().position(|entry| class_of(entry.cluster).is_some());
    selection.why = match (best, suspect_home) {
        (Class::Healthy, None) if first == Some(chosen) => Why::Nearest,
        (Class::Healthy, None) => Why::NearerOut,
        (Class::Healthy, Some(_)) => Why::NearerSuspect,
        (Class::Suspect | Class::Down | Class::Drained, _) => Why::NoneHealthy,
    };
    if best == Class::Healthy && suspect_home.is_none() {
        selection.ttl = TtlRule::Host;
    }
    selection
}

/// What [`select`] needs to know of a ranking.
struct Survey {
    /// Position of the nearest entry of the best class.
    chosen: usize,
    /// That class.
    best: Class,
    /// The nearest entry that is neither down nor drained.
    home: Option<(usize, Class)>,
}

/// One pass; `None` when nobody stands for election.
fn survey(ranked: &[Entry], class_of: &impl Fn(u16) -> Option<Class>) -> Option<Survey> {
    let (mut best, mut home) = (None::<(usize, Class)>, None);
    for (position, entry) in ranked.iter().enumerate() {
        let Some(class) = class_of(entry.cluster) else { continue };
        if best.is_none_or(|(_, found)| class < found) {
            best = Some((position, class));
        }
        if home.is_none() && class <= Class::Suspect {
            home = Some((position, class));
        }
        if class == Class::Healthy {
            break;
        }
    }
    best.map(|(chosen, best)| Survey { chosen, best, home })
}

/// The entry at `position` and those within tolerance of it.
fn equals(ranked: &[Entry], position: usize) -> impl Iterator<Item = &Entry> {
    let end = position + 1 + usize::from(ranked[position].reach);
    ranked[position..end.min(ranked.len())].iter()
}

/// What became of one candidate, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Kept: the nearest of the best class.
    Chosen,
    /// Kept: of the same class, and within tolerance of the chosen one.
    WithinTolerance,
    /// Kept: suspect, but its clients use it.
    KeptWhileSuspect,
    /// Dropped: of the same class, but farther than the tolerance.
    BeyondTolerance,
    /// Dropped: its class is worse than the chosen one's.
    WorseClass,
    /// Dropped: the answer is full.
    AnswerFull,
    /// Dropped: it does not stand for election (no address of the family asked for).
    NoAddress,
}

impl Reason {
    /// The reason code, as `explain` prints it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Chosen => "Chosen",
            Self::WithinTolerance => "WithinTolerance",
            Self::KeptWhileSuspect => "KeptWhileSuspect",
            Self::BeyondTolerance => "BeyondTolerance",
            Self::WorseClass => "WorseClass",
            Self::AnswerFull => "AnswerFull",
            Self::NoAddress => "NoAddress",
        }
    }

    /// Whether the candidate is in the answer.
    pub const fn kept(self) -> bool {
        matches!(self, Self::Chosen | Self::WithinTolerance | Self::KeptWhileSuspect)
    }
}

/// What [`select`] did with each entry of `ranked`, in its order.
pub fn report(ranked: &[Entry], class_of: impl Fn(u16) -> Option<Class>, role: Role) -> Vec<Reason> {
    let selection = select(ranked, &class_of, role);
    let chosen = selection.clusters().first().copied();
    let position = ranked.iter().position(|entry| Some(entry.cluster) == chosen);
    let reach = position.map_or(0..0, |p| p..p + 1 + usize::from(ranked[p].reach));
    let best = chosen.and_then(&class_of);
    let reason = |(position, entry): (usize, &Entry)| {
        let in_answer = selection.clusters().contains(&entry.cluster);
        match class_of(entry.cluster) {
            None => Reason::NoAddress,
            Some(_) if Some(entry.cluster) == chosen => Reason::Chosen,
            class if in_answer && class == best => Reason::WithinTolerance,
            Some(_) if in_answer => Reason::KeptWhileSuspect,
            class if class != best => Reason::WorseClass,
            Some(_) if reach.contains(&position) => Reason::AnswerFull,
            Some(_) => Reason::BeyondTolerance,
        }
    };
    ranked.iter().enumerate().map(reason).collect()
}
