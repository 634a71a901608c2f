//! Collecting what is wrong, and saying where.
//!
//! A [`Path`] is a chain of borrowed parts that becomes text only when something is wrong, since most objects are right.

use std::fmt;

use serde_json::{Value, json};

use crate::status::Cause;

/// Where in an object, such as `spec.containers[0].name`.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Self>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A field of the object itself.
    pub(crate) const fn root(name: &'a str) -> Self {
        Self { parent: None, part: Part::Name(name) }
    }

    /// A field below; a name with dots stands for several.
    pub(crate) const fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), part: Part::Name(name) }
    }

    /// An element of a list.
    pub(crate) const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), part: Part::Index(index) }
    }

    /// An entry of a dictionary.
    pub(crate) const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), part: Part::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(out)?;
        }
        match self.part {
            Part::Name(name) if self.parent.is_some() => write!(out, ".{name}"),
            Part::Name(name) => out.write_str(name),
            Part::Index(index) => write!(out, "[{index}]"),
            Part::Key(key) => write!(out, "[{key}]"),
        }
    }
}

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Causes(pub(crate) Vec<Cause>, Vec<Cause>);

impl Causes {
    /// A value that cannot be.
    pub(crate) fn invalid(&mut self, path: Path<'_>, value: impl Into<Value>, why: &str) {
        let mut cause = Cause::invalid(path.to_string(), &value.into(), why);
        if why.is_empty() {
            cause.message.truncate(cause.message.len() - ": ".len());
        }
        self.0.push(cause);
    }

    /// The same for each reason.
    pub(crate) fn each_invalid(&mut self, path: Path<'_>, value: &str, reasons: Vec<String>) {
        for why in reasons {
            self.invalid(path, value, &why);
        }
    }

    /// A value that cannot be and is not shown.
    pub(crate) fn invalid_unshown(&mut self, path: Path<'_>, why: &str) {
        self.push("FieldValueInvalid", path, format!("Invalid value: {why}"));
    }

    /// A value that cannot be, already as the real server shows it: a struct of its own has its fields in Go's order.
    pub(crate) fn invalid_shown(&mut self, path: Path<'_>, shown: &str, why: &str) {
        self.push("FieldValueInvalid", path, format!("Invalid value: {shown}: {why}"));
    }

    /// A value that must be there, by a rule that the real server generates from its types: those come after the rules
    /// that are written by hand.
    pub(crate) fn required_late(&mut self, path: Path<'_>) {
        self.1.push(Cause::required(path.to_string(), ""));
    }

    /// All of them, in the real server's order.
    pub(crate) fn into_causes(mut self) -> Vec<Cause> {
        self.0.append(&mut self.1);
        self.0
    }

    /// Lengths at this path are in bytes: the real server has two checks of the same, which word it differently.
    pub(crate) fn say_bytes(&mut self, field: &str) {
        for cause in self.0.iter_mut().filter(|cause| cause.field == field) {
            if let Some(at) = cause.message.find("no more than ") {
                let tail = cause.message[at..].replacen(" characters", " bytes", 1);
                cause.message.replace_range(at.., &tail);
            }
        }
    }

    /// A value that must be there.
    pub(crate) fn required(&mut self, path: Path<'_>, why: &str) {
        self.0.push(Cause::required(path.to_string(), why));
    }

    /// A value that may not be there.
    pub(crate) fn forbidden(&mut self, path: Path<'_>, why: &str) {
        self.0.push(Cause::forbidden(path.to_string(), why));
    }

    /// A value that is there twice.
    pub(crate) fn duplicate(&mut self, path: Path<'_>, value: impl Into<Value>) {
        self.0.push(Cause::duplicate(path.to_string(), &value.into()));
    }

    /// A value that is there twice, already as the real server shows it.
    pub(crate) fn duplicate_shown(&mut self, path: Path<'_>, shown: &str) {
        self.push("FieldValueDuplicate", path, format!("Duplicate value: {shown}"));
    }

    /// A value that is none of those that may be.
    pub(crate) fn not_supported(&mut self, path: Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.0.push(Cause::not_supported(path.to_string(), &value.into(), supported));
    }

    /// The same, already as the real server shows it.
    pub(crate) fn not_supported_shown(&mut self, path: Path<'_>, shown: &str, supported: &[&str]) {
        let list = supported.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
        let message = format!("Unsupported value: {shown}: supported values: {list}");
        self.push("FieldValueNotSupported", path, message);
    }

    /// A value that names something that is not there.
    pub(crate) fn not_found(&mut self, path: Path<'_>, value: &str) {
        self.push("FieldValueNotFound", path, format!("Not found: {}", json!(value)));
    }

    /// More bytes than may be.
    pub(crate) fn too_long(&mut self, path: Path<'_>, most: usize) {
        self.push("FieldValueTooLong", path, format!("Too long: may not be more than {most} bytes"));
        // The real server's path to the object as a whole.
        if let Some(last) = self.0.last_mut().filter(|last| last.field.is_empty()) {
            "[]".clone_into(&mut last.field);
        }
    }

    /// More elements than may be.
    pub(crate) fn too_many(&mut self, path: Path<'_>, count: usize, most: usize) {
        let items = if most == 1 { "item" } else { "items" };
        self.push("FieldValueTooMany", path, format!("Too many: {count}: must have at most {most} {items}"));
    }

    /// A number that must not be negative.
    pub(crate) fn not_negative(&mut self, path: Path<'_>, number: Option<i64>) {
        if let Some(number) = number
            && number < 0
        {
            self.invalid(path, number, "must be greater than or equal to 0");
        }
    }

    /// A value that may not change.
    pub(crate) fn immutable(&mut self, path: Path<'_>, new: &Value, old: &Value) {
        if new != old {
            self.invalid(path, new.clone(), "field is immutable");
        }
    }

    /// One of a few words, which must be there.
    pub(crate) fn one_of(&mut self, path: Path<'_>, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    fn push(&mut self, reason: &'static str, path: Path<'_>, message: String) {
        self.0.push(Cause { reason, message, field: path.to_string() });
    }
}
