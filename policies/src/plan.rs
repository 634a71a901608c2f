//! What an agent does to its cluster: the objects of one app as wanted × as seen → ordered [`Action`]s.
//!
//! [`plan`] is called again after its actions were performed and the cluster was looked at anew, until it returns
//! none. So it is level-triggered: it holds no memory, an agent that dies half-way loses nothing, and each gate is
//! checked on what *is*, not on what was attempted. Three rounds are usual: applies, prunes, then the set narrows.
//!
//! Order within a round: the set's record widens before anything is applied, then [`wave`] by wave (namespaces, CRDs,
//! identities, configuration, services, workloads, the rest, and last the custom resources whose CRD the same app
//! brings), then prunes in the reverse order, then the record narrows. A crash between any two steps leaves no object
//! outside the record.
//!
//! Deletion is gated, whatever the intent (DESIGN §5, invariants 1 to 3): nothing is pruned unless every kind of the
//! set was listed, everything wanted is in place, the object carries this app's own mark, and, for kinds that take
//! data or other objects with them, the app says `prune: Cascade`.
//!
//! Absent on purpose: HTTP, discovery, retries (the agent's), and any thought of other apps.

use std::collections::{BTreeMap, BTreeSet};

mod admit;
pub mod fields;
mod object;
mod wave;

pub use admit::{Offer, Order, Refusal, admit, admit_epoch, admit_snapshot, refuse_namespace, term_to_take};
pub use object::{GroupKind, ObjectId};
pub use wave::{Wave, wave};

/// SHA-256 of an object's canonical JSON as it was rendered.
pub type ObjectDigest = [u8; 32];

/// What shall become of the app in this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent<'a> {
    /// Exactly these objects shall exist.
    Run(&'a [Wanted]),
    /// None shall.
    Remove,
}

/// What the app says about taking over and taking away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// `prune: Cascade`: also what takes data or other objects with it.
    pub cascade: bool,
    /// What becomes of an object that stands under a wanted name and belongs to no set.
    pub adopt: Adopt,
}

/// Whether an object that was there before becomes the app's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adopt {
    /// It is left, and reported.
    #[default]
    Never,
    /// If applying would change nothing in it.
    IfIdentical,
    /// It is taken, and made what the app wants.
    Always,
}

impl Adopt {
    const fn takes(self, identical: bool) -> bool {
        match self {
            Self::Never => false,
            Self::IfIdentical => identical,
            Self::Always => true,
        }
    }
}

/// One object of a render.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which one; its namespace already follows the scope of its kind.
    pub id: ObjectId,
    /// Its content.
    pub digest: ObjectDigest,
    /// When it is a CustomResourceDefinition: the kind that it defines.
    pub defines: Option<GroupKind>,
}

/// What the cluster holds, as far as this app is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What the app's ApplySet parent says; `None` when there is no parent. A parent that could not be read is no
    /// state: do not plan then.
    pub set: Option<SetRecord>,
    /// What is known of each kind that the set contains or the render wants. A kind that is missing here was not
    /// listed, and counts as [`Listing::Failed`].
    pub kinds: BTreeMap<GroupKind, Listing>,
    /// Every object found: the marked ones of every listed kind, and whatever stands under a wanted name.
    pub objects: BTreeMap<ObjectId, Seen>,
}

/// The record on an ApplySet parent: where members may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetRecord {
    /// `contains-group-kinds`.
    pub kinds: BTreeSet<GroupKind>,
    /// `additional-namespaces`.
    pub namespaces: BTreeSet<String>,
}

/// How far one kind is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The API server listed it.
    Complete,
    /// The API server says that it has no such kind; so there are no objects of it.
    NoSuchKind,
    /// It could not be listed. That is never the same as empty.
    Failed {
        /// Why, for people.
        error: String,
    },
}

/// One object that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whose it is.
    pub mark: Mark,
    /// The content that was last applied to it and still stands; `None` when it is unknown or somebody changed it.
    pub applied: Option<ObjectDigest>,
    /// It has a deletion time stamp.
    pub deleting: bool,
    /// Applying would change nothing but the marks of ownership. Asked only where [`Adopt::IfIdentical`] needs it.
    pub identical: bool,
}

/// Whose an object is, by its ApplySet label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// It carries this app's label.
    Ours,
    /// It carries the label of another set.
    Other {
        /// The label's value.
        set: String,
    },
    /// It carries none.
    #[default]
    None,
}

/// What to do next. Perform them in order; a failure of one does not stop the later ones, since the next round decides
/// on what then stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this record to the parent, which is made if it is missing. If this fails, apply nothing.
    Widen(SetRecord),
    /// Apply the wanted object.
    Apply {
        /// Which.
        id: ObjectId,
        /// True: the object is ours, take every wanted field back. False: it does not exist, make it.
        ours: bool,
    },
    /// Wait, for a bounded time, until these CRDs are Established, and look at the kinds of the server again.
    AwaitEstablished {
        /// Names of CustomResourceDefinitions, sorted.
        crds: Vec<String>,
    },
    /// Delete the object, if it still is the one that was seen.
    Prune {
        /// Which.
        id: ObjectId,
    },
    /// Write this smaller record to the parent.
    Narrow(SetRecord),
    /// Delete the parent: the set is empty.
    Dissolve,
}

