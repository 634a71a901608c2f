//! What a request asks for: its path and its query, taken apart.

use std::collections::BTreeMap;

use crate::status::Status;

/// A path under `/api/v1` or `/apis/GROUP/VERSION`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource (`proxy/…`).
    pub(crate) rest: String,
    /// The old way to watch: `/watch/` after the version.
    pub(crate) watch: bool,
}

/// Nothing where the path is no resource's.
pub(crate) fn target(path: &str) -> Option<Target> {
    let mut parts = path.trim_start_matches('/').split('/').filter(|part| !part.is_empty());
    let mut out = Target::default();
    match parts.next()? {
        "api" => out.version = decoded(parts.next()?),
        "apis" => {
            out.group = decoded(parts.next()?);
            out.version = decoded(parts.next()?);
        }
        _ => return None,
    }
    let mut rest: Vec<String> = parts.map(decoded).collect();
    if rest.first().is_some_and(|first| first == "watch") {
        out.watch = true;
        rest.remove(0);
    }
    // `namespaces/X` alone is an object; with more behind it, it is where the rest lies.
    let in_namespace = rest.len() >= 3
        && rest[0] == "namespaces"
        && !(rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize") && out.group.is_empty());
    if in_namespace {
        out.namespace = rest[1].clone();
        rest.drain(..2);
    }
    let mut rest = rest.into_iter();
    out.plural = rest.next()?;
    out.name = rest.next().unwrap_or_default();
    out.subresource = rest.next().unwrap_or_default();
    out.rest = rest.collect::<Vec<_>>().join("/");
    if out.group.is_empty() && out.plural == "namespaces" {
        out.namespace.clone_from(&out.name);
    }
    Some(out)
}

/// Percent-decoding of a segment; what is no escape stays.
fn decoded(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        let ahead = bytes.clone().take(2).collect::<Vec<_>>();
        let escaped = (byte == b'%' && ahead.len() == 2)
            .then(|| std::str::from_utf8(&ahead).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        match escaped {
            Some(escaped) => {
                out.push(escaped);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The parameters after the question mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub(crate) fn of(text: &str) -> Self {
        // Go drops what has a semicolon in it.
        let plain: Vec<&str> = text.split('&').filter(|pair| !pair.contains(';')).collect();
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&plain.join("&")).unwrap_or_default();
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            out.entry(key).or_default().push(value);
        }
        Self(out)
    }

    /// The first value; empty where there is none.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|values| values.first()).map_or("", String::as_str)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// As Go's query conversion reads booleans: absent and `false` and `0` are false, all else is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key).to_ascii_lowercase().as_str(), "false" | "0")
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 where it is none.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.get(key) {
            "" if !self.has(key) => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }
}

#[cfg(test)]
mod tests;
