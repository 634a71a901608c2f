//! What the API server does to built-in kinds beyond their schema: defaults, what a create or an update may not change,
//! and what is refused.
//!
//! Pure functions over JSON, total over any JSON: what has a wrong type is left alone, since the schema's check reports
//! it. An unknown kind passes unchanged.
//!
//! * [`types`]: the one form that an object has once Go has decoded and encoded it.
//! * [`defaults`]: what is filled in, struct by struct.
//! * [`strategy`]: what a create and an update take out, keep, and count (`metadata.generation`).
//! * [`meta`]: the rules for metadata of any kind, custom ones too.
//! * The rest are the rules of each area, in the real server's order and words.
//!
//! Absent: rules that need other objects (quota, a Service's allocated addresses), which are the handler's.

use serde_json::Value;

use crate::status::Cause;

mod defaults;
pub(crate) mod fields;
pub(crate) mod pods;
pub(crate) mod quantity;
pub(crate) mod services;
mod strategy;
mod types;

/// What a kind is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

/// Fills in what the user left out, as the real server's defaulting functions do, and gives the object the one form
/// that the real server's types give it. For every object that comes in, before anything else looks at it.
pub(crate) fn default(kind: Kind<'_>, object: &mut Value) {
    types::types().settle(kind, object, true);
}

/// Gives an object the one form that the real server's types give it, without defaults.
pub(crate) fn settle(kind: Kind<'_>, object: &mut Value) {
    types::types().settle(kind, object, false);
}

/// What is wrong with the metadata of a new object.
pub(crate) fn validate_meta_create(_kind: Kind<'_>, _namespaced: bool, _object: &Value) -> Vec<Cause> {
    Vec::new()
}

/// What is wrong with the metadata of an update.
pub(crate) fn validate_meta_update(_kind: Kind<'_>, _namespaced: bool, _new: &Value, _old: &Value) -> Vec<Cause> {
    Vec::new()
}

/// Before a create: the status is emptied, the generation set, and what the user may not choose is taken out. The name,
/// the uid and the creation time must be set already, since a Job's selector and a volume's status are made of them.
pub(crate) fn prepare_create(kind: Kind<'_>, object: &mut Value) {
    strategy::prepare_create(kind, object);
    types::types().settle(kind, object, true);
}

/// Before an update of the object (`subresource` empty) or of `status`, `finalize` or `approval`: what that request may
/// not change is taken from `old`, and the generation is raised where the real server raises it.
pub(crate) fn prepare_update(kind: Kind<'_>, subresource: &str, new: &mut Value, old: &Value) {
    strategy::prepare_update(kind, subresource, new, old);
    types::types().settle(kind, new, true);
}

/// What is wrong with a new object.
pub(crate) fn validate_create(_kind: Kind<'_>, _object: &Value) -> Vec<Cause> {
    Vec::new()
}

/// What is wrong with an update.
pub(crate) fn validate_update(_kind: Kind<'_>, _subresource: &str, _new: &Value, _old: &Value) -> Vec<Cause> {
    Vec::new()
}

#[cfg(test)]
mod tests;
