use proptest::prelude::*;

use super::*;

/// Writes what [`decode`] reads. Only tests need it.
mod encode {
    use super::*;

    pub(super) fn body(object: &Value) -> Vec<u8> {
        let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let message = Schema::get().of_kind(api_version, kind).unwrap();
        let of = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        let raw = fields(message, object);
        [PREFIX.to_vec(), bytes(1, &of), bytes(2, &raw), bytes(3, b""), bytes(4, b"")].concat()
    }

    pub(super) fn fields(message: &Message, object: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        for field in message.fields() {
            let value = match field.name {
                "-" | schema::LIST_FIELD => object,
                name => &object[name],
            };
            match (field.container, value) {
                (_, Value::Null) => {}
                (Container::One, value) => out.extend(one(field, field.number(), value)),
                (Container::List, value) => {
                    let elements = value.as_array().unwrap().iter();
                    out.extend(elements.flat_map(|element| one(field, field.number(), element)));
                }
                (Container::Map, value) => {
                    for (key, value) in value.as_object().unwrap() {
                        let entry = [bytes(1, key.as_bytes()), one(field, 2, value)].concat();
                        out.extend(bytes(field.number(), &entry));
                    }
                }
            }
        }
        out
    }

    fn one(field: &Field, number: u32, value: &Value) -> Vec<u8> {
        let schema = |value: &Value| fields(Schema::get().message(schema::JSON_SCHEMA), value);
        match &field.of {
            Type::Bool => varint(number, u64::from(value.as_bool().unwrap())),
            Type::Int32 | Type::Int64 => varint(number, value.as_i64().unwrap() as u64),
            Type::Double => [tag(number, 1), value.as_f64().unwrap().to_le_bytes().to_vec()].concat(),
            Type::Text => bytes(number, value.as_str().unwrap().as_bytes()),
            Type::Bytes => bytes(number, &BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()),
            Type::Quantity => bytes(number, &bytes(1, value.as_str().unwrap().as_bytes())),
            Type::IntOrString => match value.as_str() {
                Some(text) => bytes(number, &[varint(1, 1), varint(2, 0), bytes(3, text.as_bytes())].concat()),
                None => {
                    let whole = value.as_i64().unwrap() as u64;
                    bytes(number, &[varint(1, 0), varint(2, whole), bytes(3, b"")].concat())
                }
            },
            Type::RawJson => bytes(number, &bytes(1, value.to_string().as_bytes())),
            Type::Time | Type::MicroTime => {
                let time: Timestamp = value.as_str().unwrap().parse().unwrap();
                let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
                bytes(number, &[varint(1, seconds as u64), varint(2, nanos as u64)].concat())
            }
            Type::SchemaOrArray => match value.as_array() {
                Some(many) => bytes(number, &many.iter().flat_map(|one| bytes(2, &schema(one))).collect::<Vec<_>>()),
                None => bytes(number, &bytes(1, &schema(value))),
            },
            Type::SchemaOrBool => match value.as_bool() {
                Some(allows) => bytes(number, &varint(1, u64::from(allows))),
                None => bytes(number, &[varint(1, 1), bytes(2, &schema(value))].concat()),
            },
            Type::SchemaOrTexts => match value.as_array() {
                Some(texts) => {
                    let texts = texts.iter().flat_map(|one| bytes(2, one.as_str().unwrap().as_bytes()));
                    bytes(number, &texts.collect::<Vec<_>>())
                }
                None => bytes(number, &bytes(1, &schema(value))),
            },
            Type::Message(name) => bytes(number, &fields(Schema::get().message(name), value)),
        }
    }

    fn raw_varint(mut number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
        out
    }

    pub(super) fn tag(number: u32, wire_type: u8) -> Vec<u8> {
        raw_varint(u64::from(number) << 3 | u64::from(wire_type))
    }

    pub(super) fn varint(number: u32, value: u64) -> Vec<u8> {
        [tag(number, 0), raw_varint(value)].concat()
    }

    pub(super) fn bytes(number: u32, value: &[u8]) -> Vec<u8> {
        [tag(number, 2), raw_varint(value.len() as u64), value.to_vec()].concat()
    }
}

/// Makes objects up that are as Go prints them: nothing in them is empty that could be left out.
struct Inventor {
    state: u64,
}

