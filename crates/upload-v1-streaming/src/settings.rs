//! The settings that only V1 has.

use std::time::Duration;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use upload_http::SettingsError;

use crate::admission::AdmissionLimits;

/// How many uploads run at the same time, and how long each may stall.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Streaming")]
pub struct StreamingSettings {
    /// Secret that signs the forms for /uploads, at least 32 bytes. Use the same secret for all servers behind one URL
    #[arg(long, env, hide_env_values = true)]
    pub ticket_secret: SecretString,
    /// How many uploads the server reads at the same time
    #[arg(long, env, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub uploads_active: u32,
    /// How many uploads may wait for their turn. Each one uses up to 0.65 MB of memory
    #[arg(long, env, default_value_t = 1200)]
    pub uploads_waiting: u32,
    /// How long an upload may wait for its turn, in seconds
    #[arg(long, env, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub uploads_wait_seconds: u64,
    /// How much memory all forms of unknown length may use together, in bytes
    #[arg(long, env, default_value_t = 128 * 1024 * 1024)]
    pub buffer_budget_bytes: u64,
    /// In every period of this many seconds, a client must send at least 8 KiB per second
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub client_rate_window_seconds: u64,
    /// How long the store may accept no bytes of an upload, or not answer after the last byte, in seconds
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub storage_stall_seconds: u64,
}

impl StreamingSettings {
    /// Refuses a secret that is too short, and a memory budget that is smaller than the largest file.
    pub(crate) fn check(&self, max_image_bytes: u64) -> Result<(), SettingsError> {
        const LEAST_BYTES: usize = 32;
        if self.ticket_secret.expose_secret().len() < LEAST_BYTES {
            let sentence = "TICKET_SECRET is too short: it must have at least 32 random bytes";
            return Err(SettingsError(sentence.to_owned()));
        }
        if self.buffer_budget_bytes < max_image_bytes {
            return Err(SettingsError(format!(
                "BUFFER_BUDGET_BYTES is {}; it must be at least MAX_IMAGE_BYTES, which is {max_image_bytes}",
                self.buffer_budget_bytes
            )));
        }
        Ok(())
    }

    /// The limits for [`Admission`](crate::Admission).
    pub(crate) fn admission_limits(&self) -> AdmissionLimits {
        AdmissionLimits {
            active: self.uploads_active as usize,
            waiting: self.uploads_waiting as usize,
            wait: Duration::from_secs(self.uploads_wait_seconds),
            buffer_bytes: self.buffer_budget_bytes,
        }
    }
}
