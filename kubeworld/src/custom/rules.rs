//! The rules of a schema in CEL (`x-kubernetes-validations`), and asking them.
//!
//! The walk is our own, as the real server's is: a rule sees its own part of the object, what was there before only
//! where the old part can be told from others, and a broken rule that was broken before is let through where nothing
//! changed. kube-cel's functions, and the engine under it, evaluate each rule.
//!
//! Absent: the budget that a real server has for all rules of a request together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::{Key, Map, OptionalValue};
use kube_cel::cel::{self, Context, ExecutionError, Program};
use serde_json::{Value, json};

use super::validate::Verdict;
use super::{paths, value};
use crate::kinds::fields::{entries, list, option, text, truth};
use crate::status::Cause;

/// What a message that a rule makes may be long.
const MESSAGE_MAX: usize = 5 * 1024;

/// The rules of a part of a schema.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    own: Vec<Rule>,
    all_of: Vec<Self>,
    properties: BTreeMap<String, Self>,
    additional: Option<Box<Self>>,
    items: Option<Box<Self>>,
    is_object: bool,
}

#[derive(Debug)]
struct Rule {
    source: String,
    message: String,
    program: Result<Program, String>,
    message_program: Option<Program>,
    reason: Option<String>,
    field: Option<String>,
    optional_old: bool,
    uses_old: bool,
}

impl Rule {
    fn of(rule: &Value, node: &Value) -> Option<Self> {
        let source = text(rule, "rule").trim().to_owned();
        if source.is_empty() {
            return None;
        }
        let program = Program::compile(text(rule, "rule")).map_err(|error| error.to_string());
        let dynamic = text(rule, "messageExpression");
        let field = text(rule, "fieldPath");
        let field = Some(field).filter(|field| !field.is_empty());
        Some(Self {
            uses_old: program.as_ref().is_ok_and(|program| program.references().has_variable("oldSelf")),
            message: text(rule, "message").trim().to_owned(),
            message_program: Some(dynamic)
                .filter(|dynamic| !dynamic.is_empty())
                .and_then(|dynamic| Program::compile(dynamic).ok()),
            reason: rule.get("reason").and_then(Value::as_str).map(ToOwned::to_owned),
            field: field.and_then(|field| paths::field_path(field, node, true).ok()).map(|(path, _)| path),
            optional_old: truth(rule, "optionalOldSelf"),
            source,
            program,
        })
    }

    /// What a message calls it.
    fn shown(&self) -> &str {
        if self.message.is_empty() { &self.source } else { &self.message }
    }
}

impl Rules {
    /// The rules of a schema; nothing where it has none.
    pub(crate) fn of(node: &Value, is_root: bool) -> Option<Self> {
        Self::made(node, node, is_root)
    }

    /// `node` is the schema that says what values are; `of` may be a branch that narrows it down.
    fn made(of: &Value, node: &Value, is_root: bool) -> Option<Self> {
        let below = |of: &Value, node: &Value| Self::made(of, node, false);
        let inner = |key: &str| {
            let (of, node) = (option(of, key)?, option(node, key)?);
            if of.is_object() && node.is_object() { below(of, node).map(Box::new) } else { None }
        };
        let rules = Self {
            own: list(of, "x-kubernetes-validations").iter().filter_map(|rule| Rule::of(rule, node)).collect(),
            all_of: list(of, "allOf").iter().filter_map(|branch| Self::made(branch, node, is_root)).collect(),
            properties: entries(of, "properties")
                .filter_map(|(key, of)| Some((key.clone(), below(of, node["properties"].get(key)?)?)))
                .collect(),
            additional: inner("additionalProperties"),
            items: inner("items"),
            is_object: is_root || truth(node, "x-kubernetes-embedded-resource"),
        };
        let any = !rules.own.is_empty()
            || !rules.all_of.is_empty()
            || !rules.properties.is_empty()
            || rules.additional.is_some()
            || rules.items.is_some();
        any.then_some(rules)
    }

    /// Asks all rules of an object.
    pub(super) fn ask(&self, node: &Value, new: &Value, old: Option<&Value>, path: &str, verdict: &mut Verdict) {
        self.walk(node, new, old, false, path, verdict);
    }

