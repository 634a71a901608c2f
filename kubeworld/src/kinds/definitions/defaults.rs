//! Whether defaults are what their schema asks for.

use serde_json::{Value, json};

use crate::custom;
use crate::kinds::fields::{entries, option, truth};
use crate::status::Cause;

/// What is wrong with the defaults of a schema.
pub(super) fn check(root: &Value, path: &str) -> Vec<Cause> {
    let mut out = Vec::new();
    below(&mut out, root, path, true, false);
    out
}

/// Defaults below `additionalProperties` of metadata are forbidden elsewhere, so they are not looked at.
fn below(out: &mut Vec<Cause>, node: &Value, path: &str, is_object: bool, in_meta: bool) {
    let embedded = is_object || truth(node, "x-kubernetes-embedded-resource");
    let in_meta = in_meta && !embedded;
    if let Some(default) = option(node, "default") {
        check_one(out, node, default, &format!("{path}.default"), in_meta);
    }
    if let Some(items) = option(node, "items") {
        below(out, items, &format!("{path}.items"), false, in_meta);
    }
    for (key, property) in entries(node, "properties") {
        let meta = embedded && matches!(key.as_str(), "metadata" | "apiVersion" | "kind");
        below(out, property, &format!("{path}.properties[{key}]"), false, in_meta || meta);
    }
}

fn check_one(out: &mut Vec<Cause>, node: &Value, default: &Value, path: &str, in_meta: bool) {
    if !in_meta {
        let mut pruned = default.clone();
        if !custom::prune_value(node, &mut pruned).is_empty() {
            out.push(Cause::invalid(path, &json!(default), "must not have unknown fields"));
        }
        let wrong = custom::check_embedded(node, default, path);
        if !wrong.is_empty() {
            out.extend(wrong);
            return;
        }
    }
    let wrong = custom::check_value(node, default, path);
    if !wrong.is_empty() {
        out.extend(wrong);
        return;
    }
    out.extend(custom::check_rules(node, default, path));
}
