//! Custom kinds: what a CustomResourceDefinition says of the objects of one version.
//!
//! [`prune`], [`default`], [`validate_create`], [`validate_update`] and [`prepare_update`] are what a server does to such
//! an object, around what it does to every object. [`Customs`] are all of them.
//!
//! * [`value`]: a value against its schema; [`formats`] are the texts that mean something.
//! * [`validate`]: an object against its definition.
//! * [`rules`] in CEL, and what they may cost ([`cost`]).
//! * [`prune`](mod@prune): unknown fields, and defaults.
//! * [`establish`]: what makes a definition a kind, and [`lifecycle`], which does it.
//! * [`paths`]: paths within a schema.
//! * [`openapi`]: the schema as others see it.
//!
//! Objects lie in the store in the form of the storage version. Other versions differ in their fields only, as conversion
//! by webhook is absent: a definition may ask for it, and is served as if it had not.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::kinds::fields::{at, list, text, truth};
use crate::managed::Typed;
use crate::registry::by_priority;
use crate::schema::{self, Schema, TypeId};
use crate::status::Cause;

pub(crate) mod cost;
mod establish;
mod formats;
mod lifecycle;
pub(crate) mod openapi;
mod paths;
mod prune;
mod rules;
mod validate;
mod value;

pub(crate) use establish::has_condition;
pub(crate) use formats::is_known_format;
pub(crate) use lifecycle::{delete, is_definition};
pub(crate) use paths::field_path;
pub(crate) use prune::{default, prune, prune_value};
pub(crate) use rules::Rules;
pub(crate) use validate::{Verdict, validate_create, validate_update};
pub(crate) use value::shown;

/// A custom kind in one version.
pub(crate) struct Custom {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) names: Names,
    pub(crate) namespaced: bool,
    pub(crate) has_status: bool,
    pub(crate) scale: Option<Scale>,
    /// `additionalPrinterColumns`, as they are written.
    pub(crate) columns: Vec<Value>,
    pub(crate) selectable: Vec<Path>,
    /// `openAPIV3Schema`.
    pub(crate) structural: Arc<Value>,
    /// What is said to everybody who uses this version.
    pub(crate) deprecation: Option<String>,
    /// The definition is being deleted, so nothing new may come.
    pub(crate) terminating: bool,
    rules: Option<Rules>,
    schema: Schema,
    root: TypeId,
    storage: Storage,
}

/// The version in which objects are stored.
struct Storage {
    version: String,
    structural: Arc<Value>,
    /// Objects that were stored up to this revision may be of an older schema.
    since: u64,
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Custom({}/{} {})", self.group, self.version, self.names.kind)
    }
}

/// What a kind is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
}

/// Where the numbers of the scale subresource lie.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) spec: Path,
    pub(crate) status: Path,
    pub(crate) selector: Option<Path>,
}

/// A path of field names, written `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.split('.').filter(|step| !step.is_empty()).map(ToOwned::to_owned).collect())
    }

    pub(crate) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |at, step| at.get(step))
    }

    /// Sets the value, making the maps on the way.
    pub(crate) fn set(&self, value: &mut Value, to: Value) {
        let mut at = value;
        for step in &self.0 {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[step.as_str()];
        }
        *at = to;
    }

    /// Without the dot at its head.
    pub(crate) fn dotted(&self) -> String {
        self.0.join(".")
    }

    pub(crate) fn steps(&self) -> &[String] {
        &self.0
    }
}

