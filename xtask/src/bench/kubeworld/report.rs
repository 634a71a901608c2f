//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Value, json};
use world::Assets;

use super::Options;
use super::server::{Kind, Memory, Server, megabytes};

/// How much more than the real server kubeworld is to do in a second.
const RATE_GOAL: f64 = 10.0;

/// What part of the real server's memory kubeworld is to take at most.
const MEMORY_GOAL: f64 = 0.2;

/// One round of a measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) operations: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) server_cpu_seconds: f64,
    pub(super) client_cpu_seconds: f64,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e6
    }

    /// What an operation costs the server, in microseconds.
    fn cost(&self) -> f64 {
        self.server_cpu_seconds / self.operations as f64 * 1e6
    }

    pub(super) fn shown(&self) -> String {
        format!(
            "{}/s, {} µs of the server each; the client was busy for {:.0} %",
            number(self.rate()),
            number(self.cost()),
            100.0 * self.client_cpu_seconds / self.seconds
        )
    }

    fn to_json(self) -> Value {
        json!({
            "operations": self.operations, "bytes": self.bytes, "seconds": self.seconds,
            "serverCpuSeconds": self.server_cpu_seconds, "clientCpuSeconds": self.client_cpu_seconds,
        })
    }
}

/// All of it.
pub(super) struct Report {
    about: BTreeMap<&'static str, Value>,
    /// By the measure's name.
    pub(super) samples: BTreeMap<String, BTreeMap<Kind, Vec<Sample>>>,
    /// Resident sets of fresh servers, and of those that hold the objects.
    pub(super) before: BTreeMap<Kind, Memory>,
    pub(super) filled: BTreeMap<Kind, Memory>,
    objects: usize,
}

