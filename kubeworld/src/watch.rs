//! A watch: from one revision on, what happens to the objects somebody selected.
//!
//! It holds a position in a table's changes and nothing else, so a thousand idle ones cost nothing, and one that does
//! not read delays nobody: it finds the changes when it comes, or that they are gone, which ends it with 410. What many
//! tell alike, one of them writes ([`crate::store::History`]).

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::Api;
use crate::handle::Call;
use crate::negotiate::{self, Accept, Form};
use crate::read::Selector;
use crate::status::Status;
use crate::store::{After, Audience, Change, History, Object};
use crate::table::Include;

/// How often a watch that wants them gets a bookmark (the real server's period).
const BOOKMARK_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// How long a watch lasts that does not say (the real server takes 30 to 60 minutes at random).
const LASTS: SignedDuration = SignedDuration::from_mins(45);

/// How long before its end a watch gets a last one (the real server's, too), so that the next begins there.
const BOOKMARK_BEFORE_END: SignedDuration = SignedDuration::from_secs(2);

fn next_bookmark(now: Timestamp, ends: Timestamp) -> Timestamp {
    let (usual, last) = (now + BOOKMARK_EVERY, ends - BOOKMARK_BEFORE_END);
    if last > now { usual.min(last) } else { usual }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With everything there is; and a bookmark behind it, if wanted.
    Now { mark_end: bool },
    /// With what comes.
    Silent,
    /// With what came after this revision.
    After(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Watch {
    audience: Audience,
    /// How each object of it begins.
    head: String,
    selector: Selector,
    accept: Accept,
    include: Include,
    /// Everything up to this revision was told.
    at: u64,
    /// Told first.
    first: Vec<u8>,
    bookmarks: bool,
    next_bookmark: Timestamp,
    ends: Timestamp,
    ended: bool,
    /// Whether the columns of a table were told.
    columns_told: bool,
    history: Arc<History>,
    changed: watch::Receiver<u64>,
    /// The revision of the last change of any table.
    revision: watch::Receiver<u64>,
}

impl Watch {
    pub(crate) fn new(
        api: &Arc<Api>,
        call: &Call<'_>,
        selector: Selector,
        start: Start,
        bookmarks: bool,
        seconds: Option<i64>,
    ) -> Result<Self, Status> {
        let mut state = api.state();
        let (history, changed) = state.store.watch(&call.resource.table);
        let lasts = seconds.map_or(LASTS, SignedDuration::from_secs);
        let mut watch = Self {
            audience: Audience { resource: call.resource.clone(), namespace: call.storage_namespace().to_owned() },
            head: call.resource.head(),
            selector,
            accept: call.accept,
            include: crate::handle::include(&call.query)?,
            at: state.store.revision(),
            first: Vec::new(),
            bookmarks,
            next_bookmark: next_bookmark(call.now, call.now + lasts),
            ends: call.now + lasts,
            ended: false,
            columns_told: false,
            history,
            changed,
            revision: state.store.subscribe_to_all(),
        };
        match start {
            Start::Silent => {}
            Start::After(after) => watch.at = after,
            Start::Now { mark_end } => {
                let objects: Vec<Arc<Object>> = state
                    .store
                    .list(&watch.audience.resource.table, &watch.audience.namespace)
                    .filter(|object| watch.selector.matches(object))
                    .cloned()
                    .collect();
                let mut first = Vec::new();
                for object in objects {
                    watch.event(&mut first, "ADDED", &object, call.now);
                }
                if mark_end {
                    watch.bookmark(&mut first, true, call.now);
                }
                watch.first = first;
            }
        }
        drop(state);
        Ok(watch)
    }

    /// What there is to tell, in order, each event a line. Empty when there is nothing yet.
    pub fn poll(&mut self, now: Timestamp) -> Bytes {
        let mut out = std::mem::take(&mut self.first);
        if self.ended {
            return out.into();
        }
        // Before the changes are read: what comes after is told next time.
        self.changed.mark_unchanged();
        let revision = *self.revision.borrow();
        let audience = self.is_plain().then_some(&self.audience);
        let told = match self.history.after(self.at, audience) {
            After::Gone => {
                let status = crate::read::expired(format!("too old resource version: {} ({revision})", self.at));
                line(&mut out, "ERROR", status.to_json());
                self.ended = true;
                return out.into();
            }
            After::Told(last, lines) => {
                self.at = last;
                lines
            }
            After::Changes(changes) => {
                let first = std::mem::take(&mut out);
                for change in &changes {
                    self.at = change.revision;
                    self.change(&mut out, change, now);
                }
                let lines = std::mem::replace(&mut out, first).into();
                if self.is_plain() {
                    self.history.tell(&self.audience, &changes, &lines);
                }
                lines
            }
        };
        // What happened in other tables does not concern this one; but never back.
        self.at = self.at.max(revision);
        let mut last = Vec::new();
        if self.bookmarks && now >= self.next_bookmark {
            self.bookmark(&mut last, false, now);
            self.next_bookmark = next_bookmark(now, self.ends);
        }
        if now >= self.ends {
            self.ended = true;
        }
        if out.is_empty() && last.is_empty() { told } else { [out.as_slice(), &told, &last].concat().into() }
    }

    /// Whether it tells what every other of its audience tells.
    fn is_plain(&self) -> bool {
        self.accept == Accept::JSON && self.selector.is_empty()
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.ended && self.first.is_empty()
    }

    /// When to poll again, even if nothing changes.
    pub fn poll_timeout(&self) -> Timestamp {
        if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends }
    }

    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        // It cannot fail: the sender is in the history, which this watch holds.
        let _ = self.changed.changed().await;
    }

    fn change(&mut self, out: &mut Vec<u8>, change: &Change, now: Timestamp) {
        let namespace = &self.audience.namespace;
        if !namespace.is_empty() && change.object.namespace != *namespace {
            return;
        }
        let is = !change.deleted && self.selector.matches(&change.object);
        let was = change.previous.as_ref().is_some_and(|previous| self.selector.matches(previous));
        match (was, is) {
            (false, true) => self.event(out, "ADDED", &change.object, now),
            (true, true) => self.event(out, "MODIFIED", &change.object, now),
            (true, false) if change.deleted => self.event(out, "DELETED", &change.object, now),
            (true, false) => {
                // It goes out of sight as it was last seen, at the revision that took it away.
                if let Some(previous) = &change.previous {
                    let mut value = crate::convert::value(&self.audience.resource, previous);
                    value["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                    self.event_of(out, "DELETED", &value, now);
                }
            }
            (false, false) => {}
        }
    }

    fn event(&mut self, out: &mut Vec<u8>, what: &str, object: &Object, now: Timestamp) {
        if self.accept == Accept::JSON && !crate::convert::differs(&self.audience.resource, object) {
            let head = self.head.as_bytes();
            for part in [b"{\"type\":\"", what.as_bytes(), b"\",\"object\":", head, &object.rest, b"}\n"] {
                out.extend_from_slice(part);
            }
            return;
        }
        let value = crate::convert::value(&self.audience.resource, object);
        self.event_of(out, what, &value, now);
    }

    fn event_of(&mut self, out: &mut Vec<u8>, what: &str, value: &Value, now: Timestamp) {
        let shown = match self.accept.form {
            Form::Whole => value.clone(),
            Form::Metadata => negotiate::metadata_of(value),
            Form::Table => {
                // The first event has the columns, the others go by them.
                let headers = !std::mem::replace(&mut self.columns_told, true);
                self.audience.resource.printer().object(value, self.include, self.accept.version, headers, now)
            }
        };
        line(out, what, shown);
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, initial: bool, now: Timestamp) {
        let mut value = json!({"kind": self.audience.resource.kind, "apiVersion": self.audience.resource.api_version(),
            "metadata": {"resourceVersion": self.at.to_string()}});
        if initial {
            value["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        if self.audience.resource.custom().is_none() {
            crate::kinds::settle(self.audience.resource.as_kind(), &mut value);
        }
        match self.accept.form {
            Form::Table => self.event_of(out, "BOOKMARK", &value, now),
            Form::Metadata => line(out, "BOOKMARK", negotiate::metadata_of(&value)),
            Form::Whole => line(out, "BOOKMARK", value),
        }
    }
}

fn line(out: &mut Vec<u8>, what: &str, object: Value) {
    out.extend_from_slice(format!("{{\"type\":\"{what}\",\"object\":{object}}}\n").as_bytes());
}