impl Custom {
    pub(crate) fn typed(&self) -> Typed<'_> {
        Typed { schema: &self.schema, ty: self.root }
    }

    /// The rules of one version of a definition.
    fn of(definition: &Value, version: &Value, storage: Storage) -> Self {
        let spec = &definition["spec"];
        let owned = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| value.as_array().into_iter().flatten().map(owned).collect::<Vec<_>>();
        let accepted = &definition["status"]["acceptedNames"];
        let kind = owned(&spec["names"]["kind"]);
        let names = Names {
            plural: owned(&spec["names"]["plural"]),
            singular: match owned(&spec["names"]["singular"]) {
                empty if empty.is_empty() => kind.to_ascii_lowercase(),
                singular => singular,
            },
            list_kind: match owned(&spec["names"]["listKind"]) {
                empty if empty.is_empty() => format!("{kind}List"),
                list_kind => list_kind,
            },
            kind,
            short_names: texts(&accepted["shortNames"]),
            categories: texts(&accepted["categories"]),
        };
        let structural = Arc::new(version["schema"]["openAPIV3Schema"].clone());
        let (schema, root) = Schema::from_custom(&structural, schema::built_in());
        let subresources = &version["subresources"];
        let scale = &subresources["scale"];
        Self {
            group: owned(&spec["group"]),
            version: owned(&version["name"]),
            namespaced: spec["scope"] == "Namespaced",
            has_status: subresources["status"].is_object(),
            scale: scale.is_object().then(|| Scale {
                spec: Path::parse(&owned(&scale["specReplicasPath"])),
                status: Path::parse(&owned(&scale["statusReplicasPath"])),
                selector: scale["labelSelectorPath"].as_str().filter(|path| !path.is_empty()).map(Path::parse),
            }),
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
            selectable: version["selectableFields"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|field| Path::parse(&owned(&field["jsonPath"])))
                .collect(),
            deprecation: truth(version, "deprecated").then(|| match version["deprecationWarning"].as_str() {
                Some(warning) => warning.to_owned(),
                None => default_warning(definition, text(version, "name")),
            }),
            terminating: has_condition(definition, "Terminating"),
            rules: Rules::of(&structural, true),
            structural,
            schema,
            root,
            names,
            storage,
        }
    }

    /// Whether what the store has is not yet what this version shows.
    pub(crate) fn differs(&self, revision: u64) -> bool {
        self.version != self.storage.version || revision <= self.storage.since
    }

    /// What the store has, as this version shows it. Defaults are those of the version in which it is stored.
    pub(crate) fn read(&self, value: &mut Value, revision: u64) {
        if revision <= self.storage.since {
            prune::prune_stored(&self.storage.structural, value);
            prune::default_at(&self.storage.structural, value);
        }
        if self.version != self.storage.version {
            prune::prune_stored(&self.structural, value);
        }
    }

    /// What this version has, as it is stored.
    pub(crate) fn store(&self, value: &mut Value) {
        if self.version != self.storage.version {
            prune::prune_stored(&self.storage.structural, value);
        }
    }
}

/// Which version to use instead of one that will go.
fn default_warning(definition: &Value, version: &str) -> String {
    let spec = at(definition, &["spec"]);
    let (group, kind) = (text(spec, "group"), text(at(spec, &["names"]), "kind"));
    let mut better: Vec<&str> = list(spec, "versions")
        .iter()
        .filter(|other| truth(other, "served") && !truth(other, "deprecated"))
        .map(|other| text(other, "name"))
        .filter(|other| by_priority(other, version).is_lt())
        .collect();
    better.sort_by(|a, b| by_priority(a, b));
    let instead = better.first().map(|better| format!("; use {group}/{better} {kind}")).unwrap_or_default();
    format!("{group}/{version} {kind} is deprecated{instead}")
}

/// All custom kinds, by the name of their definition.
#[derive(Debug, Default)]
pub(crate) struct Customs {
    by_name: BTreeMap<String, Vec<Arc<Custom>>>,
    /// What was served, to see what changes.
    definitions: BTreeMap<String, Value>,
}

