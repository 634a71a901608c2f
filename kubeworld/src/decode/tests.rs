use serde_json::json;

use super::*;
use crate::schema;

#[test]
fn what_is_there_twice_is_found_and_the_last_counts() {
    let parsed = json(br#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 3}"#).unwrap();
    assert_eq!(parsed.value, json!({"a": 3, "b": [{"c": 2}]}));
    assert_eq!(parsed.strict, [r#"duplicate field "b[0].c""#, r#"duplicate field "a""#]);
}

#[test]
fn maps_that_are_there_twice_join_in_a_struct() {
    let body = br#"{"data": {"k": "1"}, "data": {"l": "2"}}"#;
    assert_eq!(json_into_struct(body).unwrap().value, json!({"data": {"k": "1", "l": "2"}}));
    assert_eq!(json(body).unwrap().value, json!({"data": {"l": "2"}}));
}

#[test]
fn mistakes_are_said_in_the_words_that_people_look_for() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (br#"{"a" 1}"#, "invalid character '1' after object key"),
        (br#"{"a": 1 "b"}"#, "invalid character '\"' after object key:value pair"),
        (b"{} {", "invalid character '{' after top-level value"),
    ];
    for (body, expected) in cases {
        assert_eq!(json(body).unwrap_err(), expected, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn whole_floats_are_whole_as_in_go() {
    let parsed = json(b"[1.0, -0.0, 1e3, 9223372036854775808, 0.5, 1e30]").unwrap();
    assert_eq!(parsed.value.to_string(), "[1,0,1000,9223372036854776000,0.5,1e+30]");
}

#[test]
fn depth_is_bounded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(json(deep.as_bytes()).unwrap_err(), "invalid character '[' exceeded max depth");
}

fn fitted(kind: &str, value: &Value) -> (Value, Result<Vec<String>, String>) {
    let schema = schema::built_in();
    let ty = schema.of_kind("", "v1", kind).unwrap();
    let mut value = value.clone();
    let result = fit(schema, ty, &mut value).map_err(|mismatch| mismatch.0);
    (value, result)
}

#[test]
fn unknown_fields_are_taken_out_and_named() {
    let pod = json!({"spec": {"containers": [{"name": "a", "imag": "b"}], "more": 1}});
    let (value, unknown) = fitted("Pod", &pod);
    assert_eq!(value, json!({"spec": {"containers": [{"name": "a"}]}}));
    assert_eq!(unknown.unwrap(), [r#"unknown field "spec.more""#, r#"unknown field "spec.containers[0].imag""#]);
}

#[test]
fn wrong_types_are_refused_with_go_s_path() {
    let cases = [
        ("ConfigMap", json!({"data": {"k": 1}}), "number into Go struct field ConfigMap.data of type string"),
        (
            "Pod",
            json!({"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}),
            "string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "Pod",
            json!({"spec": {"hostNetwork": "x"}}),
            "string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
    ];
    for (kind, value, expected) in cases {
        let (_, result) = fitted(kind, &value);
        assert_eq!(result.unwrap_err(), format!("json: cannot unmarshal {expected}"));
    }
    let (_, result) = fitted("Secret", &json!({"data": {"a": "no base64!"}}));
    assert_eq!(result.unwrap_err(), "illegal base64 data at input byte 2");
}

#[test]
fn base64_ends_where_it_ends() {
    for (text, expected) in [
        ("", None),
        ("QQ==", None),
        ("QUE=", None),
        ("QUFB", None),
        ("QQ=", Some(3)),
        ("Q", Some(0)),
        ("QQ==x", Some(4)),
        ("Q Q=", Some(1)),
    ] {
        assert_eq!(bad_base64(text), expected, "{text}");
    }
}
