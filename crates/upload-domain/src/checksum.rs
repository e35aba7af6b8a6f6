//! The SHA-256 that a client may declare for its file.

use base64::{Engine, engine::general_purpose::STANDARD};

/// A SHA-256 digest; on the wire standard base64 with padding, as S3's `x-amz-checksum-sha256` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Checksum([u8; 32]);

/// Text that is not the base64 of 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 checksum is the base64 of 32 bytes")]
pub struct UnknownChecksum;

impl Sha256Checksum {
    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Sha256Checksum {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Display for Sha256Checksum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&STANDARD.encode(self.0))
    }
}

impl std::str::FromStr for Sha256Checksum {
    type Err = UnknownChecksum;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(UnknownChecksum)
    }
}

impl serde::Serialize for Sha256Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Sha256Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
