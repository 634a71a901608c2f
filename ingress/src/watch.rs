//! Watches into stores.

use std::fmt::Debug;
use std::pin::Pin;

use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// One item per change of a store, errors included; it never ends.
pub type Changes = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// A store of all objects of a kind (or of their metadata, with `PartialObjectMeta`), and the stream that keeps it
/// current and so must be polled.
///
/// A lost API server is asked again with growing pauses of at most 30 s (the watcher's default); the store keeps what
/// it had, as every Kubernetes client does.
pub fn objects<K>(api: Api<K>) -> (Store<K>, Changes)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changes = reflector::reflector(writer, watcher(api, watcher::Config::default()).default_backoff());
    (store, Box::pin(changes.map(told)))
}

/// Waits for a change, then takes all that is already there: one pass of the caller serves a burst.
pub async fn changed(changes: &mut (impl Stream<Item = ()> + Unpin)) {
    if changes.next().await.is_none() {
        // A stream of watches has no end; were there one, waiting is right: nothing will change any more.
        std::future::pending::<()>().await;
    }
    while let Some(Some(())) = changes.next().now_or_never() {}
}

fn told<T>(event: Result<T, watcher::Error>) {
    if let Err(error) = event {
        tracing::debug!(error = &error as &dyn std::error::Error, "a watch failed and is tried again");
    }
}
