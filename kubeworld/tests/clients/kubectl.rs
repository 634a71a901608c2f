//! Real kubectl and helm: sessions of `kubectl/*.txt` and `helm/*.txt`, first with a real kube-apiserver, which they
//! were recorded from, and then with kubeworld. Both must show the same to the letter.
//!
//! - `KUBECTL_RECORD=1 cargo test -p kubeworld --test clients real_kubectl_on_kube_apiserver` writes them anew; what
//!   matches by a `...` stays as it is.
//! - `KUBECTL_ONLY=text` runs only the sessions whose file name contains the text.
//!
//! A session that says `# also: 1.29 1.33` in its first line is run by those kubectls as well. Where they show
//! something else than the newest, on the real server too, that stands in a file of the same name in a directory named
//! by the version: the commands in question and what is shown. It is recorded likewise, by `real_kubectl_1_29_…`.
//!
//! Sessions in a directory `controlled` want controllers. Those cannot be compared with a real server, which has none
//! here, and are recorded from kubeworld.
//!
//! What differs from run to run has names: ages, times, uids, revisions, tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::apiserver;
use crate::terminal::{Terminal, plain};
use crate::transcript::{self, Step};
use crate::world::World;

/// What kubeworld shows otherwise, and why: session, command, reason.
const DIFFERENT: [(&str, &str, &str); 5] = [
    ("apply", "kubectl diff -f - <<E", "a strategic merge patch of a wrong type is refused in another decoder's words"),
    ("discovery", "kubectl api-versions", STORAGE_MIGRATION),
    ("discovery", "kubectl api-resources", STORAGE_MIGRATION),
    ("discovery", "kubectl api-resources --namespaced=false -o name", STORAGE_MIGRATION),
    ("get", "kubectl get flowschemas", "no controller says of them that their priority levels are there"),
];

const STORAGE_MIGRATION: &str = "there is no other storage version to migrate from";

#[test]
fn real_kubectl_on_kubeworld() -> anyhow::Result<()> {
    on_kubeworld("kubectl", None)
}

/// What controllers do about it, and what a kubelet would say: without a real one beside it.
#[test]
fn real_kubectl_on_kubeworld_with_controllers() -> anyhow::Result<()> {
    with_controllers("kubectl/controlled", None)
}

#[test]
fn real_kubectl_on_kube_apiserver() -> anyhow::Result<()> {
    on_kube_apiserver("kubectl", None)
}

#[test]
fn real_kubectl_1_29_on_kubeworld() -> anyhow::Result<()> {
    on_kubeworld("kubectl", Some("1.29"))?;
    with_controllers("kubectl/controlled", Some("1.29"))
}

#[test]
fn real_kubectl_1_29_on_kube_apiserver() -> anyhow::Result<()> {
    on_kube_apiserver("kubectl", Some("1.29"))
}

#[test]
fn real_kubectl_1_33_on_kubeworld() -> anyhow::Result<()> {
    on_kubeworld("kubectl", Some("1.33"))?;
    with_controllers("kubectl/controlled", Some("1.33"))
}

#[test]
fn real_kubectl_1_33_on_kube_apiserver() -> anyhow::Result<()> {
    on_kube_apiserver("kubectl", Some("1.33"))
}

#[test]
fn real_helm_on_kubeworld() -> anyhow::Result<()> {
    on_kubeworld("helm", None)
}

/// With `--wait`, which wants somebody who makes it come true.
#[test]
fn real_helm_on_kubeworld_with_controllers() -> anyhow::Result<()> {
    with_controllers("helm/controlled", None)
}

#[test]
fn real_helm_on_kube_apiserver() -> anyhow::Result<()> {
    on_kube_apiserver("helm", None)
}

fn on_kubeworld(dir: &str, version: Option<&str>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    each(dir, version, |file| {
        let world = runtime.block_on(World::start_with_tls())?;
        check(&Terminal::of(version, &world)?, file, version, &DIFFERENT)
    })
}

fn with_controllers(dir: &str, version: Option<&str>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    each(dir, version, |file| {
        let world = runtime.block_on(World::start_with_controllers())?;
        check_or_record(&Terminal::of(version, &world)?, file, version)
    })
}

fn on_kube_apiserver(dir: &str, version: Option<&str>) -> anyhow::Result<()> {
    each(dir, version, |file| {
        let (terminal, _server) = apiserver::with_terminal(version)?;
        check_or_record(&terminal, file, version)
    })
}

/// Each session of a directory that is for this version, in a world of its own.
fn each(dir: &str, version: Option<&str>, run: impl Fn(&Path) -> anyhow::Result<Vec<String>>) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    let files = sessions(dir, version)?;
    ensure!(!files.is_empty() || is_chosen(), "no session of {dir} is for {version:?}");
    for file in files {
        failures.extend(run(&file)?);
    }
    ensure!(failures.is_empty(), "{}\n\n{} commands failed", failures.join("\n\n"), failures.len());
    Ok(())
}

fn check_or_record(terminal: &Terminal, file: &Path, version: Option<&str>) -> anyhow::Result<Vec<String>> {
    if std::env::var_os("KUBECTL_RECORD").is_none() {
        return check(terminal, file, version, &[]);
    }
    record(terminal, file, version)?;
    Ok(vec![])
}

