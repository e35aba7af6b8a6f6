//! The null sink: looks like S3, checks signatures for real, counts, and discards.

use url::Url;

/// A sink that runs.
#[derive(Debug, Clone)]
pub struct SinkConnection {
    /// Its base URL.
    pub url: Url,
    /// Its process.
    pub pid: u32,
}
