//! Real kubectl: sessions of `kubectl/*.txt`, first with a real kube-apiserver, which they were recorded from, and then
//! with kubeworld. Both must show the same to the letter.
//!
//! - `KUBECTL_RECORD=1 cargo test -p kubeworld --test clients real_kubectl_on_kube_apiserver` writes them anew; what
//!   matches by a `...` stays as it is.
//! - `KUBECTL_ONLY=text` runs only the sessions whose file name contains the text.
//!
//! What differs from run to run has names: ages, times, uids, revisions, tokens.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use regex::{Captures, Regex};

use crate::apiserver;
use crate::transcript::{self, Step};
use crate::world::{TOKEN, World};

/// Where the programs are; as the test rig has it.
const ASSETS_VARIABLE: &str = "ISOCHRONE_KUBE_ASSETS";

/// What kubeworld shows otherwise, and why: session, command, reason.
const DIFFERENT: [(&str, &str, &str); 5] = [
    ("apply", "kubectl diff -f - <<E", "a strategic merge patch of a wrong type is refused in another decoder's words"),
    ("discovery", "kubectl api-versions", STORAGE_MIGRATION),
    ("discovery", "kubectl api-resources", STORAGE_MIGRATION),
    ("discovery", "kubectl api-resources --namespaced=false -o name", STORAGE_MIGRATION),
    ("get", "kubectl get flowschemas", "no controller says of them that their priority levels are there"),
];

const STORAGE_MIGRATION: &str = "there is no other storage version to migrate from";

/// A command that takes longer hangs.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn real_kubectl_on_kubeworld() -> anyhow::Result<()> {
    let assets = assets()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut failures = Vec::new();
    for file in sessions("kubectl")? {
        let world = runtime.block_on(World::start_with_tls())?;
        failures.extend(check(&Kubectl::of(&assets, &world)?, &file, &DIFFERENT)?);
    }
    ensure!(failures.is_empty(), "{}\n\n{} commands failed", failures.join("\n\n"), failures.len());
    Ok(())
}

/// What controllers do about it, and what a kubelet would say: without a real one beside it.
#[test]
fn real_kubectl_on_kubeworld_with_controllers() -> anyhow::Result<()> {
    let assets = assets()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut failures = Vec::new();
    for file in sessions("kubectl/controlled")? {
        let world = runtime.block_on(World::start_with_controllers())?;
        let kubectl = Kubectl::of(&assets, &world)?;
        if std::env::var_os("KUBECTL_RECORD").is_some() {
            record(&kubectl, &file)?;
        } else {
            failures.extend(check(&kubectl, &file, &[])?);
        }
    }
    ensure!(failures.is_empty(), "{}\n\n{} commands failed", failures.join("\n\n"), failures.len());
    Ok(())
}

#[test]
fn real_kubectl_on_kube_apiserver() -> anyhow::Result<()> {
    let assets = assets()?;
    let mut failures = Vec::new();
    for file in sessions("kubectl")? {
        let mut server = apiserver::Server::start(&assets)?;
        let kubectl = Kubectl::new(&assets, &server.url(), None)?;
        server.until_ready(&kubectl)?;
        if std::env::var_os("KUBECTL_RECORD").is_some() {
            record(&kubectl, &file)?;
        } else {
            failures.extend(check(&kubectl, &file, &[])?);
        }
    }
    ensure!(failures.is_empty(), "{}\n\n{} commands failed", failures.join("\n\n"), failures.len());
    Ok(())
}

/// Runs a session and returns what was shown otherwise than expected; what is allowed to differ must.
fn check(kubectl: &Kubectl, file: &Path, allowed: &[(&str, &str, &str)]) -> anyhow::Result<Vec<String>> {
    let steps = transcript::read(file)?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut allowed: Vec<_> = allowed.iter().filter(|(session, ..)| *session == name).collect();
    let started = Instant::now();
    let shown = run(kubectl, &steps, false).with_context(|| format!("session {name}"))?;
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
    eprintln!("{name}: {} commands, {} failures, {:.1?}", steps.len(), failures.len(), started.elapsed());
    Ok(failures)
}

