use serde_json::{Value, json};

use super::*;

fn definition(versions: Value) -> Value {
    json!({
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
                 "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                 "versions": versions},
        "status": {"acceptedNames": {"plural": "things", "kind": "Thing"}, "storedVersions": ["v1"],
                   "conditions": [{"type": "Established", "status": "True"}]},
    })
}

fn version(name: &str, storage: bool, properties: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage,
           "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
}

fn served(definition: &Value) -> Vec<Arc<Custom>> {
    let mut customs = Customs::default();
    assert!(customs.take("things.example.com", Some(definition), 1));
    customs.all()
}

fn of_one(properties: Value) -> Arc<Custom> {
    served(&definition(json!([version("v1", true, properties)]))).remove(0)
}

fn messages(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn judged(custom: &Custom, new: &Value, old: Option<&Value>) -> Vec<String> {
    let kind = crate::kinds::Kind { group: "example.com", version: "v1", kind: "Thing" };
    let verdict = match old {
        Some(old) => validate_update(custom, "", new, old),
        None => validate_create(custom, kind, new),
    };
    messages(&verdict.causes)
}

fn thing(mut fields: Value) -> Value {
    fields["apiVersion"] = json!("example.com/v1");
    fields["kind"] = json!("Thing");
    fields["metadata"] = json!({"name": "a", "namespace": "n", "resourceVersion": "1", "uid": "u"});
    fields
}

#[test]
fn unknown_fields_go_and_nulls_make_room_for_defaults() {
    let custom = of_one(json!({
        "a": {"type": "string"}, "b": {"type": "string", "default": "x"}, "c": {"type": "string", "nullable": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                 "properties": {"known": {"type": "object", "properties": {}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "integer"}}}},
    }));
    let mut value = thing(json!({
        "a": null, "b": null, "c": null, "d": 1, "free": {"any": {"x": 1}, "known": {"gone": 1}},
        "map": {"m": {"k": 1, "l": 2}},
    }));
    let unknown = prune(&custom, &mut value).unwrap();
    assert_eq!(unknown, ["unknown field \"d\"", "unknown field \"free.known.gone\"", "unknown field \"map.m.l\"",]);
    default(&custom, &mut value);
    let expected = thing(json!({"b": "x", "c": null, "free": {"any": {"x": 1}, "known": {}}, "map": {"m": {"k": 1}}}));
    assert_eq!(value, expected);
}

#[test]
fn what_was_wrong_and_did_not_change_is_let_through() {
    let custom = of_one(json!({
        "a": {"type": "string", "enum": ["good"]}, "b": {"type": "integer"},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
              "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 3}}}},
    }));
    let old = thing(json!({"a": "bad", "l": [{"k": "x", "v": 5}]}));
    let new = thing(json!({"a": "bad", "b": 1, "l": [{"k": "y", "v": 1}, {"k": "x", "v": 5}]}));
    assert_eq!(judged(&custom, &new, Some(&old)), Vec::<String>::new());
    let worse = thing(json!({"a": "bad", "l": [{"k": "x", "v": 6}]}));
    assert_eq!(
        judged(&custom, &worse, Some(&old)),
        ["l[0].v: Invalid value: 6: l[0].v in body should be less than or equal to 3"]
    );
    assert_eq!(judged(&custom, &old, None).len(), 2);
}

#[test]
fn rules_see_their_part_and_what_it_was() {
    let custom = of_one(json!({
        "spec": {"type": "object", "properties": {"n": {"type": "integer"}, "a-b": {"type": "string", "maxLength": 5}},
                 "x-kubernetes-validations": [
                     {"rule": "self.n >= oldSelf.n", "message": "may not fall"},
                     {"rule": "!has(self.a__dash__b) || self.a__dash__b != 'x'", "fieldPath": ".a-b",
                      "messageExpression": "'not ' + self.a__dash__b"},
                     {"rule": "oldSelf.hasValue() || self.n < 10", "optionalOldSelf": true, "reason": "FieldValueForbidden"}]},
    }));
    let of = |n: i64, text: &str| thing(json!({"spec": {"n": n, "a-b": text}}));
    assert_eq!(
        judged(&custom, &of(10, "x"), None),
        ["spec.a-b: Invalid value: not x", "spec: Forbidden: failed rule: oldSelf.hasValue() || self.n < 10"]
    );
    assert_eq!(judged(&custom, &of(11, "y"), Some(&of(10, "y"))), Vec::<String>::new());
    assert_eq!(judged(&custom, &of(9, "y"), Some(&of(10, "y"))), ["spec: Invalid value: may not fall"]);
}

