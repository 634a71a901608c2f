//! The CRDs as a whole; what an API server says of them is tried on a real one.

use super::*;

#[test]
fn every_kind_is_documented_down_to_its_fields() {
    fn walk(path: &str, schema: &serde_json::Value, bare: &mut Vec<String>) {
        let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) else {
            return;
        };
        for (name, field) in properties {
            let path = format!("{path}.{name}");
            if field.get("description").is_none() {
                bare.push(path.clone());
            }
            walk(&path, field, bare);
            if let Some(items) = field.get("items") {
                walk(&path, items, bare);
            }
        }
    }
    let mut bare = Vec::new();
    for crd in crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let root = &schema["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            walk(&format!("{}.{part}", crd.spec.names.kind), &root[part], &mut bare);
        }
    }
    assert!(bare.is_empty(), "kubectl explain would say nothing about {bare:?}");
}

#[test]
fn spec_is_required_everywhere() {
    // A rule on spec is bypassed by an update that drops spec, unless spec is required.
    for crd in crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let required = schema["openAPIV3Schema"]["required"].as_array().unwrap();
        assert!(required.iter().any(|r| r == "spec"), "{}", crd.spec.names.kind);
    }
}
