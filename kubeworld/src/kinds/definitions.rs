//! The rules for CustomResourceDefinitions, in the real server's order and words.
//!
//! The real server checks its internal form, in which what all versions have in common stands once, above them. So the
//! paths here are those of that form: a definition with one version has its schema at `spec.validation`.
//!
//! * [`schema`]: what one schema may say, and the rules in CEL.
//! * [`structural`]: that a schema is structural, which everything that is done to custom objects relies on.
//! * [`defaults`]: that defaults are what the schema asks for.
//! * [`shown`]: values as the real server's structs print themselves.

use serde_json::{Value, json};

use super::causes::Causes;
use super::fields::{at, has, list, option, text, truth};
use super::names;
use crate::custom;
use crate::status::Cause;

mod defaults;
mod schema;
mod shown;
mod structural;

use schema::Options;

/// A definition selects by at most so many fields.
const SELECTABLE_MAX: usize = 8;

/// What approves a kind in a group of the Kubernetes project.
const APPROVED: &str = "api-approved.kubernetes.io";

/// Where the versions have the same, they have it together.
struct Shared<'a> {
    versions: &'a [Value],
    schema: Option<&'a Value>,
    subresources: Option<&'a Value>,
    columns: Option<&'a [Value]>,
    selectable: Option<&'a [Value]>,
}

impl<'a> Shared<'a> {
    fn of(spec: &'a Value) -> Self {
        const NULL: &Value = &Value::Null;
        let versions = list(spec, "versions");
        fn same<'a, T: PartialEq>(versions: &'a [Value], of: impl Fn(&'a Value) -> T) -> Option<T> {
            let first = of(versions.first()?);
            versions.iter().all(|version| of(version) == first).then_some(first)
        }
        let field = |key: &'static str| move |version: &'a Value| option(version, key).unwrap_or(NULL);
        Self {
            versions,
            schema: same(versions, field("schema")),
            subresources: same(versions, field("subresources")),
            columns: same(versions, |version| list(version, "additionalPrinterColumns")),
            selectable: same(versions, |version| list(version, "selectableFields")),
        }
    }
}

/// What is wrong with a definition beyond its metadata; with `old`, with an update of it.
pub(super) fn check(causes: &mut Causes, definition: &Value, old: Option<&Value>) {
    let mut out = Vec::new();
    let spec = at(definition, &["spec"]);
    let name = text(at(definition, &["metadata"]), "name");
    let (names, group) = (at(spec, &["names"]), text(spec, "group"));
    if old.is_none() && !name.is_empty() && name != format!("{}.{group}", text(names, "plural")) {
        out.push(Cause::invalid("metadata.name", &json!(name), "must be spec.names.plural+\".\"+spec.group"));
    }
    check_spec(&mut out, spec, old.map(|old| at(old, &["spec"])));
    if let Some(old) = old {
        let before = at(old, &["spec"]);
        let mut fixed = Vec::new();
        if custom::has_condition(old, "Established") {
            fixed.push(("spec.scope", text(spec, "scope"), text(before, "scope")));
            fixed.push(("spec.names.kind", text(names, "kind"), text(at(before, &["names"]), "kind")));
        }
        fixed.push(("spec.group", group, text(before, "group")));
        fixed.push(("spec.names.plural", text(names, "plural"), text(at(before, &["names"]), "plural")));
        for (path, new, old) in fixed {
            if new != old {
                out.push(Cause::invalid(path, &json!(new), "field is immutable"));
            }
        }
    }
    check_names(&mut out, at(definition, &["status", "acceptedNames"]), "status.acceptedNames");
    check_stored(&mut out, definition);
    check_approval(&mut out, definition, old);
    let keeps = |definition: &Value| truth(at(definition, &["spec"]), "preserveUnknownFields");
    if keeps(definition) && !old.is_some_and(keeps) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.push(Cause::invalid("spec.preserveUnknownFields", &json!(true), why));
    }
    causes.0.extend(out);
}

/// What is wrong with its status, beyond its metadata.
pub(super) fn check_status(causes: &mut Causes, definition: &Value) {
    check_names(&mut causes.0, at(definition, &["status", "acceptedNames"]), "status.acceptedNames");
}

