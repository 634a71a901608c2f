//! Structured merging: what KEP-555 and the structured-merge-diff library define over typed values.
//!
//! Six operations, all pure: [`check`] a value against its type, the [`field_set`] of a value, [`compare`] two values,
//! [`merge`] a configuration into a value, [`remove`] fields from a value, and [`with_named`], which adds to a set the
//! named fields on the way to its members.
//!
//! *Absent* (`None`) and *null* differ: null is a value that fits every type.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::fields::{FieldSet, Scalar, Step};
use crate::schema::{self, Form, List, ListKind, Schema, TypeId};

/// Something in a value that its type does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// How two values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) removed: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) added: FieldSet,
}

/// The step to an item of a list whose items have keys.
pub(crate) fn item_step(schema: &Schema, list: &List, item: &Value) -> Result<Step, String> {
    match &list.kind {
        ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListKind::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Scalar::from_json(item).map(Step::Value).ok_or_else(String::new)
            }
        },
        ListKind::Map(keys) => {
            let fields = match item {
                Value::Object(fields) => fields,
                Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    return Err("associative list with keys may not have non-map elements".to_owned());
                }
            };
            let element = schema.get(list.element).map.as_ref();
            let mut step = Vec::new();
            for key in keys {
                let default = || element?.fields.get(key)?.default.as_ref();
                if let Some(value) = fields.get(key).or_else(default) {
                    let value = Scalar::from_json(value).ok_or_else(|| format!("key {key:?} is no scalar"))?;
                    step.push((key.clone(), value));
                }
            }
            if step.is_empty() {
                let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
                return Err(format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
                     default values for any key fields)",
                    keys.join(" ")
                ));
            }
            step.sort();
            Ok(Step::Key(step.into()))
        }
    }
}

/// What in a value its type does not allow. Duplicates in lists with keys are allowed in what is stored, not in what is
/// applied.
pub(crate) fn check(schema: &Schema, ty: TypeId, value: &Value, duplicates: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    check_at(schema, ty, value, duplicates, &mut String::new(), &mut faults);
    faults
}

fn check_at(schema: &Schema, ty: TypeId, value: &Value, duplicates: bool, path: &mut String, faults: &mut Vec<Fault>) {
    let mut fault = |path: &str, message: String| faults.push(Fault { path: path.to_owned(), message });
    if value.is_null() {
        return;
    }
    let ty = schema.get(ty);
    match ty.form(Some(value)) {
        Form::Scalar => match (ty.scalar, value) {
            (Some(schema::Scalar::Number), Value::Number(_))
            | (Some(schema::Scalar::String), Value::String(_))
            | (Some(schema::Scalar::Boolean), Value::Bool(_))
            | (Some(schema::Scalar::Untyped), Value::Number(_) | Value::String(_) | Value::Bool(_)) => {}
            (Some(schema::Scalar::Number), _) => {
                fault(path, format!("expected numeric (int or float), got {}", go_type(value)));
            }
            (Some(schema::Scalar::String), _) => {
                let shown = format!("&value.valueUnstructured{{Value:{}}}", go_syntax(value));
                fault(path, format!("expected string, got {shown}"));
            }
            (Some(schema::Scalar::Boolean), _) => fault(path, format!("expected boolean, got {}", shown(value))),
            (Some(schema::Scalar::Untyped) | None, _) => {
                fault(path, format!("expected any scalar, got {}", shown(value)));
            }
        },
        Form::List(list) => {
            let Some(items) = value.as_array() else {
                fault(path, format!("expected list, got {}", shown(value)));
                return;
            };
            let mut seen = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let step = if list.kind == ListKind::Atomic {
                    Step::Index(i64::try_from(at).unwrap_or(i64::MAX))
                } else {
                    match item_step(schema, list, item) {
                        Ok(step) => step,
                        Err(error) => {
                            faults.push(Fault { path: path.clone(), message: format!("element {at}: {error}") });
                            return;
                        }
                    }
                };
                if !duplicates && seen.contains(&step) {
                    faults.push(Fault { path: path.clone(), message: format!("duplicate entries for key {step}") });
                }
                let length = path.len();
                path.push_str(&step.to_string());
                check_at(schema, list.element, item, duplicates, path, faults);
                path.truncate(length);
                seen.push(step);
            }
        }
        Form::Map(map) => {
            let Some(fields) = value.as_object() else {
                fault(path, format!("expected map, got {}", shown(value)));
                return;
            };
            for (key, value) in fields {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                match map.under(key) {
                    Some(ty) => check_at(schema, ty, value, duplicates, path, faults),
                    None => {
                        faults.push(Fault { path: path.clone(), message: "field not declared in schema".to_owned() })
                    }
                }
                path.truncate(length);
            }
        }
    }
}

