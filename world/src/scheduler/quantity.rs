//! Kubernetes quantities as numbers.

/// The amount in thousandths, rounded up as Kubernetes does: `100m` is 100, `1` is 1,000, `1Ki` is 1,024,000.
///
/// `None` for what is no quantity, or does not fit.
pub(super) fn thousandths(text: &str) -> Option<i128> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(split)?;
    let (numerator, decimals) = decimal(number)?;
    let (factor, exponent) = factor(suffix)?;
    // Thousandths, hence three more.
    let power = exponent.checked_add(3)?.checked_sub(decimals)?;
    let value = numerator.checked_mul(factor)?;
    let scale = 10_i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 {
        return value.checked_mul(scale);
    }
    let rest = i128::from(value.rem_euclid(scale) != 0);
    Some(value.div_euclid(scale) + rest)
}

/// `1.25` is (125, 2).
fn decimal(text: &str) -> Option<(i128, i32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.chars().all(|c| c.is_ascii_digit()) || (fraction.is_empty() && whole.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some((digits, i32::try_from(fraction.len()).ok()?))
}

/// The suffix as a factor and a power of ten.
fn factor(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| 1_i128 << (10 * power);
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (binary(1), 0),
        "Mi" => (binary(2), 0),
        "Gi" => (binary(3), 0),
        "Ti" => (binary(4), 0),
        "Pi" => (binary(5), 0),
        "Ei" => (binary(6), 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("5.", Some(5000)),
            ("0.5Gi", Some((1 << 29) * 1000)),
            ("1Ki", Some(1_024_000)),
            ("2k", Some(2_000_000)),
            ("1e3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("12e-1", Some(1200)),
            ("1u", Some(1)),
            ("1500u", Some(2)),
            ("-1500u", Some(-1)),
            ("+3", Some(3000)),
            ("8Ei", Some((1 << 63) * 1000)),
            ("", None),
            (".", None),
            ("m", None),
            ("1x", None),
            ("1ki", None),
            ("1.-5", None),
            ("1e", None),
            ("1e99", None),
            ("1e-99", None),
            ("1e2147483647", None),
            ("ä", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
