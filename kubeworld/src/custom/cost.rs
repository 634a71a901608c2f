//! Rules in CEL before they are ever asked: whether they are rules, and what they may cost at most.
//!
//! The estimate is that of cel-go's checker with the prices of the real server: a walk over the expression that knows from
//! the schema how large each part can be. Only the upper end is kept, as nothing else is limited.
//!
//! Absent: most of type checking. What is found is a field that its schema does not have, a name that nobody declared,
//! and a rule that is no question; operators on types that do not go together are found when the rule is asked.

use std::collections::BTreeMap;
use std::rc::Rc;

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use serde_json::Value;

use super::rules::escaped;
use crate::kinds::fields::{entries, has, list, option, text, truth};

/// The largest request that the real server reads.
const REQUEST_MAX: u64 = 3 * 1024 * 1024;

/// What it costs to look at one byte of a text.
const PER_BYTE: f64 = 0.1;

/// And to have one byte of an expression look for it.
const PER_PATTERN_BYTE: f64 = 0.25;

/// What all rules of a schema cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    /// Together.
    pub(crate) sum: u64,
    /// The dearest four, by where they stand.
    pub(crate) dearest: Vec<(String, u64)>,
}

impl Total {
    /// Adds what a rule costs; only from `least` on it is remembered.
    pub(crate) fn add(&mut self, path: String, cost: u64, least: u64) {
        self.sum = self.sum.saturating_add(cost);
        if cost < least {
            return;
        }
        self.dearest.push((path, cost));
        self.dearest.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.dearest.truncate(4);
    }
}

/// A rule that was looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    /// Why it is none.
    pub(crate) error: Option<String>,
    /// Why the expression of its message is none.
    pub(crate) message_error: Option<String>,
    /// It sees what was there before.
    pub(crate) uses_old: bool,
    /// What it costs to ask it once.
    pub(crate) cost: u64,
    /// The same for its message, where that is an expression.
    pub(crate) message_cost: Option<u64>,
    /// How often a value of its schema fits into a request.
    pub(crate) cardinality: u64,
}

/// Looks at a rule of a schema. `is_object` is for schemas of whole objects.
pub(crate) fn compile(node: &Value, is_object: bool, rule: &Value) -> Compiled {
    let mut out = Compiled::default();
    let Some(decl) = Decl::of(node, is_object) else { return out };
    out.cardinality = REQUEST_MAX / (decl.least + 1);
    let source = text(rule, "rule");
    let optional = truth(rule, "optionalOldSelf");
    match looked_at(source, &decl, optional) {
        Err(why) => {
            out.error = Some(format!("compilation failed: {why}"));
            return out;
        }
        Ok((_, known)) if !matches!(known.decl.kind, Kind::Bool | Kind::Unknown) => {
            out.error = Some("cel expression must evaluate to a bool".to_owned());
            return out;
        }
        Ok((uses_old, known)) => {
            out.uses_old = uses_old;
            out.cost = known.cost;
        }
    }
    let message = text(rule, "messageExpression");
    if message.is_empty() {
        return out;
    }
    match looked_at(message, &decl, optional) {
        Err(why) => out.message_error = Some(format!("messageExpression compilation failed: {why}")),
        Ok((_, known)) if !matches!(known.decl.kind, Kind::Text | Kind::Unknown) => {
            out.message_error = Some("messageExpression must evaluate to a string".to_owned());
        }
        Ok((_, known)) => out.message_cost = Some(known.cost),
    }
    out
}

/// Whether an expression sees the old value, and what is known of its own.
fn looked_at(source: &str, decl: &Rc<Decl>, optional: bool) -> Result<(bool, Known), String> {
    let program = Program::compile(source).map_err(|error| shown_error(&error.to_string()))?;
    let old =
        if optional { Rc::new(Decl { elem: Some(decl.clone()), ..Decl::plain(Kind::Optional) }) } else { decl.clone() };
    let mut walk = Walk { source, fault: None, variables: Vec::new() };
    walk.variables.push(("self".to_owned(), Known::of(decl.clone())));
    walk.variables.push(("oldSelf".to_owned(), Known::of(old)));
    let known = walk.expr(program.expression());
    match walk.fault {
        Some(fault) => Err(fault),
        None => Ok((program.references().has_variable("oldSelf"), known)),
    }
}

/// An error of the parser, with its picture of the place set as cel-go sets it.
fn shown_error(error: &str) -> String {
    error.replace("\n|", "\n |")
}

