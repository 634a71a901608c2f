//! Durations as people write them: `15ms`, `30s`, `1m30s`.

use std::time::Duration;

/// The pattern that the CRDs hold durations to. Whole numbers and units, largest first; bounded, so that CEL may walk
/// it.
pub(super) const PATTERN: &str = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?$";

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration: write whole numbers with units, largest first, such as 15ms, 30s or 1m30s")]
pub struct DurationError {
    /// What was written.
    pub text: String,
}

/// Parses `1h2m3s4ms`; every part may be left out, but not all of them.
///
/// # Errors
/// [`DurationError`] when the text has another shape.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError { text: text.to_owned() };
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let (mut rest, mut next_unit, mut total) = (text, 0, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..digits + letters];
        let index = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if index < next_unit {
            return Err(wrong());
        }
        next_unit = index + 1;
        total = number.checked_mul(UNITS[index].1).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
        rest = &rest[digits + letters..];
    }
    if next_unit == 0 { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [("15ms", 15), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_what_could_mean_two_things() {
        for text in ["", "15", "s", "1.5s", "30s1m", "1m1m", "-1s", "1d", "15 ms", "ß"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
