//! `cargo xtask bench up`: a world (`isochrone up`) in which something fails and heals each minute. Does its process grow?
//!
//! Each minute its memory, file descriptors, threads and processor time are read; the least and the most of the first
//! quarter (after a minute, in which it starts) stand beside those of the last. What grows shows there; what a fault
//! holds for its time does not.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{process, write_whole};
use crate::world::build_binary;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long it runs; each minute has a fault of half a minute.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(4..))]
    minutes: u64,
    /// Where to write every sample.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The world's network is 127.N.0.0/16.
    #[arg(long, default_value_t = 62, value_name = "N")]
    network: u8,
}

/// What is read each minute.
#[derive(Clone, Copy, Debug)]
struct Sample {
    minute: u64,
    resident_bytes: u64,
    descriptors: usize,
    threads: u64,
    processor_seconds: f64,
}

impl Sample {
    fn json(&self) -> serde_json::Value {
        let Self { minute, resident_bytes, descriptors, threads, processor_seconds } = self;
        serde_json::json!({
            "minute": minute, "residentBytes": resident_bytes, "descriptors": descriptors, "threads": threads,
            "processorSeconds": processor_seconds,
        })
    }
}

/// A description in which a region is stopped and started, or cut off and joined again, each minute.
fn faults(minutes: u64, network: u8) -> String {
    let mut text = format!("network: 127.{network}.0.0/16\nfaults:\n");
    for minute in 0..minutes {
        let region = ["iad", "fra", "sin"][minute as usize % 3];
        let (begin, end) = [("stop", "start"), ("partition", "heal")][minute as usize % 2];
        let _ = writeln!(text, "- {{at: {}s, do: {begin}, region: {region}}}", minute * 60 + 15);
        let _ = writeln!(text, "- {{at: {}s, do: {end}, region: {region}}}", minute * 60 + 45);
    }
    text
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let program = build_binary("cli", "isochrone")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let samples = runtime.block_on(async {
        tokio::select! {
            samples = measure(options, &program) => samples,
            ended = tokio::signal::ctrl_c() => {
                ended.context("listening for SIGINT")?;
                bail!("interrupted")
            }
        }
    })?;
    if let Some(path) = &options.json {
        let all: Vec<_> = samples.iter().map(Sample::json).collect();
        write_whole(path, &serde_json::to_string_pretty(&all).context("writing the samples as JSON")?)?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(&samples).as_bytes())?;
    out.flush().context("printing the table")
}

async fn measure(options: &Options, program: &Path) -> anyhow::Result<Vec<Sample>> {
    let dir = std::env::temp_dir().join(format!("isochrone-bench-up-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let (config, log) = (dir.join("world.yaml"), dir.join("stderr"));
    std::fs::write(&config, faults(options.minutes, options.network))?;
    let mut world = Command::new(program)
        .args(["up", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("running {}", program.display()))?;
    let id = world.id().context("it ended at once")?;
    let (begun, mut samples) = (Instant::now(), vec![]);
    for minute in 1..=options.minutes {
        let next = begun + Duration::from_secs(minute * 60);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            ended = world.wait() => bail!("it ended ({}): see {}", ended?, log.display()),
        }
        let sample = read(id, minute)?;
        eprintln!("{minute:3} min: {} MB, {} descriptors", sample.resident_bytes / 1_000_000, sample.descriptors);
        samples.push(sample);
    }
    end(&mut world, id).await.with_context(|| format!("see {}", log.display()))?;
    std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(samples)
}

async fn end(world: &mut Child, id: u32) -> anyhow::Result<()> {
    /// It takes a second or two; a hub says goodbye to many.
    const WITHIN: Duration = Duration::from_secs(60);
    kill_process(Pid::from_raw(id.cast_signed()).context("a process")?, Signal::INT)?;
    let ended = tokio::time::timeout(WITHIN, world.wait()).await.context("it does not end")??;
    ensure!(ended.success(), "it ended with {ended}: something was left");
    Ok(())
}

fn read(id: u32, minute: u64) -> anyhow::Result<Sample> {
    Ok(Sample {
        minute,
        resident_bytes: process::resident(id)?,
        descriptors: process::descriptors(id)?,
        threads: process::threads(id)?,
        processor_seconds: process::processor_time(id)?,
    })
}

fn table(samples: &[Sample]) -> String {
    let quarter = (samples.len() / 4).max(1);
    let (first, last) = (&samples[..quarter.min(samples.len())], &samples[samples.len().saturating_sub(quarter)..]);
    let mut text = format!("{:<24} {:>20} {:>20}\n", "WHAT", "FIRST QUARTER", "LAST QUARTER");
    let mut row = |what: &str, of: &dyn Fn(&Sample) -> u64| {
        let range = |samples: &[Sample]| {
            let (least, most) = (samples.iter().map(of).min(), samples.iter().map(of).max());
            format!("{} to {}", least.unwrap_or_default(), most.unwrap_or_default())
        };
        let _ = writeln!(text, "{what:<24} {:>20} {:>20}", range(first), range(last));
    };
    row("resident memory, kB", &|sample| sample.resident_bytes / 1000);
    row("file descriptors", &|sample| sample.descriptors as u64);
    row("threads", &|sample| sample.threads);
    if let Some(end) = samples.last() {
        let _ = writeln!(text, "processor time: {:.0} s in {} min", end.processor_seconds, end.minute);
    }
    text
}
