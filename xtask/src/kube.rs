//! `cargo xtask kube`: the five programs of the rig, and further clients for the tests of kubeworld.
//!
//! Each program is looked for on its own: in `$KUBEBUILDER_ASSETS` (where it must run and name a version that we can
//! work with), in the user's cache, and at last it is built there from the Go modules in `xtask/kube/`, whose `go.sum`
//! pins every byte. Only missing ones are built. Where programs come from both places, a directory of links brings them
//! together.
//!
//! A cache directory is named by a hash of what goes into the programs and by the version of Go. So a changed pin
//! builds anew beside the old, and a machine without Go still finds what was built for these pins by any Go.
//!
//! Deliberately absent: downloading binaries. What `go.sum` pins is checked by Go; a download would need a list of
//! checksums of our own, and a host that is up.

mod build;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sha2::{Digest as _, Sha256};
use world::Assets;
use world::assets::PROGRAMS;

use build::{Go, MODULES};

/// The oldest Kubernetes whose API the workspace's client types describe (k8s-openapi 0.29: 1.33 to 1.37).
const OLDEST_MINOR: u32 = 33;

/// Clients that no cluster needs, but tests of kubeworld. Nobody's ready assets have them, so they may be missing where
/// there is no Go: then those tests are left out aloud.
pub(crate) const CLIENTS: [&str; 3] = ["kubectl-1.29", "kubectl-1.33", "helm"];

/// Prints the directory.
pub(crate) fn run() -> anyhow::Result<()> {
    let (assets, missing) = provide_with_clients()?;
    if !missing.is_empty() {
        eprintln!("without {}, which only tests need: there is no `go` to build from", missing.join(", "));
    }
    writeln!(std::io::stdout(), "{}", assets.dir().display()).context("printing the directory")
}

/// Finds or builds the programs that clusters are made of.
///
/// # Errors
/// Without Go, names the programs that are missing and both ways to provide them.
pub(crate) fn provide() -> anyhow::Result<Assets> {
    Ok(provide_of(&[])?.0)
}

/// Finds or builds those and [`CLIENTS`], and says which of the clients are missing.
///
/// # Errors
/// As [`provide`].
pub(crate) fn provide_with_clients() -> anyhow::Result<(Assets, Vec<&'static str>)> {
    provide_of(&CLIENTS)
}

