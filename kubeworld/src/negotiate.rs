//! What a client accepts, and how an answer is put into that form.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::{Value, json};

use crate::status::Status;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata` or its list.
    Metadata,
}

/// What a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
    /// The version of the meta group that it wants, for tables and metadata.
    pub(crate) version: &'static str,
    /// It wants the metadata of one object, which a list has not.
    pub(crate) one_object: bool,
    /// It wants the metadata of a list, which an object is not.
    pub(crate) list: bool,
}

impl Accept {
    /// JSON, whole.
    pub(crate) const JSON: Self =
        Self { form: Form::Whole, yaml: false, version: "v1", one_object: false, list: false };

    /// The first range that can be served. Clients that speak protobuf read JSON as well: they look at the type of the
    /// answer.
    ///
    /// # Errors
    /// 406 with the types that there are.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let accepted = accepted.join(",");
        let mut ranges: Vec<(f32, &str)> = accepted
            .split(',')
            .map(str::trim)
            .filter(|range| !range.is_empty())
            .map(|range| {
                let quality = range.split(';').find_map(|part| part.trim().strip_prefix("q="));
                (quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0), range)
            })
            .collect();
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
        if ranges.is_empty() {
            return Ok(Self::JSON);
        }
        for (_, range) in ranges {
            let mut parts = range.split(';').map(str::trim);
            let yaml = match parts.next() {
                Some("application/json" | "*/*" | "application/*" | "application/vnd.kubernetes.protobuf") => false,
                Some("application/yaml") => true,
                Some(_) | None => continue,
            };
            let parameter = |name: &str| {
                range.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=').map(str::trim))
            };
            let form = match (parameter("as"), parameter("g"), parameter("v")) {
                (None, _, _) => Form::Whole,
                (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => Form::Table,
                (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some(_)) => {
                    Form::Metadata
                }
                (Some(_), _, _) => continue,
            };
            let version = if parameter("v") == Some("v1beta1") { "v1beta1" } else { "v1" };
            let one_object = parameter("as") == Some("PartialObjectMetadata");
            return Ok(Self {
                form,
                yaml,
                version,
                one_object,
                list: parameter("as") == Some("PartialObjectMetadataList"),
            });
        }
        Err(Self::refusal())
    }

    /// 406 with the types that there are.
    pub(crate) fn refusal() -> Status {
        Status {
            code: 406,
            reason: "NotAcceptable",
            message: "only the following media types are accepted: application/json, application/yaml, \
                      application/vnd.kubernetes.protobuf"
                .to_owned(),
            details: None,
        }
    }
}

/// What of an object `PartialObjectMetadata` shows.
pub(crate) fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A value as text of the type that was asked for.
pub(crate) fn encode(value: &Value, yaml: bool) -> (Bytes, &'static str) {
    if yaml {
        match serde_saphyr::to_string(value) {
            Ok(text) => return (Bytes::from(text), "application/yaml"),
            Err(error) => tracing::debug!(%error, "a value has no YAML"),
        }
    }
    let mut out = BytesMut::new().writer();
    // A value has text; a buffer takes it.
    let _ = serde_json::to_writer(&mut out, value);
    let mut out = out.into_inner();
    out.put_u8(b'\n');
    (out.freeze(), "application/json")
}
