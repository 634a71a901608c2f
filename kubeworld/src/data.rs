//! What a real API server says of itself, built in: schemas, discovery, columns, bootstrap roles, and the shape of
//! protobuf bodies.
//!
//! `cargo xtask kubeworld-data` recorded it all from the server whose version `data/README.md` names; nothing in
//! `data/` is written by hand. Why built in and not read at start: one program is a whole world, and what it says
//! cannot differ from what was tested.
//!
//! Documents of OpenAPI are large as values (the core group's is some 30 MB), and most programs ask for few of them: so
//! they stay compressed, each on its own, and one is unpacked when somebody wants it. Whoever unpacks it twice pays
//! twice; caching is the caller's choice.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde_json::Value;

/// The document of `/openapi/v3/PATH`, such as `api/v1` or `apis/apps/v1`, as the real server sent it.
pub(crate) fn openapi(path: &str) -> Option<Vec<u8>> {
    OPENAPI.get(path).map(|entry| unpack(entry.packed))
}

/// Every path that [`openapi`] knows, in order, with the hash that the real server's index gives it.
pub(crate) fn openapi_paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPENAPI.iter().map(|(path, entry)| (*path, entry.hash))
}

/// What the real server answers to aggregated discovery, restricted to what is served: `.api` and `.apis`, each an
/// `APIGroupDiscoveryList`, and `.storageVersionHashes` by group-version and resource, which only the lists of old
/// have.
pub(crate) fn discovery() -> &'static Value {
    &DISCOVERY
}

/// The `columnDefinitions` of a resource's Table; none for what the real server cannot list.
pub(crate) fn columns(group: &str, version: &str, resource: &str) -> Option<Vec<Value>> {
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    COLUMNS.get(group_version)?.get(resource)?.as_array().cloned()
}

/// What the real server makes for itself at its first start: its roles and bindings, priority classes, flow schemas and
/// priority levels, each with `apiVersion` and `kind` but without what a server adds to every object, and without
/// status. Roles that sum up others have the rules that come of it.
pub(crate) fn bootstrap() -> Vec<Value> {
    let objects = parse(&unpack(include_bytes!("../data/bootstrap.json.gz")));
    serde_json::from_value(objects).expect("the objects of the beginning are a list")
}

/// The shape of protobuf bodies, in the form that the recorder documents: see `xtask/src/kubeworld/messages.rs`.
pub(crate) fn messages() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let text = unpack(include_bytes!("../data/messages.txt.gz"));
        String::from_utf8(text).expect("the shape of messages is text")
    });
    &TEXT
}

/// A packed document.
struct Entry {
    hash: &'static str,
    packed: &'static [u8],
}

static OPENAPI: LazyLock<BTreeMap<&str, Entry>> =
    LazyLock::new(|| read_archive(include_bytes!("../data/openapi.archive")));

static DISCOVERY: LazyLock<Value> = LazyLock::new(|| parse(include_bytes!("../data/discovery.json")));

static COLUMNS: LazyLock<Value> = LazyLock::new(|| parse(include_bytes!("../data/columns.json")));

/// Reads an archive: a line `PATH HASH LENGTH` for each document, an empty line, then the documents in that order, each
/// a gzip member of its own.
fn read_archive(bytes: &'static [u8]) -> BTreeMap<&'static str, Entry> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("the archive has an index");
    let (index, mut rest) = (&bytes[..end], &bytes[end + 2..]);
    let index = std::str::from_utf8(index).expect("the archive's index is text");
    let mut entries = BTreeMap::new();
    for line in index.lines() {
        let mut words = line.split(' ');
        let (Some(path), Some(hash), Some(length)) = (words.next(), words.next(), words.next()) else {
            panic!("the archive's index has a line of three words for each document: {line:?}");
        };
        let length = length.parse().expect("the archive's index has lengths");
        let (packed, others) = rest.split_at(length);
        rest = others;
        entries.insert(path, Entry { hash, packed });
    }
    entries
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("built-in data unpacks");
    bytes
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("built-in data is JSON")
}

#[cfg(test)]
mod tests;
