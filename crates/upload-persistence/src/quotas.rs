//! What a user may create before they must wait: so many pending images, and so many bytes in 24 hours.
//!
//! The statement that creates an image asks the function `image_quota_wait`, which locks the user's row. So of two creates at once, the
//! second one counts the first one's image. The migration has the function and its reason.

use std::time::Duration;

use crate::{images::NewImage, stored::bigint};

/// The length with which an image counts at least, in bytes; `image_quota_wait` has it, too. It bounds how many rows a count of the last 24
/// hours reads.
pub const LEAST_COUNTED_BYTES: u64 = 64 * 1024;

/// The most that one user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Pending images; 0 for any number.
    pub max_pending: u32,
    /// How long an image counts as pending, if it is not linked.
    pub pending_for: Duration,
    /// Bytes of the images that were created in the last 24 hours; 0 for any number. An image counts with its declared or stored length, and
    /// with [`LEAST_COUNTED_BYTES`] at least.
    pub max_bytes_per_day: u64,
    /// The length with which an image counts before its length is known.
    pub unknown_bytes: u64,
}

/// Why an image was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCreated {
    /// The user is not ACTIVE, or has no role that may create images for this path.
    Forbidden,
    /// The user has too many pending images. Without a link, the next place becomes free after this time.
    TooManyPending(Duration),
    /// The user has created too many bytes in 24 hours. There is room for this image after this time.
    TooManyBytes(Duration),
}

impl Quota {
    /// No limits.
    pub const UNLIMITED: Self =
        Self { max_pending: 0, pending_for: Duration::ZERO, max_bytes_per_day: 0, unknown_bytes: 0 };

    /// The length with which a new image counts.
    pub(crate) fn counted_bytes(&self, new: &NewImage) -> i64 {
        bigint(new.byte_size.unwrap_or(self.unknown_bytes))
    }
}

impl NotCreated {
    /// Of the waits in seconds that `image_quota_wait` gives, the longer one.
    pub(crate) fn new(may_create: bool, pending_wait: Option<i64>, bytes_wait: Option<i64>) -> Self {
        let wait = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1));
        match (pending_wait, bytes_wait) {
            _ if !may_create => Self::Forbidden,
            // Whoever has neither must wait for both.
            (_, Some(bytes)) if bytes >= pending_wait.unwrap_or(0) => Self::TooManyBytes(wait(bytes)),
            (pending, _) => Self::TooManyPending(wait(pending.unwrap_or(0))),
        }
    }
}
