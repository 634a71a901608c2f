//! When a copy that its policy no longer wants may be taken away: after its users have gone, never before.
//!
//! The order is that of a planned drain: another copy is ready, the answers stop naming this one, every DNS node serves
//! such answers, and those that resolvers hold have run out. Each step waits for evidence; only the last one waits for
//! time, and that is the time that was promised with the answers (RFC 1035 §3.2.1, TTL). So a DNS node that is silent
//! holds every withdrawal until it is back or somebody removes it: it may still be sending users there.
//!
//! A copy that is the only one stays. Whoever wants it gone deletes the app.

use std::collections::BTreeMap;
use std::fmt;

/// How far a withdrawal has come. Kept by whoever decides, over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawal {
    /// Number of the first snapshot whose answers do not name the copy; `None` while they do.
    pub snapshot: Option<u64>,
    /// When answers given before have run out, seconds since 1970; `None` until every node serves that snapshot.
    pub until_s: Option<u64>,
}

/// What is known when a withdrawal is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Now, seconds since 1970. A clock that jumps back only makes it wait longer, and never longer than a TTL.
    pub now_s: u64,
    /// A copy that stays is ready.
    pub another_ready: bool,
    /// Some answer of the newest snapshot names this copy.
    pub named: bool,
    /// The newest snapshot's number.
    pub snapshot: u64,
    /// What every DNS node that ever joined serves now, by name; zero: not known.
    pub nodes: &'a BTreeMap<String, u64>,
    /// How long resolvers may hold an answer, seconds.
    pub ttl_s: u32,
}

/// What may be done with the copy now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be taken away: no user is sent there any more.
    Remove,
    /// No copy that stays is ready.
    NoOtherCopy,
    /// Answers still name it, for nobody else can serve one of its hosts.
    StillNamed,
    /// These DNS nodes serve older answers, or have not said what they serve.
    NodesBehind(Vec<String>),
    /// Answers that were given before may still be held.
    AnswersHeld {
        /// Until then, seconds since 1970.
        until_s: u64,
    },
}

impl Verdict {
    /// The reason code, as conditions print it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Remove => "Removing",
            Self::NoOtherCopy => "NoOtherCopy",
            Self::StillNamed => "StillNamed",
            Self::NodesBehind(_) => "NodesBehind",
            Self::AnswersHeld { .. } => "AnswersHeld",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove => f.write_str("no user is sent there any more"),
            Self::NoOtherCopy => f.write_str(
                "kept until another cluster has the app ready; to remove the last copy on purpose, delete the App",
            ),
            Self::StillNamed => f.write_str("kept while no other cluster has an address for one of its hosts"),
            Self::NodesBehind(nodes) => write!(
                f,
                "kept while DNS nodes may still answer with it: {}; one that never returns is removed by `isochrone dns forget`",
                nodes.join(", ")
            ),
            Self::AnswersHeld { .. } => f.write_str("kept until the answers that resolvers hold have run out"),
        }
    }
}

/// Looks at one withdrawal: how far it is now, and what may be done.
pub fn step(before: Withdrawal, facts: &Facts<'_>) -> (Withdrawal, Verdict) {
    let none = if facts.another_ready { Verdict::StillNamed } else { Verdict::NoOtherCopy };
    if facts.named {
        return (Withdrawal::default(), none);
    }
    let snapshot = before.snapshot.unwrap_or(facts.snapshot);
    // A number above the newest is not of this hub's making: what those answers name is not known.
    let current = |serves: u64| (snapshot..=facts.snapshot).contains(&serves);
    let behind: Vec<String> =
        facts.nodes.iter().filter(|(_, serves)| !current(**serves)).map(|(name, _)| name.clone()).collect();
    if !behind.is_empty() {
        // Not to know is not to be behind: a hub that has just started goes on where the last one was.
        let known = facts.nodes.values().any(|serves| *serves != 0 && !current(*serves));
        let until_s = before.until_s.filter(|_| !known);
        let verdict = if facts.another_ready { Verdict::NodesBehind(behind) } else { none };
        return (Withdrawal { snapshot: Some(snapshot), until_s }, verdict);
    }
    // One second more: `now_s` says only which second it is.
    let latest = facts.now_s.saturating_add(u64::from(facts.ttl_s)).saturating_add(1);
    let until_s = before.until_s.unwrap_or(latest).min(latest);
    let verdict = match (facts.another_ready, facts.now_s < until_s) {
        (false, _) => Verdict::NoOtherCopy,
        (true, true) => Verdict::AnswersHeld { until_s },
        (true, false) => Verdict::Remove,
    };
    (Withdrawal { snapshot: Some(snapshot), until_s: Some(until_s) }, verdict)
}
