//! Takes snapshots in, and keeps the last good one.
//!
//! A snapshot is compiled aside; readers see the old tables until the new ones are swapped in whole, and never wait. What
//! is refused (older, damaged, contradicting itself) changes nothing, and says why. An accepted one is also written to
//! the node's directory, so that it serves after a restart with nobody else there:
//!
//! | file | what |
//! |---|---|
//! | `snapshot` | the current snapshot: `ISOSNAP1`, SHA-256 of the rest, the protobuf bytes |
//! | `snapshot.previous` | the one before it, for when the current one turns out damaged |
//! | `geo/DIGEST` | geo databases by their digests in hexadecimal |
//!
//! Files are written beside their place, synced, and renamed into it, so a crash leaves the old one or the new one. A
//! disk that is full or read-only does not stop a snapshot from being served: the error is part of what
//! [`Store::offer`] returns, and [`Store::save_again`] makes good for it once there is room.
//!
//! Absent on purpose: fetching (the caller hands bytes in), and deciding about health ([`Store::set_classes`] is told).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::snapshot::Snapshot;
use api::wire::{self, NodeReport, SnapshotHead};
use arc_swap::{ArcSwap, Guard};
use policies::id::Term;
use policies::plan;
use policies::steering::Class;
use prost::Message;

use crate::view::{Identity, Tables, TablesError, View};

const MAGIC: &[u8; 8] = b"ISOSNAP1";
const CURRENT: &str = "snapshot";
const PREVIOUS: &str = "snapshot.previous";
const GEO: &str = "geo";

/// Why a snapshot was not taken in. The node goes on with the one it has.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Made by a leader that has been followed by another.
    #[error("snapshot {number} is of term {term}; this node has obeyed term {seen}")]
    OlderTerm {
        /// Its number.
        number: u64,
        /// Its term.
        term: u64,
        /// The highest term seen.
        seen: u64,
    },
    /// Not newer than what is served.
    #[error("snapshot {number} is not newer than {current}, which this node serves: publish one with a higher number")]
    OlderNumber {
        /// Its number.
        number: u64,
        /// The number served.
        current: u64,
    },
    /// The bytes are not those that the head names.
    #[error("snapshot {number}: its bytes have the digest {found}, not {named}")]
    Digest {
        /// The number in the head.
        number: u64,
        /// The digest in the head, short.
        named: String,
        /// The digest of the bytes, short.
        found: String,
    },
    /// The bytes are no snapshot.
    #[error("snapshot {number} does not decode")]
    Decode {
        /// The number in the head.
        number: u64,
        /// What protobuf says.
        #[source]
        source: prost::DecodeError,
    },
    /// Head and content differ.
    #[error("snapshot {number} of term {term} says of itself that it is {inner} of term {inner_term}")]
    Head {
        /// The number in the head.
        number: u64,
        /// The term in the head.
        term: u64,
        /// The number in the content.
        inner: u64,
        /// The term in the content.
        inner_term: u64,
    },
    /// Databases are needed first.
    #[error("snapshot {number} needs {} geo databases that are not here yet", .missing.len())]
    MissingGeo {
        /// Its number.
        number: u64,
        /// Digests of what to fetch, see [`Store::put_geo`].
        missing: Vec<wire::Digest>,
    },
    /// The content contradicts itself, or a database cannot be read.
    #[error(transparent)]
    Tables(#[from] TablesError),
}

impl Refusal {
    /// The reason code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OlderTerm { .. } => "OlderTerm",
            Self::OlderNumber { .. } => "OlderNumber",
            Self::Digest { .. } => "Digest",
            Self::Decode { .. } => "Decode",
            Self::Head { .. } => "Head",
            Self::MissingGeo { .. } => "MissingGeo",
            Self::Tables(_) => "Tables",
        }
    }
}

/// Why something on disk was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{verb} {path}")]
    Io {
        /// What was tried: read, write, make, rename, lock.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("{path} is damaged: {what}; it is ignored, remove it or let the hub replace it")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// A snapshot on disk does not compile any more.
    #[error("{path} holds a snapshot that cannot be served")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<Refusal>,
    },
    /// A geo database with another digest than it was fetched by.
    #[error("a geo database has the digest {found}, not {named}")]
    GeoDigest {
        /// The digest asked for, short.
        named: String,
        /// The digest of the bytes, short.
        found: String,
    },
}

