//! How peers, transfers and what people compare look to people.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use indicatif::HumanBytes;
use kith_proto::control::types::{Direction, Failure, Party, Peer, PeerRef, Transfer, TransferState};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, FAILED, Result};
use crate::output::{Output, Table};

/// What a word of the wire is called: as on the wire.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A size, as people say it.
pub fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A peer by name and id.
pub fn peer_name(peer: &PeerRef) -> String {
    format!("{} ({})", peer.name, peer.id)
}

/// The other end of a transfer by name and id.
pub fn party_name(party: &Party) -> String {
    match party.id {
        Some(id) => format!("{} ({id})", party.name),
        None => {
            let spoken = party.protocol.map(|version| format!(", Tella {version}")).unwrap_or_default();
            format!("{} (not paired{spoken})", party.name)
        }
    }
}

/// Six digits in two groups.
pub fn pin(digits: &str) -> String {
    let (head, tail) = digits.split_at_checked(3).unwrap_or((digits, ""));
    format!("{head} {tail}")
}

/// A certificate hash for comparing by eye: groups of four, four groups a line.
pub fn hash(digits: &str) -> Vec<String> {
    let digits: Vec<char> = digits.chars().collect();
    let line = |line: &[char]| line.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ");
    digits.chunks(16).map(|chunk| format!("    {}", line(chunk))).collect()
}

/// An address as it is typed where a device is named.
pub fn with_port(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) if address.contains(':') => format!("[{address}]:{port}"),
        Err(_) => format!("{address}:{port}"),
    }
}

/// Peers, one a row.
pub fn peers(peers: &[Peer]) -> Table {
    let mut table = Table::new(&["NAME", "ID", "STATE", "", "ADDRESSES"]);
    for peer in peers {
        table.row([
            peer.name.clone(),
            peer.id.to_string(),
            word(&peer.state),
            online(peer).to_owned(),
            peer.addresses.join(" "),
        ]);
    }
    table
}

