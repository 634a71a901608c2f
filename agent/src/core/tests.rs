//! The heart against a shell that does what a test says, in virtual time.

use api::wire::Phase;
use policies::plan::{GroupKind, ObjectId};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn render(text: &str) -> Bytes {
    wire::Render { hosts: vec![text.into()], ..Default::default() }.encode_to_vec().into()
}

fn app(name: &str, epoch: u64, content: &str) -> DesiredApp {
    let render = wire::digest(&render(content));
    DesiredApp { namespace: "shop".into(), name: name.into(), epoch, render, remove: false }
}

fn removal(name: &str, epoch: u64) -> DesiredApp {
    DesiredApp { namespace: "shop".into(), name: name.into(), epoch, remove: true, ..Default::default() }
}

fn desired(number: u64, apps: &[DesiredApp]) -> wire::Desired {
    wire::Desired { term: 1, number, apps: apps.to_vec() }
}

fn done() -> Outcome {
    Outcome { settled: true, ..Outcome::default() }
}

fn failed() -> Outcome {
    Outcome { failures: vec![Failure { reason: "Forbidden".into(), message: "no".into() }], ..Outcome::default() }
}

fn web() -> AppId {
    AppId::new("shop", "web")
}

/// Everything but runs answered at once; returns the runs and the last ledger.
fn settle(core: &mut Core, now: Instant, contents: &[&str]) -> (Vec<Job>, Option<Ledger>) {
    let (mut jobs, mut ledger) = (Vec::new(), None);
    core.handle_timeout(now);
    while let Some(command) = core.poll_command() {
        match command {
            Command::Fetch(digest) => {
                if let Some(found) = contents.iter().map(|c| render(c)).find(|b| wire::digest(b) == digest) {
                    core.handle_blob(now, &digest, found);
                }
            }
            Command::Keep { seq, kept, blobs } => {
                assert!(kept.renders().iter().all(|d| blobs.contains_key(d)), "a kept app without its render");
                core.handle_kept(now, seq, Ok(()));
            }
            Command::Run(job) => jobs.push(job),
            Command::Publish(l) => ledger = Some(l),
        }
    }
    (jobs, ledger)
}

fn phase(core: &Core, name: &str) -> (Phase, String) {
    let ledger = core.ledger();
    let entry = ledger.entries.iter().find(|e| e.name == name).unwrap();
    (entry.phase(), entry.reason.clone())
}

#[test]
fn from_told_to_ready() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[app("web", 1, "x")])).unwrap();
    let digest = wire::digest(&render("x"));
    assert_eq!(core.poll_command(), Some(Command::Fetch(digest.clone())));
    assert_eq!(phase(&core, "web"), (Phase::Progressing, "AwaitingRender".into()));
    // Wrong bytes are dropped, and it is asked for again.
    core.handle_blob(at(1), &digest, Bytes::from_static(b"other"));
    let (jobs, _) = settle(&mut core, at(10_000), &["x"]);
    assert_eq!(jobs, [Job { app: web(), run: 1, work: Work::Apply(render("x")) }]);
    assert_eq!(phase(&core, "web"), (Phase::Progressing, "Applying".into()));
    core.handle_ran(at(10_001), &web(), 1, done());
    core.handle_view(at(10_001), &web(), View::default());
    assert_eq!(phase(&core, "web"), (Phase::Ready, String::new()));
    let (jobs, ledger) = settle(&mut core, at(10_400), &[]);
    assert_eq!(jobs, []);
    assert_eq!(ledger.unwrap().entries[0].phase(), Phase::Ready);
    assert_eq!(core.poll_timeout(), None, "nothing to do, nothing to wait for");
}

#[test]
fn nothing_is_done_before_it_is_kept() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[removal("web", 1)])).unwrap();
    let Some(Command::Keep { seq, .. }) = core.poll_command() else { panic!("no keep") };
    assert!(matches!(core.poll_command(), Some(Command::Publish(_))));
    core.handle_kept(at(1), seq, Err("quota exceeded".into()));
    assert!(core.poll_command().is_none());
    assert_eq!(phase(&core, "web"), (Phase::Removing, "NotKept".into()));
    assert!(core.poll_timeout().is_some_and(|t| t > at(1)));
    let (jobs, _) = settle(&mut core, at(2_000), &[]);
    assert_eq!(jobs.len(), 1);
}

