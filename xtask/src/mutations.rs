//! `cargo xtask mutations`: puts known faults into the rules, one after the other, and demands that the simulator finds
//! each of them, by the invariant that it breaks. A checker that never failed proves nothing.
//!
//! A fault is a patch in `sim/mutations`, with a header that says what it stands for ([`fault`]). It is applied to a copy
//! of the workspace ([`copy`]), never to the workspace itself. What fuzzes is `sim/examples/fuzz.rs`: the cores and their
//! checkers, and nothing else of `isochrone`.
//!
//! Absent on purpose: faults that are made up by a program. Most of those are equal to the original or stand for no
//! mistake that anybody makes; each of these does.

mod copy;
mod fault;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::test::workspace;
use copy::{Applies, Copy};
use fault::{Fault, Outcome, Verdict};

/// Where the patches are, below the workspace.
const FAULTS: &str = "sim/mutations";

/// The seed that each fuzz begins with, as `isochrone sim fuzz` does.
const FIRST: u64 = 1;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// These faults alone, by the names of their files without `.patch`.
    #[arg(long, value_name = "NAME", value_delimiter = ',', num_args = 1..)]
    only: Vec<String>,
    /// How many seeds to run of each, instead of what its header says.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Leave the last fault in the copy, to look into it.
    #[arg(long)]
    keep: bool,
    /// Where to write what became of each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Ends with 1 where a fault survived, was caught by another invariant than its own, or could not be tried.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut faults = chosen(read_faults(&workspace())?, &options.only)?;
    if let Some(seeds) = options.seeds {
        faults.iter_mut().for_each(|fault| fault.seeds = seeds);
    }
    let rig = Rig::new()?;
    let most = faults.iter().map(|fault| fault.seeds).max().unwrap_or_default();
    let limit = rig.try_without_fault(most)?;
    let mut tried = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        eprintln!("{:>2}/{}: {}: {}", index + 1, faults.len(), fault.name, fault.text);
        let one = rig.try_fault(fault, limit)?;
        eprintln!("       {}", line(&one));
        let last = index + 1 == faults.len();
        if !(last && options.keep) {
            rig.copy.refresh()?;
        }
        tried.push(one);
    }
    if options.keep {
        eprintln!("the copy, with the last fault in it: {}", rig.copy.path().display());
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&json(&tried)).context("writing what became of the faults as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(&tried, begun.elapsed()).as_bytes()).context("printing the table")?;
    out.flush().context("printing the table")?;
    let all = tried.iter().all(|one| one.verdict == Verdict::Caught);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All faults of a workspace, by name.
fn read_faults(workspace: &Path) -> anyhow::Result<Vec<Fault>> {
    let directory = workspace.join(FAULTS);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut faults = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".patch") else {
            bail!("{} is no patch", path.display());
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        faults.push(Fault::parse(name, &path, &text).with_context(|| format!("the header of {}", path.display()))?);
    }
    faults.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(faults)
}

/// Those that `only` names, or all if it names none.
fn chosen(faults: Vec<Fault>, only: &[String]) -> anyhow::Result<Vec<Fault>> {
    let names: BTreeSet<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name.as_str())) {
        bail!("there is no fault {unknown}: {}", names.into_iter().collect::<Vec<_>>().join(", "));
    }
    Ok(faults.into_iter().filter(|fault| only.is_empty() || only.contains(&fault.name)).collect())
}

/// What became of one fault.
struct Tried<'a> {
    fault: &'a Fault,
    verdict: Verdict,
    outcome: Option<Outcome>,
    build: Duration,
    fuzz: Duration,
}

/// The copy, and what builds and runs it.
struct Rig {
    copy: Copy,
    target: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> anyhow::Result<Self> {
        let target = target_directory()?;
        let copy = Copy::open(workspace(), &target.join("mutations"))?;
        copy.refresh()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
        Ok(Self { copy, target, runtime })
    }

