use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kith_proto::credential::payload::Payload;
use kith_proto::guest::psi::{HASH, PAYLOAD};
use kith_proto::short_code::ShortCode;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::credentials::beacon::Beacon;
use crate::credentials::beacon::tests::{filter, free_port};
use crate::dial::Dial;
use crate::discovery::{Discovery, tests::settings};
use crate::event::Events;
use crate::identity::Identity;
use crate::store::Store;
use crate::task::Tasks;
use crate::tls::Tls;
use crate::trust::Trust;

mod apps;
mod attacks;

const LONG: Duration = Duration::from_secs(60);

/// A device on this host, alone on its port for announcements.
struct Device {
    tasks: Tasks,
    beacon: Beacon,
    dial: Dial,
    port: u16,
    dir: tempfile::TempDir,
}

impl Device {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let (tasks, events) = (Tasks::default(), Events::default());
        let identity = Identity::open(home, &home.join("kith.db"), "device", false).unwrap();
        let store = Store::open(&home.join("kith.db")).unwrap();
        let trust = Trust::open(store, home.join("generation")).await.unwrap();
        let tls = Tls::new(&identity, &trust).unwrap();
        let discovery = Discovery::start(&tasks, &events, &trust, &settings(home, false), &identity, 1);
        let dial = Dial::start(&tasks, tls, &trust, &discovery, &identity, 1);
        let port = free_port();
        let beacon = Beacon::new(&tasks, &filter()).on_port(port);
        Self { tasks, beacon, dial, port, dir }
    }

    async fn receive(&self, digits: &str) -> Result<(Payload, std::net::IpAddr), ApiError> {
        receive(&code(digits), &self.beacon, &self.tasks, Instant::now() + LONG).await
    }

    async fn send(&self, digits: &str) -> Result<std::net::IpAddr, ApiError> {
        send(&payload(), &code(digits), &self.beacon, &self.dial, Instant::now() + LONG).await
    }

    async fn end(self) {
        assert!(self.tasks.end(LONG).await);
        assert_eq!(self.tasks.broken(), None);
    }
}

fn code(digits: &str) -> ShortCode {
    ShortCode::parse(digits).unwrap()
}

/// What is handed over, as JSON.
fn wire() -> Value {
    json!({
        "type": "database", "name": "Photos", "description": "ours", "path": "s3:bucket/photos",
        "s3Credentials": { "name": "s3", "region": "eu", "accessKeyId": "AK", "secretAccessKey": "SK\"\\é" },
        "geocodingKey": { "name": "geo", "apiKey": "GK" },
    })
}

fn payload() -> Payload {
    Payload::from_value(wire()).unwrap()
}

#[track_caller]
fn assert_whole(payload: &Payload) {
    assert_eq!(serde_json::from_slice::<Value>(&payload.encode()).unwrap(), wire());
}

#[tokio::test]
async fn two_devices_hand_over() {
    let device = Device::new().await;
    let (sent, received) = tokio::join!(device.send("4821"), device.receive("4821"));
    assert!(sent.unwrap().is_loopback());
    let (payload, from) = received.unwrap();
    assert!(from.is_loopback());
    assert_whole(&payload);
    device.end().await;
}