#[test]
fn older_orders_change_nothing() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(5, &[app("web", 3, "x")])).unwrap();
    let (jobs, _) = settle(&mut core, at(0), &["x"]);
    core.handle_ran(at(1), &web(), jobs[0].run, done());
    core.handle_view(at(1), &web(), View::default());
    assert_eq!(core.handle_desired(at(2), desired(4, &[removal("web", 9)])).unwrap_err().code(), "StaleNumber");
    let stale = wire::Desired { term: 0, ..desired(9, &[removal("web", 9)]) };
    assert_eq!(core.handle_desired(at(2), stale).unwrap_err().code(), "StaleTerm");
    core.handle_desired(at(3), desired(6, &[removal("web", 2)])).unwrap();
    assert_eq!(settle(&mut core, at(3), &[]).0, []);
    assert_eq!(phase(&core, "web"), (Phase::Ready, "StaleEpoch".into()));
    // The memory of all three survives a restart.
    let kept = Kept {
        term: 1,
        number: 6,
        apps: vec![KeptApp { desired: Some(app("web", 3, "x")), epoch: 4, ..Default::default() }],
        dismissed: false,
    };
    let mut core = Core::new();
    core.restore(at(0), kept, BTreeMap::from([(wire::digest(&render("x")), render("x"))]));
    assert!(core.handle_desired(at(0), desired(5, &[])).is_err());
    core.handle_desired(at(0), desired(7, &[removal("web", 3)])).unwrap();
    assert_eq!(settle(&mut core, at(1), &[]).0[0].work, Work::Apply(render("x")));
}

#[test]
fn an_app_that_the_hub_does_not_name_is_left_alone() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[app("web", 1, "x")])).unwrap();
    let (jobs, _) = settle(&mut core, at(0), &["x"]);
    core.handle_ran(at(1), &web(), jobs[0].run, done());
    core.handle_desired(at(2), desired(2, &[])).unwrap();
    let gone = ObjectId { kind: GroupKind::new("", "ConfigMap"), namespace: None, name: "a".into() };
    core.handle_view(at(3), &web(), View { drifted: vec![gone], ..View::default() });
    assert_eq!(settle(&mut core, at(100_000), &[]).0, [], "not even corrected");
    assert_eq!(core.ledger().entries.len(), 1, "and still reported");
    core.handle_desired(at(100_001), desired(3, &[app("web", 1, "x")])).unwrap();
    assert_eq!(settle(&mut core, at(100_002), &[]).0.len(), 1);
}

#[test]
fn a_removed_app_is_forgotten_when_the_hub_does() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[removal("web", 1)])).unwrap();
    let (jobs, _) = settle(&mut core, at(0), &[]);
    assert_eq!(jobs[0].work, Work::Remove { cascade: false });
    core.handle_ran(at(1), &web(), jobs[0].run, Outcome { waiting: vec!["a".into()], ..Outcome::default() });
    assert_eq!(phase(&core, "web"), (Phase::Removing, "Terminating".into()));
    core.handle_hint(at(2), &web());
    let (jobs, _) = settle(&mut core, at(2), &[]);
    core.handle_ran(at(3), &web(), jobs[0].run, done());
    assert_eq!(phase(&core, "web"), (Phase::Removed, String::new()));
    core.handle_desired(at(4), desired(2, &[])).unwrap();
    assert_eq!(core.ledger().entries, []);
}

#[test]
fn one_failing_or_slow_app_delays_no_other() {
    let mut core = Core::new();
    let apps: Vec<DesiredApp> = (0..RUNS + 1).map(|i| app(&format!("a{i:03}"), 1, "x")).collect();
    core.handle_desired(at(0), desired(1, &apps)).unwrap();
    let (jobs, _) = settle(&mut core, at(0), &["x"]);
    assert_eq!(jobs.len(), RUNS);
    assert_eq!(settle(&mut core, at(9_999), &[]).0, []);
    // All of them hang; the last one starts all the same.
    let next = core.poll_timeout().unwrap();
    assert!(next <= at(10_000), "{next}");
    assert_eq!(settle(&mut core, at(10_000), &[]).0.len(), 1);
}

