//! Quantities: `500m`, `1Gi`, `1e3`.
//!
//! An amount is exact, in billionths, as `i128`: the real one's largest binary amount (2^63-1) and its finest grain (a
//! billionth) both fit. What does not fit is capped.

use std::fmt;

const NANO: i128 = 1_000_000_000;

/// An amount, and how it was written, which decides how it is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// In billionths.
    pub(crate) nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `12e6`
    Exponent,
    /// `12Mi`
    Binary,
    /// `12M`
    Decimal,
}

/// Reads a quantity as the real server does; `None` if it refuses it.
pub(crate) fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || number.is_empty() {
        return None;
    }
    let (base, exponent, format) = scale(suffix)?;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let fraction_len = i64::try_from(fraction.len()).ok()?;
    let mut nano = if digits.is_empty() {
        0
    } else if base == 2 {
        let unit = NANO.checked_mul(1_i128.checked_shl(u32::try_from(exponent).ok()?)?)?;
        scaled(digits, -fraction_len, unit)
    } else {
        scaled(digits, exponent.saturating_add(9).saturating_sub(fraction_len), 1)
    };
    if format == Format::Binary {
        nano = nano.min(i128::from(i64::MAX) * NANO);
    }
    let format = if format == Format::Binary && nano > 0 && nano < NANO { Format::Decimal } else { format };
    Some(Quantity { nano: if negative { -nano } else { nano }, format })
}

/// Why the real server refuses to read a text, if it does.
pub(crate) fn unreadable(text: &str) -> Option<&'static str> {
    const FORM: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    if parse(text).is_some() {
        return None;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let rest = unsigned.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let exponent = rest.trim_start_matches(|letter| "eEinumkKMGTP".contains(letter));
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let number = &unsigned[..unsigned.len() - rest.len()];
    let is_number = !number.is_empty() && number.matches('.').count() < 2;
    let whole = is_number && digits.bytes().all(|letter| letter.is_ascii_digit());
    Some(if whole { "unable to parse quantity's suffix" } else { FORM })
}

/// `digits × 10^exponent × unit`, rounded up, capped.
fn scaled(digits: &str, exponent: i64, unit: i128) -> i128 {
    const CAP: i128 = i128::MAX / 4;
    let mut value: i128 = 0;
    let mut exponent = exponent;
    let mut lost = false;
    for digit in digits.bytes() {
        match value.checked_mul(10).and_then(|value| value.checked_add(i128::from(digit - b'0'))) {
            Some(next) if next < CAP => value = next,
            Some(_) | None => {
                exponent += 1;
                lost |= digit != b'0';
            }
        }
    }
    let mut value = value.checked_mul(unit).unwrap_or(CAP);
    while exponent > 0 && value < CAP {
        value = value.saturating_mul(10).min(CAP);
        exponent -= 1;
    }
    while exponent < 0 && value > 0 {
        lost |= value % 10 != 0;
        value /= 10;
        exponent += 1;
        if value == 0 {
            break;
        }
    }
    if lost { value + 1 } else { value }
}

fn scale(suffix: &str) -> Option<(u8, i64, Format)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [(&str, i64); 10] =
        [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((10, *exponent, Format::Decimal));
    }
    if let Some(at) = BINARY.iter().position(|name| *name == suffix) {
        return Some((2, 10 * (i64::try_from(at).ok()? + 1), Format::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((10, exponent, Format::Exponent))
}

impl Quantity {
    /// The next thousandth.
    pub(crate) fn round_up_to_milli(self) -> Self {
        let milli = NANO / 1000;
        let rest = self.nano.rem_euclid(milli);
        if rest == 0 {
            return self;
        }
        let away = if self.nano > 0 { self.nano - rest + milli } else { self.nano - rest };
        Self { nano: away, ..self }
    }

    /// A whole number of something.
    pub(crate) fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum, written as the first is.
    pub(crate) fn plus(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }

    /// Equal amounts, however they are written.
    pub(crate) fn equals(self, other: Self) -> bool {
        self.nano == other.nano
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return out.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::Binary && !small && self.is_whole() {
            let mut value = self.nano / NANO;
            let mut step = 0;
            while value % 1024 == 0 && step < 6 {
                value /= 1024;
                step += 1;
            }
            return write!(out, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let mut value = self.nano;
        let mut exponent = -9;
        let most = if self.format == Format::Exponent { i32::MAX } else { 18 };
        while value % 1000 == 0 && exponent < most {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::Exponent {
            return if exponent == 0 { write!(out, "{value}") } else { write!(out, "{value}e{exponent}") };
        }
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        };
        write!(out, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests;
