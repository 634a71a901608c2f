//! Output: tables for people, JSON and YAML for programs. The only place that writes to stdout.

#![allow(clippy::print_stdout, reason = "printing is what this file is for")]

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::Output;

/// Writes `text` to stdout; a reader that went away (`| head`) is no error.
pub(super) fn text(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Puts `text` on the whole terminal, in place of what was there (ECMA-48: cursor home, erase below).
pub(super) fn screen(content: &str) -> Result<()> {
    text(&format!("\x1b[2J\x1b[H{content}"))
}

/// Writes each value as a YAML document.
pub(super) fn yaml_documents<T: Serialize>(values: &[T]) -> Result<()> {
    let mut all = String::new();
    for value in values {
        all += "---\n";
        all += &yaml(value)?;
    }
    text(&all)
}

/// Through JSON, so that nulls that Kubernetes leaves out are left out and keys keep one order.
fn yaml<T: Serialize>(value: &T) -> Result<String> {
    let value = serde_json::to_value(value)?;
    let mut out = serde_saphyr::to_string(&value).context("cannot write YAML")?;
    if !out.ends_with('\n') {
        out.push('\n');
    }
    Ok(out)
}

/// Writes a value in the form asked for; `table` makes the people's one.
pub(super) fn value<T: Serialize>(value: &T, output: Output, table: impl FnOnce() -> String) -> Result<()> {
    match output {
        Output::Table => text(&table()),
        Output::Json => text(&(serde_json::to_string_pretty(value)? + "\n")),
        Output::Yaml => text(&yaml(value)?),
    }
}

/// Columns as kubectl writes them: upper-case heads, three spaces between.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heads: Vec<String> = heads.iter().map(|h| (*h).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out += cells.join("   ").trim_end();
        out.push('\n');
    }
    out
}

/// A line to run, on stdout; around it words for people, on stderr, when somebody is there to read them.
pub(super) fn line_to_run(words: &str, line: &str) -> Result<()> {
    if std::io::stderr().is_terminal() {
        eprintln!("{words}");
    }
    text(&format!("{line}\n"))
}
