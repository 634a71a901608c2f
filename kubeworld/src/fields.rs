//! Sets of fields, as `metadata.managedFields` has them (KEP-555, `FieldsV1`).
//!
//! A set is a tree. That a node is in the tree does not make it a member: `spec.replicas` may be in the set without
//! `spec`. Ordered throughout, so that equal sets have equal bytes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// One step from an object towards a field.
///
/// Shared, since sets are made of each other: a step is copied with each of them, its text is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field of a struct, or a key of a map.
    Field(Arc<str>),
    /// The item of a list whose key fields have these values, sorted by field.
    Key(Arc<[(String, Scalar)]>),
    /// The item of a set with this value.
    Value(Scalar),
    /// The item at this position.
    Index(i64),
}

/// A value that can tell one item of a list from another.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Number(serde_json::Number),
    String(String),
    Bool(bool),
    Null,
}

impl Scalar {
    /// Nothing for lists and maps.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(value) => Some(Self::Number(value.clone())),
            Value::String(value) => Some(Self::String(value.clone())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Number(value) => Value::Number(value.clone()),
            Self::String(value) => Value::String(value.clone()),
            Self::Bool(value) => Value::Bool(*value),
            Self::Null => Value::Null,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::String(_) => 1,
            Self::Bool(_) => 2,
            Self::Null => 3,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                (_, _) => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
            },
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (_, _) => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(f, "{text:?}"),
            Self::Number(_) | Self::Bool(_) | Self::Null => write!(f, "{}", self.to_json()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}

impl Step {
    pub(crate) fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// As a key of `FieldsV1`.
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let fields: Map<String, Value> =
                    fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
                format!("k:{}", Value::Object(fields))
            }
            Self::Value(value) => format!("v:{}", value.to_json()),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    /// Nothing where the text is no step.
    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.into())),
            "k" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let fields: Option<Arc<[_]>> =
                    fields.iter().map(|(name, value)| Some((name.clone(), Scalar::from_json(value)?))).collect();
                Some(Self::Key(fields?))
            }
            "v" => Some(Self::Value(Scalar::from_json(&serde_json::from_str(rest).ok()?)?)),
            "i" => Some(Self::Index(rest.parse().ok()?)),
            _ => None,
        }
    }
}

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    members: BTreeSet<Step>,
    /// None of them is empty.
    children: BTreeMap<Step, Self>,
}

impl FieldSet {
    /// A set of fields of structs, each as its names from the top.
    pub(crate) fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Step::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// The empty path, the object itself, is never a member.
    pub(crate) fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Puts in one step that is not in it yet: as a member, if it is one, and with what is below it.
    pub(crate) fn take_in(&mut self, step: Step, member: bool, below: Self) {
        if member {
            self.members.insert(step.clone());
        }
        if !below.is_empty() {
            self.children.insert(step, below);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub(crate) fn has(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    /// Whether the field at the end of the path is a member.
    pub(crate) fn has_path(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.below(first).is_some_and(|below| below.has_path(rest)),
        }
    }

    /// What is in the set below this step.
    pub(crate) fn below(&self, step: &Step) -> Option<&Self> {
        self.children.get(step)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.members.extend(other.members.iter().cloned());
        for (step, below) in &other.children {
            match out.children.get_mut(step) {
                Some(own) => *own = own.union(below),
                None => drop(out.children.insert(step.clone(), below.clone())),
            }
        }
        out
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(step, below)| {
            let both = below.intersection(other.children.get(step)?);
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        Self { members, children: children.collect() }
    }

    /// A member of `other` takes itself away, and nothing below it.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.subtract(other);
        out
    }

    /// The same in place.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.take_away(other, false);
    }

    /// In place: a member of `other` takes itself away, and all that is below it.
    pub(crate) fn subtract_recursively(&mut self, other: &Self) {
        self.take_away(other, true);
    }

    fn take_away(&mut self, other: &Self, recursive: bool) {
        for member in &other.members {
            self.members.remove(member);
            if recursive {
                self.children.remove(member);
            }
        }
        for (step, theirs) in &other.children {
            if let Some(below) = self.children.get_mut(step) {
                below.take_away(theirs, recursive);
                if below.is_empty() {
                    self.children.remove(step);
                }
            }
        }
    }

    /// With each step on the way for which `named` says so. It is given where the step starts, `at` for the first, and
    /// says besides where it leads.
    pub(crate) fn with_members<T: Copy>(&self, at: T, named: &dyn Fn(T, &Step) -> (bool, T)) -> Self {
        let mut out = Self { members: self.members.clone(), children: BTreeMap::new() };
        for (step, below) in &self.children {
            let (is_named, next) = named(at, step);
            if is_named {
                out.members.insert(step.clone());
            }
            out.children.insert(step.clone(), below.with_members(next, named));
        }
        out
    }

    /// Whether all its members are members of the other one.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.members.is_subset(&other.members)
            && self.children.iter().all(|(step, below)| other.below(step).is_some_and(|theirs| below.is_within(theirs)))
    }

    /// All members, a parent before what is below it.
    pub(crate) fn paths(&self) -> Vec<Vec<Step>> {
        fn walk(set: &FieldSet, path: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
            for member in &set.members {
                path.push(member.clone());
                out.push(path.clone());
                path.pop();
            }
            for (step, below) in &set.children {
                path.push(step.clone());
                walk(below, path, out);
                path.pop();
            }
        }
        let mut out = Vec::new();
        walk(self, &mut Vec::new(), &mut out);
        out
    }

    /// As `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut out = Map::new();
        for member in &self.members {
            out.insert(member.encode(), Value::Object(Map::new()));
        }
        for (step, below) in &self.children {
            let mut below = below.to_json();
            if self.members.contains(step)
                && let Value::Object(below) = &mut below
            {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            out.insert(step.encode(), below);
        }
        Value::Object(out)
    }

    /// From `fieldsV1`; nothing where it is none.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let mut out = Self::default();
        for (key, below) in value.as_object()? {
            if key == "." {
                continue;
            }
            let step = Step::decode(key)?;
            let fields = below.as_object()?;
            if fields.is_empty() || fields.contains_key(".") {
                out.members.insert(step.clone());
            }
            let below = Self::from_json(below)?;
            if !below.is_empty() {
                out.children.insert(step, below);
            }
        }
        Some(out)
    }
}

/// As people read it in messages: `.spec.containers[name="app"].image`.
pub(crate) fn shown(path: &[Step]) -> String {
    path.iter().map(Step::to_string).collect()
}

#[cfg(test)]
mod tests;
