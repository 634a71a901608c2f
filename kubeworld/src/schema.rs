//! What values of a kind look like, as far as merging, defaulting and checking need to know.
//!
//! Made from OpenAPI v3: the server's own documents for the built-in kinds, `openAPIV3Schema` for custom ones. A type
//! says for each of the three forms of a value (scalar, list, map) whether it may take that form, and how; that is what
//! structured merging is defined over (KEP-555). Types lie in one list and name each other by position, since some
//! contain themselves.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

/// The position of a type in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeId(usize);

/// All types of a schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    types: Vec<Type>,
    named: BTreeMap<String, TypeId>,
    /// By group, version and kind, where a component names its own.
    kinds: BTreeMap<(String, String, String), TypeId>,
    /// The fields that every object has, where objects can be within others.
    of_objects: Vec<(&'static str, TypeId)>,
}

/// Which forms a value may take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Type {
    pub(crate) scalar: Option<Scalar>,
    pub(crate) list: Option<List>,
    pub(crate) map: Option<Map>,
    /// The last part of the component's name, as Go calls the type; empty for types without a name.
    pub(crate) name: String,
    /// Whether the component is nothing but this scalar (`Quantity`, `Time`): what it is.
    pub(crate) format: Format,
}

/// What a scalar may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Untyped,
    String,
    Number,
    Boolean,
}

/// What a scalar means beyond its JSON type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Plain,
    Int32,
    Int64,
    Double,
    Bytes,
    DateTime,
    IntOrString,
    Quantity,
}

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) element: TypeId,
    pub(crate) kind: ListKind,
}

/// How items of a list are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// The list is one value.
    Atomic,
    /// By their values.
    Set,
    /// By these fields.
    Map(Vec<String>),
}

/// A struct, a map, or both.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) fields: BTreeMap<String, Field>,
    /// The type of what `fields` does not name; without one, nothing else may be there.
    pub(crate) element: Option<TypeId>,
    /// The map is one value.
    pub(crate) atomic: bool,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) ty: TypeId,
    pub(crate) default: Option<Value>,
    /// How strategic merge patches treat it.
    pub(crate) patch: PatchStrategy,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PatchStrategy {
    pub(crate) merge: bool,
    pub(crate) retain_keys: bool,
    pub(crate) merge_key: Option<String>,
}

/// Free-form values whose maps merge by key.
const DEDUCED: TypeId = TypeId(0);
/// Free-form values that are one whole.
const UNTYPED: TypeId = TypeId(1);

impl Schema {
    fn empty() -> Self {
        let free = |element, atomic| Type {
            scalar: Some(Scalar::Untyped),
            list: Some(List { element: UNTYPED, kind: ListKind::Atomic }),
            map: Some(Map { fields: BTreeMap::new(), element: Some(element), atomic }),
            ..Type::default()
        };
        Self { types: vec![free(DEDUCED, false), free(UNTYPED, true)], ..Self::default() }
    }

