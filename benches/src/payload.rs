//! The file that every client uploads: one valid JPEG of an exact size, made from a seed and hashed before the clock starts.

use std::fmt;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use upload_domain::ImageFormat;
use upload_sandbox::samples::{self, SMALLEST_JPEG};

/// A file and its hash.
#[derive(Clone)]
pub struct Payload {
    /// Its bytes. Clones share them.
    pub file: Bytes,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// Its format.
    pub format: ImageFormat,
}

impl Payload {
    /// A valid JPEG of exactly `bytes` bytes. Equal seeds make equal files.
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

/// Parses a size: a number of bytes, or with `kb`, `mb`, `gb` (powers of 1000) or `kib`, `mib`, `gib` (powers of 1024).
///
/// # Errors
/// If the text is not a size, or less than one byte.
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
        bail!("{text} is not a size: give bytes, or a number with a unit, such as 5000000, 5mb or 1.5MiB");
    };
    let size = count * factor;
    // A larger float does not hold every whole number.
    ensure!((1.0..=9e15).contains(&size), "{text} is not a size: give at least one byte");
    Ok(size.round() as u64)
}

/// Parses the size of an image.
///
/// # Errors
/// Also if it is too small for an image.
pub fn parse_image_size(text: &str) -> Result<usize> {
    let bytes = usize::try_from(parse_size(text)?)?;
    ensure!(bytes >= SMALLEST_JPEG, "{bytes} bytes are too few for an image: the smallest has {SMALLEST_JPEG}");
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
    fn a_wrong_size_is_refused_with_an_example() {
        assert!(parse_image_size("huge").is_err_and(|error| error.to_string().contains("5mb")));
        assert!(parse_image_size("10").is_err_and(|error| error.to_string().contains("256")));
    }
}
