use super::*;

#[test]
fn spans_have_two_or_three_figures() {
    let (minute, hour, day) = (60, 3600, 86_400);
    for (seconds, expected) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * minute, "2m"),
        (2 * minute + 1, "2m1s"),
        (9 * minute + 59, "9m59s"),
        (10 * minute + 59, "10m"),
        (3 * hour - 1, "179m"),
        (3 * hour, "3h"),
        (3 * hour + 5 * minute, "3h5m"),
        (8 * hour - 1, "7h59m"),
        (8 * hour + 30 * minute, "8h"),
        (47 * hour, "47h"),
        (48 * hour, "2d"),
        (49 * hour, "2d1h"),
        (8 * day - 1, "7d23h"),
        (8 * day + hour, "8d"),
        (729 * day, "729d"),
        (730 * day, "2y"),
        (731 * day, "2y1d"),
        (8 * 365 * day + day, "8y"),
    ] {
        assert_eq!(human(seconds * SECOND), expected, "{seconds} s");
    }
}

#[test]
fn a_moment_before_its_time_is_now() {
    assert_eq!(human(-SECOND / 2), "0s");
    assert_eq!(since(Timestamp::MAX, Timestamp::MIN), "<invalid>");
    assert_eq!(since(Timestamp::MIN, Timestamp::MAX), "20012y");
}
