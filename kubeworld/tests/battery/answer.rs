//! Answers as they are compared: whole, but what differs from run to run is replaced by names.
//!
//! | What | Becomes | So that the comparison still sees |
//! |---|---|---|
//! | the namespace of the case | `{ns}` | where it stands |
//! | uid | `<uid 1>`, by first appearance in the case | which are the same |
//! | resourceVersion of an object | `<rv 1>`, by size within the case | which are the same, and which is newer |
//! | resourceVersion of a list or bookmark | `<list rv>` | that it is there (others write meanwhile) |
//! | times near now | `<time>`, `<microtime>` | the format |
//! | the end of a generated name | `<suffix 1>` | which are the same |
//! | allocated cluster IPs and node ports | `<cluster ip 1>`, `<node port 1>` | which are the same |
//! | continue tokens, service account tokens | `<continue>`, `<token>` | that they are there |
//! | ages in tables | `<age>` | that it is one |
//! | bookmarks that do not end a list | nothing | (they come when they come) |
//! | `managedFields` | sorted without their times | whether they were sorted with them |
//!
//! What a case itself writes stays as it is.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use regex::{Captures, Regex};
use serde_json::{Map, Value};

use crate::case::{Case, Step};
use crate::http::Response;
use crate::print::print;

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    status: u16,
    /// Those that are compared, as lines.
    headers: Vec<String>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Json(Value),
    /// A watch: one value for each line.
    Events(Vec<Value>),
    Text(String),
}

/// Headers that clients act on.
const COMPARED: [&str; 5] = ["warning", "retry-after", "location", "allow", "www-authenticate"];

impl Raw {
    pub(crate) fn new(response: &Response, step: &Step) -> Self {
        let mut headers: Vec<String> = COMPARED
            .into_iter()
            .flat_map(|name| response.header(name).map(move |value| format!("{name}: {value}")))
            .collect();
        if step.any_order {
            headers.sort();
        }
        headers.extend(
            response
                .header("content-type")
                .filter(|kind| *kind != "application/json")
                .map(|kind| format!("content-type: {kind}")),
        );
        let text = String::from_utf8_lossy(&response.body).into_owned();
        let lines = || text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        let watch = ["watch=1", "watch=true"].iter().any(|word| step.request.contains(word)) && response.status == 200;
        let body = if watch && let Ok(mut events) = lines() {
            events.retain(|event| event["type"] != "BOOKMARK" || event.to_string().contains("initial-events-end"));
            Body::Events(events)
        } else {
            serde_json::from_str(&text).map_or(Body::Text(text), Body::Json)
        };
        let body = match (&step.only, body) {
            (Some(pointer), Body::Json(value)) => Body::Json(value.pointer(pointer).cloned().unwrap_or(Value::Null)),
            (_, body) => body,
        };
        let body = match body {
            Body::Json(mut value) => {
                if !step.keep.is_empty() {
                    keep(&mut value, &step.keep);
                }
                if step.any_order {
                    sort_causes(&mut value);
                    sort_lists(&mut value);
                }
                Body::Json(value)
            }
            body @ (Body::Events(_) | Body::Text(_)) => body,
        };
        Self { status: response.status, headers, body }
    }

    /// The body, or all events of a watch as one list.
    pub(crate) fn json(&self) -> Option<Value> {
        match &self.body {
            Body::Json(value) => Some(value.clone()),
            Body::Events(events) => Some(Value::Array(events.clone())),
            Body::Text(_) => None,
        }
    }
}

