//! ConfigMaps and Secrets.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    causes::{Causes, Path},
    fields::{at, entries, has, text, truth},
    names,
};

/// One MiB, for all the data of one object.
const DATA_BYTES_MAX: usize = 1 << 20;

/// How many bytes some base64 stands for, without decoding it.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default().trim_end_matches('=');
    text.len() * 3 / 4
}

/// A ConfigMap's data.
pub(super) fn check_config_map(causes: &mut Causes, map: &Value) {
    let (plain, binary) = (Path::root("data"), Path::root("binaryData"));
    let mut bytes = 0;
    for (key, value) in entries(map, "data") {
        causes.each_invalid(plain.key(key), key, names::config_key(key));
        if map.get("binaryData").and_then(|data| data.get(key)).is_some() {
            causes.invalid(plain.key(key), key.as_str(), "duplicate of key present in binaryData");
        }
        bytes += value.as_str().unwrap_or_default().len();
    }
    for (key, value) in entries(map, "binaryData") {
        causes.each_invalid(binary.key(key), key, names::config_key(key));
        bytes += decoded_len(value);
    }
    if bytes > DATA_BYTES_MAX {
        causes.too_long(Path::root(""), DATA_BYTES_MAX);
    }
}

/// What `immutable` forbids.
pub(super) fn check_immutable(causes: &mut Causes, new: &Value, old: &Value, parts: &[&str]) {
    if !truth(old, "immutable") {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !truth(new, "immutable") {
        causes.forbidden(Path::root("immutable"), why);
    }
    for part in parts {
        if new.get(part) != old.get(part) {
            causes.forbidden(Path::root(part), why);
        }
    }
}

/// A Secret's data, and what its type asks for.
pub(super) fn check_secret(causes: &mut Causes, secret: &Value) {
    let path = Path::root("data");
    let data = at(secret, &["data"]);
    let mut bytes = 0;
    for (key, value) in entries(secret, "data") {
        causes.each_invalid(path.key(key), key, names::config_key(key));
        bytes += decoded_len(value);
    }
    if bytes > DATA_BYTES_MAX {
        causes.too_long(path, DATA_BYTES_MAX);
    }
    match text(secret, "type") {
        "kubernetes.io/service-account-token" => {
            let annotations = at(secret, &["metadata", "annotations"]);
            if text(annotations, "kubernetes.io/service-account.name").is_empty() {
                let path = Path::root("metadata.annotations");
                causes.required(path.key("kubernetes.io/service-account.name"), "");
            }
        }
        "kubernetes.io/dockercfg" => check_docker(causes, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => check_docker(causes, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has(data, "username") && !has(data, "password") => {
            causes.required(path.key("username"), "");
            causes.required(path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
            causes.required(path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !has(data, key) {
                    causes.required(path.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn check_docker(causes: &mut Causes, data: &Value, key: &str) {
    let path = Path::root("data");
    if !has(data, key) {
        causes.required(path.key(key), "");
        return;
    }
    let bytes = STANDARD.decode(text(data, key)).unwrap_or_default();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => {}
        Ok(other) => {
            let kind = match other {
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Bool(_) => "bool",
                Value::Number(_) | Value::Null | Value::Object(_) => "number",
            };
            let why = format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}");
            causes.invalid(path.key(key), "<secret contents redacted>", &why);
        }
        Err(_) => {
            let why = go_syntax_error(&bytes);
            causes.invalid(path.key(key), "<secret contents redacted>", &why);
        }
    }
}

/// What Go says of bytes that are not JSON, for the cases that people meet.
fn go_syntax_error(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    let Some(first) = bytes.first() else { return "unexpected end of JSON input".to_owned() };
    let literal = match first {
        b't' => "true",
        b'f' => "false",
        b'n' => "null",
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' => return "unexpected end of JSON input".to_owned(),
        other => return format!("invalid character '{}' looking for beginning of value", char::from(*other)),
    };
    match bytes.iter().zip(literal.bytes()).find(|(found, expected)| **found != *expected) {
        Some((found, expected)) => {
            let (found, expected) = (char::from(*found), char::from(expected));
            format!("invalid character '{found}' in literal {literal} (expecting '{expected}')")
        }
        None => "unexpected end of JSON input".to_owned(),
    }
}
