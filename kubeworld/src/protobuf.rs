//! Bodies in protobuf, as kubectl and Go programs send them for built-in kinds, read as JSON.
//!
//! A body is four bytes that say so, then an envelope with the kind and the object. What the numbers in it mean was
//! recorded from Kubernetes' sources ([`crate::data::messages`]); from there on every kind is read by the same code, to what
//! Go would print of it as JSON: what is empty and may be left out is left out.
//!
//! Total over any bytes: a body is read or refused, in time and space linear in its length, with a bound on nesting.
//!
//! Deliberately absent: writing protobuf. Clients that send it take JSON as well, and say so.

mod schema;
mod wire;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use thiserror::Error;

use schema::{Container, Field, Message, Schema, Type};
use wire::{Payload, Reader, WireError};

/// What a body begins with.
const PREFIX: &[u8] = b"k8s\0";

/// How deep messages may nest. Schemas of CRDs nest as deep as people write them; this is far beyond, and within a
/// stack.
const DEPTH_MAX: usize = 128;

/// A body that cannot be read, as the real server tells two ways to fail apart: it answers to the first with the bytes of
/// the body, to the second with this text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// It does not say what it is.
    #[error(transparent)]
    Unrecognized(Fault),
    /// It says so, but is not what it says.
    #[error("{kind} in version {version:?} cannot be handled as a {expected}: {fault}")]
    Object {
        /// What it says, without the group.
        version: String,
        /// What it says.
        kind: String,
        /// What was asked for.
        expected: String,
        /// Why it is not.
        fault: Fault,
    },
}

/// What is wrong with the bytes. The words are the real server's, or those of Go's protobuf library; but that names
/// fields as Go does.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    #[error("empty data")]
    NoData,
    /// Not this format.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The prefix and nothing else.
    #[error("empty body")]
    Empty,
    /// The bytes break the rules of protobuf.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A field in a form that its type does not have.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WireType {
        /// What it came as.
        wire_type: u8,
        /// As JSON calls it.
        field: String,
    },
    /// Nested beyond reason.
    #[error("proto: exceeded maximum recursion depth")]
    Depth,
    /// No kind that has a form in protobuf.
    #[error(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \
         \"pkg/runtime/scheme.go:111\""
    )]
    Kind {
        /// The group and version that were given.
        api_version: String,
        /// The kind that was given.
        kind: String,
    },
    /// A time that no calendar has.
    #[error("the time of {seconds} s and {nanos} ns since 1970 is out of range")]
    Time {
        /// Since 1970.
        seconds: i64,
        /// Beyond these.
        nanos: i64,
    },
    /// JSON within protobuf that is none.
    #[error("the JSON in field {field} cannot be read")]
    Json {
        /// As JSON calls it.
        field: String,
    },
}

/// Whether a body says that it is of this format.
pub(crate) fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(PREFIX)
}

/// Reads a body. `expected` is the group and version and the kind that count where the body names none.
///
/// # Errors
/// When the bytes are not of this format, or of a kind that it does not have (such as that of a CRD).
pub(crate) fn decode(body: &[u8], expected: (&str, &str)) -> Result<Value, DecodeError> {
    let envelope = Envelope::read(body, expected).map_err(DecodeError::Unrecognized)?;
    envelope.object(0).map_err(|fault| {
        let version = envelope.api_version.rsplit('/').next().unwrap_or_default().to_owned();
        DecodeError::Object { version, kind: envelope.kind.clone(), expected: expected.1.to_owned(), fault }
    })
}

