//! A program that is run after each finished receive: argv and environment, never a shell line.

use std::process::Stdio;
use std::sync::Arc;

use super::Engine;
use super::state::Key;

/// Runs the configured program, if there is one. What the peer chose reaches it in variables only.
pub fn run(engine: &Arc<Engine>, key: &Key) {
    let Some((program, arguments)) = engine.settings.config.receive.hook.split_first() else { return };
    let Ok(view) = engine.book.view(key) else { return };
    let child = std::process::Command::new(program)
        .args(arguments)
        .env("KITH_TRANSFER", &view.id)
        .env("KITH_PEER_ID", view.peer.id.to_string())
        .env("KITH_PEER_NAME", clean(&view.peer.name))
        .env("KITH_TITLE", clean(&view.title))
        .env("KITH_DIR", view.dir.as_deref().unwrap_or_default())
        .env("KITH_ENTRIES", view.entries.to_string())
        .env("KITH_BYTES", view.bytes_done.to_string())
        .env("KITH_TEXT", clean(view.text.as_deref().unwrap_or_default()))
        .stdin(Stdio::null())
        .spawn();
    match child {
        Ok(mut child) => {
            let tasks = engine.tasks.clone();
            engine.tasks.spawn("hook", async move {
                match tasks.blocking(move || child.wait()).await {
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
