//! The environment of the official Python client, for a test of kubeworld.
//!
//! It is made by `python3 -m venv` and pip from the versions that the requirements pin, and kept in the user's cache in
//! a directory named by a hash of those and of the interpreter. Nothing depends on its being there: it is made again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use sha2::{Digest as _, Sha256};

/// Names the environment variable through which tests are told where the interpreter is.
pub(crate) const PYTHON_VARIABLE: &str = "ISOCHRONE_PYTHON";

/// What is installed, in the workspace.
const REQUIREMENTS: &str = "kubeworld/tests/clients/python/requirements.txt";

/// The interpreter that has the client, which is installed if need be.
///
/// # Errors
/// When there is no Python that can make environments, or pip cannot install.
pub(crate) fn provide(workspace: &Path, cache: &Path) -> anyhow::Result<PathBuf> {
    let file = workspace.join(REQUIREMENTS);
    let requirements = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    // Its path as well: an environment links to the interpreter it was made by.
    let asked = "import sys; print(sys.version, sys.executable)";
    let output = Command::new("python3").args(["-c", asked]).output().context("running python3")?;
    ensure!(output.status.success(), "python3 does not run: {}", String::from_utf8_lossy(&output.stderr).trim());
    let mut hash = Sha256::new();
    hash.update(requirements.len().to_le_bytes());
    hash.update(&requirements);
    hash.update(&output.stdout);
    let key: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let place = cache.join(key);
    if has_client(&place) {
        return Ok(interpreter(&place));
    }
    eprintln!("installing the Python client of Kubernetes with pip, as {REQUIREMENTS} says, into {}", place.display());
    std::fs::create_dir_all(cache).with_context(|| format!("making {}", cache.display()))?;
    let new = place.with_extension(std::process::id().to_string());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&new))?;
    run(Command::new(interpreter(&new))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"])
        .arg(&file))?;
    // What another interpreter left, or one that is gone.
    let _ = std::fs::remove_dir_all(&place);
    // Only the scripts name the directory, and nothing runs them. Another run may have been first.
    let moved = std::fs::rename(&new, &place);
    if moved.is_err() {
        let _ = std::fs::remove_dir_all(&new);
    }
    ensure!(has_client(&place), "{} does not have the client: {moved:?}", place.display());
    Ok(interpreter(&place))
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin").join("python")
}

fn has_client(environment: &Path) -> bool {
    let mut command = Command::new(interpreter(environment));
    command.args(["-c", "import kubernetes"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// With its output on standard error: standard output is the tests'.
fn run(command: &mut Command) -> anyhow::Result<()> {
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
