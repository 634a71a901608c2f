use serde_json::json;

use super::*;

#[test]
fn lists_of_built_in_kinds_have_their_keys() {
    let schema = built_in();
    let container = schema.find("io.k8s.api.core.v1.Container").unwrap();
    let ports = schema.get(container).map.as_ref().unwrap().fields["ports"].ty;
    let expected = ListKind::Map(vec!["containerPort".to_owned(), "protocol".to_owned()]);
    assert_eq!(schema.get(ports).list.as_ref().unwrap().kind, expected);
    let pod = schema.of_kind("", "v1", "Pod").unwrap();
    assert_eq!(schema.get(pod).name, "Pod");
}

#[test]
fn a_use_may_make_a_map_atomic_without_changing_its_type() {
    let schema = built_in();
    let map = |id: TypeId| schema.get(id).map.as_ref().unwrap();
    let service = schema.find("io.k8s.api.core.v1.ServiceSpec").unwrap();
    assert!(map(map(service).fields["selector"].ty).atomic);
    let labels = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    assert!(!map(map(labels).fields["labels"].ty).atomic);
}

#[test]
fn custom_kinds_have_metadata_and_what_they_say() {
    let structural = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "either": {"x-kubernetes-int-or-string": true},
        }},
    }});
    let (schema, root) = Schema::from_custom(&structural, built_in());
    let map = |id: TypeId| schema.get(id).map.as_ref().unwrap();
    let metadata = map(map(root).fields["metadata"].ty);
    assert!(metadata.fields.contains_key("finalizers"));
    let spec = map(map(root).fields["spec"].ty);
    assert_eq!(schema.get(spec.fields["set"].ty).list.as_ref().unwrap().kind, ListKind::Set);
    assert_eq!(map(spec.fields["free"].ty).element, Some(DEDUCED));
    assert_eq!(schema.get(spec.fields["either"].ty).format, Format::IntOrString);
    assert!(spec.under("other").is_none());
}
