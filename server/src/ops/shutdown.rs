//! How the process is asked to stop.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token on the first SIGTERM or SIGINT; the second ends the process at once with code 1.
///
/// # Errors
///
/// The handlers could not be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        tracing::info!(signal = name, "stopping: what was received is committed and acknowledged first");
        stop.cancel();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        eprintln!("herdstream: asked to stop twice: stopping without a drain; clients will send again");
        process::exit(1);
    });
    Ok(token)
}
