//! How a request fails: the API's `Status` object, with the codes, reasons and words of a real API server.

use serde_json::{Value, json};

/// A request that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What it is about, where it is about an object.
    pub details: Option<Box<Details>>,
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The *resource* for most refusals (`pods`), the kind for invalid objects (`Pod`): as the real one does.
    pub kind: String,
    /// The object's uid, for failed preconditions.
    pub uid: String,
    /// One for each field.
    pub causes: Vec<Cause>,
    /// When to come back, in seconds.
    pub retry_after_seconds: u32,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    /// What is wrong, without the field's path.
    pub message: String,
    /// The path, such as `spec.containers[0].name`.
    pub field: String,
}

impl Cause {
    /// A value that cannot be.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {}: {why}", shown(value)),
            field: field.into(),
        }
    }

    /// A value that must be there.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", message, field: field.into() }
    }

    /// A value that may not be there.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.into() }
    }

    /// A value that is there twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {}", shown(value)),
            field: field.into(),
        }
    }

    /// A value that is none of those that may be.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
        Self {
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {}: supported values: {list}", shown(value)),
            field: field.into(),
        }
    }
}

/// A value as Go's `field.Error` prints it: strings quoted, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A text as Go quotes it.
fn quoted(text: &str) -> String {
    format!("{text:?}").replace("\\0", "\\x00")
}

/// The name of a resource with its group, as messages have it: `deployments.apps`, `pods`.
pub(crate) fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    /// 400 with a message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { code: 400, reason: "BadRequest", message: message.into(), details: None }
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::about(404, "NotFound", group, resource, name, "not found")
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::about(409, "AlreadyExists", group, resource, name, "already exists")
    }

    fn about(code: u16, reason: &'static str, group: &str, resource: &str, name: &str, what: &str) -> Self {
        Self {
            code,
            reason,
            message: format!("{} {} {what}", qualified(group, resource), quoted(name)),
            details: Some(Box::new(Details {
                name: name.to_owned(),
                group: group.to_owned(),
                kind: resource.to_owned(),
                ..Details::default()
            })),
        }
    }

    /// 409: somebody else was faster, or a precondition does not hold.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let mut status = Self::about(409, "Conflict", group, resource, name, "");
        status.message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        status
    }

    /// 403.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let mut status = Self::about(403, "Forbidden", group, resource, name, "");
        let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        status.message = format!("{}{named} is forbidden: {why}", qualified(group, resource));
        status
    }

    /// 422: fields are wrong.
    pub fn invalid(group: &str, kind: &str, name: &str, mut causes: Vec<Cause>) -> Self {
        causes.dedup();
        let mut shown: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        shown.dedup();
        let list = match shown.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Self::about(422, "Invalid", group, kind, name, "");
        status.message = format!("{} {name:?} is invalid: {list}", qualified(group, kind));
        if let Some(details) = &mut status.details {
            details.causes = causes;
        }
        status
    }

    /// 500 without a reason, as an error that nobody classified goes out.
    pub(crate) fn unclassified(message: impl Into<String>) -> Self {
        Self { code: 500, reason: "", message: message.into(), details: None }
    }

    /// The object that goes over the wire.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            value["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            let mut out = serde_json::Map::new();
            for (key, text) in
                [("name", &details.name), ("group", &details.group), ("kind", &details.kind), ("uid", &details.uid)]
            {
                if !text.is_empty() {
                    out.insert(key.to_owned(), json!(text));
                }
            }
            if !details.causes.is_empty() {
                let causes = details.causes.iter().map(|cause| {
                    let fields = [
                        ("reason", cause.reason),
                        ("message", cause.message.as_str()),
                        ("field", cause.field.as_str()),
                    ];
                    let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
                    Value::Object(fields.map(|(key, text)| (key.to_owned(), json!(text))).collect())
                });
                out.insert("causes".to_owned(), causes.collect());
            }
            if details.retry_after_seconds > 0 {
                out.insert("retryAfterSeconds".to_owned(), json!(details.retry_after_seconds));
            }
            value["details"] = Value::Object(out);
        }
        value
    }
}
