//! What differs between two texts, line by line.

/// Lines of `expected` that are missing begin with `-`, those that `got` has instead with `+`; what is equal is left
/// out but for a line around each difference.
pub(crate) fn diff(expected: &str, got: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    // Lengths of the longest common subsequences of what follows.
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |at: usize| lines[at.saturating_sub(1)..(at + 2).min(lines.len())].iter().any(|line| line.0 != ' ');
    let shown = (0..lines.len()).filter(|at| near(*at)).map(|at| format!("    {} {}", lines[at].0, lines[at].1));
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_diff_shows_what_is_missing_and_what_is_there_instead() {
    assert_eq!(diff("a\nb\nc\nd\ne", "a\nb\nx\nd\ne"), "      b\n    - c\n    + x\n      d");
    assert_eq!(diff("a", "a"), "");
}
