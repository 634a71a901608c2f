//! Each checker sees a world that keeps its promise, and one that breaks it.

use std::collections::BTreeSet;
use std::time::Duration;

use agent::core::{Job, Work};
use agent::kept::{Kept, KeptApp};
use api::wire::{Desired, DesiredApp, Ledger};
use controller::core::choice::{AppChoice, Choice, ClusterChoice, HostAddresses};
use controller::core::{Decision, Seen};
use policies::id::{AppId, ClusterId};
use policies::plan::{GroupKind, ObjectId};
use policies::time::Instant;

use super::*;
use crate::fact::Deletion;
use crate::wishes::Wishes;

fn at(s: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(s)
}

fn fra() -> ClusterId {
    ClusterId::new("fra")
}

fn web() -> AppId {
    AppId::new("shop", "web")
}

fn object() -> ObjectId {
    ObjectId { kind: GroupKind::new("apps", "Deployment"), namespace: Some("shop".into()), name: "web".into() }
}

fn deletion<'a>(fra: &'a ClusterId, web: &'a AppId, object: &'a ObjectId) -> Deletion<'a> {
    Deletion { cluster: fra, app: web, object, run: 1, epoch: 2, applied: 1, removing: true, whole: true, elsewhere: 0 }
}

fn order(epoch: u64, remove: bool) -> DesiredApp {
    DesiredApp { namespace: "shop".into(), name: "web".into(), epoch, remove, ..DesiredApp::default() }
}

fn kept(term: u64, number: u64, orders: &[DesiredApp]) -> Kept {
    let app = |order: &DesiredApp| KeptApp { desired: Some(order.clone()), epoch: order.epoch, ..KeptApp::default() };
    Kept { term, number, apps: orders.iter().map(app).collect(), dismissed: false }
}

/// A user who wants `web` in `fra`, or nowhere.
fn wishes(wanted: bool) -> Wishes {
    let mut wishes = Wishes::default();
    let policy = AppId::new("shop", "near");
    wishes.set_policy(&policy, BTreeSet::from([fra()]), Some(false));
    wishes.set_app(&web(), &policy, Some("web.gslb.example.com"), 0);
    if !wanted {
        wishes.delete_app(&web());
    }
    wishes
}

/// `web` in `fra`, or being removed from there.
fn choice(removing: bool) -> Choice {
    let mut app = AppChoice { epoch: 1, ..AppChoice::default() };
    app.clusters.insert(fra(), ClusterChoice { render: vec![1], removing, leaving: None, since: 0 });
    let mut targets = HostAddresses::default();
    targets.0.insert(fra(), vec!["192.0.2.1".into()]);
    app.hosts.insert("web.gslb.example.com".into(), targets);
    Choice { apps: [(web(), app)].into(), ..Choice::default() }
}

fn decided(choice: Choice, epoch: u64, remove: bool) -> Decision {
    let desired = Desired { term: 1, number: 1, apps: vec![order(epoch, remove)] };
    Decision { choice, desired: [(fra(), desired)].into(), ..Decision::default() }
}

