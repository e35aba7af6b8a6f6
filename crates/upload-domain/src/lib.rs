#![doc = include_str!("../README.md")]

mod checksum;
mod claims;
mod clocks;
mod ids;
mod image;
mod inspect;
mod keys;
mod limits;
mod link;
mod settings;
mod user;

pub use checksum::{Sha256Checksum, UnknownChecksum};
pub use claims::Claims;
pub use clocks::{ClockDifference, ClockOffset, ClockOffsets};
pub use ids::*;
pub use image::{ImageFormat, ImagePath};
pub use inspect::{Dimensions, HEAD_BYTES, Refusal, inspect};
pub use keys::{INCOMING_PREFIX, MEDIA_PREFIX, incoming_key, incoming_key_image, media_key, media_key_parts};
pub use limits::{ImageLimits, LATE_WRITE, Timing, TimingError};
pub use link::{LinkKind, LinkTarget};
pub use settings::{JwtAlgorithm, TimingSettings, origin};
pub use user::{Role, UserStatus};

/// A word that is not one of an enumeration's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {expected}")]
pub struct UnknownWord {
    /// What was given.
    pub word: String,
    /// The values that exist, separated by commas.
    pub expected: &'static str,
}

/// Writes an enumeration whose values have one spelling in SQL, in JSON and in code.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$value_meta:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$value_meta])* #[serde(rename = $word)] $value),+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// Every spelling, separated by commas.
            pub const WORDS: &'static str = words!(@list $($word),+);

            /// The spelling in SQL and on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$value),)+
                    _ => Err($crate::UnknownWord {
                        word: word.to_owned(),
                        expected: Self::WORDS,
                    }),
                }
            }
        }
    };
    (@list $first:literal $(, $rest:literal)*) => { concat!($first $(, ", ", $rest)*) };
}
use words;