#[test]
fn other_versions_show_what_they_know_of_the_stored_one() {
    let customs = served(&definition(json!([
        version("v1", true, json!({"a": {"type": "string"}, "b": {"type": "string", "default": "x"}})),
        version("v1beta1", false, json!({"a": {"type": "string"}, "c": {"type": "string", "default": "z"}})),
    ])));
    let beta = &customs[1];
    let mut value = json!({"a": "1", "b": "x"});
    beta.read(&mut value, 5);
    assert_eq!(value, json!({"a": "1"}));
    let mut value = json!({"a": "1", "c": "z"});
    beta.store(&mut value);
    assert_eq!(value, json!({"a": "1"}));
    assert!(beta.differs(5) && !customs[0].differs(5));
}

#[test]
fn a_new_schema_shows_in_objects_that_were_there_before() {
    let mut customs = Customs::default();
    let before = definition(json!([version("v1", true, json!({"a": {"type": "string"}}))]));
    assert!(customs.take("things", Some(&before), 3));
    assert!(!customs.take("things", Some(&before), 4));
    let after = definition(json!([version("v1", true, json!({"b": {"type": "string", "default": "x"}}))]));
    assert!(customs.take("things", Some(&after), 7));
    let custom = customs.all().remove(0);
    let mut old = json!({"a": "1"});
    custom.read(&mut old, 7);
    assert_eq!(old, json!({"b": "x"}));
    assert!(!custom.differs(8));
}

#[test]
fn deprecated_versions_name_the_best_one_that_is_no_less_stable() {
    let mut old = version("v1beta1", false, json!({}));
    old["deprecated"] = json!(true);
    let all = definition(json!([version("v1alpha1", false, json!({})), old, version("v1", true, json!({}))]));
    assert_eq!(default_warning(&all, "v1beta1"), "example.com/v1beta1 Thing is deprecated; use example.com/v1 Thing");
    assert_eq!(default_warning(&all, "v1"), "example.com/v1 Thing is deprecated");
}

#[test]
fn paths_lead_to_fields() {
    let schema = json!({"properties": {"spec": {"properties": {"a.b": {"type": "string"},
                        "m": {"additionalProperties": {"type": "integer"}}}}}});
    let path = |path: &str, brackets| field_path(path, &schema, brackets).map(|(path, _)| path);
    assert_eq!(path(".spec['a.b']", true), Ok("spec.a.b".to_owned()));
    assert_eq!(path(".spec.m.k", true), Ok("spec.m[k]".to_owned()));
    assert_eq!(path(".spec['a.b']", false), Err("array notation is not allowed".to_owned()));
    assert_eq!(path("spec", true), Err("expected [ or . but got: spec".to_owned()));
    assert_eq!(path(".spec.", true), Err("unexpected end of JSON path".to_owned()));
    assert_eq!(path(".none", true), Err("does not refer to a valid field".to_owned()));
    assert_eq!(path(".spec['a", true), Err("expected single quoted string but got 'a".to_owned()));
}

