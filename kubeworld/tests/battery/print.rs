//! JSON as text for people: YAML's block style where it does not fit on a line, JSON where it does.

use serde_json::Value;

/// As wide as the files may be, less the indentation of an answer.
const WIDTH: usize = 112;

/// Prints a value; one line where it fits.
pub(crate) fn print(value: &Value) -> String {
    let mut out = String::new();
    if value.as_object().is_some_and(|map| !map.is_empty()) {
        // The top of an answer is read most: a line for each of its fields.
        block(value, 0, &mut out);
    } else {
        node(value, 0, 0, &mut out);
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    out.push_str(&margin);
                }
                let key = scalar(key);
                out.push_str(&key);
                out.push(':');
                // Column definitions and field sets are long and seldom read: a line each.
                let one_line = key == "fieldsV1";
                let list = value.is_array();
                let deeper = if list { indent } else { indent + 2 };
                if one_line || fits(value, indent + key.len() + 2) {
                    out.push(' ');
                    out.push_str(&flow(value));
                    out.push('\n');
                } else {
                    out.push('\n');
                    out.push_str(&" ".repeat(deeper));
                    let lines_of_one = key == "columnDefinitions" || key == "managedFields";
                    if let (true, Value::Array(items)) = (lines_of_one, value) {
                        let lines: Vec<String> = items.iter().map(|item| format!("- {}\n", flow(item))).collect();
                        out.push_str(&lines.join(&" ".repeat(deeper)));
                    } else {
                        block(value, deeper, out);
                    }
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(&margin);
                }
                out.push_str("- ");
                node(item, indent + 2, indent + 2, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&flow(value));
            out.push('\n');
        }
    }
}

fn node(value: &Value, column: usize, indent: usize, out: &mut String) {
    if fits(value, column) {
        out.push_str(&flow(value));
        out.push('\n');
    } else {
        block(value, indent, out);
    }
}

fn fits(value: &Value, column: usize) -> bool {
    match value {
        Value::Object(map) if map.is_empty() => true,
        Value::Array(items) if items.is_empty() => true,
        Value::Object(_) | Value::Array(_) => column + flow(value).len() <= WIDTH,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// JSON on one line, without the quotes that YAML does not need.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<_> = map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./<>+ ".contains(c);
    let word = text.chars().all(|c| plain(c) || "()$%=@;".contains(c))
        && text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || "<./".contains(c))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    // What the fieldsV1 format makes of keys is plain too: `f:a`, `k:{…}` needs its quotes.
    let field = text.strip_prefix("f:").is_some_and(|rest| rest.chars().all(plain));
    if word || field { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}

#[test]
fn what_fits_stands_on_one_line() {
    let value = serde_json::json!({"a": {"b": [1, "x"]}, "c": "1", "d": ["y".repeat(100), "z".repeat(20)]});
    let expected = format!("a: {{b: [1, x]}}\nc: \"1\"\nd:\n- {}\n- {}\n", "y".repeat(100), "z".repeat(20));
    assert_eq!(print(&value), expected);
}
