//! TLS of the peer door: version 1.3 only, both ends proven by Ed25519 keys, the protocol picked by ALPN; and that of
//! doors where the other end is proven by other means: [`guest`], [`share`].
//!
//! ```text
//! guest    the guest door: other apps, judged by the hash of their certificate
//! share    a receiver of credentials, pinned by the hash that it announces; the short code proves the rest
//! verify   who is expected, and how a key is read from a certificate
//! channel  an authenticated connection: frames in, frames out
//! ```
//!
//! There are no tickets, no resumption, no early data and no server names: each session has fresh keys, and a
//! revocation acts at the next handshake.

pub mod channel;
pub mod guest;
pub mod share;
pub mod verify;

use std::sync::Arc;

use kith_proto::id::PublicKey;
use kith_proto::peer::Alpn;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, SignatureAlgorithm, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::identity::Identity;
use crate::trust::Trust;
use verify::{Expect, Verifier};

pub use channel::{Channel, Error as ChannelError};

/// The TLS of this device: its certificate, and the configurations for each protocol.
#[derive(Clone)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    certificate_hash: [u8; 32],
    pairing: Arc<ServerConfig>,
    send: Arc<ServerConfig>,
    sync: Arc<ServerConfig>,
    share: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
    refusal: Arc<ServerConfig>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate could be made for the device key.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate that is to stay cannot be read or written.
    #[error("cannot keep a certificate: {0}")]
    Kept(#[from] std::io::Error),
    /// The TLS library refuses the configuration.
    #[error("cannot set TLS up: {0}")]
    Config(#[from] rustls::Error),
}

impl Tls {
    /// Makes a certificate for the device key, and everything that needs one.
    pub fn new(identity: &Arc<Identity>, trust: &Trust) -> Result<Self, Error> {
        let provider = Arc::new(provider());
        let der = certificate(identity)?;
        let certificate_hash = Sha256::digest(&der).into();
        let key = Arc::new(DeviceKey(identity.clone()));
        let certified = Arc::new(CertifiedKey::new(vec![der], key));
        let server = |expect, alpn| server_config(&provider, &certified, expect, alpn);
        let mut refusal = server(Expect::Anybody, Alpn::Pair)?;
        // A name that nobody asks for: the handshake ends with the alert no_application_protocol.
        refusal.alpn_protocols = vec![b"-".to_vec()];
        Ok(Self {
            refusal: Arc::new(refusal),
            pairing: Arc::new(server(Expect::Anybody, Alpn::Pair)?),
            send: Arc::new(server(Expect::Trusted(trust.watch()), Alpn::Send)?),
            sync: Arc::new(server(Expect::Trusted(trust.watch()), Alpn::Sync)?),
            share: Arc::new(server(Expect::Trusted(trust.watch()), Alpn::Share)?),
            join: Arc::new(server(Expect::Anybody, Alpn::Join)?),
            provider,
            certified,
            certificate_hash,
        })
    }

    /// The configuration for an accepted connection that asks for `alpn`.
    pub fn server(&self, alpn: Alpn) -> Arc<ServerConfig> {
        match alpn {
            Alpn::Pair => self.pairing.clone(),
            Alpn::Send => self.send.clone(),
            Alpn::Sync => self.sync.clone(),
            Alpn::Share => self.share.clone(),
            Alpn::Join => self.join.clone(),
        }
    }

    /// The configuration for an accepted connection that asks for something that is not spoken now.
    pub fn refusal(&self) -> Arc<ServerConfig> {
        self.refusal.clone()
    }

    /// The configuration for dialling; `expected` is the one key that may answer, or any.
    pub fn client(&self, alpn: Alpn, expected: Option<PublicKey>) -> Result<Arc<ClientConfig>, Error> {
        let expect = expected.map_or(Expect::Anybody, Expect::Key);
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier(expect)))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// SHA-256 of this device's certificate, to which a pairing is bound.
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.certificate_hash
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
    expect: Expect,
    alpn: Alpn,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier(expect)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    // Unread ticket bytes at a client that only writes would turn its close into a reset that loses the tail.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// AES-256-GCM where the CPU has AES, ChaCha20-Poly1305 first where it has not; the library's own key exchange, which
/// begins with X25519MLKEM768.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes() {
        provider.cipher_suites.reverse();
    }
    provider
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// A self-signed certificate over the device key. Its dates are as wide as X.509 allows, because nobody looks at them;
/// its serial number is fixed, so that the same key always gives the same certificate.
fn certificate(identity: &Arc<Identity>) -> Result<CertificateDer<'static>, Error> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("kith {}", identity.id()));
    params.serial_number = Some(rcgen::SerialNumber::from(1_u64));
    Ok(params.self_signed(&DeviceKey(identity.clone()))?.der().clone())
}

/// The device key, as TLS and certificates see it: something that signs.
struct DeviceKey(Arc<Identity>);

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKey({})", self.0.id())
    }
}

impl rcgen::PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_vec())
    }
}

impl SigningKey for DeviceKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(Self(self.0.clone())) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