#[test]
fn rules_cost_what_their_schema_allows() {
    let cost = |schema: Value, rule: &str| cost::compile(&schema, false, &json!({"rule": rule}));
    let texts = |most: u64| json!({"type": "array", "maxItems": most, "items": {"type": "string", "maxLength": 10}});
    // A turn of the inner loop: the condition (2), the texts compared (4), and three names.
    let quadratic = cost(texts(100), "self.all(x, self.all(y, x == y))").cost;
    let larger = cost(texts(1000), "self.all(x, self.all(y, x == y))").cost;
    assert!(larger > 90 * quadratic && larger < 110 * quadratic, "{quadratic} {larger}");
    assert_eq!(
        cost(json!({"type": "string"}), "self.none").error.as_deref(),
        Some(
            "compilation failed: ERROR: <input>:1:5: type 'string' does not support field selection\n | self.none\n | ....^"
        )
    );
    assert_eq!(
        cost(json!({"type": "integer"}), "self").error.as_deref(),
        Some("cel expression must evaluate to a bool")
    );
    assert!(cost(json!({"type": "integer"}), "self > oldSelf").uses_old);
    assert!(cost::message("it", 15_000_001, 10_000_000).contains("factor of 1.5x"));
    assert!(cost::message("it", 11_000_000, 10_000_000).contains("factor of 1.100000x"));
}

#[test]
fn formats_are_those_of_the_real_validator() {
    for (format, good, bad) in [
        ("date-time", "2020-01-01T00:00:00.5+01:00", "2020-01-01 00:00:00Z"),
        ("date", "2020-02-29", "2020-2-29"),
        ("duration", "1h30m", "1x"),
        ("duration", "3 days", "days"),
        ("uuid", "123e4567e89b12d3a456426614174000", "123e4567"),
        ("cidr", "010.0.0.0/8", "10.0.0.0/33"),
        ("mac", "00:11:22:33:44:55", "00:11:22:33:44"),
        ("byte", "AA==", "A"),
        ("isbn", "978-0321751041", "978-0321751042"),
        ("k8s-short-name", "a-b", "a.b"),
        ("uri", "/path", "path"),
    ] {
        assert!(formats::has_format(format, good), "{format} {good}");
        assert!(!formats::has_format(format, bad), "{format} {bad}");
    }
    assert!(!is_known_format("string", "strange") && !is_known_format("integer", "int16"));
}

#[test]
fn values_are_shown_as_go_shows_them() {
    for (value, text) in [
        (json!(1.0), "1"),
        (json!(0.5), "0.5"),
        (json!(1e21), "1e+21"),
        (json!(0.00001), "1e-05"),
        (json!("a\"b"), "\"a\\\"b\""),
    ] {
        assert_eq!(shown(&value), text);
    }
}

proptest::proptest! {
    /// Whatever a client sends, as a schema or as an object.
    #[test]
    fn nothing_panics(schema in anything(), value in anything()) {
        let custom = &served(&definition(json!([{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}}])))[0];
        let mut pruned = value.clone();
        if prune(custom, &mut pruned).is_ok() {
            default(custom, &mut pruned);
        }
        judged(custom, &pruned, None);
        judged(custom, &pruned, Some(&value));
        let kind = crate::kinds::Kind { group: "apiextensions.k8s.io", version: "v1", kind: "CustomResourceDefinition" };
        crate::kinds::validate_create(kind, &definition(json!([{"name": "v1", "schema": {"openAPIV3Schema": schema}}])));
        crate::kinds::validate_update(kind, "", &value, &definition(json!([value, schema])));
    }
}

/// JSON out of words that mean something in a schema.
fn anything() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let words = proptest::sample::select(vec![
        "type",
        "object",
        "array",
        "string",
        "integer",
        "properties",
        "items",
        "additionalProperties",
        "default",
        "enum",
        "anyOf",
        "allOf",
        "oneOf",
        "not",
        "required",
        "metadata",
        "spec",
        "minimum",
        "maxLength",
        "pattern",
        "format",
        "[",
        "x-kubernetes-list-type",
        "map",
        "set",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
        "rule",
        "self.all(x, x > 1)",
        "self.spec",
        "fieldPath",
        ".spec",
        "messageExpression",
        "date-time",
        "int32",
        "versions",
        "names",
        "status",
        "conditions",
        "storedVersions",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..5i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((words.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}