fn record(kubectl: &Kubectl, file: &Path) -> anyhow::Result<()> {
    let mut steps = transcript::read(file)?;
    let shown = run(kubectl, &steps, true)?;
    for (step, shown) in steps.iter_mut().zip(shown) {
        if !transcript::matches(&step.shown, &shown) {
            step.shown = shown;
        }
    }
    std::fs::write(file, transcript::write(&steps)).with_context(|| format!("writing {}", file.display()))
}

/// What each step shows.
fn run(kubectl: &Kubectl, steps: &[Step], recording: bool) -> anyhow::Result<Vec<String>> {
    let mut shown = Vec::new();
    let mut beside = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        let words = step.words()?;
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let [program, args @ ..] = args.as_slice() else { continue };
        ensure!(*program == "kubectl", "{} is not kubectl", step.line);
        if step.beside {
            let running = kubectl.begin(args)?;
            // What follows is what it must see happen, so it has to have begun.
            running.until(|lines| !lines.is_empty());
            beside.insert(number, running);
            shown.push(String::new());
        } else {
            shown.push(plain(&kubectl.run(args, step.input.as_deref())?.shown()));
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

/// A kubectl with a home of its own.
pub(crate) struct Kubectl {
    program: PathBuf,
    home: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    out: String,
    err: String,
}

impl Output {
    /// As a transcript has it.
    fn shown(&self) -> String {
        let mut text = self.out.trim_end().to_owned();
        for line in self.err.trim_end().lines() {
            text += "\n! ";
            text += line;
        }
        if self.code != 0 {
            text += &format!("\n? {}", self.code);
        }
        text.trim_start_matches('\n').to_owned()
    }
}

impl Kubectl {
    fn new(assets: &Path, url: &str, certificate: Option<&str>) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let trust = match certificate {
            None => "insecure-skip-tls-verify: true".to_owned(),
            Some(pem) => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
                format!("certificate-authority-data: {encoded}")
            }
        };
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: world\n\
             clusters: [{{name: world, cluster: {{server: '{url}', {trust}}}}}]\n\
             users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: world, context: {{cluster: world, user: admin}}}}]\n"
        );
        std::fs::write(home.path().join("config"), config)?;
        Ok(Self { program: assets.join("kubectl"), home })
    }

    fn of(assets: &Path, world: &World) -> anyhow::Result<Self> {
        Self::new(assets, &format!("https://{}", world.address()), world.certificate.as_deref())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            // `kubectl diff` runs diff from there.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .arg(format!("--cache-dir={}", self.home.path().join("cache").display()))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str], input: Option<&str>) -> anyhow::Result<Output> {
        let mut command = self.command(args);
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let mut stdin = child.stdin.take();
        let (mut out, mut err) = (child.stdout.take().context("no output")?, child.stderr.take().context("no errors")?);
        std::thread::scope(|scope| {
            // All three at once: a pipe that nobody empties stops the child.
            if let (Some(stdin), Some(input)) = (stdin.take(), input) {
                scope.spawn(move || {
                    let mut stdin = stdin;
                    // A command that fails early does not read it all.
                    let _ = stdin.write_all(input.as_bytes());
                });
            }
            // Each lets go of its end of the channel once the child has closed its pipe.
            let (reading, read_all) = mpsc::channel::<()>();
            let also_reading = reading.clone();
            let text = scope.spawn(move || (read(&mut out), drop(reading)).0);
            let errors = scope.spawn(move || (read(&mut err), drop(also_reading)).0);
            let code = wait(&mut child, &read_all)?;
            let out = text.join().ok().context("reading the output")?;
            let mut err = errors.join().ok().context("reading the errors")?;
            if code.is_none() {
                err += "\nkilled: it took too long";
            }
            Ok(Output { code: code.unwrap_or(-1), out, err })
        })
    }

    /// Runs a command until it is stopped.
    fn begin(&self, args: &[&str]) -> anyhow::Result<Running> {
        let mut child = self.command(args).stderr(Stdio::null()).spawn().context("starting kubectl")?;
        let out = child.stdout.take().context("no output")?;
        let shown = Arc::new(Shown::default());
        let reader = std::thread::spawn({
            let shown = shown.clone();
            move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    shown.lines().push(line);
                    shown.more.notify_all();
                }
            }
        });
        Ok(Running { child, shown, reader })
    }
}

