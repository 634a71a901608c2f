//! Sequences that nobody thought of: two managers, one object, chance.
//!
//! Each seed gives a case; both servers run it, and each answer must be the same. A seed that fails is printed as a case,
//! ready to be put among those that people wrote. Scales are left out: who owns the number of a scale may differ from the
//! real server where updates and patches of scales mix, so here they prove nothing; recorded cases hold what is known.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use crate::case::{Case, Step};
use crate::diff::diff;
use crate::run::Answers;

/// Steps of one sequence: enough for each manager to take, lose and give back fields.
pub(crate) const STEPS: usize = 25;

/// The sequence of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random(StdRng::seed_from_u64(seed));
    let kind = *[Kind::Widget, Kind::Widget, Kind::ConfigMap, Kind::Deployment, Kind::Service]
        .choose(&mut random.0)
        .unwrap_or(&Kind::Widget);
    let steps = (0..STEPS).map(|_| step(kind, &mut random)).collect();
    Case { area: "random".to_owned(), name: format!("seed {seed}"), steps }
}

/// The first difference, with all steps up to it as a case.
pub(crate) fn compare(case: &Case, expected: &Answers, got: &Answers) -> Result<(), String> {
    let (expected, got) = match (expected, got) {
        (Ok(expected), Ok(got)) => (expected, got),
        (expected, got) => {
            return Err(format!("{}: {:?}, {:?}", case.name, expected.as_ref().err(), got.as_ref().err()));
        }
    };
    // The real server warns of an update that it tries on what its cache still has, also when that is gone by then.
    let text = |answer: &Option<String>| -> String {
        let lines = answer.iter().flat_map(|answer| answer.lines()).filter(|line| !line.starts_with("warning: "));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let Some(at) = (0..case.steps.len()).find(|at| text(&expected[*at]) != text(&got[*at])) else { return Ok(()) };
    let mut steps = String::new();
    for step in &case.steps[..=at] {
        steps += &format!("  - request: {}\n", step.request);
        if let Some(kind) = &step.kind {
            steps += &format!("    type: {kind}\n");
        }
        if let Some(body) = &step.body {
            steps += &format!("    body: {body}\n");
        }
    }
    let what = diff(text(&expected[at]).trim_end(), text(&got[at]).trim_end());
    Err(format!("- name: {}\n  steps:\n{steps}differs at step {}:\n{what}", case.name, at + 1))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Widget,
    ConfigMap,
    Deployment,
    Service,
}

struct Random(StdRng);

impl Random {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    /// Some of these, in any order.
    fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        let mut chosen: Vec<T> = of.iter().filter(|_| self.0.random_ratio(1, 2)).cloned().collect();
        chosen.shuffle(&mut self.0);
        chosen
    }

    fn map(&mut self, keys: &[&str], values: &[&str]) -> Value {
        let keys = self.some(keys);
        keys.into_iter().map(|key| (key.to_owned(), Value::from(self.one(values)))).collect::<Map<_, _>>().into()
    }

    /// Puts a value under a key, or not.
    fn maybe(&mut self, percent: u32, into: &mut Value, key: &str, value: impl FnOnce(&mut Self) -> Value) {
        if self.chance(percent) {
            into[key] = value(self);
        }
    }
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Widget => "/apis/battery.example.com/v1/namespaces/{ns}/widgets",
            Self::ConfigMap => "/api/v1/namespaces/{ns}/configmaps",
            Self::Deployment => "/apis/apps/v1/namespaces/{ns}/deployments",
            Self::Service => "/api/v1/namespaces/{ns}/services",
        }
    }

    /// An object with a part of its fields; `whole` where a server asks for what cannot be left out.
    fn object(self, random: &mut Random, whole: bool) -> Value {
        let (version, kind) = match self {
            Self::Widget => ("battery.example.com/v1", "Widget"),
            Self::ConfigMap => ("v1", "ConfigMap"),
            Self::Deployment => ("apps/v1", "Deployment"),
            Self::Service => ("v1", "Service"),
        };
        let mut metadata = json!({"name": "a"});
        random.maybe(40, &mut metadata, "labels", |random| random.map(&["x", "y"], &["1", "2"]));
        random.maybe(30, &mut metadata, "annotations", |random| random.map(&["n", "m"], &["1", "2"]));
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
        match self {
            Self::Widget => object["spec"] = widget(random),
            Self::ConfigMap => {
                random.maybe(80, &mut object, "data", |random| random.map(&["k", "l", "m"], &["1", "2"]));
                random.maybe(20, &mut object, "binaryData", |random| random.map(&["b", "c"], &["AA==", "/w=="]));
            }
            Self::Deployment => object["spec"] = deployment(random, whole),
            Self::Service => object["spec"] = service(random, whole),
        }
        object
    }
}

