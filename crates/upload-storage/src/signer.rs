//! The forms that clients upload with. Pure: the time comes in as an argument, nothing is sent.
//!
//! The POST form is the portable one, which every store we know accepts: one `eq` condition for each field, the bucket among them, and a
//! size range. There is no `starts-with`, no `${filename}` and no redirect.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use s3_presigned_post::{Checksum, PolicyError, PostPolicy};
use upload_domain::{ImageFormat, ImageId, Sha256Checksum, incoming_key};

use crate::{
    SettingsError, SignerSettings, StorageSettings,
    url_signer::{UrlError, UrlSigner},
};

/// What a form shall allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormRequest {
    /// Whose incoming key may be written.
    pub image: ImageId,
    /// The only Content-Type.
    pub format: ImageFormat,
    /// Smallest file, in bytes.
    pub min_bytes: u64,
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// The only content, where it was declared. Not every store checks it: link verifies it again.
    pub checksum_sha256: Option<Sha256Checksum>,
    /// The time of signing.
    pub now: DateTime<Utc>,
    /// When the form ends, rounded down to a whole second; the store's clock judges.
    pub expires_at: DateTime<Utc>,
}

/// A signed POST form. `Debug` hides the fields' values.
#[derive(Clone, PartialEq, Eq)]
pub struct PostForm {
    /// The bucket, as clients reach it.
    pub url: String,
    /// The fields, in the order to send them; `file` follows last.
    pub fields: Vec<(String, String)>,
}

/// A signed PUT. `Debug` hides the URL's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct PutForm {
    /// The object, as clients reach it, with the signature in its query.
    pub url: String,
    /// The headers that were signed and must be sent as they are, Content-Length among them (a browser sets that one itself).
    pub headers: Vec<(String, String)>,
}

/// Why a form cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The policy would not hold.
    #[error("the form's policy cannot be signed")]
    Policy(#[from] PolicyError),
    /// The URL cannot be signed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A signed PUT has one exact length, not a range.
    #[error("a PUT form needs one exact size")]
    SizeNotExact,
}

/// Signs forms with the signer's key, for the address that clients use.
#[derive(Debug)]
pub struct Signer {
    signer: UrlSigner,
}

impl Signer {
    /// Takes the signer's key.
    ///
    /// # Errors
    /// [`SettingsError`] when the key has another role too, or the public address cannot stand in a URL.
    pub fn new(storage: &StorageSettings, signer: &SignerSettings) -> Result<Self, SettingsError> {
        signer.check(storage)?;
        Ok(Self { signer: UrlSigner::new(storage.public_bucket()?, signer.credentials()) })
    }

    /// A form for `multipart/form-data` that writes the image's incoming key.
    ///
    /// # Errors
    /// [`FormError::Policy`] for a form that has expired, would live for over a week, or allows no size.
    pub fn post_form(&self, request: &FormRequest) -> Result<PostForm, FormError> {
        let mut policy = PostPolicy::new(request.expires_at.into())
            .exact("key", incoming_key(request.image))
            .exact("Content-Type", request.format.as_str())
            .exact("success_action_status", "201")
            .content_length_range(request.min_bytes, request.max_bytes);
        if let Some(checksum) = request.checksum_sha256 {
            policy = policy.checksum(Checksum::Sha256(*checksum.as_bytes()));
        }
        let form = policy.sign(self.signer.bucket(), self.signer.credentials(), request.now.into())?;
        Ok(PostForm { url: form.url, fields: form.fields })
    }

    /// A PUT that writes the image's incoming key, with type, length and declared checksum signed.
    ///
    /// # Errors
    /// [`FormError::SizeNotExact`] unless smallest and largest size are one; [`PolicyError::Expired`] or [`PolicyError::TooLong`] for a
    /// life that cannot be signed.
    pub fn put_form(&self, request: &FormRequest) -> Result<PutForm, FormError> {
        if request.min_bytes != request.max_bytes {
            return Err(FormError::SizeNotExact);
        }
        let lasts = request.expires_at.timestamp().saturating_sub(request.now.timestamp());
        let lasts = u64::try_from(lasts).unwrap_or_default();
        if lasts == 0 {
            return Err(PolicyError::Expired.into());
        }
        if lasts > s3_presigned_post::MAX_LIFE.as_secs() {
            return Err(PolicyError::TooLong.into());
        }
        let mut headers = vec![
            ("content-type".to_owned(), request.format.as_str().to_owned()),
            ("content-length".to_owned(), request.max_bytes.to_string()),
        ];
        if let Some(checksum) = request.checksum_sha256 {
            headers.push(("x-amz-checksum-sha256".to_owned(), checksum.to_string()));
        }
        let signed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let key = incoming_key(request.image);
        let now = SystemTime::from(request.now);
        let url = self.signer.sign("PUT", &key, &signed, now, std::time::Duration::from_secs(lasts))?;
        Ok(PutForm { url, headers })
    }
}

impl std::fmt::Debug for PostForm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.fields.iter().map(|(name, _value)| name.as_str()).collect();
        formatter.debug_struct("PostForm").field("url", &self.url).field("fields", &names).finish()
    }
}

impl std::fmt::Debug for PutForm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.url.split('?').next().unwrap_or_default();
        formatter.debug_struct("PutForm").field("url", &address).field("headers", &self.headers).finish()
    }
}
