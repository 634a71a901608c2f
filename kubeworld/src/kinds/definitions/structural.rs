//! Whether a schema is structural: everything that a value may be is said once, outside of `allOf`, `anyOf`, `oneOf` and
//! `not`, which only narrow it down. Pruning, defaulting and merging need no more than that part.

use serde_json::{Value, json};

use crate::kinds::fields::{at, entries, has, list, option, text, truth};
use crate::status::Cause;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Why a schema cannot be made a structural one at all.
pub(super) fn unsupported(node: &Value) -> Option<String> {
    for key in ["id", "$schema", "$ref"] {
        if !text(node, key).is_empty() {
            let key = if key == "$schema" { "schema" } else { key };
            return Some(format!("OpenAPIV3Schema '{key}' is not supported"));
        }
    }
    for key in ["patternProperties", "dependencies", "additionalItems", "definitions"] {
        if has(node, key) && (key == "additionalItems" || entries(node, key).next().is_some()) {
            return Some(format!("OpenAPIV3Schema '{key}' is not supported"));
        }
    }
    if node.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(false)) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    for branch in branches(node) {
        if let Some(why) = unsupported(branch) {
            return Some(why);
        }
    }
    if at(node, &["items"]).is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let below = option(node, "items").into_iter();
    let below = below.chain(entries(node, "properties").map(|(_, below)| below));
    let mut below = below.chain(option(node, "additionalProperties").filter(|below| below.is_object()));
    below.find_map(unsupported)
}

/// The schemas that narrow a schema down.
fn branches(node: &Value) -> impl Iterator<Item = &Value> {
    let not = option(node, "not").into_iter();
    not.chain(["allOf", "anyOf", "oneOf"].into_iter().flat_map(move |key| list(node, key)))
}

/// What is not structural, sorted as the real server sorts it.
pub(super) fn check(root: &Value, path: &str) -> Vec<Cause> {
    let mut out = Vec::new();
    invariants(&mut out, root, Level::Root, path);
    complete(&mut out, root, root, path, path, false);
    out.sort_by_key(|cause| format!("{}: {}", cause.field, cause.message));
    out
}