/// A value as Go prints a pointer to it: `&{map[a:1]}`.
fn shown(value: &Value) -> String {
    format!("&{{{}}}", crate::patch::go_map(value))
}

/// A value as Go's `%#v` prints it, as far as scalars go.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(_) => format!("[]interface {{}}{}", crate::patch::go_map(value)),
        Value::Object(_) => format!("map[string]interface {{}}{}", crate::patch::go_map(value)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The fields that somebody who applies this value owns.
pub(crate) fn field_set(schema: &Schema, ty: TypeId, value: &Value) -> FieldSet {
    field_set_at(schema, ty, value).1
}

/// Whether the value is a member by itself, and what in it is.
fn field_set_at(schema: &Schema, ty: TypeId, value: &Value) -> (bool, FieldSet) {
    let mut set = FieldSet::default();
    match schema.get(ty).form(Some(value)) {
        Form::Scalar => return (true, set),
        Form::List(list) => match (&list.kind, value) {
            (ListKind::Atomic, _) => return (true, set),
            (ListKind::Set | ListKind::Map(_), Value::Array(items)) => {
                let steps: Vec<Option<Step>> = items.iter().map(|item| item_step(schema, list, item).ok()).collect();
                for (step, item) in steps.iter().zip(items) {
                    let Some(step) = step else { continue };
                    // What is there twice is owned as one, and nothing in it.
                    let alone = steps.iter().filter(|other| other.as_ref() == Some(step)).count() == 1;
                    let below = if alone { field_set_at(schema, list.element, item).1 } else { FieldSet::default() };
                    set.take_in(step.clone(), true, below);
                }
            }
            (ListKind::Set | ListKind::Map(_), _) => {}
        },
        Form::Map(map) if map.atomic => return (true, set),
        Form::Map(map) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let under = map.under(key).map(|ty| field_set_at(schema, ty, value));
                let (member, below) = under.unwrap_or_default();
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let member = member || empty || !map.fields.contains_key(key);
                if member || !below.is_empty() {
                    set.take_in(Step::field(key), member, below);
                }
            }
        }
    }
    (false, set)
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.and_then(Value::as_array).is_none_or(Vec::is_empty)
}

fn is_empty_map(value: Option<&Value>) -> bool {
    value.and_then(Value::as_object).is_none_or(Map::is_empty)
}

/// How the second value differs from the first.
pub(crate) fn compare(schema: &Schema, ty: TypeId, left: &Value, right: &Value) -> Comparison {
    let mut walk = Compare { schema, path: Vec::new(), out: Comparison::default() };
    walk.at(ty, Some(left), Some(right));
    walk.out
}

struct Compare<'a> {
    schema: &'a Schema,
    path: Vec<Step>,
    out: Comparison,
}

