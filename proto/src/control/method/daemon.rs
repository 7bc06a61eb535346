//! `daemon.*`: parameters and results.

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;

/// `daemon.hello`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelloParams {
    /// Name and version of the client.
    pub client: String,
    /// The protocol that the client speaks: [`crate::CONTROL_PROTOCOL`].
    pub protocol: u32,
}

/// `daemon.hello`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HelloResult {
    /// Name and version of the daemon.
    pub server: String,
    /// The newest protocol that the daemon speaks.
    pub protocol: u32,
    /// The oldest protocol that the daemon speaks.
    pub min_protocol: u32,
    /// Another one after each start: cursors and sequence numbers hold within it.
    pub boot_id: String,
    /// The methods that this caller may call.
    pub methods: Vec<String>,
}

/// `daemon.status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusResult {
    /// This device.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: String,
    /// The port of the peer door.
    pub peer_port: u16,
    /// Where this device can be reached, as `ip:port`.
    pub addresses: Vec<String>,
    /// The control socket.
    pub socket: String,
    /// Where received files go when no policy says otherwise.
    pub download_dir: String,
    /// Trusted devices, and how many of them are online.
    pub trusted: u64,
    /// Trusted devices that are online.
    pub online: u64,
    /// Offers that wait for an answer.
    pub inbox: u64,
    /// Transfers that are not over.
    pub transfers: u64,
    /// The port on which this device gives out the payloads of sharing codes, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello_port: Option<u16>,
    /// Of the certificate that it shows there: what others put behind the `#` of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello_certificate_hash: Option<String>,
}

/// `daemon.identity`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdentityResult {
    /// The short id.
    pub id: DeviceId,
    /// The name that is announced.
    pub name: String,
    /// The full public key in base64url.
    pub public_key: String,
    /// SHA-256 of the public key in hex, in groups of four, for comparing by eye.
    pub fingerprint: String,
    /// When the key was made.
    pub created: String,
}

/// `daemon.config`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigResult {
    /// The file that was read, or would be.
    pub file: String,
    /// Whether it exists.
    pub exists: bool,
    /// The configuration in force, as TOML.
    pub toml: String,
}

/// `daemon.doctor`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DoctorResult {
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do now, if it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
