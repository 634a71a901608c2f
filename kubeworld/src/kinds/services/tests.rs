use serde_json::{Value, json};

use super::{Allocator, Taken, begin_create, begin_update};

fn allocator() -> Allocator {
    Allocator { addresses: "10.96.0.0/24".parse().unwrap(), ports: 30000..=32767 }
}

fn service(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
    let kind = crate::kinds::Kind { group: "", version: "v1", kind: "Service" };
    crate::kinds::default(kind, &mut object);
    object
}

#[test]
fn a_new_service_gets_what_it_did_not_choose() {
    let mut taken = Taken::default();
    for (spec, address, node) in [
        (json!({"ports": [{"port": 80}]}), json!("10.96.0.1"), Value::Null),
        (json!({"ports": [{"port": 80}], "type": "NodePort"}), json!("10.96.0.2"), json!(30000)),
        (json!({"ports": [{"port": 80}], "type": "LoadBalancer"}), json!("10.96.0.3"), json!(30001)),
        (json!({"ports": [{"port": 80}], "clusterIP": "None", "selector": {"a": "b"}}), json!("None"), Value::Null),
        (json!({"type": "ExternalName", "externalName": "a.example"}), Value::Null, Value::Null),
    ] {
        let mut object = service(spec);
        begin_create(&mut object, &taken, &allocator()).unwrap();
        assert_eq!(object["spec"]["clusterIP"], address);
        assert_eq!(object["spec"]["ports"][0]["nodePort"], node);
        taken.add(&object);
    }
}

#[test]
fn what_is_taken_is_refused() {
    let mut taken = Taken::default();
    taken.add(&json!({"spec": {"clusterIPs": ["10.96.0.9"], "ports": [{"nodePort": 30100}]}}));
    for (spec, expected) in [
        (
            json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.9"}),
            "Invalid value: [\"10.96.0.9\"]: failed to allocate IP 10.96.0.9: provided IP is already allocated",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30100}], "type": "NodePort"}),
            "Invalid value: 30100: provided port is already allocated",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 80}], "type": "NodePort"}),
            "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ] {
        let causes = begin_create(&mut service(spec), &taken, &allocator()).unwrap_err();
        assert_eq!(causes[0].message, expected);
    }
}

#[test]
fn an_update_keeps_what_it_leaves_out() {
    let mut old = service(json!({"ports": [{"port": 80}], "type": "NodePort"}));
    begin_create(&mut old, &Taken::default(), &allocator()).unwrap();
    let mut new = service(json!({"ports": [{"port": 81}], "type": "NodePort"}));
    begin_update(&mut new, &old, &Taken::default(), &allocator()).unwrap();
    assert_eq!(new["spec"]["clusterIP"], old["spec"]["clusterIP"]);
    assert_eq!(new["spec"]["clusterIPs"], old["spec"]["clusterIPs"]);
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
}