    /// `unchanged` is whether the nearest part above that can be compared is as it was.
    fn walk(&self, node: &Value, new: &Value, old: Option<&Value>, unchanged: bool, path: &str, verdict: &mut Verdict) {
        if new.is_null() {
            return;
        }
        let same = old.map_or(unchanged, |old| old == new);
        self.ask_own(node, new, old.filter(|old| !old.is_null()), same, path, verdict);
        for branch in &self.all_of {
            branch.walk(node, new, old, unchanged, path, verdict);
        }
        match new {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let before = old.and_then(|old| old.get(key));
                    if let Some(rules) = self.properties.get(key) {
                        rules.walk(&node["properties"][key], value, before, same, &joined(path, key), verdict);
                    } else if let Some(rules) = &self.additional {
                        let path = format!("{path}[{key}]");
                        rules.walk(&node["additionalProperties"], value, before, same, &path, verdict);
                    }
                }
            }
            Value::Array(items) => {
                let Some(rules) = &self.items else { return };
                for (index, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| value::correlated(node, item, old));
                    rules.walk(&node["items"], item, before, same, &format!("{path}[{index}]"), verdict);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn ask_own(&self, node: &Value, new: &Value, old: Option<&Value>, same: bool, path: &str, verdict: &mut Verdict) {
        if self.own.is_empty() {
            return;
        }
        thread_local! {
            static BASE: Context<'static> = Context::default().with_all();
        }
        BASE.with(|base| {
            let cel_new = to_cel(base, node, new, self.is_object);
            let cel_old = old.map(|old| to_cel(base, node, old, self.is_object));
            for rule in &self.own {
                if rule.uses_old && cel_old.is_none() && !rule.optional_old {
                    continue;
                }
                let mut context = base.new_inner_scope();
                context.add_variable_from_value("self", cel_new.clone());
                if rule.optional_old {
                    let old = cel_old.clone().map_or_else(OptionalValue::none, OptionalValue::of);
                    context.add_variable_from_value("oldSelf", cel::Value::Opaque(Arc::new(old)));
                } else if let Some(old) = &cel_old {
                    context.add_variable_from_value("oldSelf", old.clone());
                }
                let Some(cause) = rule.broken(&context, node, new, path) else { continue };
                if same && !rule.uses_old && cause.1 {
                    verdict.warnings.push(format!("{}: {}", cause.0.field, cause.0.message));
                } else {
                    verdict.causes.push(cause.0);
                }
            }
        });
    }
}

impl Rule {
    /// What is wrong, and whether the rule could be asked.
    fn broken(&self, context: &Context<'_>, node: &Value, new: &Value, path: &str) -> Option<(Cause, bool)> {
        let field = |path: &str| if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() };
        let fault = |why: String| (Cause::invalid(field(path), &json!(text(node, "type")), &why), false);
        let program = match &self.program {
            Ok(program) => program,
            Err(error) => return Some(fault(format!("rule compile error: compilation failed: {error}"))),
        };
        match program.execute(context) {
            Ok(cel::Value::Bool(true)) => return None,
            Ok(_) => {}
            Err(error) => return Some(fault(explained(&error, self.shown()))),
        }
        let path = match &self.field {
            Some(own) => joined(path, own),
            None => path.to_owned(),
        };
        let detail = self.made_message(context).unwrap_or_else(|| {
            if self.message.is_empty() { format!("failed rule: {}", self.source) } else { self.message.clone() }
        });
        let whole = matches!(text(node, "type"), "object" | "array");
        let shown = if whole { String::new() } else { format!(": {}", value::shown(new)) };
        let field = field(&path);
        let cause = match self.reason.as_deref() {
            Some("FieldValueForbidden") => Cause::forbidden(field, &detail),
            Some("FieldValueRequired") => Cause::required(field, &detail),
            Some("FieldValueDuplicate") => {
                Cause { reason: "FieldValueDuplicate", message: format!("Duplicate value{shown}"), field }
            }
            Some(_) | None => {
                let message = format!("Invalid value{shown}: {detail}");
                Cause { reason: "FieldValueInvalid", message, field }
            }
        };
        Some((cause, true))
    }

