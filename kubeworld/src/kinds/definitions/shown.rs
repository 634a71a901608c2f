//! Values as the real server's internal structs print themselves: all fields, in the order of their declaration.

use serde_json::Value;

use crate::kinds::fields::{at, list, option, text, truth};

/// How a field of the internal form prints.
#[derive(Clone, Copy)]
enum Field {
    Text,
    /// A text that may be absent.
    TextOption,
    Truth,
    TruthOption,
    /// A number that may be absent.
    Number,
    /// Any JSON.
    Free,
    FreeList,
    Texts,
    Schema,
    Schemas,
    SchemaMap,
    Items,
    OrBool,
    Dependencies,
    Docs,
    Rules,
}

/// The fields of a schema: what Go calls them, what JSON calls them.
const SCHEMA: [(&str, &str, Field); 44] = [
    ("ID", "id", Field::Text),
    ("Schema", "$schema", Field::Text),
    ("Ref", "$ref", Field::TextOption),
    ("Description", "description", Field::Text),
    ("Type", "type", Field::Text),
    ("Nullable", "nullable", Field::Truth),
    ("Format", "format", Field::Text),
    ("Title", "title", Field::Text),
    ("Default", "default", Field::Free),
    ("Maximum", "maximum", Field::Number),
    ("ExclusiveMaximum", "exclusiveMaximum", Field::Truth),
    ("Minimum", "minimum", Field::Number),
    ("ExclusiveMinimum", "exclusiveMinimum", Field::Truth),
    ("MaxLength", "maxLength", Field::Number),
    ("MinLength", "minLength", Field::Number),
    ("Pattern", "pattern", Field::Text),
    ("MaxItems", "maxItems", Field::Number),
    ("MinItems", "minItems", Field::Number),
    ("UniqueItems", "uniqueItems", Field::Truth),
    ("MultipleOf", "multipleOf", Field::Number),
    ("Enum", "enum", Field::FreeList),
    ("MaxProperties", "maxProperties", Field::Number),
    ("MinProperties", "minProperties", Field::Number),
    ("Required", "required", Field::Texts),
    ("Items", "items", Field::Items),
    ("AllOf", "allOf", Field::Schemas),
    ("OneOf", "oneOf", Field::Schemas),
    ("AnyOf", "anyOf", Field::Schemas),
    ("Not", "not", Field::Schema),
    ("Properties", "properties", Field::SchemaMap),
    ("AdditionalProperties", "additionalProperties", Field::OrBool),
    ("PatternProperties", "patternProperties", Field::SchemaMap),
    ("Dependencies", "dependencies", Field::Dependencies),
    ("AdditionalItems", "additionalItems", Field::OrBool),
    ("Definitions", "definitions", Field::SchemaMap),
    ("ExternalDocs", "externalDocs", Field::Docs),
    ("Example", "example", Field::Free),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", Field::TruthOption),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Field::Truth),
    ("XIntOrString", "x-kubernetes-int-or-string", Field::Truth),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Field::Texts),
    ("XListType", "x-kubernetes-list-type", Field::TextOption),
    ("XMapType", "x-kubernetes-map-type", Field::TextOption),
    ("XValidations", "x-kubernetes-validations", Field::Rules),
];

/// The fields of a schema that are set, under the names that Go has for them.
pub(super) fn set_fields(node: &Value) -> impl Iterator<Item = &'static str> + '_ {
    SCHEMA.iter().filter(|(_, key, kind)| is_set(node, key, *kind)).map(|(name, _, _)| *name)
}

fn is_set(node: &Value, key: &str, kind: Field) -> bool {
    match kind {
        Field::Text => !text(node, key).is_empty(),
        Field::Truth => truth(node, key),
        Field::TextOption
        | Field::TruthOption
        | Field::Number
        | Field::Free
        | Field::FreeList
        | Field::Texts
        | Field::Schema
        | Field::Schemas
        | Field::SchemaMap
        | Field::Items
        | Field::OrBool
        | Field::Dependencies
        | Field::Docs
        | Field::Rules => option(node, key).is_some(),
    }
}

