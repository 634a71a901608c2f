//! JSONPath as CRDs use it for printer columns: the dialect of Kubernetes' clients, of which an API server reads one
//! path, without braces.
//!
//! Fields (`.a`, `['a']`, `\.` for a dot in a name), indices and slices of lists (`[0]`, `[-1]`, `[1:3:2]`, `[*]`),
//! unions of these (`[0,2]`), filters (`[?(@.a=="x")]`, with `== != < <= > >=` or for mere existence), `*` and `..`.
//! What cannot be evaluated, such as an index out of bounds, makes the whole path find nothing.
//!
//! Deliberately absent: `range`, and text between paths.

use std::cmp::Ordering;

use serde_json::Value;

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Slice(Slice),
    Union(Vec<JsonPath>),
    Filter(Box<Filter>),
    Wildcard,
    Recursive,
    /// A literal, on the right of a comparison.
    Literal(Value),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    start: Option<i64>,
    end: End,
    step: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// A single index: the slice has one element.
    One,
    /// To the end of the list.
    Open,
    At(i64),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: JsonPath,
    /// None asks whether the left side exists.
    comparison: Option<(Comparison, JsonPath)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How deep filters and unions may nest: each is a call within a call.
const DEPTH_MAX: usize = 16;

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::parse_nested(text, 0)
    }

    fn parse_nested(text: &str, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut rest = text;
        let mut steps = Vec::new();
        while let Some(first) = rest.chars().next() {
            if let Some(filter) = rest.strip_prefix("[?(") {
                let end = end_of_filter(filter)?;
                steps.push(Step::Filter(Box::new(parse_filter(&filter[..end], depth)?)));
                rest = filter[end..].strip_prefix(")]")?;
            } else if let Some(after) = rest.strip_prefix("..") {
                if steps.last() == Some(&Step::Recursive) {
                    return None;
                }
                steps.push(Step::Recursive);
                rest = after;
                if after.starts_with(is_word) {
                    rest = parse_field(after, &mut steps);
                }
            } else if first == '[' {
                let end = rest.find(']')?;
                steps.extend(parse_brackets(&rest[1..end], depth)?);
                rest = &rest[end + 1..];
            } else if first == '.' {
                rest = parse_field(&rest[1..], &mut steps);
            } else if first == '"' || first == '\'' {
                let end = end_of_quote(&rest[1..], first)?;
                steps.push(Step::Literal(Value::String(unquote(&rest[1..=end])?)));
                rest = &rest[end + 2..];
            } else if first.is_ascii_digit() || first == '+' || first == '-' {
                let sign = usize::from(!first.is_ascii_digit());
                let length = rest[sign..].find(|c: char| !c.is_ascii_digit() && c != '.');
                let (number, after) = rest.split_at(length.map_or(rest.len(), |length| sign + length));
                let number = number.strip_prefix('+').unwrap_or(number);
                let number = match number.parse::<i64>() {
                    Ok(whole) => whole.into(),
                    Err(_) => number.parse::<f64>().ok().and_then(serde_json::Number::from_f64)?,
                };
                steps.push(Step::Literal(Value::Number(number)));
                rest = after;
            } else if matches!(first, ' ' | '@' | '$') {
                rest = &rest[1..];
            } else if let Some(after) = rest.strip_prefix("true") {
                steps.push(Step::Literal(Value::Bool(true)));
                rest = after;
            } else if let Some(after) = rest.strip_prefix("false") {
                steps.push(Step::Literal(Value::Bool(false)));
                rest = after;
            } else {
                return None;
            }
        }
        Some(Self { steps })
    }

    /// Everything that the path leads to, in order; none where it cannot be followed.
    pub(super) fn find<'a>(&'a self, root: &'a Value) -> Option<Vec<&'a Value>> {
        self.follow(vec![root])
    }

    fn follow<'a>(&'a self, input: Vec<&'a Value>) -> Option<Vec<&'a Value>> {
        let mut current = input;
        for step in &self.steps {
            current = step.follow(&current)?;
        }
        Some(current)
    }
}

impl Step {
    fn follow<'a>(&'a self, input: &[&'a Value]) -> Option<Vec<&'a Value>> {
        let mut found = Vec::new();
        match self {
            Self::Field(name) => found.extend(input.iter().filter_map(|value| value.as_object()?.get(name))),
            Self::Wildcard => found.extend(input.iter().flat_map(|value| children(value))),
            Self::Recursive => input.iter().for_each(|value| descend(value, &mut found)),
            Self::Literal(literal) => found.extend(input.iter().map(|_| literal)),
            Self::Union(paths) => {
                for path in paths {
                    found.extend(path.follow(input.to_vec())?);
                }
            }
            Self::Slice(slice) => {
                for value in input.iter().filter(|value| !value.is_null()) {
                    found.extend(slice.of(value.as_array()?)?);
                }
            }
            Self::Filter(filter) => {
                for value in input {
                    for element in value.as_array()? {
                        if filter.passes(element)? {
                            found.push(element);
                        }
                    }
                }
            }
        }
        Some(found)
    }
}

impl Slice {
    /// None where it is out of bounds.
    fn of<'a>(&self, list: &'a [Value]) -> Option<Vec<&'a Value>> {
        let length = i64::try_from(list.len()).ok()?;
        let from_end = |index: i64| if index < 0 { index + length } else { index };
        let start = from_end(self.start.unwrap_or(0));
        let end = match self.end {
            End::One => start.checked_add(1)?,
            End::Open => length,
            End::At(end) => from_end(end),
        };
        if start == end {
            return Some(Vec::new());
        }
        let step = usize::try_from(self.step.unwrap_or(1)).ok().filter(|step| *step > 0)?;
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        if start >= list.len() {
            return None;
        }
        Some(list.get(start..end)?.iter().step_by(step).collect())
    }
}

