//! Who is who: the hub's own authority, the certificates it signs, and how each end checks the other.
//!
//! * The hub **is** an [`Authority`]. It signs its own server certificate and those of agents and DNS nodes, and writes
//!   into them who they are: `spiffe://isochrone/<role>/<name>/<uid>`. DNS nodes serve each other with the same
//!   certificate, and are known by that subject (SPIFFE X.509-SVID §5), not by a host name. Of a request only the public key counts; whatever
//!   else it asks for is ignored, so that nobody renews into somebody else.
//! * A client's key is made where it is used and never leaves; the hub stores none.
//! * Before it has a certificate a client knows the hub by the pin in its [`Token`] (the SHA-256 of the authority's
//!   public key), afterwards by the authority's certificate. The server's name is one constant, so any address works.
//! * An expired certificate is accepted for [`RENEWAL_GRACE`], for renewal only; [`Peer::expired`] says so, and the
//!   server holds its bearer to that.
//!
//! * What is no longer welcome is a [`Revocation`]; whoever verifies (hub, DNS nodes) is told them by its owner.
//!
//! Nothing here reads a clock or a file: `now` is an argument, directories are [`state`](crate::state)'s. Absent: a
//! rotation of the authority.

mod revocation;
mod token;
mod verify;

use std::fmt;
use std::time::{Duration, SystemTime};

use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};

pub use revocation::Revocation;
pub use token::{Token, TokenError, hash_secret};
pub(crate) use verify::{client_tls, enrol_tls, fellow_tls, server_tls};

/// The name in every hub's certificate and in every client's TLS greeting.
pub const SERVER_NAME: &str = "hub.isochrone.internal";

/// A client's certificate: 90 days, the upper end of what Kubernetes allows its own (KEP-4317), and with renewal from a
/// third on an agent may be cut off for two months without losing its identity.
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(90 * DAY);

/// After its end a certificate is good for renewal for 30 days more: a cluster that slept for a quarter returns without a
/// person, a certificate found on an old disk does not.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(30 * DAY);

/// A hub makes its server certificate at each start, and while it runs whenever its owner asks.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(90 * DAY);

/// The authority itself: ten years, as Kubernetes' own; its rotation is a person's decision.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * DAY);

/// What hub-signed certificates are dated back by, and what a client's may lie in the future when it is checked: hubs
/// sign and check by several clocks. Five minutes are Kerberos' tolerance, and more than NTP leaves.
const SKEW: Duration = Duration::from_secs(300);

const DAY: u64 = 24 * 60 * 60;

/// A name within an identity is at most so long, as a DNS name.
const SEGMENT_BYTES_MAX: usize = 253;

/// What can be wrong about keys, certificates and requests.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A part of an identity cannot be written.
    #[error("{part} {value:?} cannot stand in an identity: write 1 to 253 letters, digits, '-', '_' or '.'")]
    Segment {
        /// `name` or `uid`.
        part: &'static str,
        /// What was given.
        value: String,
    },
    /// A PEM text holds something else.
    #[error("no {what} in the PEM text")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key are not of one pair.
    #[error("the {what} and its key are not of one pair")]
    Pair {
        /// Whose certificate.
        what: &'static str,
    },
    /// The certificate names nobody of ours.
    #[error("the certificate names no peer: its one URI must be spiffe://isochrone/<role>/<name>/<uid>")]
    NoPeer,
    /// A signing request cannot be read, or is not signed by its own key.
    #[error("the signing request is unreadable or not signed by its own key")]
    Request,
    /// A certificate cannot be read.
    #[error("the certificate is unreadable")]
    Certificate,
    /// Keys or certificates could not be made.
    #[error("cannot make {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// TLS settings do not fit together.
    #[error("cannot set up TLS with this identity")]
    Tls(#[source] rustls::Error),
    /// A verifier could not be made from the authority's certificate.
    #[error("cannot verify peers with this authority")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An agent; its name is its cluster's.
    Agent,
    /// A DNS node.
    Dns,
}

impl Role {
    /// As in certificates and tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Dns => "dns",
        }
    }

    /// The role of a word; `None` for any other.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Agent, Self::Dns].into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    role: Role,
    name: String,
    uid: String,
}

