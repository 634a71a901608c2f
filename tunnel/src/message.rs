//! The frames of the wire: protobuf (by derive, no protoc) behind a big-endian `u32` length.
//!
//! Each stream begins with one [`StreamHead`]; what follows depends on its [`Kind`]. Protobuf lets neighbouring versions
//! understand each other: fields are added with new numbers, never given a new meaning, and unknown ones are skipped.
//! A length is checked against its limit before a byte is stored for it, and every decoder is total: any bytes give a
//! message or an error. No sockets here.
//!
//! | kind | opened by | after the head |
//! |---|---|---|
//! | `Enrol` | the dialling end | [`EnrolRequest`] → [`SignReply`] |
//! | `Renew` | the dialling end | [`RenewRequest`] → [`SignReply`] |
//! | `Control` | the dialling end, once | [`Control`] frames both ways |
//! | `Publish` | either | payload to FIN → one [`RECEIPT`] byte once the owner holds it |
//! | `Fetch` | the dialling end | nothing → the blob to FIN, or a reset with [`NotFound`](crate::code::Code::NotFound) |

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// The version of the stream protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// A head holds a topic and a digest; 64 KiB leaves room for what later versions add and is nothing to hold.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A frame of the control, enrolment and renewal streams: the largest holds a certificate chain (a few KiB each).
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A publication. Publications are state in full (a ledger, a report), held in memory by both ends: 64 MiB is 100 times
/// what a cluster of a thousand apps reports. What is larger belongs into a blob, fetched once by digest.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A blob, four times a publication: a snapshot for the DNS nodes of a large fleet with its tables. It is the bound on
/// what one fetch may make the dialling end hold, which trusts its hub.
pub const BLOB_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A topic's name. Long enough to be spoken, short enough to be a key in every log line.
pub const TOPIC_BYTES_MAX: usize = 128;

/// What the receiver of a publication answers once its owner holds the payload.
pub const RECEIPT: u8 = 1;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Not said. Never sent.
    Unspecified = 0,
    /// A token for a certificate.
    Enrol = 1,
    /// A certificate for a newer one.
    Renew = 2,
    /// Hello, beats, go-away.
    Control = 3,
    /// One payload of a topic.
    Publish = 4,
    /// One blob by digest.
    Fetch = 5,
}

/// The first frame of every stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamHead {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// A [`Kind`].
    #[prost(enumeration = "Kind", tag = "2")]
    pub kind: i32,
    /// `Publish`: the topic.
    #[prost(string, tag = "3")]
    pub topic: String,
    /// `Publish`: the sender's number of this payload, given back to nobody, for logs and ordering by the owners.
    #[prost(uint64, tag = "4")]
    pub number: u64,
    /// `Fetch`: the SHA-256 of the blob.
    #[prost(bytes = "bytes", tag = "5")]
    pub digest: Bytes,
}

impl StreamHead {
    /// A head of this version with nothing but a kind.
    pub fn of(kind: Kind) -> Self {
        Self { version: VERSION, kind: kind.into(), ..Self::default() }
    }

    /// The head of a publication.
    pub fn publish(topic: &str, number: u64) -> Self {
        Self { topic: topic.to_owned(), number, ..Self::of(Kind::Publish) }
    }

    /// The head of a fetch.
    pub fn fetch(digest: &[u8]) -> Self {
        Self { digest: Bytes::copy_from_slice(digest), ..Self::of(Kind::Fetch) }
    }
}

/// A token's bearer asks for its first certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EnrolRequest {
    /// Which token.
    #[prost(string, tag = "1")]
    pub token: String,
    /// The token's secret.
    #[prost(bytes = "vec", tag = "2")]
    pub secret: Vec<u8>,
    /// A PKCS#10 request in DER. Only its public key counts.
    #[prost(bytes = "vec", tag = "3")]
    pub csr: Vec<u8>,
    /// Who asks: the UID of the cluster, or a DNS node's own random id.
    #[prost(string, tag = "4")]
    pub uid: String,
}

/// A certificate's owner asks for the next one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RenewRequest {
    /// A PKCS#10 request in DER. Only its public key counts.
    #[prost(bytes = "vec", tag = "1")]
    pub csr: Vec<u8>,
}

/// The answer to both: exactly one of the two.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignReply {
    /// What was asked for.
    #[prost(message, optional, tag = "1")]
    pub signed: Option<Signed>,
    /// Why not.
    #[prost(message, optional, tag = "2")]
    pub refusal: Option<Refusal>,
}

/// A certificate and the authority that signed it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signed {
    /// The certificate, then any between it and the authority; PEM.
    #[prost(string, tag = "1")]
    pub chain_pem: String,
    /// The authority's certificate; PEM.
    #[prost(string, tag = "2")]
    pub ca_pem: String,
}

/// A refusal that a person can act on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// A [`RefusalCode`].
    #[prost(enumeration = "RefusalCode", tag = "1")]
    pub code: i32,
    /// What is wrong and what to do.
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// The code; `Unspecified` for one that this version does not know.
    pub fn reason(&self) -> RefusalCode {
        RefusalCode::try_from(self.code).unwrap_or(RefusalCode::Unspecified)
    }
}

/// Why the hub refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RefusalCode {
    /// Not said, or said by a newer version.
    Unspecified = 0,
    /// No such token, or the secret is not its.
    UnknownToken = 1,
    /// The token was used, with another key.
    UsedToken = 2,
    /// The token's time is over.
    ExpiredToken = 3,
    /// The token or the certificate belongs to another cluster.
    Foreign = 4,
    /// The request cannot be read.
    Malformed = 5,
    /// The certificate is revoked or its owner removed.
    Revoked = 6,
    /// The hub could not decide now; ask again.
    Unavailable = 7,
    /// The two versions do not understand each other.
    Incompatible = 8,
    /// The certificate is not (or no longer) accepted.
    Certificate = 9,
}