/// Peers that are or were trusted, one a row.
pub fn trusted(peers: &[Peer]) -> Table {
    let mut table = Table::new(&["NAME", "ID", "STATE", "", "WHOSE", "OFFERS", "LAST SEEN"]);
    for peer in peers {
        table.row([
            peer.name.clone(),
            peer.id.to_string(),
            word(&peer.state),
            online(peer).to_owned(),
            word(&peer.relation),
            peer.policy.as_ref().map(|policy| word(&policy.offers)).unwrap_or_default(),
            peer.last_seen.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// All about a peer.
pub fn peer(peer: &Peer) -> Table {
    let mut table = Table::untitled();
    table.pair("name", peer.name.clone());
    table.pair("id", peer.id.to_string());
    table.pair("state", format!("{}, {}", word(&peer.state), online(peer)));
    table.pair("whose", word(&peer.relation));
    table.pair("addresses", peer.addresses.join("  "));
    table.pair("public key", peer.public_key.clone());
    table.pair("paired", peer.paired_at.clone());
    table.pair("last seen", peer.last_seen.clone());
    table.pair("revoked", peer.revoked_at.clone());
    if let Some(policy) = &peer.policy {
        let any = |bytes: Option<u64>| bytes.map_or_else(|| "any".to_owned(), size);
        table.pair("offers", word(&policy.offers));
        table.pair("directory", policy.dir.clone().unwrap_or_else(|| "the download directory".to_owned()));
        table.pair("on conflict", word(&policy.on_conflict));
        table.pair("largest file", any(policy.max_file));
        table.pair("in 24 hours", any(policy.max_day));
        table.pair("types", if policy.types.is_empty() { "all".to_owned() } else { policy.types.join(", ") });
        table.pair("dotfiles", if policy.dotfiles { "accepted" } else { "not without asking" }.to_owned());
    }
    table
}

/// A peer in one line.
pub fn peer_line(peer: &Peer) -> String {
    format!("{} ({})  {}, {}  {}", peer.name, peer.id, word(&peer.state), online(peer), peer.addresses.join(" "))
        .trim_end()
        .to_owned()
}

/// Transfers, one a row.
pub fn transfers(transfers: &[Transfer]) -> Table {
    let mut table = Table::new(&["ID", "", "PEER", "STATE", "DONE", "SIZE", "TITLE"]);
    for transfer in transfers {
        table.row([
            transfer.id.clone(),
            word(&transfer.direction),
            transfer.peer.name.clone(),
            word(&transfer.state),
            percent(transfer),
            transfer.bytes.map(size).unwrap_or_default(),
            transfer.title.clone(),
        ]);
    }
    table
}

/// All about a transfer.
pub fn transfer(transfer: &Transfer) -> Table {
    let mut table = Table::untitled();
    table.pair("id", transfer.id.clone());
    table.pair("title", transfer.title.clone());
    table.pair(if transfer.direction == Direction::In { "from" } else { "to" }, party_name(&transfer.peer));
    table.pair("state", word(&transfer.state));
    table.pair("reason", transfer.reason.as_ref().map(reason));
    table.pair("entries", format!("{} of {}", transfer.entries_done, transfer.entries));
    table.pair(
        "bytes",
        match transfer.bytes {
            Some(bytes) => format!("{} of {}", size(transfer.bytes_done), size(bytes)),
            None => size(transfer.bytes_done),
        },
    );
    table.pair("text", transfer.text.clone());
    table.pair("directory", transfer.dir.clone());
    for name in &transfer.placed {
        table.pair("placed", name.clone());
    }
    for entry in &transfer.preview {
        let size = entry.size.map(|bytes| format!("  {}", size(bytes))).unwrap_or_default();
        table.pair(&entry.kind, format!("{}{size}", entry.path));
    }
    for problem in &transfer.problems {
        table.pair("problem", format!("{}: {}", problem.path, problem.reason));
    }
    table.pair("problems", Some(transfer.problem_count).filter(|count| *count > 0).map(|count| count.to_string()));
    table.pair("created", transfer.created.clone());
    table.pair("updated", transfer.updated.clone());
    table.pair("expires", transfer.expires.clone());
    table
}

/// A transfer in one line.
pub fn transfer_line(transfer: &Transfer) -> String {
    let way = if transfer.direction == Direction::In { "from" } else { "to" };
    format!(
        "{}  {} {} {way} {}",
        transfer.id,
        word(&transfer.state),
        [percent(transfer), transfer.title.clone()].join(" ").trim(),
        transfer.peer.name
    )
}

/// What is in a transfer: `3 files, 1.20 GiB`.
pub fn contents(transfer: &Transfer) -> String {
    if transfer.text.is_some() {
        return "a text".to_owned();
    }
    let entries = transfer.entries;
    // The preview shows the first hundred; only a whole one tells files from the rest.
    let files = transfer.preview.len() as u64 == entries && transfer.preview.iter().all(|entry| entry.kind == "file");
    let what = match (files, entries) {
        (true, 1) => "1 file".to_owned(),
        (true, _) => format!("{entries} files"),
        (false, 1) => "1 entry".to_owned(),
        (false, _) => format!("{entries} entries"),
    };
    match transfer.bytes {
        Some(bytes) => format!("{what}, {}", size(bytes)),
        None if transfer.state.is_final() => format!("{what}, {}", size(transfer.bytes_done)),
        None => what,
    }
}

/// The one line about a transfer that is done; `moved` bytes went over in `time`.
pub fn summary(transfer: &Transfer, moved: u64, time: Duration) -> String {
    let (verb, way) = if transfer.direction == Direction::In { ("received", "from") } else { ("sent", "to") };
    let seconds = time.as_secs_f64();
    let rate = match moved as f64 / seconds {
        rate if rate.is_finite() && moved > 0 => format!(" ({}/s)", size(rate as u64)),
        _ => String::new(),
    };
    format!("{verb} {} {way} {} in {seconds:.1} s{rate}", contents(transfer), transfer.peer.name)
}

/// How a transfer ended, as the end of the command that waited for it.
pub fn outcome(out: Output, transfer: &Transfer) -> Result<()> {
    let untold = |code: &str, message: String| Err(Error::new(FAILED, code, message));
    match (transfer.state, &transfer.reason) {
        (TransferState::Done, _) if transfer.problem_count == 0 => Ok(()),
        (TransferState::Done, _) => {
            let count = transfer.problem_count;
            transfer.problems.iter().for_each(|problem| out.note(&format!("{}: {}", problem.path, problem.reason)));
            let what = if count == 1 { "1 entry was".to_owned() } else { format!("{count} entries were") };
            untold("incomplete", format!("{what} not delivered"))
        }
        (TransferState::Canceled, _) => untold("canceled", "the transfer was canceled".to_owned()),
        (_, Some(failure)) => Err(failure.clone().into()),
        (TransferState::Rejected, None) if transfer.direction == Direction::In => {
            untold("rejected", "the offer was rejected".to_owned())
        }
        (TransferState::Rejected, None) => untold("rejected", format!("{} rejected the offer", transfer.peer.name)),
        (_, None) => untold("failed", "the transfer failed".to_owned()),
    }
}

fn online(peer: &Peer) -> &'static str {
    if peer.online { "online" } else { "offline" }
}

fn percent(transfer: &Transfer) -> String {
    match transfer.bytes {
        Some(0) | None => String::new(),
        Some(bytes) => format!("{}%", u128::from(transfer.bytes_done) * 100 / u128::from(bytes)),
    }
}

/// Why something failed, with the next step.
pub fn reason(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{} ({}); {hint}", failure.message, failure.code),
        None => format!("{} ({})", failure.message, failure.code),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use kith_proto::control::{ApiError, Code};
    use serde_json::json;

    /// A transfer of three files to `nas`, with `changes` on top.
    pub fn sample(changes: &Value) -> Transfer {
        let mut transfer = json!({
            "id": "0192", "direction": "out", "peer": {"id": "9a4f0b2c00000000", "name": "nas"}, "state": "done",
            "title": "photos", "entries": 3, "entries_done": 3, "bytes": 1 << 30, "bytes_done": 1 << 30,
            "preview": [{"path": "a", "kind": "file"}, {"path": "b", "kind": "file"}, {"path": "c", "kind": "file"}],
            "created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:02Z", "a_field_of_a_newer_daemon": [1],
        });
        for (key, value) in changes.as_object().unwrap() {
            transfer[key] = value.clone();
        }
        serde_json::from_value(transfer).unwrap()
    }

    #[test]
    fn one_line_tells_what_went_where_and_how_fast() {
        for (changes, moved, line) in [
            (json!({}), 1 << 30, "sent 3 files, 1.00 GiB to nas in 2.0 s (512.00 MiB/s)"),
            (json!({"direction": "in"}), 0, "received 3 files, 1.00 GiB from nas in 2.0 s"),
            (json!({"entries": 200, "bytes": 10}), 10, "sent 200 entries, 10 B to nas in 2.0 s (5 B/s)"),
            (json!({"text": "hi", "entries": 1}), 0, "sent a text to nas in 2.0 s"),
        ] {
            assert_eq!(summary(&sample(&changes), moved, Duration::from_secs(2)), line);
        }
        assert!(!summary(&sample(&json!({})), 1, Duration::ZERO).contains("/s"));
    }

    #[test]
    fn what_is_compared_by_eye_is_in_groups() {
        assert_eq!(pin("123456"), "123 456");
        let lines = ["    0123 4567 89ab cdef"; 4];
        assert_eq!(hash(&"0123456789abcdef".repeat(4)), lines);
        assert_eq!(hash("é"), ["    é"], "whatever the daemon says");
    }

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        let reason = |code| json!(Failure::from(ApiError::new(code, "…")));
        for (changes, exit) in [
            (json!({}), 0),
            (json!({"problem_count": 2}), 1),
            (json!({"state": "canceled"}), 1),
            (json!({"state": "rejected"}), 1),
            (json!({"state": "failed"}), 1),
            (json!({"state": "failed", "reason": reason(Code::PeerOffline)}), 7),
            (json!({"state": "failed", "reason": reason(Code::FileDenied)}), 4),
            (json!({"state": "rejected", "reason": reason(Code::Quota)}), 1),
        ] {
            let result = outcome(Output::new(true), &sample(&changes));
            assert_eq!(result.map_or_else(|error| error.exit(), |()| 0), exit, "{changes}");
        }
    }

    #[test]
    fn b14_a_hostile_transfer_stays_in_its_rows() {
        let evil = "x\n\x1b]0;t\x07\r\u{202e}";
        let hostile = sample(&json!({
            "title": evil, "text": evil, "dir": evil, "placed": [evil], "peer": {"id": "9a4f0b2c00000000", "name": evil},
            "preview": [{"path": evil, "kind": evil}], "problems": [{"path": evil, "reason": evil}], "problem_count": 1,
        }));
        for table in [transfer(&hostile), transfers(&[hostile])] {
            for line in table.lines() {
                assert!(!line.chars().any(kith_proto::text::is_hostile), "{line:?}");
            }
        }
    }
}
