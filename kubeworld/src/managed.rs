//! Who owns which fields: `metadata.managedFields`, and server-side apply over it (KEP-555).
//!
//! [`Managed`] is what an object's entries say. [`updated`] accounts a create, an update or a patch to its manager;
//! [`apply`] merges what a manager wants into an object, takes away what it no longer wants and nobody else owns, and
//! refuses where others own what it would change.
//!
//! All versions of a kind have the same fields here, so sets are never converted between versions.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::fields::{FieldSet, Step, shown};
use crate::merge::{self, Fault};
use crate::schema::{Schema, TypeId};

/// After this many managers that update, the oldest are put together as `ancient-changes`: apimachinery's
/// `DefaultMaxUpdateManagers`, so that an object with many writers does not grow without end. No recorded case holds it yet.
const UPDATERS_MAX: usize = 10;

/// The annotation in which `kubectl apply` keeps what it applied.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Tells managers apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) applies: bool,
    /// Empty for those that apply: they keep their entry over versions.
    version: String,
    pub(crate) subresource: String,
}

impl Manager {
    pub(crate) fn new(name: &str, applies: bool, version: &str, subresource: &str) -> Self {
        Self {
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            applies,
            version: if applies { String::new() } else { version.to_owned() },
            subresource: subresource.to_owned(),
        }
    }

    /// As messages name it.
    fn shown(&self) -> String {
        let mut out = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applies {
            out.push_str(&format!(" using {}", self.version));
        }
        out
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) fields: FieldSet,
    pub(crate) version: String,
    time: Option<String>,
}

/// What an object's entries say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Managed {
    pub(crate) entries: BTreeMap<Manager, Entry>,
}

/// One field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) manager: Manager,
    pub(crate) path: Vec<Step>,
}

impl Conflict {
    pub(crate) fn cause(&self) -> String {
        format!("conflict with {}", self.manager.shown())
    }

    pub(crate) fn field(&self) -> String {
        shown(&self.path)
    }
}

/// The whole message of a refused apply.
pub(crate) fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager.shown(), one.field());
    }
    let mut lines = Vec::new();
    let mut managers: Vec<&Manager> = conflicts.iter().map(|conflict| &conflict.manager).collect();
    managers.sort_by_key(|manager| manager.shown());
    managers.dedup();
    for manager in managers {
        lines.push(format!("conflicts with {}:", manager.shown()));
        let fields = conflicts.iter().filter(|conflict| conflict.manager == *manager);
        lines.extend(fields.map(|conflict| format!("- {}", conflict.field())));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl Managed {
    /// Of an object's `metadata.managedFields`; nothing where an entry is none.
    pub(crate) fn decode(entries: &Value) -> Option<Self> {
        let mut out = Self::default();
        for entry in entries.as_array().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            let applies = match text("operation") {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let fields = match entry.get("fieldsV1") {
                Some(fields) => FieldSet::from_json(fields)?,
                None => FieldSet::default(),
            };
            let mut manager = Manager::new("", applies, text("apiVersion"), text("subresource"));
            manager.name = text("manager").to_owned();
            let time = entry["time"].as_str().map(ToOwned::to_owned);
            out.entries.insert(manager, Entry { fields, version: text("apiVersion").to_owned(), time });
        }
        Some(out)
    }

    /// What an update shall go by: what the request brings, or what the object has, unless the request resets it.
    pub(crate) fn of_request(live: &Value, new: &Value, subresource: &str) -> Self {
        let of_live = || Self::decode(&live["metadata"]["managedFields"]).unwrap_or_default();
        let brought = &new["metadata"]["managedFields"];
        if !subresource.is_empty() {
            return of_live();
        }
        match brought.as_array().map(Vec::as_slice) {
            Some([]) => return Self::default(),
            Some([one]) if one.as_object().is_some_and(Map::is_empty) => return Self::default(),
            Some(_) | None => {}
        }
        match Self::decode(brought) {
            Some(managed) if !managed.entries.is_empty() => managed,
            Some(_) | None => of_live(),
        }
    }

    pub(crate) fn encode(&self) -> Value {
        let mut entries: Vec<(&Manager, &Entry)> = self.entries.iter().collect();
        entries.sort_by_key(|(manager, entry)| {
            (!manager.applies, entry.time.clone(), manager.name.clone(), entry.version.clone(), &manager.subresource)
        });
        let entries = entries.into_iter().map(|(manager, entry)| {
            let mut out = json!({
                "operation": if manager.applies { "Apply" } else { "Update" },
                "apiVersion": entry.version, "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_json(),
            });
            for (key, text) in [("manager", &manager.name), ("subresource", &manager.subresource)] {
                if !text.is_empty() {
                    out[key] = json!(text);
                }
            }
            if let Some(time) = &entry.time {
                out["time"] = json!(time);
            }
            out
        });
        entries.collect()
    }

    /// Writes the entries into an object; without any, the field goes.
    pub(crate) fn write(&self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), self.encode());
        }
    }

    /// Gives one field of structs to who applies it through a subresource.
    pub(crate) fn own_alone(&mut self, manager: &str, version: &str, subresource: &str, path: &[String]) {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        let fields = FieldSet::of(&[&steps]);
        let entry = Entry { fields, version: version.to_owned(), time: None };
        self.entries.insert(Manager::new(manager, true, version, subresource), entry);
    }

    /// Takes away from everybody but `by` what changed.
    fn lose(&mut self, by: Option<&Manager>, comparison: &merge::Comparison) {
        for (_, entry) in self.entries.iter_mut().filter(|(manager, _)| Some(*manager) != by) {
            for changed in [&comparison.modified, &comparison.added, &comparison.removed] {
                entry.fields.subtract(changed);
            }
        }
        self.entries.retain(|manager, entry| Some(manager) == by || !entry.fields.is_empty());
    }

    /// What nobody can own is taken from the set of `manager`.
    fn strip(&mut self, manager: &Manager) {
        static STRIP: LazyLock<FieldSet> = LazyLock::new(|| {
            FieldSet::of(&[
                &["apiVersion"],
                &["kind"],
                &["metadata"],
                &["metadata", "name"],
                &["metadata", "namespace"],
                &["metadata", "creationTimestamp"],
                &["metadata", "selfLink"],
                &["metadata", "uid"],
                &["metadata", "clusterName"],
                &["metadata", "generation"],
                &["metadata", "managedFields"],
                &["metadata", "resourceVersion"],
            ])
        });
        if let Some(entry) = self.entries.get_mut(manager) {
            entry.fields.subtract(&STRIP);
            if entry.fields.is_empty() {
                self.entries.remove(manager);
            }
        }
    }

    /// Puts the oldest updaters together, version by version, until there are few enough.
    fn cap(&mut self) {
        let mut updaters: Vec<Manager> = self.entries.keys().filter(|manager| !manager.applies).cloned().collect();
        let mut length = updaters.len();
        if length <= UPDATERS_MAX {
            return;
        }
        updaters.sort_by_key(|manager| (self.entries[manager].time.clone(), manager.clone()));
        let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
        for manager in updaters {
            if length <= UPDATERS_MAX {
                break;
            }
            let version = manager.version.clone();
            let Some(first) = first_of.get(&version).cloned() else {
                first_of.insert(version, manager);
                continue;
            };
            let bucket = Manager::new("ancient-changes", false, &version, "");
            if !self.entries.contains_key(&bucket)
                && let Some(entry) = self.entries.remove(&first)
            {
                self.entries.insert(bucket.clone(), entry);
            }
            if let Some(old) = self.entries.remove(&manager)
                && let Some(entry) = self.entries.get_mut(&bucket)
            {
                entry.fields = entry.fields.union(&old.fields);
                entry.time = old.time;
                length -= 1;
            }
        }
    }
}

