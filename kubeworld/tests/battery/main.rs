//! One battery of cases for the Kubernetes API, its answers recorded from a real kube-apiserver.
//!
//! `cases/*.yaml` holds the cases, a file for each area. People write the requests; the answers are what the real server
//! said, in a form in which what differs from run to run has names (see [`answer`]). `real_battery` sends all to a real
//! server, `battery` to kubeworld; both compare whole answers, so kubeworld cannot drift from what it stands for.
//!
//! - `BATTERY_RECORD=1 cargo test -p kubeworld --test battery real_battery` writes the answers anew; read the diff.
//! - `BATTERY_REPORT=file` gets every difference, not only the first of each case.
//! - `BATTERY_ONLY=text` runs only the cases whose area and name contain the text.
//!
//! Absent: anything that a controller does (the real server runs without its controller manager), and the admission of
//! service accounts, which needs one.

mod answer;
mod case;
mod diff;
mod http;
mod memory;
mod print;
#[path = "../real/processes.rs"]
mod processes;
mod random;
mod real;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::case::{Area, Case, Difference};
use crate::run::{Answers, Provider, outcome};

#[test]
fn battery() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(dir().join("differences.yaml"))?;
    check(&memory::Server::start()?, &serde_saphyr::from_str::<Vec<Difference>>(&text)?)
}

#[test]
fn real_battery() -> anyhow::Result<()> {
    let server = real::Server::start()?;
    if std::env::var_os("BATTERY_RECORD").is_some() {
        return record(&server);
    }
    check(&server, &[])
}

/// How many sequences run, of [`random::STEPS`] steps each; `BATTERY_SEQUENCES` asks for more.
const SEQUENCES: u64 = 60;

/// How often a sequence may differ before it counts. The real server answers one in a hundred otherwise the next time:
/// a second passes between two writes, or its cache is behind and it warns of a change that is none.
const ROUNDS: usize = 3;

/// Both servers run the same sequences; `BATTERY_SEED` gives the first seed.
#[test]
fn real_random_sequences() -> anyhow::Result<()> {
    let number = |name: &str, else_: u64| std::env::var(name).ok().map_or(Ok(else_), |text| text.parse());
    let (first, count) = (number("BATTERY_SEED", 1)?, number("BATTERY_SEQUENCES", SEQUENCES)?);
    println!("seeds {first} to {}, {} steps", first + count - 1, count as usize * random::STEPS);
    let (real, memory) = (real::Server::start()?, memory::Server::start()?);
    run::fixtures(&real)?;
    run::fixtures(&memory)?;
    let mut seeds: Vec<u64> = (first..first + count).collect();
    let mut failures = Vec::new();
    for round in 0..ROUNDS {
        let area = [Area::generated("random", seeds.iter().map(|seed| random::case(*seed)).collect())];
        let (expected, got) = (run::all(&real, &area, "", round)?, run::all(&memory, &area, "", round)?);
        failures.clear();
        let mut again = Vec::new();
        for (((case, expected), (_, got)), seed) in expected.iter().zip(&got).zip(&seeds) {
            if let Err(what) = random::compare(case, expected, got) {
                failures.push(what);
                again.push(*seed);
            }
        }
        seeds = again;
    }
    if let Some(report) = std::env::var_os("BATTERY_REPORT") {
        std::fs::write(report, failures.join("\n\n")).context("writing the report")?;
    }
    println!("{} of {count} sequences differ", failures.len());
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

/// Sends every case and compares. A case that cannot be compared fails; a difference counts unless it is listed, and a
/// listed one that does not occur fails, so that the list stays short.
fn check(provider: &dyn Provider, allowed: &[Difference]) -> anyhow::Result<()> {
    let areas = areas()?;
    let only = only();
    run::fixtures(provider)?;
    let answers = run::all(provider, &areas, &only, 0)?;
    let mut unused: Vec<&Difference> = allowed.iter().filter(|one| one.case.contains(&only)).collect();
    let mut first = Vec::new();
    let mut all = Vec::new();
    for (case, got) in &answers {
        let before = all.len();
        for (number, step) in case.steps.iter().enumerate() {
            let Err(what) = outcome(step, got, number) else { continue };
            match unused.iter().position(|one| one.case == case.title() && one.step == number + 1) {
                Some(listed) => drop(unused.swap_remove(listed)),
                None => all.push(format!("{}, step {} ({}):\n{what}", case.title(), number + 1, step.request)),
            }
        }
        // What follows in a case may differ because of its first difference; the report has it all.
        first.extend(all.get(before).cloned());
    }
    eprintln!("{} cases, {} failures in {} steps", answers.len(), first.len(), all.len());
    if let Some(report) = std::env::var_os("BATTERY_REPORT") {
        std::fs::write(report, all.join("\n\n")).context("writing the report")?;
    }
    ensure!(first.is_empty(), "{}\n\n{} cases failed", first.join("\n\n"), first.len());
    ensure!(unused.is_empty(), "listed as different, but equal: {unused:#?}");
    Ok(())
}

fn record(provider: &dyn Provider) -> anyhow::Result<()> {
    let areas = areas()?;
    run::fixtures(provider)?;
    let answers = run::all(provider, &areas, &only(), 0)?;
    for area in &areas {
        let recorded: Vec<_> = answers.iter().filter(|(case, _)| case.area == area.name).cloned().collect();
        area.record(&recorded).with_context(|| format!("recording {}", area.file.display()))?;
    }
    let without = |(case, answers): &(Case, Answers)| Some(format!("{}: {}", case.title(), answers.as_ref().err()?));
    let without: Vec<String> = answers.iter().filter_map(without).collect();
    ensure!(without.is_empty(), "not recorded:\n{}", without.join("\n"));
    Ok(())
}

fn only() -> String {
    std::env::var("BATTERY_ONLY").unwrap_or_default()
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/battery")
}

fn areas() -> anyhow::Result<Vec<Area>> {
    let dir = dir().join("cases");
    let mut files = std::fs::read_dir(&dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.sort();
    files.iter().map(|file| Area::read(file).with_context(|| format!("reading {}", file.display()))).collect()
}

#[test]
fn the_cases_can_be_read() -> anyhow::Result<()> {
    let cases: usize = areas()?.iter().map(|area| area.cases.len()).sum();
    let fixtures = Area::read(&dir().join("fixtures.yaml")).context("reading the fixtures")?;
    println!("{cases} cases, {} fixtures", fixtures.cases.len());
    Ok(())
}
