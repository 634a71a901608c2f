//! Which resources there are: the built-in ones, as a real server's discovery lists them, and those that
//! CustomResourceDefinitions add.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::custom::Custom;
use crate::kinds::Kind;
use crate::managed::Typed;
use crate::schema::{self, TypeId};
use crate::table::Printer;

/// A resource in one version.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    /// The plural, as paths have it.
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
    pub(crate) subresources: Vec<Subresource>,
    /// Where its objects lie: the same for all versions, and for `events` of both groups.
    pub(crate) table: String,
    shape: Shape,
}

/// Something under an object's path.
#[derive(Clone, Debug)]
pub(crate) struct Subresource {
    pub(crate) name: String,
    /// The kind that it speaks, with its own group and version.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) verbs: Vec<String>,
}

#[derive(Debug)]
enum Shape {
    /// The type of what is stored, and that of what goes over the wire: for most kinds the same.
    BuiltIn(Option<TypeId>, Option<TypeId>),
    Custom(Arc<Custom>),
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// How an object of it begins.
    pub(crate) fn head(&self) -> String {
        format!("{{\"kind\":{},\"apiVersion\":{},", Value::from(self.kind.as_str()), Value::from(self.api_version()))
    }

    /// The value of an object, with its kind and this version.
    pub(crate) fn value(&self, object: &crate::store::Object) -> Value {
        let mut value = object.value();
        if let Some(custom) = self.custom() {
            custom.read(&mut value, object.revision);
        }
        value["kind"] = Value::from(self.kind.as_str());
        value["apiVersion"] = Value::from(self.api_version());
        value
    }

    /// The kind of what is stored.
    pub(crate) fn as_kind(&self) -> Kind<'_> {
        let (group, version) = stored_as(&self.group, &self.version);
        Kind { group, version, kind: &self.kind }
    }

    /// How its objects are laid out for people.
    pub(crate) fn printer(&self) -> Printer {
        match &self.shape {
            Shape::BuiltIn(_, _) => Printer::built_in(&self.group, &self.version, &self.plural),
            Shape::Custom(custom) => Printer::custom(&custom.columns),
        }
    }

    /// What merging goes by; nothing for the few kinds that nobody stores.
    pub(crate) fn typed(&self) -> Option<Typed<'_>> {
        match &self.shape {
            Shape::BuiltIn(ty, _) => ty.map(|ty| Typed { schema: schema::built_in(), ty }),
            Shape::Custom(custom) => Some(custom.typed()),
        }
    }

    /// The same for what clients send, which for few kinds is not what is stored.
    pub(crate) fn typed_on_the_wire(&self) -> Option<Typed<'_>> {
        match &self.shape {
            Shape::BuiltIn(_, ty) => ty.map(|ty| Typed { schema: schema::built_in(), ty }),
            Shape::Custom(custom) => Some(custom.typed()),
        }
    }

    pub(crate) fn custom(&self) -> Option<&Arc<Custom>> {
        match &self.shape {
            Shape::BuiltIn(_, _) => None,
            Shape::Custom(custom) => Some(custom),
        }
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// A custom resource.
    pub(crate) fn of_custom(custom: Arc<Custom>) -> Self {
        let names = &custom.names;
        let verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
        let mut subresources = Vec::new();
        let some = |verbs: &[&str]| verbs.iter().map(|verb| (*verb).to_owned()).collect::<Vec<_>>();
        if custom.has_status {
            subresources.push(Subresource {
                name: "status".to_owned(),
                group: custom.group.clone(),
                version: custom.version.clone(),
                kind: names.kind.clone(),
                verbs: some(&["get", "patch", "update"]),
            });
        }
        if custom.scale.is_some() {
            subresources.push(Subresource {
                name: "scale".to_owned(),
                group: "autoscaling".to_owned(),
                version: "v1".to_owned(),
                kind: "Scale".to_owned(),
                verbs: some(&["get", "patch", "update"]),
            });
        }
        Self {
            group: custom.group.clone(),
            version: custom.version.clone(),
            plural: names.plural.clone(),
            kind: names.kind.clone(),
            list_kind: names.list_kind.clone(),
            singular: names.singular.clone(),
            short_names: names.short_names.clone(),
            categories: names.categories.clone(),
            namespaced: custom.namespaced,
            verbs: some(&verbs),
            subresources,
            table: format!("{}/{}", custom.group, names.plural),
            shape: Shape::Custom(custom),
        }
    }
}

/// The group and version in whose form objects of another are stored: see [`crate::convert`].
fn stored_as<'a>(group: &'a str, version: &'a str) -> (&'a str, &'a str) {
    match (group, version) {
        ("events.k8s.io", _) => ("", "v1"),
        ("autoscaling", "v1") => ("autoscaling", "v2"),
        other => other,
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All resources, by group, version and plural.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
    /// Groups in the order in which discovery lists them, each with its versions, the preferred first.
    groups: Vec<(String, Vec<String>)>,
}

