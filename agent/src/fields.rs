//! Fields as server-side apply knows them (`managedFields`, `fieldsV1`), found again in an object as rendered.
//!
//! `fieldsV1` is a tree whose keys are `f:NAME` (a field), `k:{…}` (the list element with these keys), `v:…` (an element
//! of a set) and `.` (the node itself). An empty node is a leaf: one manager owns it as a whole. Bytes from an API server:
//! whatever does not fit is skipped.
//!
//! Three questions are answered: which leaves of the render are whose ([`Ownership`]), how the render looks without some
//! of them ([`without`]), and what another manager must apply to own exactly those, with the values that stand
//! ([`handover`]): a field whose last owner lets go of it vanishes, and a Deployment without `replicas` has one.
//!
//! Deliberately absent: sets (`v:`). An element of a set is not a field that somebody sets to another value.

use std::collections::{BTreeMap, BTreeSet};

use policies::plan::fields::{Taken, covers};
use serde_json::{Map, Value, json};

use crate::names::MANAGER_PREFIX;

/// A step from a node to one below it.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// The list element with these keys, at this index of the render.
    Element {
        keys: Map<String, Value>,
        index: usize,
    },
}

/// Who owns which leaves of a render, by RFC 6901 pointer into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ownership {
    /// Leaves that are ours.
    ours: BTreeMap<String, Vec<Step>>,
    /// Leaves that others have and we do not.
    pub taken: Vec<Taken>,
}

impl Ownership {
    /// Of the object with this `metadata`, as far as it concerns `render`.
    pub fn of(metadata: &Value, render: &Value) -> Self {
        let mut all = Self::default();
        let entries = metadata.get("managedFields").and_then(Value::as_array).into_iter().flatten();
        let mut others = Vec::new();
        for entry in entries {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let Some(fields) = entry.get("fieldsV1") else { continue };
            let manager = text("manager");
            if text("operation") == "Apply" && text("subresource").is_empty() && manager.starts_with(MANAGER_PREFIX) {
                leaves(fields, render, String::new(), &mut Vec::new(), &mut all.ours);
            } else if manager != HANDOVER {
                let mut theirs = BTreeMap::new();
                leaves(fields, render, String::new(), &mut Vec::new(), &mut theirs);
                others.extend(theirs.into_keys().map(|pointer| Taken { pointer, manager: manager.to_owned() }));
            }
        }
        let meets = |a: &str, b: &str| covers(a, b) || covers(b, a);
        others.retain(|taken| !all.ours.keys().any(|mine| meets(mine, &taken.pointer)));
        others.sort();
        others.dedup_by(|a, b| a.pointer == b.pointer);
        all.taken = others;
        all
    }

    /// Every leaf of the render that somebody owns.
    pub fn leaves(&self) -> BTreeSet<String> {
        self.ours.keys().chain(self.taken.iter().map(|taken| &taken.pointer)).cloned().collect()
    }

    /// Those of `pointers` that are ours.
    pub fn ours<'a>(&self, pointers: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
        pointers.filter(|pointer| self.ours.contains_key(*pointer)).collect()
    }
}

/// The field manager that holds what was ours and is left to others, so that it keeps its value. Without our prefix: what
/// it owns is not ours.
pub const HANDOVER: &str = "isochrone-handover";

fn leaves(
    fields: &Value,
    render: &Value,
    pointer: String,
    steps: &mut Vec<Step>,
    found: &mut BTreeMap<String, Vec<Step>>,
) {
    for (key, below) in fields.as_object().into_iter().flatten() {
        let (step, name, value) = if let Some(name) = key.strip_prefix("f:") {
            let Some(value) = render.get(name) else { continue };
            (Step::Field(name.to_owned()), name.replace('~', "~0").replace('/', "~1"), value)
        } else if let Some(keys) = key.strip_prefix("k:") {
            let Ok(keys) = serde_json::from_str::<Map<String, Value>>(keys) else { continue };
            let matches = |element: &Value| keys.iter().all(|(key, value)| element.get(key) == Some(value));
            let Some(index) = render.as_array().and_then(|list| list.iter().position(matches)) else { continue };
            (Step::Element { keys, index }, index.to_string(), &render[index])
        } else {
            continue;
        };
        let pointer = format!("{pointer}/{name}");
        steps.push(step);
        let leaf = below.as_object().is_none_or(Map::is_empty);
        if !leaf {
            leaves(below, value, pointer, steps, found);
        } else if matches!(steps.last(), Some(Step::Field(_))) {
            found.insert(pointer, steps.clone());
        }
        steps.pop();
    }
}

/// The render without these fields.
pub fn without<'a>(render: &Value, pointers: impl IntoIterator<Item = &'a String>) -> Value {
    let mut less = render.clone();
    for pointer in pointers {
        let Some((above, name)) = pointer.rsplit_once('/') else { continue };
        let name = name.replace("~1", "/").replace("~0", "~");
        if let Some(parent) = less.pointer_mut(above).and_then(Value::as_object_mut) {
            parent.remove(&name);
        }
    }
    less
}

