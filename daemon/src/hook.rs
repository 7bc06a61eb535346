//! A program that is run after each finished receive: argv and environment, never a shell line.

use std::process::Stdio;

use kith_proto::control::types::Transfer;

use crate::config::Settings;
use crate::task::Tasks;

/// Runs the configured program, if there is one. What the sender chose reaches it in variables only.
pub fn run(settings: &Settings, tasks: &Tasks, transfer: &Transfer) {
    let Some((program, arguments)) = settings.config.receive.hook.split_first() else { return };
    let id = transfer.peer.id.map(|id| id.to_string()).unwrap_or_default();
    let child = std::process::Command::new(program)
        .args(arguments)
        .env("KITH_TRANSFER", &transfer.id)
        .env("KITH_PEER_ID", id)
        .env("KITH_PEER_NAME", clean(&transfer.peer.name))
        .env("KITH_TITLE", clean(&transfer.title))
        .env("KITH_DIR", transfer.dir.as_deref().unwrap_or_default())
        .env("KITH_ENTRIES", transfer.entries.to_string())
        .env("KITH_BYTES", transfer.bytes_done.to_string())
        .env("KITH_TEXT", clean(transfer.text.as_deref().unwrap_or_default()))
        .stdin(Stdio::null())
        .spawn();
    match child {
        Ok(mut child) => {
            let waiting = tasks.blocking(move || child.wait());
            tasks.spawn("hook", async move {
                match waiting.await {
                    Ok(status) if !status.success() => tracing::warn!(%status, "the receive hook failed"),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "cannot wait for the receive hook"),
                }
            });
        }
        Err(error) => tracing::warn!(%error, program, "cannot run the receive hook"),
    }
}

/// A NUL ends a variable; nothing else does harm where no shell looks at it.
fn clean(text: &str) -> String {
    text.replace('\0', "")
}
