//! Objects as the API server lays them out for people: the `Table` that `kubectl get` asks for.
//!
//! A [`Printer`] belongs to a resource. Built-in kinds have the cells that the real server's printers make (in
//! `built_in`) under the columns that it was recorded with; kinds of a CRD have cells found by JSONPath. A server
//! always makes the wide cells as well: the priority of a column tells the client what to hide.
//!
//! Times are said relative to `now`, which the caller gives.
//!
//! Deliberately absent: tables of subresources other than by their kind, and sorting, which the real server does for
//! flow schemas only.

mod built_in;
mod duration;
mod json_path;

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::data;
use json_path::JsonPath;

/// What [`built_in`] calls the scales of workloads: they have no resource of their own.
const SCALES: &str = "scales";

/// What a row says of its object, beside the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    Nothing,
    /// Its metadata, which is what clients get that say nothing.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads the parameter `includeObject`; none for a word that the API does not have.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "None" => Some(Self::Nothing),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// Lays out the objects of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    /// `columnDefinitions`.
    columns: Vec<Value>,
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    BuiltIn { group: String, resource: String },
    Custom(Vec<CustomColumn>),
}

/// A column of a CRD, after the name.
#[derive(Clone, Debug)]
struct CustomColumn {
    kind: CellKind,
    path: JsonPath,
}

/// What a CRD says that a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CellKind {
    Integer,
    Number,
    Text,
    Boolean,
    Date,
}

impl Printer {
    /// For a built-in resource. One that the real server has no columns for shows its name and when it was made.
    pub(crate) fn built_in(group: &str, version: &str, resource: &str) -> Self {
        let columns = data::columns(group, version, resource).unwrap_or_else(|| {
            let [name, created] = [describe("name"), describe("creationTimestamp")];
            vec![column("Name", "string", "name", &name, 0), column("Created At", "date", "", &created, 0)]
        });
        Self { columns, rows: Rows::BuiltIn { group: group.to_owned(), resource: resource.to_owned() } }
    }

    /// For a kind of a CRD, by the `additionalPrinterColumns` of its version. A path that cannot be read ends the
    /// columns, as in the real server (whose validation lets none in).
    pub(crate) fn custom(additional: &[Value]) -> Self {
        let age = [age_column()];
        let additional = if additional.is_empty() { age.as_slice() } else { additional };
        let mut columns = vec![column("Name", "string", "name", &describe("name"), 0)];
        let mut paths = Vec::new();
        for one in additional {
            let text = |field: &str| one[field].as_str().unwrap_or_default();
            let Some(path) = JsonPath::parse(text("jsonPath")) else { break };
            let description = match text("description") {
                "" => {
                    Cow::Owned(format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath")))
                }
                description => Cow::Borrowed(description),
            };
            let priority = one["priority"].as_i64().unwrap_or_default();
            columns.push(column(text("name"), text("type"), text("format"), &description, priority));
            let kind = match text("type") {
                "integer" => CellKind::Integer,
                "number" => CellKind::Number,
                "boolean" => CellKind::Boolean,
                "date" => CellKind::Date,
                _ => CellKind::Text,
            };
            paths.push(CustomColumn { kind, path });
        }
        Self { columns, rows: Rows::Custom(paths) }
    }

    /// For the scale of a workload, which is no resource of its own; a CRD's says less of its columns.
    pub(crate) fn scale(custom: bool) -> Self {
        if custom {
            return Self::custom(&[
                json!({"name": "Desired", "type": "integer", "jsonPath": ".spec.replicas",
                    "description": "Number of desired replicas"}),
                json!({"name": "Available", "type": "integer", "jsonPath": ".status.replicas",
                    "description": "Number of actual replicas"}),
                age_column(),
            ]);
        }
        let desired = "replicas is the desired number of instances for the scaled object.";
        let available = "replicas is the actual number of observed instances of the scaled object.";
        let columns = vec![
            column("Name", "string", "", &describe("name"), 0),
            column("Desired", "integer", "", desired, 0),
            column("Available", "integer", "", available, 0),
            column("Age", "string", "", &describe("creationTimestamp"), 0),
        ];
        Self { columns, rows: Rows::BuiltIn { group: "autoscaling".to_owned(), resource: SCALES.to_owned() } }
    }

    /// The table of an object that is asked for alone, or of an event of a watch.
    ///
    /// `version` is that of the table, `v1` or `v1beta1`; a watch has headers in its first table only.
    pub(crate) fn object(
        &self,
        object: &Value,
        include: Include,
        version: &str,
        headers: bool,
        now: Timestamp,
    ) -> Value {
        let metadata = match object.pointer("/metadata/resourceVersion") {
            Some(revision) => json!({"resourceVersion": revision}),
            None => json!({}),
        };
        self.table(vec![self.row(object, include, version, None, now)], metadata, version, headers)
    }

    /// The table of a list, with the list's metadata.
    pub(crate) fn list(
        &self,
        objects: &[Value],
        metadata: Value,
        include: Include,
        version: &str,
        now: Timestamp,
    ) -> Value {
        let mut objects: Vec<&Value> = objects.iter().collect();
        let mut default_class = None;
        match &self.rows {
            Rows::BuiltIn { group, resource } => match (group.as_str(), resource.as_str()) {
                ("flowcontrol.apiserver.k8s.io", "flowschemas") => objects.sort_by(|a, b| by_precedence(a, b)),
                ("storage.k8s.io", "storageclasses") => default_class = built_in::default_storage_class(&objects),
                _ => {}
            },
            Rows::Custom(_) => {}
        }
        let rows = objects.iter().map(|object| self.row(object, include, version, default_class, now)).collect();
        self.table(rows, metadata, version, true)
    }

    fn table(&self, rows: Vec<Value>, metadata: Value, version: &str, headers: bool) -> Value {
        json!({
            "kind": "Table",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": metadata,
            "columnDefinitions": if headers { Value::Array(self.columns.clone()) } else { Value::Null },
            "rows": if rows.is_empty() && self.says_null_for_none() { Value::Null } else { Value::Array(rows) },
        })
    }

    /// Some of the real server's makers of tables begin with no list at all, rather than an empty one.
    fn says_null_for_none(&self) -> bool {
        match &self.rows {
            Rows::BuiltIn { group, resource } => {
                (group.as_str(), resource.as_str()) == ("apiextensions.k8s.io", "customresourcedefinitions")
                    || self.columns.get(1).is_some_and(|column| column["name"] == "Created At")
            }
            Rows::Custom(_) => false,
        }
    }

    fn row(
        &self,
        object: &Value,
        include: Include,
        version: &str,
        default_class: Option<&str>,
        now: Timestamp,
    ) -> Value {
        let (cells, conditions) = match &self.rows {
            Rows::BuiltIn { group, resource } => {
                let mut cells = built_in::cells(group, resource, object, now);
                if default_class.is_some_and(|name| cells.first() == Some(&json!(name))) {
                    cells[0] = json!(format!("{} (default)", default_class.unwrap_or_default()));
                }
                (cells, if (group.as_str(), resource.as_str()) == ("", "pods") { conditions(object) } else { None })
            }
            Rows::Custom(columns) => {
                let name = object.pointer("/metadata/name").cloned().unwrap_or_else(|| json!(""));
                let others = columns.iter().map(|column| column.cell(object, now));
                (std::iter::once(name).chain(others).collect(), None)
            }
        };
        let shown = match include {
            Include::Nothing => Value::Null,
            Include::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": object["metadata"],
            }),
            Include::Object => object.clone(),
        };
        let mut row = json!({"cells": cells, "object": shown});
        if let Some(conditions) = conditions {
            row["conditions"] = conditions;
        }
        row
    }
}

