#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

pub mod bucket;
pub mod capabilities;
pub mod pin;
pub mod rights;

mod advice;
mod answer;
mod body;
mod client;
mod error;
mod key;
mod listing;
mod objects;
mod plain;
mod settings;
mod signer;
mod url_signer;
mod versions;

pub use client::{ReadUrl, Storage};
pub use error::{BoxError, StorageError, VersionError, chain};
pub use listing::{Listed, Listing};
pub use objects::{Head, Stored};
pub use settings::{
    Addressing, ChecksumMode, KeyCheck, Pin, SettingsError, SignerSettings, StorageSettings, UploadMethod,
    UploadMethodSettings,
};
pub use signer::{FormError, FormRequest, PostForm, PutForm, Signer};
pub use url_signer::UrlError;
