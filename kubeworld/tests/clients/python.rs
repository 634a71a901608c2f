//! The official Python client: `python/client.py`, first with a real kube-apiserver and then with kubeworld. Each of
//! its checks must hold on both.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::apiserver;
use crate::terminal::Terminal;
use crate::world::World;

/// Where the interpreter is that has the client; `cargo xtask test` sets it.
const PYTHON_VARIABLE: &str = "ISOCHRONE_PYTHON";

#[test]
fn real_python_on_kubeworld() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let world = runtime.block_on(World::start_with_tls())?;
    run(&Terminal::of(None, &world)?)
}

#[test]
fn real_python_on_kube_apiserver() -> anyhow::Result<()> {
    let (terminal, _server) = apiserver::with_terminal(None)?;
    run(&terminal)
}

/// The script, which ends with an error when a check does not hold.
fn run(terminal: &Terminal) -> anyhow::Result<()> {
    let python = std::env::var_os(PYTHON_VARIABLE).map(PathBuf::from).with_context(|| {
        format!(
            "{PYTHON_VARIABLE} is unset, so there is no Python client: run `cargo xtask test`, or set it to an \
             interpreter in whose environment pip installed kubeworld/tests/clients/python/requirements.txt, or leave \
             these tests out with `-- --skip real_`"
        )
    })?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/client.py");
    // Without `-B` it would leave its own compiled form beside the script.
    let output = terminal.at_home(&python).arg("-B").arg(&script).output().context("running Python")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} ended with {}:\n{out}{err}", script.display(), output.status);
    eprint!("{out}");
    Ok(())
}
