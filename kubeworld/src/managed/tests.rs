use serde_json::json;

use super::*;
use crate::schema::built_in;

fn typed() -> Typed<'static> {
    Typed { schema: built_in(), ty: built_in().of_kind("", "v1", "ConfigMap").unwrap() }
}

fn by<'a>(manager: &'a str, second: i64) -> By<'a> {
    By { manager, version: "v1", subresource: "", now: Timestamp::from_second(1_000_000_000 + second).unwrap() }
}

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}, "data": data})
}

/// Who owns which keys, as `manager: key,key`.
fn owners(managed: &Managed) -> Vec<String> {
    let keys = |entry: &Entry| {
        let data = entry.fields.to_json()["f:data"].clone();
        let keys = data.as_object().into_iter().flatten().map(|(key, _)| key.trim_start_matches("f:").to_owned());
        keys.filter(|key| key != ".").collect::<Vec<_>>().join(",")
    };
    managed.entries.iter().map(|(manager, entry)| format!("{}: {}", manager.name, keys(entry))).collect()
}

fn applied(
    live: &Value,
    data: &Value,
    managed: &Managed,
    manager: &str,
    force: bool,
) -> Result<(Option<Value>, Managed), Refusal> {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    apply(typed(), live, &config, managed.clone(), &by(manager, 0), &Reset(FieldSet::default()), force)
}

#[test]
fn what_its_only_owner_leaves_out_goes_and_what_is_shared_stays() {
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let (live, managed) = applied(&empty, &json!({"x": "1", "y": "1"}), &Managed::default(), "a", false).unwrap();
    let (live, managed) = applied(&live.unwrap(), &json!({"y": "1", "z": "1"}), &managed, "b", false).unwrap();
    assert_eq!(owners(&managed), ["a: x,y", "b: y,z"]);
    let (live, managed) = applied(&live.unwrap(), &json!({}), &managed, "a", false).unwrap();
    assert_eq!(live.unwrap()["data"], json!({"y": "1", "z": "1"}));
    assert_eq!(owners(&managed), ["a: ", "b: y,z"]);
}

#[test]
fn a_change_of_what_others_own_is_refused_unless_it_is_forced() {
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let (live, managed) = applied(&empty, &json!({"x": "1", "y": "1"}), &Managed::default(), "a", false).unwrap();
    let live = live.unwrap();
    let Err(Refusal::Conflicts(conflicts)) = applied(&live, &json!({"x": "2"}), &managed, "b", false) else {
        panic!("no conflict");
    };
    assert_eq!(conflict_message(&conflicts), r#"Apply failed with 1 conflict: conflict with "a": .data.x"#);
    let (live, managed) = applied(&live, &json!({"x": "2"}), &managed, "b", true).unwrap();
    assert_eq!(live.unwrap()["data"], json!({"x": "2", "y": "1"}));
    assert_eq!(owners(&managed), ["a: y", "b: x"]);
}

#[test]
fn an_update_takes_what_it_changes() {
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let none = Reset(FieldSet::default());
    let first = map(&json!({"x": "1", "y": "1"}));
    let managed = updated(typed(), &empty, &first, &Managed::default(), &by("a", 0), &none, true);
    let second = map(&json!({"x": "2", "y": "1"}));
    let managed = updated(typed(), &first, &second, &managed, &by("b", 1), &none, false);
    assert_eq!(owners(&managed), ["a: y", "b: x"]);
    let text = managed.encode();
    assert_eq!(Managed::decode(&text).unwrap(), managed);
    assert_eq!(text[1]["time"], "2001-09-09T01:46:41Z");
}

#[test]
fn after_ten_updaters_the_oldest_are_one() {
    let none = Reset(FieldSet::default());
    let mut managed = Managed::default();
    let mut live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    for number in 0..12_i64 {
        let mut data = live["data"].as_object().cloned().unwrap_or_default();
        data.insert(format!("k{number:02}"), json!("v"));
        let new = map(&Value::Object(data));
        let name = format!("m{number:02}");
        managed = updated(typed(), &live, &new, &managed, &by(&name, number), &none, number == 0);
        live = new;
    }
    let names: Vec<String> = owners(&managed);
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "ancient-changes: k00,k01,k02");
}

#[test]
fn entries_that_are_none_are_none() {
    for entries in [
        json!([{"manager": "a"}]),
        json!([{"manager": "a", "operation": "Update", "apiVersion": "v1"}]),
        json!([{"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"x": 1}}]),
    ] {
        assert_eq!(Managed::decode(&entries), None, "{entries}");
    }
    assert_eq!(Managed::decode(&Value::Null), Some(Managed::default()));
}
