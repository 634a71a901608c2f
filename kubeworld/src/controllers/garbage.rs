//! Garbage: what nobody owns any more, and owners that wait for what they own.

use serde_json::{Value, json};

use super::Work;
use super::cache::Known;
use super::server::Program;

/// Takes `table/name` apart; tables have a slash of their own.
fn place(text: &str) -> (&str, &str) {
    text.rsplit_once('/').unwrap_or((text, ""))
}

/// An object whose owners are all gone goes too. One that lost some of its owners loses their references.
pub(super) fn check_owners(work: &mut Work, namespace: &str, key: &str) {
    let (table, name) = place(key);
    let Some(known) = work.cache.known(table, namespace, name) else { return };
    if known.owners.is_empty() || known.deleting {
        return;
    }
    let (mut solid, mut dangling, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for owner in &known.owners {
        match work.cache.of_uid(&owner.uid) {
            // An owner in another namespace is none.
            Some(there) if there.namespace.is_empty() || there.namespace == known.namespace => {
                if there.deleting && there.finalizers.iter().any(|it| it == "foregroundDeletion") {
                    waiting.push(there);
                } else {
                    solid.push(there);
                }
            }
            Some(_) | None => dangling.push(owner.uid.clone()),
        }
    }
    if !solid.is_empty() {
        if !dangling.is_empty() || !waiting.is_empty() {
            let keep: Vec<String> = solid.iter().map(|owner| owner.uid.clone()).collect();
            keep_owners(work, &known, |uid| keep.iter().any(|one| one == uid));
        }
        return;
    }
    let policy = if waiting.is_empty() {
        // The object's own wish, if it has one.
        match known.finalizers.iter().find(|it| matches!(it.as_str(), "orphan" | "foregroundDeletion")) {
            Some(wish) if wish == "orphan" => "Orphan",
            Some(_) => "Foreground",
            None => "Background",
        }
    } else if work.cache.dependents(&known.uid).is_empty() {
        "Background"
    } else {
        "Foreground"
    };
    let options = json!({"propagationPolicy": policy});
    let by = Program::ControllerManager;
    let _refused = work.delete(by, &known.resource, namespace, name, &known.uid, &options);
}

fn keep_owners(work: &mut Work, known: &Known, keep: impl Fn(&str) -> bool) {
    let state = work.api.state();
    let Some(object) = state.store.get(&known.resource.table, &known.namespace, &known.name) else { return };
    let value = object.value();
    drop(state);
    let owners: Vec<Value> = value["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|owner| owner["uid"].as_str().is_some_and(&keep))
        .cloned()
        .collect();
    let patch = json!({"metadata": {"uid": known.uid, "ownerReferences": owners}});
    let by = Program::ControllerManager;
    let _refused = work.merge(by, &known.resource, &known.namespace, &known.name, &patch);
}

/// An owner that is being deleted, with a finalizer that says what becomes of its dependents first.
pub(super) fn check_dependents(work: &mut Work, namespace: &str, key: &str) {
    let (table, name) = place(key);
    let Some(known) = work.cache.known(table, namespace, name) else { return };
    if !known.deleting {
        return;
    }
    if known.finalizers.iter().any(|it| it == "orphan") {
        for dependent in work.cache.dependents(&known.uid) {
            keep_owners(work, &dependent, |uid| uid != known.uid);
        }
        if work.cache.dependents(&known.uid).is_empty() {
            drop_finalizer(work, &known, "orphan");
        }
    } else if known.finalizers.iter().any(|it| it == "foregroundDeletion") {
        let dependents = work.cache.dependents(&known.uid);
        let blocks = |one: &Known| one.owners.iter().any(|owner| owner.uid == known.uid && owner.blocks);
        for dependent in dependents.iter().filter(|dependent| !dependent.deleting) {
            let place = format!("{}/{}", dependent.resource.table, dependent.name);
            work.enqueue(super::Controller::Owned, &dependent.namespace, &place);
        }
        if !dependents.iter().any(|dependent| blocks(dependent)) {
            drop_finalizer(work, &known, "foregroundDeletion");
        }
    }
}

fn drop_finalizer(work: &mut Work, known: &Known, finalizer: &str) {
    let rest: Vec<&String> = known.finalizers.iter().filter(|it| *it != finalizer).collect();
    let patch = json!({"metadata": {"uid": known.uid, "finalizers": rest}});
    let by = Program::ControllerManager;
    let _refused = work.merge(by, &known.resource, &known.namespace, &known.name, &patch);
}