/// What is not wrong, but will not do what somebody may think it does.
pub(crate) fn warnings(definition: &Value, old: Option<&Value>) -> Vec<String> {
    let (formats, sets) = questionable(definition);
    let (old_formats, old_sets) = old.map(questionable).unwrap_or_default();
    let fresh = formats.into_iter().filter(|format| !old_formats.contains(format));
    let fresh_sets = sets.into_iter().filter(|text| !old_sets.contains(text));
    fresh.map(|format| format!("unrecognized format {format:?}")).chain(fresh_sets).collect()
}

/// Formats that nobody checks, and what is said of sets whose items are no scalars.
fn questionable(definition: &Value) -> (Vec<String>, Vec<String>) {
    let shared = Shared::of(at(definition, &["spec"]));
    let (mut formats, mut sets) = (Vec::new(), std::collections::BTreeSet::new());
    let mut look = |node: &Value| {
        let format = text(node, "format");
        if !format.is_empty() && !custom::is_known_format(text(node, "type"), format) {
            formats.push(format.to_owned());
        }
        let of = text(at(node, &["items"]), "type");
        if text(node, "x-kubernetes-list-type") == "set" && matches!(of, "object" | "array") {
            sets.insert(format!(
                "x-kubernetes-list-type: set for items of type {of:?} is not supported by server-side apply or CEL \
                 validation rules"
            ));
        }
    };
    match shared.schema {
        Some(schema) => schema::each(at(schema, &["openAPIV3Schema"]), &mut look),
        None => {
            for version in shared.versions {
                schema::each(at(version, &["schema", "openAPIV3Schema"]), &mut look);
            }
        }
    }
    (formats, sets.into_iter().collect())
}

pub(super) fn dns_1035(value: &str) -> Option<String> {
    let mut reasons = Vec::new();
    if value.len() > 63 {
        reasons.push("must be no more than 63 characters".to_owned());
    }
    if !names::is_label(value) || value.starts_with(|first: char| first.is_ascii_digit()) {
        reasons.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    (!reasons.is_empty()).then(|| reasons.join(","))
}

fn check_spec(out: &mut Vec<Cause>, spec: &Value, old: Option<&Value>) {
    let group = text(spec, "group");
    let reasons = names::dns_subdomain(group);
    if group.is_empty() {
        out.push(Cause::required("spec.group", ""));
    } else if !reasons.is_empty() {
        out.push(Cause::invalid("spec.group", &json!(group), &reasons.join(",")));
    } else if !group.contains('.') {
        out.push(Cause::invalid("spec.group", &json!(group), "should be a domain with at least one dot"));
    }
    check_word(out, "spec.scope", text(spec, "scope"), &["Cluster", "Namespaced"]);
    let shared = Shared::of(spec);
    if shared.schema.is_none_or(|schema| !has(schema, "openAPIV3Schema")) {
        for (index, version) in shared.versions.iter().enumerate() {
            if !has(at(version, &["schema"]), "openAPIV3Schema") {
                out.push(Cause::required(format!("spec.versions[{index}].schema.openAPIV3Schema"), ""));
            }
        }
    }
    check_versions(out, spec, &shared, old);
    let names = at(spec, &["names"]);
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(names, key).is_empty() {
            out.push(Cause::required(format!("spec.names.{key}"), ""));
        }
    }
    check_names(out, names, "spec.names");
    if let Some(schema) = shared.schema.filter(|schema| !schema.is_null()) {
        let status = shared.versions.iter().any(|version| has(at(version, &["subresources"]), "status"));
        let first = shared.versions.first().map(|version| text(version, "name")).unwrap_or_default();
        let options = Options { status, unchanged: is_unchanged(spec, old, first) };
        schema::check(out, at(schema, &["openAPIV3Schema"]), "spec.validation.openAPIV3Schema", options);
    }
    if let Some(subresources) = shared.subresources {
        check_subresources(out, subresources, "spec.subresources");
    }
    for (index, column) in shared.columns.into_iter().flatten().enumerate() {
        check_column(out, column, &format!("spec.additionalPrinterColumns[{index}]"));
    }
    if let Some(selectable) = shared.selectable.filter(|selectable| !selectable.is_empty()) {
        match shared.schema.filter(|schema| !schema.is_null()) {
            None => {
                let why = "may only be set when validations.schema is included";
                out.push(Cause::invalid("spec.selectableFields", &json!(""), why));
            }
            Some(schema) => {
                check_selectable(out, selectable, at(schema, &["openAPIV3Schema"]), "spec.selectableFields");
            }
        }
    }
    check_conversion(out, at(spec, &["conversion"]));
}

