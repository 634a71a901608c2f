//! Runs `tests/scripts/*.rpl`: a snapshot as text, then queries with the replies expected.
//!
//! `UPDATE=1 cargo test -p dns --test scripts` writes what the server replies into the scripts; read the difference
//! before you commit it. Replies are decoded by hickory, which knows nothing of our writer.
//!
//! | line | means |
//! |---|---|
//! | `# …` | a comment |
//! | `cluster NAME REGION LATITUDE LONGITUDE` | a cluster; indices follow the names' order |
//! | `zone ORIGIN TTL MINIMUM` | a zone with serial 7; what follows belongs to it |
//! | `ns NAME ADDRESS…` | a name server |
//! | `record NAME TTL TYPE VALUE…` | a static record |
//! | `host NAME TTL TOLERANCE_MS CLUSTER=ADDRESS[,ADDRESS]…` | a steered host |
//! | `class NAME CLASS` | this node's verdict, from here on |
//! | `? NAME TYPE OPTION…` | a query. Options: `ch`, `tcp`, `rd`, `edns`, `do`, `nsid`, `version=N`, `payload=N`, `ecs=ADDRESS/SOURCE`, `option=CODE:HEX`, `from=ADDRESS`, `opcode=N` |
//! | `?raw HEX` | a query as bytes |
//! | `> …` | one line of the reply |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use api::snapshot::{Cluster, Host, NameServer, Record, Role, Snapshot, Soa, Target, Zone};
use dns::answer::{Peer, Scratch, Transport, answer};
use dns::view::{Identity, Tables, View};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;
use policies::steering::Class;
use policies::time::Instant;

#[test]
fn scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> =
        std::fs::read_dir(&directory).expect("scripts").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "scripts are missing");
    let update = std::env::var_os("UPDATE").is_some();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("script");
        let replayed = replay(&text);
        if update {
            std::fs::write(&path, replayed).expect("write");
        } else {
            for (number, (expected, found)) in text.lines().zip(replayed.lines()).enumerate() {
                assert_eq!(expected, found, "{}:{}", path.display(), number + 1);
            }
            assert_eq!(text.lines().count(), replayed.lines().count(), "{}", path.display());
        }
    }
}

/// The script with the replies of this server in it.
fn replay(script: &str) -> String {
    let mut snapshot = Snapshot { term: 1, number: 17, ..Snapshot::default() };
    let (mut classes, mut view) = (BTreeMap::new(), None);
    let mut output = String::new();
    for line in script.lines().filter(|line| !line.starts_with('>')) {
        writeln!(output, "{line}").expect("text");
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            [] | ["#", ..] => {}
            ["class", name, class] => {
                classes.insert((*name).to_owned(), class_of(class));
                view = None;
            }
            ["?raw", hex] => output.push_str(&ask(&current(&mut view, &snapshot, &classes), &unhex(hex), &[])),
            ["?", name, rtype, options @ ..] => {
                let query = query(name, rtype, options);
                output.push_str(&ask(&current(&mut view, &snapshot, &classes), &query, options));
            }
            words => {
                describe(&mut snapshot, words);
                view = None;
            }
        }
    }
    output
}

fn current(view: &mut Option<View>, snapshot: &Snapshot, classes: &BTreeMap<String, Class>) -> View {
    let compile = || {
        let tables = Tables::compile(snapshot, vec![0xab; 32], Vec::new()).expect("the script's snapshot");
        View::new(Arc::new(tables), classes, Arc::new(Identity::new("node-1")))
    };
    view.get_or_insert_with(compile).clone()
}

fn class_of(text: &str) -> Class {
    match text {
        "healthy" => Class::Healthy,
        "suspect" => Class::Suspect,
        "down" => Class::Down,
        "drained" => Class::Drained,
        _ => panic!("no class: {text}"),
    }
}

fn describe(snapshot: &mut Snapshot, words: &[&str]) {
    let own = |text: &str| text.to_owned();
    match words {
        ["cluster", name, region, latitude, longitude] => snapshot.clusters.push(Cluster {
            name: own(name),
            region: own(region),
            latitude: latitude.parse().expect("latitude"),
            longitude: longitude.parse().expect("longitude"),
            probe: None,
        }),
        ["zone", origin, ttl, minimum] => snapshot.zones.push(Zone {
            origin: own(origin),
            soa: Some(Soa {
                rname: format!("hostmaster.{origin}"),
                serial: 7,
                refresh_s: 3600,
                retry_s: 600,
                expire_s: 1_209_600,
                minimum_s: minimum.parse().expect("minimum"),
            }),
            ttl_s: ttl.parse().expect("TTL"),
            ..Zone::default()
        }),
        ["ns", name, addresses @ ..] => zone(snapshot)
            .name_servers
            .push(NameServer { name: own(name), addresses: addresses.iter().map(|a| own(a)).collect() }),
        ["record", name, ttl, rtype, value @ ..] => zone(snapshot).records.push(Record {
            name: own(name),
            r#type: own(rtype),
            ttl_s: ttl.parse().expect("TTL"),
            value: value.join(" "),
        }),
        ["host", name, ttl, tolerance, targets @ ..] => {
            let target = |text: &&str| {
                let (name, addresses) = text.split_once('=').expect("CLUSTER=ADDRESS");
                let cluster = snapshot.clusters.iter().position(|cluster| cluster.name == name).expect("cluster");
                Target { cluster: cluster as u32, addresses: addresses.split(',').map(own).collect() }
            };
            let host = Host {
                name: own(name),
                app: "shop/web".into(),
                ttl_s: ttl.parse().expect("TTL"),
                tolerance_ms: tolerance.parse().expect("tolerance"),
                targets: targets.iter().map(target).collect(),
                ..Host::default()
            };
            zone(snapshot).hosts.push(host);
        }
        ["write", name] => {
            let host = zone(snapshot).hosts.iter_mut().find(|host| host.name == *name);
            host.expect("the host first").set_role(Role::Write);
        }
        other => panic!("what is {other:?}?"),
    }
}

