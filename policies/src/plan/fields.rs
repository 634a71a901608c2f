//! Which fields of our own objects are left to others, and when a field counts as contested.
//!
//! Drift is forced back, with four exceptions: what an autoscaler sets, what the App says to ignore, what a manager sets
//! that the App says to ignore, and a field that somebody takes again and again. Two programs that fight over a field
//! harm the workload more than either value; a person must settle it.
//!
//! Fields are RFC 6901 pointers into the object as rendered. How they are found in managed fields is the agent's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use super::{GroupKind, ObjectId};
use crate::time::Instant;

/// A field taken back so often …
pub const TAKEN_BACK: usize = 5;
/// … within so long is contested (DESIGN §7). A person's `kubectl edit` is taken back once, a controller's loop at once
/// again; five times in ten minutes is a loop even after our own waits have grown.
pub const WITHIN: Duration = Duration::from_secs(10 * 60);
/// A contested field is left for so long after it was taken last: long enough to end the fight, short enough that a
/// settled one is as declared within the hour.
pub const LEFT: Duration = Duration::from_secs(60 * 60);

/// The field that an autoscaler sets.
pub const REPLICAS: &str = "/spec/replicas";

/// One entry of `ignoreDifferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    /// Objects of this kind.
    pub kind: GroupKind,
    /// With this name; `None`: all of them.
    pub name: Option<String>,
    /// These fields and all below them.
    pub pointers: Vec<String>,
    /// Whatever these field managers set.
    pub managers: Vec<String>,
}

impl Ignore {
    fn is_about(&self, id: &ObjectId) -> bool {
        self.kind == id.kind && self.name.as_ref().is_none_or(|name| *name == id.name)
    }
}

/// A field that we want and another manager has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// Which field.
    pub pointer: String,
    /// Who has it.
    pub manager: String,
}

/// Why a field is left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A HorizontalPodAutoscaler targets the object.
    Autoscaler,
    /// The App says so.
    Ignored,
    /// It was taken again and again, by this manager.
    Contested {
        /// Who takes it.
        manager: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Autoscaler => f.write_str("an autoscaler sets it"),
            Self::Ignored => f.write_str("the App ignores it"),
            Self::Contested { manager } => write!(f, "{manager} takes it again and again"),
        }
    }
}

/// The fields of `id` that are left, with why: `wanted` are those of the render (leaves), `taken` those of them that
/// others have now.
pub fn left(
    id: &ObjectId,
    wanted: &BTreeSet<String>,
    taken: &[Taken],
    autoscaled: &BTreeSet<ObjectId>,
    ignores: &[Ignore],
    contest: &Contest,
    now: Instant,
) -> BTreeMap<String, Why> {
    let mut left = BTreeMap::new();
    for pointer in wanted {
        if let Some(manager) = contest.contested(now, id, pointer) {
            left.insert(pointer.clone(), Why::Contested { manager: manager.to_owned() });
        }
    }
    for ignore in ignores.iter().filter(|ignore| ignore.is_about(id)) {
        let covered = wanted.iter().filter(|pointer| ignore.pointers.iter().any(|above| covers(above, pointer)));
        let theirs = taken.iter().filter(|taken| ignore.managers.contains(&taken.manager)).map(|t| &t.pointer);
        left.extend(covered.chain(theirs).map(|pointer| (pointer.clone(), Why::Ignored)));
    }
    if autoscaled.contains(id) && wanted.contains(REPLICAS) {
        left.insert(REPLICAS.to_owned(), Why::Autoscaler);
    }
    left
}

/// Whether `above` is `pointer` or holds it.
pub fn covers(above: &str, pointer: &str) -> bool {
    pointer.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who took which fields of one app's objects, and when we took them back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contest(BTreeMap<(ObjectId, String), Fight>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fight {
    /// The last [`TAKEN_BACK`] times.
    times: VecDeque<Instant>,
    manager: String,
}

impl Contest {
    /// These fields are taken back now.
    pub fn handle_taken_back<'a>(&mut self, now: Instant, id: &ObjectId, taken: impl IntoIterator<Item = &'a Taken>) {
        // What nobody fights over any more is forgotten, so that this does not grow.
        self.0.retain(|_, fight| fight.times.back().is_some_and(|last| now.since(*last) < LEFT));
        for Taken { pointer, manager } in taken {
            let fight = self.0.entry((id.clone(), pointer.clone())).or_default();
            fight.manager.clone_from(manager);
            fight.times.push_back(now);
            if fight.times.len() > TAKEN_BACK {
                fight.times.pop_front();
            }
        }
    }

    /// Who takes this field again and again.
    pub fn contested(&self, now: Instant, id: &ObjectId, pointer: &str) -> Option<&str> {
        let fight = self.0.get(&(id.clone(), pointer.to_owned()))?;
        fight.is_on(now).then_some(fight.manager.as_str())
    }

    /// All contested fields: object, field, and who takes it.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = (&ObjectId, &str, &str)> {
        let on = self.0.iter().filter(move |(_, fight)| fight.is_on(now));
        on.map(|((id, pointer), fight)| (id, pointer.as_str(), fight.manager.as_str()))
    }
}

impl Fight {
    fn is_on(&self, now: Instant) -> bool {
        let (Some(first), Some(last)) = (self.times.front(), self.times.back()) else { return false };
        self.times.len() == TAKEN_BACK && last.since(*first) <= WITHIN && now.since(*last) < LEFT
    }
}