impl Report {
    pub(super) fn new(options: &Options, assets: &Assets) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let etcd = std::process::Command::new(assets.program("etcd")).arg("--version").output();
        let etcd = etcd.context("asking etcd for its version")?.stdout;
        let etcd = String::from_utf8_lossy(&etcd).lines().next().unwrap_or_default().to_owned();
        let cores = std::thread::available_parallelism().context("counting cores")?;
        let about = [
            ("cores", json!(cores.get())),
            ("processor", json!(model.trim_start_matches([' ', '\t', ':']))),
            ("kernel", json!(read("/proc/sys/kernel/osrelease").trim())),
            ("loadAtStart", json!(read("/proc/loadavg").trim())),
            ("profile", json!(if cfg!(debug_assertions) { "development" } else { "release" })),
            ("etcd", json!(etcd)),
            ("kubeworld", json!(env!("CARGO_PKG_VERSION"))),
            ("rounds", json!(options.rounds)),
            ("secondsOfWrites", json!(options.seconds)),
            ("objects", json!(options.objects)),
            ("watchers", json!(options.watchers)),
            ("eventsOfEachWatcher", json!(options.events)),
        ];
        let (before, filled) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { about: about.into(), samples: BTreeMap::new(), before, filled, objects: options.objects })
    }

    /// What the servers say that they are.
    pub(super) async fn versions(&mut self, servers: &[Server]) -> anyhow::Result<()> {
        for server in servers.iter().filter(|server| server.kind == Kind::Real) {
            let version = server.access.connect().await?.get("/version").await?;
            self.about.insert("kubeApiserver", version["gitVersion"].clone());
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> Value {
        let memory = |of: &BTreeMap<Kind, Memory>| -> Value {
            let each = of.iter().map(|(kind, memory)| {
                let parts: BTreeMap<&str, u64> = memory.of.iter().copied().collect();
                (kind.name().to_owned(), json!({"processes": parts, "sum": memory.sum()}))
            });
            Value::Object(each.collect())
        };
        let samples = self.samples.iter().map(|(measure, of)| {
            let of = of.iter().map(|(kind, samples)| {
                let rounds: Vec<Value> = samples.iter().map(|sample| sample.to_json()).collect();
                let median = json!({
                    "perSecond": median(samples, Sample::rate),
                    "megabytesPerSecond": median(samples, Sample::megabytes_per_second),
                    "serverCpuMicrosecondsEach": median(samples, Sample::cost),
                });
                (kind.name().to_owned(), json!({"rounds": rounds, "median": median}))
            });
            (measure.clone(), Value::Object(of.collect()))
        });
        json!({
            "about": self.about,
            "goals": {"rates": RATE_GOAL, "memory": MEMORY_GOAL},
            "residentBytesBefore": memory(&self.before),
            "residentBytesWithObjects": memory(&self.filled),
            "measures": Value::Object(samples.collect()),
        })
    }
}

/// The middle one of all rounds; of two the lesser.
fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut row = |cells: [&str; 5]| {
        let [what, own, real, ratio, goal] = cells;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{what:<44}  {own:>10}  {real:>22}  {ratio:>8}  {goal:>6}");
    };
    row(["what", Kind::Memory.name(), Kind::Real.name(), "ratio", "goal"]);
    let mut compare = |what: &str, measure: &str, against: Kind, goal: &str, of: &dyn Fn(&Sample) -> f64| {
        let value = |kind: Kind| median(report.samples.get(measure)?.get(&kind)?, of);
        let (Some(own), real) = (value(Kind::Memory), value(against)) else { return };
        let ratio = real.map(|real| number(own / real)).unwrap_or_default();
        row([what, &number(own), &real.map(number).unwrap_or_default(), &ratio, goal]);
    };
    let rates = format!("≥ {RATE_GOAL}");
    let in_order = ["creates, ", "applies, ", "list of ", "events to "];
    let measures: Vec<&String> =
        in_order.iter().flat_map(|word| report.samples.keys().filter(move |name| name.starts_with(word))).collect();
    for measure in &measures {
        if measure.starts_with("list") {
            let goal = format!("≤ {}", 1.0 / RATE_GOAL);
            compare(&format!("{measure}: ms"), measure, Kind::Real, &goal, &|sample| 1000.0 / sample.rate());
            compare(&format!("{measure}: MB/s"), measure, Kind::Real, &rates, &Sample::megabytes_per_second);
        } else {
            compare(&format!("{measure}: each second"), measure, Kind::Real, &rates, &Sample::rate);
        }
    }
    for measure in &measures {
        compare(&format!("{measure}: µs of the server"), measure, Kind::Real, "", &Sample::cost);
    }
    for measure in &measures {
        let without = Kind::RealWithoutSync;
        if report.samples.get(*measure).is_some_and(|of| of.contains_key(&without)) {
            compare(&format!("{measure}: etcd without fsync"), measure, without, "", &Sample::rate);
        }
    }
    let held = format!("memory with {} objects, MB", report.objects);
    for (what, of, goal) in [("memory at first, MB", &report.before, ""), (held.as_str(), &report.filled, "≤ 1/5")] {
        let Some(own) = of.get(&Kind::Memory) else { continue };
        let (mut real, mut ratio) = (String::new(), String::new());
        if let Some(memory) = of.get(&Kind::Real) {
            let parts: Vec<String> = memory.of.iter().map(|(_, bytes)| megabytes(*bytes)).collect();
            real = format!("{} = {}", parts.join(" + "), megabytes(memory.sum()));
            ratio = number(own.sum() as f64 / memory.sum() as f64);
        }
        row([what, &megabytes(own.sum()), &real, &ratio, goal]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let sample =
            |seconds| Sample { operations: 1, bytes: 0, seconds, server_cpu_seconds: 0.0, client_cpu_seconds: 0.0 };
        let seconds = |samples: &[Sample]| median(samples, |sample| sample.seconds);
        assert_eq!(seconds(&[sample(3.0), sample(1.0), sample(2.0)]), Some(2.0));
        assert_eq!(seconds(&[sample(2.0), sample(1.0)]), Some(1.0));
        assert_eq!(seconds(&[]), None);
    }
}