impl Registry {
    /// The built-in ones.
    pub(crate) fn built_in() -> &'static Self {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| {
            let discovery = crate::data::discovery();
            let mut out = Self::default();
            for list in ["api", "apis"] {
                for group in items(&discovery[list]["items"]) {
                    out.take_in(group);
                }
            }
            out
        })
    }

    fn take_in(&mut self, group: &Value) {
        let name = text(&group["metadata"]["name"]);
        let mut versions = Vec::new();
        for version in items(&group["versions"]) {
            let version_name = text(&version["version"]);
            versions.push(version_name.clone());
            for resource in items(&version["resources"]) {
                let made = of_discovery(&name, &version_name, resource);
                let key = (name.clone(), version_name.clone(), made.plural.clone());
                self.resources.insert(key, Arc::new(made));
            }
        }
        self.groups.push((name, versions));
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// A resource in its preferred version, whose kind this is.
    pub(crate) fn of_kind<'a>(&'a self, group: &'a str, version: &'a str, kind: &str) -> Option<&'a Arc<Resource>> {
        self.of_version(group, version).find(|resource| resource.kind == kind && !resource.verbs.is_empty())
    }

    /// All resources of a group and version, by plural.
    pub(crate) fn of_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> + 'a {
        let from = (group.to_owned(), version.to_owned(), String::new());
        let of = move |key: &&(String, String, String)| key.0 == group && key.1 == version;
        self.resources.range(from..).take_while(move |(key, _)| of(key)).map(|(_, resource)| resource)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    pub(crate) fn groups(&self) -> &[(String, Vec<String>)] {
        &self.groups
    }

    pub(crate) fn has_version(&self, group: &str, version: &str) -> bool {
        self.groups.iter().any(|(name, versions)| name == group && versions.iter().any(|one| one == version))
    }

    /// The built-in ones and these.
    pub(crate) fn with(custom: &[Arc<Custom>]) -> Self {
        let mut out = Self::built_in().clone();
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for custom in custom {
            let resource = Resource::of_custom(custom.clone());
            let versions = groups.entry(resource.group.clone()).or_default();
            if !versions.contains(&resource.version) {
                versions.push(resource.version.clone());
            }
            let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
            out.resources.insert(key, Arc::new(resource));
        }
        for (group, mut versions) in groups {
            versions.sort_by(|a, b| by_priority(a, b));
            match out.groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, known)) => {
                    let fresh: Vec<String> = versions.into_iter().filter(|one| !known.contains(one)).collect();
                    known.extend(fresh);
                }
                None => out.groups.push((group, versions)),
            }
        }
        out
    }
}

/// Kubernetes' order of versions: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then others by name.
pub(crate) fn by_priority(a: &str, b: &str) -> std::cmp::Ordering {
    fn rank(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        for (word, stage) in [("alpha", 0), ("beta", 1)] {
            if let Some((major, minor)) = rest.split_once(word) {
                return Some((stage, major.parse().ok()?, minor.parse().ok()?));
            }
        }
        Some((2, rest.parse().ok()?, 0))
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

fn of_discovery(group: &str, version: &str, entry: &Value) -> Resource {
    let kind_of = |kind: &Value| {
        let or = |own: &Value, other: &str| match own.as_str() {
            Some("") | None => other.to_owned(),
            Some(own) => own.to_owned(),
        };
        // An empty version means the one that it stands in; an empty group with a version is the core group.
        let of_own = kind["version"].as_str().unwrap_or_default().is_empty();
        let own_group = if of_own { or(&kind["group"], group) } else { text(&kind["group"]) };
        (own_group, or(&kind["version"], version), text(&kind["kind"]))
    };
    let (_, _, kind) = kind_of(&entry["responseKind"]);
    let plural = text(&entry["resource"]);
    let subresources = items(&entry["subresources"]).map(|subresource| {
        let (group, version, kind) = kind_of(&subresource["responseKind"]);
        let name = text(&subresource["subresource"]);
        Subresource { name, group, version, kind, verbs: texts(&subresource["verbs"]) }
    });
    let table = match (group, plural.as_str()) {
        ("events.k8s.io", "events") => "/events".to_owned(),
        _ => format!("{group}/{plural}"),
    };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        list_kind: format!("{kind}List"),
        singular: text(&entry["singularResource"]),
        short_names: texts(&entry["shortNames"]),
        categories: texts(&entry["categories"]),
        namespaced: entry["scope"] == "Namespaced",
        verbs: texts(&entry["verbs"]),
        subresources: subresources.collect(),
        table,
        shape: {
            let (stored_group, stored_version) = stored_as(group, version);
            let of = |group: &str, version: &str| schema::built_in().of_kind(group, version, &kind);
            Shape::BuiltIn(of(stored_group, stored_version), of(group, version))
        },
        kind,
        plural,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(list: &Value) -> Vec<String> {
    items(list).map(text).collect()
}
