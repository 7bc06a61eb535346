//! Devices that exist in this process only, on a host of a lab.
//!
//! `applicants join ADDRESS ISSUER RESOURCE COUNT`, the code on standard input: so many devices join by it; prints how
//! many heard which word, as JSON.
//! `applicants stand-in PORT`: answers at a port where the issuer was, with a key of its own. Prints `ready`, and for each
//! caller what it heard.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use kith_proto::id::PublicKey;
use kith_proto::peer::Alpn;
use kith_proto::peer::join::SharingCode;
use kith_proto::peer::journal::version::JournalId;
use kith_tests::joiner::{Issued, crowd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One address may have so many connections that have not proven anything.
const THREADS: u16 = 8;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["join", address, issuer, resource, count] => {
            let mut text = String::new();
            std::io::stdin().read_line(&mut text)?;
            let issued = Issued {
                id: String::new(),
                code: SharingCode::parse(&text)?,
                text,
                issuer: issuer.parse::<PublicKey>()?,
                resource: JournalId::parse(resource).context("an id")?,
            };
            let mut heard = BTreeMap::new();
            for (_, result) in crowd(THREADS, count.parse()?, &Mutex::new(address.parse()?), &issued) {
                *heard.entry(result.reason.as_str()).or_insert(0) += 1;
            }
            println!("{}", serde_json::to_string(&heard)?);
            Ok(())
        }
        ["stand-in", port] => stand_in(port.parse()?),
        _ => bail!("applicants join ADDRESS ISSUER RESOURCE COUNT | stand-in PORT"),
    }
}

fn stand_in(port: u16) -> anyhow::Result<()> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let certificate = rcgen::CertificateParams::default().self_signed(&pair)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = Alpn::ALL.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    println!("ready");
    for tcp in listener.incoming() {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone())?, tcp?);
        let mut heard = Vec::new();
        // A caller that sees another key goes before it says anything: the end of the stream is an alert, not a close.
        let ended = stream.read_to_end(&mut heard);
        println!("heard {} bytes, then {:?}", heard.len(), ended.err().map(|error| error.kind()));
    }
    Ok(())
}
