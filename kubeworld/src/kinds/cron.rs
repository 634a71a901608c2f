//! Schedules of CronJobs, as the library that the real server uses reads them: five fields, names of months and days,
//! `@daily`, `@every 1h30m`.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _, civil::Weekday, tz::TimeZone};

/// When something happens again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// At certain minutes.
    Fields {
        minutes: u64,
        hours: u64,
        days: u64,
        months: u64,
        weekdays: u64,
        /// Either of the days was a star, so both must fit; else one is enough.
        any_day_starred: bool,
    },
    /// After so long.
    Every(Duration),
}

const NO_NAMES: &[&str] = &[];
const MONTHS: &[&str] = &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Reads a schedule, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Schedule, String> {
    let text = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        Some(zoned) => {
            let (zone, rest) = zoned
                .split_once(' ')
                .ok_or("invalid schedule format: runtime error: slice bounds out of range [:-1]")?;
            TimeZone::get(zone).map_err(|_| format!("provided bad location {zone}: unknown time zone {zone}"))?;
            rest.trim()
        }
        None => text,
    };
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    };
    let starred = |field: &str| field.split(',').any(|one| one == "*" || one == "?");
    Ok(Schedule::Fields {
        minutes: field(minutes, 0, 59, NO_NAMES)?,
        hours: field(hours, 0, 23, NO_NAMES)?,
        days: field(days, 1, 31, NO_NAMES)?,
        months: field(months, 1, 12, MONTHS)?,
        weekdays: field(weekdays, 0, 6, DAYS)?,
        any_day_starred: starred(days) || starred(weekdays),
    })
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    match text {
        "@yearly" | "@annually" => parse("0 0 1 1 *"),
        "@monthly" => parse("0 0 1 * *"),
        "@weekly" => parse("0 0 * * 0"),
        "@daily" | "@midnight" => parse("0 0 * * *"),
        "@hourly" => parse("0 * * * *"),
        _ => match text.strip_prefix("@every ") {
            Some(length) => match duration(length) {
                Some(length) => Ok(Schedule::Every(length.max(Duration::from_secs(1)))),
                None => Err(format!("failed to parse duration {text}: time: invalid duration {length:?}")),
            },
            None => Err(format!("unrecognized descriptor: {text}")),
        },
    }
}

/// Go's durations, down to the second: `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total).ok().map(|length| Duration::from_secs(length.as_secs()))
}

fn field(text: &str, min: u64, max: u64, names: &[&str]) -> Result<u64, String> {
    text.split(',').filter(|one| !one.is_empty()).try_fold(0, |bits, one| Ok(bits | range(one, min, max, names)?))
}

fn range(text: &str, min: u64, max: u64, names: &[&str]) -> Result<u64, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        (min, max)
    } else {
        let start = number(ends[0], names)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number(end, names)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                end = max;
            }
            number(step, NO_NAMES)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok((start..=end).step_by(step).fold(0, |bits, at| bits | 1 << at))
}

fn number(text: &str, names: &[&str]) -> Result<u64, String> {
    let lower = text.to_lowercase();
    if let Some(at) = names.iter().position(|name| !name.is_empty() && *name == lower) {
        return Ok(at as u64);
    }
    let parsed: i64 = text
        .parse()
        .map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))?;
    u64::try_from(parsed).map_err(|_| format!("negative number ({parsed}) not allowed: {text}"))
}

impl Schedule {
    /// The first time after `after`, in the zone's wall clock; `None` if it never comes (30 February).
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (minutes, hours, days, months, weekdays, starred) = match self {
            Self::Every(length) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(*length).ok();
            }
            Self::Fields { minutes, hours, days, months, weekdays, any_day_starred } => {
                (*minutes, *hours, *days, *months, *weekdays, *any_day_starred)
            }
        };
        let has = |bits: u64, at: i8| bits & (1 << at) != 0;
        let zoned = after.to_zoned(zone.clone());
        let mut at = zoned.datetime().checked_add(1.minute()).ok()?;
        at = at.date().at(at.hour(), at.minute(), 0, 0);
        let last = at.checked_add(5.years()).ok()?;
        while at <= last {
            if !has(months, at.month()) {
                at = at.date().first_of_month().checked_add(1.month()).ok()?.at(0, 0, 0, 0);
                continue;
            }
            let by_date = has(days, at.day());
            let by_weekday = has(weekdays, at.date().weekday().since(Weekday::Sunday));
            if !(if starred { by_date && by_weekday } else { by_date || by_weekday }) {
                at = at.date().tomorrow().ok()?.at(0, 0, 0, 0);
                continue;
            }
            if !has(hours, at.hour()) {
                at = at.date().at(at.hour(), 0, 0, 0).checked_add(1.hour()).ok()?;
                continue;
            }
            if !has(minutes, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
                continue;
            }
            return at.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
        }
        None
    }
}

#[cfg(test)]
mod tests;
