//! Custom kinds: what a CustomResourceDefinition says of the objects of one version.
//!
//! [`prune`], [`default`], [`validate`] and [`prepare_update`] are what a server does to such an object, in this order
//! around what it does to every object. [`Customs`] are all of them; [`establish`] is what makes a definition one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_cel::{CompiledSchema, RootContext, Validator, compile_schema};
use serde_json::{Map, Value, json};

use crate::managed::Typed;
use crate::registry::by_priority;
use crate::schema::{self, Schema, TypeId};
use crate::status::Cause;

mod validate;

pub(crate) use validate::validate;

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
    pub(crate) structural: Value,
    pub(crate) deprecation: Option<String>,
    rules: CompiledSchema,
    schema: Schema,
    root: TypeId,
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

    /// The rules of one version of a definition; nothing where it has no such version that is served.
    fn of(definition: &Value, version: &Value) -> Self {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        let accepted = &definition["status"]["acceptedNames"];
        let kind = text(&spec["names"]["kind"]);
        let names = Names {
            plural: text(&spec["names"]["plural"]),
            singular: match text(&spec["names"]["singular"]) {
                empty if empty.is_empty() => kind.to_ascii_lowercase(),
                singular => singular,
            },
            list_kind: match text(&spec["names"]["listKind"]) {
                empty if empty.is_empty() => format!("{kind}List"),
                list_kind => list_kind,
            },
            kind,
            short_names: texts(&accepted["shortNames"]),
            categories: texts(&accepted["categories"]),
        };
        let structural = version["schema"]["openAPIV3Schema"].clone();
        let (schema, root) = Schema::from_custom(&structural, schema::built_in());
        let subresources = &version["subresources"];
        let scale = &subresources["scale"];
        Self {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            namespaced: spec["scope"] == "Namespaced",
            has_status: subresources["status"].is_object(),
            scale: scale.is_object().then(|| Scale {
                spec: Path::parse(&text(&scale["specReplicasPath"])),
                status: Path::parse(&text(&scale["statusReplicasPath"])),
                selector: scale["labelSelectorPath"].as_str().filter(|path| !path.is_empty()).map(Path::parse),
            }),
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
            selectable: version["selectableFields"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|field| Path::parse(&text(&field["jsonPath"])))
                .collect(),
            deprecation: (version["deprecated"] == true).then(|| match version["deprecationWarning"].as_str() {
                Some(warning) => warning.to_owned(),
                None => {
                    let (group, name) = (text(&spec["group"]), text(&version["name"]));
                    format!("{group}/{name} {} is deprecated", text(&spec["names"]["kind"]))
                }
            }),
            rules: compile_schema(&structural),
            structural,
            schema,
            root,
            names,
        }
    }

    /// What a rule of the definition refuses.
    fn broken_rules(&self, new: &Value, old: Option<&Value>) -> Vec<Cause> {
        thread_local! {
            static VALIDATOR: Validator = Validator::new();
        }
        let root = RootContext {
            api_version: crate::registry::api_version(&self.group, &self.version),
            api_group: self.group.clone(),
            kind: self.names.kind.clone(),
        };
        let result =
            VALIDATOR.with(|validator| validator.validate_compiled_with_context(&self.rules, new, old, Some(&root)));
        let Err(errors) = result else { return Vec::new() };
        errors.into_vec().iter().map(|error| validate::of_rule(new, error)).collect()
    }
}

/// All custom kinds, by the name of their definition.
#[derive(Debug, Default)]
pub(crate) struct Customs {
    by_name: BTreeMap<String, Vec<Arc<Custom>>>,
}

