//! Who may do what: from a request to a question for [`crate::access`], and from its answer to a refusal.

use http::{HeaderMap, Method};
use serde_json::Value;

use crate::api::{State, User};
use crate::handle::Call;
use crate::request::{Query, Target};
use crate::status::Status;

/// The user that a request acts as: the one of the connection, or the one that its `Impersonate-` headers name, where
/// that is allowed.
pub(crate) fn impersonated(_state: &State, _headers: &HeaderMap, user: &User) -> Result<User, Status> {
    Ok(user.clone())
}

/// A path that is no resource's.
pub(crate) fn path(_state: &State, _user: &User, _method: &Method, _path: &str) -> Result<(), Status> {
    Ok(())
}

/// A request on a resource.
pub(crate) fn resource(
    _state: &State,
    _user: &User,
    _method: &Method,
    _target: &Target,
    _query: &Query,
) -> Result<(), Status> {
    Ok(())
}

/// An apply of what is not there creates it.
pub(crate) fn may_create(_state: &State, _call: &Call<'_>) -> Result<(), Status> {
    Ok(())
}

/// A role or a binding hands on rights.
pub(crate) fn may_grant(_state: &State, _call: &Call<'_>, _value: &Value) -> Result<(), Status> {
    Ok(())
}