/// The words for what costs too much.
pub(crate) fn message(what: &str, cost: u64, most: u64) -> String {
    let factor = cost as f64 / most as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Any type at all.
    Dyn,
    Bool,
    Number,
    Text,
    Bytes,
    Time,
    List,
    Map,
    Object,
    Optional,
    /// The type of a call that is not looked up here.
    Unknown,
}

/// A type, and how large its values can be.
#[derive(Clone, Debug)]
struct Decl {
    kind: Kind,
    /// At most so many bytes or elements.
    most: u64,
    /// The fewest bytes in JSON.
    least: u64,
    elem: Option<Rc<Self>>,
    fields: BTreeMap<String, Rc<Self>>,
}

impl Decl {
    fn plain(kind: Kind) -> Self {
        let least = match kind {
            Kind::Bool => 4,
            Kind::Text | Kind::Bytes | Kind::List | Kind::Map | Kind::Object => 2,
            Kind::Dyn | Kind::Number | Kind::Time | Kind::Optional | Kind::Unknown => 1,
        };
        Self { kind, most: 0, least, elem: None, fields: BTreeMap::new() }
    }

    /// The type of a schema; nothing where rules do not see its values.
    fn of(node: &Value, is_object: bool) -> Option<Rc<Self>> {
        let bound = |key: &str| node.get(key).and_then(Value::as_i64).map(|most| u64::try_from(most).unwrap_or(0));
        if truth(node, "x-kubernetes-int-or-string") {
            let most = bound("maxLength").map_or(REQUEST_MAX - 2, |most| most.saturating_mul(4));
            return Some(Rc::new(Self { most, ..Self::plain(Kind::Dyn) }));
        }
        let kind = if is_object { "object" } else { text(node, "type") };
        Some(Rc::new(match kind {
            "array" => {
                let items = option(node, "items")?;
                let elem = Self::of(items, truth(items, "x-kubernetes-embedded-resource"))?;
                let most = bound("maxItems").unwrap_or((REQUEST_MAX - 2) / (elem.least + 1));
                Self { most, elem: Some(elem), ..Self::plain(Kind::List) }
            }
            "object" => match option(node, "additionalProperties").filter(|below| below.is_object()) {
                Some(below) => {
                    let elem = Self::of(below, truth(below, "x-kubernetes-embedded-resource"))?;
                    let most = bound("maxProperties").unwrap_or((REQUEST_MAX - 2) / (elem.least + 6));
                    Self { most, elem: Some(elem), ..Self::plain(Kind::Map) }
                }
                None => Self::of_fields(node, is_object),
            },
            "string" => Self::of_text(node, bound("maxLength")),
            "boolean" => Self::plain(Kind::Bool),
            "number" | "integer" => Self::plain(Kind::Number),
            _ => return None,
        }))
    }

    fn of_text(node: &Value, most: Option<u64>) -> Self {
        match text(node, "format") {
            "byte" => Self { most: most.unwrap_or(REQUEST_MAX - 2), ..Self::plain(Kind::Bytes) },
            "duration" => Self { most: 32, least: 3, ..Self::plain(Kind::Time) },
            "date" => Self { most: 12, least: 12, ..Self::plain(Kind::Time) },
            "date-time" => Self { most: 32, least: 21, ..Self::plain(Kind::Time) },
            _ => {
                let longest = list(node, "enum").iter().filter_map(Value::as_str).map(|word| word.len() as u64).max();
                // A letter has four bytes at most.
                let most = most.map(|most| most.saturating_mul(4)).or(longest).unwrap_or(REQUEST_MAX - 2);
                Self { most, ..Self::plain(Kind::Text) }
            }
        }
    }

    fn of_fields(node: &Value, is_object: bool) -> Self {
        let mut out = Self::plain(Kind::Object);
        for (name, below) in entries(node, "properties") {
            let Some(field) = Self::of(below, truth(below, "x-kubernetes-embedded-resource")) else { continue };
            let required = list(node, "required").iter().any(|one| one == name);
            if required && !has(below, "default") {
                out.least += name.len() as u64 + field.least + 4;
            }
            out.fields.insert(escaped(name), field);
        }
        if is_object {
            let free = || Rc::new(Self { most: REQUEST_MAX - 2, ..Self::plain(Kind::Text) });
            let mut metadata = Self::plain(Kind::Object);
            metadata.fields.insert("name".to_owned(), free());
            metadata.fields.insert("generateName".to_owned(), free());
            out.fields.insert("metadata".to_owned(), Rc::new(metadata));
            out.fields.insert("apiVersion".to_owned(), free());
            out.fields.insert("kind".to_owned(), free());
        }
        out
    }
}

