//! What happened, as the checkers see it: deeds in clusters, answers to users, orders given and obeyed, faults. Facts are
//! told by the world itself, never by a role of itself.

use std::fmt;

use agent::core::Job;
use agent::kept::Kept;
use api::wire::Desired;
use controller::core::choice::Choice;
use controller::core::{Decision, Seen};
use policies::id::{AppId, ClusterId};
use policies::plan::ObjectId;
use policies::steering::Class;

use crate::wishes::Wishes;

/// One thing that happened.
pub enum Fact<'a> {
    /// Users wrote something, or the hub cluster's API was set back to an older copy.
    Wished {
        /// What the API holds now.
        wishes: &'a Wishes,
        /// In words.
        what: &'a str,
    },
    /// A fault began or ended, or another event of the plan took place.
    Fault {
        /// In words.
        what: &'a str,
    },
    /// From here on it is no surprise when this cluster's deliveries are late.
    Disturbed {
        /// The cluster.
        cluster: &'a ClusterId,
    },
    /// A hub began to lead.
    HubUp {
        /// Its term.
        term: u64,
        /// What it found persisted.
        kept: &'a Choice,
        /// Nobody wished anything since that was decided.
        quiet: bool,
    },
    /// The hub decided; it has not acted yet.
    Decided {
        /// What it saw.
        seen: &'a Seen,
        /// What was chosen before.
        before: &'a Choice,
        /// The decision.
        decision: &'a Decision,
        /// The same inputs decided on once more, when that was done.
        again: Option<&'a Decision>,
        /// What the API holds.
        wishes: &'a Wishes,
    },
    /// A desired state was put on a session that both ends hold to be open.
    Told {
        /// The cluster.
        cluster: &'a ClusterId,
        /// Its number.
        number: u64,
    },
    /// A desired state reached an agent.
    Reached {
        /// The cluster.
        cluster: &'a ClusterId,
        /// What it says.
        desired: &'a Desired,
        /// The reason code, when it was refused.
        refused: Option<&'static str>,
    },
    /// An agent's memory was written.
    Kept {
        /// The cluster.
        cluster: &'a ClusterId,
        /// What stands there.
        kept: &'a Kept,
    },
    /// A run began.
    Started {
        /// The cluster.
        cluster: &'a ClusterId,
        /// The run.
        job: &'a Job,
        /// The memory at this moment.
        kept: &'a Kept,
    },
    /// A run looked at its cluster.
    Looked {
        /// The cluster.
        cluster: &'a ClusterId,
        /// The run.
        run: u64,
        /// Whether every list succeeded.
        complete: bool,
    },
    /// A run applied an object.
    Applied {
        /// The cluster.
        cluster: &'a ClusterId,
        /// The app.
        app: &'a AppId,
        /// The object.
        object: &'a ObjectId,
        /// The epoch of the order.
        epoch: u64,
    },
    /// A run deleted an object.
    Deleted(Deletion<'a>),
    /// A copy of an app became whole, or stopped being so.
    Copy {
        /// The cluster.
        cluster: &'a ClusterId,
        /// The app.
        app: &'a AppId,
        /// Whether it is whole now.
        whole: bool,
    },
    /// A node's snapshot or the report that it holds changed, or it said no.
    Served {
        /// The node.
        node: &'a str,
        /// Term and number of what was offered.
        offered: (u64, u64),
        /// Term and number of what is served now.
        serves: (u64, u64),
        /// Why not, if refused.
        refused: Option<&'a str>,
    },
    /// A node's class of a cluster changed.
    Classified {
        /// The node.
        node: &'a str,
        /// The cluster.
        cluster: &'a ClusterId,
        /// The class from now on.
        class: Class,
    },
    /// A node answered a user.
    Answered {
        /// The node.
        node: &'a str,
        /// The user.
        user: &'a str,
        /// The host.
        host: &'a str,
        /// The app that users know under this host.
        app: &'a AppId,
        /// The clusters of the answer, first one first.
        clusters: &'a [ClusterId],
    },
    /// All faults have ended long ago: what must be true by now is not.
    Unsettled {
        /// In words.
        what: &'a str,
    },
}