fn invariants(out: &mut Vec<Cause>, node: &Value, level: Level, path: &str) {
    let kind = text(node, "type");
    let embedded = truth(node, "x-kubernetes-embedded-resource");
    let either = truth(node, "x-kubernetes-int-or-string");
    let keeps = truth(node, "x-kubernetes-preserve-unknown-fields");
    if kind == "array" && !has(node, "items") {
        out.push(Cause::required(format!("{path}.items"), "must be specified"));
    }
    if let Some(items) = option(node, "items") {
        invariants(out, items, Level::Item, &format!("{path}.items"));
    }
    for (key, below) in entries(node, "properties") {
        invariants(out, below, Level::Field, &format!("{path}.properties[{key}]"));
    }
    if let Some(additional) = option(node, "additionalProperties") {
        let path = format!("{path}.additionalProperties");
        if level == Level::Root {
            out.push(Cause::forbidden(path.clone(), "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(out, additional, Level::Field, &path);
        }
    }
    if either && keeps {
        let path = format!("{path}.x-kubernetes-preserve-unknown-fields");
        out.push(Cause::invalid(path, &json!(true), "must be false if x-kubernetes-int-or-string is true"));
    }
    if either && embedded {
        let path = format!("{path}.x-kubernetes-embedded-resource");
        out.push(Cause::invalid(path, &json!(true), "must be false if x-kubernetes-int-or-string is true"));
    }
    let any = is_int_or_string(list(node, "anyOf"));
    let all = list(node, "allOf").first().is_some_and(|first| is_int_or_string(list(first, "anyOf")));
    narrowing(out, node, any, all, path);
    check_type(out, node, level, path);
    if embedded && has(node, "additionalProperties") {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        out.push(Cause::forbidden(format!("{path}.additionalProperties"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        out.push(Cause::invalid(format!("{path}.type"), &json!(kind), "must be object at the root"));
    }
    let is_object = level == Level::Root || embedded;
    let properties = at(node, &["properties"]);
    for key in ["kind", "apiVersion"] {
        let own = text(at(properties, &[key]), "type");
        if is_object && has(properties, key) && own != "string" {
            out.push(Cause::invalid(format!("{path}.properties[{key}].type"), &json!(own), "must be string"));
        }
    }
    if let Some(metadata) = option(properties, "metadata") {
        check_metadata(out, metadata, is_object, level, &format!("{path}.properties[metadata]"));
    }
    if embedded && !keeps && entries(node, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        out.push(Cause::required(format!("{path}.properties"), why));
    }
}

fn check_type(out: &mut Vec<Cause>, node: &Value, level: Level, path: &str) {
    let kind = text(node, "type");
    let path = format!("{path}.type");
    if truth(node, "x-kubernetes-embedded-resource") {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "object" => {}
            "" => out.push(Cause::required(path, why)),
            other => out.push(Cause::invalid(path, &json!(other), why)),
        }
    } else if kind.is_empty()
        && !truth(node, "x-kubernetes-int-or-string")
        && !truth(node, "x-kubernetes-preserve-unknown-fields")
    {
        out.push(Cause::required(
            path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
}

/// Metadata is known: of its own only names may be narrowed down.
fn check_metadata(out: &mut Vec<Cause>, metadata: &Value, is_object: bool, level: Level, path: &str) {
    let kind = text(metadata, "type");
    if is_object && kind != "object" {
        out.push(Cause::invalid(format!("{path}.type"), &json!(kind), "must be object"));
    }
    if level != Level::Root {
        return;
    }
    let only_names = entries(metadata, "properties").all(|(key, _)| matches!(key.as_str(), "name" | "generateName"));
    let other = metadata.as_object().into_iter().flatten().any(|(key, value)| {
        let says = !(value.is_null() || *value == json!("") || *value == json!(false));
        says && !matches!(key.as_str(), "type" | "default") && !(key == "properties" && only_names)
    });
    if other {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        out.push(Cause::forbidden(path, why));
    }
}

/// The one way to say that a value is a number or a text.
fn is_int_or_string(branches: &[Value]) -> bool {
    let is = |branch: &Value, kind: &str| {
        let fields = branch.as_object().into_iter().flatten();
        text(branch, "type") == kind && fields.filter(|(_, value)| !value.is_null()).count() == 1
    };
    matches!(branches, [first, second] if is(first, "integer") && is(second, "string"))
}

fn narrowing(out: &mut Vec<Cause>, node: &Value, skip_any: bool, skip_first_all: bool, path: &str) {
    if !skip_any {
        for (index, branch) in list(node, "anyOf").iter().enumerate() {
            narrowed(out, branch, false, &format!("{path}.anyOf[{index}]"));
        }
    }
    for (index, branch) in list(node, "allOf").iter().enumerate() {
        narrowed(out, branch, skip_first_all && index == 0, &format!("{path}.allOf[{index}]"));
    }
    for (index, branch) in list(node, "oneOf").iter().enumerate() {
        narrowed(out, branch, false, &format!("{path}.oneOf[{index}]"));
    }
    if let Some(branch) = option(node, "not") {
        narrowed(out, branch, false, &format!("{path}.not"));
    }
    let pattern = text(node, "pattern");
    if !pattern.is_empty()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {}", go_error(&error, pattern));
        out.push(Cause::invalid(format!("{path}.pattern"), &json!(pattern), &why));
    }
}

/// The last line of the error is its reason; the usual ones are known in Go's words too.
fn go_error(error: &regex::Error, pattern: &str) -> String {
    let text = error.to_string();
    let (reason, at) = match text.lines().last().unwrap_or_default().trim_start_matches("error: ") {
        "unclosed character class" => ("missing closing ]", pattern.rfind('[').unwrap_or_default()),
        "unclosed group" => ("missing closing )", 0),
        "unopened group" => ("unexpected )", 0),
        "repetition operator missing expression" => {
            ("missing argument to repetition operator", pattern.find(['*', '+', '?']).unwrap_or_default())
        }
        other => (other, 0),
    };
    format!("error parsing regexp: {reason}: `{}`", pattern.get(at..).unwrap_or(pattern))
}

fn narrowed(out: &mut Vec<Cause>, branch: &Value, skip_any: bool, path: &str) {
    narrowing(out, branch, skip_any, false, path);
    if let Some(items) = option(branch, "items") {
        narrowed(out, items, false, &format!("{path}.items"));
    }
    for (key, below) in entries(branch, "properties") {
        narrowed(out, below, false, &format!("{path}.properties[{key}]"));
    }
    let mut forbid = |says: bool, key: &str, why: &str| {
        if says {
            out.push(Cause::forbidden(format!("{path}.{key}"), &format!("must be {why} to be structural")));
        }
    };
    forbid(!text(branch, "type").is_empty(), "type", "empty");
    let additional = option(branch, "additionalProperties").is_some_and(|value| *value != json!(false));
    forbid(additional, "additionalProperties", "undefined");
    forbid(has(branch, "default"), "default", "undefined");
    forbid(!text(branch, "title").is_empty(), "title", "empty");
    forbid(!text(branch, "description").is_empty(), "description", "empty");
    forbid(truth(branch, "nullable"), "nullable", "false");
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"]
    {
        forbid(truth(branch, key), key, "false");
    }
    forbid(!list(branch, "x-kubernetes-list-map-keys").is_empty(), "x-kubernetes-list-map-keys", "empty");
    forbid(has(branch, "x-kubernetes-list-type"), "x-kubernetes-list-type", "undefined");
    forbid(has(branch, "x-kubernetes-map-type"), "x-kubernetes-map-type", "undefined");
    forbid(!list(branch, "x-kubernetes-validations").is_empty(), "x-kubernetes-validations", "empty");
    if has(at(branch, &["properties"]), "metadata") {
        let path = format!("{path}.properties[metadata]");
        out.push(Cause::forbidden(path, "must not be specified in a nested context"));
    }
}

/// What a branch narrows down must be there outside of the branches. `inner` is false for a node of the schema itself.
fn complete(out: &mut Vec<Cause>, narrowing: &Value, node: &Value, path: &str, from: &str, inner: bool) {
    if let Some(branch) = option(narrowing, "not") {
        complete(out, branch, node, path, &format!("{from}.not"), true);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, branch) in list(narrowing, key).iter().enumerate() {
            complete(out, branch, node, path, &format!("{from}.{key}[{index}]"), true);
        }
    }
    if !inner {
        return;
    }
    if let Some(items) = option(narrowing, "items") {
        let (path, from) = (format!("{path}.items"), format!("{from}.items"));
        match option(node, "items") {
            Some(node) => complete(out, items, node, &path, &from, true),
            None => out.push(Cause::required(path, &format!("because it is defined in {from}"))),
        }
    }
    for (key, below) in entries(narrowing, "properties") {
        let (path, from) = (format!("{path}.properties[{key}]"), format!("{from}.properties[{key}]"));
        match option(at(node, &["properties"]), key) {
            Some(node) => complete(out, below, node, &path, &from, true),
            None => out.push(Cause::required(path, &format!("because it is defined in {from}"))),
        }
    }
}