impl Compare<'_> {
    fn at(&mut self, ty: TypeId, left: Option<&Value>, right: Option<&Value>) {
        // Equal values differ nowhere, whatever their type: most of an object, most of the time.
        if left == right {
            return;
        }
        let ty = self.schema.get(ty);
        let (left_form, right_form) = (ty.form(left), ty.form(right));
        // Null takes the form of the other side.
        let leaf = if right.is_none() {
            self.form(left_form, left, right)
        } else if left.is_none() || left_form.same_as(right_form) {
            self.form(right_form, left, right)
        } else {
            self.form(left_form, left, right);
            self.form(right_form, left, right)
        };
        if !leaf {
            match (left, right) {
                (None, _) => self.out.added.insert(&self.path),
                (Some(_), None) => self.out.removed.insert(&self.path),
                (Some(_), Some(_)) => {}
            }
        }
    }

    /// Whether the value was taken as one whole.
    fn form(&mut self, form: Form<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
        match form {
            Form::Scalar => self.leaf(left, right),
            Form::List(list) => {
                if list.kind == ListKind::Atomic || (is_empty_list(left) && is_empty_list(right)) {
                    return self.leaf(left, right);
                }
                self.items(list, left, right);
                false
            }
            Form::Map(map) => {
                if map.atomic || (is_empty_map(left) && is_empty_map(right)) {
                    return self.leaf(left, right);
                }
                let (left, right) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
                let keys = left.into_iter().chain(right).flat_map(Map::keys);
                for key in keys.collect::<std::collections::BTreeSet<_>>() {
                    let (left, right) = (left.and_then(|map| map.get(key)), right.and_then(|map| map.get(key)));
                    // Before a step is made of the key: most fields are as they were.
                    if left == right {
                        continue;
                    }
                    let Some(ty) = map.under(key) else { continue };
                    self.path.push(Step::field(key));
                    self.at(ty, left, right);
                    self.path.pop();
                }
                false
            }
        }
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) -> bool {
        match (left, right) {
            (None, _) => self.out.added.insert(&self.path),
            (Some(_), None) => self.out.removed.insert(&self.path),
            (Some(left), Some(right)) if left != right => self.out.modified.insert(&self.path),
            (Some(_), Some(_)) => {}
        }
        true
    }

    fn items(&mut self, list: &List, left: Option<&Value>, right: Option<&Value>) {
        let schema = self.schema;
        fn by_step<'a>(schema: &Schema, list: &List, value: Option<&'a Value>) -> BTreeMap<Step, Vec<&'a Value>> {
            let mut out: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
            for item in value.and_then(Value::as_array).into_iter().flatten() {
                if let Ok(step) = item_step(schema, list, item) {
                    out.entry(step).or_default().push(item);
                }
            }
            out
        }
        let (left, right) = (by_step(schema, list, left), by_step(schema, list, right));
        let steps: std::collections::BTreeSet<&Step> = left.keys().chain(right.keys()).collect();
        for step in steps {
            let lefts = left.get(step).map(Vec::as_slice).unwrap_or_default();
            let rights = right.get(step).map(Vec::as_slice).unwrap_or_default();
            self.path.push(step.clone());
            match (lefts, rights) {
                ([] | [_], [] | [_]) => self.at(list.element, lefts.first().copied(), rights.first().copied()),
                ([_, _, ..], [_, _, ..]) => {
                    if lefts != rights {
                        self.out.modified.insert(&self.path);
                    }
                }
                ([_, _, ..], one) => {
                    if let Some(one) = one.first() {
                        self.at(list.element, None, Some(*one));
                    }
                    self.out.removed.insert(&self.path);
                }
                (one, [_, _, ..]) => {
                    if let Some(one) = one.first() {
                        self.at(list.element, Some(*one), None);
                    }
                    self.out.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}

/// The value with the configuration merged in: what the configuration says holds, the rest stays.
///
/// # Errors
/// When an item of a list with keys cannot be told from others.
pub(crate) fn merge(schema: &Schema, ty: TypeId, live: &Value, config: &Value) -> Result<Value, Fault> {
    Ok(merge_at(schema, ty, Some(live), Some(config), Trail::Top)?.unwrap_or(Value::Null))
}

/// Where a merge is. Text is made of it only when something is wrong there.
#[derive(Clone, Copy)]
enum Trail<'a> {
    Top,
    Field(&'a Self, &'a str),
    Item(&'a Self, &'a Step),
}

impl std::fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(before, key) => write!(f, "{before}.{key}"),
            Self::Item(before, step) => write!(f, "{before}{step}"),
        }
    }
}

fn merge_at(
    schema: &Schema,
    ty: TypeId,
    live: Option<&Value>,
    config: Option<&Value>,
    path: Trail<'_>,
) -> Result<Option<Value>, Fault> {
    let ty = schema.get(ty);
    let form = match (live, config) {
        (_, Some(_)) => ty.form(config),
        (_, None) => ty.form(live),
    };
    let whole = || Ok(config.or(live).cloned());
    match form {
        Form::Scalar => whole(),
        Form::List(list) => {
            if list.kind == ListKind::Atomic || (is_empty_list(live) && is_empty_list(config)) {
                return whole();
            }
            merge_items(schema, list, live, config, path)
        }
        Form::Map(map) => {
            if map.atomic || (is_empty_map(live) && is_empty_map(config)) {
                return whole();
            }
            let (live, config) = (live.and_then(Value::as_object), config.and_then(Value::as_object));
            let mut out = Map::new();
            for key in live.into_iter().chain(config).flat_map(Map::keys) {
                if out.contains_key(key) {
                    continue;
                }
                let (live, config) = (live.and_then(|map| map.get(key)), config.and_then(|map| map.get(key)));
                let merged = match map.under(key) {
                    Some(ty) => merge_at(schema, ty, live, config, Trail::Field(&path, key))?,
                    None => config.or(live).cloned(),
                };
                if let Some(merged) = merged {
                    out.insert(key.clone(), merged);
                }
            }
            Ok((!out.is_empty()).then_some(Value::Object(out)))
        }
    }
}