impl Subject {
    /// A subject whose parts can be written into a certificate.
    ///
    /// # Errors
    /// If a part is empty, too long, or holds other than letters, digits, `-`, `_` and `.`.
    pub fn new(role: Role, name: &str, uid: &str) -> Result<Self, IdentityError> {
        for (part, value) in [("name", name), ("uid", uid)] {
            if !segment_is_valid(value) {
                let value = value.chars().take(SEGMENT_BYTES_MAX).collect();
                return Err(IdentityError::Segment { part, value });
            }
        }
        Ok(Self { role, name: name.to_owned(), uid: uid.to_owned() })
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The cluster's or the DNS node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The UID of the cluster's `kube-system` namespace, or a DNS node's random id.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// As in the certificate.
    pub fn uri(&self) -> String {
        format!("spiffe://isochrone/{}/{}/{}", self.role, self.name, self.uid)
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("spiffe://isochrone/")?.split('/');
        let (role, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Self::new(Role::from_word(role)?, name, uid).ok()
    }
}

fn segment_is_valid(segment: &str) -> bool {
    (1..=SEGMENT_BYTES_MAX).contains(&segment.len())
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The other end of a connection, as its verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is.
    pub role: Role,
    /// The cluster's or the DNS node's name.
    pub name: String,
    /// The cluster's UID or the DNS node's id.
    pub uid: String,
    /// The certificate's serial number in lower-case hexadecimal.
    pub serial: String,
    /// The certificate's beginning.
    pub not_before: SystemTime,
    /// The certificate's end.
    pub not_after: SystemTime,
    /// It is past that end, within [`RENEWAL_GRACE`]: good for renewal only.
    pub expired: bool,
}

impl Peer {
    /// Reads it from a certificate **that the handshake has verified**.
    ///
    /// # Errors
    /// If it is unreadable or has not exactly one URI of ours.
    pub fn from_certificate(der: &[u8], now: SystemTime) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        let san = certificate.subject_alternative_name().map_err(|_| IdentityError::Certificate)?;
        let names = &san.ok_or(IdentityError::NoPeer)?.value.general_names;
        let [GeneralName::URI(uri)] = names.as_slice() else {
            return Err(IdentityError::NoPeer);
        };
        let Subject { role, name, uid } = Subject::from_uri(uri).ok_or(IdentityError::NoPeer)?;
        let (not_before, not_after) = validity(&certificate);
        let serial = certificate.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { role, name, uid, serial, not_before, not_after, expired: now > not_after })
    }

    /// Reads it from the first certificate of a PEM text that we signed or were given by the hub.
    ///
    /// # Errors
    /// As [`Peer::from_certificate`], or if there is no certificate.
    pub fn from_pem(pem: &str, now: SystemTime) -> Result<Self, IdentityError> {
        Self::from_certificate(&certificate_der(pem)?, now)
    }

    /// Whom its next certificate is for: the same.
    pub fn subject(&self) -> Subject {
        Subject { role: self.role, name: self.name.clone(), uid: self.uid.clone() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.role, self.name, self.uid)
    }
}

/// The hub's own certificate authority, one for agents, DNS nodes, hubs and users.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    pin: [u8; 32],
}