/// Whether a version has the schema that it had before: then its cost was accepted already.
fn is_unchanged(spec: &Value, old: Option<&Value>, name: &str) -> bool {
    let schema_of = |spec: &Value| {
        let version = list(spec, "versions").iter().find(|version| text(version, "name") == name);
        version.map(|version| at(version, &["schema"]).clone())
    };
    old.is_some_and(|old| {
        let before = schema_of(old);
        before.is_some() && before == schema_of(spec)
    })
}

fn check_versions(out: &mut Vec<Cause>, spec: &Value, shared: &Shared<'_>, old: Option<&Value>) {
    let mut seen: Vec<&str> = Vec::new();
    let (mut stored, mut unique) = (0, true);
    for (index, version) in shared.versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(version, "name");
        if truth(version, "storage") {
            stored += 1;
        }
        unique &= !seen.contains(&name);
        seen.push(name);
        if let Some(why) = dns_1035(name) {
            out.push(Cause::invalid(format!("{path}.name"), &json!(name), &why));
        }
        check_warning(out, version, &path);
        let schema = at(version, &["schema"]);
        if shared.schema.is_none() && !schema.is_null() {
            let subresources = at(version, &["subresources"]);
            let options = Options { status: has(subresources, "status"), unchanged: is_unchanged(spec, old, name) };
            let path = format!("{path}.schema.openAPIV3Schema");
            schema::check(out, at(schema, &["openAPIV3Schema"]), &path, options);
        }
        if shared.subresources.is_none() {
            check_subresources(out, at(version, &["subresources"]), &format!("{path}.subresources"));
        }
        if shared.columns.is_none() {
            for (at, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
                check_column(out, column, &format!("{path}.additionalPrinterColumns[{at}]"));
            }
        }
        let selectable = list(version, "selectableFields");
        if shared.selectable.is_none() && !selectable.is_empty() {
            let path = format!("{path}.selectableFields");
            // A schema that all versions share is not the version's own, there.
            if shared.schema.is_some() || !has(schema, "openAPIV3Schema") {
                let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
                out.push(Cause::invalid(path, &json!(""), why));
            } else {
                check_selectable(out, selectable, at(schema, &["openAPIV3Schema"]), &path);
            }
        }
    }
    let mut whole = |why: &str| {
        let shown =
            shown::versions(spec, shared.schema.is_some(), shared.subresources.is_some(), shared.columns.is_some());
        out.push(Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {shown}: {why}"),
            field: "spec.versions".to_owned(),
        });
    };
    if !unique {
        whole("must contain unique version names");
    }
    if stored != 1 {
        whole("must have exactly one version marked as storage version");
    }
}