/// Why each object is treated as it is. Print it, or ask it whether the work is done.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// One verdict for each object wanted or ours.
    pub verdicts: BTreeMap<ObjectId, Verdict>,
    /// What holds back every prune; empty when none is held.
    pub held: Vec<Gate>,
}

impl PlanReport {
    /// True when nothing is left to do or to wait for: every wanted object is in place, and what else is ours is kept
    /// on purpose.
    pub fn settled(&self) -> bool {
        self.verdicts.values().all(|v| matches!(v, Verdict::Current | Verdict::Retained)) && self.held.is_empty()
    }
}

/// The verdict on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wanted, in place, unchanged.
    Current,
    /// Wanted, and does not exist.
    Create,
    /// Wanted in another content than the one applied.
    Update,
    /// Wanted, and changed by somebody, or not known to be unchanged.
    Repair,
    /// Wanted, was there before, and is taken over.
    Adopt,
    /// Wanted, and somebody else's; neither taken nor pruned.
    Foreign {
        /// The other set's id; empty when it belongs to none.
        set: String,
    },
    /// Wanted, and the server has no such kind, nor does the app bring it.
    NoSuchKind,
    /// Wanted twice in one render.
    Duplicate,
    /// On its way out; wait for its finalizers.
    Terminating,
    /// Not wanted: pruned now.
    Prune,
    /// Not wanted, but a gate in [`PlanReport::held`] stands.
    Held,
    /// Not wanted, kept since its kind takes data or other objects with it and the app does not say `Cascade`.
    Retained,
}

impl Verdict {
    /// The reason code, as ledger and `plan` print it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Repair => "Repair",
            Self::Adopt => "Adopt",
            Self::Foreign { .. } => "ForeignObject",
            Self::NoSuchKind => "NoSuchKind",
            Self::Duplicate => "DuplicateObject",
            Self::Terminating => "Terminating",
            Self::Prune => "Prune",
            Self::Held => "PruneHeld",
            Self::Retained => "Retained",
        }
    }
}

/// Why nothing is pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A kind of the set could not be listed.
    NotListed {
        /// Which.
        kind: GroupKind,
        /// Why.
        error: String,
    },
    /// A wanted object is not in place.
    NotApplied {
        /// Which.
        id: ObjectId,
    },
}

/// Decides the next round for one app. Pure: equal arguments give equal results.
///
/// An object of another set is never adopted: that set would go on managing it.
pub fn plan(intent: Intent<'_>, terms: Terms, state: &State) -> (Vec<Action>, PlanReport) {
    let wanted = match intent {
        Intent::Run(wanted) => wanted,
        Intent::Remove => &[],
    };
    let mut report = PlanReport::default();
    let mut actions = Vec::new();

    let applies = judge_wanted(wanted, terms.adopt, state, &mut report);
    if let Some(record) = widened(wanted, state, &report) {
        actions.push(Action::Widen(record));
    }
    push_applies(&mut actions, wanted, &applies);

    report.held = gates(state, &report);
    let prunes = judge_unwanted(terms.cascade, state, &mut report);
    if !prunes.is_empty() {
        actions.extend(prunes.into_iter().map(|id| Action::Prune { id }));
    } else if applies.is_empty() && report.held.is_empty() {
        actions.extend(narrowed(state, &report));
    }
    (actions, report)
}