/// The dialling end introduces itself. **Nothing here says who it is**: that is in its certificate only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// The program's version.
    #[prost(string, tag = "1")]
    pub software: String,
    /// Which of several processes of one peer this is (a pod's slot). A new session of an instance ends its old one.
    #[prost(string, tag = "2")]
    pub instance: String,
    /// Which start of that process this is.
    #[prost(string, tag = "3")]
    pub boot: String,
    /// Anything the owners want to say, such as the pod's or the machine's name.
    #[prost(btree_map = "string, string", tag = "4")]
    pub notes: BTreeMap<String, String>,
}

/// The hub's answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloAck {
    /// Which hub process answers.
    #[prost(string, tag = "1")]
    pub hub: String,
    /// The hub's leadership term; what is sent in an older one is stale.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Set: the session does not begin, and the connection ends after this.
    #[prost(message, optional, tag = "3")]
    pub refusal: Option<Refusal>,
}

/// Still here.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Beat {
    /// Counts up from 1 within a conversation.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// The sender's current estimate of the round trip, in microseconds.
    #[prost(uint64, tag = "2")]
    pub rtt_us: u64,
}

/// The sender is leaving; what is under way ends soon, and nothing new shall be begun.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GoAway {
    /// For people.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// A [`Code`](crate::code::Code).
    #[prost(uint32, tag = "2")]
    pub code: u32,
}

/// A frame of the control stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// What it says; `None` from a newer version that says something unknown here, to be skipped.
    #[prost(oneof = "ControlBody", tags = "1, 2, 3, 4")]
    pub body: Option<ControlBody>,
}

/// What a control frame says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ControlBody {
    /// First, from the dialling end.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// First, from the hub.
    #[prost(message, tag = "2")]
    HelloAck(HelloAck),
    /// Then, both ways.
    #[prost(message, tag = "3")]
    Beat(Beat),
    /// Last.
    #[prost(message, tag = "4")]
    GoAway(GoAway),
}

impl From<ControlBody> for Control {
    fn from(body: ControlBody) -> Self {
        Self { body: Some(body) }
    }
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FrameError {
    /// The length is over what this frame may have.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// What the length said.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The bytes are no such message.
    #[error("cannot read a {what}")]
    Malformed {
        /// Which message was expected.
        what: &'static str,
        /// Where it broke.
        #[source]
        source: prost::DecodeError,
    },
}

/// The message with its length in front.
pub fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(4 + length);
    // A message of ours is built from parts that are checked far below 4 GiB; a larger one would be refused by its
    // receiver as too large, never misread.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// How many bytes follow a length prefix.
///
/// # Errors
/// If more than `limit`.
pub fn length(prefix: [u8; 4], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    Ok(length)
}

/// The message in a frame's bytes (without the length).
///
/// # Errors
/// If they are no such message; unknown fields are skipped.
pub fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, FrameError> {
    M::decode(bytes).map_err(|source| FrameError::Malformed { what, source })
}

/// Whether a topic's name can be sent: 1 to [`TOPIC_BYTES_MAX`] visible ASCII characters.
pub fn topic_is_valid(topic: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_total(bytes: &[u8]) {
        drop(decode::<StreamHead>("head", bytes));
        drop(decode::<EnrolRequest>("enrol request", bytes));
        drop(decode::<RenewRequest>("renew request", bytes));
        drop(decode::<SignReply>("reply", bytes));
        if let Ok(control) = decode::<Control>("control", bytes) {
            // What was read can be written and reads the same: nothing in memory that the wire cannot say.
            let frame = encode(&control);
            assert_eq!(decode::<Control>("control", &frame[4..]), Ok(control));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            check_total(&bytes);
        }

        #[test]
        fn damaged_frames_decode_or_fail(
            instance in ".{0,40}", sequence: u64, at in 0usize..200, flip: u8, cut in 0usize..200,
        ) {
            let hello = Hello { instance, notes: BTreeMap::from([("k".into(), "v".into())]), ..Hello::default() };
            for body in [ControlBody::Hello(hello), ControlBody::Beat(Beat { sequence, rtt_us: sequence })] {
                let mut bytes = encode(&Control::from(body))[4..].to_vec();
                let n = bytes.len();
                bytes[at % n] ^= flip;
                bytes.truncate(cut.max(1));
                check_total(&bytes);
            }
        }

        #[test]
        fn frames_return(topic in "[!-~]{1,128}", number: u64, digest: [u8; 32]) {
            let head = StreamHead { digest: Bytes::copy_from_slice(&digest), ..StreamHead::publish(&topic, number) };
            let frame = encode(&head);
            let prefix = [frame[0], frame[1], frame[2], frame[3]];
            prop_assert_eq!(length(prefix, HEAD_BYTES_MAX), Ok(frame.len() - 4));
            prop_assert_eq!(decode::<StreamHead>("head", &frame[4..]), Ok(head));
            prop_assert!(topic_is_valid(&topic));
        }

        #[test]
        fn a_length_over_the_limit_is_refused(value: u32, limit in 0usize..1_000_000) {
            let given = value as usize;
            prop_assert_eq!(length(value.to_be_bytes(), limit).is_ok(), given <= limit);
        }
    }

    #[test]
    fn topics() {
        for bad in ["", "a b", "a\n", "ü", &"x".repeat(129)] {
            assert!(!topic_is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_frame_of_a_newer_version_is_skipped_not_refused() {
        // Field 15, length-delimited: no body that is known here.
        let control: Control = decode("control", &[0x7a, 0x01, 0x00]).expect("unknown fields are skipped");
        assert_eq!(control.body, None);
    }
}