/// What of a request an endpoint ignores, so that nobody comes to own it: `status` on the object itself, the rest on
/// its status.
///
/// These fields, and all that is below them.
pub(crate) struct Reset(pub(crate) FieldSet);

impl Reset {
    fn filter(&self, mut set: FieldSet) -> FieldSet {
        set.subtract_recursively(&self.0);
        set
    }

    /// How two objects differ in what the endpoint does not ignore.
    fn compare(&self, typed: Typed<'_>, live: &Value, new: &Value) -> merge::Comparison {
        let whole = merge::compare(typed.schema, typed.ty, live, new);
        merge::Comparison {
            removed: self.filter(whole.removed),
            modified: self.filter(whole.modified),
            added: self.filter(whole.added),
        }
    }
}

/// What makes a manager's request.
pub(crate) struct By<'a> {
    pub(crate) manager: &'a str,
    pub(crate) version: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) now: Timestamp,
}

/// The types that merging goes by.
#[derive(Clone, Copy)]
pub(crate) struct Typed<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) ty: TypeId,
}

/// Accounts what changed between two objects to its manager. Neither object has its entries.
pub(crate) fn updated(
    typed: Typed<'_>,
    live: &Value,
    new: &Value,
    managed: &Managed,
    by: &By<'_>,
    reset: &Reset,
    create: bool,
) -> Managed {
    // Who owned nothing goes on owning nothing: the object was stored by somebody who dropped the entries on purpose.
    if managed.entries.is_empty() && !create {
        return managed.clone();
    }
    let mut out = managed.clone();
    let manager = Manager::new(by.manager, false, by.version, by.subresource);
    let comparison = reset.compare(typed, live, new);
    out.lose(None, &comparison);
    let taken = comparison.modified.union(&comparison.added);
    let own = Manager { name: "current-operation".to_owned(), ..manager.clone() };
    out.entries.insert(own.clone(), Entry { fields: taken, version: by.version.to_owned(), time: None });
    out.strip(&own);
    if let Some(mut entry) = out.entries.remove(&own) {
        if let Some(before) = out.entries.get(&manager) {
            entry.fields = entry.fields.union(&before.fields);
        }
        // The real server's handler of scales does not say when.
        entry.time = (by.subresource != "scale").then(|| crate::time::seconds(by.now));
        out.entries.insert(manager, entry);
    }
    out.cap();
    out
}