/// What is said of a pod that has ended, so that clients may hide it.
fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match pod.pointer("/status/phase")?.as_str()? {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// The order in which flow schemas match.
fn by_precedence(a: &Value, b: &Value) -> Ordering {
    let key = |one: &Value| {
        let precedence = one.pointer("/spec/matchingPrecedence").and_then(Value::as_i64).unwrap_or_default();
        (precedence, one.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned())
    };
    key(a).cmp(&key(b))
}

impl CustomColumn {
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = self.path.find(object) else { return Value::Null };
        let Some(value) = found.first() else { return Value::Null };
        match self.kind {
            CellKind::Text => json!(json_path::print(value)),
            CellKind::Integer => match value.as_i64() {
                Some(number) => json!(number),
                None => value.as_f64().map_or(Value::Null, |number| json!(go_integer(number))),
            },
            CellKind::Number => value.as_f64().map_or(Value::Null, |number| match value.as_i64() {
                // As Go prints a whole float: without a point.
                Some(whole) => json!(whole),
                None => json!(number),
            }),
            CellKind::Boolean => value.as_bool().map_or(Value::Null, Value::Bool),
            CellKind::Date => value.as_str().map_or(Value::Null, |text| match text {
                "" | "null" => json!("<unknown>"),
                text => text.parse().map_or_else(|_| json!("<invalid>"), |time| json!(duration::since(time, now))),
            }),
        }
    }
}

/// The whole part of a float as Go converts it on the machines that servers run on: what is out of range is the least
/// of all numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "out of range is dealt with")]
fn go_integer(number: f64) -> i64 {
    let is_in_range = number >= i64::MIN as f64 && number < i64::MAX as f64;
    if is_in_range { number as i64 } else { i64::MIN }
}

/// The column that a CRD has which names none.
fn age_column() -> Value {
    let description = describe("creationTimestamp");
    json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": description})
}

/// A `columnDefinition`, with every field that the API has for it.
fn column(name: &str, of: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({"name": name, "type": of, "format": format, "description": description, "priority": priority})
}

/// What the API says of a field of every object's metadata.
fn describe(field: &str) -> String {
    let columns = data::columns("", "v1", "configmaps").unwrap_or_default();
    let title = if field == "name" { "Name" } else { "Age" };
    let described = columns.iter().find(|column| column["name"] == title);
    described.and_then(|column| column["description"].as_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
