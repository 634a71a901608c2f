//! A question to a DNS node, from a user's own address: no resolver in between, and so no client subnet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
use tokio::net::UdpSocket;

/// A node that is asked where it listens answers within a millisecond. The machine may be busy.
const WITHIN: Duration = Duration::from_millis(500);

/// What a node says: the addresses, sorted, and how long they may be kept, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl_s: u32,
}

/// Asks `node` for the addresses of `host` in the name of the user at `user`.
pub(crate) async fn ask(user: Ipv4Addr, node: SocketAddr, host: &str) -> io::Result<Answer> {
    let socket = UdpSocket::bind((user, 0)).await?;
    socket.connect(node).await?;
    let name = Name::from_str(host).map_err(io::Error::other)?;
    // The socket takes datagrams from this node alone, and asks once.
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, RecordType::A));
    socket.send(&question.to_bytes().map_err(io::Error::other)?).await?;
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(WITHIN, socket.recv(&mut buffer)).await??;
    let message = Message::from_bytes(&buffer[..length]).map_err(io::Error::other)?;
    let mut answer = Answer::default();
    for record in &message.answers {
        if let RData::A(address) = &record.data {
            answer.addresses.push(IpAddr::V4(address.0));
            answer.ttl_s = record.ttl;
        }
    }
    answer.addresses.sort();
    Ok(answer)
}
