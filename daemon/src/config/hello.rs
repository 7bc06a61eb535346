//! Command line and environment of `kithd hello`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use kith_proto::limits;

use super::{LogLevel, stderr_is_journal};

/// `kithd hello …`
#[derive(Debug, clap::Args)]
pub struct HelloArgs {
    /// Where blobs are kept: sqlite:PATH, or redis://:PASSWORD@HOST:PORT/DB (all but HOST may be left out), or rediss://… with TLS
    #[arg(long, env = "KITH_HELLO_STORE", hide_env_values = true, value_name = "STORE")]
    pub store: StoreText,
    /// Listen for HTTPS here
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 8443))]
    pub listen: SocketAddr,
    /// Show the certificates of this PEM file, read again at SIGHUP; a self-signed one is made and kept otherwise
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Their key, as PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Keep the self-signed certificate in this directory; beside the file of the store otherwise
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Answer to /healthz and /metrics here: plain HTTP, on a loopback address
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9464))]
    pub metrics: SocketAddr,
    /// Blobs at once; on Redis: keys
    #[arg(long, value_name = "N", default_value_t = limits::HELLO_SERVER_BLOBS)]
    pub max_blobs: u64,
    /// Their bytes; on Redis its maxmemory is what counts
    #[arg(long, value_name = "N", default_value_t = limits::HELLO_SERVER_BYTES)]
    pub max_bytes: u64,
    /// Blobs at once of one source: an IPv4 address, or a /64 of IPv6
    #[arg(long, value_name = "N", default_value_t = limits::HELLO_LIVE_PER_SOURCE)]
    pub max_per_source: u32,
    /// New blobs an hour of one source
    #[arg(long, value_name = "N", default_value_t = limits::HELLO_PUTS_PER_HOUR)]
    pub puts_per_hour: u32,
    /// Lookups an hour of one source
    #[arg(long, value_name = "N", default_value_t = limits::HELLO_GETS_PER_HOUR)]
    pub gets_per_hour: u32,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: LogLevel,
}

/// What stands behind `--store`: it may hold a password, so it does not print itself.
#[derive(Clone)]
pub struct StoreText(String);

impl FromStr for StoreText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for StoreText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreText(…)")
    }
}

/// Where blobs are kept.
#[derive(Clone)]
pub enum StoreAddress {
    /// In this file.
    Sqlite(PathBuf),
    /// On a server, which the URL names.
    Redis(String),
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Redis(_) => f.write_str("Redis(…)"),
        }
    }
}