fn check_warning(out: &mut Vec<Cause>, version: &Value, path: &str) {
    let Some(warning) = option(version, "deprecationWarning").and_then(Value::as_str) else { return };
    let mut reasons = Vec::new();
    if !truth(version, "deprecated") {
        reasons.push("can only be set for deprecated versions".to_owned());
    } else {
        if warning.len() > 256 {
            reasons.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            reasons.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning.char_indices().find(|(_, one)| one.is_control()) {
            reasons.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    for why in reasons {
        out.push(Cause::invalid(format!("{path}.deprecationWarning"), &json!(warning), &why));
    }
}

fn check_names(out: &mut Vec<Cause>, names: &Value, path: &str) {
    let kind_why = "may have mixed case, but should otherwise match: ";
    for (key, lower) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let name = text(names, key);
        let checked = if lower { name.to_lowercase() } else { name.to_owned() };
        if !name.is_empty()
            && let Some(why) = dns_1035(&checked)
        {
            let why = if lower { format!("{kind_why}{why}") } else { why };
            out.push(Cause::invalid(format!("{path}.{key}"), &json!(name), &why));
        }
    }
    let mut each = |key: &str| {
        for (index, name) in list(names, key).iter().enumerate() {
            if let Some(why) = dns_1035(name.as_str().unwrap_or_default()) {
                out.push(Cause::invalid(format!("{path}.{key}[{index}]"), name, &why));
            }
        }
    };
    each("shortNames");
    let list_kind = text(names, "listKind");
    if !list_kind.is_empty() && list_kind == text(names, "kind") {
        let why = "kind and listKind may not be the same";
        out.push(Cause::invalid(format!("{path}.listKind"), &json!(list_kind), why));
    }
    let mut each = |key: &str| {
        for (index, name) in list(names, key).iter().enumerate() {
            if let Some(why) = dns_1035(name.as_str().unwrap_or_default()) {
                out.push(Cause::invalid(format!("{path}.{key}[{index}]"), name, &why));
            }
        }
    };
    each("categories");
}

fn check_column(out: &mut Vec<Cause>, column: &Value, path: &str) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    let one_of = |words: &[&str]| format!("must be one of {}", words.join(","));
    if text(column, "name").is_empty() {
        out.push(Cause::required(format!("{path}.name"), ""));
    }
    let kind = text(column, "type");
    if kind.is_empty() {
        out.push(Cause::required(format!("{path}.type"), &one_of(&TYPES)));
    } else if !TYPES.contains(&kind) {
        out.push(Cause::invalid(format!("{path}.type"), &json!(kind), &one_of(&TYPES)));
    }
    let format = text(column, "format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        out.push(Cause::invalid(format!("{path}.format"), &json!(format), &one_of(&FORMATS)));
    }
    let json_path = text(column, "jsonPath");
    if json_path.is_empty() {
        out.push(Cause::required(format!("{path}.JSONPath"), ""));
    } else {
        check_path(out, json_path, format!("{path}.JSONPath"));
    }
}

/// True when nothing was wrong.
fn check_path(out: &mut Vec<Cause>, value: &str, path: String) -> bool {
    if value.starts_with('.') {
        return true;
    }
    out.push(Cause::invalid(path, &json!(value), "must be a simple json path starting with ."));
    false
}

fn check_subresources(out: &mut Vec<Cause>, subresources: &Value, path: &str) {
    let Some(scale) = option(subresources, "scale") else { return };
    for (key, below) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let value = text(scale, key);
        let path = format!("{path}.scale.{key}");
        if value.is_empty() {
            out.push(Cause::required(path, ""));
        } else if check_path(out, value, path.clone()) && !value.starts_with(&format!("{below}.")) {
            out.push(Cause::invalid(path, &json!(value), &format!("should be a json path under {below}")));
        }
    }
    let selector = text(scale, "labelSelectorPath");
    let path = format!("{path}.scale.labelSelectorPath");
    if !selector.is_empty()
        && check_path(out, selector, path.clone())
        && !selector.starts_with(".spec.")
        && !selector.starts_with(".status.")
    {
        out.push(Cause::invalid(path, &json!(selector), "should be a json path under either .spec or .status"));
    }
}

