//! Checksums that a form can pin: the store then refuses any other content.

use aws_smithy_types::base64;

/// A digest of the whole file, computed by you beforehand
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
///
/// Not every S3-compatible store checks it on a form upload: verify what you rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checksum {
    /// SHA-256 (FIPS 180-4).
    Sha256([u8; 32]),
    /// SHA-1 (FIPS 180-4).
    Sha1([u8; 20]),
    /// CRC-32 (ISO 3309), big-endian.
    Crc32([u8; 4]),
    /// CRC-32C (RFC 9260, appendix A), big-endian.
    Crc32c([u8; 4]),
    /// CRC-64/NVME, big-endian.
    Crc64Nvme([u8; 8]),
}

impl Checksum {
    /// The form field and its value: the digest in base64.
    pub(crate) fn field(&self) -> (&'static str, String) {
        let (name, digest): (_, &[u8]) = match self {
            Self::Sha256(digest) => ("x-amz-checksum-sha256", digest),
            Self::Sha1(digest) => ("x-amz-checksum-sha1", digest),
            Self::Crc32(digest) => ("x-amz-checksum-crc32", digest),
            Self::Crc32c(digest) => ("x-amz-checksum-crc32c", digest),
            Self::Crc64Nvme(digest) => ("x-amz-checksum-crc64nvme", digest),
        };
        (name, base64::encode(digest))
    }
}