impl Inventor {
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % bound
    }

    fn message(&mut self, message: &Message, depth: u32) -> Value {
        if message.is_list() {
            return self.container(&message.fields()[0], depth);
        }
        let mut object = Map::new();
        for field in message.fields() {
            if field.is_inline() {
                let Type::Message(name) = &field.of else { panic!("only a message stands inline") };
                let Value::Object(inner) = self.message(Schema::get().message(name), depth + 1) else { continue };
                object.extend(inner);
            } else if self.below(u64::from(depth) + 2) == 0 && depth < 9 {
                object.insert(field.name.to_owned(), self.container(field, depth));
            }
        }
        Value::Object(object)
    }

    fn container(&mut self, field: &Field, depth: u32) -> Value {
        let length = 1 + self.below(3);
        match field.container {
            Container::One => self.one(field, depth, field.keep_empty),
            Container::List => (0..length).map(|_| self.one(field, depth, true)).collect(),
            Container::Map => (0..length).map(|i| (format!("k{i}"), self.one(field, depth, true))).collect(),
        }
    }

    fn one(&mut self, field: &Field, depth: u32, may_be_empty: bool) -> Value {
        let least = u64::from(!may_be_empty);
        match &field.of {
            Type::Bool => json!(!may_be_empty || self.below(2) == 0),
            Type::Int32 => json!((least + self.below(1 << 31)) as i32),
            Type::Int64 => json!(-((least + self.below(1 << 40)) as i64)),
            Type::Double => json!((least + self.below(999)) as f64 + 0.5),
            Type::Text => json!("é".repeat((least + self.below(3)) as usize)),
            Type::Bytes => json!(BASE64_STANDARD.encode("\0ÿ".repeat((least + self.below(3)) as usize))),
            Type::Quantity => json!(["100m", "1Gi", "0"][self.below(3) as usize]),
            Type::IntOrString => [json!(0), json!(-1), json!("50%"), json!("")][self.below(4) as usize].clone(),
            Type::RawJson => [json!({"a": [1, null]}), json!("x"), json!(1.5)][self.below(3) as usize].clone(),
            Type::Time => json!(["2026-11-26T12:00:00Z", "1970-01-01T00:00:00Z"][self.below(2) as usize]),
            Type::MicroTime => json!("2026-11-26T12:00:00.000120Z"),
            Type::SchemaOrArray => self.schema(depth, json!([{"type": "x"}])),
            Type::SchemaOrBool => self.schema(depth, json!(self.state.is_multiple_of(2))),
            Type::SchemaOrTexts => self.schema(depth, json!(["a", "b"])),
            Type::Message(name) => self.message(Schema::get().message(name), depth + 1),
        }
    }

    fn schema(&mut self, depth: u32, other: Value) -> Value {
        if self.below(2) == 0 {
            return other;
        }
        self.message(Schema::get().message(schema::JSON_SCHEMA), depth + 1)
    }
}

/// Bodies that kubectl 1.37 and kube-controller-manager sent, and what Kubernetes' own library prints of them as JSON,
/// without its nulls.
#[test]
fn bodies_of_real_programs_are_read_as_go_reads_them() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    assert!(recorded.len() > 30);
    for one in &recorded {
        let body = BASE64_STANDARD.decode(one["body"].as_str().unwrap()).unwrap();
        assert_eq!(decode(&body, ("", "")).unwrap(), one["json"]);
    }
}

/// Messages that are objects of their own, with metadata.
fn kinds() -> Vec<(&'static str, &'static str)> {
    let names = Schema::get().names().into_iter().filter_map(|name| name.rsplit_once('.'));
    let has_metadata = |(group_version, kind): &(&str, &str)| {
        let message = Schema::get().of_kind(group_version, kind).unwrap();
        message.fields().iter().any(|field| field.name == "metadata" && field.number() == 1)
    };
    names.filter(has_metadata).collect()
}

fn expected() -> (&'static str, &'static str) {
    ("v1", "Pod")
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    let kinds = kinds();
    assert!(kinds.len() > 100, "{kinds:?}");
    for (group_version, kind) in kinds {
        let message = Schema::get().of_kind(group_version, kind).unwrap();
        for seed in 0..40 {
            let mut object = Inventor { state: seed }.message(message, 0);
            object["apiVersion"] = json!(group_version);
            object["kind"] = json!(kind);
            assert_eq!(decode(&encode::body(&object), expected()), Ok(object), "{group_version} {kind}, seed {seed}");
        }
    }
}