/// What is known of an expression's value.
#[derive(Clone, Debug)]
struct Known {
    cost: u64,
    decl: Rc<Decl>,
    /// Its size, where the expression says it.
    size: Option<u64>,
    /// It is a part of the object: then its type says how large it can be.
    part: bool,
    /// The size of its elements, where the expression says it.
    elements: Option<u64>,
}

impl Known {
    fn of(decl: Rc<Decl>) -> Self {
        Self { cost: 0, decl, size: None, part: true, elements: None }
    }

    fn made(kind: Kind, cost: u64) -> Self {
        Self { cost, decl: Rc::new(Decl::plain(kind)), size: None, part: false, elements: None }
    }

    fn sized(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    fn size(&self) -> u64 {
        let scalar = matches!(self.decl.kind, Kind::Bool | Kind::Number | Kind::Time);
        self.size.or(self.part.then_some(self.decl.most)).or(scalar.then_some(1)).unwrap_or(u64::MAX)
    }

    fn is_text(&self) -> bool {
        matches!(self.decl.kind, Kind::Text | Kind::Bytes | Kind::Dyn | Kind::Unknown)
    }
}

/// Rounded up, as the checker does.
fn times(size: u64, factor: f64) -> u64 {
    let product = (size as f64 * factor).ceil();
    // Casts of too large numbers stop at the largest one.
    product as u64
}

struct Walk<'a> {
    source: &'a str,
    /// The first thing that is wrong.
    fault: Option<String>,
    variables: Vec<(String, Known)>,
}