    /// The message of the rule's own expression, where it makes one that is one line of text.
    fn made_message(&self, context: &Context<'_>) -> Option<String> {
        let made = self.message_program.as_ref()?.execute(context).ok()?;
        let cel::Value::String(made) = made else { return None };
        let made = made.trim();
        (!made.is_empty() && made.len() <= MESSAGE_MAX && !made.contains('\n')).then(|| made.to_owned())
    }
}

/// Why a rule could not be answered, as cel-go says it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the engine's errors, which it says may become more")]
fn explained(error: &ExecutionError, rule: &str) -> String {
    let why = match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(cel::Value::Int(at)) => format!("index out of bounds: {at}"),
        ExecutionError::NoSuchOverload
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedUnaryOperator(..) => {
            return format!(
                "'no such overload': call arguments did not match a supported operator, function or macro signature for \
                 rule: {rule}"
            );
        }
        other => other.to_string(),
    };
    format!("{why} evaluating rule: {rule}")
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value as rules see it: by its schema, with what the schema does not name left out.
fn to_cel(base: &Context<'_>, node: &Value, value: &Value, is_object: bool) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), text(node, "type")) {
            (Some(number), "number") => cel::Value::Float(number as f64),
            (Some(number), _) => cel::Value::Int(number),
            (None, _) => cel::Value::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(value) => of_text(base, node, value),
        Value::Array(items) => {
            let items = items.iter().map(|item| to_cel(base, &node["items"], item, is_embedded(&node["items"])));
            cel::Value::List(Arc::new(items.collect()))
        }
        Value::Object(fields) => {
            let mut out = HashMap::new();
            let mut put = |key: String, value: cel::Value| drop(out.insert(Key::String(Arc::new(key)), value));
            match option(node, "additionalProperties") {
                Some(below) => {
                    for (key, value) in fields {
                        put(key.clone(), to_cel(base, below, value, is_embedded(below)));
                    }
                }
                None => {
                    for (key, below) in entries(node, "properties") {
                        if let Some(value) = fields.get(key).filter(|value| !value.is_null()) {
                            put(escaped(key), to_cel(base, below, value, is_embedded(below)));
                        }
                    }
                    if is_object {
                        for key in ["apiVersion", "kind"] {
                            put(key.to_owned(), cel::Value::String(Arc::new(text(value, key).to_owned())));
                        }
                        let names = ["name", "generateName"].into_iter().filter_map(|key| {
                            let name = value["metadata"].get(key)?.as_str()?.to_owned();
                            Some((Key::String(Arc::new(key.to_owned())), cel::Value::String(Arc::new(name))))
                        });
                        let names = Map { map: Arc::new(names.collect()) };
                        put("metadata".to_owned(), cel::Value::Map(names));
                    }
                }
            }
            cel::Value::Map(Map { map: Arc::new(out) })
        }
    }
}

fn is_embedded(node: &Value) -> bool {
    truth(node, "x-kubernetes-embedded-resource")
}

/// Times, durations and bytes have types of their own; a text that is none stays a text.
fn of_text(base: &Context<'_>, node: &Value, value: &str) -> cel::Value {
    let made = |function: &str, value: String| {
        let program = Program::compile(&format!("{function}(it)")).ok()?;
        let mut context = base.new_inner_scope();
        context.add_variable_from_value("it", cel::Value::String(Arc::new(value)));
        program.execute(&context).ok()
    };
    let made = match text(node, "format") {
        _ if truth(node, "x-kubernetes-int-or-string") => None,
        "date-time" => made("timestamp", value.to_owned()),
        "date" => made("timestamp", format!("{value}T00:00:00Z")),
        "duration" => made("duration", value.to_owned()),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value)
            .ok()
            .map(|bytes| cel::Value::Bytes(Arc::new(bytes))),
        _ => None,
    };
    made.unwrap_or_else(|| cel::Value::String(Arc::new(value.to_owned())))
}

/// A field's name as CEL can have it.
pub(super) fn escaped(name: &str) -> String {
    const RESERVED: [&str; 18] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}
