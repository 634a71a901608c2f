//! What a process takes, as Linux tells it in /proc (proc(5)).

use anyhow::Context as _;

/// In how many parts of a second Linux tells processes' times, on every machine that it runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Its resident memory, in bytes.
pub(super) fn resident(pid: u32) -> anyhow::Result<u64> {
    Ok(of_status(pid, "VmRSS:")? * 1024)
}

/// Its threads.
pub(super) fn threads(pid: u32) -> anyhow::Result<u64> {
    of_status(pid, "Threads:")
}

/// Its open file descriptors.
pub(super) fn descriptors(pid: u32) -> anyhow::Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(std::fs::read_dir(&path).with_context(|| format!("reading {path}"))?.count())
}

fn of_status(pid: u32, field: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    number_of(&text, field).with_context(|| format!("{path} has no {field}"))
}

fn number_of(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// What it has spent since it started, its own and on its behalf, in seconds.
pub(super) fn processor_time(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    ticks_of(&text).map(|ticks| ticks as f64 / TICKS_PER_SECOND).with_context(|| format!("{path} has no times"))
}

/// `utime` and `stime`, the 14th and 15th field; the second is a name in parentheses, which may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 200";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(number_of("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1234));
        let own = std::process::id();
        assert!(resident(own).unwrap() > 0 && threads(own).unwrap() > 0 && descriptors(own).unwrap() > 0);
        assert!(processor_time(own).unwrap() >= 0.0);
    }
}
