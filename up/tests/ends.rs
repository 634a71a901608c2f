//! A world leaves nothing behind: no task, no file descriptor, no file.
//!
//! In a binary of its own, since what is counted is the whole process's.

use std::time::Duration;

use tokio::runtime::Handle;
use up::spec::Act;
use up::{Spec, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_ends_leaves_nothing_behind() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first one");
    // The first one leaves what every process has once: tables that are made when they are first needed, sockets of the
    // resolver, threads.
    one(42).await;
    let before = (Handle::current().metrics().num_alive_tasks(), descriptors());
    one(43).await;
    // A connection's task ends when it notices that the other end is gone; nobody tells when that is.
    let settled = async {
        while Handle::current().metrics().num_alive_tasks() > before.0 || descriptors() > before.1 {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(30), settled).await;
    let after = (Handle::current().metrics().num_alive_tasks(), descriptors());
    assert!(settled.is_ok(), "tasks and descriptors before and after: {before:?}, {after:?}");
}

/// A world in which something happens, from its start to its end.
async fn one(second: u8) {
    let spec = Spec { network: [127, second], ..Spec::default() };
    let world = World::start(spec, &|_| {}).await.expect("a world");
    let dir = world.dir().to_owned();
    assert!(dir.join("kubeconfig").is_file());
    for act in [Act::Stop, Act::Start, Act::Partition, Act::Heal] {
        world.act(act, "iad", false).await.expect("an act");
        let again = world.act(act, "iad", false).await.expect_err("it is done already").to_string();
        assert!(again.contains("iad"), "{again}");
    }
    let unknown = world.act(Act::Stop, "rome", false).await.expect_err("no such region").to_string();
    assert!(unknown.contains("write one of fra, iad, sin"), "{unknown}");
    assert_eq!(world.stop().await, Vec::<String>::new());
    assert!(!dir.exists());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}
