//! Where objects lie: one table for each resource, one revision for all of them, and the last changes of each.
//!
//! An object is kept as the bytes that go over the wire, with what selectors and watches need beside them: lists are
//! put together from bytes, a watch sends the same bytes to everybody, and ten thousand objects take little more room
//! than their text. Whoever wants to change one parses it.
//!
//! Synchronous. [`crate::api`] has the one lock; only what watches read has another ([`History`]).

mod history;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

pub(crate) use self::history::{After, Audience, Change, History};

/// A stored object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) revision: u64,
    pub(crate) labels: Vec<(String, String)>,
    /// What field selectors may name, beside the name and the namespace.
    pub(crate) fields: Vec<(Cow<'static, str>, String)>,
    /// Fields of a custom object's metadata that an apply left with nothing in them, or null. Nobody sees them, but the real
    /// server has them on its disk, so a write that does not repeat them is one, even if it changes nothing else.
    pub(crate) emptied: Map<String, Value>,
    /// The text of the object after its first two fields, `kind` and `apiVersion`, with the closing brace. Those two
    /// depend on the version that somebody asks for, and items of lists do not have them.
    pub(crate) rest: Bytes,
}

impl Object {
    /// Its value, without kind and version. What was stored was a value, so it parses.
    pub(crate) fn value(&self) -> Value {
        let mut text = Vec::with_capacity(self.rest.len() + 1);
        text.push(b'{');
        text.extend_from_slice(&self.rest);
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    }

    /// Whether a word occurs in its text. Where it does not, nobody need parse it to look for the field.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        self.rest.windows(word.len()).any(|part| part == word.as_bytes())
    }

    pub(crate) fn key(&self) -> String {
        key(&self.namespace, &self.name)
    }
}

/// As etcd orders them: `NAMESPACE/NAME`, or the name.
fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// The objects of a resource.
#[derive(Debug)]
struct Table {
    objects: BTreeMap<String, Arc<Object>>,
    history: Arc<History>,
}

/// All tables.
#[derive(Debug)]
pub(crate) struct Store {
    revision: u64,
    tables: BTreeMap<String, Table>,
    /// What was before this revision is forgotten, in all tables.
    beginning: u64,
    /// The revision of the last change of any table.
    changed: watch::Sender<u64>,
}

/// What is kept beside an object's bytes.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) fields: Vec<(Cow<'static, str>, String)>,
    pub(crate) emptied: Map<String, Value>,
}

impl Index {
    pub(crate) fn of(fields: Vec<(Cow<'static, str>, String)>) -> Self {
        Self { fields, emptied: Map::new() }
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        // A real server has written some by the time anybody asks; and 0 means "any" in requests.
        Self { revision: 1, tables: BTreeMap::new(), beginning: 0, changed: watch::Sender::new(1) }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    fn table(&mut self, table: &str) -> &mut Table {
        if !self.tables.contains_key(table) {
            let history = Arc::new(History::new(self.beginning));
            self.tables.insert(table.to_owned(), Table { objects: BTreeMap::new(), history });
        }
        self.tables.get_mut(table).expect("the table was made above")
    }

    pub(crate) fn get(&self, table: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.tables.get(table)?.objects.get(&key(namespace, name)).cloned()
    }

    /// The objects of a namespace, or of all where it is empty, in order.
    pub(crate) fn list<'a>(&'a self, table: &str, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Object>> + 'a {
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let objects = self.tables.get(table).map(|table| &table.objects);
        objects.into_iter().flat_map(move |objects| {
            let prefix = prefix.clone();
            objects
                .range(prefix.clone()..)
                .take_while(move |(key, _)| key.starts_with(&prefix))
                .map(|(_, object)| object)
        })
    }

    /// How many objects there are.
    pub(crate) fn count(&self, table: &str) -> usize {
        self.tables.get(table).map_or(0, |table| table.objects.len())
    }

    /// Stores an object under a new revision, which is written into it.
    pub(crate) fn put(&mut self, table: &str, mut value: Value, index: Index, now: Timestamp) -> Arc<Object> {
        self.revision += 1;
        let object = Arc::new(object_of(&mut value, index, self.revision));
        let revision = self.revision;
        let table = self.table(table);
        let previous = table.objects.insert(object.key(), object.clone());
        table.history.record(Change { revision, time: now, object: object.clone(), previous, deleted: false });
        self.changed.send_replace(revision);
        object
    }

    /// Takes an object away. What watches see of it has the revision of the deletion.
    pub(crate) fn remove(&mut self, table: &str, namespace: &str, name: &str, now: Timestamp) -> Option<Arc<Object>> {
        let previous = self.tables.get_mut(table)?.objects.remove(&key(namespace, name))?;
        self.revision += 1;
        let index = Index::of(previous.fields.clone());
        let object = Arc::new(object_of(&mut previous.value(), index, self.revision));
        let revision = self.revision;
        let change = Change { revision, time: now, object: object.clone(), previous: Some(previous), deleted: true };
        self.table(table).history.record(change);
        self.changed.send_replace(revision);
        Some(object)
    }

    /// The changes of a table, and a receiver that learns of each.
    pub(crate) fn watch(&mut self, table: &str) -> (Arc<History>, watch::Receiver<u64>) {
        let history = self.table(table).history.clone();
        let changed = history.subscribe();
        (history, changed)
    }

    /// A receiver that learns of each change of any table.
    pub(crate) fn subscribe_to_all(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes of a table after a revision, in order; `None` where they are gone.
    pub(crate) fn changes_after(&self, table: &str, revision: u64) -> Option<Vec<Change>> {
        let Some(table) = self.tables.get(table) else {
            return (revision >= self.beginning).then(Vec::new);
        };
        match table.history.after(revision, None) {
            After::Changes(changes) => Some(changes),
            After::Gone | After::Told(..) => None,
        }
    }

    /// The objects of a table as they were at a revision of the past; `None` where that is forgotten.
    pub(crate) fn list_at(&self, table: &str, namespace: &str, revision: u64) -> Option<Vec<Arc<Object>>> {
        let mut objects: BTreeMap<String, Arc<Object>> =
            self.list(table, namespace).map(|object| (object.key(), object.clone())).collect();
        for change in self.changes_after(table, revision)?.into_iter().rev() {
            if !namespace.is_empty() && change.object.namespace != namespace {
                continue;
            }
            match change.previous {
                Some(previous) => drop(objects.insert(previous.key(), previous)),
                None => drop(objects.remove(&change.object.key())),
            }
        }
        Some(objects.into_values().collect())
    }

    /// Forgets all changes of the past, as etcd's compaction does.
    pub(crate) fn compact(&mut self) {
        self.beginning = self.revision;
        for table in self.tables.values() {
            table.history.compact(self.beginning);
        }
    }
}

fn object_of(value: &mut Value, index: Index, revision: u64) -> Object {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    let metadata = &mut value["metadata"];
    metadata["resourceVersion"] = json!(revision.to_string());
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let labels = metadata["labels"].as_object().into_iter().flatten();
    Object {
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        revision,
        labels: labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
        fields: index.fields,
        emptied: index.emptied,
        rest: text_of(value),
    }
}

/// Behind its first brace. Copied, since the buffer that text grows in is up to twice as long, and would stay so.
fn text_of(value: &Value) -> Bytes {
    let text = serde_json::to_vec(value).unwrap_or_default();
    Bytes::copy_from_slice(text.get(1..).unwrap_or_default())
}
