use super::parse;

/// What comes back for what was written; from the documents of the real one and tried on it.
#[test]
fn canonical_forms() {
    for (given, expected) in [
        ("0", "0"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("100e1", "1e3"),
        ("0.1n", "1n"),
        ("1.1Ki", "1126400m"),
        ("500Ki", "500Ki"),
        ("512", "512"),
        ("0.5Gi", "512Mi"),
        ("1000Ki", "1000Ki"),
        ("8Ei", "9223372036854775807"),
        ("12E", "12E"),
        ("-1", "-1"),
        ("+1", "1"),
        ("00100", "100"),
        ("1023", "1023"),
        ("2048", "2048"),
        ("0Gi", "0"),
        ("1Ki", "1Ki"),
        ("0.0001", "100u"),
    ] {
        assert_eq!(parse(given).unwrap().to_string(), expected, "{given}");
    }
}

#[test]
fn refused() {
    for given in ["", "abc", "1.2.3", "1 Gi", "1gi", "1e", "--1", "1KiB", "-"] {
        assert_eq!(parse(given), None, "{given}");
    }
}

#[test]
fn never_panics() {
    for given in ["9".repeat(400), "1e999999999999".to_owned(), "1e-99999".to_owned(), format!("1{}E", "0".repeat(90))]
    {
        let _ = parse(&given).map(|quantity| quantity.to_string());
    }
}