/// Why an apply was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Conflicts(Vec<Conflict>),
    /// The configuration does not fit the type.
    Unfit(Vec<Fault>),
    Merge(Fault),
}

/// Merges a configuration into an object. Neither has entries; `live` is an object without content for a create.
///
/// The object comes back whole, or nothing when it is as before.
pub(crate) fn apply(
    typed: Typed<'_>,
    live: &Value,
    config: &Value,
    managed: Managed,
    by: &By<'_>,
    reset: &Reset,
    force: bool,
) -> Result<(Option<Value>, Managed), Refusal> {
    let Typed { schema, ty } = typed;
    let faults = merge::check(schema, ty, config, false);
    if !faults.is_empty() {
        return Err(Refusal::Unfit(faults));
    }
    let mut out = managed;
    if out.entries.is_empty() && exists(live) {
        // Somebody stored it without entries: what it has now belongs to nobody who applies.
        let before = Manager::new("before-first-apply", false, by.version, "");
        let empty = json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {}});
        let added = merge::compare(schema, ty, &empty, live).added;
        let entry = Entry {
            fields: reset.filter(added),
            version: by.version.to_owned(),
            time: Some(crate::time::seconds(by.now)),
        };
        out.entries.insert(before.clone(), entry);
        out.strip(&before);
    }
    let manager = Manager::new(by.manager, true, by.version, by.subresource);
    let merged = merge::merge(schema, ty, live, config).map_err(Refusal::Merge)?;
    let last = out.entries.remove(&manager);
    let fields = reset.filter(merge::field_set(schema, ty, config));
    let time = last.as_ref().and_then(|last| last.time.clone());
    // Who wants all that he wanted before leaves nothing behind to prune, whoever else owns what: the set of a
    // configuration has with each field the items and keys on the way to it.
    let leaves_some = last.as_ref().is_some_and(|last| !last.fields.is_within(&fields));
    out.entries.insert(manager.clone(), Entry { fields, version: by.version.to_owned(), time });
    let new = match &last {
        Some(last) if leaves_some => prune(typed, &merged, &out, &last.fields),
        Some(_) | None => merged,
    };
    let comparison = reset.compare(typed, live, &new);
    let changed = comparison.modified.union(&comparison.added);
    let mut conflicts = Vec::new();
    for (other, entry) in out.entries.iter().filter(|(other, _)| **other != manager) {
        let paths = entry.fields.intersection(&changed).paths();
        conflicts.extend(paths.into_iter().map(|path| Conflict { manager: other.clone(), path }));
    }
    if by.manager == "kubectl" && !conflicts.is_empty() {
        // What `kubectl apply` applied from the client's side, and nobody changed since, is its own.
        let own = last_applied(typed, live);
        let left: Vec<Conflict> = conflicts.iter().filter(|conflict| !own.has_path(&conflict.path)).cloned().collect();
        conflicts = left;
    }
    if !force && !conflicts.is_empty() {
        return Err(Refusal::Conflicts(conflicts));
    }
    out.lose(Some(&manager), &comparison);
    out.strip(&manager);
    if new == *live {
        return Ok((None, out));
    }
    if let Some(entry) = out.entries.get_mut(&manager) {
        entry.time = Some(crate::time::seconds(by.now));
    }
    Ok((Some(new), out))
}

/// Whether the object is stored already: it has a uid.
fn exists(live: &Value) -> bool {
    live["metadata"]["uid"].is_string()
}

/// Takes away what this manager applied last time, does not now, and nobody else owns.
fn prune(typed: Typed<'_>, merged: &Value, managed: &Managed, last: &FieldSet) -> Value {
    let Typed { schema, ty } = typed;
    let named = |set: &FieldSet| merge::with_named(schema, ty, set);
    let set_of = |value: &Value| named(&merge::field_set(schema, ty, value));
    let pruned = merge::remove(schema, ty, merged, &named(last));
    // What anybody owns comes back.
    let owned = managed.entries.values().fold(FieldSet::default(), |all, entry| all.union(&entry.fields));
    let all = set_of(merged);
    let gone = all.difference(&set_of(&pruned).union(&named(&owned)));
    let pruned = merge::remove(schema, ty, merged, &gone);
    // And so does what was not this manager's.
    let gone = all.difference(&set_of(&pruned)).intersection(&named(last));
    merge::remove(schema, ty, merged, &gone)
}

/// The fields of the last client-side apply that still have the values it gave them.
fn last_applied(typed: Typed<'_>, live: &Value) -> FieldSet {
    let Some(text) = live["metadata"]["annotations"][LAST_APPLIED].as_str() else { return FieldSet::default() };
    let Ok(applied) = serde_json::from_str::<Value>(text) else { return FieldSet::default() };
    if applied["apiVersion"] != live["apiVersion"] || !merge::check(typed.schema, typed.ty, &applied, true).is_empty() {
        return FieldSet::default();
    }
    let changed = merge::compare(typed.schema, typed.ty, &applied, live);
    merge::field_set(typed.schema, typed.ty, &applied)
        .difference(&changed.modified)
        .difference(&changed.added)
        .difference(&changed.removed)
}

#[cfg(test)]
mod tests;
