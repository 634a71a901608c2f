use serde_json::json;

use super::*;
use crate::registry::Registry;

fn deployment() -> std::sync::Arc<Resource> {
    Registry::built_in().find("apps", "v1", "deployments").unwrap().clone()
}

fn pod_spec(object: &Value, change: &Value) -> Value {
    let wrap = |spec: &Value| json!({"spec": {"template": {"spec": spec}}});
    let body = wrap(change).to_string();
    let kind = "application/strategic-merge-patch+json";
    let (out, _) = patch(&deployment(), kind, &wrap(object), body.as_bytes()).unwrap();
    out["spec"]["template"]["spec"].clone()
}

#[test]
fn containers_merge_by_name_and_others_stay() {
    let own = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    let out = pod_spec(&own, &json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}));
    let expected = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]);
    assert_eq!(out["containers"], expected);
}

#[test]
fn directives_delete_replace_and_order() {
    let own = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"x": "1", "y": "2"}});
    let out = pod_spec(&own, &json!({"containers": [{"name": "a", "$patch": "delete"}]}));
    assert_eq!(out["containers"], json!([{"name": "b"}]));
    let out = pod_spec(&own, &json!({"containers": [{"name": "z"}, {"$patch": "replace"}]}));
    assert_eq!(out["containers"], json!([{"name": "z"}]));
    let order = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]});
    assert_eq!(pod_spec(&own, &order)["containers"], json!([{"name": "b"}, {"name": "a"}]));
    let out = pod_spec(&own, &json!({"nodeSelector": {"$patch": "replace", "z": "3"}}));
    assert_eq!(out["nodeSelector"], json!({"z": "3"}));
    let out = pod_spec(&own, &json!({"nodeSelector": {"x": null}}));
    assert_eq!(out["nodeSelector"], json!({"y": "2"}));
}

#[test]
fn an_item_without_its_key_is_refused() {
    let own = json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
    let body = json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}).to_string();
    let kind = "application/strategic-merge-patch+json";
    let error = patch(&deployment(), kind, &own, body.as_bytes()).unwrap_err();
    assert!(error.message.contains("does not contain declared merge key: name"), "{}", error.message);
}

#[test]
fn a_list_that_was_not_there_is_taken_as_it_stands() {
    let ports = json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]);
    let own = json!({"containers": [{"name": "a"}]});
    let out = pod_spec(&own, &json!({"containers": [{"name": "a", "ports": ports}]}));
    assert_eq!(out["containers"][0]["ports"], ports);
}
