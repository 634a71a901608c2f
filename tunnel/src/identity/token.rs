//! Tokens of enrolment, as a person copies them: `iso1.` and base64url (RFC 4648 §5, no padding).
//!
//! Inside is a protobuf message behind four bytes of its SHA-256, so that a token which lost a character is told from one
//! which the hub does not know, before anything is sent.

use std::fmt;

use prost::Message;
use sha2::{Digest, Sha256};

use super::{Role, segment_is_valid};

const PREFIX: &str = "iso1.";
const CHECK_BYTES: usize = 4;
/// No token with names and a few addresses comes near; what is longer is something else.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The right to enrol once, as one peer, with one hub.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Which token; no secret.
    pub id: String,
    /// 256 random bits.
    pub secret: [u8; 32],
    /// What its bearer becomes.
    pub role: Role,
    /// Which cluster or DNS node its bearer becomes.
    pub name: String,
    /// The authority's [`pin`](super::Authority::pin).
    pub pin: [u8; 32],
    /// Where the hub is, `host:port` each; at least one.
    pub hubs: Vec<String>,
}

impl fmt::Debug for Token {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, secret: _, role, name, pin: _, hubs } = self;
        f.debug_struct("Token")
            .field("id", id)
            .field("role", role)
            .field("name", name)
            .field("hubs", hubs)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins otherwise.
    #[error(
        "this is no token: one begins with \"iso1.\"; copy it whole from the output of `isochrone cluster add NAME`"
    )]
    Prefix,
    /// A character that no token has.
    #[error(
        "the token was damaged in copying: {0:?} stands in it; copy it again, or get a new one by `isochrone cluster add NAME`"
    )]
    Character(char),
    /// Its check sum does not fit.
    #[error("the token was damaged or cut in copying; copy it again, or get a new one by `isochrone cluster add NAME`")]
    Damaged,
    /// It is whole, and says something that this version cannot use.
    #[error(
        "the token's {0} cannot be used by this version; get a new one by `isochrone cluster add NAME` from the same version"
    )]
    Content(&'static str),
}

#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    secret: Vec<u8>,
    #[prost(string, tag = "3")]
    role: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(bytes = "vec", tag = "5")]
    pin: Vec<u8>,
    #[prost(string, repeated, tag = "6")]
    hubs: Vec<String>,
}

impl Token {
    /// A new one, with a random id and secret.
    pub fn generate(role: Role, name: &str, pin: [u8; 32], hubs: Vec<String>) -> Self {
        let id = super::hex(&rand::random::<[u8; 6]>());
        Self { id, secret: rand::random(), role, name: name.to_owned(), pin, hubs }
    }

    /// Reads one.
    ///
    /// # Errors
    /// Say what is wrong and what to do.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let coded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if coded.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = decode(coded)?;
        let (check, body) = bytes.split_at_checked(CHECK_BYTES).ok_or(TokenError::Damaged)?;
        if check != &Sha256::digest(body)[..CHECK_BYTES] {
            return Err(TokenError::Damaged);
        }
        let body = Body::decode(body).map_err(|_| TokenError::Content("body"))?;
        if !segment_is_valid(&body.id) {
            return Err(TokenError::Content("id"));
        }
        if !segment_is_valid(&body.name) {
            return Err(TokenError::Content("name"));
        }
        if body.hubs.is_empty() || body.hubs.iter().any(|hub| !address_is_valid(hub)) {
            return Err(TokenError::Content("hub addresses"));
        }
        Ok(Self {
            id: body.id,
            secret: body.secret.try_into().map_err(|_| TokenError::Content("secret"))?,
            role: Role::from_word(&body.role).ok_or(TokenError::Content("role"))?,
            name: body.name,
            pin: body.pin.try_into().map_err(|_| TokenError::Content("pin"))?,
            hubs: body.hubs,
        })
    }

    /// What the hub keeps: never the secret itself.
    pub fn secret_hash(&self) -> [u8; 32] {
        hash_secret(&self.secret)
    }
}

impl fmt::Display for Token {
    /// The text form. **It holds the secret**; `Debug` does not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = Body {
            id: self.id.clone(),
            secret: self.secret.to_vec(),
            role: self.role.as_str().to_owned(),
            name: self.name.clone(),
            pin: self.pin.to_vec(),
            hubs: self.hubs.clone(),
        }
        .encode_to_vec();
        let mut bytes = Sha256::digest(&body)[..CHECK_BYTES].to_vec();
        bytes.extend_from_slice(&body);
        write!(f, "{PREFIX}{}", encode(&bytes))
    }
}

/// What a secret is kept and compared as. A plain hash is enough: 256 random bits cannot be guessed through it, and
/// comparing hashes tells nothing about how much of a guess was right.
pub fn hash_secret(secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update("isochrone token").chain_update(secret).finalize().into()
}

fn address_is_valid(hub: &str) -> bool {
    hub.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for n in 0..=group.len() {
            let index = usize::try_from(bits >> (18 - 6 * n) & 63).unwrap_or(0);
            text.push(char::from(ALPHABET[index]));
        }
    }
    text
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for c in text.chars() {
        let value = u32::try_from(ALPHABET.iter().position(|&a| char::from(a) == c).ok_or(TokenError::Character(c))?)
            .unwrap_or(0);
        bits = (bits << 6 | value) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.extend_from_slice(&(bits >> count).to_be_bytes()[3..]);
        }
    }
    // A length or left-over bits that no encoder writes: one text for one token.
    if count >= 6 || bits & ((1 << count) - 1) != 0 {
        return Err(TokenError::Damaged);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::generate(Role::Agent, "eu-1", [9; 32], vec!["hub.example.com:7443".into(), "[::1]:7443".into()])
    }

    #[test]
    fn the_text_returns_and_debug_hides_the_secret() {
        let token = token();
        let text = token.to_string();
        assert_eq!(Token::parse(&format!("  {text}\n")), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("secret"));
        assert!(text.len() < 250, "a token must fit into a command: {}", text.len());
        assert_eq!(Token::parse("hello"), Err(TokenError::Prefix));
        assert_eq!(Token::parse("iso1.a!b"), Err(TokenError::Character('!')));
        assert_eq!(Token::parse("iso1."), Err(TokenError::Damaged));
    }

    #[test]
    fn base64url_gives_the_published_values() {
        // RFC 4648 §10, without padding.
        for (plain, coded) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded), Ok(plain.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_token_without_a_usable_hub_is_refused() {
        for hub in ["", "host", "host:0", ":1", "host:99999"] {
            let bad = Token { hubs: vec![hub.to_owned()], ..token() };
            assert_eq!(Token::parse(&bad.to_string()), Err(TokenError::Content("hub addresses")), "{hub}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error(text in ".{0,80}") {
            drop(Token::parse(&text));
            drop(Token::parse(&format!("iso1.{text}")));
        }

        #[test]
        fn one_changed_or_lost_character_is_noticed(at: prop::sample::Index, to in "[A-Za-z0-9_-]", lose: bool) {
            let text = token().to_string();
            let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
            let mut damaged = text.clone();
            damaged.replace_range(at..=at, if lose { "" } else { &to });
            prop_assert!(damaged == text || Token::parse(&damaged) == Err(TokenError::Damaged));
        }

        #[test]
        fn base64url_returns(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }
    }
}
