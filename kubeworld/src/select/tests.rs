use super::*;

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn label_selectors_match_as_they_say() {
    let own = labels(&[("app", "shop"), ("tier", "3"), ("x.io/y", "")]);
    let cases = [
        ("", true),
        ("app=shop", true),
        ("app==shop,tier=3", true),
        ("app!=shop", false),
        ("other!=x", true),
        ("app in (a, shop)", true),
        ("app notin (a,shop)", false),
        ("zone notin (a)", true),
        ("app", true),
        ("!app", false),
        ("!zone", true),
        ("tier>2", true),
        ("tier<2", false),
        ("x.io/y=", true),
    ];
    for (text, expected) in cases {
        assert_eq!(Labels::parse(text).unwrap().matches(&own), expected, "{text}");
    }
    for text in ["a b", "a in b", "=x", "a=!", "a in (b", "-a", "x/y/z=1", "a>b"] {
        assert!(Labels::parse(text).is_err(), "{text}");
    }
}

#[test]
fn field_selectors_match_as_they_say() {
    let value = |field: &str| if field == "metadata.name" { "a".to_owned() } else { String::new() };
    for (text, expected) in [("metadata.name=a", true), ("metadata.name!=a", false), ("spec.nodeName=", true)] {
        assert_eq!(Fields::parse(text).unwrap().matches(value), expected, "{text}");
    }
    assert!(Fields::parse("nonsense").is_err());
}
