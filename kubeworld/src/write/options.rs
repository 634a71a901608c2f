//! What a request that writes asks for beside its body.

use http::header::USER_AGENT;
use serde_json::json;

use crate::handle::Call;
use crate::status::{Cause, Status};

/// How long the name of a field manager may be, in bytes: what kube-apiserver allows, so that entries of `managedFields`
/// stay small.
const MANAGER_BYTES_MAX: usize = 128;

/// How strictly a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// The options of a request that writes.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) manager: String,
    pub(crate) validation: Validation,
    pub(crate) force: bool,
}

impl WriteOptions {
    pub(crate) fn of(call: &Call<'_>, kind: &str, applies: bool) -> Result<Self, Status> {
        let query = &call.query;
        let mut causes = Vec::new();
        let manager = query.get("fieldManager");
        if applies && manager.is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
        let force = query.flag("force");
        if kind == "PatchOptions" && !applies && query.has("force") {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        if manager.len() > MANAGER_BYTES_MAX {
            causes.push(Cause {
                reason: "FieldValueTooLong",
                message: format!("Too long: may not be more than {MANAGER_BYTES_MAX} bytes"),
                field: "fieldManager".to_owned(),
            });
        }
        if let Some(at) = manager.chars().position(char::is_control) {
            let why = format!("should only contain printable characters (failed at position {at})");
            causes.push(Cause::invalid("fieldManager", &json!(manager), &why));
        }
        if query.all("dryRun").iter().any(|value| value != "All") {
            let value = query.all("dryRun").iter().find(|value| *value != "All");
            causes.push(Cause::not_supported("dryRun", &json!([value]), &["All"]));
        }
        let validation = match query.get("fieldValidation") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                causes.push(Cause::not_supported("fieldValidation", &json!(other), &["", "Ignore", "Strict", "Warn"]));
                Validation::Warn
            }
        };
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", kind, "", causes));
        }
        let manager = if manager.is_empty() { agent_of(call) } else { manager.to_owned() };
        Ok(Self { dry_run: query.has("dryRun"), manager, validation, force })
    }
}

/// The part of `User-Agent` before the slash, as far as a manager's name may go.
fn agent_of(call: &Call<'_>) -> String {
    let agent = call.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    // A header's text is ASCII, so letters are bytes.
    name.chars().filter(|letter| !letter.is_control()).take(MANAGER_BYTES_MAX).collect()
}
