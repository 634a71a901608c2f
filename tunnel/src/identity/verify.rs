//! How each end checks the other's certificate, as rustls asks for it. TLS 1.3 only, one crypto provider, no tickets.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::{
    Identity, IdentityError, Peer, RENEWAL_GRACE, Role, SKEW, ServerIdentity, certificate_der, certificates, parse,
    private_key, public_key, validity,
};
use crate::transport::quic::ALPN;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A hub's settings: a client certificate is asked for and not required (enrolment has none); one that is shown must be
/// of our authority and in its time, or past it by no more than the grace.
pub(crate) fn server_tls(identity: &ServerIdentity) -> Result<ServerConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority.clone()).map_err(IdentityError::Tls)?;
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(IdentityError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_client_cert_verifier(Arc::new(GraceVerifier { inner }))
        // The authority goes along for those who know it by its pin only.
        .with_single_cert(
            vec![identity.certificate.clone(), identity.authority.clone()],
            private_key(&identity.key_pem)?,
        )
        .map_err(IdentityError::Tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// A client's settings once it is enrolled.
pub(crate) fn client_tls(identity: &Identity) -> Result<ClientConfig, IdentityError> {
    tls_with(&certificate_der(&identity.ca_pem)?, certificates(&identity.certificate_pem)?, &identity.key_pem)
}

pub(super) fn tls_with(
    authority: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key_pem: &str,
) -> Result<ClientConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(IdentityError::Tls)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private_key(key_pem)?)
        .map_err(IdentityError::Tls)?;
    Ok(finish(config))
}

/// The settings towards a fellow, one that serves with a certificate of its own under our authority: it must be of this
/// role and name, whatever its address.
pub(crate) fn fellow_tls(identity: &Identity, role: Role, name: &str) -> Result<ClientConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate_der(&identity.ca_pem)?).map_err(IdentityError::Tls)?;
    let config = knowing(KnownBy::Subject { roots, role, name: name.to_owned() })?
        .with_client_auth_cert(certificates(&identity.certificate_pem)?, private_key(&identity.key_pem)?)
        .map_err(IdentityError::Tls)?;
    Ok(finish(config))
}

/// A client's settings before: it knows the authority's pin, and shows no certificate.
pub(crate) fn enrol_tls(pin: [u8; 32]) -> Result<ClientConfig, IdentityError> {
    Ok(finish(knowing(KnownBy::Pin(pin))?.with_no_client_auth()))
}

/// Settings towards a server that is known by something else than a host name.
fn knowing(known_by: KnownBy) -> Result<rustls::ConfigBuilder<ClientConfig, WantsClientCert>, IdentityError> {
    let verifier = ServerVerifier { known_by, provider: provider() };
    Ok(ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// Accepts what webpki accepts, at a time moved into the certificate's life: back to its end if that is past by at most
/// the grace, forward to its start if that lies ahead by at most the skew of the hubs' clocks. Chain, signatures and
/// usage are checked all the same.
#[derive(Debug)]
struct GraceVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl GraceVerifier {
    fn time_to_check(end_entity: &CertificateDer<'_>, now: UnixTime) -> Result<UnixTime, Error> {
        let certificate = parse(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let (not_before, not_after) = validity(&certificate);
        let seconds =
            |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (not_before, not_after) = (seconds(not_before), seconds(not_after));
        let now = now.as_secs();
        let at = if now > not_after && now - not_after <= RENEWAL_GRACE.as_secs() {
            not_after
        } else if now < not_before && not_before - now <= SKEW.as_secs() {
            not_before
        } else {
            now
        };
        Ok(UnixTime::since_unix_epoch(Duration::from_secs(at)))
    }
}

impl ClientCertVerifier for GraceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(end_entity, intermediates, Self::time_to_check(end_entity, now)?)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies a server that is not known by a host name.
#[derive(Debug)]
struct ServerVerifier {
    known_by: KnownBy,
    provider: Arc<CryptoProvider>,
}

/// What a server is known by. Chain, times and usage are checked in either case, as webpki does.
#[derive(Debug)]
enum KnownBy {
    /// The key of its authority, whose certificate it shows along.
    Pin([u8; 32]),
    /// Its subject, under an authority that is known.
    Subject { roots: RootCertStore, role: Role, name: String },
}

impl ServerVerifier {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.known_by {
            KnownBy::Pin(pin) => {
                let pinned = intermediates
                    .iter()
                    .find(|der| public_key(der).is_ok_and(|key| <[u8; 32]>::from(Sha256::digest(key)) == *pin))
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let mut roots = RootCertStore::empty();
                roots.add(pinned.clone().into_owned())?;
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?
                    .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            KnownBy::Subject { roots, role, name } => {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                let algorithms = self.algorithms().all;
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
                let now = std::time::UNIX_EPOCH + Duration::from_secs(now.as_secs());
                let peer = Peer::from_certificate(end_entity, now)
                    .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
                if peer.role == *role && peer.name == *name {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(Error::InvalidCertificate(CertificateError::NotValidForName))
                }
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
