//! What the API server does to built-in kinds beyond their schema: defaults, what a create or an update may not change,
//! and what is refused.
//!
//! Pure functions over JSON. An unknown kind passes unchanged.

use serde_json::Value;

use crate::status::Cause;

/// What a kind is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

/// Fills in what the user left out, as the real server's defaulting functions do.
pub(crate) fn default(_kind: Kind<'_>, _object: &mut Value) {}

/// Before a create: the status is emptied, the generation set, and what the user may not choose is taken out.
pub(crate) fn prepare_create(_kind: Kind<'_>, _object: &mut Value) {}

/// Before an update of the object (`subresource` empty) or of `status` or `scale`: what that request may not change is
/// taken from `old`, and the generation is raised where the real server raises it.
pub(crate) fn prepare_update(_kind: Kind<'_>, _subresource: &str, _new: &mut Value, _old: &Value) {}

/// What is wrong with a new object.
pub(crate) fn validate_create(_kind: Kind<'_>, _object: &Value) -> Vec<Cause> {
    Vec::new()
}

/// What is wrong with an update.
pub(crate) fn validate_update(_kind: Kind<'_>, _subresource: &str, _new: &Value, _old: &Value) -> Vec<Cause> {
    Vec::new()
}
