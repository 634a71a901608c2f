//! `cargo xtask test`: the one command that passes all tests.
//!
//! Tests against real clusters have names that begin with `real_`. They are never left out in silence: without the
//! programs this fails, and with `--without-real-clusters` it lists what it left out. So it does with those that begin
//! with `real_network_` where it may make no network namespaces.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use world::assets::ASSETS_VARIABLE;

use crate::python::PYTHON_VARIABLE;
use crate::{kube, python};

/// Programs that tests run, and the Debian package of each.
const TOOLS: [(&str, &str); 6] = [
    // Asks the DNS server as users do.
    ("dig", "bind9-dnsutils"),
    // Asks the ingress as users do.
    ("curl", "curl"),
    // Make the network namespaces in which packets can vanish, and enter them.
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    // Says whether the faults in `sim/mutations` still apply.
    ("git", "git"),
    // Runs the official Python client, in an environment of its own.
    ("python3", "python3-venv"),
];

/// What the names of tests against real clusters begin with.
const REAL: &str = "real_";

/// What the names of those begin with that need network namespaces, and so the rights of root.
const NETWORK: &str = "real_network_";

/// What the names of those begin with that need one of [`kube::CLIENTS`], which may be missing.
const OF_CLIENTS: [(&str, &str); 3] =
    [("kubectl-1.29", "real_kubectl_1_29_"), ("kubectl-1.33", "real_kubectl_1_33_"), ("helm", "real_helm_")];

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the tests against real clusters, and list them.
    #[arg(long)]
    without_real_clusters: bool,
    /// Further arguments of `cargo test`; after a second `--`, of the tests.
    #[arg(last = true)]
    extra: Vec<String>,
}

/// Ends with the exit code of `cargo test`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    provide_tools()?;
    let (cargo_args, test_args) = split(&options.extra);
    let mut command = cargo();
    command.args(["test", "--workspace"]).args(cargo_args).arg("--");
    // The beginning of names, and why.
    let mut left_out: Vec<(&str, String)> = Vec::new();
    if options.without_real_clusters {
        left_out.push((REAL, "they need real clusters".to_owned()));
    } else {
        const WAY_OUT: &str =
            "the tests against real clusters cannot run; `cargo xtask test --without-real-clusters` leaves them out";
        let (assets, missing) = kube::provide_with_clients().context(WAY_OUT)?;
        eprintln!("{ASSETS_VARIABLE}={}", assets.dir().display());
        command.env(ASSETS_VARIABLE, assets.dir());
        let python = python::provide(&workspace(), &kube::cache_root("python")?).context(WAY_OUT)?;
        eprintln!("{PYTHON_VARIABLE}={}", python.display());
        command.env(PYTHON_VARIABLE, python);
        for (_, tests) in OF_CLIENTS.into_iter().filter(|(client, _)| missing.contains(client)) {
            left_out.push((tests, "there is no Go to build what they run".to_owned()));
        }
        if let Err(error) = world::network::check_rights() {
            left_out.push((NETWORK, format!("{error:#}")));
        }
    }
    let real = if left_out.is_empty() { vec![] } else { real_tests(cargo_args)? };
    for (beginning, _) in &left_out {
        command.args(["--skip", beginning]);
    }
    announce(&real, &left_out);
    let status = command.args(test_args).status().context("running `cargo test`")?;
    // Again at the end, where it is seen.
    announce(&real, &left_out);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn announce(real: &[String], left_out: &[(&str, String)]) {
    for (beginning, why) in left_out {
        let own = |name: &str| name.rsplit("::").next().is_some_and(|own| own.starts_with(beginning));
        let skipped: Vec<&String> = real.iter().filter(|name| own(name)).collect();
        if skipped.is_empty() {
            continue;
        }
        eprintln!("LEFT OUT ({}), since {why}:", skipped.len());
        for name in skipped {
            eprintln!("  {name}");
        }
    }
}

/// At the second `--`: what comes before is for cargo, what comes after for the tests.
fn split(extra: &[String]) -> (&[String], &[String]) {
    match extra.iter().position(|argument| argument == "--") {
        Some(at) => (&extra[..at], &extra[at + 1..]),
        None => (extra, &[]),
    }
}

