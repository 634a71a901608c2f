//! A watch: from one revision on, what happens to the objects somebody selected.
//!
//! It holds a position in a table's changes and nothing else, so a thousand idle ones cost nothing, and one that does
//! not read delays nobody: it finds the changes when it comes, or that they are gone, which ends it with 410.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::Api;
use crate::handle::Call;
use crate::negotiate::{self, Accept, Form};
use crate::read::Selector;
use crate::registry::Resource;
use crate::status::Status;
use crate::store::Object;
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
    api: Arc<Api>,
    resource: Arc<Resource>,
    /// How each object of it begins.
    head: String,
    namespace: String,
    selector: Selector,
    accept: Accept,
    include: Include,
    /// Everything up to this revision was told.
    at: u64,
    /// Told first.
    first: Vec<Bytes>,
    bookmarks: bool,
    next_bookmark: Timestamp,
    ends: Timestamp,
    ended: bool,
    /// Whether the columns of a table were told.
    columns_told: bool,
    changed: watch::Receiver<u64>,
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
        let changed = state.store.subscribe(&call.resource.table);
        let revision = state.store.revision();
        let lasts = seconds.map_or(LASTS, SignedDuration::from_secs);
        let mut watch = Self {
            api: api.clone(),
            resource: call.resource.clone(),
            head: call.resource.head(),
            namespace: call.storage_namespace().to_owned(),
            selector,
            accept: call.accept,
            include: crate::handle::include(&call.query)?,
            at: revision,
            first: Vec::new(),
            bookmarks,
            next_bookmark: next_bookmark(call.now, call.now + lasts),
            ends: call.now + lasts,
            ended: false,
            columns_told: false,
            changed,
        };
        match start {
            Start::Silent => {}
            Start::After(after) => watch.at = after,
            Start::Now { mark_end } => {
                let objects: Vec<Arc<Object>> = state
                    .store
                    .list(&watch.resource.table, &watch.namespace)
                    .filter(|object| watch.selector.matches(object))
                    .cloned()
                    .collect();
                for object in objects {
                    let frame = watch.frame("ADDED", &object, call.now);
                    watch.first.push(frame);
                }
                if mark_end {
                    let frame = watch.bookmark(true, call.now);
                    watch.first.push(frame);
                }
            }
        }
        drop(state);
        Ok(watch)
    }

    /// What there is to tell, in order; each is a line. Empty when there is nothing yet.
    pub fn poll(&mut self, now: Timestamp) -> Vec<Bytes> {
        let mut out = std::mem::take(&mut self.first);
        if self.ended {
            return out;
        }
        let api = self.api.clone();
        let state = api.state();
        // Before the changes are read: what comes after is told next time.
        self.changed.mark_unchanged();
        let current = state.store.revision();
        let changes = state.store.changes_after(&self.resource.table, self.at);
        let changes: Option<Vec<crate::store::Change>> = changes.map(|changes| changes.cloned().collect());
        // A hundred watches at once make their frames beside each other.
        drop(state);
        match changes {
            None => {
                let status = crate::read::expired(format!("too old resource version: {} ({current})", self.at));
                out.push(self.line("ERROR", status.to_json()));
                self.ended = true;
                return out;
            }
            Some(changes) => {
                for change in changes {
                    self.at = change.revision;
                    if !self.namespace.is_empty() && change.object.namespace != self.namespace {
                        continue;
                    }
                    let is = !change.deleted && self.selector.matches(&change.object);
                    let was = change.previous.as_ref().is_some_and(|previous| self.selector.matches(previous));
                    match (was, is) {
                        (false, true) => out.push(self.frame("ADDED", &change.object, now)),
                        (true, true) => out.push(self.frame("MODIFIED", &change.object, now)),
                        (true, false) if change.deleted => out.push(self.frame("DELETED", &change.object, now)),
                        (true, false) => {
                            // It goes out of sight as it was last seen, at the revision that took it away.
                            if let Some(previous) = &change.previous {
                                let mut value = crate::convert::value(&self.resource, previous);
                                value["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                                out.push(self.frame_of("DELETED", &value, now));
                            }
                        }
                        (false, false) => {}
                    }
                }
                // What happened in other tables does not concern this one; but never back.
                self.at = self.at.max(current);
            }
        }
        if self.bookmarks && now >= self.next_bookmark {
            out.push(self.bookmark(false, now));
            self.next_bookmark = next_bookmark(now, self.ends);
        }
        if now >= self.ends {
            self.ended = true;
        }
        out
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
        // The sender lives as long as the server; without it nothing will ever change.
        if self.changed.changed().await.is_err() {
            self.ended = true;
        }
    }

    fn frame(&mut self, what: &str, object: &Object, now: Timestamp) -> Bytes {
        if self.accept == Accept::JSON && !crate::convert::differs(&self.resource, object) {
            let parts: [&[u8]; 6] =
                [b"{\"type\":\"", what.as_bytes(), b"\",\"object\":", self.head.as_bytes(), &object.rest, b"}\n"];
            return Bytes::from(parts.concat());
        }
        let value = crate::convert::value(&self.resource, object);
        self.frame_of(what, &value, now)
    }

    fn frame_of(&mut self, what: &str, value: &Value, now: Timestamp) -> Bytes {
        let shown = match self.accept.form {
            Form::Whole => value.clone(),
            Form::Metadata => negotiate::metadata_of(value),
            Form::Table => {
                // The first event has the columns, the others go by them.
                let headers = !std::mem::replace(&mut self.columns_told, true);
                self.resource.printer().object(value, self.include, self.accept.version, headers, now)
            }
        };
        self.line(what, shown)
    }

    fn bookmark(&mut self, initial: bool, now: Timestamp) -> Bytes {
        let mut value = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(),
            "metadata": {"resourceVersion": self.at.to_string()}});
        if initial {
            value["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        if self.resource.custom().is_none() {
            crate::kinds::settle(self.resource.as_kind(), &mut value);
        }
        match self.accept.form {
            Form::Table => self.frame_of("BOOKMARK", &value, now),
            Form::Metadata => self.line("BOOKMARK", negotiate::metadata_of(&value)),
            Form::Whole => self.line("BOOKMARK", value),
        }
    }

    fn line(&self, what: &str, object: Value) -> Bytes {
        Bytes::from(format!("{{\"type\":\"{what}\",\"object\":{object}}}\n"))
    }
}
