//! Label and field selectors, as `labelSelector=` and `fieldSelector=` write them.

use std::collections::BTreeSet;

use crate::kinds::names;
use crate::status::Status;

/// One requirement on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

/// Labels that somebody asks for. All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Requirement>);

impl Labels {
    /// # Errors
    /// 400 with the words of the real parser, as far as they help.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        let bad = |why: String| {
            let known = why.contains("or 'end of string'") || why.contains(", or 'end of string'");
            Status::bad_request(if known { why } else { format!("unable to parse requirement: {why}") })
        };
        let mut out = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.contains(',') {
                    let why = "found ',', expected: !, identifier, or 'end of string'".to_owned();
                    return Err(bad(why));
                }
                continue;
            }
            out.push(requirement(part).map_err(bad)?);
        }
        Ok(Self(out))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: &[(String, String)]) -> bool {
        let value = |key: &str| labels.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(key).is_some_and(|own| values.iter().any(|one| one == own)),
            Requirement::NotIn(key, values) => value(key).is_none_or(|own| values.iter().all(|one| one != own)),
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::Absent(key) => value(key).is_none(),
            Requirement::Greater(key, than) => {
                value(key).and_then(|own| own.parse::<i64>().ok()).is_some_and(|own| own > *than)
            }
            Requirement::Less(key, than) => {
                value(key).and_then(|own| own.parse::<i64>().ok()).is_some_and(|own| own < *than)
            }
        })
    }
}

/// At commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0_u32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                out.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[from..]);
    out
}

/// Values for the label `key`, each once and in order.
fn values_of<'a>(key: &str, values: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let values: BTreeSet<&str> = values.into_iter().map(str::trim).collect();
    let faults: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, value)| (at, value, names::label_value(value)))
        .filter(|(_, _, reasons)| !reasons.is_empty())
        .map(|(at, value, reasons)| format!("values[{at}][{key}]: Invalid value: {value:?}: {}", reasons.join("; ")))
        .collect();
    match faults.as_slice() {
        [] => Ok(values.into_iter().map(str::to_owned).collect()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let key_of = |key: &str| {
        let key = key.trim();
        match names::qualified(key).as_slice() {
            [] => Ok(key.to_owned()),
            reasons => Err(format!("<nil>: Invalid value: {key:?}: {}", reasons.join("; "))),
        }
    };
    if part == "!" {
        return Err("found '', expected: identifier".to_owned());
    }
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::Absent(key_of(key)?));
    }
    if let Some((head, rest)) = part.split_once('(') {
        let Some(values) = rest.trim_end().strip_suffix(')') else {
            let expected = match rest.trim_end() {
                "" => "',', ')' or identifier",
                rest if rest.ends_with(',') => "',', or identifier",
                _ => "',' or ')'",
            };
            return Err(format!("found '', expected: {expected}"));
        };
        let words: Vec<&str> = head.split_whitespace().collect();
        let [key, operator] = words.as_slice() else {
            return Err(format!("found '(', expected: !, identifier, or 'end of string' in {part:?}"));
        };
        let key = key_of(key)?;
        let values = values_of(&key, values.split(','))?;
        return match *operator {
            "in" => Ok(Requirement::In(key, values)),
            "notin" => Ok(Requirement::NotIn(key, values)),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt, >, <")),
        };
    }
    for (sign, not) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = part.split_once(sign) {
            if value.starts_with('=') {
                return Err("found '=', expected: identifier".to_owned());
            }
            let key = key_of(key)?;
            if let Some(more) = value.split_whitespace().nth(1) {
                return Err(format!("found '{more}', expected: ',' or 'end of string'"));
            }
            let values = values_of(&key, [value])?;
            return Ok(if not { Requirement::NotIn(key, values) } else { Requirement::In(key, values) });
        }
    }
    for (sign, greater) in [('>', true), ('<', false)] {
        if let Some((key, value)) = part.split_once(sign) {
            let key = key_of(key)?;
            let than = value.trim().parse().map_err(|_| {
                let value = value.trim();
                format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer")
            })?;
            return Ok(if greater { Requirement::Greater(key, than) } else { Requirement::Less(key, than) });
        }
    }
    if part.split_whitespace().count() > 1 {
        let second = part.split_whitespace().nth(1).unwrap_or_default();
        if matches!(second, "in" | "notin") {
            return Err("found '' expected: '('".to_owned());
        }
        return Err(format!("found '{second}', expected: in, notin, =, ==, !=, gt, lt, >, <"));
    }
    Ok(Requirement::Exists(key_of(part)?))
}

/// Fields that somebody asks for: name, value, and whether it must not be that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String, bool)>);

impl Fields {
    /// # Errors
    /// 400 where a term is none.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        let mut out = Vec::new();
        for term in text.split(',').filter(|term| !term.is_empty()) {
            let parsed = [("!=", true), ("==", false), ("=", false)]
                .into_iter()
                .find_map(|(sign, not)| term.split_once(sign).map(|(field, value)| (field, value, not)));
            let Some((field, value, not)) = parsed else {
                return Err(Status::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            out.push((field.to_owned(), value.to_owned(), not));
        }
        Ok(Self(out))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that this field must have, if there is one.
    pub(crate) fn exactly(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(own, _, not)| own == field && !not).map(|(_, value, _)| value.as_str())
    }

    pub(crate) fn matches(&self, value: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|(field, wanted, not)| (value(field) == *wanted) != *not)
    }
}

#[cfg(test)]
mod tests;
