//! Sees every change of what DNS nodes answer, many times a second.
//!
//! One task for each node and each place of users, since a node that is late with one answer must not delay the next
//! question to another. All times are of one clock, that of this process.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::resolver::{Answer, Resolver};

/// Between two questions: 40 a second, so that on a busy machine more than 20 are left.
const POLL_EVERY: Duration = Duration::from_millis(25);
/// An answer that comes later than this counts as none. A node answers within a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Who was asked, and for users of which place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// The DNS node, by its member's name.
    pub node: String,
    /// The place of the users, by the name of the member that is nearest.
    pub users: String,
}

/// An answer that differs from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it had arrived.
    pub at: Instant,
    /// Who said it, and for whom.
    pub view: View,
    /// What.
    pub answer: Answer,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What each says now.
    pub now: BTreeMap<View, Answer>,
    /// Every first answer and every later one that differed, in the order of arrival.
    pub changes: Vec<Change>,
    /// Answers, by view.
    pub answered: BTreeMap<View, u64>,
    /// Questions without one.
    pub unanswered: BTreeMap<View, u64>,
    /// The longest time between two answers of one view.
    pub longest_gap: Duration,
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    seen: watch::Receiver<Seen>,
    tasks: JoinSet<()>,
    started: Instant,
}

impl Watcher {
    /// Begins to ask each of `nodes` for `host`, once for the users of each place.
    ///
    /// # Errors
    /// When there is no way to a node.
    pub async fn start(
        nodes: &BTreeMap<String, SocketAddr>,
        host: &str,
        users: &BTreeMap<String, IpAddr>,
    ) -> anyhow::Result<Self> {
        let (sender, seen) = watch::channel(Seen::default());
        let mut tasks = JoinSet::new();
        for (node, server) in nodes {
            for (place, client) in users {
                let view = View { node: node.clone(), users: place.clone() };
                tasks.spawn(ask(Resolver::new(*server, host).await?, view, *client, sender.clone()));
            }
        }
        Ok(Self { seen, tasks, started: Instant::now() })
    }

    /// Waits until what was seen is as wanted, at most this long. Returns whether it is.
    pub async fn until(&mut self, bound: Duration, wanted: impl FnMut(&Seen) -> bool) -> bool {
        let waited = tokio::time::timeout(bound, self.seen.wait_for(wanted)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Goes on for this long.
    pub async fn go_on(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends, and tells what was seen and in what time.
    pub async fn finish(mut self) -> (Seen, Duration) {
        let watched = self.started.elapsed();
        self.tasks.shutdown().await;
        (self.seen.borrow().clone(), watched)
    }
}

async fn ask(mut resolver: Resolver, view: View, client: IpAddr, seen: watch::Sender<Seen>) {
    let mut ticks = tokio::time::interval(POLL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let answer = tokio::time::timeout(ANSWER_WITHIN, resolver.ask_once(client)).await;
        let at = Instant::now();
        let Ok(Ok(answer)) = answer else {
            seen.send_if_modified(|seen| {
                *seen.unanswered.entry(view.clone()).or_default() += 1;
                false
            });
            continue;
        };
        let gap = last.replace(at).map_or(Duration::ZERO, |last| at - last);
        // Only what differs wakes who waits.
        seen.send_if_modified(|seen| {
            *seen.answered.entry(view.clone()).or_default() += 1;
            seen.longest_gap = seen.longest_gap.max(gap);
            let differs = seen.now.get(&view) != Some(&answer);
            if differs {
                seen.now.insert(view.clone(), answer.clone());
                seen.changes.push(Change { at, view: view.clone(), answer });
            }
            differs
        });
    }
}