impl Customs {
    /// Takes a definition in, or out when it is not established. True when something changed. `revision` is the store's.
    pub(crate) fn take(&mut self, name: &str, definition: Option<&Value>, revision: u64) -> bool {
        let Some(definition) = definition.filter(|definition| has_condition(definition, "Established")) else {
            self.definitions.remove(name);
            return self.by_name.remove(name).is_some();
        };
        let relevant = json!({"spec": definition["spec"], "names": definition["status"]["acceptedNames"],
                              "terminating": has_condition(definition, "Terminating")});
        if self.definitions.get(name) == Some(&relevant) {
            return false;
        }
        let versions = list(at(definition, &["spec"]), "versions");
        let stored = versions.iter().find(|version| truth(version, "storage"));
        let structural = stored.map(|version| at(version, &["schema", "openAPIV3Schema"]).clone()).unwrap_or_default();
        let structural = Arc::new(structural);
        let before = self.by_name.get(name).and_then(|customs| customs.first()).map(|custom| &custom.storage);
        let since = match before {
            Some(before) if before.structural == structural => before.since,
            Some(_) => revision,
            // Nothing can have been stored before there was a kind.
            None => 0,
        };
        let storage = || Storage {
            version: stored.map(|version| text(version, "name").to_owned()).unwrap_or_default(),
            structural: structural.clone(),
            since,
        };
        let customs = versions
            .iter()
            .filter(|version| truth(version, "served"))
            .map(|version| Arc::new(Custom::of(definition, version, storage())))
            .collect();
        self.by_name.insert(name.to_owned(), customs);
        self.definitions.insert(name.to_owned(), relevant);
        true
    }

    pub(crate) fn all(&self) -> Vec<Arc<Custom>> {
        self.by_name.values().flatten().cloned().collect()
    }
}

/// What is wrong with objects within a value.
pub(crate) fn check_embedded(node: &Value, value: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate::check_embedded(node, value, path, &mut causes);
    causes
}

/// What is wrong with a value that stands at a path, by its schema.
pub(crate) fn check_value(node: &Value, value: &Value, path: &str) -> Vec<Cause> {
    value::check(node, value, None, path)
}

/// Which rules of its schema a value breaks that stands at a path, as a new one and as one that did not change.
pub(crate) fn check_rules(node: &Value, value: &Value, path: &str) -> Vec<Cause> {
    let mut verdict = Verdict::default();
    if let Some(rules) = Rules::of(node, false) {
        rules.ask(node, value, Some(value), path, &mut verdict);
        if verdict.causes.is_empty() {
            verdict.warnings.clear();
            rules.ask(node, value, None, path, &mut verdict);
        }
    }
    verdict.causes
}

/// Who owns fields in another version must find there what an apply makes of the object.
///
/// # Errors
/// The first field that another version does not have.
pub(crate) fn check_versions<'a>(
    new: &Value,
    versions: impl Iterator<Item = (&'a str, Option<Typed<'a>>)>,
) -> Result<(), String> {
    for (version, typed) in versions {
        let Some(typed) = typed else { continue };
        let mut converted = new.clone();
        converted["apiVersion"] = json!(version);
        let faults = crate::merge::check(typed.schema, typed.ty, &converted, false);
        if let Some(fault) = faults.first() {
            return Err(format!("failed to convert new object: {}: {}", fault.path, fault.message));
        }
    }
    Ok(())
}

/// What an update of the object, or of its status, may not change; and the generation.
pub(crate) fn prepare_update(has_status: bool, subresource: &str, new: &mut Value, old: &Value) {
    let (Some(fields), Some(before)) = (new.as_object_mut(), old.as_object()) else { return };
    match subresource {
        "status" => {
            // Only the status, and of the metadata the entries of the managers.
            let status = fields.get("status").cloned();
            let entries = fields.get("metadata").and_then(|metadata| metadata.get("managedFields")).cloned();
            *fields = before.clone();
            match status {
                Some(status) => drop(fields.insert("status".to_owned(), status)),
                None => drop(fields.remove("status")),
            }
            if let (Some(entries), Some(metadata)) =
                (entries, fields.get_mut("metadata").and_then(Value::as_object_mut))
            {
                metadata.insert("managedFields".to_owned(), entries);
            }
        }
        _ => {
            if has_status {
                match before.get("status") {
                    Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
                    None => drop(fields.remove("status")),
                }
            }
            let plain = |fields: &Map<String, Value>| {
                let mut fields = fields.clone();
                fields.remove("metadata");
                if has_status {
                    fields.remove("status");
                }
                fields
            };
            if plain(fields) != plain(before) {
                let generation = before["metadata"]["generation"].as_i64().unwrap_or_default();
                fields["metadata"]["generation"] = json!(generation + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
