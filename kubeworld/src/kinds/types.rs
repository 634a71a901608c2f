//! How Go encodes the built-in kinds.
//!
//! A real API server decodes each object into a Go struct and encodes it again, which gives every object one form:
//! what is empty and may be omitted is gone (`labels: {}`), what may not be omitted is there (`status: {}`), `null` is
//! nothing, and quantities and times have their one spelling. The schema does not tell which field is which, so
//! `types.txt` does; `xtask/kube/types.go` makes it from the Go structs.
//!
//! Defaults hang on the same walk, since the real ones too are functions of a struct's type.
//!
//! Not here: unknown fields and wrong types, which are left alone for whoever checks the schema.

use std::{collections::HashMap, sync::OnceLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    Kind, defaults, quantity,
    shown::{Tree, go_name, quoted},
};

/// Fills in the defaults of one struct, before its fields are visited.
pub(super) type Defaulter = fn(&mut Map<String, Value>);

/// Every struct that a built-in kind can reach.
pub(super) struct Types {
    names: HashMap<&'static str, usize>,
    structs: Vec<Struct>,
    kinds: HashMap<(&'static str, &'static str, &'static str), usize>,
}

struct Struct {
    fields: Vec<Field>,
    default: Option<Defaulter>,
    /// An empty list stays one.
    keeps_empty: bool,
    /// The API's own struct also inside the real server, with its names.
    shared: bool,
}

struct Field {
    name: &'static str,
    /// Left out when empty.
    omit_empty: bool,
    /// Left out when all its fields are zero.
    omit_zero: bool,
    shape: Shape,
}

#[derive(Clone, PartialEq)]
enum Shape {
    Bool,
    Integer,
    Float,
    Text,
    Bytes,
    Quantity,
    Time,
    MicroTime,
    Duration,
    IntOrString,
    /// Any JSON, kept as it is.
    Raw,
    Struct(usize),
    Pointer(Box<Self>),
    List(Box<Self>),
    Dictionary(Box<Self>),
}

/// The table, read at the first use.
pub(super) fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| Types::parse(include_str!("types.txt")))
}