    /// Without a fault no seed may fail, else nothing is proved by one that does. Returns how long a mutant may take.
    fn try_without_fault(&self, seeds: u64) -> anyhow::Result<Duration> {
        eprintln!("building without a fault");
        let begun = Instant::now();
        let Ok(program) = self.build(Stdio::inherit())? else { bail!("the workspace does not build") };
        eprintln!("built after {:.0} s; running {seeds} seeds", begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let outcome = self.fuzz(&program, seeds, None).context("fuzzing without a fault")?;
        let took = begun.elapsed();
        if let Some(finding) = outcome.finding {
            bail!(
                "seed {} fails without any fault: {}: {}; mend that first",
                finding.seed,
                finding.invariant,
                finding.what
            );
        }
        eprintln!("no seed fails without a fault; {:.0} s", took.as_secs_f64());
        // A fault may make a world that never ends: time stands still in it. No other one takes so much longer.
        Ok(took * 10 + Duration::from_secs(60))
    }

    /// Leaves the fault in the copy.
    fn try_fault<'a>(&self, fault: &'a Fault, limit: Duration) -> anyhow::Result<Tried<'a>> {
        let mut tried =
            Tried { fault, verdict: Verdict::Survived, outcome: None, build: Duration::ZERO, fuzz: Duration::ZERO };
        if let Applies::No(why) = self.copy.apply(&fault.path)? {
            tried.verdict = Verdict::Broken(format!(
                "{} does not apply any more: make it anew against the rules as they are now\n{why}",
                fault.path.display()
            ));
            return Ok(tried);
        }
        let begun = Instant::now();
        let built = self.build(Stdio::piped())?;
        tried.build = begun.elapsed();
        let program = match built {
            Ok(program) => program,
            Err(why) => {
                tried.verdict =
                    Verdict::Broken(format!("with the fault it does not build, so nothing was tried:\n{why}"));
                return Ok(tried);
            }
        };
        let begun = Instant::now();
        match self.fuzz(&program, fault.seeds, Some(limit)) {
            Ok(outcome) => {
                tried.verdict = fault.judge(&outcome);
                tried.outcome = Some(outcome);
            }
            Err(error) => tried.verdict = Verdict::Broken(format!("{error:#}")),
        }
        tried.fuzz = begun.elapsed();
        Ok(tried)
    }

    /// The program that fuzzes, or what the compiler says. `--workspace` unites the features of all crates as `cargo test
    /// --workspace` does, so that what both need of others is built once.
    fn build(&self, stderr: Stdio) -> anyhow::Result<Result<PathBuf, String>> {
        let mut build = cargo();
        build
            .current_dir(self.copy.path())
            .env("CARGO_TARGET_DIR", &self.target)
            .args(["build", "--workspace", "--example", "fuzz", "--locked"])
            .args(["--message-format", "json-render-diagnostics"]);
        let child = build.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn();
        let output = child.and_then(std::process::Child::wait_with_output).context("running `cargo build`")?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let executable = messages.lines().rev().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        Ok(Ok(executable.context("`cargo build` named no executable")?))
    }

    /// What came of `seeds` seeds; an error when the program ends otherwise than with an outcome, or not within `limit`.
    fn fuzz(&self, program: &Path, seeds: u64, limit: Option<Duration>) -> anyhow::Result<Outcome> {
        let mut fuzz = tokio::process::Command::new(program);
        fuzz.args([FIRST.to_string(), seeds.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
        let output = self.runtime.block_on(async {
            match limit {
                Some(limit) => tokio::time::timeout(limit, fuzz.output()).await,
                None => Ok(fuzz.output().await),
            }
        });
        let Ok(output) = output else {
            bail!(
                "it did not end within {:.0} s: with the fault, time stands still",
                limit.unwrap_or_default().as_secs_f64()
            );
        };
        let output = output.with_context(|| format!("running {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "it ended with {}:\n{said}", output.status);
        Outcome::read(&output.stdout)
    }
}

/// Where cargo builds this workspace.
fn target_directory() -> anyhow::Result<PathBuf> {
    let mut metadata = cargo();
    metadata.current_dir(workspace()).args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = metadata.stderr(Stdio::inherit()).output().context("running `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` failed");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading what `cargo metadata` says")?;
    let directory = metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
    Ok(PathBuf::from(directory))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn line(tried: &Tried<'_>) -> String {
    let times = format!("build {:.1} s, fuzz {:.1} s", tried.build.as_secs_f64(), tried.fuzz.as_secs_f64());
    match (&tried.verdict, tried.outcome.as_ref().and_then(|outcome| outcome.finding.as_ref())) {
        (Verdict::Broken(why), _) => format!("NOT TRIED: {why}"),
        (Verdict::Caught, Some(finding)) => {
            format!("caught by {} at seed {}: {}; {times}", finding.promise(), finding.seed, finding.what)
        }
        (Verdict::CaughtByOther, Some(finding)) => format!(
            "CAUGHT BY {} at seed {}, and not by {}: {}; {times}",
            finding.promise(),
            finding.seed,
            tried.fault.caught_by,
            finding.what
        ),
        (Verdict::Survived | Verdict::Caught | Verdict::CaughtByOther, _) => {
            format!("SURVIVED {} seeds; {times}", tried.fault.seeds)
        }
    }
}

/// For people: one line for each fault.
fn table(tried: &[Tried<'_>], took: Duration) -> String {
    let name = tried.iter().map(|one| one.fault.name.len()).max().unwrap_or_default().max(5);
    let mut text = String::new();
    let mut row = |cells: [&str; 6]| {
        let [fault, expected, caught, seed, build, fuzz] = cells;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{fault:<name$}   {expected:<12}   {caught:<12}   {seed:>5}   {build:>8}   {fuzz:>7}");
    };
    row(["FAULT", "EXPECTED", "CAUGHT BY", "SEED", "BUILD S", "FUZZ S"]);
    for one in tried {
        let finding = one.outcome.as_ref().and_then(|outcome| outcome.finding.as_ref());
        let caught = match (&one.verdict, finding) {
            (Verdict::Broken(_), _) => "NOT TRIED".to_owned(),
            (Verdict::Survived | Verdict::Caught | Verdict::CaughtByOther, Some(finding)) => {
                finding.promise().to_string()
            }
            (Verdict::Survived | Verdict::Caught | Verdict::CaughtByOther, None) => "SURVIVED".to_owned(),
        };
        let seed = finding.map_or_else(String::new, |finding| finding.seed.to_string());
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        row([
            &one.fault.name,
            &one.fault.caught_by.to_string(),
            &caught,
            &seed,
            &seconds(one.build),
            &seconds(one.fuzz),
        ]);
    }
    let caught = tried.iter().filter(|one| one.verdict == Verdict::Caught).count();
    let _ = writeln!(text, "\n{caught} of {} caught as expected, {:.0} s in all", tried.len(), took.as_secs_f64());
    text
}

/// For programs: the same, and what was broken.
fn json(tried: &[Tried<'_>]) -> serde_json::Value {
    let one = |tried: &Tried<'_>| {
        let finding = tried.outcome.as_ref().and_then(|outcome| outcome.finding.as_ref());
        let (verdict, why) = match &tried.verdict {
            Verdict::Caught => ("Caught", None),
            Verdict::CaughtByOther => ("CaughtByOther", None),
            Verdict::Survived => ("Survived", None),
            Verdict::Broken(why) => ("NotTried", Some(why)),
        };
        serde_json::json!({
            "name": tried.fault.name,
            "fault": tried.fault.text,
            "expected": tried.fault.caught_by.to_string(),
            "seeds": tried.fault.seeds,
            "verdict": verdict,
            "why": why,
            "caughtBy": finding.map(|finding| finding.promise().to_string()),
            "seed": finding.map(|finding| finding.seed),
            "what": finding.map(|finding| &finding.what),
            "buildSeconds": tried.build.as_secs_f64(),
            "fuzzSeconds": tried.fuzz.as_secs_f64(),
        })
    };
    tried.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
