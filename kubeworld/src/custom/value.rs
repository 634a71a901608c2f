//! Whether a value is what its schema says, in the words and in the order of the validator of a real server.
//!
//! That one looks at each side of a value for itself: a number where a text belongs is still measured as a number. So
//! one wrong value often has several faults here too.
//!
//! On an update what was wrong before and did not change is let through (ratcheting, KEP-4008).

use serde_json::{Number, Value, json};

use super::formats;
use crate::kinds::fields::{entries, list, option, text, truth};
use crate::status::Cause;

/// Something that is wrong.
#[derive(Clone, Debug)]
struct Fault {
    /// The whole of it: what is said twice is said once.
    text: String,
    /// Where; nothing where it is not said.
    name: Option<String>,
    reason: &'static str,
    message: String,
}

/// The faults, and how much was right: of several alternatives the one that fits best says what is wrong with it.
#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    right: u32,
}

impl Found {
    fn add(&mut self, fault: Fault) {
        if !self.faults.iter().any(|own| own.text == fault.text) {
            self.faults.push(fault);
        }
    }

    fn merge(&mut self, other: Self) {
        other.faults.into_iter().for_each(|fault| self.add(fault));
        self.right += other.right;
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Fault {
    fn invalid(name: &str, value: &Value, message: String) -> Self {
        Self::typed("FieldValueInvalid", name, value, message)
    }

    fn typed(reason: &'static str, name: &str, value: &Value, text: String) -> Self {
        let message = format!("Invalid value: {}: {text}", shown(value));
        Self { text, name: Some(name.to_owned()), reason, message }
    }

    /// Without a place.
    fn plain(text: String) -> Self {
        let message = format!("Invalid value: \"\": {text}");
        Self { text, name: None, reason: "FieldValueInvalid", message }
    }

    fn wrong_type(name: &str, wanted: &str, found: &str) -> Self {
        let text = format!("{name} in body must be of type {wanted}: {found:?}");
        Self::typed("FieldValueTypeInvalid", name, &json!(found), text)
    }

    fn too_many(name: &str, kind: &str, count: usize, most: i64) -> Self {
        Self {
            text: format!("{name} in body should have at most {most} {kind}"),
            name: Some(name.to_owned()),
            reason: "FieldValueTooMany",
            message: format!(
                "Too many: {count}: must have at most {most} {}",
                if most == 1 { "item" } else { "items" }
            ),
        }
    }

    fn cause(self, prefix: &str) -> Cause {
        let name = self.name.unwrap_or_default();
        let name = name.strip_prefix('.').unwrap_or(&name);
        let field = match (prefix, name) {
            ("", "") => "<nil>".to_owned(),
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        };
        Cause { reason: self.reason, message: self.message, field }
    }
}

/// What is wrong with a value. `old` is what was there before, `prefix` where the value stands.
pub(super) fn check(node: &Value, value: &Value, old: Option<&Value>, prefix: &str) -> Vec<Cause> {
    ratcheted(node, value, "", old).faults.into_iter().map(|fault| fault.cause(prefix)).collect()
}

/// A value as Go prints it: numbers without a needless fraction.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) => shown_number(number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn shown_number(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(number) => go_float(number),
        None => number.to_string(),
    }
}

/// `%v` of Go.
fn go_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        Ok(_) | Err(_) => number.to_string(),
    }
}

/// The JSON type of a value, and the format that Go has it in.
fn kind_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.as_i64().is_some() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// The types that a schema allows.
fn types(node: &Value) -> Vec<&str> {
    if truth(node, "x-kubernetes-int-or-string") {
        return vec!["integer", "string"];
    }
    Some(text(node, "type")).filter(|kind| !kind.is_empty()).into_iter().collect()
}

/// Where a value did not change, nothing is wrong with it.
fn ratcheted(node: &Value, value: &Value, path: &str, old: Option<&Value>) -> Found {
    let mut found = at(node, value, path, old);
    if old == Some(value) {
        found.faults.clear();
    }
    found
}

