//! A cluster of the rig, to be asked.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use world::{Assets, Cluster, ClusterSpec};

/// How long controllers may take to fill in what they sum up; they need a second or two.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How long an answer must stay the same to count as settled.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

pub(super) struct Server {
    cluster: Cluster,
}

impl Server {
    /// Starts a cluster afresh in `directory`.
    pub(super) async fn start(assets: &Assets, directory: &Path) -> Result<Self> {
        eprintln!("starting a cluster in {}", directory.display());
        Ok(Self { cluster: Cluster::start(assets, ClusterSpec::new("recorded", directory)).await? })
    }

    pub(super) async fn stop(self) {
        self.cluster.stop().await;
    }

    /// What it answers to a GET, as it is.
    pub(super) async fn text(&self, url: &str, accept: &str) -> Result<String> {
        let context = || format!("ask the server for {url}");
        let request = http::Request::get(url).header(http::header::ACCEPT, accept).body(Vec::new());
        self.cluster.client().request_text(request.with_context(context)?).await.with_context(context)
    }

    pub(super) async fn json(&self, url: &str, accept: &str) -> Result<Value> {
        let text = self.text(url, accept).await?;
        serde_json::from_str(&text).with_context(|| format!("the server's answer to {url} is not JSON"))
    }

    /// The list behind `url`, once it is `complete` and has stopped to change.
    pub(super) async fn settled(&self, url: &str, complete: impl Fn(&Value) -> bool) -> Result<Value> {
        let started = Instant::now();
        let mut last = self.json(url, "application/json").await?;
        while started.elapsed() < SETTLED_WITHIN {
            tokio::time::sleep(SETTLED_AFTER).await;
            let list = self.json(url, "application/json").await?;
            if complete(&list) && list["items"] == last["items"] {
                return Ok(list);
            }
            last = list;
        }
        bail!("{url} did not settle within {SETTLED_WITHIN:?}")
    }
}
