use std::net::Ipv4Addr;
use std::time::SystemTime;

use tunnel::identity::{Authority, CLIENT_LIFETIME, Key, Subject};

use super::*;

/// Only for a test that would otherwise hang.
const LONG: Duration = Duration::from_secs(60);

fn identity(authority: &Authority, role: Role, name: &str) -> Identity {
    let key = Key::generate().unwrap();
    let subject = Subject::new(role, name, "uid").unwrap();
    let chain = authority.sign(&key.request().unwrap(), &subject, SystemTime::now(), CLIENT_LIFETIME).unwrap();
    Identity::new(key.to_pem(), chain, authority.certificate_pem().to_owned()).unwrap()
}

fn node(authority: &Authority, name: &str) -> (Fellows, mpsc::Receiver<StubEvent>, Vec<String>) {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let (fellows, said) = Fellows::bind(name, listen, None, identity(authority, Role::Dns, name)).unwrap();
    let at = vec![fellows.local_addr().unwrap().to_string()];
    (fellows, said, at)
}

async fn next_word(said: &mut mpsc::Receiver<StubEvent>) -> (NodeId, Findings) {
    let word = async {
        loop {
            if let Some(word) = heard(said.recv().await.expect("the stub lives")) {
                return word;
            }
        }
    };
    tokio::time::timeout(LONG, word).await.expect("a word")
}

#[tokio::test]
async fn everybody_hears_everybody_and_a_renewed_certificate_changes_nothing() {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let ((mut one, mut to_one, at_one), (mut two, mut to_two, at_two)) =
        (node(&authority, "ns1"), node(&authority, "ns2"));
    // Each finds itself on the list, too.
    let list = BTreeMap::from([("ns1".to_owned(), at_one), ("ns2".to_owned(), at_two)]);
    one.dial(&list);
    two.dial(&list);
    let blind = Findings { blind: true, clusters: vec![] };
    one.tell(&blind);
    two.tell(&Findings::default());
    assert_eq!(next_word(&mut to_two).await, ("ns1".to_owned(), blind));
    assert_eq!(next_word(&mut to_one).await, ("ns2".to_owned(), Findings::default()));

    one.renew(identity(&authority, Role::Dns, "ns1")).unwrap();
    one.tell(&Findings::default());
    assert_eq!(next_word(&mut to_two).await, ("ns1".to_owned(), Findings::default()));

    // Whoever left the list is told nothing more; its session ends by a goodbye.
    one.dial(&BTreeMap::new());
    let left = async { while !matches!(to_two.recv().await, Some(StubEvent::Left { .. })) {} };
    tokio::time::timeout(LONG, left).await.expect("a goodbye");
    tokio::join!(one.close(), two.close());
}

#[tokio::test]
async fn an_agent_has_nothing_to_say_here() {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let (fellows, _said, at) = node(&authority, "ns1");
    let (_link, mut events) = Link::start(LinkConfig {
        toward: Toward::Fellow { role: Role::Dns, name: "ns1".to_owned() },
        hubs: at,
        identity: identity(&authority, Role::Agent, "fra"),
        hello: Hello { instance: "fra".to_owned(), boot: "b".to_owned(), ..Hello::default() },
        source: None,
        timing: timing(),
    })
    .unwrap();
    let refused = async {
        match events.recv().await {
            Some(LinkEvent::Refused { message, .. }) => message,
            other => panic!("expected a refusal, got {other:?}"),
        }
    };
    assert_eq!(tokio::time::timeout(LONG, refused).await.expect("an answer"), "this is a DNS node: ask the hub");
    fellows.close().await;
}
