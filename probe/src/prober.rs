//! Asks each second, for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use policies::id::ClusterId;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{Answer, EVERY, LIMIT, Target, Tls, ask};

/// Answers that wait for the owner. One that does not read for so long loses probes, which is silence, as it should be.
const ANSWERS_MAX: usize = 1024;

/// A probe each second for each of a set of clusters. Dropped, it stops.
pub struct Prober {
    tls: Tls,
    source: Option<IpAddr>,
    answers: mpsc::Sender<(ClusterId, Answer)>,
    watched: BTreeMap<ClusterId, Watched>,
}

struct Watched {
    target: Target,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// Asks nobody yet, and then from `source` as [`ask`] does. What it finds comes out of the channel.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn new(source: Option<IpAddr>) -> Result<(Self, mpsc::Receiver<(ClusterId, Answer)>), rustls::Error> {
        let (answers, found) = mpsc::channel(ANSWERS_MAX);
        Ok((Self { tls: Tls::new()?, source, answers, watched: BTreeMap::new() }, found))
    }

    /// Asks these from now on, on the current tokio runtime. One whose target stays the same is not disturbed.
    pub fn watch(&mut self, targets: BTreeMap<ClusterId, Target>) {
        self.watched.retain(|cluster, watched| targets.get(cluster) == Some(&watched.target));
        let source = self.source;
        for (cluster, target) in targets {
            self.watched.entry(cluster).or_insert_with_key(|cluster| {
                let asking =
                    keep_asking(cluster.clone(), target.clone(), self.tls.clone(), source, self.answers.clone());
                Watched { target, task: tokio::spawn(asking).abort_handle() }
            });
        }
    }
}

/// A probe does not wait for the one before: a target that is slow for a moment is asked all the same.
async fn keep_asking(
    cluster: ClusterId,
    target: Target,
    tls: Tls,
    source: Option<IpAddr>,
    answers: mpsc::Sender<(ClusterId, Answer)>,
) {
    // Nodes that got one snapshot must not ask in step.
    let phase = Duration::from_nanos(rand::random_range(0..u64::try_from(EVERY.as_nanos()).unwrap_or(1)));
    let mut due = tokio::time::interval_at(Instant::now() + phase, EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = JoinSet::new();
    loop {
        tokio::select! {
            _ = due.tick() => {
                let (target, tls) = (target.clone(), tls.clone());
                asked.spawn(async move { ask(&target, &tls, source, LIMIT).await });
            }
            Some(answer) = asked.join_next() => match answer {
                Ok(answer) => {
                    tracing::debug!(%cluster, outcome = ?answer.outcome, words = answer.words, "probed");
                    if let Err(mpsc::error::TrySendError::Closed(_)) = answers.try_send((cluster.clone(), answer)) {
                        return;
                    }
                }
                Err(error) => tracing::error!(%cluster, %error, "a probe failed"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use policies::failover::traffic::Probe;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn it_goes_on_asking_what_it_is_told_to_watch() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((here, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                });
            }
        });
        let target = Target { addresses: vec![here], ports: vec![(port, false)], ..Target::default() };
        let (mut prober, mut found) = Prober::new(None).unwrap();
        prober.watch(BTreeMap::from([(ClusterId::new("fra"), target.clone())]));
        for _ in 0..2 {
            let (cluster, answer) = found.recv().await.unwrap();
            assert_eq!((cluster.as_str(), answer.outcome), ("fra", Probe::Success), "{}", answer.words);
        }
        // What is no longer named is no longer asked.
        prober.watch(BTreeMap::from([(ClusterId::new("iad"), target)]));
        loop {
            let (cluster, _) = found.recv().await.unwrap();
            if cluster.as_str() == "iad" {
                break;
            }
        }
        drop(prober);
        while found.recv().await.is_some() {}
    }
}
