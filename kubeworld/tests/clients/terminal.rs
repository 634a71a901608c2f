//! A terminal: a home of its own, in which kubectl and helm run, and what they show.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use regex::{Captures, Regex};

use crate::processes::assets;
use crate::world::{TOKEN, World};

/// The kubectl of the rig.
const NEWEST: &str = "kubectl";

/// A command that takes longer hangs.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// A home of its own, whose configuration names one server and its administrator.
pub(crate) struct Terminal {
    assets: PathBuf,
    /// The program that `kubectl` means here.
    kubectl: String,
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
    pub(crate) fn shown(&self) -> String {
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

impl Terminal {
    /// With kubectl of a version as `1.29`, or the rig's own. Without a certificate any is trusted.
    pub(crate) fn new(version: Option<&str>, url: &str, certificate: Option<&str>) -> anyhow::Result<Self> {
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
        let kubectl = version.map_or(NEWEST.to_owned(), |version| format!("kubectl-{version}"));
        Ok(Self { assets: assets()?, kubectl, home })
    }

    pub(crate) fn of(version: Option<&str>, world: &World) -> anyhow::Result<Self> {
        Self::new(version, &format!("https://{}", world.address()), world.certificate.as_deref())
    }

    /// A program, told of nothing but this home.
    pub(crate) fn at_home(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            // `kubectl diff` runs diff from there.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .current_dir(self.home.path());
        command
    }

    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let [name, args @ ..] = words else { bail!("a line without words") };
        let program = match *name {
            "kubectl" => self.assets.join(&self.kubectl),
            "helm" => self.assets.join(name),
            _ => bail!("{name} is neither kubectl nor helm"),
        };
        ensure!(program.is_file(), "there is no {}; `cargo xtask kube`, with Go, makes it", program.display());
        let mut command = self.at_home(&program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str], input: Option<&str>) -> anyhow::Result<Output> {
        let mut command = self.command(words)?;
        // Older kubectls take for JSON what begins with a brace, and YAML does so in our sessions.
        let input = input.map(|input| if self.kubectl == NEWEST { input.to_owned() } else { format!("---\n{input}") });
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", words.join(" ")))?;
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
    pub(crate) fn begin(&self, words: &[&str]) -> anyhow::Result<Running> {
        let mut child = self.command(words)?.stderr(Stdio::null()).spawn().context("starting kubectl")?;
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
pub(crate) struct Running {
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
    pub(crate) fn until(&self, enough: impl Fn(&[String]) -> bool) {
        // One that shows too little shows in what it is compared with.
        let _ = self.shown.more.wait_timeout_while(self.shown.lines(), COMMAND_WITHIN, |lines| !enough(lines));
    }

    /// Ends it and says what it showed.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.join();
        std::mem::take(&mut self.shown.lines())
    }
}

/// Names for what differs from run to run, and no spaces at the ends of lines.
pub(crate) fn plain(text: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        (r"\b[WE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "<logged> "),
        (r#"127\.0\.0\.1(:\d+)?""#, r#"<address>""#),
        (r"\bmade-[a-z0-9]{5}\b", "made-<suffix>"),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<token>"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uid>"),
        (r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?", "<time>"),
        (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} 20\d\d \d\d:\d\d:\d\d \+0000", "<time>"),
        (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} +\d+ \d\d:\d\d:\d\d 20\d\d", "<time>"),
        (r#"(resourceVersion"?:? ?"?|Resource Version: +)\d+"#, "$1<revision>"),
        (r"/(LIVE|MERGED)-\d+/", "/$1/"),
        (r"https://127\.0\.0\.1:\d+", "<url>"),
        (r"/tmp/\.\w+", "<home>"),
        // helm's times leave out zeros at their ends, and the column is as wide as the widest.
        (r"(UPDATED|<time>) +\t", "$1\t"),
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