impl fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("pin", &hex(&self.pin)).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one: ECDSA P-256, which every verifier knows.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate(now: SystemTime) -> Result<Self, IdentityError> {
        let making = |source| IdentityError::Make { what: "an authority", source };
        let key = KeyPair::generate().map_err(making)?;
        let mut params = params(now - SKEW, now + AUTHORITY_LIFETIME, "isochrone authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(making)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// One that was kept.
    ///
    /// # Errors
    /// If a text is unreadable or the two are not of one pair.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let key = key_pair(key)?;
        let der = certificate_der(certificate)?;
        if public_key(&der)? != key.subject_public_key_info() {
            return Err(IdentityError::Pair { what: "authority" });
        }
        let pin = Sha256::digest(key.subject_public_key_info()).into();
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|source| IdentityError::Make { what: "an issuer of this certificate", source })?;
        Ok(Self { certificate_pem: certificate.to_owned(), issuer, pin })
    }

    /// Certificate and key, to be kept as a secret.
    pub fn to_pem(&self) -> (String, String) {
        (self.certificate_pem.clone(), self.issuer.key().serialize_pem())
    }

    /// The certificate, for those who verify.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo, as in RFC 7469).
    pub fn pin(&self) -> [u8; 32] {
        self.pin
    }

    /// A certificate for a hub, valid for [`SERVER_NAME`] and `names`, with a fresh key. `names` should tell the hub's
    /// replicas apart: the key of its stateless resets is drawn from them, and one replica must not end the connections
    /// of another.
    ///
    /// # Errors
    /// If a name is no host name or address.
    pub fn issue_server(&self, names: &[String], now: SystemTime) -> Result<ServerIdentity, IdentityError> {
        let making = |source| IdentityError::Make { what: "a server certificate", source };
        let key = KeyPair::generate().map_err(making)?;
        let mut all = vec![SERVER_NAME.to_owned()];
        all.extend_from_slice(names);
        let dated = params(now - SKEW, now + SERVER_LIFETIME, "isochrone hub");
        let mut params = CertificateParams::new(all).map_err(making)?;
        params.not_before = dated.not_before;
        params.not_after = dated.not_after;
        params.distinguished_name = dated.distinguished_name;
        params.serial_number = dated.serial_number;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(making)?;
        let mut reset =
            Sha256::new().chain_update("isochrone stateless reset").chain_update(self.issuer.key().serialized_der());
        for name in names {
            reset.update([0]);
            reset.update(name);
        }
        Ok(ServerIdentity {
            certificate: certificate.der().clone(),
            authority: certificate_der(&self.certificate_pem)?,
            key_pem: key.serialize_pem(),
            reset_key: reset.finalize().into(),
        })
    }

    /// Signs the public key of a request for `subject`, from `now` for `lifetime`; everything else in the request is
    /// ignored. Gives the certificate as PEM.
    ///
    /// # Errors
    /// If the request is unreadable or not signed by its own key.
    pub fn sign(
        &self,
        csr: &[u8],
        subject: &Subject,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String, IdentityError> {
        let making = |source| IdentityError::Make { what: "a client certificate", source };
        let key = rcgen::SubjectPublicKeyInfo::from_der(&request_key(csr)?).map_err(|_| IdentityError::Request)?;
        let uri = subject.uri().try_into().map_err(making)?;
        // Not dated back: renewal counts from the start, and a certificate of seconds must not be born old. What the
        // hubs' clocks differ by is allowed for where it is checked.
        let mut params = params(now, now + lifetime, &subject.name);
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match subject.role {
            Role::Agent => vec![ExtendedKeyUsagePurpose::ClientAuth],
            // It also serves its fellow nodes. It cannot pass for a hub: the hub's name is not in it.
            Role::Dns => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
        };
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&key, &self.issuer).map_err(making)?.pem())
    }
}

fn params(not_before: SystemTime, not_after: SystemTime, common_name: &str) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut serial: [u8; 16] = rand::random();
    // Positive and not zero, as RFC 5280 §4.1.2.2 wants.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut params = CertificateParams::default();
    // Whole seconds are all that X.509 can say: the start rounded down, the end up, never less than was asked for.
    params.not_before = epoch + Duration::from_secs(since(not_before).as_secs());
    params.not_after = epoch + Duration::from_secs((since(not_after) + Duration::from_nanos(999_999_999)).as_secs());
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// What a hub serves with, or a DNS node its fellows.
#[derive(Clone)]
pub struct ServerIdentity {
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    key_pem: String,
    reset_key: [u8; 32],
}

impl ServerIdentity {
    /// Serves with the identity that one dials with: a DNS node its fellows. Those check the subject, not a host name.
    ///
    /// # Errors
    /// If a part is unreadable.
    pub fn of(identity: &Identity) -> Result<Self, IdentityError> {
        let reset = Sha256::new().chain_update("isochrone stateless reset").chain_update(&identity.key_pem);
        Ok(Self {
            certificate: certificate_der(&identity.certificate_pem)?,
            authority: certificate_der(&identity.ca_pem)?,
            key_pem: identity.key_pem.clone(),
            reset_key: reset.finalize().into(),
        })
    }

    /// The hub's certificate as if it were a client's, to see that it is not taken for one.
    #[cfg(test)]
    pub(crate) fn tls_as_client(&self) -> rustls::ClientConfig {
        verify::tls_with(&self.authority, vec![self.certificate.clone()], &self.key_pem).expect("settings")
    }

    pub(crate) fn reset_key(&self) -> &[u8; 32] {
        &self.reset_key
    }
}