fn read(from: &mut dyn std::io::Read) -> String {
    let mut bytes = Vec::new();
    // Less than all of it shows as a difference.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The exit code, once all was read of it, or nothing for one that had to be killed.
fn wait(child: &mut Child, read_all: &mpsc::Receiver<()>) -> anyhow::Result<Option<i32>> {
    if let Err(mpsc::RecvTimeoutError::Timeout) = read_all.recv_timeout(COMMAND_WITHIN) {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    }
    Ok(child.wait()?.code())
}

/// A command that has begun.
struct Running {
    child: Child,
    shown: Arc<Shown>,
    reader: std::thread::JoinHandle<()>,
}

/// What it has shown, and a call for each line more.
#[derive(Default)]
struct Shown {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Shown {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Waits for what it shows, for a while.
    fn until(&self, enough: impl Fn(&[String]) -> bool) {
        // One that shows too little shows in what it is compared with.
        let _ = self.shown.more.wait_timeout_while(self.shown.lines(), COMMAND_WITHIN, |lines| !enough(lines));
    }

    /// Ends it and says what it showed.
    fn stop(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.join();
        std::mem::take(&mut self.shown.lines())
    }
}

/// Names for what differs from run to run, and no spaces at the ends of lines.
fn plain(text: &str) -> String {
    const NAMES: [(&str, &str); 12] = [
        (r"\b[WE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "<logged> "),
        (r#"127\.0\.0\.1(:\d+)?""#, r#"<address>""#),
        (r"\bmade-[a-z0-9]{5}\b", "made-<suffix>"),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<token>"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uid>"),
        (r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?", "<time>"),
        (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} 20\d\d \d\d:\d\d:\d\d \+0000", "<time>"),
        (r#"(resourceVersion"?:? ?"?|Resource Version: +)\d+"#, "$1<revision>"),
        (r"/(LIVE|MERGED)-\d+/", "/$1/"),
        (r"https://127\.0\.0\.1:\d+", "<url>"),
        (r"/tmp/\.\w+", "<home>"),
        // The clock of kubectl may be behind by the fraction of a second.
        (r"<invalid>", "0s"),
    ];
    static PATTERNS: std::sync::LazyLock<Vec<(Regex, &str)>> = std::sync::LazyLock::new(|| {
        NAMES.into_iter().map(|(pattern, name)| (Regex::new(pattern).expect("a pattern"), name)).collect()
    });
    static AGE: std::sync::LazyLock<Regex> =
        std::sync::LazyLock::new(|| Regex::new(r"(?m)(^|[ (])(\d+[ydhms])+\b( *)").expect("a pattern"));
    // The real server writes fields in the order of its types, kubeworld by name.
    let mut text = match serde_json::from_str::<serde_json::Value>(text.trim()) {
        Ok(value) if value.is_object() && !text.trim().contains('\n') => value.to_string(),
        Ok(_) | Err(_) => text.to_owned(),
    };
    for (pattern, name) in PATTERNS.iter() {
        text = pattern.replace_all(&text, *name).into_owned();
    }
    // In a table the spaces depend on the widest.
    let text = AGE.replace_all(&text, |found: &Captures<'_>| {
        format!("{}<age>{}", &found[1], if found[3].len() > 1 { "   " } else { &found[3] })
    });
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The files of a directory beside this one.
fn sessions(dir: &str) -> anyhow::Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(dir);
    let only = std::env::var("KUBECTL_ONLY").unwrap_or_default();
    let entries = std::fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|e| e == "txt") && file.to_string_lossy().contains(&only));
    files.sort();
    Ok(files)
}

fn assets() -> anyhow::Result<PathBuf> {
    let assets = std::env::var_os(ASSETS_VARIABLE).with_context(|| {
        format!(
            "{ASSETS_VARIABLE} is unset, so there is no kubectl: run `cargo xtask test`, or \
             `{ASSETS_VARIABLE}=$(cargo xtask kube) cargo test`, or leave these tests out with `-- --skip real_`"
        )
    })?;
    Ok(PathBuf::from(assets))
}
