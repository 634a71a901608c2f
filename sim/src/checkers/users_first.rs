//! 1 as users see it: a copy is taken away only after its users. Once a cluster began to delete a copy, no node's answer
//! names it, until it is applied there anew. An app that its user deleted takes its hosts along.

use std::collections::BTreeSet;

use policies::id::{AppId, ClusterId};
use policies::time::Instant;

use super::{Checker, EverDeleted};
use crate::fact::Fact;

/// The checker.
#[derive(Debug, Default)]
pub struct UsersFirst {
    going: BTreeSet<(AppId, ClusterId)>,
    deleted: EverDeleted,
}

impl Checker for UsersFirst {
    fn name(&self) -> &'static str {
        "1 users leave a copy before it goes"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Wished { wishes, .. } => {
                self.deleted.note(wishes);
            }
            Fact::Deleted(d) if d.removing => _ = self.going.insert((d.app.clone(), d.cluster.clone())),
            Fact::Applied { cluster, app, .. } => _ = self.going.remove(&((*app).clone(), (*cluster).clone())),
            Fact::Answered { node, user, host, app, clusters } if !self.deleted.contains(app) => {
                let gone = clusters.iter().find(|cluster| self.going.contains(&((*app).clone(), (*cluster).clone())));
                if let Some(gone) = gone {
                    return Err(format!("{node} sends {user} for {host} to {gone}, where it is being taken away"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
