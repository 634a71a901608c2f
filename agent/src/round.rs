//! The pure half of a run: what was found out is put into [`policies::plan`]'s words, and its last report into the
//! ledger's. [`crate::apply`] does this over an API server, the simulator over a cluster in memory.

use std::collections::{BTreeMap, BTreeSet};

use policies::id::AppId;
use policies::plan::{Action, Gate, GroupKind, Mark, ObjectId, PlanReport, Seen, Verdict};

use crate::core::{Failure, Outcome};
use crate::members::{Applied, Did};

/// Rounds of look, plan, act in one run. Three are usual ([`policies::plan`]); what is left waits for the next run.
pub const ROUNDS: usize = 6;

/// One object that exists: `label` is the id of the set that it carries (empty: none), `own` the app's; `known` what a
/// run left standing of it.
pub fn see(label: &str, own: &str, owned: Option<[u8; 32]>, deleting: bool, known: Option<&Applied>) -> Seen {
    let mark = match label {
        set if set == own => Mark::Ours,
        "" => Mark::None,
        set => Mark::Other { set: set.to_owned() },
    };
    let stands = known.filter(|known| owned.is_some() && known.owned == owned);
    Seen { mark, applied: stands.map(|known| known.digest), deleting, identical: false }
}

/// What of a plan is to be done: not again what has failed in this run, and no second wait for definitions.
pub fn todo(actions: Vec<Action>, failed: &BTreeSet<ObjectId>, awaited: bool) -> Vec<Action> {
    let wanted = |action: &Action| match action {
        Action::Apply { id, .. } | Action::Prune { id } => !failed.contains(id),
        Action::AwaitEstablished { .. } => !awaited,
        Action::Widen(_) | Action::Narrow(_) | Action::Dissolve => true,
    };
    actions.into_iter().filter(wanted).collect()
}

/// Turns the last report into what the ledger says and what watches are held against. `known`: what earlier runs left
/// standing; `version` of a wanted object as it was written.
pub fn conclude(
    app: &AppId,
    report: &PlanReport,
    known: &BTreeMap<ObjectId, Applied>,
    version: impl Fn(&ObjectId) -> String,
    outcome: &mut Outcome,
    did: &mut Did,
) {
    for (id, verdict) in &report.verdicts {
        match verdict {
            Verdict::Foreign { set } => outcome.failures.push(foreign(app, id, set)),
            Verdict::NoSuchKind => outcome.failures.push(no_such_kind(id, &version(id))),
            Verdict::Duplicate => {
                let text = format!("{id} is in the render more than once; keep one of them");
                outcome.failures.push(Failure::new(verdict.code(), text));
            }
            Verdict::Terminating => outcome.waiting.push(format!("{id} is being deleted")),
            Verdict::Retained => outcome.retained.push(id.to_string()),
            Verdict::Current => {
                if let Some(applied) = known.get(id) {
                    did.applied.entry(id.clone()).or_insert_with(|| applied.clone());
                }
            }
            Verdict::Create | Verdict::Update | Verdict::Repair | Verdict::Adopt | Verdict::Prune | Verdict::Held => {}
        }
    }
    for gate in &report.held {
        match gate {
            Gate::NotListed { kind, error } => {
                let text = format!("{kind} could not be listed, so nothing is pruned: {error}");
                outcome.failures.push(Failure::new("ListFailed", text));
            }
            // Its own failure says why.
            Gate::NotApplied { .. } => {}
        }
    }
    did.complete = outcome.failures.is_empty();
    outcome.settled = report.settled() && did.complete;
}

fn foreign(app: &AppId, id: &ObjectId, set: &str) -> Failure {
    let whose =
        if set.is_empty() { "belongs to nobody we know".to_owned() } else { format!("belongs to ApplySet {set}") };
    let advice = if id.kind == GroupKind::new("", "Namespace") && id.name == app.namespace {
        "leave it out of the App, since the agent makes the App's own namespace"
    } else if set.is_empty() {
        "delete it in the cluster, give the App's object another name, or let the App take it over with `adopt: \
         IfIdentical` or `Always`"
    } else {
        "delete it in the cluster, or give the App's object another name"
    };
    Failure::new("ForeignObject", format!("{id} exists and {whose}; it is left as it is: {advice}"))
}

/// The API server does not have the kind of an object in the version that it is written in.
pub(crate) fn no_such_kind(id: &ObjectId, version: &str) -> Failure {
    let text = format!(
        "the API server has no kind {} in version {version} (wanted by {id}); install its CRD, or deliver it with an App",
        id.kind
    );
    Failure::new("NoSuchKind", text)
}