fn at(node: &Value, value: &Value, path: &str, old: Option<&Value>) -> Found {
    let mut found = Found::default();
    let types = types(node);
    // A format that means nothing for the type is none.
    let kind = if let [one] = types.as_slice() { one } else { "" };
    let format = Some(text(node, "format")).filter(|format| formats::is_known_format(kind, format)).unwrap_or_default();
    if value.is_null() {
        if !types.is_empty() && !truth(node, "nullable") {
            found.add(Fault::wrong_type(path, &types.join(","), "null"));
        }
        check_enum(&mut found, node, value, path);
        return found;
    }
    if !types.is_empty() || !format.is_empty() {
        found.merge(check_type(&types, format, value, path));
        found.right += 1;
    }
    found.merge(check_branches(node, value, path, old));
    found.right += 1;
    match value {
        Value::String(text) => {
            check_text(&mut found, node, text, path);
            found.right += 1;
            if !format.is_empty() && formats::is_known_format("", format) {
                if !formats::has_format(format, text) {
                    let fault = Fault::wrong_type(path, format, text);
                    found.add(fault);
                }
                found.right += 1;
            }
        }
        Value::Number(number) => {
            found.merge(check_number(node, &types, format, number, path));
            found.right += 1;
        }
        Value::Array(items) => {
            found.merge(check_items(node, items, path, old));
            found.right += 1;
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => {}
    }
    check_enum(&mut found, node, value, path);
    found.right += 1;
    if value.is_object() {
        found.merge(check_fields(node, value, path, old));
        found.right += 1;
    }
    found.right += 1;
    found
}

fn is_whole(number: f64) -> bool {
    number.is_finite() && number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0
}

fn check_type(types: &[&str], format: &str, value: &Value, path: &str) -> Found {
    let mut found = Found { right: 1, ..Found::default() };
    let (kind, own_format) = kind_of(value);
    let has = |kind: &str| types.contains(&kind);
    let whole = kind == "number" && has("integer") && value.as_f64().is_some_and(is_whole);
    let fits = has(kind) || whole || (kind == "integer" && has("number"));
    let sized = matches!(value, Value::String(_) | Value::Array(_));
    let fits_format = fits || own_format == format;
    if !sized && !format.is_empty() && !fits_format {
        return Found { faults: vec![Fault::wrong_type(path, format, own_format)], right: 0 };
    }
    let numeric = has("number") || has("integer");
    if !numeric && !format.is_empty() && sized {
        return found;
    }
    if !fits {
        found = Found { faults: vec![Fault::wrong_type(path, &types.join(","), kind)], right: 0 };
    }
    found
}

fn check_enum(found: &mut Found, node: &Value, value: &Value, path: &str) {
    let allowed = list(node, "enum");
    let same = |allowed: &Value| match (allowed, value) {
        (Value::Number(allowed), Value::Number(value)) => match (allowed.as_i64(), value.as_i64()) {
            (Some(allowed), Some(value)) => allowed == value,
            (_, _) => allowed.as_f64() == value.as_f64(),
        },
        (allowed, value) => allowed == value,
    };
    if allowed.is_empty() || allowed.iter().any(same) {
        return;
    }
    let words = allowed.iter().map(|allowed| match allowed {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => allowed.to_string(),
    });
    let list: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    found.add(Fault {
        text: format!("{path} in body should be one of [{}]", list.join(" ")),
        name: Some(path.to_owned()),
        reason: "FieldValueNotSupported",
        message: format!("Unsupported value: {}: supported values: {}", shown(value), list.join(", ")),
    });
}

fn check_text(found: &mut Found, node: &Value, value: &str, path: &str) {
    let length = i64::try_from(value.chars().count()).unwrap_or(i64::MAX);
    let bound = |key: &str| node.get(key).and_then(Value::as_i64);
    if let Some(most) = bound("maxLength").filter(|most| length > *most) {
        found.add(Fault {
            text: format!("{path} in body should be at most {most} chars long"),
            name: Some(path.to_owned()),
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {most} bytes"),
        });
    } else if let Some(least) = bound("minLength").filter(|least| length < *least) {
        let why = format!("{path} in body should be at least {least} chars long");
        found.add(Fault::invalid(path, &json!(value), why));
    } else if let pattern = text(node, "pattern")
        && !pattern.is_empty()
        && !matches_pattern(pattern, value)
    {
        found.add(Fault::invalid(path, &json!(value), format!("{path} in body should match '{pattern}'")));
    }
}

/// Patterns are compiled once for each thread. A pattern that is none was refused with its definition.
fn matches_pattern(pattern: &str, value: &str) -> bool {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    thread_local! {
        static KNOWN: RefCell<BTreeMap<String, Option<regex::Regex>>> = const { RefCell::new(BTreeMap::new()) };
    }
    // More than a cluster has; a client that sends ever new definitions shall not fill the memory.
    const PATTERNS_MAX: usize = 4096;
    KNOWN.with_borrow_mut(|known| {
        if known.len() > PATTERNS_MAX {
            known.clear();
        }
        if !known.contains_key(pattern) {
            known.insert(pattern.to_owned(), regex::Regex::new(pattern).ok());
        }
        known.get(pattern).and_then(Option::as_ref).is_none_or(|regex| regex.is_match(value))
    })
}

/// Whether a number can be had in a type and a format without loss; what is wrong where it cannot.
fn out_of_range(number: &Number, types: &[&str], format: &str, what: &str, path: &str) -> Option<Fault> {
    let [kind] = types else { return None };
    let whole = || {
        let float = number.as_f64().filter(|float| is_whole(*float));
        number.as_i64().or_else(|| float.and_then(|float| format!("{float:.0}").parse::<i64>().ok()))
    };
    let (fits, format) = match *kind {
        "integer" => match format {
            "int32" => (whole().is_some_and(|number| i32::try_from(number).is_ok()), "int32"),
            "int64" => (whole().is_some(), "int64"),
            _ => (whole().is_some(), ""),
        },
        "number" if format == "float" => {
            (number.as_f64().is_some_and(|number| number.abs() <= f64::from(f32::MAX)), "float")
        }
        _ => (true, ""),
    };
    (!fits).then(|| {
        let with = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
        Fault::plain(format!("{what} value must be of type {kind} {with} in {path}"))
    })
}

fn check_number(node: &Value, types: &[&str], format: &str, number: &Number, path: &str) -> Found {
    let mut found = Found::default();
    let value = Value::Number(number.clone());
    if let Some(fault) = out_of_range(number, types, format, "Checked", path) {
        found.add(fault);
    }
    let bound = |key: &str| match node.get(key) {
        Some(Value::Number(bound)) => Some(bound.clone()),
        Some(_) | None => None,
    };
    let float = number.as_f64().unwrap_or_default();
    // A bound is compared as a whole number where the value is one, and the bound fits its type.
    let as_whole = |bound: &Number, fits: bool| {
        let whole =
            bound.as_i64().or_else(|| bound.as_f64().and_then(|bound| format!("{:.0}", bound.trunc()).parse().ok()));
        number.as_i64().zip(whole).filter(|_| fits)
    };
    if let Some(step) = bound("multipleOf") {
        let fault = out_of_range(&step, types, format, "MultipleOf", path);
        let fits = fault.is_none();
        fault.into_iter().for_each(|fault| found.add(fault));
        let shown_step = |step: String, positive: bool, multiple: bool, found: &mut Found| {
            if !positive {
                let why = format!("factor MultipleOf declared for {path} must be positive: {step}");
                let shown = step.parse::<i64>().map_or_else(|_| step_value(&step), |step| json!(step));
                found.add(Fault::invalid(path, &shown, why));
            } else if !multiple {
                found.add(Fault::invalid(path, &value, format!("{path} in body should be a multiple of {step}")));
            }
        };
        match as_whole(&step, fits) {
            Some((number, step)) => {
                let multiple = step > 0 && number % step == 0;
                shown_step(step.to_string(), step > 0, multiple, &mut found);
            }
            None => {
                let step = step.as_f64().unwrap_or_default();
                let times = if step < 1.0 { 1.0 / step * float } else { float / step };
                shown_step(go_float(step), step > 0.0, is_whole(times), &mut found);
            }
        }
    }
    for (key, exclusive_key, what, upper) in [
        ("minimum", "exclusiveMinimum", "Minimum boundary", false),
        ("maximum", "exclusiveMaximum", "Maximum boundary", true),
    ] {
        let Some(limit) = bound(key) else { continue };
        let exclusive = truth(node, exclusive_key);
        let fault = out_of_range(&limit, types, format, what, path);
        let fits = fault.is_none();
        let (order, limit) = match as_whole(&limit, fits) {
            Some((number, limit)) => (Some(number.cmp(&limit)), limit.to_string()),
            None => {
                let limit = limit.as_f64().unwrap_or_default();
                (float.partial_cmp(&limit), go_float(limit))
            }
        };
        let wrong = match order {
            Some(std::cmp::Ordering::Greater) => upper,
            Some(std::cmp::Ordering::Less) => !upper,
            Some(std::cmp::Ordering::Equal) => exclusive,
            None => false,
        };
        let mut own = Found::default();
        fault.into_iter().for_each(|fault| own.add(fault));
        if wrong {
            let side = if upper { "less" } else { "greater" };
            let or_equal = if exclusive { "" } else { " or equal to" };
            let than = format!("should be {side} than{or_equal} {limit}");
            own.add(Fault::invalid(path, &value, format!("{path} in body {than}")));
        }
        found.merge(own);
    }
    found.right += 1;
    found
}

fn step_value(step: &str) -> Value {
    step.parse::<f64>().map_or(Value::Null, |step| json!(step))
}

fn check_items(node: &Value, items: &[Value], path: &str, old: Option<&Value>) -> Found {
    let mut found = Found::default();
    if let Some(below) = option(node, "items").filter(|below| below.is_object()) {
        for (index, item) in items.iter().enumerate() {
            let before = old.and_then(|old| correlated(node, item, old));
            found.merge(ratcheted(below, item, &format!("{path}[{index}]"), before));
        }
    }
    let count = items.len();
    let bound = |key: &str| node.get(key).and_then(Value::as_i64);
    let size = i64::try_from(count).unwrap_or(i64::MAX);
    if let Some(least) = bound("minItems").filter(|least| size < *least) {
        found.add(Fault::invalid(path, &json!(size), format!("{path} in body should have at least {least} items")));
    }
    if let Some(most) = bound("maxItems").filter(|most| size > *most) {
        found.add(Fault::too_many(path, "items", count, most));
    }
    found.right += 1;
    found
}

/// The item of an old list that an item of the new one comes from: only lists that are maps say so.
pub(super) fn correlated<'a>(node: &Value, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if text(node, "x-kubernetes-list-type") != "map" {
        return None;
    }
    let keys = list(node, "x-kubernetes-list-map-keys");
    let same = |other: &&Value| {
        keys.iter().filter_map(Value::as_str).all(|key| other.get(key) == item.get(key)) && other.is_object()
    };
    old.as_array()?.iter().find(same)
}

