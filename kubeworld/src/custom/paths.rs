//! Paths within a schema: `.spec.color`, `.labels['a.b']`.

use serde_json::Value;

use crate::kinds::fields::{entries, has, option};

/// The field of a schema that a path leads to, and the path as messages have it.
///
/// # Errors
/// Why it leads nowhere, in the words of the real server.
pub(crate) fn field_path<'a>(path: &str, schema: &'a Value, brackets: bool) -> Result<(String, &'a Value), String> {
    let mut tokens = tokens(path).into_iter();
    let (mut found, mut node) = (String::new(), schema);
    while let Some(token) = tokens.next() {
        let name = match token.as_str() {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.filter(|_| quoted.len() >= 2);
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                unescaped(inner)?
            }
            "." => tokens.next().ok_or("unexpected end of JSON path")?,
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        if entries(node, "properties").next().is_some() {
            if !found.is_empty() {
                found.push('.');
            }
            found.push_str(&name);
            node = option(&node["properties"], &name).ok_or("does not refer to a valid field")?;
        } else if has(node, "additionalProperties") {
            found.push_str(&format!("[{name}]"));
            node = &node["additionalProperties"];
        } else {
            return Err("does not refer to a valid field".to_owned());
        }
        if token == "[" {
            match tokens.next().as_deref() {
                Some("]") => {}
                Some(other) => return Err(format!("expected ] but got {other}")),
                None => return Err("unexpected end of JSON path".to_owned()),
            }
        }
    }
    Ok((found, node))
}

/// Dots and brackets are tokens, and so is what lies between them; quotes hide them.
fn tokens(path: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for letter in path.chars() {
        let quoted = word.starts_with('\'');
        if quoted {
            word.push(letter);
            if letter == '\'' && before != '\\' && word.len() > 1 {
                out.push(std::mem::take(&mut word));
            }
        } else if matches!(letter, '.' | '[' | ']') {
            if !word.is_empty() {
                out.push(std::mem::take(&mut word));
            }
            out.push(letter.to_string());
        } else {
            word.push(letter);
        }
        before = letter;
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let Some(escaped) = letters.next() else {
            out.push('\\');
            break;
        };
        out.push(match escaped {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\'' | '\\' => escaped,
            other => return Err(format!("invalid string literal: invalid escape char \\{other}")),
        });
    }
    Ok(out)
}
