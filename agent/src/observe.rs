//! What the agent sees of its cluster as a whole: identity, version, nodes, and whether the API server answers.
//!
//! Nodes come by watch, so a large fleet of them costs one listing; identity and version by a small question now and
//! then, which is also the check that the API server lives. While it does not answer, the last facts stay and
//! `api_ready` is false: unknown is not zero.

use std::collections::BTreeMap;
use std::time::Duration;

use api::wire::ClusterReport;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

/// Between questions whether the API server lives. The hub's capacity clock counts in tens of seconds.
const EVERY: Duration = Duration::from_secs(5);
/// A question without an answer for this long is a no.
const ANSWER: Duration = Duration::from_secs(4);

/// Sends a report at once and whenever it changes, until the receiver is gone.
pub async fn run(client: Client, reports: mpsc::Sender<ClusterReport>) {
    let nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff();
    let mut nodes = std::pin::pin!(nodes);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut ready, mut listing) = (BTreeMap::<String, bool>::new(), BTreeMap::new());
    let (mut report, mut sent) = (ClusterReport::default(), None);
    loop {
        tokio::select! {
            _ = ticks.tick() => identify(&client, &mut report).await,
            Some(event) = nodes.next() => match event {
                Ok(watcher::Event::Init) => listing.clear(),
                Ok(watcher::Event::InitApply(node)) => drop(listing.insert(node.name_any(), is_ready(&node))),
                Ok(watcher::Event::InitDone) => ready = std::mem::take(&mut listing),
                Ok(watcher::Event::Apply(node)) => drop(ready.insert(node.name_any(), is_ready(&node))),
                Ok(watcher::Event::Delete(node)) => drop(ready.remove(&node.name_any())),
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "the watch of nodes failed"),
            },
            () = reports.closed() => return,
        }
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        report.nodes = count(ready.len());
        report.nodes_ready = count(ready.values().filter(|r| **r).count());
        // Without its identity a report is of no cluster.
        if !report.uid.is_empty() && sent.as_ref() != Some(&report) {
            if reports.send(report.clone()).await.is_err() {
                return;
            }
            sent = Some(report.clone());
        }
    }
}

async fn identify(client: &Client, report: &mut ClusterReport) {
    let ask = async {
        let uid = Api::<Namespace>::all(client.clone()).get("kube-system").await?.metadata.uid;
        let version = client.apiserver_version().await?.git_version;
        Ok::<_, kube::Error>((uid, version))
    };
    match tokio::time::timeout(ANSWER, ask).await {
        Ok(Ok((uid, version))) => {
            report.uid = uid.unwrap_or_default();
            report.kubernetes = version;
            report.api_ready = true;
        }
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "the API server does not say who it is");
            report.api_ready = false;
        }
        Err(_) => report.api_ready = false,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
