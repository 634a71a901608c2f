//! `fuzz FIRST COUNT`: what `isochrone sim fuzz --first FIRST --seeds COUNT -o json` prints, without the rest of
//! `isochrone`, so that `cargo xtask mutations` builds no more than it runs. Ends with 0 whether a seed failed or not:
//! whoever reads it looks into the outcome, and anything else is a fault of the program itself.

use std::error::Error;
use std::io::Write as _;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [first, count] = numbers[..] else { return Err("usage: fuzz FIRST COUNT".into()) };
    let jobs = std::thread::available_parallelism().map_or(1, Into::into);
    let report = sim::fuzz::fuzz(first, count, jobs, &|_| {});
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &report.outcome())?;
    out.write_all(b"\n")?;
    Ok(())
}
