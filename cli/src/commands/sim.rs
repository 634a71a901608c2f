//! `isochrone sim`: the virtual world. Progress goes to stderr, counts to stdout.

use std::io::IsTerminal as _;

use anyhow::{Result, bail};
use sim::fuzz::{Failure, Outcome, Report};

use super::print;
use crate::args::FuzzArgs;

/// Between two lines of progress where nobody watches a terminal.
const EVERY: u64 = 100;

pub(super) fn fuzz(args: &FuzzArgs) -> Result<()> {
    let report = match args.seed {
        Some(seed) => replay(seed, args.trace)?,
        None => {
            let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
            let terminal = std::io::stderr().is_terminal();
            let progress = |done: u64| match terminal {
                true => eprint!("\r{done} of {} seeds", args.seeds),
                false if done.is_multiple_of(EVERY) => eprintln!("{done} of {} seeds", args.seeds),
                false => {}
            };
            let report = sim::fuzz::fuzz(args.first, args.seeds, jobs, &progress);
            if terminal {
                eprintln!();
            }
            report
        }
    };
    let outcome = report.outcome();
    print::value(&outcome, args.output, || table(&outcome))?;
    match &report.failure {
        Some(failure) => bail!("{}", explain(failure, args.trace)),
        None => Ok(()),
    }
}

fn replay(seed: u64, trace: bool) -> Result<Report> {
    let ran = sim::fuzz::run_seed(seed, trace);
    if trace {
        let lines: String = ran.trace.lines().flat_map(|line| [line, "\n"]).collect();
        print::text(&lines)?;
    }
    let failure = sim::fuzz::failure(seed, &ran);
    Ok(Report { seeds: 1, tally: ran.tally, failure })
}

fn table(outcome: &Outcome<'_>) -> String {
    let rows: Vec<Vec<String>> =
        outcome.counts.iter().map(|(what, count)| vec![(*what).to_owned(), count.to_string()]).collect();
    let head = format!("{} seeds, {} events\n\n", outcome.seeds, outcome.events);
    head + &print::table(&["WHAT HAPPENED", "TIMES"], &rows)
}

/// Everything that somebody needs to begin looking.
fn explain(failure: &Failure, traced: bool) -> String {
    let seconds = failure.at_ms as f64 / 1000.0;
    let mut text =
        format!("seed {} broke a promise at {seconds:.3} s: {}: {}\n", failure.seed, failure.invariant, failure.what);
    if !traced {
        text += "\nThe last that happened:\n";
        failure.last.iter().for_each(|line| text += &format!("  {line}\n"));
        text += &format!("\nReplay it: isochrone sim fuzz --seed {} --trace", failure.seed);
    }
    text
}
