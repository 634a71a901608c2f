//! The schema of a custom kind as it is published, for `kubectl explain` and for clients that check before they send.

use serde_json::{Value, json};

use super::Custom;
use crate::kinds::fields::{list, truth};

const META_REF: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// The name of the schema: the group backwards, the version, the kind.
pub(crate) fn schema_name(custom: &Custom) -> String {
    let reversed: Vec<&str> = custom.group.split('.').rev().collect();
    format!("{}.{}.{}", reversed.join("."), custom.version, custom.names.kind)
}

/// The schema with what every object has.
pub(crate) fn schema(custom: &Custom) -> Value {
    let mut out = Value::clone(&custom.structural);
    complete(&mut out);
    let version = "APIVersion defines the versioned schema of this representation of an object. Servers should convert \
                   recognized schemas to the latest internal value, and may reject unrecognized values.";
    let kind = "Kind is a string value representing the REST resource this object represents. Servers may infer this \
                from the endpoint the client submits requests to. Cannot be updated. In CamelCase.";
    describe(&mut out, version, kind);
    let own = json!({"group": custom.group, "version": custom.version, "kind": custom.names.kind});
    out["x-kubernetes-group-version-kind"] = json!([own]);
    if !custom.selectable.is_empty() {
        let fields = custom.selectable.iter().map(|path| json!({"fieldPath": path.dotted()}));
        out["x-kubernetes-selectable-fields"] = fields.collect();
    }
    out
}

/// The head of an object.
fn describe(node: &mut Value, version: &str, kind: &str) {
    node["properties"]["apiVersion"] =
        json!({"type": "string", "description": format!("{version} More info: {CONVENTIONS}#resources")});
    node["properties"]["kind"] =
        json!({"type": "string", "description": format!("{kind} More info: {CONVENTIONS}#types-kinds")});
    let metadata = format!("Standard object's metadata. More info: {CONVENTIONS}#metadata");
    node["properties"]["metadata"] = json!({"description": metadata, "allOf": [{"$ref": META_REF}]});
}

/// Says in plain OpenAPI what the extensions mean.
fn complete(node: &mut Value) {
    if !node.is_object() {
        return;
    }
    if let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(complete);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = node.get_mut(key) {
            complete(below);
        }
    }
    if truth(node, "x-kubernetes-int-or-string") {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let says = |node: &Value| node.get("anyOf") == Some(&either);
        if list(node, "anyOf").is_empty() {
            let said = list(node, "allOf").first().is_some_and(says);
            if !said {
                node["anyOf"] = either;
            }
        } else if !says(node) {
            let mut all = vec![json!({"anyOf": either})];
            all.extend(list(node, "allOf").iter().cloned());
            node["allOf"] = json!(all);
        }
    }
    if truth(node, "x-kubernetes-embedded-resource") {
        let version = "apiVersion defines the versioned schema of this representation of an object.";
        let kind = "kind is a string value representing the type of this object. In CamelCase.";
        describe(node, version, kind);
        let mut required = list(node, "required").to_vec();
        for key in ["kind", "apiVersion"] {
            if !required.iter().any(|own| own == key) {
                required.push(json!(key));
            }
        }
        node["required"] = json!(required);
    }
}
