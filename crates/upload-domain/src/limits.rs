//! Sizes and times that bound an upload.

use std::time::Duration;

/// The limits on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Largest file, in bytes.
    pub max_image_bytes: u64,
    /// Widest image, in pixels.
    pub max_width: u32,
    /// Highest image, in pixels.
    pub max_height: u32,
    /// Most pixels in all: width times height.
    pub max_pixels: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { max_image_bytes: 20 * 1024 * 1024, max_width: 12_000, max_height: 12_000, max_pixels: 50_000_000 }
    }
}

/// How long a store may continue a write after its attempt has ended, because the request was given up or a retry has overtaken it. S3
/// promises no limit. This is twenty times the longest of our requests without a client's body.
pub const LATE_WRITE: Duration = Duration::from_secs(10 * 60);

/// The times that must fit together. Otherwise an image could be swept while it is uploaded or linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a form may be used.
    pub form_ttl: Duration,
    /// How long one body may take.
    pub max_body_time: Duration,
    /// How far the clocks of the application, the database and the store may be apart.
    pub max_skew: Duration,
    /// How long an image may stay pending before the sweep takes it.
    pub pending_ttl: Duration,
    /// How long one link may hold an image.
    pub link_lease: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            form_ttl: Duration::from_secs(5 * 60),
            max_body_time: Duration::from_secs(3 * 60),
            max_skew: Duration::from_secs(60),
            pending_ttl: Duration::from_secs(60 * 60),
            link_lease: Duration::from_secs(45),
        }
    }
}

/// Times that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "PENDING_TTL is {pending_ttl:?}; it must be longer than {needed:?}, which is the larger of FORM_TTL + MAX_BODY_TIME + 60 s \
     (clock skew) and 90 s (two link leases), so that no image is swept while it is uploaded or linked"
)]
pub struct TimingError {
    pending_ttl: Duration,
    needed: Duration,
}

impl Timing {
    /// The age up to which an image may be claimed for a link or an upload: early enough that a link's lease ends before the
    /// image is old enough for the sweep. An upload's attempt may last longer; until it ends, the sweep leaves the row alone.
    pub fn link_cutoff(&self) -> Duration {
        self.pending_ttl.saturating_sub(2 * self.link_lease)
    }

    /// How long after its issue a form can still bring bytes: if a client uses it at the last moment, with the slowest body, and the
    /// slowest clock checks it.
    pub fn form_life(&self) -> Duration {
        self.form_ttl + self.max_body_time + self.max_skew
    }

    /// Refuses times under which a form could outlive its row.
    pub fn check(&self) -> Result<(), TimingError> {
        let needed = self.form_life().max(2 * self.link_lease);
        if needed < self.pending_ttl {
            return Ok(());
        }
        Err(TimingError { pending_ttl: self.pending_ttl, needed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_and_a_short_pending_time_does_not() {
        let mut timing = Timing::default();
        assert_eq!(timing.check(), Ok(()));
        assert!(timing.link_lease < timing.pending_ttl - timing.link_cutoff());
        timing.pending_ttl = Duration::from_secs(9 * 60);
        assert!(timing.check().is_err(), "nine minutes is exactly a form's life, a body and the skew");
    }
}