impl StoreError {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

/// What became of an offered snapshot that was not refused.
#[derive(Debug)]
#[must_use]
pub enum Accepted {
    /// It is served from now on.
    Serving {
        /// Why it is not on disk, if so: it will not survive a restart.
        unsaved: Option<StoreError>,
    },
    /// It is the one being served already.
    Unchanged,
}

/// The node's snapshot, in memory and on disk.
pub struct Store {
    directory: PathBuf,
    view: ArcSwap<View>,
    identity: Arc<Identity>,
    /// One offer, or one geo database, at a time. Held while a snapshot is compiled, which may take seconds.
    offering: Mutex<()>,
    /// Held for a moment while the view is replaced, so that a change of health never waits for a compilation. Taken
    /// after `offering`; readers take neither.
    change: Mutex<Change>,
    /// The snapshot that is served and could not be written. Taken after `offering`.
    unsaved: Mutex<Option<(SnapshotHead, Vec<u8>)>>,
}

struct Change {
    /// Highest leader term seen.
    term: u64,
    /// Why the last offered snapshot was refused; empty when it was not.
    refused: String,
    classes: BTreeMap<String, Class>,
}

impl Store {
    /// Opens the store in `directory`, which is made if need be, and loads the last good snapshot, or else the one
    /// before it.
    ///
    /// Never fails: a node with a broken disk serves what the hub sends. What could not be read is in the second value,
    /// for the log; it is empty when all is well, a fresh directory included. Before the first snapshot the view has no
    /// zones, and queries get SERVFAIL.
    pub fn open(directory: impl Into<PathBuf>, node: &str) -> (Self, Vec<StoreError>) {
        let (directory, identity) = (directory.into(), Arc::new(Identity::new(node)));
        let mut errors = Vec::new();
        let geo = directory.join(GEO);
        if let Err(error) = fs::create_dir_all(&geo).map_err(StoreError::io("make", &geo)) {
            errors.push(error);
        }
        let mut tables = Tables::default();
        for file in [CURRENT, PREVIOUS] {
            match load(&directory, file) {
                Ok(Some(loaded)) => {
                    tables = loaded;
                    break;
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        let change = Change { term: tables.term, refused: String::new(), classes: BTreeMap::new() };
        let view = View::new(Arc::new(tables), &change.classes, identity.clone());
        let view = ArcSwap::from_pointee(view);
        let (offering, unsaved) = (Mutex::new(()), Mutex::new(None));
        (Self { offering, directory, view, identity, change: Mutex::new(change), unsaved }, errors)
    }

    /// What to answer from now. Cheap enough for every query; readers that hold it long keep old tables in memory.
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// Offers a snapshot: the head that names it, and its bytes. Compiles in the caller's thread.
    ///
    /// # Errors
    /// A [`Refusal`]; what is served stays as it is. It is also in the next [`Store::report`].
    pub fn offer(&self, head: &SnapshotHead, bytes: &[u8]) -> Result<Accepted, Refusal> {
        let _offering = lock(&self.offering);
        let result = self.take_in(head, bytes);
        lock(&self.change).refused = result.as_ref().err().map(chain).unwrap_or_default();
        result
    }

    fn take_in(&self, head: &SnapshotHead, bytes: &[u8]) -> Result<Accepted, Refusal> {
        let served = {
            let tables = self.view.load().tables().clone();
            Served { term: lock(&self.change).term, number: tables.number, digest: tables.digest.clone() }
        };
        let Some(snapshot) = admit(&served, head, bytes)? else {
            lock(&self.change).term = head.term;
            return Ok(Accepted::Unchanged);
        };
        let tables = Arc::new(compile(&self.directory, &snapshot, head.digest.clone())?);
        {
            let mut change = lock(&self.change);
            // Obeyed from here on: what a refused snapshot claims of its term is not taken from it.
            change.term = head.term;
            self.view.store(Arc::new(View::new(tables, &change.classes, self.identity.clone())));
        }
        let unsaved = self.save(head, bytes).err();
        *lock(&self.unsaved) = unsaved.is_some().then(|| (head.clone(), bytes.to_vec()));
        Ok(Accepted::Serving { unsaved })
    }

    /// Tries again to write the snapshot that is served but not on disk; `false`: there is none.
    ///
    /// # Errors
    /// When it still cannot be written.
    pub fn save_again(&self) -> Result<bool, StoreError> {
        let _offering = lock(&self.offering);
        let Some((head, bytes)) = lock(&self.unsaved).clone() else { return Ok(false) };
        self.save(&head, &bytes)?;
        *lock(&self.unsaved) = None;
        Ok(true)
    }

    /// Sets the classes of clusters by name. Those left out are healthy.
    pub fn set_classes(&self, classes: BTreeMap<String, Class>) {
        let mut change = lock(&self.change);
        let tables = self.view.load().tables().clone();
        self.view.store(Arc::new(View::new(tables, &classes, self.identity.clone())));
        change.classes = classes;
    }

    /// Keeps a geo database, so that snapshots may name it.
    ///
    /// # Errors
    /// When the bytes are not those that `digest` names, or cannot be written.
    pub fn put_geo(&self, digest: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let found = wire::digest(bytes);
        if found != digest {
            return Err(StoreError::GeoDigest { named: wire::short(digest), found: wire::short(&found) });
        }
        let _offering = lock(&self.offering);
        write_whole(&geo_path(&self.directory, digest), &[bytes])
    }

    /// Which of a snapshot's geo databases are not here.
    pub fn missing_geo(&self, snapshot: &Snapshot) -> Vec<wire::Digest> {
        missing(&self.directory, &snapshot.geo)
    }

    /// What this node says of itself to the hub; where it listens, what it judges, and terms that it obeyed in other
    /// messages are for the caller to fill in.
    pub fn report(&self) -> NodeReport {
        let change = lock(&self.change);
        let view = self.view.load();
        NodeReport {
            snapshot: view.tables().number,
            digest: view.tables().digest.clone(),
            refused: change.refused.clone(),
            term: change.term,
            listening: Vec::new(),
            peering: Vec::new(),
            judged: Vec::new(),
            obeyed: change.term,
            ..NodeReport::default()
        }
    }

    fn save(&self, head: &SnapshotHead, bytes: &[u8]) -> Result<(), StoreError> {
        let (current, previous) = (self.directory.join(CURRENT), self.directory.join(PREVIOUS));
        // First, since a full disk takes nothing: then both stay as they are.
        let beside = write_beside(&current, &[MAGIC, &head.digest, bytes])?;
        // A damaged one is not worth the good one that it would replace.
        if let Ok(Some(_)) = read_whole(&current) {
            fs::rename(&current, &previous).map_err(StoreError::io("rename", &current))?;
        }
        put(&beside, &current)?;
        self.forget_geo()
    }

    /// Removes databases that neither the current snapshot nor the one before it names.
    fn forget_geo(&self) -> Result<(), StoreError> {
        let mut named = BTreeSet::new();
        for file in [CURRENT, PREVIOUS] {
            let path = self.directory.join(file);
            // A file that does not read names nothing that could be served.
            let Ok(Some((_, bytes))) = read_whole(&path) else {
                continue;
            };
            let snapshot = Snapshot::decode(&*bytes).unwrap_or_default();
            named.extend(snapshot.geo.iter().map(|digest| geo_path(&self.directory, digest)));
        }
        let geo = self.directory.join(GEO);
        let entries = fs::read_dir(&geo).map_err(StoreError::io("read", &geo))?;
        for entry in entries.flatten().map(|entry| entry.path()).filter(|path| !named.contains(path)) {
            fs::remove_file(&entry).map_err(StoreError::io("remove", &entry))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store in {}", self.directory.display())
    }
}

/// What the mutexes here guard is valid after every statement, so a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with all its causes, for a report that carries text only.
fn chain(error: &Refusal) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What a node serves, as far as the order of snapshots goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The highest term obeyed.
    pub term: u64,
    /// The snapshot's number; zero before the first.
    pub number: u64,
    /// Its digest.
    pub digest: wire::Digest,
}

/// Whether a snapshot is taken in, and what is in it; `None`: it is the one being served. Needs no directory, so that
/// the simulator asks the same.
///
/// # Errors
/// A [`Refusal`]: older, or other bytes than the head names, or none of a snapshot.
pub fn admit(served: &Served, head: &SnapshotHead, bytes: &[u8]) -> Result<Option<Snapshot>, Refusal> {
    let number = head.number;
    let order = |term, number| plan::Order { term: Term(term), number };
    let offer =
        plan::admit_snapshot(order(served.term, served.number), order(head.term, number), head.digest == served.digest);
    match offer {
        Ok(plan::Offer::Same) => return Ok(None),
        Ok(plan::Offer::Newer) => {}
        Err(plan::Refusal::StaleTerm { .. }) => {
            return Err(Refusal::OlderTerm { number, term: head.term, seen: served.term });
        }
        // Snapshots have no epoch.
        Err(plan::Refusal::StaleNumber { .. } | plan::Refusal::StaleEpoch { .. }) => {
            return Err(Refusal::OlderNumber { number, current: served.number });
        }
    }
    let found = wire::digest(bytes);
    if found != head.digest {
        return Err(Refusal::Digest { number, named: wire::short(&head.digest), found: wire::short(&found) });
    }
    let snapshot = Snapshot::decode(bytes).map_err(|source| Refusal::Decode { number, source })?;
    if (snapshot.term, snapshot.number) != (head.term, number) {
        let (inner, inner_term) = (snapshot.number, snapshot.term);
        return Err(Refusal::Head { number, term: head.term, inner, inner_term });
    }
    Ok(Some(snapshot))
}

fn compile(directory: &Path, snapshot: &Snapshot, digest: wire::Digest) -> Result<Tables, Refusal> {
    let missing = missing(directory, &snapshot.geo);
    if !missing.is_empty() {
        return Err(Refusal::MissingGeo { number: snapshot.number, missing });
    }
    let geo = snapshot.geo.iter().map(|digest| geo_path(directory, digest)).collect();
    Ok(Tables::compile(snapshot, digest, geo)?)
}

/// Loads a snapshot that was saved; `None` when there is none.
///
/// A geo database that is gone or damaged costs precision, not the answers: the built-in table takes its place.
fn load(directory: &Path, file: &str) -> Result<Option<Tables>, StoreError> {
    let path = directory.join(file);
    let Some((digest, bytes)) = read_whole(&path)? else {
        return Ok(None);
    };
    let snapshot = Snapshot::decode(&*bytes)
        .map_err(|error| StoreError::Damaged { path: path.clone(), what: error.to_string() })?;
    // What is on disk was admitted before, and `read_whole` has held it against its digest.
    let tables = match compile(directory, &snapshot, digest.clone()) {
        Err(Refusal::MissingGeo { .. } | Refusal::Tables(TablesError::Geo { .. })) if !snapshot.geo.is_empty() => {
            tracing::warn!(
                snapshot = snapshot.number,
                "a geo database is gone or damaged: steering by the built-in country table until the hub sends one"
            );
            remove_damaged(directory, &snapshot.geo);
            Tables::compile(&snapshot, digest, Vec::new()).map_err(Refusal::from)
        }
        other => other,
    };
    tables.map(Some).map_err(|source| StoreError::Unusable { path, source: Box::new(source) })
}

fn missing(directory: &Path, geo: &[wire::Digest]) -> Vec<wire::Digest> {
    geo.iter().filter(|digest| !geo_path(directory, digest).is_file()).cloned().collect()
}

/// Removes databases whose content is not what their name says: such a file would stand for the one that is missing, and
/// with it every snapshot that names it would be refused.
fn remove_damaged(directory: &Path, geo: &[wire::Digest]) {
    for digest in geo {
        let path = geo_path(directory, digest);
        if fs::read(&path).is_ok_and(|bytes| wire::digest(&bytes) != *digest) {
            match fs::remove_file(&path) {
                Ok(()) => tracing::warn!(file = %path.display(), "a damaged geo database, removed"),
                Err(error) => tracing::error!(file = %path.display(), %error, "a damaged geo database: remove it"),
            }
        }
    }
}

fn geo_path(directory: &Path, digest: &[u8]) -> PathBuf {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.join(GEO).join(hex)
}

/// Digest and content of a file that [`Store::save`] wrote; `None` when there is none.
fn read_whole(path: &Path) -> Result<Option<(wire::Digest, Vec<u8>)>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let damaged = |what: &str| StoreError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin with ISOSNAP1"))?;
    let (digest, content) = rest.split_at_checked(32).ok_or_else(|| damaged("it ends within its digest"))?;
    if wire::digest(content) != digest {
        return Err(damaged("its digest differs from its content"));
    }
    Ok(Some((digest.to_vec(), content.to_vec())))
}

/// Writes a file so that a reader sees all of it or nothing, whenever the machine stops.
fn write_whole(path: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
    put(&write_beside(path, parts)?, path)
}

/// Writes what is to become `path` into a file beside it, and returns that.
fn write_beside(path: &Path, parts: &[&[u8]]) -> Result<PathBuf, StoreError> {
    let beside = path.with_extension("new");
    let written = (|| {
        let mut file = File::create(&beside)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    })();
    if written.is_err() {
        // A full disk is not helped by half a file.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(StoreError::io("write", path))?;
    Ok(beside)
}

/// Renames a whole file into its place.
fn put(beside: &Path, path: &Path) -> Result<(), StoreError> {
    let renamed = fs::rename(beside, path);
    // The rename itself survives only once its directory is on disk.
    let renamed = renamed.and_then(|()| path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all()));
    renamed.map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests;
