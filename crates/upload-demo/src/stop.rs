//! Ctrl-C and SIGTERM: the first asks to stop, the second does not wait.
//!
//! Even then nothing is left behind: Postgres has a supervisor that removes it, and the rest is in memory.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code after a second signal; shells use it for Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Whether somebody has asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// Listens from now on.
    pub(crate) fn on_signals() -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let stop = Self(CancellationToken::new());
        let asked = stop.0.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if asked.is_cancelled() {
                    std::process::exit(INTERRUPTED);
                }
                asked.cancel();
            }
        });
        Ok(stop)
    }

    /// Ends when somebody has asked.
    pub(crate) async fn asked(&self) {
        self.0.cancelled().await;
    }
}