impl Customs {
    /// Takes a definition in, or out when it is not established. True when something changed.
    pub(crate) fn take(&mut self, name: &str, definition: Option<&Value>) -> bool {
        let established = definition.is_some_and(|definition| has_condition(definition, "Established"));
        match definition.filter(|_| established) {
            Some(definition) => {
                let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
                let customs = versions
                    .filter(|version| version["served"] == true)
                    .map(|version| Arc::new(Custom::of(definition, version)))
                    .collect();
                self.by_name.insert(name.to_owned(), customs);
                true
            }
            None => self.by_name.remove(name).is_some(),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Custom>> {
        self.by_name.values().flatten().cloned().collect()
    }
}

pub(crate) fn has_condition(definition: &Value, kind: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// The finalizer that keeps a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The definition as the controllers of the API server complete it: accepted names, conditions, stored versions, and
/// the finalizer. `others` are the other definitions. `None` when it is complete.
pub(crate) fn establish(definition: &Value, others: &[Value], now: &Value) -> Option<Value> {
    let mut out = definition.clone();
    let spec = definition["spec"].clone();
    let (accepted, conflict) = accept(definition, others);
    out["status"]["acceptedNames"] = accepted;
    let storage = spec["versions"].as_array().into_iter().flatten().find(|version| version["storage"] == true);
    let storage = storage.map(|version| version["name"].clone()).unwrap_or_default();
    let mut stored: Vec<Value> = definition["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    out["status"]["storedVersions"] = json!(stored);
    let (names, established) = match &conflict {
        None => (
            condition("NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
            condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now),
        ),
        Some((reason, message)) => (
            condition("NamesAccepted", "False", reason, message, now),
            condition("Established", "False", "NotAccepted", "not all names are accepted", now),
        ),
    };
    set_condition(&mut out, names);
    // Once established, always established.
    if !has_condition(&out, "Established") {
        set_condition(&mut out, established);
    }
    if has_condition(&out, "Established") && out["metadata"]["deletionTimestamp"].is_null() {
        let finalizers = &mut out["metadata"]["finalizers"];
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|one| one == CLEANUP)
        {
            finalizers.push(json!(CLEANUP));
        }
    }
    (out != *definition).then_some(out)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: &Value) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

fn set_condition(definition: &mut Value, new: Value) {
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|own| own["type"] == new["type"]) {
        Some(own) if own["status"] == new["status"] && own["reason"] == new["reason"] => {}
        Some(own) => *own = new,
        None => conditions.push(new),
    }
}

/// The names that are free, and what is wrong with the others.
fn accept(definition: &Value, others: &[Value]) -> (Value, Option<(&'static str, String)>) {
    let names = &definition["spec"]["names"];
    let group = &definition["spec"]["group"];
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    let strings = |value: &Value| -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) => items.iter().filter_map(|item| item.as_str().map(ToOwned::to_owned)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        }
    };
    for other in others {
        if other["spec"]["group"] != *group || other["metadata"]["name"] == definition["metadata"]["name"] {
            continue;
        }
        let accepted = &other["status"]["acceptedNames"];
        for key in ["plural", "singular", "shortNames"] {
            taken.extend(strings(&accepted[key]));
        }
        for key in ["kind", "listKind"] {
            kinds.extend(strings(&accepted[key]));
        }
    }
    let mut accepted = names.clone();
    let before = &definition["status"]["acceptedNames"];
    let mut conflict = None;
    for (key, pool, reason) in [
        ("plural", &taken, "PluralConflict"),
        ("singular", &taken, "SingularConflict"),
        ("shortNames", &taken, "ShortNamesConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let clash: Vec<String> = strings(&names[key]).into_iter().filter(|name| pool.contains(name)).collect();
        if let Some(first) = clash.first() {
            conflict.get_or_insert((reason, format!("{first:?} is already in use")));
            accepted[key] = before[key].clone();
        }
    }
    (accepted, conflict)
}

/// Takes out what the schema does not name, and says what it was.
pub(crate) fn prune(custom: &Custom, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_metadata(&mut value["metadata"], "metadata", &mut unknown);
    if let Some(fields) = value.as_object_mut() {
        prune_fields(&custom.structural, fields, true, "", &mut unknown);
    }
    unknown
}

/// Metadata is a built-in type, in custom objects and in embedded ones.
fn prune_metadata(metadata: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let schema = schema::built_in();
    let Some(ty) = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") else { return };
    // Wrong types are for the validation to report.
    let found = crate::decode::fit(schema, ty, metadata).unwrap_or_default();
    for field in found {
        let inner = field.trim_start_matches("unknown field \"").trim_end_matches('"').to_owned();
        unknown.push(format!("unknown field \"{path}.{inner}\""));
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
        for key in ["labels", "annotations"] {
            if metadata.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
                metadata.remove(key);
            }
        }
        for key in ["finalizers", "ownerReferences"] {
            if metadata.get(key).and_then(Value::as_array).is_some_and(Vec::is_empty) {
                metadata.remove(key);
            }
        }
    }
}

fn prune_at(node: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let embedded = node["x-kubernetes-embedded-resource"] == true;
            if embedded && let Some(metadata) = fields.get_mut("metadata") {
                prune_metadata(metadata, &joined(path, "metadata"), unknown);
            }
            prune_fields(node, fields, embedded, path, unknown);
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                prune_at(&node["items"], item, &format!("{path}[{at}]"), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn prune_fields(node: &Value, fields: &mut Map<String, Value>, is_object: bool, path: &str, unknown: &mut Vec<String>) {
    let own = |key: &str| is_object && matches!(key, "apiVersion" | "kind" | "metadata");
    let additional = node.get("additionalProperties");
    let keeps = node["x-kubernetes-preserve-unknown-fields"] == true;
    let strange: Vec<String> = fields
        .keys()
        .filter(|key| !own(key) && node["properties"].get(key.as_str()).is_none())
        .filter(|_| match additional {
            None => !keeps,
            Some(Value::Bool(allowed)) => !allowed,
            Some(_) => false,
        })
        .cloned()
        .collect();
    for key in strange {
        fields.remove(&key);
        unknown.push(format!("unknown field \"{}\"", joined(path, &key)));
    }
    for (key, value) in fields.iter_mut() {
        let below = match (node["properties"].get(key.as_str()), additional) {
            (Some(below), _) => below,
            (None, Some(below)) if below.is_object() => below,
            (None, _) => continue,
        };
        if !own(key) {
            prune_at(below, value, &joined(path, key), unknown);
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Fills in the defaults of the schema, where a field is absent or is null without being allowed to.
pub(crate) fn default(custom: &Custom, value: &mut Value) {
    default_at(&custom.structural, value);
}

fn default_at(node: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, below) in node["properties"].as_object().into_iter().flatten() {
                let default = below.get("default");
                let is_null = fields.get(key).is_some_and(Value::is_null);
                if is_null && below["nullable"] != true && default.is_some() {
                    fields.remove(key);
                }
                if let Some(default) = default
                    && !fields.contains_key(key)
                {
                    fields.insert(key.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(key) {
                    default_at(below, value);
                }
            }
            let additional = &node["additionalProperties"];
            if additional.is_object() {
                for (key, value) in fields.iter_mut() {
                    if node["properties"].get(key.as_str()).is_none() {
                        default_at(additional, value);
                    }
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| default_at(&node["items"], item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
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

/// Versions in the order of discovery.
pub(crate) fn sorted_versions(definition: &Value) -> Vec<String> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let mut out: Vec<String> = versions.filter_map(|version| version["name"].as_str().map(ToOwned::to_owned)).collect();
    out.sort_by(|a, b| by_priority(a, b));
    out
}
