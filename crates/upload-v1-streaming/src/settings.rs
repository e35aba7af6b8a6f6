//! The settings that only V1 has.

use std::time::Duration;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use upload_http::SettingsError;

use crate::admission::{AdmissionLimits, ClientLimits};

/// How many uploads run at the same time, and how long each may stall.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Streaming")]
pub struct StreamingSettings {
    /// Secret that signs the forms for /uploads, at least 32 bytes. Use the same secret for all servers behind one URL
    #[arg(long, env, hide_env_values = true)]
    pub ticket_secret: SecretString,
    /// How many uploads move bytes at the same time. An upload loses this turn while its client keeps the server waiting
    #[arg(long, env, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub uploads_active: u32,
    /// How many uploads may have begun, with slow clients included
    #[arg(long, env, default_value_t = 1200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub uploads_open: u32,
    /// How many uploads may wait until they begin. Their bodies are not read before
    #[arg(long, env, default_value_t = 1200)]
    pub uploads_waiting: u32,
    /// How long an upload may wait for its turn, in seconds
    #[arg(long, env, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub uploads_wait_seconds: u64,
    /// How many uploads of one user may wait or have begun
    #[arg(long, env, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub uploads_per_user: u32,
    /// The same for one address, or for one /64 of IPv6. Not set: no limit
    #[arg(long, env, value_parser = clap::value_parser!(u32).range(1..))]
    pub uploads_per_address: Option<u32>,
    /// How much memory all forms of unknown length may use together, in bytes
    #[arg(long, env, default_value_t = 128 * 1024 * 1024)]
    pub buffer_budget_bytes: u64,
    /// How much of it one user may have, in bytes
    #[arg(long, env, default_value_t = 32 * 1024 * 1024)]
    pub buffer_per_user_bytes: u64,
    /// How much of it one address may have, in bytes. Not set: no limit
    #[arg(long, env)]
    pub buffer_per_address_bytes: Option<u64>,
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
        let buffers = [
            ("BUFFER_BUDGET_BYTES", Some(self.buffer_budget_bytes)),
            ("BUFFER_PER_USER_BYTES", Some(self.buffer_per_user_bytes)),
            ("BUFFER_PER_ADDRESS_BYTES", self.buffer_per_address_bytes),
        ];
        for (name, bytes) in buffers.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))) {
            if bytes < max_image_bytes {
                let sentence =
                    format!("{name} is {bytes}; it must be at least MAX_IMAGE_BYTES, which is {max_image_bytes}");
                return Err(SettingsError(sentence));
            }
        }
        Ok(())
    }

    /// The limits for [`Admission`](crate::Admission).
    pub(crate) fn admission_limits(&self) -> AdmissionLimits {
        AdmissionLimits {
            active: self.uploads_active as usize,
            open: self.uploads_open as usize,
            waiting: self.uploads_waiting as usize,
            wait: Duration::from_secs(self.uploads_wait_seconds),
            buffer_bytes: self.buffer_budget_bytes,
            per_user: ClientLimits { uploads: self.uploads_per_user.into(), buffer_bytes: self.buffer_per_user_bytes },
            per_address: ClientLimits {
                uploads: self.uploads_per_address.map_or(u64::MAX, u64::from),
                buffer_bytes: self.buffer_per_address_bytes.unwrap_or(u64::MAX),
            },
        }
    }
}