/// Runs a session and returns what was shown otherwise than expected; what is allowed to differ must.
fn check(
    terminal: &Terminal,
    file: &Path,
    version: Option<&str>,
    allowed: &[(&str, &str, &str)],
) -> anyhow::Result<Vec<String>> {
    let steps = expected(file, version)?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut allowed: Vec<_> = allowed.iter().filter(|(session, ..)| *session == name).collect();
    let started = Instant::now();
    let shown = run(terminal, &steps, false).with_context(|| format!("session {name}"))?;
    let mut failures = Vec::new();
    for (step, shown) in steps.iter().zip(shown) {
        if transcript::matches(&step.shown, &shown) {
            continue;
        }
        if let Some(listed) = allowed.iter().position(|(_, line, _)| *line == step.line) {
            allowed.swap_remove(listed);
        } else {
            failures.push(format!("{name}: {}\n--- expected\n{}\n--- shown\n{shown}", step.line, step.shown));
        }
    }
    failures.extend(allowed.iter().map(|(_, line, _)| format!("{name}: {line}\nis listed as different, but equal")));
    let (by, took) = (version.unwrap_or("the newest"), started.elapsed());
    eprintln!("{name} by {by}: {} commands, {} failures, {took:.1?}", steps.len(), failures.len());
    Ok(failures)
}

/// A session as this version shows it.
fn expected(file: &Path, version: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let mut steps = transcript::read(file)?;
    let Some(version) = version else { return Ok(steps) };
    let other = beside(file, version);
    if other.is_file() {
        transcript::replace_shown(&mut steps, transcript::read(&other)?)
            .with_context(|| format!("{} does not fit", other.display()))?;
    }
    Ok(steps)
}

/// Where what an older version shows otherwise stands.
fn beside(file: &Path, version: &str) -> PathBuf {
    let dir = file.parent().unwrap_or(Path::new("")).join(version);
    dir.join(file.file_name().unwrap_or_default())
}

fn record(terminal: &Terminal, file: &Path, version: Option<&str>) -> anyhow::Result<()> {
    let mut steps = expected(file, version)?;
    let shown = run(terminal, &steps, true)?;
    for (step, shown) in steps.iter_mut().zip(shown) {
        if !transcript::matches(&step.shown, &shown) {
            step.shown = shown;
        }
    }
    let Some(version) = version else {
        return std::fs::write(file, transcript::write(&steps)).with_context(|| format!("writing {}", file.display()));
    };
    let newest = transcript::read(file)?;
    let different = steps.iter().zip(&newest).filter(|(step, newest)| step.shown != newest.shown);
    let different: BTreeSet<_> = different.map(|(_, newest)| (&newest.line, &newest.input)).collect();
    // Where one of several equal commands shows something else, all of them stand there, so that it is clear which.
    let others = steps.into_iter().filter(|step| different.contains(&(&step.line, &step.input)));
    let others: Vec<Step> = others.map(|step| Step { before: String::new(), ..step }).collect();
    let file = beside(file, version);
    if others.is_empty() {
        return if file.exists() { Ok(std::fs::remove_file(&file)?) } else { Ok(()) };
    }
    std::fs::create_dir_all(file.parent().context("no directory")?)?;
    std::fs::write(&file, transcript::write(&others)).with_context(|| format!("writing {}", file.display()))
}

/// What each step shows.
fn run(terminal: &Terminal, steps: &[Step], recording: bool) -> anyhow::Result<Vec<String>> {
    let mut shown = Vec::new();
    let mut beside = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        let words = step.words()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if step.beside {
            let running = terminal.begin(&words)?;
            // What follows is what it must see happen, so it has to have begun.
            running.until(|lines| !lines.is_empty());
            beside.insert(number, running);
            shown.push(String::new());
        } else {
            shown.push(plain(&terminal.run(&words, step.input.as_deref())?.shown()));
        }
    }
    for (number, running) in beside {
        let expected = steps[number].shown.clone();
        // What comes beyond the expected is an error too, but nobody knows when to stop waiting for it.
        if recording {
            std::thread::sleep(Duration::from_secs(2));
        } else {
            running.until(|lines| transcript::matches(&expected, plain(&lines.join("\n")).trim_end()));
        }
        shown[number] = plain(&running.stop().join("\n")).trim_end().to_owned();
    }
    Ok(shown)
}

/// The sessions of a directory beside this file; for an older version those that say so.
fn sessions(dir: &str, version: Option<&str>) -> anyhow::Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(dir);
    let only = std::env::var(CHOSEN).unwrap_or_default();
    let entries = std::fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let is_session = file.extension().is_some_and(|e| e == "txt") && file.to_string_lossy().contains(&only);
        if is_session && version.map_or(Ok(true), |version| transcript::is_also_for(&file, version))? {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Names the sessions that are wanted, when not all are.
const CHOSEN: &str = "KUBECTL_ONLY";

fn is_chosen() -> bool {
    std::env::var_os(CHOSEN).is_some()
}