/// The names of the tests that `--skip real_` leaves out.
fn real_tests(cargo_args: &[String]) -> anyhow::Result<Vec<String>> {
    let mut command = cargo();
    command.args(["test", "--workspace"]).args(cargo_args).args(["--", "--list", "--format", "terse"]);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("listing the tests")?;
    ensure!(output.status.success(), "listing the tests ended with {}", output.status);
    real_in(&String::from_utf8_lossy(&output.stdout))
}

/// Of a list as the test harness writes it. `--skip` looks for a part of the name, so a name with `real_` elsewhere
/// would be left out without being meant: that is an error.
fn real_in(list: &str) -> anyhow::Result<Vec<String>> {
    let names = list.lines().filter_map(|line| line.strip_suffix(": test")).filter(|name| name.contains(REAL));
    let mut real = Vec::new();
    for name in names {
        let own = name.rsplit("::").next().unwrap_or(name);
        ensure!(
            own.starts_with(REAL) && name.matches(REAL).count() == 1,
            "the test {name} has {REAL} in its name, but does not begin with it: rename it, since `--skip {REAL}` would \
             leave it out"
        );
        real.push(name.to_owned());
    }
    Ok(real)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Where the workspace is, wherever this is called from.
pub(crate) fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Installs missing tools, when allowed, saying so.
fn provide_tools() -> anyhow::Result<()> {
    let missing: Vec<(&str, &str)> = TOOLS.into_iter().filter(|(tool, _)| !is_there(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools = missing.iter().map(|(tool, _)| *tool).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let install = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !is_root() || !in_path("apt-get") {
        bail!("the tests need {tools}; install the Debian packages {0} (`{install}`)", packages.join(", "));
    }
    eprintln!("the tests need {tools}, so this installs: {install}");
    if apt(&["install", "--yes", "--no-install-recommends"], &packages)? {
        return Ok(());
    }
    eprintln!("that failed; once more after `apt-get update`");
    ensure!(apt(&["update"], &[])?, "`apt-get update` failed, so {tools} cannot be installed");
    ensure!(
        apt(&["install", "--yes", "--no-install-recommends"], &packages)?,
        "installing {} failed; the tests need {tools}",
        packages.join(", ")
    );
    Ok(())
}

fn apt(args: &[&str], packages: &[&str]) -> anyhow::Result<bool> {
    let mut command = Command::new("apt-get");
    // Its output goes to standard error: standard output is the tests'.
    let status = command
        .args(args)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::io::stderr())
        .status()
        .context("running apt-get")?;
    Ok(status.success())
}

fn is_there(tool: &str) -> bool {
    // Debian's Python comes without what makes environments; that is in a package of its own.
    let of_python = || Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    in_path(tool) && (tool != "python3" || of_python().is_ok_and(|output| output.status.success()))
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// By the owner of this process' own directory in /proc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_at_the_second_dashes() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (given, cargo, tests) in [
            ("", "", ""),
            ("-p world", "-p world", ""),
            ("-p world -- --nocapture", "-p world", "--nocapture"),
            ("-- a -- b", "", "a -- b"),
        ] {
            assert_eq!(split(&words(given)), (&*words(cargo), &*words(tests)), "{given}");
        }
    }

    #[test]
    fn each_client_has_its_tests() {
        assert_eq!(OF_CLIENTS.map(|(client, _)| client), kube::CLIENTS);
        assert!(OF_CLIENTS.iter().all(|(_, tests)| tests.starts_with(REAL)));
    }

    #[test]
    fn tests_of_clusters_are_known_by_their_name() {
        let list = "real_a: test\nmodule::tests::real_b: test\nother: test\nreal_bench: benchmark\n\n2 tests\n";
        assert_eq!(real_in(list).unwrap(), ["real_a", "module::tests::real_b"]);
        for name in ["surreal_thing", "real_module::tests::other", "a::un_real_b"] {
            let error = real_in(&format!("{name}: test\n")).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
