//! Certificates that somebody else gave out, as PEM: read at the start, and again at SIGHUP, when they were renewed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::platform;
use crate::task::Tasks;

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One cannot be read, or holds something else.
    #[error("cannot read {what} from {path}: {source}")]
    Read {
        /// What should be there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not belong together, or are of a kind that is not known.
    #[error("cannot use the certificate {cert} with the key {key}: {source}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// TLS, or signals.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The configuration that shows what the files hold, now and whenever they are read again.
pub fn serve(cert: &Path, key: &Path, tasks: &Tasks) -> Result<Arc<ServerConfig>, Error> {
    let shown = Arc::new(Shown { cert: cert.to_owned(), key: key.to_owned(), now: RwLock::new(read(cert, key)?) });
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(shown.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let mut hangup = platform::hangup_signal()?;
    let stop = tasks.stopping().clone();
    tasks.spawn("hello certificate", async move {
        while stop.run_until_cancelled(hangup.recv()).await.flatten().is_some() {
            match shown.renew() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
            }
        }
    });
    Ok(Arc::new(config))
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Error> {
    let wrong = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert).map_err(wrong("a certificate", cert))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(wrong("a certificate", cert))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(wrong("a key", key))?;
    let certified = CertifiedKey::from_der(chain, key_der, &aws_lc_rs::default_provider());
    let pair = |source| Error::Pair { cert: cert.to_owned(), key: key.to_owned(), source };
    Ok(Arc::new(certified.map_err(pair)?))
}

/// What is shown now, to whoever asks.
struct Shown {
    cert: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Shown {
    fn renew(&self) -> Result<(), Error> {
        let read = read(&self.cert, &self.key)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown({})", self.cert.display())
    }
}
