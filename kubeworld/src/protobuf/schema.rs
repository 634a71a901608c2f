//! What the fields of each message mean, from the recorded text: see `xtask/src/kubeworld/messages.rs` for its format.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::wire::Payload;
use crate::data;

/// The name in [`Message`] of the only field of a message that is a list in JSON.
pub(super) const LIST_FIELD: &str = "=";

/// The name of a field whose own fields stand in the object around it.
const INLINE_FIELD: &str = "-";

/// The message of a CRD's schemas, which the forms of [`Type`] that hold one do not name.
pub(super) const JSON_SCHEMA: &str = "apiextensions.k8s.io/v1.JSONSchemaProps";

/// All messages by name: `GROUP/VERSION.NAME`.
pub(super) struct Schema {
    messages: BTreeMap<&'static str, Message>,
}

pub(super) struct Message {
    fields: Vec<Field>,
}

pub(super) struct Field {
    number: u32,
    /// In JSON.
    pub(super) name: &'static str,
    pub(super) of: Type,
    pub(super) container: Container,
    /// An empty one is not left out.
    pub(super) keep_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    One,
    List,
    /// By text.
    Map,
}

/// What a field, an element or a map's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Bytes,
    Double,
    Int32,
    Int64,
    Text,
    Quantity,
    IntOrString,
    /// JSON as bytes.
    RawJson,
    Time,
    MicroTime,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrTexts,
    /// A message by its full name.
    Message(String),
}

impl Schema {
    /// The one that was recorded.
    pub(super) fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::read(data::messages()));
        &SCHEMA
    }

    fn read(text: &'static str) -> Self {
        let mut messages = BTreeMap::new();
        for block in text.split("\n\n") {
            let mut lines = block.lines();
            let Some(name) = lines.next() else { continue };
            let (group_version, _) = name.rsplit_once('.').expect("a message has a group and version");
            messages.insert(name, Message { fields: lines.map(|line| Field::read(line, group_version)).collect() });
        }
        let schema = Self { messages };
        for field in schema.messages.values().flat_map(|message| &message.fields) {
            if let Type::Message(name) = &field.of {
                assert!(schema.messages.contains_key(name.as_str()), "the recorded messages lack {name}");
            }
        }
        schema
    }

    /// The message of a kind. Those that every group has, such as `DeleteOptions`, are found in any.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let own = self.messages.get(format!("{api_version}.{kind}").as_str());
        own.or_else(|| self.messages.get(format!("meta.k8s.io/v1.{kind}").as_str()))
    }

    /// A message that a field names.
    pub(super) fn message(&self, name: &str) -> &Message {
        self.messages.get(name).unwrap_or_else(|| panic!("the recorded messages lack {name}"))
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.messages.keys().copied().collect();
        names.sort_unstable();
        names
    }
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// Whether JSON has a list where protobuf has a message.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.fields.as_slice(), [field] if field.name == LIST_FIELD)
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }
}

impl Field {
    fn read(line: &'static str, group_version: &str) -> Self {
        let mut words = line.split(' ');
        let (Some(number), Some(name), Some(of)) = (words.next(), words.next(), words.next()) else {
            panic!("a recorded field has a number, a name and a type: {line:?}");
        };
        let (container, of) = match (of.strip_prefix("[]"), of.strip_prefix("{}")) {
            (Some(of), _) => (Container::List, of),
            (_, Some(of)) => (Container::Map, of),
            (None, None) => (Container::One, of),
        };
        let of = match of {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "string" => Type::Text,
            "quantity" => Type::Quantity,
            "int-or-string" => Type::IntOrString,
            "raw-json" => Type::RawJson,
            "time" => Type::Time,
            "micro-time" => Type::MicroTime,
            "schema-or-array" => Type::SchemaOrArray,
            "schema-or-bool" => Type::SchemaOrBool,
            "schema-or-strings" => Type::SchemaOrTexts,
            message => match message.strip_prefix('.') {
                Some(name) => Type::Message(format!("{group_version}.{name}")),
                None => {
                    assert!(message.contains('.'), "a recorded field has a type that is unknown: {line:?}");
                    Type::Message(message.to_owned())
                }
            },
        };
        let number = number.parse().expect("a recorded field has a number");
        Self { number, name, of, container, keep_empty: words.next() == Some("!") }
    }

    pub(super) fn is_inline(&self) -> bool {
        self.name == INLINE_FIELD
    }

    #[cfg(test)]
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl Type {
    /// What stands for an absent value.
    pub(super) fn empty(&self) -> Payload<'static> {
        match self {
            Self::Bool | Self::Int32 | Self::Int64 => Payload::Varint(0),
            Self::Double => Payload::Fixed64(0),
            Self::Bytes
            | Self::Text
            | Self::Quantity
            | Self::IntOrString
            | Self::RawJson
            | Self::Time
            | Self::MicroTime
            | Self::SchemaOrArray
            | Self::SchemaOrBool
            | Self::SchemaOrTexts
            | Self::Message(_) => Payload::Bytes(&[]),
        }
    }
}