/// What is around an object.
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8], expected: (&str, &str)) -> Result<Self, Fault> {
        if body.is_empty() {
            return Err(Fault::NoData);
        }
        let bytes = body.strip_prefix(PREFIX).ok_or(Fault::Prefix)?;
        if bytes.is_empty() {
            return Err(Fault::Empty);
        }
        let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.next_field()? {
            match (number, payload) {
                (1, Payload::Bytes(bytes)) => {
                    let mut of = Reader::new(bytes);
                    while let Some((number, payload)) = of.next_field()? {
                        match (number, payload) {
                            (1, Payload::Bytes(bytes)) => api_version = text(bytes),
                            (2, Payload::Bytes(bytes)) => kind = text(bytes),
                            (_, _) => {}
                        }
                    }
                }
                (2, Payload::Bytes(bytes)) => raw = bytes,
                // Its encoding and content type: protobuf is the only one that a server reads here.
                (_, _) => {}
            }
        }
        if api_version.is_empty() {
            expected.0.clone_into(&mut api_version);
        }
        if kind.is_empty() {
            expected.1.clone_into(&mut kind);
        }
        Ok(Self { api_version, kind, raw })
    }

    fn object(&self, depth: usize) -> Result<Value, Fault> {
        let schema = Schema::get();
        let unknown = || Fault::Kind { api_version: self.api_version.clone(), kind: self.kind.clone() };
        let message = schema.of_kind(&self.api_version, &self.kind).ok_or_else(unknown)?;
        let mut object = Decoder { schema }.fields(message, self.raw, depth)?;
        object.insert("apiVersion".to_owned(), json!(self.api_version));
        object.insert("kind".to_owned(), json!(self.kind));
        Ok(Value::Object(object))
    }
}

/// Reads messages of one schema.
#[derive(Clone, Copy)]
struct Decoder {
    schema: &'static Schema,
}