fn check_fields(node: &Value, value: &Value, path: &str, old: Option<&Value>) -> Found {
    let mut found = Found::default();
    let Some(fields) = value.as_object() else { return found };
    let size = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    let bound = |key: &str| node.get(key).and_then(Value::as_i64);
    if let Some(least) = bound("minProperties").filter(|least| size < *least) {
        let why = format!("{path} in body should have at least {least} properties");
        found.add(Fault::invalid(path, &json!(size), why));
    }
    if let Some(most) = bound("maxProperties").filter(|most| size > *most) {
        found.add(Fault::too_many(path, "properties", fields.len(), most));
    }
    // What every object has in its head is never as it was: both are of the version that is asked for.
    let before = |key: &str| {
        let own = path.is_empty() && matches!(key, "apiVersion" | "kind");
        old.filter(|_| !own).and_then(|old| old.get(key))
    };
    let properties = node.get("properties");
    let is_property = |key: &str| properties.is_some_and(|properties| properties.get(key).is_some());
    match option(node, "additionalProperties") {
        Some(Value::Bool(false)) => {
            for key in fields.keys().filter(|key| !is_property(key)) {
                let why = format!("{path}.{key} in body is a forbidden property");
                found.add(Fault::invalid(path, &json!(key), why));
            }
        }
        Some(below) if below.is_object() => {
            for (key, value) in fields.iter().filter(|(key, _)| !is_property(key)) {
                found.merge(ratcheted(below, value, &format!("{path}.{key}"), before(key)));
            }
        }
        Some(_) | None => {}
    }
    for (key, below) in entries(node, "properties") {
        if let Some(value) = fields.get(key) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            found.merge(ratcheted(below, value, &path, before(key)));
        }
    }
    for key in list(node, "required").iter().filter_map(Value::as_str) {
        if !fields.contains_key(key) {
            let name = format!("{path}.{key}");
            found.add(Fault {
                text: format!("{name} in body is required"),
                name: Some(name),
                reason: "FieldValueRequired",
                message: "Required value".to_owned(),
            });
        }
    }
    found
}

