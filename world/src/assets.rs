//! The programs that a real cluster is made of.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Names the environment variable through which `cargo xtask test` tells tests where the programs are.
pub const ASSETS_VARIABLE: &str = "ISOCHRONE_KUBE_ASSETS";

/// The file name of the program that people use; the only one that clusters from memory want.
pub const KUBECTL: &str = "kubectl";

/// The file names that a directory of programs holds.
pub const PROGRAMS: [&str; 5] = ["kube-apiserver", "kube-controller-manager", "etcd", "kwok", KUBECTL];

/// A directory with all of [`PROGRAMS`], each present when this was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assets {
    dir: PathBuf,
}

impl Assets {
    /// Takes a directory as `cargo xtask kube` prints it; a relative one is resolved now.
    ///
    /// # Errors
    /// Names every program that the directory lacks.
    pub fn new(dir: impl AsRef<Path>) -> anyhow::Result<Self> {
        let dir = dir.as_ref();
        let dir = std::path::absolute(dir).with_context(|| format!("resolving {}", dir.display()))?;
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| !dir.join(name).is_file()).collect();
        if !missing.is_empty() {
            bail!("{} lacks {}; `cargo xtask kube` prints a directory that has all", dir.display(), missing.join(", "));
        }
        Ok(Self { dir })
    }

    /// The directory itself, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of one of [`PROGRAMS`].
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The programs that `cargo xtask test` provided.
///
/// # Errors
/// Says which command to run when the variable is unset or its directory incomplete.
pub fn assets_from_env() -> anyhow::Result<Assets> {
    let dir = std::env::var_os(ASSETS_VARIABLE).with_context(|| {
        format!(
            "{ASSETS_VARIABLE} is unset, so there is no kube-apiserver to test against: run `cargo xtask test`, or \
             `{ASSETS_VARIABLE}=$(cargo xtask kube) cargo test`, or leave these tests out with `-- --skip real_`"
        )
    })?;
    Assets::new(Path::new(&dir)).with_context(|| format!("{ASSETS_VARIABLE} is of no use: run `cargo xtask test`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_directory_names_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        for name in PROGRAMS.into_iter().filter(|name| *name != "kwok") {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let error = Assets::new(dir.path()).unwrap_err().to_string();
        assert!(error.contains("lacks kwok;"), "{error}");

        std::fs::write(dir.path().join("kwok"), "").unwrap();
        assert_eq!(Assets::new(dir.path()).unwrap().program("etcd"), dir.path().join("etcd"));
    }
}
