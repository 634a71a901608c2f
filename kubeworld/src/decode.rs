//! From the bytes of a body to a value, and what was wrong with them.
//!
//! JSON, YAML, and what a strict reading would refuse: keys that are there twice (found while parsing) and fields that
//! a type does not have (found by walking the schema, which also takes them out).

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::schema::{Form, Format, Scalar, Schema, TypeId};

/// A body, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    /// What a strict reading refuses, such as `duplicate field "data.a"`.
    pub(crate) strict: Vec<String>,
}

/// Parses JSON. Of a key that is there twice the last value counts.
///
/// # Errors
/// As text, when it is no JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Parsed, String> {
    read_json(bytes, false)
}

/// The same for a body that goes into a Go struct: of a map that is there twice both count.
pub(crate) fn json_into_struct(bytes: &[u8]) -> Result<Parsed, String> {
    read_json(bytes, true)
}

fn read_json(bytes: &[u8], join: bool) -> Result<Parsed, String> {
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let seed = Strict { path: &mut path, duplicates: &mut duplicates, join };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = seed.deserialize(&mut reader).map_err(|error| go_words(bytes, &error))?;
    if reader.end().is_err() {
        let at = bytes.len().min(first_after(bytes, &mut reader));
        let next = bytes.get(at).map_or(String::new(), |byte| char::from(*byte).to_string());
        return Err(format!("invalid character {next:?} after top-level value").replace('"', "'"));
    }
    let strict = duplicates.into_iter().map(|path| format!("duplicate field {path:?}")).collect();
    Ok(Parsed { value, strict })
}

fn first_after(bytes: &[u8], _reader: &mut serde_json::Deserializer<serde_json::de::SliceRead<'_>>) -> usize {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<serde::de::IgnoredAny>();
    let _ = stream.next();
    let end = stream.byte_offset();
    end + bytes[end.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Go's words for the usual mistakes, since people search for them.
fn go_words(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    // Line and column count from one; the column of the byte that was not expected.
    let start: usize =
        bytes.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let at = (start + error.column()).saturating_sub(1);
    let found = bytes.get(at).map_or(' ', |byte| char::from(*byte));
    let context = match error.to_string() {
        text if text.starts_with("expected value") || text.starts_with("expected ident") => {
            "looking for beginning of value"
        }
        text if text.starts_with("key must be a string") => "looking for beginning of object key string",
        text if text.starts_with("expected `,` or `}`") => "after object key:value pair",
        text if text.starts_with("expected `,` or `]`") => "after array element",
        text if text.starts_with("expected `:`") => "after object key",
        text if text.starts_with("recursion limit") => {
            return format!("invalid character {found:?} exceeded max depth");
        }
        text => return text,
    };
    let found = if found.is_ascii_graphic() || found == ' ' {
        format!("{found:?}")
    } else {
        format!("'\\u{:04x}'", u32::from(found))
    };
    format!("invalid character {found} {context}")
}

/// Parses YAML, of which JSON is a part.
///
/// # Errors
/// As text, when it is no YAML.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Parsed, String> {
    if let Ok(parsed) = json(bytes) {
        return Ok(parsed);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("error converting YAML to JSON: {error}"))?;
    let value = serde_saphyr::from_str::<Value>(text)
        .map_err(|error| format!("error converting YAML to JSON: yaml: {}", yaml_words(&error.to_string())))?;
    Ok(Parsed { value, strict: Vec::new() })
}

/// What is wrong, without where: the first line of a message, behind its position.
fn yaml_words(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let words = match line.split_once("column ") {
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, words)| words),
        None => line,
    };
    words.to_owned()
}

/// Reads a value, remembering the paths of keys that are there twice.
struct Strict<'a> {
    path: &'a mut String,
    duplicates: &'a mut Vec<String>,
    join: bool,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Value::from(value)),
            // Go takes it for a float.
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Go writes whole floats without a point, in their shortest digits.
        let whole = format!("{value}");
        Ok(match whole.parse::<i64>() {
            Ok(whole) => Value::from(whole),
            Err(_) => whole.parse::<u64>().map_or_else(|_| Value::from(value), Value::from),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let length = self.path.len();
            self.path.push_str(&format!("[{}]", out.len()));
            let item =
                items.next_element_seed(Strict { path: self.path, duplicates: self.duplicates, join: self.join });
            self.path.truncate(length);
            match item? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if out.contains_key(&key) {
                self.duplicates.push(self.path.clone());
            }
            let seed = Strict { path: self.path, duplicates: self.duplicates, join: self.join };
            let value = entries.next_value_seed(seed);
            self.path.truncate(length);
            match (out.get_mut(&key), value?) {
                (Some(Value::Object(known)), Value::Object(more)) if self.join => known.extend(more),
                (_, value) => drop(out.insert(key, value)),
            }
        }
        Ok(Value::Object(out))
    }
}

/// A value that a Go struct could not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch(pub(crate) String);

/// Takes out of a value the fields that its type does not have, and says which they were.
///
/// # Errors
/// When a value has a form that its type cannot take, in the words of Go's decoder.
pub(crate) fn fit(schema: &Schema, ty: TypeId, value: &mut Value) -> Result<Vec<String>, Mismatch> {
    let mut unknown = Vec::new();
    let mut path = String::new();
    fit_at(schema, ty, value, &schema.get(ty).name, &mut path, &mut unknown)?;
    Ok(unknown)
}