impl Walk<'_> {
    fn expr(&mut self, expr: &IdedExpr) -> Known {
        match &expr.expr {
            Expr::Unspecified => Known::made(Kind::Unknown, 0),
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Known::made(Kind::Bool, 0),
                LiteralValue::Bytes(bytes) => Known::made(Kind::Bytes, 0).sized(bytes.inner().len() as u64),
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Known::made(Kind::Number, 0),
                LiteralValue::Null => Known::made(Kind::Dyn, 0),
                LiteralValue::String(text) => Known::made(Kind::Text, 0).sized(text.inner().len() as u64),
            },
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(made) => {
                let elements: Vec<Known> = made.elements.iter().map(|element| self.expr(element)).collect();
                let cost = elements.iter().fold(10, |sum: u64, element| sum.saturating_add(element.cost));
                let elem = elements.first().map(|first| first.decl.clone());
                let largest = elements.iter().map(Known::size).max().unwrap_or_default();
                let decl = Rc::new(Decl { elem, ..Decl::plain(Kind::List) });
                Known { cost, decl, size: Some(elements.len() as u64), part: false, elements: Some(largest) }
            }
            Expr::Map(made) => {
                let mut known = Known::made(Kind::Map, 30).sized(made.entries.len() as u64);
                for entry in &made.entries {
                    known.cost = known.cost.saturating_add(self.entry(&entry.expr));
                }
                known
            }
            Expr::Struct(made) => {
                let mut known = Known::made(Kind::Unknown, 40);
                for entry in &made.entries {
                    known.cost = known.cost.saturating_add(self.entry(&entry.expr));
                }
                known
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn entry(&mut self, entry: &EntryExpr) -> u64 {
        match entry {
            EntryExpr::StructField(field) => self.expr(&field.value).cost,
            EntryExpr::MapEntry(entry) => self.expr(&entry.key).cost.saturating_add(self.expr(&entry.value).cost),
        }
    }

    fn ident(&mut self, name: &str) -> Known {
        const TYPES: [&str; 14] = [
            "bool",
            "bytes",
            "double",
            "dyn",
            "int",
            "list",
            "map",
            "null_type",
            "optional_type",
            "string",
            "type",
            "uint",
            "google",
            "net",
        ];
        match self.variables.iter().rev().find(|(own, _)| own == name) {
            Some((_, known)) => Known { cost: 1, ..known.clone() },
            None => {
                if !TYPES.contains(&name) {
                    self.blame(name, 0, &format!("undeclared reference to '{name}' (in container '')"));
                }
                Known::made(Kind::Unknown, 1)
            }
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Known {
        let operand = self.expr(&select.operand);
        let below = match operand.decl.kind {
            Kind::Object => match operand.decl.fields.get(&select.field) {
                Some(field) => Some(field.clone()),
                None => {
                    self.blame(&format!(".{}", select.field), 0, &format!("undefined field '{}'", select.field));
                    None
                }
            },
            Kind::Map => operand.decl.elem.clone(),
            Kind::Bool | Kind::Text | Kind::Bytes => {
                let of = operand.decl.kind;
                let kind = if of == Kind::Bool {
                    "bool"
                } else if of == Kind::Bytes {
                    "bytes"
                } else {
                    "string"
                };
                let field = format!(".{}", select.field);
                let (word, offset) = if select.test { ("has".to_owned(), "has".len()) } else { (field, 0) };
                self.blame(&word, offset, &format!("type '{kind}' does not support field selection"));
                None
            }
            Kind::Dyn | Kind::Number | Kind::Time | Kind::List | Kind::Optional | Kind::Unknown => None,
        };
        if select.test {
            return Known::made(Kind::Bool, operand.cost);
        }
        let own = u64::from(matches!(operand.decl.kind, Kind::Object | Kind::Map));
        let cost = operand.cost.saturating_add(own);
        match below {
            Some(decl) => Known { cost, ..Known { part: operand.part, ..Known::of(decl) } },
            None => Known::made(Kind::Unknown, cost),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Known {
        const SPACES: [&str; 9] = ["base64", "cel", "format", "ip", "cidr", "jsonpatch", "math", "optional", "sets"];
        let space = match call.target.as_deref().map(|target| &target.expr) {
            Some(Expr::Ident(name))
                if SPACES.contains(&name.as_str()) && !self.variables.iter().any(|(own, _)| own == name) =>
            {
                Some(name.as_str())
            }
            Some(_) | None => None,
        };
        let target = match call.target.as_deref() {
            Some(target) if space.is_none() => Some(self.expr(target)),
            Some(_) | None => None,
        };
        let args: Vec<Known> = call.args.iter().map(|arg| self.expr(arg)).collect();
        let of_target = target.as_ref().map_or(0, |target| target.cost);
        let of_args = args.iter().fold(of_target, |sum, arg| sum.saturating_add(arg.cost));
        let mut known = match (&target, space) {
            (_, Some(_)) => named(call.func_name.as_str(), &args),
            (Some(target), None) => method(call.func_name.as_str(), target, &args),
            (None, None) => function(call.func_name.as_str(), &args),
        };
        if let ("_?_:_", [condition, yes, no]) = (call.func_name.as_str(), args.as_slice()) {
            known.cost = condition.cost.saturating_add(yes.cost.max(no.cost));
        } else {
            known.cost = known.cost.saturating_add(of_args);
        }
        known
    }

    fn comprehension(&mut self, it: &ComprehensionExpr) -> Known {
        let range = self.expr(&it.iter_range);
        let init = self.expr(&it.accu_init);
        let depth = self.variables.len();
        self.variables.push((it.accu_var.clone(), Known { part: false, ..init.clone() }));
        let element = match range.decl.kind {
            Kind::List => match range.decl.elem.clone() {
                Some(elem) => Known { part: range.part, size: range.elements, ..Known::of(elem) },
                None => Known::made(Kind::Unknown, 0),
            },
            // Keys.
            Kind::Map => Known::of(Rc::new(Decl::plain(Kind::Text))),
            Kind::Dyn
            | Kind::Bool
            | Kind::Number
            | Kind::Text
            | Kind::Bytes
            | Kind::Time
            | Kind::Object
            | Kind::Optional
            | Kind::Unknown => Known::made(Kind::Unknown, 0),
        };
        self.variables.push((it.iter_var.clone(), element));
        if let Some(second) = &it.iter_var2 {
            let value = range
                .decl
                .elem
                .clone()
                .map_or(Known::made(Kind::Unknown, 0), |elem| Known { part: range.part, ..Known::of(elem) });
            self.variables.push((second.clone(), value));
        }
        let turn = self.expr(&it.loop_cond).cost;
        let step = self.expr(&it.loop_step);
        self.variables.truncate(depth + 1);
        let result = self.expr(&it.result);
        self.variables.truncate(depth);
        let loops = range.size().saturating_mul(turn.saturating_add(step.cost));
        let cost = range.cost.saturating_add(init.cost).saturating_add(result.cost).saturating_add(loops);
        let collects = matches!(it.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let decl = if collects { step.decl.clone() } else { result.decl.clone() };
        let size = if collects { Some(range.size()) } else { Some(init.size()) };
        Known { cost, decl, size, part: false, elements: step.elements }
    }

    /// Remembers the first fault, with the place that it is at, as cel-go shows it.
    fn blame(&mut self, word: &str, offset: usize, why: &str) {
        if self.fault.is_some() {
            return;
        }
        let is_part = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let bytes = self.source.as_bytes();
        let whole = |at: &usize| {
            let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
            let starts = word.starts_with('.') || !is_part(before);
            starts && !is_part(bytes.get(at + word.len()).copied())
        };
        let at = self.source.match_indices(word).map(|(at, _)| at).find(whole).unwrap_or_default() + offset;
        let before = &self.source[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let shown = self.source.lines().nth(line - 1).unwrap_or_default();
        let dots = ".".repeat(column);
        self.fault = Some(format!("ERROR: <input>:{line}:{}: {why}\n | {shown}\n | {dots}^", column + 1));
    }
}

/// Calls without a target: operators, and functions.
fn function(name: &str, args: &[Known]) -> Known {
    match (name, args) {
        ("_&&_" | "_||_", _) => Known::made(Kind::Bool, 0),
        ("_?_:_", [_, yes, no]) => {
            let size = yes.size().max(no.size());
            Known { size: Some(size), cost: 0, part: false, ..yes.clone() }
        }
        ("_==_" | "_!=_", [left, right]) => Known::made(Kind::Bool, times(left.size().min(right.size()), PER_BYTE)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
            let texts = left.is_text() && right.is_text();
            let cost = if texts { times(left.size().min(right.size()), PER_BYTE).max(1) } else { 1 };
            Known::made(Kind::Bool, cost)
        }
        ("_+_", [left, right]) => {
            let size = left.size().saturating_add(right.size());
            match left.decl.kind {
                Kind::List => {
                    let elements = left.elements.zip(right.elements).map(|(left, right)| left.max(right));
                    Known { cost: 1, size: Some(size), part: false, decl: left.decl.clone(), elements }
                }
                Kind::Text | Kind::Bytes => {
                    Known { decl: left.decl.clone(), ..Known::made(Kind::Text, times(size, PER_BYTE)).sized(size) }
                }
                Kind::Dyn | Kind::Unknown => Known::made(Kind::Unknown, times(size, PER_BYTE)).sized(size),
                Kind::Bool | Kind::Number | Kind::Time | Kind::Map | Kind::Object | Kind::Optional => {
                    Known { cost: 1, part: false, size: None, ..left.clone() }
                }
            }
        }
        ("@in", [_, range]) => {
            let cost = if range.decl.kind == Kind::Map { 1 } else { range.size() };
            Known::made(Kind::Bool, cost)
        }
        ("_[_]", [operand, _]) => match operand.decl.elem.clone() {
            Some(elem) => Known { cost: 1, part: operand.part, size: operand.elements, ..Known::of(elem) },
            None => Known::made(Kind::Unknown, 1),
        },
        ("!_" | "@not_strictly_false", _) => Known::made(Kind::Bool, 1),
        ("_-_" | "_*_" | "_/_" | "_%_" | "-_", [first, ..]) => {
            Known { cost: 1, part: false, size: None, ..first.clone() }
        }
        ("size" | "int" | "uint" | "double", _) => Known::made(Kind::Number, 1),
        ("bool", _) => Known::made(Kind::Bool, 1),
        ("string", [value]) => {
            let known = Known::made(Kind::Text, 1);
            if value.decl.kind == Kind::Text { Known { size: Some(value.size()), ..known } } else { known }
        }
        ("bytes", [value]) => {
            Known::made(Kind::Bytes, times(value.size(), PER_BYTE)).sized(value.size().saturating_mul(4))
        }
        ("dyn", [value]) => Known { cost: 1, decl: Rc::new(Decl::plain(Kind::Dyn)), ..value.clone() },
        ("isIP" | "isCIDR" | "isQuantity" | "isSemver" | "isURL", [value, ..]) => {
            Known::made(Kind::Bool, times(value.size(), PER_BYTE))
        }
        ("ip" | "cidr" | "quantity" | "semver" | "url", [value, ..]) => {
            Known::made(Kind::Unknown, times(value.size(), PER_BYTE)).sized(value.size())
        }
        _ => Known::made(Kind::Unknown, 1),
    }
}

/// Calls of a library's own: `sets.contains(a, b)`.
fn named(name: &str, args: &[Known]) -> Known {
    match (name, args) {
        ("contains" | "intersects" | "equivalent", [left, right]) => {
            let both = left.size().saturating_mul(right.size());
            let twice = if name == "equivalent" { both.saturating_mul(2) } else { both };
            Known::made(Kind::Bool, twice.saturating_add(1))
        }
        ("isCanonical", [value]) => Known::made(Kind::Bool, times(value.size(), 2.0 * PER_BYTE)),
        ("escapeKey", [value]) => Known::made(Kind::Text, times(value.size(), PER_BYTE)).sized(value.size()),
        ("of", [value]) => {
            let decl = Rc::new(Decl { elem: Some(value.decl.clone()), ..Decl::plain(Kind::Optional) });
            Known { decl, ..Known::made(Kind::Optional, 1) }
        }
        _ => Known::made(Kind::Unknown, 1),
    }
}

/// Calls with a target.
fn method(name: &str, target: &Known, args: &[Known]) -> Known {
    let size = target.size();
    let first = args.first();
    match (name, first) {
        ("startsWith" | "endsWith", Some(part)) => Known::made(Kind::Bool, times(part.size(), PER_BYTE)),
        ("contains", Some(part)) => {
            Known::made(Kind::Bool, times(size, PER_BYTE).saturating_mul(times(part.size(), PER_BYTE)))
        }
        ("matches" | "find" | "findAll", Some(pattern)) => {
            let text = times(size.saturating_add(1), PER_BYTE);
            let cost = text.saturating_mul(times(pattern.size(), PER_PATTERN_BYTE));
            match name {
                "matches" => Known::made(Kind::Bool, cost),
                "find" => Known::made(Kind::Text, cost).sized(size),
                _ => of_texts(cost, size, Some(size)),
            }
        }
        ("size" | "indexOf" | "lastIndexOf", None) => Known::made(Kind::Number, 1),
        ("indexOf" | "lastIndexOf" | "sum" | "isSorted" | "max" | "min" | "includes", _) => {
            let cost = match &target.decl.elem {
                Some(elem) if matches!(elem.kind, Kind::Text | Kind::Bytes) => {
                    size.saturating_mul(times(elem.most, PER_BYTE).saturating_add(1))
                }
                Some(_) => size,
                None => times(size, PER_BYTE),
            };
            match (name, target.decl.elem.clone()) {
                ("isSorted" | "includes", _) => Known::made(Kind::Bool, cost),
                ("sum" | "max" | "min", Some(elem)) => Known { part: target.part, cost, ..Known::of(elem) },
                _ => Known::made(Kind::Number, cost),
            }
        }
        ("lowerAscii" | "upperAscii" | "trim" | "substring", _) => {
            Known::made(Kind::Text, times(size, PER_BYTE)).sized(size)
        }
        ("replace", Some(from)) => {
            let with = args.get(1).map_or(u64::MAX, Known::size);
            let longest = match from.size.unwrap_or_default() {
                0 => size.saturating_add(1).saturating_mul(with).saturating_add(size),
                from if with <= from => size,
                from => times(size, 1.0 / from as f64).saturating_mul(with),
            };
            Known::made(Kind::Text, times(size, 2.0 * PER_BYTE)).sized(longest)
        }
        ("split", _) => of_texts(times(size, 2.0 * PER_BYTE), size, None),
        ("join", _) => {
            let element = target.elements.or(target.decl.elem.as_ref().map(|elem| elem.most)).unwrap_or(u64::MAX);
            let between = first.map_or(0, Known::size).saturating_mul(size.saturating_sub(1));
            let whole = size.saturating_mul(element).saturating_add(between);
            Known::made(Kind::Text, times(whole, PER_BYTE)).sized(whole)
        }
        ("format", _) => Known::made(Kind::Text, times(size, PER_BYTE)),
        ("hasValue" | "isGreaterThan" | "isLessThan" | "isInteger", _) => Known::made(Kind::Bool, 1),
        ("value" | "orValue", _) if target.decl.kind == Kind::Optional => match target.decl.elem.clone() {
            Some(elem) => Known { cost: 1, ..Known::of(elem) },
            None => Known::made(Kind::Unknown, 1),
        },
        _ => Known::made(Kind::Unknown, 1),
    }
}

/// A list of texts.
fn of_texts(cost: u64, size: u64, elements: Option<u64>) -> Known {
    let decl = Rc::new(Decl { elem: Some(Rc::new(Decl::plain(Kind::Text))), ..Decl::plain(Kind::List) });
    Known { cost, decl, size: Some(size), part: false, elements }
}