fn provide_of(clients: &[&'static str]) -> anyhow::Result<(Assets, Vec<&'static str>)> {
    let given = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let go = Go::find();
    provide_from(given.as_deref(), &cache_root("kube")?, go.as_ref(), clients)
}

fn provide_from(
    given: Option<&Path>,
    root: &Path,
    go: Option<&Go>,
    clients: &[&'static str],
) -> anyhow::Result<(Assets, Vec<&'static str>)> {
    let mut found: BTreeMap<&str, PathBuf> = BTreeMap::new();
    if let Some(dir) = given {
        for name in PROGRAMS {
            match check(dir, name) {
                Ok(path) => drop(found.insert(name, path)),
                Err(error) => eprintln!("KUBEBUILDER_ASSETS: {name} is not taken: {error:#}"),
            }
        }
    }
    let inputs = inputs()?;
    let cache = cache_dir(root, &inputs, go)?;
    // The pins here are what the clients are for, so they come from nowhere but the cache.
    let missing = |found: &BTreeMap<&str, PathBuf>, cache: &Path| -> Vec<&'static str> {
        let wanted = PROGRAMS.into_iter().chain(clients.iter().copied());
        wanted.filter(|name| !found.contains_key(name) && !cache.join(name).is_file()).collect()
    };
    let to_build = missing(&found, &cache);
    let mut without = Vec::new();
    if let Some(go) = go.filter(|_| !to_build.is_empty()) {
        build::build(go, &cache, || missing(&found, &cache))?;
    } else {
        let needed: Vec<&str> = to_build.iter().copied().filter(|name| PROGRAMS.contains(name)).collect();
        if !needed.is_empty() {
            bail!(
                "{} missing, and there is no `go` to build from. Either install Go (https://go.dev/dl/, the version in \
                 xtask/kube/*/go.mod or later) and run this again, or set KUBEBUILDER_ASSETS to a directory that holds \
                 {} (Kubernetes 1.{OLDEST_MINOR} or later)",
                match needed.as_slice() {
                    [one] => format!("{one} is"),
                    [..] => format!("{} are", needed.join(", ")),
                },
                PROGRAMS.join(", "),
            );
        }
        without = to_build;
    }
    let wanted = PROGRAMS.into_iter().chain(clients.iter().copied()).filter(|name| !without.contains(name));
    let programs: BTreeMap<&str, PathBuf> =
        wanted.map(|name| (name, found.remove(name).unwrap_or_else(|| cache.join(name)))).collect();
    Ok((bring_together(root, &programs)?, without))
}

/// Everything that decides what is built, but the version of Go: 16 hex digits, enough to tell pins apart.
fn inputs() -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for module in MODULES {
        for name in ["go.mod", "go.sum", "tools.go"] {
            let path = module.dir().join(name);
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            // With its length, so that bytes cannot move from one file to the next unnoticed.
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
        hash.update(module.flags()?.join("\n"));
        hash.update([0]);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Of one sort of things, in the user's cache.
pub(crate) fn cache_root(sort: &str) -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME names a directory, so there is no place for a cache")?;
    Ok(base.join("isochrone").join(sort))
}

/// The directory of this Go; without Go that of any, the newest by name.
fn cache_dir(root: &Path, inputs: &str, go: Option<&Go>) -> anyhow::Result<PathBuf> {
    if let Some(go) = go {
        return Ok(root.join(format!("{inputs}-{}", go.version()?)));
    }
    let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let prefix = format!("{inputs}-");
    let of_inputs = |path: &PathBuf| {
        path.is_dir() && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
    };
    // One that does not exist is as good as an empty one.
    Ok(entries.filter(of_inputs).max().unwrap_or_else(|| root.join(format!("{inputs}-nothing"))))
}

/// A program that runs and is of use, or why not.
fn check(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(dir.join(name)).with_context(|| format!("resolving {}", dir.display()))?;
    if !path.is_file() {
        bail!("{} has no such file", dir.display());
    }
    let args: &[&str] = if name == "kubectl" { &["version", "--client"] } else { &["--version"] };
    let output = Command::new(&path).args(args).output().with_context(|| format!("running {}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`{} {}` ended with {}", path.display(), args.join(" "), output.status);
    }
    check_version(name, &text)?;
    Ok(path)
}

/// Whether what a program says of its version is good enough: for Kubernetes' own at least 1.[`OLDEST_MINOR`], for the
/// others any version. A Kubernetes built without the version stamp says 0.0.0 and cannot be told from an old one.
fn check_version(name: &str, text: &str) -> anyhow::Result<()> {
    let Some((major, minor)) = version(text) else { bail!("it names no version, but says {:?}", text.trim()) };
    let kubernetes = matches!(name, "kube-apiserver" | "kube-controller-manager" | "kubectl");
    if kubernetes && (major, minor) < (1, OLDEST_MINOR) {
        bail!("it is Kubernetes {major}.{minor}, and 1.{OLDEST_MINOR} is the oldest that this project works with");
    }
    Ok(())
}

/// The first `X.Y.` of a text, with or without a `v` before it.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(_)) => Some((major, minor)),
            _ => None,
        }
    })
}

/// The directory that has them all: the one they are in, else one of links.
fn bring_together(root: &Path, programs: &BTreeMap<&str, PathBuf>) -> anyhow::Result<Assets> {
    let parents: std::collections::BTreeSet<&Path> = programs.values().filter_map(|path| path.parent()).collect();
    if let (1, Some(dir)) = (parents.len(), parents.first()) {
        return Assets::new(dir);
    }
    let mut hash = Sha256::new();
    for path in programs.values() {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let dir = root.join(format!("links-{name}"));
    if !dir.is_dir() {
        let new = root.join(format!("links-{name}.{}", std::process::id()));
        std::fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
        for (name, path) in programs {
            std::os::unix::fs::symlink(path, new.join(name)).with_context(|| format!("linking {}", path.display()))?;
        }
        // Another run may have been first; its directory has the same links.
        if std::fs::rename(&new, &dir).is_err() {
            let _ = std::fs::remove_dir_all(&new);
        }
    }
    Assets::new(&dir)
}

#[cfg(test)]
mod tests;
