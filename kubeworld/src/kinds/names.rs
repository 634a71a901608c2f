//! What names, labels, ports and addresses may look like, in the real server's words.
//!
//! Each check returns its reasons, since one value can be wrong in several ways.

use std::net::{IpAddr, Ipv4Addr};

use super::causes::{Causes, Path};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn too_long(most: usize) -> String {
    format!("must be no more than {most} characters")
}

/// The same for keys and values of labels, where the real server says bytes.
fn too_many_bytes(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// A reason that ends with examples and the expression.
fn by_regex(why: &str, regex: &str, examples: &[&str]) -> String {
    let examples = examples.iter().map(|one| format!("'{one}', ")).collect::<Vec<_>>().join(" or ");
    format!("{why} (e.g. {examples}regex used for validation is '{regex}')")
}

/// Lower case letters, digits and dashes, neither first nor last a dash.
pub(crate) fn is_label(value: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = value.as_bytes();
    bytes.first().is_some_and(|c| good(*c))
        && bytes.last().is_some_and(|c| good(*c))
        && bytes.iter().all(|c| good(*c) || *c == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_qualified(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

/// An RFC 1123 label.
pub(crate) fn dns_label(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > 63 {
        reasons.push(too_long(63));
    }
    if !is_label(value) {
        if is_subdomain(value) {
            reasons.push("must not contain dots".to_owned());
        } else {
            let why = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            reasons.push(by_regex(why, LABEL, &["my-name", "123-abc"]));
        }
    }
    reasons
}

/// An RFC 1123 subdomain.
pub(crate) fn dns_subdomain(value: &str) -> Vec<String> {
    subdomain(value, too_long)
}

fn subdomain(value: &str, at_most: fn(usize) -> String) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > 253 {
        reasons.push(at_most(253));
    }
    if !is_subdomain(value) {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        reasons.push(by_regex(why, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"]));
    }
    reasons
}

/// `*.example.com`.
pub(crate) fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > 253 {
        reasons.push(too_long(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let why = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        reasons.push(by_regex(why, &format!("\\*\\.{LABEL}(\\.{LABEL})*"), &["*.example.com"]));
    }
    reasons
}

/// A name that can stand in a URL's path.
pub(crate) fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].iter().filter(|bad| value.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// A label's key, which is also what is called a qualified name: `example.com/MyName`.
pub(crate) fn qualified(value: &str) -> Vec<String> {
    let why = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let regex = |why: &str| by_regex(why, QUALIFIED, &["MyName", "my.name", "123-abc"]);
    let mut reasons = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                reasons.push("prefix part must be non-empty".to_owned());
            } else {
                reasons.extend(subdomain(prefix, too_many_bytes).into_iter().map(|why| format!("prefix part {why}")));
            }
            name
        }
        _ => {
            let why = regex(why);
            return vec![format!(
                "a valid label key {why} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        reasons.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        reasons.push(format!("name part {}", too_many_bytes(63)));
    }
    if !is_qualified(name) {
        reasons.push(format!("name part {}", regex(why)));
    }
    reasons
}

/// A label's value.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > 63 {
        reasons.push(too_many_bytes(63));
    }
    if !value.is_empty() && !is_qualified(value) {
        let why = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        reasons.push(by_regex(why, &format!("({QUALIFIED})?"), &["MyValue", "my_value", "12345"]));
    }
    reasons
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > 253 {
        reasons.push(too_long(253));
    }
    if value.is_empty() || !value.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c)) {
        let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        reasons.push(by_regex(why, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => reasons.push("must not be '.'".to_owned()),
        ".." => reasons.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => reasons.push("must not start with '..'".to_owned()),
        _ => {}
    }
    reasons
}

/// The name of an environment variable.
pub(crate) fn variable(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.is_empty() {
        reasons.push("environment variable name must be non-empty".to_owned());
    }
    if value.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        reasons.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    reasons
}

/// The number of a port.
pub(crate) fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// The name of a port.
pub(crate) fn port_name(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > 15 {
        reasons.push(too_long(15));
    }
    if value.is_empty() || !value.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        reasons.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|c| c.is_ascii_lowercase()) {
        reasons.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        reasons.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        reasons.push("must not begin or end with a hyphen".to_owned());
    }
    reasons
}

/// `25%`.
pub(crate) fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    let why = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![by_regex(why, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub(crate) fn http_header(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Vec::new();
    }
    let why = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![by_regex(why, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// An address, as Go's sloppy parser reads it: leading zeros are allowed.
pub(crate) fn sloppy_ip(value: &str) -> Option<IpAddr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    let octets: Option<Vec<u8>> = value
        .split('.')
        .map(|part| if part.bytes().all(|c| c.is_ascii_digit()) { part.parse().ok() } else { None })
        .collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

/// An address, in the rules for fields that are older than the strict ones.
pub(crate) fn check_ip(causes: &mut Causes, path: Path<'_>, value: &str) -> bool {
    let Some(address) = sloppy_ip(value) else {
        causes.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        return false;
    };
    if value.parse::<IpAddr>().is_err() {
        causes.invalid(path, value, "must not have leading 0s");
        return false;
    }
    if let IpAddr::V6(address) = address
        && address.to_ipv4_mapped().is_some()
    {
        causes.invalid(path, value, "must not be an IPv4-mapped IPv6 address");
        return false;
    }
    true
}

/// A network, in the rules for fields that are older than the strict ones.
pub(crate) fn check_cidr(causes: &mut Causes, path: Path<'_>, value: &str) -> Option<ipnet::IpNet> {
    let parsed = value.split_once('/').and_then(|(address, length)| {
        let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|c| c.is_ascii_digit());
        ipnet::IpNet::new(sloppy_ip(address)?, if digits { length.parse().ok()? } else { return None }).ok()
    });
    let Some(network) = parsed else {
        causes.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return None;
    };
    if value.parse::<ipnet::IpNet>().is_err() {
        causes.invalid(path, value, "must not have leading 0s in IP or prefix length");
    } else if matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        causes.invalid(path, value, "must not have an IPv4-mapped IPv6 address");
    } else if network.addr() != network.network() {
        causes.invalid(path, value, "must not have bits set beyond the prefix length");
    }
    Some(network)
}

/// An address that traffic may be sent to.
pub(crate) fn check_endpoint_ip(causes: &mut Causes, path: Path<'_>, value: &str) {
    let Some(address) = sloppy_ip(value) else {
        causes.invalid(path, value, "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        causes.invalid(path, value, &format!("may not be unspecified ({value})"));
    }
    if address.is_loopback() {
        causes.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] == 0xff02),
    };
    if link_local {
        causes.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        causes.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