impl Decoder {
    /// The fields of a message, as the object that they are in JSON.
    fn fields(self, message: &Message, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Depth);
        }
        let mut object = Map::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.next_field()? {
            let Some(field) = message.field(number) else { continue };
            match field.container {
                Container::One => {
                    let value = self.value(field, payload, depth)?;
                    match value {
                        Some(Value::Object(inner)) if field.is_inline() => object.extend(inner),
                        Some(value) => {
                            object.insert(field.name.to_owned(), value);
                        }
                        // A later one replaces an earlier one, as it would in Go.
                        None => {
                            object.remove(field.name);
                        }
                    }
                }
                Container::List => {
                    let elements = self.elements(field, payload, depth)?;
                    let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = list {
                        list.extend(elements);
                    }
                }
                Container::Map => {
                    let (key, value) = self.entry(field, payload, depth)?;
                    let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(map) = map {
                        map.insert(key, value);
                    }
                }
            }
        }
        Ok(object)
    }

    /// The value of a field that stands alone; none where it is empty and left out.
    fn value(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<Option<Value>, Fault> {
        let value = self.bare(field, payload, depth)?;
        let is_empty = match &value {
            Value::Null => true,
            Value::Bool(is) => !is,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            // What is a struct in Go is never left out; what is a list in JSON is a struct in protobuf.
            Value::Array(_) | Value::Object(_) => false,
        };
        // A type with a form of its own, such as a quantity, is a struct in Go.
        let is_struct = matches!(field.of, Type::Message(_) | Type::Quantity | Type::IntOrString | Type::SchemaOrBool);
        let keep = field.keep_empty || is_struct;
        Ok(Some(value).filter(|value| !value.is_null() && (keep || !is_empty)))
    }

    /// The elements in one occurrence of a list: one, or all of a packed one.
    fn elements(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<Vec<Value>, Fault> {
        let Payload::Bytes(bytes) = payload else { return Ok(vec![self.bare(field, payload, depth)?]) };
        let mut packed = Reader::new(bytes);
        let mut elements = Vec::new();
        match field.of {
            Type::Bool | Type::Int32 | Type::Int64 => {
                while !packed.is_empty() {
                    elements.push(self.bare(field, Payload::Varint(packed.varint()?), depth)?);
                }
            }
            Type::Double => {
                while !packed.is_empty() {
                    elements.push(self.bare(field, Payload::Fixed64(packed.fixed64()?), depth)?);
                }
            }
            Type::Bytes
            | Type::Text
            | Type::Quantity
            | Type::IntOrString
            | Type::RawJson
            | Type::Time
            | Type::MicroTime
            | Type::SchemaOrArray
            | Type::SchemaOrBool
            | Type::SchemaOrTexts
            | Type::Message(_) => elements.push(self.bare(field, payload, depth)?),
        }
        Ok(elements)
    }

    /// An entry of a map is a message of key and value, of which an absent one is empty.
    fn entry(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<(String, Value), Fault> {
        let mut reader = Reader::new(self.bytes(field, payload)?);
        let (mut key, mut value) = (String::new(), None);
        while let Some((number, payload)) = reader.next_field()? {
            match number {
                1 => key = text(self.bytes(field, payload)?),
                2 => value = Some(self.bare(field, payload, depth)?),
                _ => {}
            }
        }
        match value {
            Some(value) => Ok((key, value)),
            None => Ok((key, self.bare(field, field.of.empty(), depth)?)),
        }
    }

    /// A value whatever holds it; null for a time that is none and for JSON that is not there.
    fn bare(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<Value, Fault> {
        Ok(match &field.of {
            Type::Bool => json!(self.varint(field, payload)? != 0),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "as protobuf has it: a negative one comes with 64 bits"
            )]
            Type::Int32 => json!(self.varint(field, payload)? as i32),
            Type::Int64 => json!(self.varint(field, payload)?),
            Type::Double => match payload {
                Payload::Fixed64(bits) => json!(f64::from_bits(bits)),
                Payload::Varint(_) | Payload::Bytes(_) | Payload::Fixed32(_) => return Err(wrong_type(field, payload)),
            },
            Type::Text => json!(text(self.bytes(field, payload)?)),
            Type::Bytes => json!(BASE64_STANDARD.encode(self.bytes(field, payload)?)),
            Type::Quantity => match self.one_text(field, payload, 1)? {
                quantity if quantity.is_empty() => json!("0"),
                quantity => json!(quantity),
            },
            Type::IntOrString => match self.one_number(field, payload, 1)? {
                #[expect(clippy::cast_possible_truncation, reason = "as protobuf has it")]
                0 => json!(self.one_number(field, payload, 2)? as i32),
                _ => json!(self.one_text(field, payload, 3)?),
            },
            Type::RawJson => self.raw_json(field, payload, depth)?,
            Type::Time | Type::MicroTime => self.time(field, payload)?,
            Type::SchemaOrArray => {
                let (one, many) = self.schemas(field, payload, depth)?;
                if many.is_empty() { one.unwrap_or(Value::Null) } else { Value::Array(many) }
            }
            Type::SchemaOrBool => {
                let allows = self.one_number(field, payload, 1)? != 0;
                let mut reader = Reader::new(self.bytes(field, payload)?);
                let mut schema = None;
                while let Some((number, payload)) = reader.next_field()? {
                    if number == 2 {
                        schema = Some(self.schema_of(field, payload, depth)?);
                    }
                }
                schema.unwrap_or(Value::Bool(allows))
            }
            Type::SchemaOrTexts => {
                let mut reader = Reader::new(self.bytes(field, payload)?);
                let (mut schema, mut texts) = (None, Vec::new());
                while let Some((number, payload)) = reader.next_field()? {
                    match number {
                        1 => schema = Some(self.schema_of(field, payload, depth)?),
                        2 => texts.push(json!(text(self.bytes(field, payload)?))),
                        _ => {}
                    }
                }
                if texts.is_empty() { schema.unwrap_or(Value::Null) } else { Value::Array(texts) }
            }
            Type::Message(name) => {
                let message = self.schema.message(name);
                let mut fields = self.fields(message, self.bytes(field, payload)?, depth + 1)?;
                if message.is_list() {
                    fields.remove(schema::LIST_FIELD).unwrap_or_else(|| Value::Array(Vec::new()))
                } else {
                    Value::Object(fields)
                }
            }
        })
    }

    fn bytes<'a>(self, field: &Field, payload: Payload<'a>) -> Result<&'a [u8], Fault> {
        match payload {
            Payload::Bytes(bytes) => Ok(bytes),
            Payload::Varint(_) | Payload::Fixed32(_) | Payload::Fixed64(_) => Err(wrong_type(field, payload)),
        }
    }

    #[expect(clippy::cast_possible_wrap, reason = "a negative number is a large varint")]
    fn varint(self, field: &Field, payload: Payload<'_>) -> Result<i64, Fault> {
        match payload {
            Payload::Varint(number) => Ok(number as i64),
            Payload::Bytes(_) | Payload::Fixed32(_) | Payload::Fixed64(_) => Err(wrong_type(field, payload)),
        }
    }

    /// A text in a small message.
    fn one_text(self, field: &Field, payload: Payload<'_>, wanted: u32) -> Result<String, Fault> {
        let mut reader = Reader::new(self.bytes(field, payload)?);
        let mut found = String::new();
        while let Some((number, payload)) = reader.next_field()? {
            if number == wanted {
                found = text(self.bytes(field, payload)?);
            }
        }
        Ok(found)
    }

    /// A number in a small message.
    fn one_number(self, field: &Field, payload: Payload<'_>, wanted: u32) -> Result<i64, Fault> {
        let mut reader = Reader::new(self.bytes(field, payload)?);
        let mut found = 0;
        while let Some((number, payload)) = reader.next_field()? {
            if number == wanted {
                found = self.varint(field, payload)?;
            }
        }
        Ok(found)
    }

    /// JSON within protobuf, or another whole body of this format.
    fn raw_json(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<Value, Fault> {
        let mut reader = Reader::new(self.bytes(field, payload)?);
        let mut raw = &[][..];
        while let Some((number, payload)) = reader.next_field()? {
            if number == 1 {
                raw = self.bytes(field, payload)?;
            }
        }
        match raw {
            [] => Ok(Value::Null),
            raw if is_protobuf(raw) => Envelope::read(raw, ("", ""))?.object(depth + 1),
            raw => serde_json::from_slice(raw).map_err(|_| Fault::Json { field: field.name.to_owned() }),
        }
    }

    /// A time; an empty message is none. What JSON has no place for is cut off: fractions of a second, and in times
    /// with fractions all beyond six digits.
    fn time(self, field: &Field, payload: Payload<'_>) -> Result<Value, Fault> {
        if self.bytes(field, payload)?.is_empty() {
            return Ok(Value::Null);
        }
        let seconds = self.one_number(field, payload, 1)?;
        let nanos = if matches!(field.of, Type::MicroTime) { self.one_number(field, payload, 2)? } else { 0 };
        let out_of_range = || Fault::Time { seconds, nanos };
        let nanos = i32::try_from(nanos).map_err(|_| out_of_range())?;
        let time = Timestamp::new(seconds, nanos / 1000 * 1000).map_err(|_| out_of_range())?;
        Ok(json!(if matches!(field.of, Type::MicroTime) { format!("{time:.6}") } else { time.to_string() }))
    }

    /// What a schema that may be one or many holds.
    fn schemas(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<(Option<Value>, Vec<Value>), Fault> {
        let mut reader = Reader::new(self.bytes(field, payload)?);
        let (mut one, mut many) = (None, Vec::new());
        while let Some((number, payload)) = reader.next_field()? {
            match number {
                1 => one = Some(self.schema_of(field, payload, depth)?),
                2 => many.push(self.schema_of(field, payload, depth)?),
                _ => {}
            }
        }
        Ok((one, many))
    }

    /// A schema of a CRD.
    fn schema_of(self, field: &Field, payload: Payload<'_>, depth: usize) -> Result<Value, Fault> {
        let message = self.schema.message(schema::JSON_SCHEMA);
        Ok(Value::Object(self.fields(message, self.bytes(field, payload)?, depth + 1)?))
    }
}

fn wrong_type(field: &Field, payload: Payload<'_>) -> Fault {
    Fault::WireType { wire_type: payload.wire_type(), field: field.name.to_owned() }
}

/// A text as Go has it when it prints JSON: what is no UTF-8 becomes the sign for that.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
