//! An identity in a directory: owner-only files, replaced whole or not at all, and one process at a time.
//!
//! | file | holds |
//! |---|---|
//! | `key.pem` | the key that enrolment began with; made before the token is used, so that a retry shows the same key |
//! | `identity.pem` | key, certificate and authority together, so that a renewal replaces all three in one step |
//! | `lock` | nothing; whoever holds its lock owns the directory |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::identity::{Identity, IdentityError, Key};

const KEY: &str = "key.pem";
const IDENTITY: &str = "identity.pem";
const LOCK: &str = "lock";

/// What can go wrong with the directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process owns it.
    #[error("the state directory {} is used by another process: stop it, or give this one a directory of its own", .0.display())]
    InUse(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no usable identity: remove it and enrol again with a new token", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: IdentityError,
    },
}

/// The right to use a state directory, until dropped or until the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes it, making the directory if there is none.
    ///
    /// # Errors
    /// If another process has it, or the directory cannot be used.
    pub fn acquire(dir: &Path) -> Result<Self, StateError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { what, path, source }
        };
        fs::create_dir_all(dir).map_err(io("make", dir))?;
        let path = dir.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("open", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(dir.to_owned())),
            Err(errno) => Err(io("lock", &path)(errno.into())),
        }
    }
}

impl Key {
    /// The directory's key; made and kept if there is none.
    ///
    /// # Errors
    /// If the file cannot be read or written, or holds no key.
    pub fn load_or_create(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(KEY);
        let content = |source| StateError::Content { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(pem) => Self::from_pem(&pem).map_err(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate().map_err(content)?;
                replace(dir, KEY, &key.to_pem())?;
                Ok(key)
            }
            Err(source) => Err(StateError::Io { what: "read", path, source }),
        }
    }
}

impl Identity {
    /// Keeps it in the directory, in place of any before.
    ///
    /// # Errors
    /// If the file cannot be written; the one before is then untouched.
    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        let parts = [&self.key_pem, &self.ca_pem, &self.certificate_pem];
        replace(dir, IDENTITY, &parts.map(|part| format!("{}\n", part.trim_end())).concat())
    }

    /// The one kept in the directory; `None` before the first.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn load(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join(IDENTITY);
        match fs::read_to_string(&path) {
            Ok(text) => split(&text).map(Some).map_err(|source| StateError::Content { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Io { what: "read", path, source }),
        }
    }
}

/// Key, authority, certificate chain, in the order in which they were written.
fn split(text: &str) -> Result<Identity, IdentityError> {
    const END: &str = "-----END ";
    let mut sections = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        section.push_str(line);
        section.push('\n');
        if line.starts_with(END) {
            sections.push(std::mem::take(&mut section));
        }
    }
    let mut sections = sections.into_iter();
    let mut next = |what| sections.next().ok_or(IdentityError::Pem { what });
    let (key, ca, leaf) = (next("private key")?, next("authority certificate")?, next("certificate")?);
    Identity::new(key, leaf + &sections.collect::<String>(), ca)
}

/// Writes beside, flushes, renames: a reader sees the old file or the new one, also after a power cut.
fn replace(dir: &Path, name: &str, text: &str) -> Result<(), StateError> {
    let path = dir.join(name);
    let beside = dir.join(format!("{name}.new"));
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { what, path, source }
    };
    fs::create_dir_all(dir).map_err(io("make", dir))?;
    // A left-over of a crash may have other permissions: made anew, so that the mode counts.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove", &beside)(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside).map_err(io("create", &beside))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &beside))?;
    fs::rename(&beside, &path).map_err(io("replace", &path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("flush", dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;
    use crate::identity::{Authority, CLIENT_LIFETIME, Role, Subject};

    fn identity() -> Identity {
        let now = SystemTime::now();
        let authority = Authority::generate(now).expect("authority");
        let key = Key::generate().expect("key");
        let subject = Subject::new(Role::Agent, "eu-1", "u").expect("subject");
        let pem = authority.sign(&key.request().expect("request"), &subject, now, CLIENT_LIFETIME).expect("signed");
        Identity::new(key.to_pem(), pem, authority.certificate_pem().to_owned()).expect("fits")
    }

    #[test]
    fn an_identity_returns_and_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("directory");
        assert_eq!(Identity::load(dir.path()).expect("empty"), None);
        for _ in 0..2 {
            let identity = identity();
            identity.save(dir.path()).expect("saved");
            assert_eq!(Identity::load(dir.path()).expect("kept"), Some(identity));
        }
        let mode = fs::metadata(dir.path().join(IDENTITY)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join("identity.pem.new").exists());
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let dir = tempfile::tempdir().expect("directory");
        let whole = identity();
        whole.save(dir.path()).expect("saved");
        let text = fs::read_to_string(dir.path().join(IDENTITY)).expect("there");
        for damaged in ["", "nonsense", &text[..text.len() / 2], &text[..text.len() - 40]] {
            fs::write(dir.path().join(IDENTITY), damaged).expect("written");
            let error = Identity::load(dir.path()).expect_err("damaged");
            assert!(error.to_string().contains("enrol again"), "{error}");
        }
    }

    #[test]
    fn the_enrolment_key_is_made_once() {
        let dir = tempfile::tempdir().expect("directory");
        let first = Key::load_or_create(dir.path()).expect("made");
        assert_eq!(Key::load_or_create(dir.path()).expect("kept").to_pem(), first.to_pem());
    }

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().expect("directory");
        let lock = StateLock::acquire(dir.path()).expect("free");
        let error = StateLock::acquire(dir.path()).expect_err("taken");
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
        drop(lock);
        StateLock::acquire(dir.path()).expect("free again");
    }
}
