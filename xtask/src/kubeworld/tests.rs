use super::*;

#[test]
fn lines_end_at_their_depth() {
    let value = json!({"a": [1, {"b": [2, 3]}], "c": {}, "d": "x\"y"});
    let text = |depth| String::from_utf8(in_lines(&value, depth)).unwrap();
    assert_eq!(text(0), format!("{value}\n"));
    assert_eq!(text(1), "{\n \"a\": [1,{\"b\":[2,3]}],\n \"c\": {},\n \"d\": \"x\\\"y\"\n}\n");
    assert_eq!(text(2), "{\n \"a\": [\n  1,\n  {\"b\":[2,3]}\n ],\n \"c\": {},\n \"d\": \"x\\\"y\"\n}\n");
    for depth in 0..9 {
        assert_eq!(serde_json::from_str::<Value>(&text(depth)).unwrap(), value);
    }
}

#[test]
fn roles_that_sum_up_others_are_waited_for() {
    let list = |rules| json!({"items": [{"rules": null}, {"aggregationRule": {}, "rules": rules}]});
    assert!(!is_filled(&list(Value::Null)));
    assert!(!is_filled(&list(json!([]))));
    assert!(is_filled(&list(json!([{}]))));
}

#[test]
fn compressing_is_repeatable() {
    assert_eq!(gzip(b"the same").unwrap(), gzip(b"the same").unwrap());
}
