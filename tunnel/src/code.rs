//! Why a stream or a connection ended: the application error codes of RFC 9000 §20.2, one space for both.
//!
//! A number, once given, keeps its meaning for ever; a peer of another version may send one that is unknown here, and
//! that is not an error.

use std::fmt;

/// A code that this version knows. Streams use those from 0x20, connections those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Code {
    /// The peer leaves on purpose.
    Goodbye = 0x01,
    /// A newer session of the same instance has taken over.
    Replaced = 0x02,
    /// The certificate is revoked, or its owner was removed from the hub.
    Revoked = 0x03,
    /// Without a certificate only enrolment is served.
    NoCertificate = 0x04,
    /// With an expired certificate only renewal is served.
    ExpiredCertificate = 0x05,
    /// The certificate is signed by the hub's authority and names nobody.
    BadCertificate = 0x06,
    /// The hello was refused; the answer to it said why.
    Refused = 0x07,
    /// This hub is going away; dial another.
    Draining = 0x08,
    /// The peer broke the protocol.
    Protocol = 0x09,
    /// Too many of this kind at once; come back later.
    Busy = 0x0a,
    /// No beat for too long.
    Silent = 0x0b,
    /// What was asked for did not come in time.
    TooSlow = 0x0c,
    /// The stream's kind is unknown here.
    UnknownKind = 0x20,
    /// The stream's version is unknown here.
    UnknownVersion = 0x21,
    /// The stream's bytes could not be read as what its kind needs.
    Malformed = 0x22,
    /// The payload is over its limit.
    TooLarge = 0x23,
    /// There is no such blob here.
    NotFound = 0x24,
    /// The stream's kind is known and not allowed here.
    NotAllowed = 0x25,
    /// The receiver holds as many streams of this kind as it will.
    StreamBusy = 0x26,
    /// The receiver no longer wants it.
    Cancelled = 0x27,
}

impl Code {
    const ALL: [Self; 20] = [
        Self::Goodbye,
        Self::Replaced,
        Self::Revoked,
        Self::NoCertificate,
        Self::ExpiredCertificate,
        Self::BadCertificate,
        Self::Refused,
        Self::Draining,
        Self::Protocol,
        Self::Busy,
        Self::Silent,
        Self::TooSlow,
        Self::UnknownKind,
        Self::UnknownVersion,
        Self::Malformed,
        Self::TooLarge,
        Self::NotFound,
        Self::NotAllowed,
        Self::StreamBusy,
        Self::Cancelled,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number; `None` for one that this version does not know.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number)
    }

    /// Whether dialling again soon can help. Where not, the dialling end tries slowly and tells its owner.
    pub fn is_refusal(self) -> bool {
        match self {
            Self::Revoked | Self::NoCertificate | Self::ExpiredCertificate | Self::BadCertificate | Self::Refused => {
                true
            }
            Self::Goodbye
            | Self::Replaced
            | Self::Draining
            | Self::Protocol
            | Self::Busy
            | Self::Silent
            | Self::TooSlow
            | Self::UnknownKind
            | Self::UnknownVersion
            | Self::Malformed
            | Self::TooLarge
            | Self::NotFound
            | Self::NotAllowed
            | Self::StreamBusy
            | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goodbye => "goodbye",
            Self::Replaced => "replaced by a newer session",
            Self::Revoked => "certificate revoked",
            Self::NoCertificate => "no certificate: only enrolment is served",
            Self::ExpiredCertificate => "certificate expired: only renewal is served",
            Self::BadCertificate => "certificate names nobody",
            Self::Refused => "hello refused",
            Self::Draining => "hub is going away",
            Self::Protocol => "protocol broken",
            Self::Busy => "too many at once",
            Self::Silent => "no beat for too long",
            Self::TooSlow => "took too long",
            Self::UnknownKind => "unknown kind of stream",
            Self::UnknownVersion => "unknown version of stream",
            Self::Malformed => "malformed stream",
            Self::TooLarge => "payload too large",
            Self::NotFound => "no such blob",
            Self::NotAllowed => "stream not allowed here",
            Self::StreamBusy => "too many streams of this kind",
            Self::Cancelled => "no longer wanted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_return() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(u64::from(code.number())), Some(code));
        }
        assert_eq!(Code::from_number(0), None);
        assert_eq!(Code::from_number(u64::MAX), None);
    }
}