impl Types {
    fn parse(text: &'static str) -> Self {
        let names: Vec<&str> =
            text.lines().filter(|line| !line.starts_with(' ') && !line.starts_with("kind ")).collect();
        let number: HashMap<&'static str, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        let mut kinds = HashMap::new();
        let mut structs: Vec<Struct> = Vec::with_capacity(names.len());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("kind ") {
                let mut words = rest.split([' ', '/']);
                let mut next = || words.next().unwrap_or_default();
                let kind = (next(), next(), next());
                kinds.insert(kind, number[next()]);
            } else if let Some(rest) = line.strip_prefix(' ') {
                let (name, shape) = rest.split_once(' ').unwrap_or((rest, "raw"));
                let field = Field {
                    name: name.trim_end_matches(['?', '!']),
                    omit_empty: name.contains('?'),
                    omit_zero: name.contains('!'),
                    shape: Shape::parse(shape, &number),
                };
                if let Some(last) = structs.last_mut() {
                    last.fields.push(field);
                }
            } else {
                // Definitions are stored as JSON.
                let keeps_empty = line.starts_with("apiextensions.");
                let shared = line.starts_with("meta.v1.");
                structs.push(Struct { fields: Vec::new(), default: defaults::of(line), keeps_empty, shared });
            }
        }
        Self { names: number, structs, kinds }
    }

    /// Gives an object its one form, filling in defaults if asked to. False for a kind that is not built in.
    pub(super) fn settle(&self, kind: Kind<'_>, object: &mut Value, with_defaults: bool) -> bool {
        let Some(at) = self.kinds.get(&(kind.group, kind.version, kind.kind)) else { return false };
        self.settle_struct(*at, object, with_defaults);
        true
    }

    /// Why Go could not read a quantity or a time in an object, if so.
    pub(super) fn unreadable(&self, kind: Kind<'_>, object: &Value) -> Option<String> {
        self.unreadable_value(&Shape::Struct(*self.kinds.get(&(kind.group, kind.version, kind.kind))?), object)
    }

    fn unreadable_value(&self, shape: &Shape, value: &Value) -> Option<String> {
        match (shape, value) {
            (Shape::Pointer(inner), value) => self.unreadable_value(inner, value),
            (Shape::Struct(at), Value::Object(map)) => self.structs[*at]
                .fields
                .iter()
                .find_map(|field| self.unreadable_value(&field.shape, map.get(field.name)?)),
            (Shape::List(inner), Value::Array(items)) => {
                items.iter().find_map(|item| self.unreadable_value(inner, item))
            }
            (Shape::Dictionary(inner), Value::Object(map)) => {
                map.values().find_map(|value| self.unreadable_value(inner, value))
            }
            (Shape::Quantity, Value::String(text)) => quantity::unreadable(text.trim()).map(str::to_owned),
            (Shape::Time, Value::String(text)) => unreadable_time(text, false),
            (Shape::MicroTime, Value::String(text)) => unreadable_time(text, true),
            _ => None,
        }
    }

    /// A struct as the real server shows its own in messages; `name` is a line of `types.txt`.
    pub(super) fn shown(&self, name: &str, value: &Value) -> Tree {
        match self.names.get(name) {
            Some(at) => self.shown_value(&Shape::Struct(*at), value),
            None => Tree::Leaf(value.to_string()),
        }
    }

    fn shown_value(&self, shape: &Shape, value: &Value) -> Tree {
        match (shape, value) {
            (Shape::Pointer(inner), value) if !value.is_null() => self.shown_value(inner, value),
            (Shape::Struct(at), value) => Tree::Object(self.shown_fields(&self.structs[*at], value)),
            (Shape::List(inner), Value::Array(items)) => {
                Tree::List(items.iter().map(|item| self.shown_value(inner, item)).collect())
            }
            (Shape::Dictionary(inner), Value::Object(map)) => {
                Tree::Object(map.iter().map(|(key, value)| (key.clone(), self.shown_value(inner, value))).collect())
            }
            (_, Value::String(text)) => Tree::Leaf(quoted(text)),
            (_, Value::Null) => Tree::Leaf(self.zero(shape).to_string()),
            (_, value) => Tree::Leaf(value.to_string()),
        }
    }

    fn shown_fields(&self, one: &Struct, value: &Value) -> Vec<(String, Tree)> {
        let mut shown = Vec::with_capacity(one.fields.len());
        for field in &one.fields {
            let value = value.get(field.name).unwrap_or(&Value::Null);
            match (&field.shape, field.name) {
                // Embedded in Go.
                (Shape::Struct(at), "metadata") => shown.extend(self.shown_fields(&self.structs[*at], value)),
                _ if one.shared => {
                    if !value.is_null() {
                        shown.push((field.name.to_owned(), self.shown_value(&field.shape, value)));
                    }
                }
                _ => shown.push((go_name(field.name), self.shown_value(&field.shape, value))),
            }
        }
        shown
    }

    /// Gives a value of a named shape, used for a part of an object, its one form.
    fn settle_value(&self, shape: &Shape, value: &mut Value, with_defaults: bool) {
        match shape {
            Shape::Bool | Shape::Integer | Shape::Float | Shape::Text | Shape::Duration => {}
            Shape::IntOrString | Shape::Raw => {}
            Shape::Bytes => settle_bytes(value),
            Shape::Quantity => settle_quantity(value),
            Shape::Time => settle_time(value, false),
            Shape::MicroTime => settle_time(value, true),
            Shape::Struct(at) => self.settle_struct(*at, value, with_defaults),
            Shape::Pointer(inner) => self.settle_value(inner, value, with_defaults),
            Shape::List(inner) => {
                for one in value.as_array_mut().into_iter().flatten() {
                    self.settle_element(inner, one, with_defaults);
                }
            }
            Shape::Dictionary(inner) => {
                for (_, one) in value.as_object_mut().into_iter().flatten() {
                    self.settle_element(inner, one, with_defaults);
                    if with_defaults && **inner == Shape::Quantity {
                        round_up_to_milli(one);
                    }
                }
            }
        }
    }

    /// In a list or a dictionary `null` is the zero value.
    fn settle_element(&self, shape: &Shape, value: &mut Value, with_defaults: bool) {
        if value.is_null() && !matches!(shape, Shape::Pointer(_) | Shape::Raw) {
            *value = if *shape == Shape::Bytes { json!("") } else { self.zero(shape) };
        }
        self.settle_value(shape, value, with_defaults);
    }

    fn settle_struct(&self, at: usize, value: &mut Value, with_defaults: bool) {
        let Value::Object(map) = value else { return };
        let one = &self.structs[at];
        map.retain(|_, value| !value.is_null());
        if with_defaults && let Some(default) = one.default {
            default(map);
        }
        for field in &one.fields {
            match map.get_mut(field.name) {
                Some(value) => {
                    self.settle_value(&field.shape, value, with_defaults);
                    if field.is_omitted(value) {
                        map.remove(field.name);
                    } else if matches!(field.shape, Shape::List(_) | Shape::Dictionary(_))
                        && is_empty(value)
                        && !one.keeps_empty
                    {
                        // The stored form, protobuf, knows no empty list.
                        *value = Value::Null;
                    }
                }
                None => {
                    if let Some(mut zero) = self.absent(field) {
                        self.settle_value(&field.shape, &mut zero, with_defaults);
                        map.insert(field.name.to_owned(), zero);
                    }
                }
            }
        }
    }

    /// What is written for a field that is not there.
    fn absent(&self, field: &Field) -> Option<Value> {
        let by_value = matches!(field.shape, Shape::Struct(_) | Shape::Quantity | Shape::Time | Shape::MicroTime)
            || field.shape == Shape::IntOrString;
        let written = !field.omit_zero && (by_value || !field.omit_empty);
        written.then(|| self.zero(&field.shape))
    }

    #[expect(clippy::unused_self, reason = "reads better beside its callers, and a struct's zero may need the table")]
    fn zero(&self, shape: &Shape) -> Value {
        match shape {
            Shape::Bool => json!(false),
            Shape::Integer | Shape::Float | Shape::IntOrString => json!(0),
            Shape::Text => json!(""),
            Shape::Quantity => json!("0"),
            Shape::Duration => json!("0s"),
            Shape::Struct(_) => json!({}),
            Shape::Time | Shape::MicroTime | Shape::Raw | Shape::Bytes => Value::Null,
            Shape::Pointer(_) | Shape::List(_) | Shape::Dictionary(_) => Value::Null,
        }
    }
}

