//! Writes small databases of MaxMind's format, as its specification 2.0 says, for tests.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// A value of a record.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Double(f64),
    Float(f32),
    Map(Vec<(&'static str, Self)>),
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A city in MaxMind's schema.
pub(crate) fn nested(country: &str, city: &str, latitude: f64, longitude: f64) -> Value {
    let mut fields = vec![
        ("country", Value::Map(vec![("iso_code", text(country))])),
        ("location", Value::Map(vec![("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))])),
    ];
    if !city.is_empty() {
        fields.push(("city", Value::Map(vec![("names", Value::Map(vec![("en", text(city))]))])));
    }
    Value::Map(fields)
}

/// A city in the schema of ip-location-db.
pub(crate) fn flat(country: &str, city: &str, latitude: f32, longitude: f32) -> Value {
    Value::Map(vec![
        ("city", text(city)),
        ("country_code", text(country)),
        ("latitude", Value::Float(latitude)),
        ("longitude", Value::Float(longitude)),
        ("postcode", text("")),
    ])
}

/// A database of `ip_version` 4 or 6 with records of `record_bits` bits. IPv4 networks in a version 6 one lie at ::/96.
pub(crate) fn database(ip_version: u16, record_bits: u16, networks: &[(&str, Value)]) -> Vec<u8> {
    // A node has two children: another node, or an offset into the data, or nothing.
    #[derive(Clone, Copy)]
    enum Child {
        Empty,
        Node(usize),
        Data(usize),
    }
    let (mut nodes, mut data, mut offsets) = (vec![[Child::Empty; 2]], Vec::new(), BTreeMap::new());
    for (network, value) in networks {
        let network: IpNet = network.parse().unwrap();
        let (bits, length): (u128, u32) = match (network, ip_version) {
            (IpNet::V4(v4), 4) => (u128::from(u32::from(v4.network())) << 96, v4.prefix_len().into()),
            (IpNet::V4(v4), _) => (u128::from(u32::from(v4.network())), 96 + u32::from(v4.prefix_len())),
            (IpNet::V6(v6), _) => (v6.network().into(), v6.prefix_len().into()),
        };
        let offset = *offsets.entry(format!("{value:?}")).or_insert_with(|| {
            let offset = data.len();
            encode(value, &mut data);
            offset
        });
        let mut node = 0;
        for depth in 0..length {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                nodes[node][side] = Child::Data(offset);
            } else if let Child::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([nodes[node][side]; 2]);
                nodes[node][side] = Child::Node(nodes.len() - 1);
                node = nodes.len() - 1;
            }
        }
    }
    let count = nodes.len();
    let number = |child: Child| match child {
        Child::Empty => count as u32,
        Child::Node(node) => node as u32,
        Child::Data(offset) => (count + 16 + offset) as u32,
    };
    let mut file = Vec::new();
    for [left, right] in nodes {
        let (left, right) = (number(left), number(right));
        match record_bits {
            24 => {
                file.extend_from_slice(&left.to_be_bytes()[1..]);
                file.extend_from_slice(&right.to_be_bytes()[1..]);
            }
            28 => {
                file.extend_from_slice(&left.to_be_bytes()[1..]);
                file.push(((left >> 24) << 4 | right >> 24) as u8);
                file.extend_from_slice(&right.to_be_bytes()[1..]);
            }
            _ => {
                file.extend_from_slice(&left.to_be_bytes());
                file.extend_from_slice(&right.to_be_bytes());
            }
        }
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    metadata(&mut file, count, ip_version, record_bits);
    file
}

fn metadata(file: &mut Vec<u8>, nodes: usize, ip_version: u16, record_bits: u16) {
    file.push(7 << 5 | 9);
    let mut entry = |name: &str, value: &[u8]| {
        encode(&text(name), file);
        file.extend_from_slice(value);
    };
    let u16 = |value: u16| [&[5 << 5 | 2][..], &value.to_be_bytes()].concat();
    entry("node_count", &[&[6 << 5 | 4][..], &(nodes as u32).to_be_bytes()].concat());
    entry("record_size", &u16(record_bits));
    entry("ip_version", &u16(ip_version));
    entry("database_type", b"\x44test");
    entry("languages", &[0, 4]);
    entry("binary_format_major_version", &u16(2));
    entry("binary_format_minor_version", &u16(0));
    entry("build_epoch", &[8, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    entry("description", &[7 << 5]);
}

fn encode(value: &Value, data: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            assert!(text.len() < 29, "longer texts have longer sizes");
            data.push(2 << 5 | text.len() as u8);
            data.extend_from_slice(text.as_bytes());
        }
        Value::Double(number) => {
            data.push(3 << 5 | 8);
            data.extend_from_slice(&number.to_be_bytes());
        }
        Value::Float(number) => {
            data.extend_from_slice(&[4, 8]);
            data.extend_from_slice(&number.to_be_bytes());
        }
        Value::Map(fields) => {
            data.push(7 << 5 | fields.len() as u8);
            for (name, value) in fields {
                encode(&text(name), data);
                encode(value, data);
            }
        }
    }
}