fn check_selectable(out: &mut Vec<Cause>, fields: &[Value], schema: &Value, path: &str) {
    let mut seen: Vec<String> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let path = format!("{path}[{index}].jsonPath");
        let json_path = text(field, "jsonPath");
        if json_path.is_empty() {
            out.push(Cause::required(path, ""));
            continue;
        }
        let invalid = |why: &str| Cause::invalid(path.clone(), &json!(json_path), why);
        let (found, node) = match custom::field_path(json_path, schema, false) {
            Ok(found) => found,
            Err(why) => {
                out.push(invalid(&format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.split(['.', '[']).next() == Some("metadata") {
            out.push(invalid("must not point to fields in metadata"));
        }
        if !matches!(text(node, "type"), "string" | "boolean" | "integer") {
            out.push(invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            ));
        }
        if seen.contains(&found) {
            out.push(Cause::duplicate(path, &json!(json_path)));
        } else {
            seen.push(found);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        out.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {}: must have at most {SELECTABLE_MAX} items", seen.len()),
            field: path.to_owned(),
        });
    }
}

fn check_word(out: &mut Vec<Cause>, path: &str, value: &str, words: &[&str]) {
    if value.is_empty() {
        out.push(Cause::required(path, ""));
    } else if !words.contains(&value) {
        out.push(Cause::not_supported(path, &json!(value), words));
    }
}

fn check_conversion(out: &mut Vec<Cause>, conversion: &Value) {
    if conversion.is_null() {
        return;
    }
    let strategy = text(conversion, "strategy");
    check_word(out, "spec.conversion.strategy", strategy, &["None", "Webhook"]);
    let webhook = at(conversion, &["webhook"]);
    let client = option(webhook, "clientConfig");
    let versions = list(webhook, "conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            out.push(Cause::forbidden("spec.conversion.webhookClientConfig", why));
        }
        if !versions.is_empty() {
            out.push(Cause::forbidden("spec.conversion.conversionReviewVersions", why));
        }
        return;
    }
    let path = "spec.conversion.webhookClientConfig";
    match client {
        None => out.push(Cause::required(path, "required when strategy is set to Webhook")),
        Some(client) => {
            let (url, service) = (option(client, "url").and_then(Value::as_str), option(client, "service"));
            match (url, service) {
                (None, None) | (Some(_), Some(_)) => {
                    out.push(Cause::required(path, "exactly one of url or service is required"));
                }
                (Some(url), None) if !url.starts_with("https://") => {
                    let why = format!(
                        "'https' is the only allowed URL scheme; desired format: https://host[:port]/path, got {url:?}"
                    );
                    out.push(Cause::invalid(format!("{path}.url"), &json!(url), &why));
                }
                (Some(_), None) => {}
                (None, Some(service)) => {
                    for key in ["name", "namespace"] {
                        if text(service, key).is_empty() {
                            out.push(Cause::required(format!("{path}.service.{key}"), ""));
                        }
                    }
                }
            }
        }
    }
    let path = "spec.conversion.conversionReviewVersions";
    if versions.is_empty() {
        out.push(Cause::required(path, ""));
        return;
    }
    let mut seen: Vec<&Value> = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        if seen.contains(&version) {
            out.push(Cause::invalid(format!("{path}[{index}]"), version, "duplicate version"));
            continue;
        }
        seen.push(version);
        if let Some(why) = dns_1035(version.as_str().unwrap_or_default()) {
            out.push(Cause::invalid(format!("{path}[{index}]"), version, &why));
        }
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        out.push(Cause::invalid(path, &json!(versions), "must include at least one of v1, v1beta1"));
    }
}

fn check_stored(out: &mut Vec<Cause>, definition: &Value) {
    let path = "status.storedVersions";
    let stored = list(at(definition, &["status"]), "storedVersions");
    let versions = list(at(definition, &["spec"]), "versions");
    if stored.is_empty() {
        let shown = option(at(definition, &["status"]), "storedVersions").cloned().unwrap_or_default();
        out.push(Cause::invalid(path, &shown, "must have at least one stored version"));
        return;
    }
    // A version that is named twice is looked for twice, and found once.
    let mut left: Vec<&Value> = stored.iter().collect();
    for version in versions {
        let name = at(version, &["name"]);
        let known = left.contains(&name);
        left.retain(|other| *other != name);
        if truth(version, "storage") && !known {
            let why = format!("must have the storage version {}", name.as_str().unwrap_or_default());
            out.push(Cause::invalid(path, &json!(stored), &why));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| at(version, &["name"]) == name) {
            let shown = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {shown} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {shown} and removes {shown} from \
                 status.storedVersions"
            );
            out.push(Cause::invalid(format!("{path}[{index}]"), name, &why));
        }
    }
}

#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn approval(definition: &Value) -> Approval {
    let annotation = text(at(definition, &["metadata", "annotations"]), APPROVED);
    let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.split('/').next().unwrap_or_default().is_empty() && !annotation.contains(' ')
    });
    match annotation {
        "" => Approval::Missing,
        _ if annotation.starts_with("unapproved") => Approval::Bypassed,
        _ if is_url => Approval::Approved,
        _ => Approval::Invalid,
    }
}

fn check_approval(out: &mut Vec<Cause>, definition: &Value, old: Option<&Value>) {
    let group = text(at(definition, &["spec"]), "group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")));
    let state = approval(definition);
    if !protected || old.is_some_and(|old| approval(old) == state) {
        return;
    }
    let path = format!("metadata.annotations[{APPROVED}]");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state {
        Approval::Approved | Approval::Bypassed => {}
        Approval::Missing => {
            let why = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
            out.push(Cause::required(path, &why));
        }
        Approval::Invalid => {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \
                 \"unapproved\", {see}"
            );
            let annotation = text(at(definition, &["metadata", "annotations"]), APPROVED);
            out.push(Cause::invalid(path, &json!(annotation), &why));
        }
    }
}