/// What a checker says to the last of these facts; it has nothing to say to those before.
fn verdict(mut checker: impl Checker, facts: &[(u64, Fact<'_>)]) -> Result<(), String> {
    let mut verdict = Ok(());
    for (s, fact) in facts {
        assert_eq!(verdict, Ok(()), "before {fact}");
        verdict = checker.handle(at(*s), fact);
    }
    verdict
}

#[test]
fn a_last_copy_goes_only_when_a_user_asked() {
    let (fra, web, object, seen, before) = (fra(), web(), object(), Seen::default(), Choice::default());
    let decision = decided(choice(true), 2, true);
    for (wanted, elsewhere, fine) in [(true, 0, false), (true, 1, true), (false, 0, true)] {
        let wishes = wishes(wanted);
        let decided = Fact::Decided { seen: &seen, before: &before, decision: &decision, again: None, wishes: &wishes };
        let deleted = Fact::Deleted(Deletion { elsewhere, ..deletion(&fra, &web, &object) });
        let verdict = verdict(LastCopy::default(), &[(1, decided), (2, deleted)]);
        assert_eq!(verdict.is_ok(), fine, "wanted {wanted}, elsewhere {elsewhere}");
    }
    let early = Fact::Deleted(Deletion { removing: false, whole: false, ..deletion(&fra, &web, &object) });
    assert!(verdict(LastCopy::default(), &[(1, early)]).is_err());
}

#[test]
fn users_leave_a_copy_before_it_goes() {
    let (fra, web, object, all) = (fra(), web(), object(), [fra()]);
    let (wanted, unwanted) = (wishes(true), Wishes::default());
    let wished = |wishes| Fact::Wished { wishes, what: "" };
    let deleted = || Fact::Deleted(deletion(&fra, &web, &object));
    let applied = || Fact::Applied { cluster: &fra, app: &web, object: &object, epoch: 3 };
    let answered = || Fact::Answered { node: "ns1", user: "u", host: "h", app: &web, clusters: &all };
    let check = |facts: Vec<Fact<'_>>| {
        let facts: Vec<_> = facts.into_iter().enumerate().map(|(i, fact)| (i as u64, fact)).collect();
        verdict(UsersFirst::default(), &facts).is_ok()
    };
    assert!(check(vec![wished(&wanted), answered(), deleted()]));
    assert!(!check(vec![wished(&wanted), deleted(), answered()]));
    assert!(check(vec![wished(&wanted), deleted(), applied(), answered()]));
    assert!(check(vec![wished(&wanted), wished(&unwanted), deleted(), answered()]));
}

#[test]
fn an_older_order_deletes_nothing_and_no_memory_goes_back() {
    let (fra, web, object) = (fra(), web(), object());
    let older = Fact::Deleted(Deletion { epoch: 1, applied: 2, ..deletion(&fra, &web, &object) });
    assert!(verdict(StaleIntent::default(), &[(1, older)]).is_err());
    let (new, old, without) = (kept(1, 2, &[order(2, false)]), kept(1, 3, &[order(1, false)]), kept(1, 3, &[]));
    let keeps = |kept| Fact::Kept { cluster: &fra, kept };
    assert!(verdict(StaleIntent::default(), &[(1, keeps(&new)), (2, keeps(&old))]).is_err());
    assert!(verdict(StaleIntent::default(), &[(1, keeps(&new)), (2, keeps(&without)), (3, keeps(&old))]).is_ok());
    let job = Job { app: web.clone(), run: 1, work: Work::Remove { cascade: false } };
    let starts = |kept| Fact::Started { cluster: &fra, job: &job, kept };
    assert!(verdict(StaleIntent::default(), &[(1, starts(&new))]).is_err(), "it was told to run, and removes");
    let told = kept(1, 2, &[order(2, true)]);
    assert!(verdict(StaleIntent::default(), &[(1, starts(&told))]).is_ok());
}

#[test]
fn nothing_is_deleted_after_a_list_that_failed() {
    let (fra, web, object) = (fra(), web(), object());
    let looked = |complete| Fact::Looked { cluster: &fra, run: 1, complete };
    let deleted = || Fact::Deleted(deletion(&fra, &web, &object));
    assert!(verdict(ListError::default(), &[(1, looked(false)), (2, deleted())]).is_err());
    assert!(verdict(ListError::default(), &[(1, looked(false)), (2, looked(true)), (3, deleted())]).is_ok());
}

#[test]
fn what_is_out_of_reach_stays_chosen() {
    let (before, wanted, unwanted) = (choice(false), wishes(true), wishes(false));
    let (moved, stays) = (decided(choice(true), 2, true), decided(choice(false), 1, false));
    let (away, here) = (Seen::default(), Seen { connected: [fra()].into(), ..Seen::default() });
    for (seen, decision, wishes, fine) in [
        (&away, &moved, &wanted, false),
        (&away, &moved, &unwanted, true),
        (&here, &moved, &wanted, true),
        (&away, &stays, &wanted, true),
    ] {
        let fact = Fact::Decided { seen, before: &before, decision, again: None, wishes };
        assert_eq!(verdict(Unreachable, &[(1, fact)]).is_ok(), fine);
    }
}

#[test]
fn what_is_told_arrives_in_time_or_somebody_disturbed_it() {
    let fra = fra();
    let told = || Fact::Told { cluster: &fra, number: 7 };
    let reached = Desired { number: 7, ..Desired::default() };
    let any = || Fact::Fault { what: "anything" };
    assert!(verdict(Independence::default(), &[(1, told()), (5, any())]).is_err());
    let heard = Fact::Reached { cluster: &fra, desired: &reached, refused: None };
    assert!(verdict(Independence::default(), &[(1, told()), (2, heard), (9, any())]).is_ok());
    let disturbed = Fact::Disturbed { cluster: &fra };
    assert!(verdict(Independence::default(), &[(1, told()), (2, disturbed), (9, any())]).is_ok());
}

#[test]
fn no_older_order_is_obeyed_by_agents_or_nodes() {
    let fra = fra();
    let memory = kept(2, 5, &[]);
    let keeps = || Fact::Kept { cluster: &fra, kept: &memory };
    for (term, number, fine) in [(2, 5, true), (3, 6, true), (1, 9, false), (3, 4, false)] {
        let desired = Desired { term, number, apps: vec![] };
        let obeyed = Fact::Reached { cluster: &fra, desired: &desired, refused: None };
        assert_eq!(verdict(OlderOrders::default(), &[(1, keeps()), (2, obeyed)]).is_ok(), fine, "{term}.{number}");
        let refused = Fact::Reached { cluster: &fra, desired: &desired, refused: Some("StaleTerm") };
        assert!(verdict(OlderOrders::default(), &[(1, keeps()), (2, refused)]).is_ok());
    }
    let back = kept(2, 4, &[]);
    assert!(verdict(OlderOrders::default(), &[(1, keeps()), (2, Fact::Kept { cluster: &fra, kept: &back })]).is_err());
    let serves = |serves| Fact::Served { node: "ns", offered: serves, serves, refused: None };
    assert!(verdict(OlderOrders::default(), &[(1, serves((2, 9))), (2, serves((2, 8)))]).is_err());
    assert!(verdict(OlderOrders::default(), &[(1, serves((2, 9))), (2, serves((3, 10)))]).is_ok());
}

#[test]
fn a_name_that_had_an_answer_keeps_one() {
    let (web, fra, wanted, gone) = (web(), [fra()], wishes(true), wishes(false));
    let wished = |wishes| Fact::Wished { wishes, what: "" };
    let answered = |node, clusters| Fact::Answered { node, user: "lima", host: "web", app: &web, clusters };
    let had = || (2, answered("ns-eu", &fra[..]));
    let lost = |node| (3, answered(node, &[]));
    assert!(verdict(NameKept::default(), &[(1, wished(&wanted)), had(), lost("ns-eu")]).is_err());
    assert!(verdict(NameKept::default(), &[(1, wished(&wanted)), had(), lost("ns-us")]).is_ok(), "it never had one");
    let facts = [(1, wished(&wanted)), had(), (2, wished(&gone)), lost("ns-eu")];
    assert!(verdict(NameKept::default(), &facts).is_ok());
}

#[test]
fn two_decisions_on_equal_inputs_are_equal() {
    let (seen, before, wishes, decision) =
        (Seen::default(), Choice::default(), wishes(true), decided(choice(false), 1, false));
    let fact = |again| Fact::Decided { seen: &seen, before: &before, decision: &decision, again, wishes: &wishes };
    assert!(verdict(Determinism, &[(1, fact(Some(&decision)))]).is_ok());
    let other_desired = decided(choice(false), 2, false);
    let other_snapshot = Decision { snapshot: vec![1], ..decision.clone() };
    for other in [&other_desired, &other_snapshot] {
        assert!(verdict(Determinism, &[(1, fact(Some(other)))]).is_err());
    }
}

#[test]
fn a_fresh_hub_moves_nothing_that_has_not_reported() {
    let (found, wishes) = (choice(false), wishes(true));
    let mut rendered = choice(false);
    rendered.apps.values_mut().for_each(|app| app.clusters.values_mut().for_each(|entry| entry.render = vec![2]));
    let mut without_host = choice(false);
    without_host.apps.values_mut().for_each(|app| app.hosts.values_mut().for_each(|host| host.0.clear()));
    let silent = Seen::default();
    let reported = Seen { ledgers: [(fra(), Ledger::default())].into(), ..Seen::default() };
    for (after, seen, quiet, fine) in [
        (choice(false), &silent, true, true),
        (choice(true), &silent, true, false),
        (choice(true), &reported, true, false),
        (choice(true), &silent, false, true),
        (rendered.clone(), &silent, true, false),
        (rendered, &reported, true, true),
        (without_host, &silent, true, false),
        (Choice::default(), &silent, true, false),
    ] {
        let decision = decided(after.clone(), 1, false);
        let up = Fact::HubUp { term: 2, kept: &found, quiet };
        let decided = Fact::Decided { seen, before: &found, decision: &decision, again: None, wishes: &wishes };
        assert_eq!(verdict(FreshHub::default(), &[(1, up), (2, decided)]).is_ok(), fine, "{after:?}");
    }
}

#[test]
fn what_has_not_settled_is_a_failure() {
    assert!(verdict(Convergence, &[(1, Fact::Unsettled { what: "fra is empty" })]).is_err());
}
