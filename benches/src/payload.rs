//! The file that every client uploads: one valid JPEG of an exact size, made from a seed and hashed before anything is timed.
//!
//! All uploads of a run share its bytes; nothing here is called while the clock runs.

use std::fmt;

use anyhow::{Result, bail};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use upload_domain::ImageFormat;
use upload_sandbox::samples::{self, SMALLEST_JPEG};

/// The sizes that have names, in bytes. The largest is just below the servers' default limit of 20 MiB.
pub const SIZES: [(&str, usize); 4] =
    [("100kb", 100_000), ("1mb", 1_000_000), ("5mb", 5_000_000), ("20mb", 20_000_000)];

/// One file, and what it is known by afterwards.
#[derive(Clone)]
pub struct Payload {
    /// Its bytes; a clone shares them.
    pub file: Bytes,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// What it is.
    pub format: ImageFormat,
}

impl Payload {
    /// A valid JPEG of exactly `bytes` bytes; equal seeds make equal files.
    ///
    /// # Panics
    ///
    /// Below [`SMALLEST_JPEG`] bytes, which [`parse_size`] refuses.
    pub fn jpeg(bytes: usize, seed: u64) -> Self {
        let file = Bytes::from(samples::jpeg_of_exactly(bytes, seed));
        let sha256 = Sha256::digest(&file).into();
        Self { file, sha256, format: ImageFormat::Jpeg }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Payload({} of {} bytes)", self.format, self.file.len())
    }
}

/// The bytes that a name of [`SIZES`] or a number stands for.
///
/// # Errors
///
/// Says which names there are, or that so small an image cannot be made.
pub fn parse_size(text: &str) -> Result<usize> {
    if let Some((_, bytes)) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(*bytes);
    }
    match text.parse() {
        Ok(bytes) if bytes < SMALLEST_JPEG => {
            bail!("An image of {bytes} bytes cannot be made: the smallest has {SMALLEST_JPEG}.")
        }
        Ok(bytes) => Ok(bytes),
        Err(_not_a_number) => {
            let names = SIZES.map(|(name, _)| name).join(", ");
            bail!("A size is {names} or a number of bytes, not {text:?}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_named_size_makes_a_file_of_exactly_so_many_bytes_and_a_seed_decides_its_content() -> Result<()> {
        for (name, bytes) in SIZES {
            assert_eq!(parse_size(name)?, bytes);
            assert_eq!(Payload::jpeg(bytes, 1).file.len(), bytes);
        }
        assert_eq!(Payload::jpeg(100_000, 1).sha256, Payload::jpeg(100_000, 1).sha256);
        assert_ne!(Payload::jpeg(100_000, 1).sha256, Payload::jpeg(100_000, 2).sha256);
        Ok(())
    }

    #[test]
    fn a_size_that_is_none_is_refused_with_the_names() {
        assert!(parse_size("huge").is_err_and(|error| error.to_string().contains("5mb")));
        assert!(parse_size("10").is_err_and(|error| error.to_string().contains("256")));
        assert_eq!(parse_size("4000").ok(), Some(4000));
    }
}
