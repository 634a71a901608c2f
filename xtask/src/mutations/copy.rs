//! A copy of the workspace for faults to be put into: always at one place, and written only where it differs, so that
//! cargo builds again what a fault touches and no more.
//!
//! The copy shares the target directory of the workspace, with all the dependencies that are built there. Its own crates
//! must never be taken for the workspace's, and cargo tells crates of one directory apart by name and version: in the
//! copy they have another version ([`disguised`]).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// The version of all crates in the copy: one that no release has.
const VERSION: &str = "0.0.0-mutant";

/// The copy, held against a second run of the task.
pub(super) struct Copy {
    from: PathBuf,
    to: PathBuf,
    _lock: File,
}

/// Whether a patch applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    /// It does.
    Yes,
    /// It does not: what git says.
    No(String),
}

impl Copy {
    /// The copy of the workspace `from` below `directory`, as an earlier run left it.
    ///
    /// # Errors
    /// Another run has it, or the directory cannot be made.
    pub(super) fn open(from: PathBuf, directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let path = directory.join("lock");
        let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { from, to: directory.join("tree"), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!("another `cargo xtask mutations` works in {}", directory.display()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.to
    }

    /// Makes it equal to the workspace again, with everything there that git does not ignore.
    pub(super) fn refresh(&self) -> anyhow::Result<()> {
        refresh(&self.from, &listed(&self.from)?, &self.to)
    }

    /// Puts a fault into it.
    pub(super) fn apply(&self, patch: &Path) -> anyhow::Result<Applies> {
        apply(&self.to, patch, &[])
    }
}

/// Applies a patch to `directory`, which need not be a repository.
pub(super) fn apply(directory: &Path, patch: &Path, options: &[&str]) -> anyhow::Result<Applies> {
    let directory = directory.canonicalize().with_context(|| format!("finding {}", directory.display()))?;
    let mut git = Command::new("git");
    git.current_dir(&directory).arg("apply").args(options).arg(patch);
    // In a directory below a repository's root, git takes a patch that is relative to the directory to be about files
    // elsewhere, applies nothing, and says that all is well. So it must not look for a repository above.
    git.env_remove("GIT_DIR").env("GIT_CEILING_DIRECTORIES", directory.parent().unwrap_or(&directory));
    let output = git.stdin(Stdio::null()).output().context("running `git apply`")?;
    let why = || Applies::No(String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
    Ok(if output.status.success() { Applies::Yes } else { why() })
}

/// Files of a workspace, relative to it: those that git tracks, and new ones that it does not ignore.
fn listed(workspace: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(workspace).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.stderr(Stdio::inherit()).output().context("running `git ls-files`")?;
    ensure!(output.status.success(), "`git ls-files` failed in {}", workspace.display());
    let names = String::from_utf8(output.stdout).context("reading the names of files")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

/// Makes `to` hold `files` of `from`, and no others. What is equal already is not written. Symlinks, and files that were
/// deleted from the working tree, are left aside.
fn refresh(from: &Path, files: &BTreeSet<PathBuf>, to: &Path) -> anyhow::Result<()> {
    let mut held = BTreeSet::new();
    for file in files {
        let source = from.join(file);
        if !source.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        let bytes = disguised(file, &bytes)?;
        let target = to.join(file);
        if !fs::read(&target).is_ok_and(|old| *old == *bytes) {
            let parent = target.parent().unwrap_or(to);
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
            fs::write(&target, &bytes).with_context(|| format!("writing {}", target.display()))?;
        }
        held.insert(target);
    }
    remove_others(to, &held)
}

fn remove_others(directory: &Path, held: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let reading = || format!("reading {}", directory.display());
    for entry in fs::read_dir(directory).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let path = entry.path();
        if entry.file_type().with_context(reading)?.is_dir() {
            remove_others(&path, held)?;
        } else if !held.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// A file as it stands in the copy: the workspace's manifest and lock file give its crates [`VERSION`].
fn disguised<'a>(file: &Path, bytes: &'a [u8]) -> anyhow::Result<Cow<'a, [u8]>> {
    let text = || std::str::from_utf8(bytes).with_context(|| format!("reading {}", file.display()));
    match file.to_str() {
        Some("Cargo.toml") => Ok(Cow::Owned(disguised_manifest(text()?)?.into_bytes())),
        Some("Cargo.lock") => Ok(Cow::Owned(disguised_lock(text()?).into_bytes())),
        Some(_) | None => Ok(Cow::Borrowed(bytes)),
    }
}

/// All crates take their version from `[workspace.package]`.
fn disguised_manifest(text: &str) -> anyhow::Result<String> {
    let mut section = "";
    let mut found = false;
    let lines = text.lines().map(|line| {
        if line.starts_with('[') {
            section = line;
        }
        if section == "[workspace.package]" && line.starts_with("version = ") {
            found = true;
            return format!("version = \"{VERSION}\"\n");
        }
        format!("{line}\n")
    });
    let manifest = lines.collect();
    ensure!(found, "Cargo.toml has no version in [workspace.package]");
    Ok(manifest)
}

/// Packages of the workspace have no source.
fn disguised_lock(text: &str) -> String {
    let packages = text.split("\n\n").map(|package| {
        if !package.starts_with("[[package]]") || package.contains("\nsource = ") {
            return package.to_owned();
        }
        let lines = package.lines().map(|line| match line.starts_with("version = ") {
            true => format!("version = \"{VERSION}\""),
            false => line.to_owned(),
        });
        // The last package ends with the file.
        lines.collect::<Vec<_>>().join("\n") + if package.ends_with('\n') { "\n" } else { "" }
    });
    packages.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests;