#[test]
fn failures_back_off_and_a_new_decision_does_not_wait() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[app("web", 1, "x")])).unwrap();
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let (jobs, _) = settle(&mut core, now, &["x"]);
        core.handle_ran(now, &web(), jobs[0].run, failed());
        assert_eq!(phase(&core, "web"), (Phase::Failed, "Forbidden".into()));
        settle(&mut core, now + PUBLISH, &[]);
        let next = core.poll_timeout().unwrap();
        waits.push(next.since(now).as_secs());
        now = next;
    }
    assert!(waits.windows(2).all(|w| w[0] <= w[1] || w[1] >= 60), "{waits:?}");
    assert!(waits[0] <= 1 && waits[8] >= 60 && waits[8] <= 75, "{waits:?}");
    let (jobs, _) = settle(&mut core, now, &[]);
    // Told anew while the run is under way: its result is not taken for the new render's.
    core.handle_desired(now, desired(2, &[app("web", 2, "y")])).unwrap();
    settle(&mut core, now, &["y"]);
    core.handle_ran(now, &web(), jobs[0].run, done());
    assert_eq!(phase(&core, "web"), (Phase::Progressing, "Applying".into()));
    assert_eq!(settle(&mut core, now, &[]).0[0].work, Work::Apply(render("y")));
}

