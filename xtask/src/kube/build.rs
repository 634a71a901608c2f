//! Building with Go.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// One Go module under `xtask/kube/` and the programs that come of it. Several, because their dependencies disagree.
pub(super) struct Module {
    name: &'static str,
    /// Program and package.
    programs: &'static [(&'static str, &'static str)],
    /// Whether the programs carry Kubernetes' version stamp.
    stamped: bool,
}

pub(super) const MODULES: [Module; 6] = [
    Module {
        name: "servers",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        stamped: true,
    },
    Module { name: "etcd", programs: &[("etcd", "go.etcd.io/etcd/server/v3")], stamped: false },
    Module { name: "kwok", programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")], stamped: false },
    Module { name: "kubectl-1.29", programs: &[("kubectl-1.29", "k8s.io/kubernetes/cmd/kubectl")], stamped: true },
    Module { name: "kubectl-1.33", programs: &[("kubectl-1.33", "k8s.io/kubernetes/cmd/kubectl")], stamped: true },
    Module { name: "helm", programs: &[("helm", "helm.sh/helm/v3/cmd/helm")], stamped: false },
];

/// One setting for all: with another one the Go cache would hold everything twice. Static programs run in any
/// container.
const CGO_ENABLED: &str = "0";

impl Module {
    pub(super) fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("kube").join(self.name)
    }

    /// The flags of `go build`, `-o` and packages excepted.
    pub(super) fn flags(&self) -> anyhow::Result<Vec<String>> {
        let mut linker = "-s -w".to_owned();
        if self.stamped {
            let path = self.dir().join("go.mod");
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let version = required_version(&text, "k8s.io/kubernetes")
                .with_context(|| format!("{} requires no k8s.io/kubernetes vX.Y.Z", path.display()))?;
            // Without the stamp the API server says v0.0.0-master, and clients that look at the version refuse.
            let stamp = "-X k8s.io/component-base/version";
            let (git, major, minor) = (version.text, version.major, version.minor);
            linker = format!("{linker} {stamp}.gitVersion={git} {stamp}.gitMajor={major} {stamp}.gitMinor={minor}");
        }
        Ok(vec!["-trimpath".to_owned(), format!("-ldflags={linker}")])
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version<'a> {
    text: &'a str,
    major: &'a str,
    minor: &'a str,
}

/// The version at which a `go.mod` requires a module; what it replaces counts for nothing.
pub(super) fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<Version<'a>> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        let text = words.next().filter(|word| *word == module).and_then(|_| words.next())?;
        let mut parts = text.strip_prefix('v')?.splitn(3, '.');
        let (major, minor, _) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Version { text, major, minor })
    })
}

/// The Go tool chain.
pub(super) struct Go {
    program: PathBuf,
}

impl Go {
    /// The first in `PATH`.
    pub(super) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&path).map(|dir| dir.join("go")).find(|file| file.is_file())?;
        Some(Self { program })
    }

    /// As `go1.26.8`: the version that builds the modules, which may be a later one than is installed.
    pub(super) fn version(&self) -> anyhow::Result<String> {
        let mut command = self.command(&MODULES[0]);
        let output = command.args(["env", "GOVERSION"]).output().context("running `go env GOVERSION`")?;
        if !output.status.success() {
            bail!("`go env GOVERSION` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn command(&self, module: &Module) -> Command {
        let mut command = Command::new(&self.program);
        // A workspace file or flags of the user's would change what is built.
        command.current_dir(module.dir()).env("CGO_ENABLED", CGO_ENABLED).env("GOWORK", "off").env("GOFLAGS", "");
        command
    }
}

/// Builds into the cache directory what `missing` names, once nobody else builds there.
pub(super) fn build(go: &Go, cache: &Path, missing: impl Fn() -> Vec<&'static str>) -> anyhow::Result<()> {
    std::fs::create_dir_all(cache).with_context(|| format!("making {}", cache.display()))?;
    // Beside it and not inside, where only programs are.
    let mut lock = cache.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let file = File::create(&lock).with_context(|| format!("opening {}", lock.display()))?;
    if file.try_lock().is_err() {
        eprintln!("another run builds in {}; waiting for it", cache.display());
        file.lock().with_context(|| format!("locking {}", lock.display()))?;
    }
    // Asked again under the lock: the other run may have built them.
    let missing = missing();
    let temporary = cache.join("building");
    for module in MODULES {
        let wanted: Vec<_> = module.programs.iter().filter(|(name, _)| missing.contains(name)).collect();
        if wanted.is_empty() {
            continue;
        }
        // What an interrupted build left.
        let _ = std::fs::remove_dir_all(&temporary);
        std::fs::create_dir_all(&temporary).with_context(|| format!("making {}", temporary.display()))?;
        for (name, package) in wanted {
            let built = temporary.join(name);
            go_build(go, &module, name, package, &built)?;
            let place = cache.join(name);
            std::fs::rename(&built, &place).with_context(|| format!("moving {name} to {}", place.display()))?;
        }
    }
    let _ = std::fs::remove_dir_all(&temporary);
    Ok(())
}

fn go_build(go: &Go, module: &Module, name: &str, package: &str, output: &Path) -> anyhow::Result<()> {
    let mut child = go
        .command(module)
        // `-v` names each package when it is compiled: the progress.
        .args(["build", "-v"])
        .args(module.flags()?)
        .arg("-o")
        .arg(output)
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running `go build {package}`"))?;
    let stderr = child.stderr.take().context("`go build` has no standard error")?;
    let (lines, said) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr.take(MOST_OUTPUT)).lines().map_while(Result::ok) {
            // The receiver is gone only when the task fails for another reason.
            let _ = lines.send(line);
        }
    });
    let output = follow(name, &said);
    let status = child.wait().with_context(|| format!("waiting for `go build {package}`"))?;
    let _ = reader.join();
    if !status.success() {
        bail!("`go build {package}` in {} ended with {status}:\n{}", module.dir().display(), output.join("\n"));
    }
    Ok(())
}

/// Of `go build`'s output: far more than all package names together.
const MOST_OUTPUT: u64 = 64 << 20;

/// Shows the progress until the output ends; returns the last lines, which say what went wrong.
fn follow(name: &str, said: &mpsc::Receiver<String>) -> Vec<String> {
    /// Between two plain lines: a build takes minutes at first, and a log should show that it lives.
    const SPEAK_EVERY: Duration = Duration::from_secs(30);
    const LAST_LINES: usize = 30;
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { spinner(name) } else { ProgressBar::hidden() };
    if !terminal {
        eprintln!("building {name} with Go (minutes the first time)");
    }
    let started = Instant::now();
    let mut spoken = started;
    let mut packages = 0_u32;
    let mut last = Vec::new();
    loop {
        match said.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                packages += 1;
                bar.set_message(format!("{packages} packages, {line}"));
                if last.len() == LAST_LINES {
                    last.remove(0);
                }
                last.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if !terminal && spoken.elapsed() >= SPEAK_EVERY {
            spoken = Instant::now();
            eprintln!("building {name}: {} s, {packages} packages compiled", started.elapsed().as_secs());
        }
    }
    bar.finish_and_clear();
    eprintln!("built {name} in {:.0} s", started.elapsed().as_secs_f64());
    last
}

fn spinner(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(format!("building {name}"));
    // The template is a constant; were it wrong, the default style would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
