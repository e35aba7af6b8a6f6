//! The file that every client uploads: one valid JPEG of an exact size, made from a seed and hashed before anything is timed.
//!
//! All uploads of a run share its bytes; nothing here is called while the clock runs.

use std::fmt;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use upload_domain::ImageFormat;
use upload_sandbox::samples::{self, SMALLEST_JPEG};

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
    /// Below [`SMALLEST_JPEG`] bytes, which [`parse_image_size`] refuses.
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

/// Reads a size: a number of bytes, or with `kb`, `mb`, `gb` (powers of 1000) or `kib`, `mib`, `gib` (powers of 1024).
///
/// # Errors
///
/// Fails with what was expected when the text is no such size, or less than one byte.
pub fn parse_size(text: &str) -> Result<u64> {
    const UNITS: [(&str, f64); 8] = [
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("bytes", 1.0),
        ("b", 1.0),
    ];
    let lower = text.trim().to_lowercase();
    let (digits, factor) =
        UNITS.iter().find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, *factor))).unwrap_or((&lower, 1.0));
    let Ok(count) = digits.trim_end().parse::<f64>() else {
        bail!("a size is a number of bytes or has a unit, as in 5000000, 5mb or 1.5MiB, and {text} is none");
    };
    let size = count * factor;
    // Above it, a float no longer holds every whole number.
    ensure!((1.0..=9e15).contains(&size), "a size is at least one byte and finite, and {text} is not");
    Ok(size.round() as u64)
}

/// The same of an image that can be made.
///
/// # Errors
///
/// Also where it would be too small for one.
pub fn parse_image_size(text: &str) -> Result<usize> {
    let bytes = usize::try_from(parse_size(text)?)?;
    ensure!(bytes >= SMALLEST_JPEG, "an image of {bytes} bytes cannot be made: the smallest has {SMALLEST_JPEG}");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_exactly_so_many_bytes_and_a_seed_decides_its_content() -> Result<()> {
        for (size, bytes) in
            [("100kb", 100_000), ("1mb", 1_000_000), ("5mb", 5_000_000), ("20mb", 20_000_000), ("4000", 4000)]
        {
            assert_eq!(parse_image_size(size)?, bytes);
            assert_eq!(Payload::jpeg(bytes, 1).file.len(), bytes);
        }
        assert_eq!(Payload::jpeg(100_000, 1).sha256, Payload::jpeg(100_000, 1).sha256);
        assert_ne!(Payload::jpeg(100_000, 1).sha256, Payload::jpeg(100_000, 2).sha256);
        Ok(())
    }

    #[test]
    fn a_size_that_is_none_is_refused_with_what_would_be_one() {
        assert!(parse_image_size("huge").is_err_and(|error| error.to_string().contains("5mb")));
        assert!(parse_image_size("10").is_err_and(|error| error.to_string().contains("256")));
    }
}