    /// Takes in the `components.schemas` of an OpenAPI v3 document, which names only what itself or an earlier one has.
    pub(crate) fn take_in(&mut self, components: &Value) {
        let mut overrides = Vec::new();
        let mut fresh = Vec::new();
        for (name, component) in components.as_object().into_iter().flatten() {
            if !self.named.contains_key(name) {
                let id = self.push(Type::default());
                self.named.insert(name.clone(), id);
                fresh.push((id, name, component));
            }
        }
        for (id, name, component) in fresh {
            let mut made = match name.as_str() {
                "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
                    Type { scalar: Some(Scalar::Untyped), format: Format::Quantity, ..Type::default() }
                }
                "io.k8s.apimachinery.pkg.runtime.RawExtension" => self.types[UNTYPED.0].clone(),
                _ => self.parse(component, false, &mut overrides),
            };
            made.name = name.rsplit('.').next().unwrap_or(name).to_owned();
            self.types[id.0] = made;
            for own in component["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |key: &str| own[key].as_str().unwrap_or_default().to_owned();
                self.kinds.insert((text("group"), text("version"), text("kind")), id);
            }
        }
        self.settle(overrides);
    }

    /// The schema of a custom kind, with the type of its objects. `meta` is the built-in schema, whose `ObjectMeta` the
    /// objects have.
    pub(crate) fn from_custom(structural: &Value, meta: &Self) -> (Self, TypeId) {
        let mut schema = Self::empty();
        let object_meta = meta.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let object_meta = object_meta.map_or(DEDUCED, |id| schema.adopt(meta, id, &mut BTreeMap::new()));
        let text = schema.push(Type { scalar: Some(Scalar::String), ..Type::default() });
        schema.of_objects = vec![("apiVersion", text), ("kind", text), ("metadata", object_meta)];
        let mut overrides = Vec::new();
        let mut made = schema.parse(structural, false, &mut overrides);
        schema.make_object(made.map.get_or_insert_with(|| Map {
            fields: BTreeMap::new(),
            element: None,
            atomic: false,
        }));
        let root = schema.push(made);
        schema.settle(overrides);
        (schema, root)
    }

    /// Gives a map the fields that every object has.
    fn make_object(&self, map: &mut Map) {
        for (name, ty) in &self.of_objects {
            let field = Field { ty: *ty, default: None, patch: PatchStrategy::default() };
            map.fields.insert((*name).to_owned(), field);
        }
    }

    /// A copy of another schema's type, with all that it names.
    fn adopt(&mut self, from: &Self, id: TypeId, known: &mut BTreeMap<usize, TypeId>) -> TypeId {
        if id == DEDUCED || id == UNTYPED {
            return id;
        }
        if let Some(own) = known.get(&id.0) {
            return *own;
        }
        let own = self.push(Type::default());
        known.insert(id.0, own);
        let mut copy = from.types[id.0].clone();
        if let Some(list) = &mut copy.list {
            list.element = self.adopt(from, list.element, known);
        }
        if let Some(map) = &mut copy.map {
            map.element = map.element.map(|element| self.adopt(from, element, known));
            for field in map.fields.values_mut() {
                field.ty = self.adopt(from, field.ty, known);
            }
        }
        self.types[own.0] = copy;
        own
    }

    pub(crate) fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0]
    }

    /// A component by its name.
    pub(crate) fn find(&self, name: &str) -> Option<TypeId> {
        self.named.get(name).copied()
    }

    /// The type of a kind.
    pub(crate) fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        self.kinds.get(&(group.to_owned(), version.to_owned(), kind.to_owned())).copied()
    }

    fn push(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        TypeId(self.types.len() - 1)
    }

    /// A use of a type may overrule whether its map is atomic: such a use gets a copy of its own, once all are there.
    fn settle(&mut self, overrides: Vec<(TypeId, TypeId, bool)>) {
        for (copy, of, atomic) in overrides {
            let mut ty = self.types[of.0].clone();
            if let Some(map) = &mut ty.map {
                map.atomic = atomic;
            }
            self.types[copy.0] = ty;
        }
    }

    fn parse(&mut self, node: &Value, preserve: bool, overrides: &mut Vec<(TypeId, TypeId, bool)>) -> Type {
        let preserve = preserve || node["x-kubernetes-preserve-unknown-fields"] == true;
        let format = match node["format"].as_str() {
            Some("int32") => Format::Int32,
            Some("int64") => Format::Int64,
            Some("double") => Format::Double,
            Some("byte") => Format::Bytes,
            Some("date-time") => Format::DateTime,
            Some("int-or-string") => Format::IntOrString,
            _ => Format::Plain,
        };
        if node["x-kubernetes-int-or-string"] == true {
            return Type { scalar: Some(Scalar::Untyped), format: Format::IntOrString, ..Type::default() };
        }
        let scalar = |scalar| Type { scalar: Some(scalar), format, ..Type::default() };
        match node["type"].as_str() {
            Some("object") => Type { map: Some(self.parse_map(node, preserve, overrides)), ..Type::default() },
            Some("array") => Type { list: Some(self.parse_list(node, preserve, overrides)), ..Type::default() },
            Some("integer" | "number") => scalar(Scalar::Number),
            Some("boolean") => scalar(Scalar::Boolean),
            Some("string") => match format {
                Format::Plain | Format::Bytes if !node["format"].is_string() || format == Format::Bytes => {
                    scalar(Scalar::String)
                }
                Format::Plain
                | Format::Bytes
                | Format::Int32
                | Format::Int64
                | Format::Double
                | Format::DateTime
                | Format::IntOrString
                | Format::Quantity => scalar(Scalar::Untyped),
            },
            _ => Type {
                scalar: Some(Scalar::Untyped),
                list: Some(self.parse_list(node, preserve, overrides)),
                map: Some(self.parse_map(node, preserve, overrides)),
                format,
                ..Type::default()
            },
        }
    }

    fn parse_map(&mut self, node: &Value, preserve: bool, overrides: &mut Vec<(TypeId, TypeId, bool)>) -> Map {
        let mut fields = BTreeMap::new();
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let strategy = field["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
            let patch = PatchStrategy {
                merge: strategy.split(',').any(|word| word == "merge"),
                retain_keys: strategy.split(',').any(|word| word == "retainKeys"),
                merge_key: field["x-kubernetes-patch-merge-key"].as_str().map(ToOwned::to_owned),
            };
            let ty = self.refer(field, preserve, overrides);
            fields.insert(name.clone(), Field { ty, default: field.get("default").cloned(), patch });
        }
        let element = match node.get("additionalProperties") {
            None if preserve || fields.is_empty() => Some(DEDUCED),
            Some(Value::Bool(true)) => Some(DEDUCED),
            None | Some(Value::Bool(false)) => None,
            Some(element) => Some(self.refer(element, preserve, overrides)),
        };
        let mut map = Map { fields, element, atomic: node["x-kubernetes-map-type"] == "atomic" };
        if node["x-kubernetes-embedded-resource"] == true {
            self.make_object(&mut map);
        }
        map
    }

    fn parse_list(&mut self, node: &Value, preserve: bool, overrides: &mut Vec<(TypeId, TypeId, bool)>) -> List {
        let element = match node.get("items") {
            Some(items) => self.refer(items, preserve, overrides),
            None => UNTYPED,
        };
        let strategy = node["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
        let kind = match node["x-kubernetes-list-type"].as_str() {
            Some("set") => ListKind::Set,
            Some("map") => {
                let keys = node["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                ListKind::Map(keys.filter_map(|key| key.as_str().map(ToOwned::to_owned)).collect())
            }
            None if matches!(strategy, "merge" | "merge,retainKeys") => {
                match node["x-kubernetes-patch-merge-key"].as_str() {
                    Some(key) => ListKind::Map(vec![key.to_owned()]),
                    None => ListKind::Set,
                }
            }
            _ => ListKind::Atomic,
        };
        List { element, kind }
    }

    /// The type that a field or an element has: another component, or one without a name.
    fn refer(&mut self, node: &Value, preserve: bool, overrides: &mut Vec<(TypeId, TypeId, bool)>) -> TypeId {
        let target = match node["$ref"].as_str() {
            Some(target) => Some(target),
            None => match node["allOf"].as_array().map(Vec::as_slice) {
                Some([one]) => one["$ref"].as_str(),
                _ => None,
            },
        };
        let target = target.and_then(|target| self.find(target.rsplit('/').next().unwrap_or(target)));
        match (target, node["x-kubernetes-map-type"].as_str()) {
            (Some(target), None) => target,
            (Some(target), Some(kind)) => {
                let copy = self.push(Type::default());
                overrides.push((copy, target, kind == "atomic"));
                copy
            }
            (None, _) => {
                let inline = self.parse(node, preserve, overrides);
                self.push(inline)
            }
        }
    }
}

impl Type {
    /// The form that a value takes, where the type allows it; all forms where it does not, or where there is no value.
    fn forms(&self, value: Option<&Value>) -> (Option<Scalar>, Option<&List>, Option<&Map>) {
        match value {
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if self.scalar.is_some() => {
                (self.scalar, None, None)
            }
            Some(Value::Array(_)) if self.list.is_some() => (None, self.list.as_ref(), None),
            Some(Value::Object(_)) if self.map.is_some() => (None, None, self.map.as_ref()),
            Some(_) | None => (self.scalar, self.list.as_ref(), self.map.as_ref()),
        }
    }

    /// The one form in which a value is walked.
    pub(crate) fn form(&self, value: Option<&Value>) -> Form<'_> {
        match self.forms(value) {
            (_, _, Some(map)) => Form::Map(map),
            (Some(_), _, None) => Form::Scalar,
            (None, Some(list), None) => Form::List(list),
            (None, None, None) => Form::Scalar,
        }
    }
}

/// One form of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    Scalar,
    List(&'a List),
    Map(&'a Map),
}

impl Form<'_> {
    pub(crate) fn same_as(self, other: Form<'_>) -> bool {
        matches!(
            (self, other),
            (Form::Scalar, Form::Scalar) | (Form::List(_), Form::List(_)) | (Form::Map(_), Form::Map(_))
        )
    }
}

impl Map {
    /// The type of what is under this key.
    pub(crate) fn under(&self, key: &str) -> Option<TypeId> {
        self.fields.get(key).map(|field| field.ty).or(self.element)
    }
}

/// The types of all built-in kinds.
pub(crate) fn built_in() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = Schema::empty();
        for (path, _) in crate::data::openapi_paths() {
            let document = crate::data::openapi(path).and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(document) = document {
                schema.take_in(&document["components"]["schemas"]);
            }
        }
        schema
    })
}

#[cfg(test)]
mod tests;
