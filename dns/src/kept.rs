//! What a node holds of clusters, on disk. Writing waits for nobody and nobody for it: the newest is written, beside the
//! loop that judges, so a disk that hangs delays no verdict.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::health::Kept;

/// The file's name in the state directory.
const FILE: &str = "health";

/// The file, and the task that writes it.
pub(crate) struct KeptFile {
    path: PathBuf,
    writing: Option<JoinHandle<()>>,
}

impl KeptFile {
    /// Opens it in `directory`; what cannot be read counts as nothing, and the hub and the probes tell it anew.
    pub(crate) fn open(directory: &Path) -> (Self, Kept) {
        let path = directory.join(FILE);
        let kept = match fs::read(&path) {
            Ok(bytes) => Kept::decode(bytes.as_slice()).unwrap_or_else(|error| {
                tracing::error!(%error, file = %path.display(), "damaged; what was known of clusters is forgotten");
                Kept::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => {
                tracing::error!(%error, file = %path.display(), "cannot be read; what was known of clusters is forgotten");
                Kept::default()
            }
        };
        (Self { path, writing: None }, kept)
    }

    /// Writes what is sent from now on, the newest only, on the current tokio runtime.
    pub(crate) fn writer(&mut self) -> watch::Sender<Kept> {
        let (sender, mut newest) = watch::channel(Kept::default());
        let path = self.path.clone();
        self.writing = Some(tokio::spawn(async move {
            while newest.changed().await.is_ok() {
                let (path, bytes) = (path.clone(), newest.borrow_and_update().encode_to_vec());
                let written = tokio::task::spawn_blocking(move || write(&path, &bytes)).await;
                if let Ok(Err(error)) = written {
                    tracing::error!(%error, "cannot keep what is known of clusters; a restart would forget it");
                }
            }
        }));
        sender
    }

    /// Waits until what was sent last is written. The sender must be gone.
    pub(crate) async fn written(self) {
        if let Some(writing) = self.writing {
            // It ends when nobody can send any more; an aborted one has nothing to tell.
            let _ = writing.await;
        }
    }
}

/// Beside its place, then renamed into it: a crash leaves the old one or the new one.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    fs::write(&aside, bytes)?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_comes_back_and_damage_counts_as_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, kept) = KeptFile::open(directory.path());
        assert_eq!(kept, Kept::default());
        let sender = file.writer();
        for down in ["fra", "iad"] {
            sender.send_replace(Kept { down: vec![down.to_owned()], ..Kept::default() });
        }
        drop(sender);
        file.written().await;
        assert_eq!(KeptFile::open(directory.path()).1.down, ["iad"]);
        fs::write(directory.path().join(FILE), b"\xff\xff\xff").unwrap();
        assert_eq!(KeptFile::open(directory.path()).1, Kept::default());
    }
}
