//! Ctrl-C and SIGTERM for commands that work for long: they end between two steps.

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Becomes true with the first Ctrl-C or SIGTERM.
pub(crate) fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        sender.send_replace(true);
        tracing::info!("Asked to stop; the step that runs now is finished first");
        // Keeps the channel open: an end of the sender is not a wish to stop.
        std::future::pending::<()>().await
    });
    Ok(receiver)
}
