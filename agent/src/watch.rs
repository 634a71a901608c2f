//! Watches over delivered objects: one task for each [`WatchKey`], its events into one channel.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt};
use policies::plan::ObjectId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::members::{Event, Live, WatchKey};
use crate::names::PART_OF;

/// The running watches.
#[derive(Debug)]
pub struct Watches {
    tasks: BTreeMap<WatchKey, AbortHandle>,
    events: mpsc::Sender<(WatchKey, Event)>,
}

impl Watches {
    /// No watch yet; events go to `events`.
    pub fn new(events: mpsc::Sender<(WatchKey, Event)>) -> Self {
        Self { tasks: BTreeMap::new(), events }
    }

    /// Whether this watch runs.
    pub fn contains(&self, key: &WatchKey) -> bool {
        self.tasks.contains_key(key)
    }

    /// Starts a watch with the client of the identity that `key` names.
    pub fn start(&mut self, key: WatchKey, client: Client) {
        let task = tokio::spawn(run(key.clone(), client, self.events.clone()));
        if let Some(earlier) = self.tasks.insert(key, task.abort_handle()) {
            earlier.abort();
        }
    }

    /// Ends every watch that `needed` does not want.
    pub fn retain(&mut self, needed: impl Fn(&WatchKey) -> bool) {
        self.tasks.retain(|key, task| {
            let keep = needed(key);
            if !keep {
                task.abort();
            }
            keep
        });
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

async fn run(key: WatchKey, client: Client, events: mpsc::Sender<(WatchKey, Event)>) {
    let group = &key.kind.group;
    let resource = ApiResource {
        group: group.clone(),
        version: key.version.clone(),
        api_version: if group.is_empty() { key.version.clone() } else { format!("{group}/{}", key.version) },
        kind: key.kind.kind.clone(),
        plural: key.plural.clone(),
    };
    let api: Api<DynamicObject> = match &key.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let stream = watcher(api, watcher::Config::default().labels(PART_OF)).default_backoff();
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => Event::Init,
            Ok(watcher::Event::InitApply(object)) => named(&key, object, Event::InitApply),
            Ok(watcher::Event::InitDone) => Event::InitDone,
            Ok(watcher::Event::Apply(object)) => named(&key, object, Event::Apply),
            Ok(watcher::Event::Delete(object)) => named(&key, object, Event::Delete),
            Err(error) => {
                // The stream goes on by itself, more slowly each time; what was known stays known.
                tracing::debug!(kind = %key.kind, error = &error as &dyn std::error::Error, "a watch failed");
                continue;
            }
        };
        if events.send((key.clone(), event)).await.is_err() {
            return;
        }
    }
}

fn named(key: &WatchKey, object: DynamicObject, event: fn(ObjectId, Live) -> Event) -> Event {
    let id = ObjectId { kind: key.kind.clone(), namespace: object.namespace(), name: object.name_any() };
    // Items of a list come without kind; health and exposure go by it.
    let mut json = serde_json::to_value(&object).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        let group = &key.kind.group;
        let api_version = if group.is_empty() { key.version.clone() } else { format!("{group}/{}", key.version) };
        fields.insert("apiVersion".into(), api_version.into());
        fields.insert("kind".into(), key.kind.kind.clone().into());
    }
    event(id, Live::of(&json))
}
