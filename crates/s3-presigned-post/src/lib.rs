#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bucket;
mod checksum;
mod error;
mod policy;
mod signature;

pub use bucket::{Addressing, Bucket};
pub use checksum::Checksum;
pub use error::PolicyError;
pub use policy::{MAX_LIFE, PostPolicy, PresignedPost};