fn fit_at(
    schema: &Schema,
    id: TypeId,
    value: &mut Value,
    within: &str,
    path: &mut String,
    unknown: &mut Vec<String>,
) -> Result<(), Mismatch> {
    if value.is_null() {
        return Ok(());
    }
    let ty = schema.get(id);
    let mismatch = |found: &str, wanted: &str| {
        Err(Mismatch(format!(
            "json: cannot unmarshal {found} into Go struct field {within}.{} of type {wanted}",
            in_go(path)
        )))
    };
    let found = match value {
        Value::Null => return Ok(()),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let named = if ty.name.is_empty() { within } else { &ty.name };
    match ty.form(Some(value)) {
        Form::Scalar => {
            let fits = match (ty.scalar, ty.format) {
                (_, Format::IntOrString | Format::Quantity) => value.is_string() || value.is_number(),
                (Some(Scalar::String), _) => value.is_string(),
                (Some(Scalar::Number), _) => value.is_number(),
                (Some(Scalar::Boolean), _) => value.is_boolean(),
                (Some(Scalar::Untyped), Format::DateTime) => value.is_string(),
                (Some(Scalar::Untyped) | None, _) => true,
            };
            let wanted = match (ty.scalar, ty.format) {
                (_, Format::Int32) => "int32",
                (_, Format::Int64) => "int64",
                (_, Format::Double) => "float64",
                (_, Format::Bytes) => "[]uint8",
                (Some(Scalar::Boolean), _) => "bool",
                (Some(Scalar::Number), _) => "int",
                (Some(Scalar::String | Scalar::Untyped) | None, _) => "string",
            };
            if !fits {
                return mismatch(&found, wanted);
            }
            if let (Format::Bytes, Value::String(text)) = (ty.format, &*value)
                && let Some(at) = bad_base64(text)
            {
                return Err(Mismatch(format!("illegal base64 data at input byte {at}")));
            }
            if matches!(ty.format, Format::Int32 | Format::Int64)
                && let Value::Number(number) = &*value
                && number.as_i64().is_none_or(|whole| ty.format == Format::Int32 && i32::try_from(whole).is_err())
            {
                return mismatch(&format!("number {number}"), wanted);
            }
            Ok(())
        }
        Form::List(list) => {
            let element = list.element;
            let Value::Array(items) = value else {
                return mismatch(&found, &format!("[]{}", go_name(schema, element)));
            };
            for (at, item) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{at}]"));
                let result = fit_at(schema, element, item, named, path, unknown);
                path.truncate(length);
                result?;
            }
            Ok(())
        }
        Form::Map(map) => {
            let Value::Object(fields) = value else {
                let wanted = match map.element {
                    Some(element) if map.fields.is_empty() => format!("map[string]{}", go_name(schema, element)),
                    Some(_) | None => go_name(schema, id),
                };
                return mismatch(&found, &wanted);
            };
            let strange: Vec<String> = fields.keys().filter(|key| map.under(key).is_none()).cloned().collect();
            for key in strange {
                fields.remove(&key);
                let dot = if path.is_empty() { "" } else { "." };
                unknown.push(format!("unknown field \"{path}{dot}{key}\""));
            }
            for (key, value) in fields.iter_mut() {
                let Some(ty) = map.under(key) else { continue };
                let length = path.len();
                // Keys of maps are no fields of structs.
                if map.fields.is_empty() {
                    path.push_str(&format!("[{key}]"));
                } else {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                }
                let result = fit_at(schema, ty, value, named, path, unknown);
                path.truncate(length);
                result?;
            }
            Ok(())
        }
    }
}

/// Where a text stops being base64 with padding, if it does.
fn bad_base64(text: &str) -> Option<usize> {
    let mut letters = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' | b'\r' => {}
            b'=' if letters % 4 >= 2 => {
                let padding = text.as_bytes()[at..].iter().filter(|byte| **byte == b'=').count();
                let rest = text.as_bytes()[at..].iter().position(|byte| !matches!(byte, b'=' | b'\n' | b'\r'));
                return match rest {
                    Some(more) => Some(at + more),
                    None if letters % 4 + padding == 4 => None,
                    None => Some(text.len()),
                };
            }
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => letters += 1,
            _ => return Some(at),
        }
    }
    // Where the group of four begins that is not complete.
    (letters % 4 != 0).then(|| text.len() - letters % 4)
}

/// A path as Go's decoder names it: without the positions in lists.
fn in_go(path: &str) -> String {
    let mut out = String::new();
    let mut within = false;
    for letter in path.chars() {
        match letter {
            '[' => within = true,
            ']' => within = false,
            letter if !within => out.push(letter),
            _ => {}
        }
    }
    out
}

/// A type as Go names it, as far as the schema tells.
fn go_name(schema: &Schema, id: TypeId) -> String {
    let ty = schema.get(id);
    match (ty.name.as_str(), ty.scalar) {
        ("", Some(Scalar::String | Scalar::Untyped) | None) => "string".to_owned(),
        ("", Some(Scalar::Number)) => "int32".to_owned(),
        ("", Some(Scalar::Boolean)) => "bool".to_owned(),
        (name, _) => format!("v1.{name}"),
    }
}

#[cfg(test)]
mod tests;
