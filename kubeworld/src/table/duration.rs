//! Spans of time with two or three significant figures, as `kubectl get` shows ages.

use jiff::Timestamp;

/// How long ago `time` was.
pub(super) fn since(time: Timestamp, now: Timestamp) -> String {
    human(now.as_nanosecond().saturating_sub(time.as_nanosecond()))
}

const SECOND: i128 = 1_000_000_000;

/// A span in nanoseconds. Up to two seconds before its time counts as now: clocks differ.
pub(super) fn human(nanoseconds: i128) -> String {
    let seconds = nanoseconds / SECOND;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    // The finer unit is left out where it is nought.
    let two = |coarse: i128, unit: &str, fine: i128, fine_unit: &str| match fine {
        0 => format!("{coarse}{unit}"),
        fine => format!("{coarse}{unit}{fine}{fine_unit}"),
    };
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if nanoseconds < 0 => "0s".to_owned(),
        () if seconds < 2 * 60 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 3 * 60 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(days, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{days}d"),
        () if hours < 24 * 365 * 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests;