impl Filter {
    /// None where the two sides cannot be compared.
    fn passes(&self, element: &Value) -> Option<bool> {
        let left = self.left.find(element);
        let Some((comparison, right)) = &self.comparison else {
            return Some(left.is_some_and(|found| !found.is_empty()));
        };
        let (left, right) = (left?, right.find(element)?);
        match (left.as_slice(), right.as_slice()) {
            ([], _) | ([_], []) => Some(false),
            ([left], [right]) => comparison.holds(left, right),
            ([..], [..]) => None,
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> Option<bool> {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) if matches!(self, Self::Equal | Self::NotEqual) => left.cmp(right),
            // Whole numbers and those with a point do not compare, as in Go.
            (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
                match (left.as_i64(), right.as_i64()) {
                    (Some(left), Some(right)) => left.cmp(&right),
                    (_, _) => left.as_f64()?.partial_cmp(&right.as_f64()?)?,
                }
            }
            (_, _) => return None,
        };
        Some(match self {
            Self::Equal => order == Ordering::Equal,
            Self::NotEqual => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
        })
    }
}

/// The text that stands for a value in a cell.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => go_float(float),
            None => number.to_string(),
        },
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A float as Go prints it: with an exponent from 1e21 on and below 1e-4, of two digits at least.
fn go_float(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-4..1e21).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Everything below a value that has something below itself, and itself.
fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    let below = children(value);
    if below.is_empty() {
        return;
    }
    found.push(value);
    for child in below {
        descend(child, found);
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Reads a name up to what ends it, and gives back what follows.
fn parse_field<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let (mut name, mut rest) = (String::new(), "");
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            name.extend(chars.next().map(|(_, escaped)| escaped).filter(|escaped| *escaped != '\\'));
        } else if matches!(c, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}') {
            rest = &text[at..];
            break;
        } else {
            name.push(c);
        }
    }
    steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
    rest
}

/// Reads what is between `[` and `]`.
fn parse_brackets(text: &str, depth: usize) -> Option<Vec<Step>> {
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 1 {
        let paths =
            parts.iter().map(|part| JsonPath::parse_nested(&format!("[{}]", part.trim_matches(' ')), depth + 1));
        return Some(vec![Step::Union(paths.collect::<Option<_>>()?)]);
    }
    if let Some(name) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).filter(|name| !name.is_empty())
    {
        return Some(JsonPath::parse_nested(&format!(".{name}"), depth + 1)?.steps);
    }
    if text == "*" {
        return Some(vec![Step::Slice(Slice { start: None, end: End::Open, step: None })]);
    }
    let number = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    let parts: Vec<&str> = text.split(':').collect();
    let slice = match parts.as_slice() {
        [index] => Slice { start: Some(number(index)??), end: End::One, step: None },
        [start, end] => Slice { start: number(start)?, end: number(end)?.map_or(End::Open, End::At), step: None },
        [start, end, step] => {
            Slice { start: number(start)?, end: number(end)?.map_or(End::Open, End::At), step: number(step)? }
        }
        [..] => return None,
    };
    Some(vec![Step::Slice(slice)])
}

/// Where the `)` is that ends a filter; one within quotes does not.
fn end_of_filter(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut previous = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open && previous != Some('\\') => quote = None,
            (None, ')') => return Some(at),
            _ => {}
        }
        previous = Some(c);
    }
    None
}

/// Reads what is between `[?(` and `)]`.
fn parse_filter(text: &str, depth: usize) -> Option<Filter> {
    let is_operator = |c: char| matches!(c, '!' | '<' | '>' | '=');
    let operator_at = text.find(is_operator).filter(|at| *at > 0);
    let Some(at) = operator_at else {
        return Some(Filter { left: JsonPath::parse_nested(text, depth + 1)?, comparison: None });
    };
    let after = &text[at..];
    let length = after.find(|c| !is_operator(c))?;
    let comparison = match &after[..length] {
        "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    };
    let left = JsonPath::parse_nested(&text[..at], depth + 1)?;
    let right = JsonPath::parse_nested(&after[length..], depth + 1)?;
    Some(Filter { left, comparison: Some((comparison, right)) })
}

/// Where the quote ends that began before `text`.
fn end_of_quote(text: &str, quote: char) -> Option<usize> {
    let mut previous = None;
    for (at, c) in text.char_indices() {
        if c == quote && previous != Some('\\') {
            return Some(at);
        }
        previous = Some(c);
    }
    None
}

/// Resolves the escapes that people write in a path.
fn unquote(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                c @ ('\\' | '"' | '\'') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests;
