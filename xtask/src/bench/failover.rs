//! `cargo xtask bench failover`.
//!
//! Two worlds, one after the other: one with the hub at a place of its own, one with it at the site that fails. In each,
//! every scenario runs several times, and the world is restored between runs. A run that fails is told and counted, and
//! the next begins in a new world.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use world::Assets;
use world::failover::{Expected, Run, Scenario, Scene};

use super::{percentile, write_whole};
use crate::kube;
use crate::world::build_binary;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each of a to c runs; the others run a quarter of it, at least once.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Scenarios by name, or by the letter that names begin with: a, b, c1, c2, d1, d2, d3, e, f, drain.
    #[arg(long, value_delimiter = ',', default_value = "a,b,c,d,e,f")]
    only: Vec<String>,
    /// Where to write every run, after each.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The program `isochrone` to measure, as built elsewhere or of another version; without it, one is built here.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Tells worlds on one machine apart: sites are 10.(20 + SLOT).k.0/24.
    #[arg(long, default_value_t = 60)]
    slot: u8,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let scenarios = chosen(&options.only)?;
    let assets = kube::provide()?;
    build_binary("world", "world-ingress")?;
    let program = match &options.program {
        Some(program) => std::path::absolute(program).context("resolving the program")?,
        None => build_binary("cli", "isochrone")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let mut bench = Bench { options, assets, program, runs: BTreeMap::new(), failed: BTreeMap::new() };
    runtime.block_on(async {
        tokio::select! {
            done = bench.all(&scenarios) => done,
            // Dropping what runs ends it; what was measured so far is printed.
            ended = tokio::signal::ctrl_c() => ended.context("listening for SIGINT"),
        }
    })?;
    let mut out = std::io::stdout().lock();
    out.write_all(table(&scenarios, &bench.runs, &bench.failed).as_bytes())?;
    out.flush().context("printing the table")
}

/// In the order in which all are listed.
fn chosen(only: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let names = |word: &str, scenario: Scenario| {
        let name = scenario.name();
        // A letter is all of its kind; "d" must not be "drain".
        word == name || (word.len() == 1 && name.len() <= 2 && name.starts_with(word))
    };
    for word in only {
        let known = Scenario::ALL.map(Scenario::name).join(", ");
        ensure!(
            Scenario::ALL.into_iter().any(|scenario| names(word, scenario)),
            "there is no scenario {word}: {known}"
        );
    }
    Ok(Scenario::ALL.into_iter().filter(|scenario| only.iter().any(|word| names(word, *scenario))).collect())
}

struct Bench<'a> {
    options: &'a Options,
    assets: Assets,
    program: PathBuf,
    runs: BTreeMap<Scenario, Vec<Run>>,
    failed: BTreeMap<Scenario, usize>,
}

impl Bench<'_> {
    async fn all(&mut self, scenarios: &[Scenario]) -> anyhow::Result<()> {
        for beside in [false, true] {
            let here = scenarios.iter().filter(|scenario| scenario.hub_beside_victim() == beside);
            let here: Vec<Scenario> = here.copied().collect();
            if !here.is_empty() {
                self.in_one_kind_of_world(&here, beside).await?;
            }
        }
        Ok(())
    }

    async fn in_one_kind_of_world(&mut self, scenarios: &[Scenario], hub_beside_victim: bool) -> anyhow::Result<()> {
        let mut scene = None;
        for scenario in scenarios {
            let times = self.times(*scenario);
            for number in 1..=times {
                let mut ready = match scene.take() {
                    Some(ready) => ready,
                    None => self.start(hub_beside_victim).await?,
                };
                match once(&mut ready, *scenario).await {
                    Ok(run) => {
                        eprintln!("{:>5} {number:>2}/{times}: {}", scenario.name(), line(&run));
                        self.runs.entry(*scenario).or_default().push(run);
                        self.write()?;
                        scene = Some(ready);
                    }
                    Err(error) => {
                        eprintln!(
                            "{:>5} {number:>2}/{times} failed, so a new world is started: {error:#}",
                            scenario.name()
                        );
                        *self.failed.entry(*scenario).or_default() += 1;
                        ready.stop().await;
                    }
                }
            }
        }
        if let Some(scene) = scene {
            scene.stop().await;
        }
        Ok(())
    }

    async fn start(&self, hub_beside_victim: bool) -> anyhow::Result<Scene> {
        let place = if hub_beside_victim { "at the site that fails" } else { "at a place of its own" };
        eprintln!("starting three members, and the hub {place}");
        let started = Instant::now();
        let scene = Scene::start(&self.assets, &self.program, self.options.slot, hub_beside_victim).await?;
        eprintln!("ready after {:.1} s", started.elapsed().as_secs_f64());
        Ok(scene)
    }

    fn times(&self, scenario: Scenario) -> usize {
        match scenario {
            Scenario::Crash | Scenario::BlackHole | Scenario::HubsRegion | Scenario::RegionAndHub => self.options.runs,
            Scenario::SendsNothing
            | Scenario::HearsNothing
            | Scenario::CutFromHub
            | Scenario::Flapping
            | Scenario::HubKilled
            | Scenario::Drain => self.options.runs.div_ceil(4),
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let Some(path) = &self.options.json else { return Ok(()) };
        let runs: Vec<&Run> = self.runs.values().flatten().collect();
        write_whole(path, &serde_json::to_string_pretty(&runs).context("writing the runs as JSON")?)
    }
}

