//! `format` of a schema: which ones are looked at, and what they ask of a text.

use std::net::Ipv6Addr;
use std::sync::OnceLock;

use regex::Regex;

use crate::kinds::sloppy_ip;

/// Formats of texts that a real server of this version knows, without dashes.
const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Whether a format means something for values of a type. Others are only words.
pub(crate) fn is_known_format(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a text has a format.
pub(super) fn has_format(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.contains('.') && sloppy_ip(text).is_some(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "isbn" => is_isbn_10(text) || is_isbn_13(text),
        "isbn10" => is_isbn_10(text),
        "isbn13" => is_isbn_13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => {
            let digits: Vec<&str> = text.split(['-', ' ']).collect();
            let all = digits.concat();
            all.len() == 9 && all.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 9 || digits.len() == 3)
        }
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "rgbcolor" => is_rgb(text),
        "byte" => is_base64(text),
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "k8sshortname" => text.len() <= 63 && is_name(text),
        "k8slongname" => text.len() <= 253 && text.split('.').all(is_name),
        _ => true,
    }
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| good(*byte))
        && bytes.last().is_some_and(|byte| good(*byte))
        && bytes.iter().all(|byte| good(*byte) || *byte == b'-')
}

/// What a request line may have: an absolute path, or a scheme.
fn is_uri(text: &str) -> bool {
    let printable = text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    let schemed = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
    });
    printable && (text.starts_with('/') || schemed)
}

fn is_email(text: &str) -> bool {
    let address = match text.rsplit_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => text,
    };
    let word = |word: &str| {
        !word.is_empty()
            && word.split('.').all(|part| !part.is_empty())
            && word.chars().all(|letter| !letter.is_whitespace() && !"()<>[]:;@\\,\"".contains(letter))
    };
    address.rsplit_once('@').is_some_and(|(local, domain)| word(local) && word(domain))
}

fn is_hostname(text: &str) -> bool {
    static NAME: OnceLock<Option<Regex>> = OnceLock::new();
    let name = NAME.get_or_init(|| {
        Regex::new(
            r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
        )
        .ok()
    });
    name.as_ref().is_none_or(|name| name.is_match(text))
        && text.len() <= 255
        && text.split('.').all(|one| one.len() <= 63)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match sloppy_ip(address) {
        Some(std::net::IpAddr::V4(_)) => 32,
        Some(std::net::IpAddr::V6(_)) => 128,
        None => return false,
    };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    digits && length.parse::<u32>().is_ok_and(|length| length <= most)
}

fn is_mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = |separator: char| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|part| hex(part, 2))
    };
    let fours: Vec<&str> = text.split('.').collect();
    pairs(':') || pairs('-') || (matches!(fours.len(), 3 | 4 | 10) && fours.iter().all(|part| hex(part, 4)))
}

/// Dashes may be left out.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut rest = text;
    let mut digits = String::new();
    for length in [8, 4, 4, 4, 12] {
        if !digits.is_empty() {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((group, after)) = rest.split_at_checked(length) else { return false };
        digits.push_str(group);
        rest = after;
    }
    let variant = || digits.chars().nth(16).is_some_and(|digit| "89abAB".contains(digit));
    rest.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && version.is_none_or(|version| digits.chars().nth(12) == Some(version) && (version == '3' || variant()))
}

fn digits_of(text: &str) -> Vec<u32> {
    text.chars().filter(|letter| !matches!(letter, '-' | ' ')).map(|letter| letter.to_digit(10).unwrap_or(99)).collect()
}

fn is_isbn_10(text: &str) -> bool {
    let mut digits = digits_of(text);
    if text.ends_with(['x', 'X'])
        && let Some(last) = digits.last_mut()
    {
        *last = 10;
    }
    let valid = |(at, digit): (usize, &u32)| *digit < 10 || (*digit == 10 && at == 9);
    digits.len() == 10
        && digits.iter().enumerate().all(valid)
        && digits.iter().zip((1..=10).rev()).map(|(digit, weight)| digit * weight).sum::<u32>().is_multiple_of(11)
}

fn is_isbn_13(text: &str) -> bool {
    let digits = digits_of(text);
    digits.len() == 13
        && digits.iter().all(|digit| *digit < 10)
        && digits
            .iter()
            .zip([1, 3].into_iter().cycle())
            .map(|(digit, weight)| digit * weight)
            .sum::<u32>()
            .is_multiple_of(10)
}

/// By its length and its check digit.
fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|letter| letter.to_digit(10)).collect();
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    (13..=16).contains(&digits.len()) && sum.is_multiple_of(10)
}

fn is_rgb(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|part| part.trim_end_matches('%').parse::<u8>().is_ok())
    })
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((date, time)) = text.split_once('t') else { return false };
    if !is_date(date) {
        return false;
    }
    let Some((clock, zone)) = time.split_at_checked(8) else { return false };
    let parts: Vec<&str> = clock.split(':').collect();
    let two = |part: &str, most: u8| part.len() == 2 && part.parse::<u8>().is_ok_and(|number| number <= most);
    let [hours, minutes, seconds] = parts.as_slice() else { return false };
    let fraction = zone.trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
    let offset = fraction.strip_prefix(['+', '-']).and_then(|offset| offset.split_once(':'));
    let zoned = fraction == "z" || offset.is_some_and(|(hours, minutes)| two(hours, 99) && two(minutes, 99));
    two(hours, 23) && two(minutes, 59) && two(seconds, 59) && zoned
}

/// As Go writes them (`1h30m`), or as Scala does (`3 days`).
fn is_duration(text: &str) -> bool {
    is_go_duration(text) || is_long_duration(text)
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        if !digits.bytes().any(|byte| byte.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return false;
        }
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"].into_iter().find(|unit| {
            let next = after.strip_prefix(unit);
            next.is_some_and(|next| {
                next.is_empty() || next.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.')
            })
        });
        let Some(unit) = unit else { return false };
        rest = &after[unit.len()..];
    }
    true
}

fn is_long_duration(text: &str) -> bool {
    static PART: OnceLock<Option<Regex>> = OnceLock::new();
    let part = PART.get_or_init(|| {
        Regex::new(
            r"(?i)(\d+)\s*(ns|nanos?(econds?)?|us|µs|micros?(econds?)?|ms|millis?(econds?)?|secs?|seconds?|s|mins?|minutes?|m|hrs?|hours?|h|days?|d|weeks?|wks?|w)\b",
        )
        .ok()
    });
    part.as_ref().is_some_and(|part| part.is_match(text))
}