/// Which certificate is shown.
#[derive(Debug, Clone)]
pub enum Shown {
    /// Those of a PEM file, with the key of another.
    Pem {
        /// The chain.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A self-signed one in this file, made if there is none.
    Kept(PathBuf),
}

/// What a hello server runs with.
#[derive(Debug, Clone)]
pub struct HelloSettings {
    /// Where blobs are kept.
    pub store: StoreAddress,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it shows there.
    pub shown: Shown,
    /// Where it tells how it fares: a loopback address.
    pub metrics: SocketAddr,
    /// Blobs at once.
    pub max_blobs: u64,
    /// Their bytes.
    pub max_bytes: u64,
    /// Blobs at once of one source.
    pub max_per_source: u32,
    /// New blobs an hour of one source.
    pub puts_per_hour: u32,
    /// Lookups an hour of one source.
    pub gets_per_hour: u32,
    /// How much is logged.
    pub log: LogLevel,
    /// Whether the service manager connected stderr to its journal.
    pub stderr_is_journal: bool,
}

/// A command line that cannot be used. The server exits with 78 (`EX_CONFIG`).
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// No address of a store. It may hold a password, so it is not repeated.
    #[error("--store is sqlite:PATH or redis://[:PASSWORD@]HOST[:PORT][/DB], or rediss://… with TLS")]
    Store,
    /// Others could read the metrics.
    #[error("--metrics {0} is no loopback address, and what is said there is for this machine alone")]
    Metrics(IpAddr),
    /// No place for a certificate.
    #[error("give --cert FILE and --key FILE, or --data DIR to keep a self-signed certificate in")]
    Certificate,
    /// There is no such path.
    #[error("cannot use {path}: {source}")]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl HelloSettings {
    /// What the command line and the environment say.
    pub fn load(args: HelloArgs) -> Result<Self, HelloError> {
        let absolute = |path: PathBuf| match std::path::absolute(&path) {
            Ok(absolute) => Ok(absolute),
            Err(source) => Err(HelloError::Path { path, source }),
        };
        let StoreText(text) = args.store;
        let store = match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => StoreAddress::Sqlite(absolute(path.into())?),
            Some(("redis" | "rediss", rest)) if rest.starts_with("//") => StoreAddress::Redis(text),
            _ => return Err(HelloError::Store),
        };
        if !args.metrics.ip().is_loopback() {
            return Err(HelloError::Metrics(args.metrics.ip()));
        }
        let shown = match (args.cert, args.key, args.data, &store) {
            (Some(cert), Some(key), _, _) => Shown::Pem { cert: absolute(cert)?, key: absolute(key)? },
            (_, _, Some(data), _) => Shown::Kept(absolute(data)?.join(CERTIFICATE)),
            (_, _, None, StoreAddress::Sqlite(file)) => Shown::Kept(file.with_file_name(CERTIFICATE)),
            (_, _, None, StoreAddress::Redis(_)) => return Err(HelloError::Certificate),
        };
        Ok(Self {
            store,
            listen: args.listen,
            shown,
            metrics: args.metrics,
            max_blobs: args.max_blobs,
            max_bytes: args.max_bytes,
            max_per_source: args.max_per_source,
            puts_per_hour: args.puts_per_hour,
            gets_per_hour: args.gets_per_hour,
            log: args.log,
            stderr_is_journal: stderr_is_journal(),
        })
    }
}

/// The file of a self-signed certificate.
const CERTIFICATE: &str = "hello.pem";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: HelloArgs,
    }

    fn load(words: &[&str]) -> Result<HelloSettings, String> {
        let line = Line::try_parse_from([&["hello"], words].concat()).map_err(|error| error.to_string())?;
        HelloSettings::load(line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_store_is_a_file_or_a_server() {
        let settings = load(&["--store", "sqlite:/srv/hello/hello.db"]).unwrap();
        assert!(matches!(settings.store, StoreAddress::Sqlite(path) if path.ends_with("hello/hello.db")));
        assert!(matches!(settings.shown, Shown::Kept(path) if path.ends_with("hello/hello.pem")));
        assert_eq!((settings.listen.port(), settings.metrics.port()), (8443, 9464));
        let settings = load(&["--store", "redis://:sesame@db:6379/1", "--data", "/srv"]).unwrap();
        assert!(matches!(&settings.store, StoreAddress::Redis(url) if url == "redis://:sesame@db:6379/1"));
        assert!(!format!("{settings:?}").contains("sesame"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_passwords() {
        let redis = "redis://:sesame@db";
        for (words, said) in [
            (&["--store", "postgres://:sesame@db"][..], "--store is"),
            (&["--store", "sqlite:"], "--store is"),
            (&["--store", "sesame"], "--store is"),
            (&["--store", redis], "--data DIR"),
            (&["--store", redis, "--cert", "/c"], "--key"),
            (&["--store", redis, "--data", "/d", "--metrics", "0.0.0.0:9464"], "loopback"),
            (&["--store", redis, "--data", "/d", "--metrics", "[::]:9464"], "loopback"),
            (&["--store", redis, "--listen", "here"], "--listen"),
        ] {
            let error = load(words).unwrap_err();
            assert!(error.contains(said) && !error.contains("sesame"), "{words:?}: {error}");
        }
    }
}
