//! What the controllers of the API server itself make of a definition: names are accepted or not, and with them the kind
//! is established.
//!
//! Each step is a function from a definition to the next one, as one write of the real server; [`super::lifecycle`]
//! does the writing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kinds::fields::{at, list, text};

/// Whether a condition is true.
pub(crate) fn has_condition(definition: &Value, kind: &str) -> bool {
    list(at(definition, &["status"]), "conditions")
        .iter()
        .any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
}

/// What a condition says.
pub(super) struct Condition<'a> {
    pub(super) kind: &'a str,
    pub(super) status: &'a str,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

/// Sets a condition; its time changes with its status only.
pub(super) fn set_condition(definition: &mut Value, new: &Condition<'_>, now: &str) {
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let mut condition = json!({"type": new.kind, "status": new.status, "reason": new.reason, "message": new.message,
                               "lastTransitionTime": now});
    match conditions.iter_mut().find(|own| text(own, "type") == new.kind) {
        Some(own) => {
            if own["status"] == condition["status"] && own["lastTransitionTime"].is_string() {
                condition["lastTransitionTime"] = own["lastTransitionTime"].clone();
            }
            *own = condition;
        }
        None => conditions.push(condition),
    }
}

/// The definition with the names that it can have; nothing where that is how it is. `others` are all definitions.
pub(super) fn name(definition: &Value, others: &[Value], now: &str) -> Option<Value> {
    let (wanted, before) = (at(definition, &["spec", "names"]), at(definition, &["status", "acceptedNames"]));
    if wanted == before {
        return None;
    }
    let (accepted, conflict) = accept(definition, others);
    let mut out = definition.clone();
    if !out["status"].is_object() {
        out["status"] = json!({});
    }
    out["status"]["acceptedNames"] = accepted;
    let names = match &conflict {
        None => {
            Condition { kind: "NamesAccepted", status: "True", reason: "NoConflicts", message: "no conflicts found" }
        }
        Some((reason, message)) => Condition { kind: "NamesAccepted", status: "False", reason, message },
    };
    set_condition(&mut out, &names, now);
    let established = if has_condition(&out, "Established") {
        // Once established, always established.
        None
    } else if conflict.is_none() {
        Some(("Installing", "the initial names have been accepted"))
    } else if list(at(definition, &["status"]), "conditions").iter().any(|own| text(own, "type") == "Established") {
        None
    } else {
        Some(("NotAccepted", "not all names are accepted"))
    };
    if let Some((reason, message)) = established {
        set_condition(&mut out, &Condition { kind: "Established", status: "False", reason, message }, now);
    }
    (out != *definition).then_some(out)
}

/// The definition as an established one, where its names were accepted and it is none yet.
pub(super) fn establish(definition: &Value, now: &str) -> Option<Value> {
    if !has_condition(definition, "NamesAccepted") || has_condition(definition, "Established") {
        return None;
    }
    let mut out = definition.clone();
    let condition = Condition {
        kind: "Established",
        status: "True",
        reason: "InitialNamesAccepted",
        message: "the initial names have been accepted",
    };
    set_condition(&mut out, &condition, now);
    Some(out)
}

/// The names that are free, and what is wrong with the others: of several conflicts the last one is told.
fn accept(definition: &Value, all: &[Value]) -> (Value, Option<(&'static str, String)>) {
    let wanted = at(definition, &["spec", "names"]);
    let before = at(definition, &["status", "acceptedNames"]);
    let group = text(at(definition, &["spec"]), "group");
    let (mut resources, mut kinds): (BTreeSet<String>, BTreeSet<String>) = (BTreeSet::new(), BTreeSet::new());
    for other in all.iter().filter(|other| text(at(other, &["spec"]), "group") == group) {
        let names = at(other, &["status", "acceptedNames"]);
        resources.extend([text(names, "plural"), text(names, "singular")].map(ToOwned::to_owned));
        resources.extend(list(names, "shortNames").iter().filter_map(|name| name.as_str().map(ToOwned::to_owned)));
        kinds.extend([text(names, "kind"), text(names, "listKind")].map(ToOwned::to_owned));
    }
    let mut accepted = if before.is_object() { before.clone() } else { json!({"kind": "", "plural": ""}) };
    let mut conflict = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    let mut one = |key: &str, taken: &BTreeSet<String>, reason: &'static str| {
        let (new, old) = (text(wanted, key), text(before, key));
        if new != old && taken.contains(new) {
            conflict = Some((reason, in_use(new)));
        } else if !new.is_empty() {
            accepted[key] = json!(new);
        }
    };
    one("plural", &resources, "PluralConflict");
    one("singular", &resources, "SingularConflict");
    let own = list(before, "shortNames");
    let clashes: Vec<String> = list(wanted, "shortNames")
        .iter()
        .filter(|name| !own.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| resources.contains(*name))
        .map(in_use)
        .collect();
    let short = match clashes.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    };
    let short_conflict = short.map(|message| ("ShortNamesConflict", message));
    let kinds_of = |key: &str, reason: &'static str| {
        let (new, old) = (text(wanted, key), text(before, key));
        let clash = new != old && kinds.contains(new);
        clash.then(|| (reason, in_use(new)))
    };
    let kind_conflict = kinds_of("kind", "KindConflict");
    let list_conflict = kinds_of("listKind", "ListKindConflict");
    let mut put = |key: &str, clash: bool| {
        if !clash {
            match wanted.get(key).filter(|value| !value.is_null()) {
                Some(value) => accepted[key] = value.clone(),
                None => drop(accepted.as_object_mut().and_then(|names| names.remove(key))),
            }
        }
    };
    put("shortNames", short_conflict.is_some());
    put("kind", kind_conflict.is_some());
    put("listKind", list_conflict.is_some());
    put("categories", false);
    let last = list_conflict.or(kind_conflict).or(short_conflict).or(conflict);
    (accepted, last)
}