/// What [`HANDOVER`] must apply to own these leaves of ours with the values that stand in `live`; `None` if none has one.
pub fn handover(render: &Value, live: &Value, ownership: &Ownership, pointers: &[&String]) -> Option<Value> {
    let mut body = json!({});
    let mut any = false;
    for pointer in pointers {
        let Some(steps) = ownership.ours.get(*pointer) else { continue };
        if let Some(value) = standing(live, steps) {
            place(&mut body, steps, value);
            any = true;
        }
    }
    body["apiVersion"] = render["apiVersion"].clone();
    body["kind"] = render["kind"].clone();
    let metadata = body.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    for name in ["name", "namespace"] {
        if let Some(value) = live.pointer(&format!("/metadata/{name}")) {
            metadata[name] = value.clone();
        }
    }
    any.then_some(body)
}

fn standing(live: &Value, steps: &[Step]) -> Option<Value> {
    let mut at = live;
    for step in steps {
        at = match step {
            Step::Field(name) => at.get(name)?,
            Step::Element { keys, .. } => {
                let matches = |element: &&Value| keys.iter().all(|(key, value)| element.get(key) == Some(value));
                at.as_array()?.iter().find(matches)?
            }
        };
    }
    Some(at.clone())
}

/// Puts a value where the steps lead, making what is missing on the way; list elements carry their keys.
fn place(body: &mut Value, steps: &[Step], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        *body = value;
        return;
    };
    match step {
        Step::Field(name) => {
            if !body.is_object() {
                *body = json!({});
            }
            place(&mut body[name.as_str()], rest, value);
        }
        Step::Element { keys, .. } => {
            if !body.is_array() {
                *body = json!([]);
            }
            let Some(list) = body.as_array_mut() else { return };
            let matches = |element: &Value| keys.iter().all(|(key, value)| element.get(key) == Some(value));
            let index = list.iter().position(matches).unwrap_or_else(|| {
                list.push(Value::Object(keys.clone()));
                list.len() - 1
            });
            place(&mut list[index], rest, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a/b": "c"}},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [
            {"name": "log", "image": "log:1"}, {"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]},
        ]}}}})
    }

    fn metadata(ours: Value, theirs: Value) -> Value {
        json!({"managedFields": [
            {"manager": "isochrone:shop/web", "operation": "Apply", "fieldsV1": ours},
            {"manager": HANDOVER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "updater", "operation": "Update", "fieldsV1": theirs},
            {"manager": "broken", "operation": "Update", "fieldsV1": 7},
        ]})
    }

    fn container(name: &str) -> String {
        format!("k:{{\"name\":\"{name}\"}}")
    }

    #[test]
    fn leaves_are_found_through_lists_and_odd_names() {
        let ours = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a/b": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                container("web"): {".": {}, "f:image": {}, "f:name": {}},
                container("gone"): {"f:image": {}},
                "k:not json": {}, "v:1": {}, "i:0": {},
            }}}},
        });
        let theirs = json!({
            "f:spec": {"f:replicas": {}, "f:paused": {}, "f:template": {"f:spec": {"f:containers": {
                container("log"): {"f:image": {}},
            }}}},
            "f:status": {"f:replicas": {}},
        });
        let found = Ownership::of(&metadata(ours, theirs), &render());
        let mine: Vec<&String> = found.ours.keys().collect();
        let containers = "/spec/template/spec/containers";
        let expected = [
            "/metadata/labels/a~1b".to_owned(),
            "/spec/replicas".to_owned(),
            format!("{containers}/1/image"),
            format!("{containers}/1/name"),
        ];
        assert_eq!(mine, expected.iter().collect::<Vec<_>>());
        // What both have was not taken; what we do not want is nobody's business.
        let image = Taken { pointer: format!("{containers}/0/image"), manager: "updater".into() };
        assert_eq!(found.taken, [image]);
        let less = without(&render(), found.leaves().iter());
        assert_eq!(
            less["spec"]["template"]["spec"]["containers"],
            json!([{"name": "log"}, {"ports": [{"containerPort": 80}]}])
        );
        assert_eq!((&less["metadata"]["labels"], less["spec"].get("replicas")), (&json!({}), None));
    }

    #[test]
    fn a_handover_carries_what_stands_and_the_keys_of_its_list_elements() {
        let ours = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
            container("web"): {"f:image": {}},
        }}}}});
        let ownership = Ownership::of(&metadata(ours, json!({})), &render());
        let mut live = render();
        live["metadata"]["namespace"] = json!("shop");
        live["spec"]["replicas"] = json!(7);
        live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().insert(0, json!({"name": "side"}));
        let pointers = ["/spec/replicas", "/spec/template/spec/containers/1/image", "/spec/unknown"].map(str::to_owned);
        let body = handover(&render(), &live, &ownership, &pointers.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            body,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"replicas": 7, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
            })
        );
        assert_eq!(handover(&render(), &json!({}), &ownership, &[&pointers[0]]), None);
    }
}