/// Keeps what fits best so far.
fn keep_best(best: &mut Option<Found>, found: Found) {
    if best.as_ref().is_none_or(|best| found.right > best.right) {
        *best = Some(found);
    }
}

fn check_branches(node: &Value, value: &Value, path: &str, old: Option<&Value>) -> Found {
    let mut found = Found::default();
    let any = list(node, "anyOf");
    if !any.is_empty() {
        let mut best = None;
        let mut first = None;
        for branch in any {
            let result = at(branch, value, path, old);
            if result.is_valid() {
                first = Some(result);
                break;
            }
            keep_best(&mut best, result);
        }
        if first.is_none() {
            found.add(Fault::plain(format!("{path:?} must validate at least one schema (anyOf)")));
        }
        if let Some(result) = first.or(best) {
            found.merge(result);
        }
    }
    let one = list(node, "oneOf");
    if !one.is_empty() {
        let (mut best, mut first, mut valid) = (None, None, 0);
        for branch in one {
            let result = at(branch, value, path, old);
            if result.is_valid() {
                valid += 1;
                first.get_or_insert(result);
            } else if valid == 0 {
                keep_best(&mut best, result);
            }
        }
        if valid == 1 {
            found.merge(first.unwrap_or_default());
        } else {
            let how =
                if valid == 0 { "Found none valid".to_owned() } else { format!("Found {valid} valid alternatives") };
            found.add(Fault::plain(format!("{path:?} must validate one and only one schema (oneOf). {how}")));
            if valid == 0 {
                found.merge(best.unwrap_or_default());
            }
        }
    }
    let all = list(node, "allOf");
    if !all.is_empty() {
        let mut valid = 0;
        for branch in all {
            let result = at(branch, value, path, old);
            valid += usize::from(result.is_valid());
            found.merge(result);
        }
        if valid != all.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            found.add(Fault::plain(format!("{path:?} must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(branch) = option(node, "not")
        && at(branch, value, path, old).is_valid()
    {
        found.add(Fault::plain(format!("{path:?} must not validate the schema (not)")));
    }
    found.right += 1;
    found
}