impl fmt::Debug for ServerIdentity {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

/// A client's key, made here.
pub struct Key(KeyPair);

impl fmt::Debug for Key {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A new one: ECDSA P-256.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate().map(Self).map_err(|source| IdentityError::Make { what: "a key", source })
    }

    /// One that was kept.
    ///
    /// # Errors
    /// If the text holds no key.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        key_pair(pem).map(Self)
    }

    /// To be kept as a secret.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request for this key in DER. It asks for nothing: who its bearer is, the hub writes.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let making = |source| IdentityError::Make { what: "a signing request", source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&self.0).map_err(making)?.der().to_vec())
    }
}

/// A client's whole identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its key. Secret.
    pub key_pem: String,
    /// Its certificate, and any between it and the authority.
    pub certificate_pem: String,
    /// The authority's certificate.
    pub ca_pem: String,
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl Identity {
    /// An identity whose parts belong together.
    ///
    /// # Errors
    /// If a part is unreadable, key and certificate are not of one pair, or the certificate names nobody.
    pub fn new(key_pem: String, certificate_pem: String, ca_pem: String) -> Result<Self, IdentityError> {
        let this = Self { key_pem, certificate_pem, ca_pem };
        let der = certificate_der(&this.certificate_pem)?;
        if public_key(&der)? != key_pair(&this.key_pem)?.subject_public_key_info() {
            return Err(IdentityError::Pair { what: "certificate" });
        }
        Peer::from_certificate(&der, SystemTime::UNIX_EPOCH)?;
        certificate_der(&this.ca_pem)?;
        Ok(this)
    }

    /// Who we are, as our certificate says.
    ///
    /// # Errors
    /// If it is unreadable.
    pub fn peer(&self, now: SystemTime) -> Result<Peer, IdentityError> {
        Peer::from_pem(&self.certificate_pem, now)
    }

    /// From when on to renew: a third of its life, plus up to a tenth by `random`, so that a fleet that was enrolled in
    /// one hour does not renew in one.
    ///
    /// # Errors
    /// If it is unreadable.
    pub fn renewal_due(&self, random: u64) -> Result<SystemTime, IdentityError> {
        let (not_before, not_after) = self.validity()?;
        let life = not_after.duration_since(not_before).unwrap_or_default();
        let jitter = (life / 10).mul_f64(random as f64 / u64::MAX as f64);
        Ok(not_before + life / 3 + jitter)
    }

    /// The pin of its authority.
    ///
    /// # Errors
    /// If the authority's certificate is unreadable.
    pub fn ca_pin(&self) -> Result<[u8; 32], IdentityError> {
        Ok(Sha256::digest(public_key(&certificate_der(&self.ca_pem)?)?).into())
    }

    /// Start and end of its certificate.
    ///
    /// # Errors
    /// If it is unreadable.
    pub fn validity(&self) -> Result<(SystemTime, SystemTime), IdentityError> {
        Ok(validity(&parse(&certificate_der(&self.certificate_pem)?)?))
    }
}

/// SHA-256 of the public key that a request is for: what makes a second use of a token a retry or a theft.
///
/// # Errors
/// If the request is unreadable or not signed by its own key.
pub fn request_key_hash(csr: &[u8]) -> Result<[u8; 32], IdentityError> {
    Ok(Sha256::digest(request_key(csr)?).into())
}

fn request_key(csr: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let (rest, request) = X509CertificationRequest::from_der(csr).map_err(|_| IdentityError::Request)?;
    request.verify_signature().map_err(|_| IdentityError::Request)?;
    if !rest.is_empty() {
        return Err(IdentityError::Request);
    }
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}

fn key_pair(pem: &str) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pem(pem).map_err(|_| IdentityError::Pem { what: "private key" })
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::Pem { what: "private key" })
}

/// The first certificate of a PEM text.
fn certificate_der(pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::Pem { what: "certificate" })
}

/// All certificates of a PEM text; at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) | Err(_) => Err(IdentityError::Pem { what: "certificate" }),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(IdentityError::Certificate),
    }
}

fn public_key(der: &[u8]) -> Result<Vec<u8>, IdentityError> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A random id of 128 bits in hexadecimal, such as a DNS node's uid, an instance or a boot id.
pub fn random_id() -> String {
    hex(&rand::rng().random::<[u8; 16]>())
}

#[cfg(test)]
mod tests;
