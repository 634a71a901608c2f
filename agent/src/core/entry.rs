//! One app's line in the ledger.

use api::wire::{LedgerEntry, Phase};
use policies::id::AppId;

use super::{App, Failure, Keeping};
use crate::names::bounded;

/// Longest message of an entry. The ledger is sent whole; a hundred failures must not make it megabytes.
const MESSAGE: usize = 2048;
/// Failures (or waiting objects) that a message names; the rest is a count.
const NAMED: usize = 3;

impl App {
    /// Whether the app was taken away.
    pub(super) fn is_removed(&self) -> bool {
        let gone = self.outcome.as_ref().is_some_and(|o| o.settled && o.failures.is_empty());
        self.told.is_none() && gone && self.held.as_ref().is_some_and(|h| h.remove)
    }

    /// The entry; `None` for an app of which nothing but a refused order is known.
    pub(super) fn entry(&self, id: &AppId, keep: &Keeping) -> Option<LedgerEntry> {
        let speaks_of = self.held.as_ref().or(self.told.as_ref())?;
        let (phase, reason, message) = self.standing(keep);
        let view = self.view.clone().unwrap_or_default();
        let (reason, message) = match &self.refused {
            Some(refusal) => (refusal.code().to_owned(), refusal.to_string()),
            None => (reason, message),
        };
        Some(LedgerEntry {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            epoch: speaks_of.epoch,
            render: speaks_of.render.clone(),
            phase: phase.into(),
            objects: self.outcome.as_ref().map_or(0, |o| o.objects),
            objects_ready: view.ready,
            reason,
            message: bounded(message, MESSAGE),
            addresses: view.addresses,
            replicas_ready: view.replicas_ready,
        })
    }

    fn standing(&self, keep: &Keeping) -> (Phase, String, String) {
        let say = |phase, reason: &str, message: String| (phase, reason.to_owned(), message);
        let Some(held) = &self.held else {
            return say(Phase::Progressing, "AwaitingRender", "the render has not arrived from the hub".into());
        };
        let busy = if held.remove { Phase::Removing } else { Phase::Progressing };
        let Some(outcome) = &self.outcome else {
            return if self.held_seq <= keep.done {
                say(busy, if held.remove { "Removing" } else { "Applying" }, String::new())
            } else if keep.error.is_empty() {
                say(busy, "Keeping", "being written down in the agent's namespace before it is acted on".into())
            } else {
                let message =
                    format!("cannot be written down in the agent's namespace, so it is not acted on: {}", keep.error);
                say(busy, "NotKept", message)
            };
        };
        if let Some(first) = outcome.failures.first() {
            let phase = if held.remove { Phase::Removing } else { Phase::Failed };
            return say(phase, &first.reason, failures(&outcome.failures));
        }
        if !outcome.settled {
            return say(busy, "Terminating", few(&outcome.waiting));
        }
        if held.remove {
            let reason = if outcome.retained.is_empty() { "" } else { "Retained" };
            let message = if outcome.retained.is_empty() {
                String::new()
            } else {
                format!("kept, since the App does not say `prune: Cascade`: {}", few(&outcome.retained))
            };
            return say(Phase::Removed, reason, message);
        }
        let lines = |list: &[(policies::plan::ObjectId, String)]| {
            few(&list.iter().map(|(id, why)| format!("{id}: {why}")).collect::<Vec<_>>())
        };
        match &self.view {
            None => say(Phase::Progressing, "Applied", "the objects' state is not known yet".into()),
            Some(view) if !view.failed.is_empty() => say(Phase::Failed, "ObjectFailed", lines(&view.failed)),
            Some(view) if !view.waiting.is_empty() => say(Phase::Progressing, "NotCurrent", lines(&view.waiting)),
            Some(view) if view.ready < outcome.objects => {
                let drifted: Vec<String> = view.drifted.iter().map(ToString::to_string).collect();
                say(Phase::Progressing, "Drifted", few(&drifted))
            }
            Some(_) if !outcome.contested.is_empty() => say(Phase::Ready, "Contested", few(&outcome.contested)),
            Some(_) => say(Phase::Ready, "", String::new()),
        }
    }
}

fn failures(list: &[Failure]) -> String {
    few(&list.iter().map(|f| f.message.clone()).collect::<Vec<_>>())
}

fn few(list: &[String]) -> String {
    let named = list.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if list.len() > NAMED { format!("{named}; and {} more", list.len() - NAMED) } else { named }
}