/// Items of both sides: in the order of the configuration where it names them, others where they stood.
fn merge_items(
    schema: &Schema,
    list: &List,
    live: Option<&Value>,
    config: Option<&Value>,
    path: Trail<'_>,
) -> Result<Option<Value>, Fault> {
    let (left, right) = (with_steps(schema, list, live, path)?, with_steps(schema, list, config, path)?);
    let mut of_left: BTreeMap<&Step, Option<&Value>> = BTreeMap::new();
    for (step, item) in &left {
        // What is there twice is merged with nothing.
        of_left.entry(step).and_modify(|known| *known = None).or_insert(Some(item));
    }
    let mut of_right: BTreeMap<&Step, &Value> = BTreeMap::new();
    for (step, item) in &right {
        if of_right.insert(step, item).is_some() {
            return Err(Fault { path: path.to_string(), message: format!("duplicate entries for key {step}") });
        }
    }
    let mut shared = right.iter().map(|(step, _)| step).filter(|step| of_left.contains_key(step));
    let mut next_shared = shared.next();
    let mut taken: std::collections::BTreeSet<&Step> = std::collections::BTreeSet::new();
    let mut out = Vec::new();
    let take = |step: &Step, live: Option<&Value>, config: Option<&Value>| {
        merge_at(schema, list.element, live, config, Trail::Item(&path, step))
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((step, _)), Some((other, config))) = (left.get(l), right.get(r)) {
            if step == other {
                taken.insert(step);
                out.extend(take(step, of_left.get(step).copied().flatten(), Some(config))?);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if of_right.contains_key(step) && next_shared.is_some_and(|next| next != step) {
                // Shared, but its turn comes later.
                l += 1;
                continue;
            }
        }
        if let Some((step, item)) = left.get(l) {
            if !of_right.contains_key(step) {
                out.extend(take(step, Some(item), None)?);
                l += 1;
                continue;
            }
            if taken.contains(step) {
                l += 1;
            }
        }
        if let Some((step, config)) = right.get(r) {
            taken.insert(step);
            out.extend(take(step, of_left.get(step).copied().flatten(), Some(config))?);
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

/// The items of a list, each with the step to it.
fn with_steps<'a>(
    schema: &Schema,
    list: &List,
    side: Option<&'a Value>,
    path: Trail<'_>,
) -> Result<Vec<(Step, &'a Value)>, Fault> {
    let items = side.and_then(Value::as_array).into_iter().flatten().enumerate();
    let items = items.map(|(at, item)| match item_step(schema, list, item) {
        Ok(step) => Ok((step, item)),
        Err(error) => Err(Fault { path: path.to_string(), message: format!("element {at}: {error}") }),
    });
    items.collect()
}

/// The value without these fields. Null where nothing is left.
pub(crate) fn remove(schema: &Schema, ty: TypeId, value: &Value, fields: &FieldSet) -> Value {
    match (schema.get(ty).form(Some(value)), value) {
        (Form::Scalar, _) => value.clone(),
        (Form::List(list), Value::Array(items)) => {
            if list.kind == ListKind::Atomic {
                return Value::Null;
            }
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|item| {
                    let Ok(step) = item_step(schema, list, item) else { return Some(item.clone()) };
                    if fields.has(&step) {
                        return None;
                    }
                    Some(match fields.below(&step) {
                        Some(below) => remove(schema, list.element, item, below),
                        None => item.clone(),
                    })
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Form::Map(map), Value::Object(object)) => {
            if map.atomic {
                return Value::Null;
            }
            let mut kept = Map::new();
            for (key, value) in object {
                let step = Step::field(key);
                if fields.has(&step) {
                    continue;
                }
                let value = match (fields.below(&step), map.under(key)) {
                    (Some(below), Some(ty)) => remove(schema, ty, value, below),
                    (_, _) => value.clone(),
                };
                kept.insert(key.clone(), value);
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Form::List(_) | Form::Map(_), _) => Value::Null,
    }
}

/// The set with the named fields of structs that lie on the way to its members.
pub(crate) fn with_named(schema: &Schema, ty: TypeId, set: &FieldSet) -> FieldSet {
    set.with_members(Some(ty), &|at, step| {
        let Some(ty) = at.map(|at| schema.get(at)) else { return (false, None) };
        match (step, &ty.map) {
            (Step::Field(name), Some(map)) => (map.fields.contains_key(&**name), map.under(name)),
            (Step::Field(_), None) => (false, None),
            (Step::Key(_) | Step::Value(_) | Step::Index(_), _) => (false, ty.list.as_ref().map(|list| list.element)),
        }
    })
}