#[test]
fn what_is_empty_is_left_out_as_go_does() {
    let template = [encode::bytes(1, &encode::bytes(1, b"")), encode::bytes(2, b"")].concat();
    // replicas (a pointer) of nought, minReadySeconds (a number) of nought, paused false, an empty template
    let spec = [
        encode::varint(1, 0),
        encode::bytes(3, &template),
        encode::varint(5, 0),
        encode::varint(7, 0),
        encode::varint(9, 600),
    ];
    let raw =
        [encode::bytes(1, &encode::bytes(8, b"")), encode::bytes(2, &spec.concat()), encode::bytes(3, b"")].concat();
    let of = [encode::bytes(1, b"apps/v1"), encode::bytes(2, b"Deployment")].concat();
    let body = [PREFIX.to_vec(), encode::bytes(1, &of), encode::bytes(2, &raw)].concat();
    let spec = json!({"replicas": 0, "template": {"metadata": {}, "spec": {"containers": null}},
        "progressDeadlineSeconds": 600});
    let mut expected_spec = spec;
    expected_spec["template"]["spec"] = json!({});
    assert_eq!(
        decode(&body, expected()),
        Ok(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": expected_spec, "status": {}})),
    );
}

#[test]
fn embedded_structs_stand_where_they_are() {
    let volume = json!({"name": "v", "configMap": {"name": "c", "optional": false}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": [volume]}});
    let body = encode::body(&pod);
    assert_eq!(decode(&body, expected()), Ok(pod));
}

#[test]
fn the_kind_may_be_left_to_the_path() {
    let raw = encode::bytes(1, &encode::bytes(1, b"p"));
    let body = [PREFIX.to_vec(), encode::bytes(2, &raw)].concat();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    assert_eq!(decode(&body, expected()), Ok(pod));
}

#[test]
fn options_are_read_in_every_group() {
    let options = json!({"apiVersion": "example.com/v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
    assert_eq!(decode(&encode::body(&options), expected()), Ok(options));
}

#[test]
fn a_body_may_hold_another() {
    let inner = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    let raw = encode::bytes(2, &encode::bytes(1, &encode::body(&inner)));
    let of = [encode::bytes(1, b"apps/v1"), encode::bytes(2, b"ControllerRevision")].concat();
    let body = [PREFIX.to_vec(), encode::bytes(1, &of), encode::bytes(2, &raw)].concat();
    assert_eq!(decode(&body, expected()).unwrap()["data"], inner);
}

#[test]
fn what_is_no_body_is_refused() {
    let kind = |kind: &str| {
        let of = [encode::bytes(1, b"example.com/v1"), encode::bytes(2, kind.as_bytes())].concat();
        [PREFIX.to_vec(), encode::bytes(1, &of)].concat()
    };
    let pod = |raw: &[u8]| [PREFIX.to_vec(), encode::bytes(2, raw)].concat();
    let object = "Pod in version \"v1\" cannot be handled as a Pod: ";
    let time = encode::bytes(1, &encode::bytes(8, &encode::varint(1, 1 << 62)));
    for (body, before, message) in [
        (b"".to_vec(), "", "empty data"),
        (b"{}".to_vec(), "", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        (PREFIX.to_vec(), "", "empty body"),
        ([PREFIX, &[0x0a, 0x05]].concat(), "", "unexpected EOF"),
        ([PREFIX, &[0xff; 11]].concat(), "", "proto: integer overflow"),
        (pod(&[0x0b]), object, "proto: illegal wireType 3"),
        (pod(&[0x02, 0]), object, "proto: illegal tag 0 (wire type 2)"),
        (pod(&[0x08, 1]), object, "proto: wrong wireType = 0 for field metadata"),
        (pod(&time), object, "the time of 4611686018427387904 s and 0 ns since 1970 is out of range"),
        (
            kind("Widget"),
            "Widget in version \"v1\" cannot be handled as a Pod: ",
            "no kind \"Widget\" is registered for version \"example.com/v1\" in scheme \"pkg/runtime/scheme.go:111\"",
        ),
    ] {
        assert_eq!(decode(&body, expected()).unwrap_err().to_string(), format!("{before}{message}"));
    }
}

#[test]
fn nesting_has_a_bound() {
    let not = Schema::get().message(schema::JSON_SCHEMA).fields().iter().find(|field| field.name == "not").unwrap();
    let nested = |levels: usize| {
        let schema = (0..levels).fold(Vec::new(), |schema, _| encode::bytes(not.number(), &schema));
        let version = [encode::bytes(1, b"v1"), encode::bytes(4, &encode::bytes(1, &schema))].concat();
        let raw = encode::bytes(2, &encode::bytes(7, &version));
        let of = [encode::bytes(1, b"apiextensions.k8s.io/v1"), encode::bytes(2, b"CustomResourceDefinition")].concat();
        decode(&[PREFIX.to_vec(), encode::bytes(1, &of), encode::bytes(2, &raw)].concat(), expected())
    };
    let mut found = &nested(100).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for _ in 0..100 {
        found = &found["not"];
    }
    assert_eq!(found, &json!({}));
    let error = nested(10_000).unwrap_err();
    assert!(matches!(error, DecodeError::Object { fault: Fault::Depth, .. }), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&[PREFIX, &bytes].concat(), expected());
        let _ = decode(&bytes, expected());
    }

    /// Whole bodies with a few bytes changed get deeper than random ones.
    #[test]
    fn no_damage_panics(
        seed in any::<u64>(),
        kind in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let kinds = kinds();
        let (group_version, kind) = kinds[kind.index(kinds.len())];
        let message = Schema::get().of_kind(group_version, kind).unwrap();
        let mut object = Inventor { state: seed }.message(message, 0);
        object["apiVersion"] = json!(group_version);
        object["kind"] = json!(kind);
        let mut body = encode::body(&object);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = decode(&body, expected());
        body.truncate(cut.index(body.len()));
        let _ = decode(&body, expected());
    }
}