/// Verdicts for what is wanted; returns what to apply, with whether it is ours, in wave order.
fn judge_wanted(
    wanted: &[Wanted],
    adopt: Adopt,
    state: &State,
    report: &mut PlanReport,
) -> Vec<(Wave, ObjectId, bool)> {
    let defined: BTreeSet<&GroupKind> = wanted.iter().filter_map(|w| w.defines.as_ref()).collect();
    let mut applies = Vec::new();
    for w in wanted {
        if report.verdicts.contains_key(&w.id) {
            report.verdicts.insert(w.id.clone(), Verdict::Duplicate);
            applies.retain(|(_, id, _)| *id != w.id);
            continue;
        }
        let unknown_kind = matches!(state.kinds.get(&w.id.kind), Some(Listing::NoSuchKind));
        let verdict = match state.objects.get(&w.id) {
            _ if unknown_kind && !defined.contains(&w.id.kind) => Verdict::NoSuchKind,
            None => Verdict::Create,
            Some(Seen { mark: Mark::Other { set }, .. }) => Verdict::Foreign { set: set.clone() },
            Some(Seen { mark: Mark::None, deleting: false, identical, .. }) if adopt.takes(*identical) => {
                Verdict::Adopt
            }
            Some(Seen { mark: Mark::None, .. }) => Verdict::Foreign { set: String::new() },
            Some(Seen { deleting: true, .. }) => Verdict::Terminating,
            Some(Seen { applied: Some(digest), .. }) if *digest == w.digest => Verdict::Current,
            Some(Seen { applied: Some(_), .. }) => Verdict::Update,
            Some(Seen { applied: None, .. }) => Verdict::Repair,
        };
        match verdict {
            Verdict::Create => applies.push((wave(&w.id.kind, &defined), w.id.clone(), false)),
            Verdict::Update | Verdict::Repair | Verdict::Adopt => {
                applies.push((wave(&w.id.kind, &defined), w.id.clone(), true))
            }
            Verdict::Current
            | Verdict::Foreign { .. }
            | Verdict::NoSuchKind
            | Verdict::Duplicate
            | Verdict::Terminating
            | Verdict::Prune
            | Verdict::Held
            | Verdict::Retained => {}
        }
        report.verdicts.insert(w.id.clone(), verdict);
    }
    // Stable: within a wave the author's order stands.
    applies.sort_by_key(|(wave, _, _)| *wave);
    applies
}

/// The record that must stand before applying, if the present one does not cover it.
fn widened(wanted: &[Wanted], state: &State, report: &PlanReport) -> Option<SetRecord> {
    let ours = wanted.iter().filter(|w| !matches!(report.verdicts.get(&w.id), Some(Verdict::NoSuchKind)));
    let mut record = state.set.clone().unwrap_or_default();
    for w in ours {
        record.kinds.insert(w.id.kind.clone());
        record.namespaces.extend(w.id.namespace.clone());
    }
    (!record.kinds.is_empty() && state.set.as_ref() != Some(&record)).then_some(record)
}

fn push_applies(actions: &mut Vec<Action>, wanted: &[Wanted], applies: &[(Wave, ObjectId, bool)]) {
    let mut waited = false;
    for (wave, id, ours) in applies {
        if *wave == Wave::DefinedHere && !waited {
            waited = true;
            let used =
                |w: &&Wanted| w.defines.as_ref().is_some_and(|kind| applies.iter().any(|(_, id, _)| id.kind == *kind));
            let crds: BTreeSet<String> = wanted.iter().filter(used).map(|w| w.id.name.clone()).collect();
            actions.push(Action::AwaitEstablished { crds: crds.into_iter().collect() });
        }
        actions.push(Action::Apply { id: id.clone(), ours: *ours });
    }
}

fn gates(state: &State, report: &PlanReport) -> Vec<Gate> {
    let recorded = state.set.iter().flat_map(|set| &set.kinds);
    let kinds: BTreeSet<&GroupKind> = recorded.chain(state.kinds.keys()).collect();
    let not_listed = kinds.into_iter().filter_map(|kind| match state.kinds.get(kind) {
        Some(Listing::Complete | Listing::NoSuchKind) => None,
        Some(Listing::Failed { error }) => Some(Gate::NotListed { kind: kind.clone(), error: error.clone() }),
        None => Some(Gate::NotListed { kind: kind.clone(), error: "it was not listed".into() }),
    });
    let not_applied = report.verdicts.iter().filter(|(_, v)| **v != Verdict::Current);
    not_listed.chain(not_applied.map(|(id, _)| Gate::NotApplied { id: id.clone() })).collect()
}

/// Verdicts for what is ours and not wanted; returns what to prune, last wave first.
fn judge_unwanted(cascade: bool, state: &State, report: &mut PlanReport) -> Vec<ObjectId> {
    let mut prunes = Vec::new();
    for (id, seen) in &state.objects {
        if seen.mark != Mark::Ours || report.verdicts.contains_key(id) {
            continue;
        }
        let verdict = if seen.deleting {
            Verdict::Terminating
        } else if wave::takes_more_with_it(&id.kind) && !cascade {
            Verdict::Retained
        } else if !report.held.is_empty() {
            Verdict::Held
        } else {
            prunes.push(id.clone());
            Verdict::Prune
        };
        report.verdicts.insert(id.clone(), verdict);
    }
    // A kind whose CRD goes too must go before it.
    let none = BTreeSet::new();
    prunes.sort_by_key(|id| std::cmp::Reverse(wave(&id.kind, &none)));
    prunes
}

fn narrowed(state: &State, report: &PlanReport) -> Option<Action> {
    let present = state.set.as_ref()?;
    let mut record = SetRecord::default();
    for id in report.verdicts.keys() {
        record.kinds.insert(id.kind.clone());
        record.namespaces.extend(id.namespace.clone());
    }
    if record.kinds.is_empty() {
        Some(Action::Dissolve)
    } else {
        (record != *present).then_some(Action::Narrow(record))
    }
}
