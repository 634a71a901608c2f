use jiff::tz::TimeZone;

use super::parse;

#[test]
fn next_times() {
    for (schedule, after, expected) in [
        ("* * * * *", "2026-11-26T16:30:20Z", "2026-11-26T16:31:00Z"),
        ("*/5 * * * *", "2026-11-26T16:30:00Z", "2026-11-26T16:35:00Z"),
        ("0 0 1 1 *", "2026-11-26T16:30:00Z", "2027-01-01T00:00:00Z"),
        ("0 12 * * mon-fri", "2026-11-27T12:00:00Z", "2026-11-30T12:00:00Z"),
        ("30 2 29 feb *", "2026-11-27T12:00:00Z", "2028-02-29T02:30:00Z"),
        ("0 0 13 * fri", "2026-11-28T00:00:00Z", "2026-12-04T00:00:00Z"),
        ("@hourly", "2026-11-27T12:59:59Z", "2026-11-27T13:00:00Z"),
        ("@every 90s", "2026-11-27T12:00:00.5Z", "2026-11-27T12:01:30Z"),
    ] {
        let next = parse(schedule).unwrap().next(after.parse().unwrap(), &TimeZone::UTC);
        assert_eq!(next.unwrap().to_string(), expected, "{schedule}");
    }
    assert_eq!(parse("0 0 30 2 *").unwrap().next("2026-11-27T12:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
}

#[test]
fn refusals() {
    for (schedule, expected) in [
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@never", "unrecognized descriptor: @never"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
    ] {
        assert_eq!(parse(schedule), Err(expected.to_owned()), "{schedule}");
    }
}