/// A deletion, with what the world knows around it.
#[derive(Clone, Debug)]
pub struct Deletion<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// The app.
    pub app: &'a AppId,
    /// The object.
    pub object: &'a ObjectId,
    /// The run.
    pub run: u64,
    /// The epoch of the order.
    pub epoch: u64,
    /// The epoch under which the object had last been applied.
    pub applied: u64,
    /// The order is to take the whole app away.
    pub removing: bool,
    /// Everything that the order wants is in place and current.
    pub whole: bool,
    /// Whole copies of the app in other clusters.
    pub elsewhere: usize,
}

impl fmt::Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wished { what, .. } => write!(f, "wish: {what}"),
            Self::Fault { what } => write!(f, "fault: {what}"),
            Self::Disturbed { cluster } => write!(f, "{cluster}: deliveries may be late"),
            Self::HubUp { term, kept, quiet } => {
                write!(f, "hub: leads in term {term} with {} apps, quiet {quiet}", kept.apps.len())
            }
            Self::Decided { decision, seen, .. } => {
                let numbers: Vec<String> =
                    decision.desired.iter().map(|(id, d)| format!("{id} {}", d.number)).collect();
                let (head, heard) = (&decision.head, seen.ledgers.len());
                write!(
                    f,
                    "hub: decided on {heard} ledgers: snapshot {}.{} {}, desired {}",
                    head.term,
                    head.number,
                    api::wire::short(&head.digest),
                    numbers.join(", ")
                )
            }
            Self::Told { cluster, number } => write!(f, "hub: tells {cluster} its desired state {number}"),
            Self::Reached { cluster, desired, refused } => {
                let apps: Vec<String> = desired.apps.iter().map(order).collect();
                let said = refused.map_or(String::new(), |why| format!(", refused: {why}"));
                write!(f, "{cluster}: hears {}.{} [{}]{said}", desired.term, desired.number, apps.join(", "))
            }
            Self::Kept { cluster, kept } => {
                let apps: Vec<String> = kept.apps.iter().filter_map(|a| a.desired.as_ref()).map(order).collect();
                write!(f, "{cluster}: keeps {}.{} [{}]", kept.term, kept.number, apps.join(", "))
            }
            Self::Started { cluster, job, .. } => {
                let work = match job.work {
                    agent::core::Work::Apply(_) => "apply",
                    agent::core::Work::Remove { .. } => "remove",
                };
                write!(f, "{cluster}: run {} begins to {work} {}", job.run, job.app)
            }
            Self::Looked { cluster, run, complete } => {
                write!(f, "{cluster}: run {run} looked, lists {}", if *complete { "complete" } else { "failed" })
            }
            Self::Applied { cluster, object, epoch, .. } => write!(f, "{cluster}: applied {object} at epoch {epoch}"),
            Self::Deleted(d) => write!(
                f,
                "{}: deleted {} of {} at epoch {}, applied at {}, whole {}, elsewhere {}",
                d.cluster, d.object, d.app, d.epoch, d.applied, d.whole, d.elsewhere
            ),
            Self::Copy { cluster, app, whole } => {
                write!(f, "{cluster}: {app} is {}", if *whole { "whole" } else { "not whole" })
            }
            Self::Served { node, offered, serves, refused } => {
                let said = refused.map_or(String::new(), |why| format!(", refused: {why}"));
                write!(f, "{node}: offered {}.{}, serves {}.{}{said}", offered.0, offered.1, serves.0, serves.1)
            }
            Self::Classified { node, cluster, class } => write!(f, "{node}: {cluster} is {class}"),
            Self::Answered { node, user, host, clusters, .. } => {
                let names: Vec<&str> = clusters.iter().map(ClusterId::as_str).collect();
                write!(f, "{node}: tells {user} that {host} is at [{}]", names.join(", "))
            }
            Self::Unsettled { what } => write!(f, "unsettled: {what}"),
        }
    }
}

fn order(app: &api::wire::DesiredApp) -> String {
    let what = if app.remove { "remove".to_owned() } else { api::wire::short(&app.render) };
    format!("{}@{} {what}", app.name, app.epoch)
}
