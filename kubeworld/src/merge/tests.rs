use serde_json::json;

use super::*;
use crate::schema::built_in;

/// A pod's spec is wide enough to have every kind of list.
fn spec() -> TypeId {
    built_in().find("io.k8s.api.core.v1.PodSpec").unwrap()
}

fn merged(live: &Value, config: &Value) -> Value {
    merge(built_in(), spec(), live, config).unwrap()
}

#[test]
fn a_configuration_adds_and_changes_and_leaves_the_rest() {
    let live = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}],
                      "nodeSelector": {"x": "1"}});
    let config = json!({"containers": [{"name": "a", "image": "2"}, {"name": "c"}], "hostNetwork": true});
    let expected = json!({
        "containers": [{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}, {"name": "c"}],
        "nodeSelector": {"x": "1"}, "hostNetwork": true,
    });
    assert_eq!(merged(&live, &config), expected);
}

#[test]
fn items_that_a_configuration_names_stand_in_its_order() {
    let names = |list: &[&str]| json!({"containers": list.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["x", "a"], &["x", "a", "b"]),
        (&["a", "b"], &["a", "x"], &["a", "b", "x"]),
        (&[], &["a"], &["a"]),
        (&["a"], &[], &["a"]),
    ];
    for (live, config, expected) in cases {
        assert_eq!(merged(&names(live), &names(config)), names(expected), "{live:?} {config:?}");
    }
}

#[test]
fn atomic_lists_are_replaced() {
    let out = merged(&json!({"tolerations": [{"key": "a"}]}), &json!({"tolerations": [{"key": "b"}]}));
    assert_eq!(out, json!({"tolerations": [{"key": "b"}]}));
}

#[test]
fn comparing_and_removing_are_two_sides_of_one_thing() {
    let left = json!({"containers": [{"name": "a", "image": "1"}], "nodeSelector": {"x": "1", "y": "1"}});
    let right = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "nodeSelector": {"x": "2"}});
    let found = compare(built_in(), spec(), &left, &right);
    let paths = |set: &FieldSet| set.paths().iter().map(|path| crate::fields::shown(path)).collect::<Vec<_>>();
    assert_eq!(paths(&found.added), [r#".containers[name="b"]"#, r#".containers[name="b"].name"#]);
    assert_eq!(paths(&found.modified), [".nodeSelector.x"]);
    assert_eq!(paths(&found.removed), [".nodeSelector.y"]);
    let without = remove(built_in(), spec(), &right, &found.added);
    assert_eq!(without["containers"], left["containers"]);
    assert_eq!(compare(built_in(), spec(), &left, &left), Comparison::default());
}

#[test]
fn keys_have_their_defaults() {
    let (one, two) = (json!({"containerPort": 80}), json!({"containerPort": 80, "protocol": "TCP"}));
    let pod = |port: &Value| json!({"containers": [{"name": "a", "ports": [port]}]});
    assert_eq!(merged(&pod(&one), &pod(&two))["containers"][0]["ports"], json!([two]));
    let set = field_set(built_in(), spec(), &pod(&one));
    let paths: Vec<String> = set.paths().iter().map(|path| crate::fields::shown(path)).collect();
    assert!(paths.contains(&r#".containers[name="a"].ports[containerPort=80,protocol="TCP"]"#.to_owned()), "{paths:?}");
}

#[test]
fn what_does_not_fit_is_named() {
    let value = json!({"containers": [{"name": "a"}, {"name": "a"}], "hostNetwork": "yes", "more": 1});
    let faults: Vec<String> =
        check(built_in(), spec(), &value, false).iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    let expected = [
        r#".containers: duplicate entries for key [name="a"]"#,
        ".hostNetwork: expected boolean, got &{yes}",
        ".more: field not declared in schema",
    ];
    assert_eq!(faults, expected);
    assert!(check(built_in(), spec(), &json!({"containers": [{"name": "a"}, {"name": "a"}]}), true).is_empty());
}
