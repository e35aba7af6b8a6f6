//! Settings that the servers and `upload-ops` must read alike. Otherwise the sweep could remove an image that a server still needs.

use std::time::Duration;

use clap::{Args, ValueEnum};
use url::Url;

use crate::{Timing, TimingError};

/// The settings for the times that must fit together. All other times are constants in [`Timing`]'s defaults.
#[derive(Debug, Clone, Args)]
pub struct TimingSettings {
    /// How long a form works, in seconds. Set the same value for the servers and for `upload-ops sweep`.
    #[arg(
        long, env,
        default_value_t = Timing::default().form_ttl.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=604_800)
    )]
    form_ttl: u64,

    /// How long one upload's body may take, in seconds. Set the same value for the servers and for `upload-ops sweep`.
    #[arg(
        long, env,
        default_value_t = Timing::default().max_body_time.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    max_body_time: u64,

    /// How long an image may stay pending before the sweep removes it, in seconds. Set the same value for the servers and for
    /// `upload-ops sweep`.
    #[arg(
        long, env,
        default_value_t = Timing::default().pending_ttl.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=31_536_000)
    )]
    pending_ttl: u64,
}

impl TimingSettings {
    /// The times.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn checked(&self) -> Result<Timing, TimingError> {
        let timing = Timing {
            form_ttl: Duration::from_secs(self.form_ttl),
            max_body_time: Duration::from_secs(self.max_body_time),
            pending_ttl: Duration::from_secs(self.pending_ttl),
            ..Timing::default()
        };
        timing.check().map(|()| timing)
    }
}

/// The algorithms that tokens may be signed with; a deployer pins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    #[value(name = "HS256")]
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[value(name = "RS256")]
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    #[value(name = "ES256")]
    Es256,
    /// Ed25519.
    #[value(name = "EdDSA")]
    EdDsa,
}

impl JwtAlgorithm {
    /// Shortest secret for HS256, in bytes: as long as its hash (RFC 7518, 3.2).
    pub const LEAST_SECRET_BYTES: usize = 32;
}

/// An origin of a web page, spelled as browsers send it, or `*` for every origin.
///
/// # Errors
/// What an origin looks like.
pub fn origin(text: &str) -> Result<String, &'static str> {
    const RIGHT: &str = "an origin is a scheme, a host and perhaps a port, such as https://app.example.org, or `*`";
    if text == "*" {
        return Ok(text.to_owned());
    }
    let url = Url::parse(text).map_err(|_error| RIGHT)?;
    let origin = url.origin();
    let spelled = origin.ascii_serialization();
    if origin.is_tuple() && text.trim_end_matches('/') == spelled { Ok(spelled) } else { Err(RIGHT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_spelled_as_browsers_send_it() {
        assert_eq!(origin("https://app.example.org/"), Ok("https://app.example.org".to_owned()));
        assert_eq!(origin("http://localhost:3000"), Ok("http://localhost:3000".to_owned()));
        assert_eq!(origin("*"), Ok("*".to_owned()));
        for wrong in ["", "app.example.org", "https://app.example.org/page", "https://user@app.example.org", "data:x"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
