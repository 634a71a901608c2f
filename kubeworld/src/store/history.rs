//! The last changes of a table, for those who watch it.
//!
//! It has a lock of its own, which is held for moments only: many watches read here while others write, and need not
//! wait until a request is done. What many tell alike, one of them writes for all: the last that was told is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::Object;
use crate::registry::Resource;

/// How many changes of a table are kept at least for watches that fall behind, however old they are: as many as the watch
/// cache of kube-apiserver holds at least.
const CHANGES_MIN: usize = 100;

/// How long changes are kept (the default interval of etcd's compaction by kube-apiserver).
const CHANGES_FOR: SignedDuration = SignedDuration::from_mins(5);

/// What was told is kept for others up to so many bytes: some milliseconds of many writes. What is longer was behind, and
/// alone with that.
const SHARED_MAX: usize = 256 * 1024;

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(super) time: Timestamp,
    /// The object after it; for a deletion as it was last, with the revision of its deletion.
    pub(crate) object: Arc<Object>,
    pub(crate) previous: Option<Arc<Object>>,
    pub(crate) deleted: bool,
}

/// Watches that tell the same of every change: whole objects in JSON, of one namespace or all.
#[derive(Clone, Debug)]
pub(crate) struct Audience {
    /// In which version, and how that differs from what is stored. A changed definition makes another one, and watches from
    /// before it go by the old.
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: String,
}

impl Audience {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.resource, &other.resource) && self.namespace == other.namespace
    }
}

/// What happened after a revision.
pub(crate) enum After {
    /// That is forgotten.
    Gone,
    /// These, in order.
    Changes(Vec<Change>),
    /// What somebody else of the same audience told of it, which ends with this revision.
    Told(u64, Bytes),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct History {
    kept: Mutex<Kept>,
    /// The revision of the last change.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    changes: VecDeque<Change>,
    /// Changes up to this revision may be gone.
    compacted: u64,
    told: Option<Told>,
}

/// What was told of some changes, from the first to the last revision.
#[derive(Debug)]
struct Told {
    to: Audience,
    first: u64,
    last: u64,
    lines: Bytes,
}

impl History {
    /// Without changes; those up to this revision are gone.
    pub(super) fn new(compacted: u64) -> Self {
        let kept = Kept { changes: VecDeque::new(), compacted, told: None };
        Self { kept: Mutex::new(kept), changed: watch::Sender::new(0) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whole after each step, whoever panicked.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that learns of each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn record(&self, change: Change) {
        let (revision, now) = (change.revision, change.time);
        let mut kept = self.kept();
        kept.changes.push_back(change);
        let mut forgotten = Vec::new();
        while kept.changes.len() > CHANGES_MIN
            && kept.changes.front().is_some_and(|oldest| now.duration_since(oldest.time) > CHANGES_FOR)
        {
            forgotten.extend(kept.changes.pop_front());
        }
        let told = forgotten.last().and_then(|last| {
            kept.compacted = last.revision;
            kept.told.take_if(|told| told.first <= last.revision)
        });
        drop(kept);
        // Freed without the lock.
        drop((forgotten, told));
        self.changed.send_replace(revision);
    }

    /// Forgets all changes, which were up to this revision.
    pub(super) fn compact(&self, revision: u64) {
        *self.kept() = Kept { changes: VecDeque::new(), compacted: revision, told: None };
    }

    /// What happened after a revision; or what was told of it to this audience, where somebody was.
    pub(crate) fn after(&self, revision: u64, audience: Option<&Audience>) -> After {
        let kept = self.kept();
        if revision < kept.compacted {
            return After::Gone;
        }
        let from = kept.changes.partition_point(|change| change.revision <= revision);
        if let (Some(audience), Some(told)) = (audience, &kept.told)
            && kept.changes.get(from).is_some_and(|first| first.revision == told.first)
            && kept.changes.back().is_some_and(|last| last.revision == told.last)
            && told.to.is(audience)
        {
            return After::Told(told.last, told.lines.clone());
        }
        After::Changes(kept.changes.range(from..).cloned().collect())
    }

    /// Keeps what was told of these changes, for others of the audience, unless it is long.
    pub(crate) fn tell(&self, to: &Audience, changes: &[Change], lines: &Bytes) {
        if lines.len() > SHARED_MAX {
            return;
        }
        if let [first, .., last] | [first @ last] = changes {
            let told = Told { to: to.clone(), first: first.revision, last: last.revision, lines: lines.clone() };
            let before = self.kept().told.replace(told);
            // Freed without the lock.
            drop(before);
        }
    }
}

#[cfg(test)]
mod tests;