/// `spec.versions`. What all versions share stands elsewhere, so it is null here.
pub(super) fn versions(spec: &Value, schema: bool, subresources: bool, columns: bool) -> String {
    if option(spec, "versions").is_none() {
        return "null".to_owned();
    }
    joined(list(spec, "versions"), |version| {
        let own = |shared: bool, key: &str, print: fn(&Value) -> String| match option(version, key) {
            Some(value) if !shared => print(value),
            Some(_) | None => "null".to_owned(),
        };
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\
             \"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            quoted(text(version, "name")),
            truth(version, "served"),
            truth(version, "storage"),
            truth(version, "deprecated"),
            own(false, "deprecationWarning", Value::to_string),
            own(schema, "schema", |value| {
                let inner = option(value, "openAPIV3Schema").map_or("null".to_owned(), self::schema);
                format!("{{\"OpenAPIV3Schema\":{inner}}}")
            }),
            own(subresources, "subresources", print_subresources),
            own(columns, "additionalPrinterColumns", |value| match value.as_array() {
                Some(columns) if !columns.is_empty() => joined(columns, print_column),
                Some(_) | None => "null".to_owned(),
            }),
            own(false, "selectableFields", |value| match value.as_array() {
                Some(fields) => {
                    joined(fields, |field| format!("{{\"JSONPath\":{}}}", quoted(text(field, "jsonPath"))))
                }
                None => "null".to_owned(),
            }),
        )
    })
}

fn print_subresources(value: &Value) -> String {
    let status = if option(value, "status").is_some() { "{}" } else { "null" };
    let scale = option(value, "scale").map_or("null".to_owned(), |scale| {
        format!(
            "{{\"SpecReplicasPath\":{},\"StatusReplicasPath\":{},\"LabelSelectorPath\":{}}}",
            quoted(text(scale, "specReplicasPath")),
            quoted(text(scale, "statusReplicasPath")),
            option(scale, "labelSelectorPath").cloned().unwrap_or_default(),
        )
    });
    format!("{{\"Status\":{status},\"Scale\":{scale}}}")
}

fn print_column(column: &Value) -> String {
    format!(
        "{{\"Name\":{},\"Type\":{},\"Format\":{},\"Description\":{},\"Priority\":{},\"JSONPath\":{}}}",
        quoted(text(column, "name")),
        quoted(text(column, "type")),
        quoted(text(column, "format")),
        quoted(text(column, "description")),
        column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
        quoted(text(column, "jsonPath")),
    )
}

/// A schema.
pub(super) fn schema(node: &Value) -> String {
    let fields = SCHEMA.iter().map(|(name, key, kind)| format!("\"{name}\":{}", field(node, key, *kind)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn field(node: &Value, key: &str, kind: Field) -> String {
    if matches!(kind, Field::Text) {
        return quoted(text(node, key));
    }
    if matches!(kind, Field::Truth) {
        return truth(node, key).to_string();
    }
    let Some(value) = option(node, key) else { return "null".to_owned() };
    let items = || value.as_array().map(Vec::as_slice).unwrap_or_default();
    match kind {
        Field::Number => crate::custom::shown(value),
        Field::Text
        | Field::Truth
        | Field::TextOption
        | Field::TruthOption
        | Field::Free
        | Field::FreeList
        | Field::Texts => value.to_string(),
        Field::Schema => schema(value),
        Field::Schemas => joined(items(), schema),
        Field::SchemaMap => {
            let entries = value.as_object().into_iter().flatten();
            let entries = entries.map(|(key, below)| format!("{}:{}", quoted(key), schema(below)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Field::Items => match value {
            Value::Array(items) => format!("{{\"Schema\":null,\"JSONSchemas\":{}}}", joined(items, schema)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(value))
            }
        },
        Field::OrBool => match value {
            Value::Bool(allows) => format!("{{\"Allows\":{allows},\"Schema\":null}}"),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                format!("{{\"Allows\":true,\"Schema\":{}}}", schema(value))
            }
        },
        Field::Dependencies => value.to_string(),
        Field::Docs => {
            format!("{{\"Description\":{},\"URL\":{}}}", quoted(text(value, "description")), quoted(text(value, "url")))
        }
        Field::Rules => joined(items(), rule),
    }
}

/// A rule in CEL.
pub(super) fn rule(rule: &Value) -> String {
    let or_null = |key: &str| at(rule, &[key]).to_string();
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        quoted(text(rule, "rule")),
        quoted(text(rule, "message")),
        quoted(text(rule, "messageExpression")),
        or_null("reason"),
        quoted(text(rule, "fieldPath")),
        or_null("optionalOldSelf"),
    )
}

fn joined(items: &[Value], print: impl Fn(&Value) -> String) -> String {
    format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(","))
}

/// A text as Go's JSON has it, which makes `<`, `>` and `&` harmless for HTML.
fn quoted(text: &str) -> String {
    let text = Value::from(text).to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