fn widget(random: &mut Random) -> Value {
    let mut spec = json!({});
    random.maybe(30, &mut spec, "replicas", |random| random.one(&[1, 2, 3]).into());
    random.maybe(30, &mut spec, "size", |random| random.one(&["small", "large"]).into());
    random.maybe(30, &mut spec, "color", |random| random.one(&["red", "blue"]).into());
    random.maybe(50, &mut spec, "ports", |random| {
        let all = [json!({"port": 1}), json!({"port": 1, "protocol": "UDP"}), json!({"port": 2}), json!({"port": 3})];
        let mut ports = random.some(&all);
        for port in &mut ports {
            random.maybe(40, port, "name", |random| random.one(&["x", "y"]).into());
        }
        ports.into()
    });
    random.maybe(50, &mut spec, "tags", |random| random.some(&["a", "b", "c"]).into());
    random.maybe(30, &mut spec, "steps", |random| random.some(&["p", "q"]).into());
    random.maybe(40, &mut spec, "labels", |random| random.map(&["k", "l"], &["1", "2"]));
    random.maybe(30, &mut spec, "settings", |random| random.map(&["a", "b"], &["1", "2"]));
    random.maybe(30, &mut spec, "nested", |random| {
        let mut nested = json!({"must": random.one(&["x", "y"])});
        random.maybe(40, &mut nested, "may", |random| random.one(&["filled", "z"]).into());
        nested
    });
    random.maybe(30, &mut spec, "free", |random| {
        random.one(&["1", r#"{"k":1}"#, r#"{"k":{"n":1},"l":[1]}"#, "{}"]).parse().unwrap_or(Value::Null)
    });
    random.maybe(15, &mut spec, "maybe", |random| random.one(&["null", r#""x""#]).parse().unwrap_or(Value::Null));
    spec
}

fn deployment(random: &mut Random, whole: bool) -> Value {
    let mut spec = json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {}}});
    if whole || random.chance(70) {
        spec["selector"] = json!({"matchLabels": {"a": "b"}});
    }
    random.maybe(40, &mut spec, "replicas", |random| random.one(&[1, 2, 3]).into());
    random.maybe(20, &mut spec, "minReadySeconds", |random| random.one(&[0, 5]).into());
    let mut names = random.some(&["one", "two", "three"]);
    if whole && names.is_empty() {
        names.push("one");
    }
    let containers = names.into_iter().map(|name| {
        let mut container = json!({"name": name});
        if whole || random.chance(80) {
            container["image"] = random.one(&["i", "i:v1", "j"]).into();
        }
        random.maybe(40, &mut container, "env", |random| {
            let names = random.some(&["A", "B", "C"]);
            names.into_iter().map(|name| json!({"name": name, "value": random.one(&["1", "2"])})).collect()
        });
        random.maybe(30, &mut container, "ports", |random| {
            let all = [
                json!({"containerPort": 80}),
                json!({"containerPort": 80, "protocol": "UDP"}),
                json!({"containerPort": 81}),
            ];
            random.some(&all).into()
        });
        random.maybe(30, &mut container, "args", |random| random.some(&["-v", "-x"]).into());
        random.maybe(20, &mut container, "resources", |random| {
            random
                .one(&[r#"{"limits":{"cpu":"0.5"}}"#, r#"{"requests":{"memory":"1024Mi"}}"#, "{}"])
                .parse()
                .unwrap_or(Value::Null)
        });
        container
    });
    spec["template"]["spec"]["containers"] = containers.collect();
    let mut pod = spec["template"]["spec"].take();
    random.maybe(20, &mut pod, "tolerations", |random| {
        random.some(&[json!({"key": "x", "operator": "Exists"}), json!({"key": "y", "value": "z"})]).into()
    });
    random.maybe(20, &mut pod, "nodeSelector", |random| random.map(&["n", "m"], &["1"]));
    spec["template"]["spec"] = pod;
    spec
}

fn service(random: &mut Random, whole: bool) -> Value {
    // Allocated addresses would be chosen by chance.
    let mut spec = json!({"clusterIP": "None"});
    random.maybe(50, &mut spec, "selector", |random| random.map(&["a", "b"], &["1", "2"]));
    random.maybe(20, &mut spec, "sessionAffinity", |random| random.one(&["None", "ClientIP"]).into());
    if whole || random.chance(60) {
        let all = [
            json!({"name": "x", "port": 80}),
            json!({"name": "y", "port": 80, "protocol": "UDP"}),
            json!({"name": "z", "port": 81, "targetPort": "web"}),
        ];
        let mut ports = random.some(&all);
        if ports.is_empty() {
            ports.push(all[0].clone());
        }
        spec["ports"] = ports.into();
    }
    spec
}

fn step(kind: Kind, random: &mut Random) -> Step {
    let manager = random.one(&["a", "b"]);
    let (path, named) = (kind.path(), format!("{}/a", kind.path()));
    let apply = |subresource: &str, force: bool, body: Value| {
        let force = if force { "&force=true" } else { "" };
        Step::new(&format!("PATCH {named}{subresource}?fieldManager={manager}{force}"), Some("apply"), Some(body))
    };
    match random.0.random_range(0..100) {
        0..8 => Step::new(&format!("POST {path}?fieldManager={manager}"), None, Some(kind.object(random, true))),
        8..53 => {
            let force = random.chance(50);
            apply("", force, kind.object(random, false))
        }
        53..65 => Step::new(&format!("PUT {named}?fieldManager={manager}"), None, Some(kind.object(random, true))),
        65..80 => {
            let mut body = kind.object(random, false);
            if random.chance(30) {
                body["metadata"]["labels"] = Value::Null;
            }
            Step::new(&format!("PATCH {named}?fieldManager={manager}"), Some("merge"), Some(body))
        }
        80..86 => {
            let (kind_of_patch, body) = match kind {
                Kind::Widget => ("merge", json!({"spec": {"ports": null, "labels": {"k": null}}})),
                Kind::ConfigMap => ("strategic", json!({"data": {"k": null, "l": "3"}})),
                Kind::Deployment | Kind::Service => ("strategic", kind.object(random, false)),
            };
            Step::new(&format!("PATCH {named}?fieldManager={manager}"), Some(kind_of_patch), Some(body))
        }
        86..91 => {
            let mut body = kind.object(random, false);
            body["status"] = match kind {
                Kind::Widget => {
                    json!({"phase": random.one(&["x", "y"]), "conditions": [{"type": random.one(&["R", "S"]), "status": "True"}]})
                }
                Kind::Deployment => json!({"replicas": random.one(&[1, 2])}),
                Kind::ConfigMap | Kind::Service => return Step::new(&format!("GET {named}"), None, None),
            };
            let force = random.chance(50);
            apply("/status", force, body)
        }
        91..95 => Step::new(&format!("DELETE {named}"), None, None),
        _ => Step::new(&format!("GET {named}"), None, None),
    }
}
