//! TLS with guests: versions 1.2 and 1.3, self-signed certificates of any key, of which only the hash counts. A fresh
//! P-256 certificate for each window and each sending: Android, Apple and browsers refuse Ed25519.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use data_encoding::BASE64;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use kith_proto::guest::CertificateHash;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName as Name, Error,
    RootCertStore, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use super::Error as SetupError;
use crate::files;

/// How long a certificate is valid: longer than any window, no longer than apps tolerate.
const VALID_DAYS: i32 = 366;
/// The same for one that is kept: whoever pins it does not look at its dates. Ten years.
const KEPT_DAYS: i32 = 3_652;
/// A file with a certificate and its key, in bytes: ours have some 800.
const KEPT_MAX: usize = 16 << 10;
const HTTP: &[u8] = b"http/1.1";

/// A certificate of this device for guests, with its key.
pub struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    /// What people compare.
    pub hash: CertificateHash,
}

impl Certificate {
    /// A new one that names `addresses`.
    pub fn new(addresses: &[IpAddr]) -> Result<Self, SetupError> {
        Self::make(addresses, VALID_DAYS)
    }

    /// The one that is kept in the file at `path`, which is private: made when there is none.
    pub fn kept(path: &Path) -> Result<Self, SetupError> {
        match files::read_private(path, KEPT_MAX) {
            Ok(pem) => Self::read(&Zeroizing::new(pem)).ok_or_else(|| {
                let why = format!("{} holds no certificate with its key; remove it to have a new one", path.display());
                SetupError::Kept(io::Error::new(io::ErrorKind::InvalidData, why))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = Self::make(&[], KEPT_DAYS)?;
                files::create_private(path, new.pem().as_bytes())?;
                Ok(new)
            }
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                Err(SetupError::Kept(io::Error::new(error.kind(), why)))
            }
        }
    }

    fn read(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let hash = CertificateHash::of(&der);
        Some(Self { der, key, hash })
    }

    /// RFC 7468.
    fn pem(&self) -> Zeroizing<String> {
        let mut pem = Zeroizing::new(String::with_capacity(KEPT_MAX));
        for (label, der) in [("CERTIFICATE", self.der.as_ref()), ("PRIVATE KEY", self.key.secret_der())] {
            pem.push_str(&format!("-----BEGIN {label}-----\n"));
            for line in der.chunks(48) {
                BASE64.encode_append(line, &mut pem);
                pem.push('\n');
            }
            pem.push_str(&format!("-----END {label}-----\n"));
        }
        pem
    }

    fn make(addresses: &[IpAddr], days: i32) -> Result<Self, SetupError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "kith");
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // The other clock may be behind this one.
        let date = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
        (params.not_before, params.not_after) = (date(day(-1)), date(day(days)));
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let der = params.self_signed(&key)?.der().clone();
        let hash = CertificateHash::of(&der);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Self { der, key, hash })
    }

    /// The configuration for a guest door that shows this certificate. Whoever dials may show one too.
    pub fn server(self) -> Result<Arc<ServerConfig>, SetupError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(Anybody(provider)))
            .with_single_cert(vec![self.der], self.key)?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// The configuration for dialling a guest door; with `expected`, nobody else's. No server names, no proxies.
    pub fn client(&self, expected: Option<CertificateHash>) -> Result<Arc<ClientConfig>, SetupError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { provider, expected }))
            .with_client_auth_cert(vec![self.der.clone()], self.key.clone_key())?;
        Ok(Arc::new(http(config)))
    }
}

/// The configuration for fetching something that is sealed: any certificate will do, or the `expected` one alone. This
/// end shows none.
pub fn stranger(expected: Option<CertificateHash>) -> Result<Arc<ClientConfig>, SetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { provider, expected }))
        .with_no_client_auth();
    Ok(Arc::new(http(config)))
}

/// The configuration for servers on the web: whoever one of these authorities vouches for, by name.
pub fn web(authorities: RootCertStore) -> Result<Arc<ClientConfig>, SetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut config = http(config);
    config.enable_sni = true;
    Ok(Arc::new(config))
}

fn http(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![HTTP.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config
}

/// The hash of the certificate that the other end showed, if it showed one.
pub fn shown(connection: &CommonState) -> Option<CertificateHash> {
    connection.peer_certificates()?.first().map(|der| CertificateHash::of(der))
}

/// Year, month and day so many days from today, as certificates count them: in UTC.
fn day(offset: i32) -> (i32, u8, u8) {
    let date = Timestamp::now().to_zoned(TimeZone::UTC).date().saturating_add(Span::new().days(offset));
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

/// Takes any certificate whose key signs the handshake. What it is good for is decided by its hash, later.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[Name] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes the certificate with one hash, or any where it is still to be compared.
pub(super) struct Pinned {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) expected: Option<CertificateHash>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({:?})", self.expected)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.expected.is_some_and(|expected| expected != CertificateHash::of(end_entity)) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_kept_stays_the_same() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello.pem");
        let made = Certificate::kept(&path).unwrap();
        let again = Certificate::kept(&path).unwrap();
        assert_eq!((made.hash, made.key.secret_der()), (again.hash, again.key.secret_der()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        again.server().unwrap();
        // Nothing is put in the place of what cannot be read.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Certificate::kept(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        files::create_private(&path, b"-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(Certificate::kept(&path).is_err());
    }
}
