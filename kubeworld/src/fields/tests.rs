use serde_json::json;

use super::*;

#[test]
fn fields_v1_goes_there_and_back() {
    let text = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:containers": {r#"k:{"name":"a"}"#: {".": {}, "f:image": {}}},
            "f:finalizers": {r#"v:"x""#: {}},
            "f:list": {"i:3": {}},
        },
    });
    let set = FieldSet::from_json(&text).unwrap();
    assert_eq!(set.to_json(), text);
    let paths: Vec<String> = set.paths().iter().map(|path| shown(path)).collect();
    assert!(paths.contains(&r#".spec.containers[name="a"].image"#.to_owned()), "{paths:?}");
    assert!(paths.contains(&r#".spec.finalizers[="x"]"#.to_owned()), "{paths:?}");
}

#[test]
fn garbage_is_no_set() {
    for text in
        [json!(1), json!({"x": {}}), json!({"q:a": {}}), json!({"f:a": 1}), json!({"k:{": {}}), json!({"i:x": {}})]
    {
        assert_eq!(FieldSet::from_json(&text), None, "{text}");
    }
}

#[test]
fn a_parent_takes_away_its_children_only_recursively() {
    let all = FieldSet::of(&[&["a"], &["a", "b"], &["c"]]);
    let parent = FieldSet::of(&[&["a"]]);
    assert_eq!(all.difference(&parent), FieldSet::of(&[&["a", "b"], &["c"]]));
    let mut rest = all.clone();
    rest.subtract_recursively(&parent);
    assert_eq!(rest, FieldSet::of(&[&["c"]]));
    assert_eq!(all.difference(&FieldSet::of(&[&["a", "b"]])), FieldSet::of(&[&["a"], &["c"]]));
}