/// Sorts the lists that the real server makes by walking a map.
fn sort_lists(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let ("resources" | "resourceRules" | "nonResourceRules", Value::Array(items)) =
                    (key.as_str(), &mut *value)
                {
                    items.sort_by_key(Value::to_string);
                }
                sort_lists(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(sort_lists),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Sorts what is wrong, and takes it out of the message, where it must be the same.
fn sort_causes(status: &mut Value) {
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
    let Some(causes) = status.pointer_mut("/details/causes").and_then(Value::as_array_mut) else { return };
    let told = |cause: &Value| format!("{}: {}", text(cause, "field"), text(cause, "message"));
    let (mut all, conflicts) = (Vec::<String>::new(), causes.len());
    for cause in causes.iter().map(told) {
        // The message has those once that are there twice.
        if !all.contains(&cause) {
            all.push(cause);
        }
    }
    let all = all.join(", ");
    causes.sort_by_key(|cause| ["field", "message", "reason"].map(|key| text(cause, key)));
    let message = text(status, "message");
    let message = message.replace(&format!("[{all}]"), "[<the causes>]");
    // Conflicts are told by manager.
    let message = match message.split_once(&format!("{conflicts} conflicts: ")) {
        Some((start, _)) => format!("{start}<the conflicts>"),
        None => message,
    };
    status["message"] = message.into();
}

/// Lists may hold what other cases made; what is kept is what this one looks at.
fn keep(value: &mut Value, names: &[String]) {
    let wanted = |item: &Value| {
        let name = ["/name", "/metadata/name", "/object/metadata/name", "/resource"]
            .iter()
            .find_map(|pointer| item.pointer(pointer))
            .or(Some(item))
            .and_then(Value::as_str);
        name.is_some_and(|name| names.iter().any(|one| one == name))
    };
    let list = match value {
        Value::Array(items) => Some(items),
        Value::Object(map) => ["items", "groups", "resources", "rows", "paths"]
            .iter()
            .find(|key| map.contains_key(**key))
            .and_then(|key| map.get_mut(*key)?.as_array_mut()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    if let Some(items) = list {
        items.retain(wanted);
    }
}

/// The answers of a case as texts.
pub(crate) fn normalise(case: &Case, namespace: &str, answers: Vec<Raw>) -> Vec<String> {
    let mut names = Names::new(case, namespace);
    for answer in &answers {
        match &answer.body {
            Body::Json(value) => names.learn(value, Place::Top),
            Body::Events(events) => events.iter().for_each(|event| names.learn(event, Place::Within)),
            Body::Text(_) => {}
        }
    }
    names.rank();
    answers.into_iter().map(|answer| names.text(answer)).collect()
}

/// Where a value stands: the resourceVersion of a list says nothing about objects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The body of an answer.
    Top,
    /// Inside one, or an event of a watch.
    Within,
    /// The metadata of a list or of a bookmark.
    ListMetadata,
}

impl Place {
    fn of(self, key: &str, parent: &Map<String, Value>) -> Self {
        let list = self == Self::Top && (parent.contains_key("items") || parent.contains_key("rows"));
        let bookmark = self == Self::ListMetadata || parent.get("type").is_some_and(|kind| kind == "BOOKMARK");
        if (list && key == "metadata") || (bookmark && (key == "object" || key == "metadata")) {
            Self::ListMetadata
        } else {
            Self::Within
        }
    }
}

/// What is replaced by what.
struct Names {
    /// All that the case itself says: such values stay.
    written: String,
    texts: Vec<(String, String)>,
    uids: BTreeMap<String, usize>,
    suffixes: usize,
    versions: BTreeMap<u64, usize>,
    addresses: BTreeMap<String, usize>,
    ports: BTreeMap<u64, usize>,
}

static UID: LazyLock<Regex> = LazyLock::new(|| pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"));
static CURRENT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(Too large resource version: \d+, current: )\d+"));
static TOO_OLD: LazyLock<Regex> = LazyLock::new(|| pattern(r"(too old resource version: \d+ )\(\d+\)"));
static IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(ResourceVersion in object meta: |ResourceVersion in record \(|"resourceVersion":"|resourceVersion: ")(\d+)"#,
    )
});
/// An object that a message quotes, as Go quotes it.
static QUOTED: LazyLock<Regex> = LazyLock::new(|| pattern(r#""\{\\"(?:[^"\\]|\\.)*\}""#));
static PORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(\d+:)(3[0-2]\d{3})/"));
static AGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d+[smh]$"));
/// The network of Services that the providers are given.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b10\.96\.\d+\.\d+\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern written here")
}

impl Names {
    fn new(case: &Case, namespace: &str) -> Self {
        let written = case.steps.iter().flat_map(|step| {
            let body = step.body.as_ref().map(Value::to_string).unwrap_or_default();
            let headers: String = step.headers.values().cloned().collect();
            [step.request.clone(), body, headers]
        });
        Self {
            written: written.collect(),
            texts: vec![(namespace.to_owned(), "{ns}".to_owned())],
            uids: BTreeMap::new(),
            suffixes: 0,
            versions: BTreeMap::new(),
            addresses: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    /// Finds resourceVersions and generated names; the rest is named when it is printed.
    fn learn(&mut self, value: &Value, place: Place) {
        match value {
            Value::Object(map) => {
                if let Some(version) = object_version(map, place) {
                    self.versions.insert(version, 0);
                }
                if let (Some(Value::String(start)), Some(Value::String(name))) =
                    (map.get("generateName"), map.get("name"))
                    && name.len() == start.len() + 5
                    && name.starts_with(start.as_str())
                    && !self.texts.iter().any(|(from, _)| from == name)
                {
                    self.suffixes += 1;
                    // Before the namespace, which may be part of the name.
                    self.texts.insert(0, (name.clone(), format!("{start}<suffix {}>", self.suffixes)));
                }
                for (key, value) in map {
                    self.learn(value, place.of(key, map));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item, Place::Within)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rank(&mut self) {
        for (rank, number) in self.versions.values_mut().zip(1..) {
            *rank = number;
        }
    }

    fn text(&mut self, answer: Raw) -> String {
        let mut out = format!("{}\n", answer.status);
        for header in &answer.headers {
            out += &format!("{}\n", self.string(header));
        }
        match answer.body {
            Body::Json(value) => out += &print(&self.value(value, Place::Top)),
            Body::Events(events) => {
                let events = events.into_iter().map(|event| self.value(event, Place::Within)).collect();
                out += &print(&Value::Array(events));
            }
            Body::Text(text) => out += &self.string(&text),
        }
        out
    }

    fn value(&mut self, value: Value, place: Place) -> Value {
        match value {
            Value::Object(map) => self.object(map, place),
            Value::Array(items) => items.into_iter().map(|item| self.value(item, Place::Within)).collect(),
            Value::String(text) => Value::String(self.string(&text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    fn object(&mut self, map: Map<String, Value>, place: Place) -> Value {
        let version = object_version(&map, place);
        let places: Vec<Place> = map.keys().map(|key| place.of(key, &map)).collect();
        let named = map.into_iter().zip(places).map(|((key, value), place_within)| {
            let named = match (key.as_str(), &value) {
                ("resourceVersion", Value::String(text)) => match version.and_then(|one| self.versions.get(&one)) {
                    Some(rank) => Value::String(format!("<rv {rank}>")),
                    None if place == Place::ListMetadata && text != "0" && !text.is_empty() => "<list rv>".into(),
                    None => value,
                },
                ("continue", Value::String(text)) if !text.is_empty() => "<continue>".into(),
                ("token", Value::String(text)) if text.starts_with("eyJ") => "<token>".into(),
                ("nodePort" | "healthCheckNodePort", Value::Number(port)) => {
                    port.as_u64().map_or(value.clone(), |port| self.port(port))
                }
                ("managedFields", Value::Array(entries)) => self.value(ordered(entries), Place::Within),
                ("cells", Value::Array(_)) => {
                    let Value::Array(cells) = value else { return (key, Value::Null) };
                    let age = |cell: Value| {
                        let age = cell.as_str().is_some_and(|text| AGE.is_match(text));
                        if age { "<age>".into() } else { self.value(cell, Place::Within) }
                    };
                    cells.into_iter().map(age).collect()
                }
                _ => self.value(value, place_within),
            };
            (self.string(&key), named)
        });
        Value::Object(named.collect())
    }

    fn string(&mut self, text: &str) -> String {
        // The order of keys in there is that of Go's fields.
        let sorted = |found: &Captures<'_>| {
            let inner = serde_json::from_str::<String>(&found[0]).ok();
            let inner = inner.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            inner.map_or(found[0].to_owned(), |value| format!("<quoted {value}>"))
        };
        let mut text = QUOTED.replace_all(text, sorted).into_owned();
        for (from, to) in &self.texts {
            if text.contains(from.as_str()) {
                text = text.replace(from, to);
            }
        }
        text = UID.replace_all(&text, |found: &Captures<'_>| self.uid(&found[0])).into_owned();
        text = TIME.replace_all(&text, |found: &Captures<'_>| self.time(&found[0])).into_owned();
        text = ADDRESS.replace_all(&text, |found: &Captures<'_>| self.address(&found[0])).into_owned();
        text = CURRENT.replace_all(&text, "$1<list rv>").into_owned();
        text = TOO_OLD.replace_all(&text, "$1(<list rv>)").into_owned();
        let version = |found: &Captures<'_>| match found[2].parse().ok().and_then(|one: u64| self.versions.get(&one)) {
            Some(rank) => format!("{}<rv {rank}>", &found[1]),
            None => found[0].to_owned(),
        };
        text = IN_TEXT.replace_all(&text, version).into_owned();
        let port = |found: &Captures<'_>| format!("{}{}/", &found[1], self.port(found[2].parse().unwrap_or_default()));
        PORT.replace_all(&text, port).into_owned()
    }

    fn port(&mut self, port: u64) -> Value {
        if self.written.contains(&port.to_string()) {
            return port.into();
        }
        let next = self.ports.len() + 1;
        format!("<node port {}>", self.ports.entry(port).or_insert(next)).into()
    }

    fn uid(&mut self, uid: &str) -> String {
        if self.written.contains(uid) {
            return uid.to_owned();
        }
        let next = self.uids.len() + 1;
        format!("<uid {}>", self.uids.entry(uid.to_owned()).or_insert(next))
    }

    fn address(&mut self, address: &str) -> String {
        if self.written.contains(address) {
            return address.to_owned();
        }
        let next = self.addresses.len() + 1;
        format!("<cluster ip {}>", self.addresses.entry(address.to_owned()).or_insert(next))
    }

    fn time(&self, text: &str) -> String {
        let near = text.parse::<Timestamp>().is_ok_and(|time| {
            let apart = Timestamp::now().duration_since(time).abs();
            apart < SignedDuration::from_hours(48)
        });
        match text.split_once('.') {
            _ if !near || self.written.contains(text) => text.to_owned(),
            Some((_, fraction)) if fraction.len() == 7 => "<microtime>".to_owned(),
            Some((_, fraction)) => format!("<time with {} digits>", fraction.len() - 1),
            None => "<time>".to_owned(),
        }
    }
}

/// Entries of managedFields are sorted by time too, whose seconds may pass anywhere: so they are sorted without it here,
/// and a mark is added where the order with it is wrong.
fn ordered(entries: &[Value]) -> Value {
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rank = |entry: &Value, time: &str| {
        let [operation, manager, version, subresource] =
            ["operation", "manager", "apiVersion", "subresource"].map(|key| text(entry, key));
        [operation, time.to_owned(), manager, version, subresource]
    };
    let sorted = entries.is_sorted_by_key(|entry| rank(entry, &text(entry, "time")));
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| rank(entry, ""));
    if !sorted {
        entries.push("<out of order>".into());
    }
    Value::Array(entries)
}

/// The resourceVersion of an object's metadata.
fn object_version(map: &Map<String, Value>, place: Place) -> Option<u64> {
    if place == Place::ListMetadata {
        return None;
    }
    map.get("resourceVersion")?.as_str()?.parse().ok().filter(|version| *version > 0)
}

#[test]
fn what_differs_from_run_to_run_has_names() {
    let case: Case = serde_saphyr::from_str(
        "{name: x, steps: [{request: GET /a}, {request: GET /b, only: /items}, {request: GET /c?watch=1}]}",
    )
    .unwrap();
    let answer = |number: usize, body: Value| {
        let body = if number == 2 { body.to_string() + "\n" } else { body.to_string() };
        Raw::new(&Response { status: 200, headers: vec![], body: body.into_bytes() }, &case.steps[number])
    };
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let uid = "01234567-89ab-cdef-0123-456789abcdef";
    let object = |version: &str| {
        serde_json::json!({"metadata": {
            "generateName": "a-", "name": "a-bcdfg", "namespace": "bat-1", "uid": uid, "resourceVersion": version,
            "creationTimestamp": now, "annotations": {"old": "2001-01-01T00:00:00Z"},
        }})
    };
    let mut list = serde_json::json!({"kind": "List", "metadata": {"resourceVersion": "99"}});
    list["items"] = vec![object("7")].into();
    let event = serde_json::json!({"type": "ADDED", "object": object("9")});
    let texts = normalise(&case, "bat-1", vec![answer(0, list.clone()), answer(1, list), answer(2, event)]);
    let expected = "200\nitems:\n- metadata:\n    annotations: {old: \"2001-01-01T00:00:00Z\"}\n    creationTimestamp: <time>\n    \
                    generateName: a-\n    name: a-<suffix 1>\n    namespace: \"{ns}\"\n    resourceVersion: <rv 1>\n    \
                    uid: <uid 1>\nkind: List\nmetadata: {resourceVersion: <list rv>}\n";
    assert_eq!(texts[0], expected);
    assert!(texts[1].starts_with("200\n- metadata:"), "{}", texts[1]);
    assert!(texts[2].contains("resourceVersion: <rv 2>"), "{}", texts[2]);
}