async fn once(scene: &mut Scene, scenario: Scenario) -> anyhow::Result<Run> {
    let run = world::failover::run(scene, scenario).await?;
    scene.restore().await.context("restoring the world")?;
    Ok(run)
}

fn line(run: &Run) -> String {
    format!(
        "demoted {}, absent {}; {} moves, {} of others; {:.0} polls/s, {} unanswered",
        time(run.demoted),
        time(run.absent),
        run.moves,
        run.moves_of_others,
        run.polls_per_second,
        run.unanswered
    )
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

/// The bars of the design, in seconds: of the median of *demoted* and of *absent*. A planned drain has none here: its
/// bar is that no request fails.
fn bars(scenario: Scenario) -> (Option<f64>, Option<f64>) {
    match scenario {
        Scenario::Crash => (None, Some(3.0)),
        Scenario::BlackHole
        | Scenario::HubsRegion
        | Scenario::RegionAndHub
        | Scenario::SendsNothing
        | Scenario::HearsNothing => (Some(5.0), Some(11.0)),
        Scenario::CutFromHub | Scenario::Flapping | Scenario::HubKilled | Scenario::Drain => (None, None),
    }
}

fn table(scenarios: &[Scenario], runs: &BTreeMap<Scenario, Vec<Run>>, failed: &BTreeMap<Scenario, usize>) -> String {
    let mut text = String::new();
    let mut row = |cells: [&str; 6]| {
        let [name, title, runs, demoted, absent, moves] = cells;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<5}  {title:<38}  {runs:>7}  {demoted:<30}  {absent:<30}  {moves}");
    };
    row(["", "", "runs", "demoted p50 / p95 / max (bar)", "absent p50 / p95 / max (bar)", "moves; of others"]);
    for scenario in scenarios {
        let of = runs.get(scenario).map(Vec::as_slice).unwrap_or_default();
        let count = match failed.get(scenario) {
            Some(failed) => format!("{} -{failed}", of.len()),
            None => of.len().to_string(),
        };
        let (demoted_bar, absent_bar) = bars(*scenario);
        let demoted = spread(of.iter().map(|run| run.demoted), demoted_bar);
        let absent = spread(of.iter().map(|run| run.absent), absent_bar);
        let (demoted, absent) = match scenario.expected() {
            Expected::Moves => (demoted.as_str(), absent.as_str()),
            Expected::Still | Expected::AtMost(_) => ("-", "-"),
        };
        row([scenario.name(), scenario.title(), &count, demoted, absent, &moves(*scenario, of)]);
    }
    text
}

fn moves(scenario: Scenario, runs: &[Run]) -> String {
    let most = runs.iter().map(|run| run.moves).max().unwrap_or_default();
    let others: usize = runs.iter().map(|run| run.moves_of_others).sum();
    let bar = match scenario.expected() {
        Expected::Moves => String::new(),
        Expected::Still => " (0)".to_owned(),
        Expected::AtMost(bar) => format!(" (≤ {bar})"),
    };
    format!("{most}{bar}; {others} (0)")
}

/// Median, 95th percentile and maximum, and the bar of the median. What never happened sorts last.
fn spread(times: impl Iterator<Item = Option<Duration>>, bar: Option<f64>) -> String {
    let mut times: Vec<Duration> = times.map(|time| time.unwrap_or(Duration::MAX)).collect();
    times.sort();
    let text = |percent| {
        percentile(&times, percent).map_or_else(
            || "-".to_owned(),
            |time| {
                if time == Duration::MAX { "never".to_owned() } else { format!("{:.2}", time.as_secs_f64()) }
            },
        )
    };
    let bar = bar.map(|bar| format!(" (≤ {bar})")).unwrap_or_default();
    format!("{} / {} / {}{bar}", text(50), text(95), text(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<Duration> = (1..=20).map(Duration::from_secs).collect();
        for (percent, expected) in [(1, 1), (50, 10), (95, 19), (99, 20), (100, 20)] {
            assert_eq!(percentile(&times, percent), Some(Duration::from_secs(expected)), "{percent}");
        }
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn what_never_happens_sorts_last() {
        let times = [Some(Duration::from_millis(1500)), None, Some(Duration::from_millis(500))];
        assert_eq!(spread(times.into_iter(), Some(3.0)), "1.50 / never / never (≤ 3)");
        assert_eq!(spread([].into_iter(), None), "- / - / -");
    }

    #[test]
    fn a_letter_is_all_of_its_kind() {
        let names = |only: &str| {
            let only: Vec<String> = only.split(',').map(str::to_owned).collect();
            chosen(&only).map(|all| all.into_iter().map(Scenario::name).collect::<Vec<_>>())
        };
        assert_eq!(names("d,a").unwrap(), ["a", "d1", "d2", "d3"]);
        assert_eq!(names("c2,drain").unwrap(), ["c2", "drain"]);
        assert!(names("g").unwrap_err().to_string().contains("no scenario g: a, b"));
    }
}