impl Shape {
    fn parse(text: &str, number: &HashMap<&str, usize>) -> Self {
        if let Some(rest) = text.strip_prefix('*') {
            return Self::Pointer(Box::new(Self::parse(rest, number)));
        }
        if let Some(rest) = text.strip_prefix("[]") {
            return Self::List(Box::new(Self::parse(rest, number)));
        }
        if let Some(rest) = text.strip_prefix("{}") {
            return Self::Dictionary(Box::new(Self::parse(rest, number)));
        }
        match text {
            "bool" => Self::Bool,
            "int" | "int32" | "int64" | "uint32" | "uint64" | "uint8" => Self::Integer,
            "float32" | "float64" => Self::Float,
            "string" => Self::Text,
            "bytes" => Self::Bytes,
            "quantity" => Self::Quantity,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "duration" => Self::Duration,
            "intorstring" => Self::IntOrString,
            "raw" => Self::Raw,
            name => Self::Struct(number[name]),
        }
    }
}

impl Field {
    fn is_omitted(&self, value: &Value) -> bool {
        if !self.omit_empty {
            return false;
        }
        match self.shape {
            Shape::Bool => *value == json!(false),
            Shape::Integer => value.as_i64() == Some(0),
            Shape::Float => value.as_f64() == Some(0.0),
            Shape::Text | Shape::Bytes => value.as_str() == Some(""),
            Shape::List(_) | Shape::Dictionary(_) => is_empty(value),
            Shape::Quantity | Shape::Time | Shape::MicroTime | Shape::Duration | Shape::IntOrString => false,
            Shape::Raw | Shape::Struct(_) | Shape::Pointer(_) => false,
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// Line breaks are allowed in base64, but not kept.
fn settle_bytes(value: &mut Value) {
    if let Value::String(text) = value
        && text.contains(['\n', '\r'])
        && let Ok(bytes) = STANDARD.decode(text.replace(['\n', '\r'], ""))
    {
        *text = STANDARD.encode(bytes);
    }
}

fn settle_quantity(value: &mut Value) {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return,
    };
    if let Some(quantity) = quantity::parse(&text) {
        *value = Value::String(quantity.to_string());
    }
}

/// Resource lists know nothing finer than a thousandth.
fn round_up_to_milli(value: &mut Value) {
    if let Some(quantity) = value.as_str().and_then(quantity::parse) {
        *value = Value::String(quantity.round_up_to_milli().to_string());
    }
}

/// What Go says of a text that is no time: up to where it was one, and what should have come there.
fn unreadable_time(text: &str, micro: bool) -> Option<String> {
    const PARTS: [(&str, usize); 11] = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ];
    if text.parse::<jiff::Timestamp>().is_ok() {
        return None;
    }
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let mut rest = text;
    let mut wanted = "Z07:00";
    for (part, digits) in PARTS {
        let next = match digits {
            0 => rest.strip_prefix(part),
            digits => rest.get(digits..).filter(|_| rest.bytes().take(digits).all(|byte| byte.is_ascii_digit())),
        };
        let Some(next) = next else {
            wanted = part;
            break;
        };
        rest = next;
    }
    Some(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {wanted:?}"))
}

fn settle_time(value: &mut Value, micro: bool) {
    if let Some(time) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        *value = if micro { crate::time::micros(time) } else { crate::time::seconds(time) }.into();
    }
}

#[cfg(test)]
mod tests;
