use super::copy::apply;
use super::fault::{Finding, Promise};
use super::*;

#[test]
fn every_fault_still_applies() {
    let workspace = workspace();
    for fault in read_faults(&workspace).unwrap() {
        let applies = apply(&workspace, &fault.path, &["--check"]).unwrap();
        assert_eq!(applies, Applies::Yes, "{}: make it anew against the rules as they are now", fault.path.display());
    }
}

#[test]
fn every_promise_has_a_fault_that_breaks_it() {
    let watched: BTreeSet<Promise> =
        sim::checkers::all().iter().map(|checker| Promise::of_checker(checker.name())).collect();
    let faults = read_faults(&workspace()).unwrap();
    let broken: BTreeSet<Promise> = faults.into_iter().map(|fault| fault.caught_by).collect();
    assert_eq!(broken, watched);
}

#[test]
fn what_the_simulator_writes_is_what_is_judged() {
    let failure = sim::fuzz::Failure {
        seed: 7,
        invariant: "9 a name keeps its answer".into(),
        at_ms: 21_500,
        what: "no answer any more".into(),
        last: vec!["a line".into()],
    };
    let finding = Finding { seed: 7, invariant: failure.invariant.clone(), what: failure.what.clone() };
    for (failure, expected) in [(None, None), (Some(failure), Some(finding))] {
        let report = sim::fuzz::Report { seeds: 9, failure, ..Default::default() };
        let written = serde_json::to_vec(&report.outcome()).unwrap();
        assert_eq!(Outcome::read(&written).unwrap().finding, expected);
    }
}

#[test]
fn what_is_no_outcome_is_no_clean_fuzz() {
    for (json, expected) in [
        ("", "reading the outcome"),
        ("{}", "ran no seed"),
        (r#"{"seeds": 0}"#, "ran no seed"),
        (r#"{"seeds": 3, "failure": {"seed": 2, "what": "x"}}"#, "cannot be read"),
    ] {
        let error = format!("{:#}", Outcome::read(json.as_bytes()).unwrap_err());
        assert!(error.contains(expected), "{json}: {error}");
    }
}

fn header(text: &str) -> anyhow::Result<Fault> {
    Fault::parse("a", Path::new("a.patch"), text)
}

const WHOLE: &str =
    "Fault: it is wrong,\n  and more.\nCaught-by: invariant 9\nSeeds: 20\n\ndiff --git a/x b/x\nSeeds: 1\n";

#[test]
fn a_header_says_what_is_wrong_and_who_finds_it() {
    let expected = Fault {
        name: "a".into(),
        path: "a.patch".into(),
        text: "it is wrong, and more.".into(),
        caught_by: Promise::Invariant(9),
        seeds: 20,
    };
    assert_eq!(header(WHOLE).unwrap(), expected);
    let other = header(&WHOLE.replace("invariant 9", "convergence")).unwrap();
    assert_eq!(other.caught_by, Promise::Other("convergence".into()));
}

#[test]
fn a_header_that_lacks_something_says_what() {
    for (is, shall_be, expected) in [
        ("Fault: it is wrong,\n  and more.\n", "", "no line `Fault"),
        ("and more.", "and more", "no sentence"),
        ("Caught-by: invariant 9\n", "", "no line `Caught-by"),
        ("invariant 9", "9", ""),
        ("invariant 9", "invariant nine", "no number"),
        ("invariant 9", "the ninth", "neither"),
        ("Seeds: 20\n", "", "no line `Seeds"),
        ("Seeds: 20", "Seeds: many", "seeds"),
        ("Seeds: 20", "Seeds: 0", "no seed finds"),
        ("Seeds: 20", "Seeds: 20\nSeeds: 30", "second time"),
        ("Seeds: 20", "Seed: 20", "no line of a header"),
        ("\n  and more", "\nand more", "no line of a header"),
        ("diff --git", "diff", "no line of a header"),
        ("diff --git a/x b/x\nSeeds: 1\n", "", "no `diff --git"),
    ] {
        let parsed = header(&WHOLE.replacen(is, shall_be, 1)).map_err(|error| format!("{error:#}"));
        match (expected, parsed) {
            // A name of one word; that no checker bears it, `every_promise_has_a_fault_that_breaks_it` says.
            ("", Ok(fault)) => assert_eq!(fault.caught_by, Promise::Other("9".into())),
            (_, Ok(fault)) => panic!("{is:?} as {shall_be:?} is taken for {fault:?}"),
            (expected, Err(error)) => assert!(error.contains(expected), "{is:?} as {shall_be:?}: {error}"),
        }
    }
}

#[test]
fn a_fault_is_caught_by_the_invariant_that_it_names() {
    let fault = header(WHOLE).unwrap();
    let found =
        |invariant: &str| Outcome { finding: Some(Finding { seed: 1, invariant: invariant.into(), what: "x".into() }) };
    for (outcome, expected) in [
        (found("9 a name keeps its answer"), Verdict::Caught),
        (found("99 another one"), Verdict::CaughtByOther),
        (found("convergence"), Verdict::CaughtByOther),
        (Outcome { finding: None }, Verdict::Survived),
    ] {
        assert_eq!(fault.judge(&outcome), expected, "{outcome:?}");
    }
}

#[test]
fn the_table_shows_what_was_not_caught() {
    let fault = header(WHOLE).unwrap();
    let finding = |invariant: &str| Some(Finding { seed: 12, invariant: invariant.into(), what: "x".into() });
    let tried = |verdict: Verdict, finding: Option<Finding>| Tried {
        fault: &fault,
        verdict,
        outcome: Some(Outcome { finding }),
        build: Duration::from_millis(12_340),
        fuzz: Duration::from_millis(560),
    };
    let all = [
        tried(Verdict::Caught, finding("9 a name keeps its answer")),
        tried(Verdict::CaughtByOther, finding("convergence")),
        tried(Verdict::Survived, None),
        Tried { outcome: None, ..tried(Verdict::Broken("why".into()), None) },
    ];
    let text = table(&all, Duration::from_secs(60));
    let expected = "\
FAULT   EXPECTED       CAUGHT BY       SEED    BUILD S    FUZZ S
a       invariant 9    invariant 9       12       12.3       0.6
a       invariant 9    convergence       12       12.3       0.6
a       invariant 9    SURVIVED                   12.3       0.6
a       invariant 9    NOT TRIED                  12.3       0.6

1 of 4 caught as expected, 60 s in all
";
    assert_eq!(text, expected);
    let verdicts: Vec<String> = json(&all).as_array().unwrap().iter().map(|one| one["verdict"].to_string()).collect();
    assert_eq!(verdicts, [r#""Caught""#, r#""CaughtByOther""#, r#""Survived""#, r#""NotTried""#]);
}

#[test]
fn faults_are_chosen_by_name() {
    let both = || ["a", "b"].map(|name| Fault::parse(name, Path::new(""), WHOLE).unwrap()).to_vec();
    let names = |only: &[&str]| {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        chosen(both(), &only).map(|faults| faults.into_iter().map(|fault| fault.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]).unwrap(), ["a", "b"]);
    assert_eq!(names(&["b"]).unwrap(), ["b"]);
    assert!(names(&["b", "c"]).unwrap_err().to_string().contains("no fault c: a, b"));
}