#[test]
fn drift_is_corrected_once_it_rests_and_slower_each_time() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[app("web", 1, "x")])).unwrap();
    let (jobs, _) = settle(&mut core, at(0), &["x"]);
    core.handle_ran(at(0), &web(), jobs[0].run, done());
    let gone = ObjectId { kind: GroupKind::new("", "ConfigMap"), namespace: None, name: "a".into() };
    let drifted = View { drifted: vec![gone], ..View::default() };
    core.handle_view(at(1_000), &web(), drifted.clone());
    core.handle_view(at(1_001), &web(), View::default());
    assert_eq!(settle(&mut core, at(5_000), &[]).0, [], "it was gone before its time");
    for (start, wait) in [(10_000, 500), (20_000, 1_000), (30_000, 2_000)] {
        core.handle_view(at(start), &web(), drifted.clone());
        assert_eq!(settle(&mut core, at(start + wait - 1), &[]).0, []);
        let (jobs, _) = settle(&mut core, at(start + wait), &[]);
        core.handle_ran(at(start + wait), &web(), jobs[0].run, done());
        core.handle_view(at(start + wait), &web(), View::default());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Desired { newer: bool, apps: Vec<(u8, u64, u8, bool)> },
    Blobs,
    Kept(bool),
    Ran(bool),
    Wait(u16),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    let apps = prop::collection::vec((0..3_u8, 0..4_u64, 0..3_u8, any::<bool>()), 0..4);
    prop_oneof![
        3 => (prop::bool::weighted(0.8), apps).prop_map(|(newer, apps)| Step::Desired { newer, apps }),
        2 => Just(Step::Blobs),
        2 => any::<bool>().prop_map(Step::Kept),
        2 => any::<bool>().prop_map(Step::Ran),
        1 => (0..20_000_u16).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Whatever happens, a run does what is written down, and no decision goes back to an older epoch.
    #[test]
    fn runs_follow_what_was_kept(steps in prop::collection::vec(any_step(), 0..40)) {
        let mut core = Core::new();
        let (mut now, mut number) = (0_u64, 1_u64);
        let mut stored: (Kept, BTreeMap<Digest, Bytes>) = Default::default();
        let mut writing: Option<(u64, Kept, BTreeMap<Digest, Bytes>)> = None;
        let mut fetches: Vec<Digest> = Vec::new();
        let mut jobs: Vec<Job> = Vec::new();
        let mut epochs: BTreeMap<AppId, u64> = BTreeMap::new();
        for step in steps {
            now += 1;
            match step {
                Step::Desired { newer, apps } => {
                    number = if newer { number + 1 } else { number.saturating_sub(1) };
                    let unique: BTreeMap<u8, DesiredApp> = apps.iter().map(|(a, epoch, content, remove)| {
                        let name = format!("a{a}");
                        (*a, if *remove { removal(&name, *epoch) } else { app(&name, *epoch, &content.to_string()) })
                    }).collect();
                    let _ = core.handle_desired(at(now), desired(number, &unique.into_values().collect::<Vec<_>>()));
                }
                Step::Blobs => for digest in fetches.drain(..) {
                    let found = (0..3).map(|c| render(&c.to_string())).find(|b| wire::digest(b) == digest);
                    core.handle_blob(at(now), &digest, found.unwrap());
                },
                Step::Kept(ok) => if let Some((seq, kept, blobs)) = writing.take() {
                    if ok {
                        stored = (kept, blobs);
                    }
                    core.handle_kept(at(now), seq, if ok { Ok(()) } else { Err("no".into()) });
                },
                Step::Ran(ok) => if let Some(job) = jobs.pop() {
                    core.handle_ran(at(now), &job.app, job.run, if ok { done() } else { failed() });
                },
                Step::Wait(ms) => now += u64::from(ms),
                Step::Restart => {
                    core = Core::new();
                    core.restore(at(now), stored.0.clone(), stored.1.clone());
                    (writing, fetches, jobs) = (None, vec![], vec![]);
                }
            }
            core.handle_timeout(at(now));
            while let Some(command) = core.poll_command() {
                match command {
                    Command::Fetch(digest) => fetches.push(digest),
                    Command::Keep { seq, kept, blobs } => {
                        prop_assert!(writing.is_none(), "two writes at once");
                        prop_assert!(kept.renders().iter().all(|d| blobs.contains_key(d)));
                        writing = Some((seq, kept, blobs));
                    }
                    Command::Run(job) => {
                        prop_assert!(jobs.iter().all(|j| j.app != job.app), "two runs of one app");
                        let kept = stored.0.apps.iter().filter_map(|a| a.desired.as_ref()).find(|d| id(d) == job.app);
                        let kept = kept.expect("a run of what was never written down");
                        prop_assert_eq!(kept.remove, matches!(job.work, Work::Remove { .. }));
                        if let Work::Apply(bytes) = &job.work {
                            prop_assert_eq!(&wire::digest(bytes), &kept.render);
                        }
                        let last = epochs.entry(job.app.clone()).or_default();
                        prop_assert!(kept.epoch >= *last, "went back");
                        *last = kept.epoch;
                        jobs.push(job);
                    }
                    Command::Publish(ledger) => {
                        prop_assert!(ledger.entries.windows(2).all(|w| (&w[0].namespace, &w[0].name) < (&w[1].namespace, &w[1].name)));
                    }
                }
            }
            // A removed app that was forgotten may start over: the number orders it.
            epochs.retain(|app, _| core.apps().any(|a| a == app));
        }
    }
}

#[test]
fn a_dismissed_agent_holds_still_over_restarts_until_it_is_let_in_again() {
    let mut core = Core::new();
    core.handle_desired(at(0), desired(1, &[app("web", 1, "x")])).unwrap();
    let first = settle(&mut core, at(0), &["x"]).0.remove(0);
    core.handle_ran(at(0), &web(), first.run, done());
    settle(&mut core, at(0), &[]);
    core.handle_dismissed(at(1));
    let Some(Command::Keep { seq, kept, .. }) = core.poll_command() else { panic!("it is not written down") };
    core.handle_kept(at(1), seq, Ok(()));
    assert!(kept.dismissed);
    // Drift is not corrected, and time changes nothing.
    let gone = ObjectId { kind: GroupKind::new("", "ConfigMap"), namespace: Some("shop".into()), name: "a".into() };
    let drifted = View { drifted: vec![gone], ..View::default() };
    core.handle_view(at(2), &web(), drifted);
    core.handle_timeout(at(500));
    assert_eq!(settle(&mut core, at(500), &[]).0, []);
    // Nor does a restart.
    let mut core = Core::new();
    core.restore(at(0), kept, BTreeMap::from([(wire::digest(&render("x")), render("x"))]));
    assert_eq!(settle(&mut core, at(60), &[]).0, []);
    assert_eq!(core.poll_timeout(), None, "nothing is waited for");
    core.handle_connected(at(61));
    assert_eq!(settle(&mut core, at(61), &[]).0[0].work, Work::Apply(render("x")));
}
