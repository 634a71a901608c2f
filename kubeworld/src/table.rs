//! Tables, as `kubectl get` asks for them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::Resource;
use crate::request::Query;
use crate::status::Status;

/// How much of each object comes with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

/// `includeObject=`.
pub(crate) fn include(query: &Query) -> Result<Include, Status> {
    match query.get("includeObject") {
        "None" => Ok(Include::Nothing),
        "" | "Metadata" => Ok(Include::Metadata),
        "Object" => Ok(Include::Object),
        _ => Err(Status::bad_request("unrecognized includeObject value")),
    }
}

pub(crate) fn table(_: &Resource, _: &[Value], _: Value, _: Include, _: Timestamp) -> Value {
    json!({})
}