fn zone(snapshot: &mut Snapshot) -> &mut Zone {
    snapshot.zones.last_mut().expect("a zone first")
}

fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// A query by hand, so that wrong ones can be made.
fn query(name: &str, rtype: &str, options: &[&str]) -> Vec<u8> {
    let number = |name: &str, default: u16| option(options, name).map_or(default, |text| text.parse().expect("number"));
    let mut query = vec![0x12, 0x34, (number("opcode", 0) as u8) << 3 | u8::from(options.contains(&"rd")), 0];
    query.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    let rtype = match rtype.parse::<hickory_proto::rr::RecordType>() {
        Ok(rtype) => u16::from(rtype),
        Err(_) => rtype.trim_start_matches("TYPE").parse().expect("type"),
    };
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&[0, if options.contains(&"ch") { 3 } else { 1 }]);
    if !options.iter().any(|option| {
        !["ch", "tcp", "rd"].contains(option) && !option.starts_with("from") && !option.starts_with("opcode")
    }) {
        return query;
    }
    query[11] = 1;
    query.extend_from_slice(&[0, 0, 41]);
    query.extend_from_slice(&number("payload", 4096).to_be_bytes());
    query.extend_from_slice(&[0, number("version", 0) as u8, u8::from(options.contains(&"do")) << 7, 0]);
    let mut rdata = Vec::new();
    if options.contains(&"nsid") {
        rdata.extend_from_slice(&[0, 3, 0, 0]);
    }
    if let Some((address, source)) = option(options, "ecs").and_then(|ecs| ecs.split_once('/')) {
        let source: usize = source.parse().expect("source");
        let (family, octets) = match address.parse::<IpAddr>().expect("address") {
            IpAddr::V4(v4) => (1, v4.octets().to_vec()),
            IpAddr::V6(v6) => (2, v6.octets().to_vec()),
        };
        let length = source.div_ceil(8);
        rdata.extend_from_slice(&[0, 8, 0, 4 + length as u8, 0, family, source as u8, 0]);
        rdata.extend_from_slice(&octets[..length]);
    }
    for (code, hex) in options.iter().filter_map(|option| option.strip_prefix("option=")?.split_once(':')) {
        let value = unhex(hex);
        rdata.extend_from_slice(&code.parse::<u16>().expect("code").to_be_bytes());
        rdata.extend_from_slice(&(value.len() as u16).to_be_bytes());
        rdata.extend_from_slice(&value);
    }
    query.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
    query.extend_from_slice(&rdata);
    query
}

/// The reply as lines.
fn ask(view: &View, query: &[u8], options: &[&str]) -> String {
    let from: IpAddr = option(options, "from").map_or("192.0.2.99", |from| from).parse().expect("address");
    let peer = Peer {
        addr: SocketAddr::new(from, 4242),
        local: "127.0.0.1:53".parse().expect("address"),
        transport: if options.contains(&"tcp") { Transport::Tcp } else { Transport::Udp },
        now: Instant::ORIGIN,
    };
    let mut reply = vec![0xee; 65_535];
    let length = answer(view, &peer, &mut Scratch::default(), query, &mut reply);
    if length == 0 {
        return "> nothing\n".to_owned();
    }
    let reply = &reply[..length];
    assert_eq!(reply[..2], query[..2], "the id");
    let mut text = String::new();
    // Hickory does not read subnets of family zero, which `dig +subnet=0` sends; such replies are shown as they are.
    let Ok(message) = Message::from_vec(reply) else {
        reply.iter().for_each(|byte| write!(text, "{byte:02x}").expect("text"));
        return format!("> bytes {text}\n");
    };
    let flag = |set: bool, name: &str| if set { format!(" {name}") } else { String::new() };
    let bits = u16::from_be_bytes([reply[2], reply[3]]);
    write!(text, "> {}", format!("{:?}", message.metadata.response_code).to_uppercase()).expect("text");
    for (bit, name) in [(0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0020, "ad"), (0x0010, "cd")]
    {
        text.push_str(&flag(bits & bit != 0, name));
    }
    writeln!(text, " {length} bytes").expect("text");
    for question in &message.queries {
        // As sent, letter by letter (0x20).
        assert_eq!(reply[12..12 + question.name().len()], query[12..12 + question.name().len()]);
        writeln!(text, "> question {} {}", question.name(), question.query_type()).expect("text");
    }
    let sections =
        [("answer", &message.answers), ("authority", &message.authorities), ("additional", &message.additionals)];
    for (section, records) in sections {
        for record in records {
            writeln!(text, "> {section} {record}").expect("text");
        }
    }
    if let Some(edns) = &message.edns {
        write!(text, "> opt payload={} version={}", edns.max_payload(), edns.version()).expect("text");
        text.push_str(&flag(edns.flags().dnssec_ok, "do"));
        for (code, option) in edns.options().as_ref() {
            match option {
                EdnsOption::Subnet(ecs) => {
                    write!(text, " ecs={}/{}/{}", ecs.addr(), ecs.source_prefix(), ecs.scope_prefix()).expect("text");
                }
                EdnsOption::NSID(nsid) => {
                    write!(text, " nsid={:?}", String::from_utf8_lossy(nsid.as_ref())).expect("text");
                }
                EdnsOption::Unknown(_, value) => write!(text, " {code:?}={value:?}").expect("text"),
                _ => write!(text, " {code:?}").expect("text"),
            }
        }
        text.push('\n');
    }
    text
}
