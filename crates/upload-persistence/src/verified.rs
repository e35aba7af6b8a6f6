//! What a link commits.

use upload_domain::{AttemptId, Dimensions, ImageId, UserId};

/// An image with verified bytes under its media key, held by a live attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    /// Which image.
    pub image: ImageId,
    /// Its owner, who links it.
    pub user: UserId,
    /// The attempt that holds it.
    pub attempt: AttemptId,
    /// Where its bytes are.
    pub media_key: &'a str,
    /// The version that was verified, if the key is the incoming key.
    pub media_version: Option<&'a str>,
    /// Their length, in bytes.
    pub byte_size: u64,
    /// Their size, in pixels.
    pub dimensions: Dimensions,
}
