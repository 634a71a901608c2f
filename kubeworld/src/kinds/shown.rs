//! Parts of objects as the real server shows them in some refusals.
//!
//! Where a rule holds a whole struct against a user, the real message has the server's internal struct as JSON: the
//! fields' names in Go, in Go's order, with all that is not set. The internal structs are close enough to the ones of
//! the API that `types.txt` tells them. Two of those are compared line by line, as the Go port of Python's difflib does.

use std::{collections::HashMap, fmt::Write as _, ops::Range};

/// JSON that keeps its order.
pub(super) enum Tree {
    Object(Vec<(String, Self)>),
    List(Vec<Self>),
    /// Already JSON.
    Leaf(String),
}

impl Tree {
    /// In one line.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// With one space for each level.
    fn lines(&self) -> Vec<String> {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out.lines().map(str::to_owned).collect()
    }

    fn write(&self, out: &mut String, level: Option<usize>) {
        let next = level.map(|level| level + 1);
        let break_line = |out: &mut String, level: Option<usize>| {
            if let Some(level) = level {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', level));
            }
        };
        match self {
            Self::Leaf(text) => out.push_str(text),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::Object(fields) if fields.is_empty() => out.push_str("{}"),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    break_line(out, next);
                    item.write(out, next);
                }
                break_line(out, level);
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    break_line(out, next);
                    out.push_str(&quoted(name));
                    out.push_str(if level.is_some() { ": " } else { ":" });
                    value.write(out, next);
                }
                break_line(out, level);
                out.push('}');
            }
        }
    }
}

/// A text as Go's JSON has it: fit for HTML.
pub(super) fn quoted(text: &str) -> String {
    let text = serde_json::Value::from(text).to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A field's name in Go, from the one in JSON.
pub(super) fn go_name(name: &str) -> String {
    const ABBREVIATIONS: [&str; 22] = [
        "api", "aws", "ca", "cidr", "csi", "dns", "fc", "fs", "gce", "grpc", "http", "id", "ip", "iscsi", "nfs", "os",
        "rbd", "tcp", "tls", "tty", "uid", "url",
    ];
    match name {
        "serviceAccount" => return "DeprecatedServiceAccount".to_owned(),
        "ips" => return "IPs".to_owned(),
        _ => {}
    }
    if let Some(rest) = name.strip_prefix("seLinux") {
        return format!("SELinux{rest}");
    }
    let word = name.find(|letter: char| letter.is_ascii_uppercase()).unwrap_or(name.len());
    let (first, rest) = name.split_at(word);
    if ABBREVIATIONS.contains(&first) {
        return first.to_ascii_uppercase() + rest;
    }
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |letter| format!("{}{}", letter.to_ascii_uppercase(), letters.as_str()))
}

/// What differs, with three lines around each difference.
pub(super) fn difference(old: &Tree, new: &Tree) -> String {
    const AROUND: usize = 3;
    let (old, new) = (old.lines(), new.lines());
    let mut same = Vec::new();
    match_lines(&old, &new, 0..old.len(), 0..new.len(), &lines_of(&new), &mut same);
    // The parts that differ, between those that do not.
    let mut changes: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let (mut in_old, mut in_new) = (0, 0);
    same.push((old.len(), new.len(), 0));
    for (at_old, at_new, length) in same {
        if in_old < at_old || in_new < at_new {
            changes.push((in_old..at_old, in_new..at_new));
        }
        (in_old, in_new) = (at_old + length, at_new + length);
    }
    let mut out = String::new();
    let mut rest = changes.as_slice();
    while let Some((first, _)) = rest.split_first() {
        let near = rest.windows(2).take_while(|pair| pair[1].0.start - pair[0].0.end <= 2 * AROUND).count();
        let (group, others) = rest.split_at(near + 1);
        rest = others;
        let last = &group[near];
        let before = AROUND.min(first.0.start);
        let after = AROUND.min(old.len() - last.0.end);
        let olds = first.0.start - before..last.0.end + after;
        let news = first.1.start - before..last.1.end + after;
        let _ = writeln!(out, "@@ -{} +{} @@", range(&olds), range(&news));
        let mut at = olds.start;
        let write = |out: &mut String, sign: char, lines: &[String]| {
            for line in lines {
                let _ = writeln!(out, "{sign}{line}");
            }
        };
        for (gone, came) in group {
            write(&mut out, ' ', &old[at..gone.start]);
            write(&mut out, '-', &old[gone.clone()]);
            write(&mut out, '+', &new[came.clone()]);
            at = gone.end;
        }
        write(&mut out, ' ', &old[at..olds.end]);
    }
    out
}

/// Lines as the head of a part names them.
fn range(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        length => format!("{},{length}", lines.start + 1),
    }
}

/// Where each line is, without those that are everywhere in a long text.
fn lines_of(lines: &[String]) -> HashMap<&str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if lines.len() >= 200 {
        places.retain(|_, at| at.len() <= lines.len() / 100 + 1);
    }
    places
}

/// The longest run that both have, then the same before and after it.
fn match_lines(
    old: &[String],
    new: &[String],
    olds: Range<usize>,
    news: Range<usize>,
    places: &HashMap<&str, Vec<usize>>,
    same: &mut Vec<(usize, usize, usize)>,
) {
    let (mut from_old, mut from_new, mut length) = (olds.start, news.start, 0);
    let mut runs: HashMap<usize, usize> = HashMap::new();
    for at in olds.clone() {
        let mut next = HashMap::new();
        for &place in places.get(old[at].as_str()).into_iter().flatten().filter(|place| news.contains(place)) {
            let run = place.checked_sub(1).and_then(|before| runs.get(&before)).copied().unwrap_or_default() + 1;
            next.insert(place, run);
            if run > length {
                (from_old, from_new, length) = (at + 1 - run, place + 1 - run, run);
            }
        }
        runs = next;
    }
    while from_old > olds.start && from_new > news.start && old[from_old - 1] == new[from_new - 1] {
        (from_old, from_new, length) = (from_old - 1, from_new - 1, length + 1);
    }
    while from_old + length < olds.end
        && from_new + length < news.end
        && old[from_old + length] == new[from_new + length]
    {
        length += 1;
    }
    if length == 0 {
        return;
    }
    match_lines(old, new, olds.start..from_old, news.start..from_new, places, same);
    same.push((from_old, from_new, length));
    match_lines(old, new, from_old + length..olds.end, from_new + length..news.end, places, same);
}
