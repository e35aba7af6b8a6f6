//! The forms that clients upload with. The time is an argument. Signing sends nothing, except that it sometimes fetches newer
//! credentials. A form never outlives the credentials that signed it, because a store would refuse it from then on.
//!
//! The POST form is the portable one, which every store we know accepts: one `eq` condition for each field, the bucket among them, and a
//! size range. There is no `starts-with`, no `${filename}` and no redirect.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use chrono::{DateTime, Utc};
use s3_presigned_post::{Bucket, Checksum, PolicyError, PostPolicy};
use upload_domain::{ImageFormat, ImageId, Sha256Checksum, incoming_key};

use crate::{
    SettingsError, SignerSettings, StorageError, StorageSettings,
    key::Key,
    url_signer::{UrlError, UrlSigner},
};

/// What a form allows.
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
    /// The declared SHA-256. Not every store checks it, so a link verifies it again.
    pub checksum_sha256: Option<Sha256Checksum>,
    /// The time of signing.
    pub now: DateTime<Utc>,
    /// When the form expires, rounded down to a whole second. The store's clock decides.
    pub expires_at: DateTime<Utc>,
}

/// A signed POST form. `Debug` hides the fields' values.
#[derive(Clone, PartialEq, Eq)]
pub struct PostForm {
    /// The bucket, as clients reach it.
    pub url: String,
    /// The fields, in the order to send them; `file` follows last.
    pub fields: Vec<(String, String)>,
    /// When it ends: as was asked for, or sooner with its credentials.
    pub expires_at: DateTime<Utc>,
}

/// A signed PUT. `Debug` hides the URL's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct PutForm {
    /// The object, as clients reach it, with the signature in its query.
    pub url: String,
    /// The headers that were signed and must be sent as they are, Content-Length among them (a browser sets that one itself).
    pub headers: Vec<(String, String)>,
    /// When it ends: as was asked for, or sooner with its credentials.
    pub expires_at: DateTime<Utc>,
}

/// Why a form cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The policy is not valid.
    #[error("cannot sign the form's policy")]
    Policy(#[from] PolicyError),
    /// The URL cannot be signed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A signed PUT has one exact length, not a range.
    #[error("a PUT form needs one exact size")]
    SizeNotExact,
    /// There are no credentials to sign with.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Signs forms with the signer's key, for the address that clients use.
#[derive(Debug)]
pub struct Signer {
    bucket: Bucket,
    key: Key,
}

impl Signer {
    /// Opens the signer's key, for the bucket of `storage`. Fetching temporary credentials takes at most ten seconds.
    /// [`Storage::check_distinct`](crate::Storage::check_distinct) checks that the key has no other role, so both can be opened concurrently.
    ///
    /// # Errors
    /// [`SettingsError`] when there are no credentials, or the bucket cannot stand in a URL.
    pub async fn new(storage: &StorageSettings, signer: &SignerSettings) -> Result<Self, SettingsError> {
        let bucket = storage.public_bucket()?;
        Ok(Self { bucket, key: Key::open(signer.source()?, &storage.region).await? })
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// A form for `multipart/form-data` that writes the image's incoming key.
    ///
    /// # Errors
    /// [`FormError::Policy`] for a form that has expired, would be valid for over a week, or allows no size; [`FormError::Storage`] when
    /// the signer's credentials have expired.
    pub async fn post_form(&self, request: &FormRequest) -> Result<PostForm, FormError> {
        self.post_form_for(&incoming_key(request.image), request).await
    }

    /// The same for any key. Clients never get such a form: it is to find out whether the store refuses it.
    pub(crate) async fn post_form_for(&self, key: &str, request: &FormRequest) -> Result<PostForm, FormError> {
        let (credentials, expires_at) = self.credentials(request).await?;
        let mut policy = PostPolicy::new(expires_at.into())
            .exact("key", key)
            .exact("Content-Type", request.format.as_str())
            .exact("success_action_status", "201")
            .content_length_range(request.min_bytes, request.max_bytes);
        if let Some(checksum) = request.checksum_sha256 {
            policy = policy.checksum(Checksum::Sha256(*checksum.as_bytes()));
        }
        let form = policy.sign(&self.bucket, &credentials, request.now.into())?;
        Ok(PostForm { url: form.url, fields: form.fields, expires_at })
    }

    /// A PUT that writes the image's incoming key, with type, length and declared checksum signed.
    ///
    /// # Errors
    /// [`FormError::SizeNotExact`] unless smallest and largest size are equal; [`PolicyError::Expired`] or [`PolicyError::TooLong`] for a
    /// lifetime that cannot be signed; [`FormError::Storage`] when the signer's credentials have expired.
    pub async fn put_form(&self, request: &FormRequest) -> Result<PutForm, FormError> {
        if request.min_bytes != request.max_bytes {
            return Err(FormError::SizeNotExact);
        }
        let (credentials, expires_at) = self.credentials(request).await?;
        let lasts = expires_at.timestamp().saturating_sub(request.now.timestamp());
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
        let signer = UrlSigner::new(&self.bucket, &credentials);
        let url = signer.sign("PUT", &key, &[], &signed, now, Duration::from_secs(lasts))?;
        Ok(PutForm { url, headers, expires_at })
    }

    /// The credentials, and the latest time at which the form must expire, in whole seconds because stores ignore fractions.
    async fn credentials(&self, request: &FormRequest) -> Result<(Credentials, DateTime<Utc>), FormError> {
        let wanted = (request.expires_at - request.now).to_std().unwrap_or_default();
        let credentials = self.key.credentials(wanted).await?;
        let expiry = credentials.expiry().map(DateTime::<Utc>::from);
        if let Some(expiry) = expiry.filter(|expiry| expiry.timestamp() <= request.now.timestamp()) {
            // Their expiry follows this machine's clock, not the one that sets the form's date.
            let ended = format!("the signer's credentials expired at {expiry}, before the form was requested");
            return Err(StorageError::unavailable(ended).into());
        }
        let expires_at = expiry.map_or(request.expires_at, |expiry| expiry.min(request.expires_at));
        Ok((credentials, DateTime::from_timestamp(expires_at.timestamp(), 0).unwrap_or(expires_at)))
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
