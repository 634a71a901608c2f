//! Times as the API writes them (RFC 3339, in UTC).

use jiff::Timestamp;

/// To the second, as `metav1.Time`.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// To the microsecond, as `metav1.MicroTime`.
pub(crate) fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
