//! What a form lets a client do: the right file must be stored, and everything else refused.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use upload_domain::{ImageFormat, ImageId, Sha256Checksum};

use super::{Examination, Shown};
use crate::{FormError, FormRequest, PostForm, PutForm, Signer, StorageError, answer::Answered, chain, plain::Plain};

/// What every form is for.
pub(super) const FILE: &str = "file";
/// How long a form of ours may be used, in minutes.
const FORM_MINUTES: i64 = 5;

/// What the store makes of a POST form (a signed policy).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostForms {
    /// It stores what the form allows.
    pub accepted: Shown,
    /// It refuses another size.
    pub size: Shown,
    /// It refuses another Content-Type.
    pub content_type: Shown,
    /// It refuses another key.
    pub key: Shown,
    /// It refuses a key in `media/`, also in a form that our signer has signed for it.
    pub media: Shown,
    /// It refuses a form that has expired.
    pub expiry: Shown,
    /// It takes a form with a SHA-256, and refuses another file with it.
    pub checksum: Shown,
}

/// What the store makes of a presigned PUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutForms {
    /// It stores what was signed.
    pub accepted: Shown,
    /// It refuses another size.
    pub size: Shown,
    /// It refuses another Content-Type.
    pub content_type: Shown,
    /// It refuses a URL that has expired.
    pub expiry: Shown,
}

impl Examination {
    /// Sends POST forms, most of which the store must refuse. `None` without a signer.
    pub async fn post_forms(&self) -> Option<PostForms> {
        let ask = Ask { examination: self, signer: self.signer()? };
        let accepted = told(ask.post_accepted(None).await);
        if !accepted.is_yes() {
            let unknown = || Shown::Unknown("the store takes no form".to_owned());
            return Some(PostForms {
                accepted,
                size: unknown(),
                content_type: unknown(),
                key: unknown(),
                media: unknown(),
                expiry: unknown(),
                checksum: unknown(),
            });
        }
        let untouched = |_form: &mut PostForm| {};
        let other_type = |form: &mut PostForm| set(&mut form.fields, "Content-Type", "text/html");
        let size = match told(ask.post_refused(now(), None, untouched, "longer").await) {
            Shown::Yes => told(ask.post_refused(now(), None, untouched, "x").await),
            shown => shown,
        };
        let checksum = match told(ask.post_accepted(sha256(FILE)).await) {
            Shown::Yes => told(ask.post_refused(now(), sha256("elif"), untouched, FILE).await),
            shown => shown,
        };
        Some(PostForms {
            accepted,
            size,
            content_type: told(ask.post_refused(now(), None, other_type, FILE).await),
            key: told(ask.post_other_key().await),
            media: told(ask.post_media().await),
            expiry: told(ask.post_refused(long_ago(), None, untouched, FILE).await),
            checksum,
        })
    }

    /// The same with presigned PUTs.
    pub async fn put_forms(&self) -> Option<PutForms> {
        let ask = Ask { examination: self, signer: self.signer()? };
        let accepted = told(ask.put_accepted().await);
        if !accepted.is_yes() {
            let unknown = || Shown::Unknown("the store takes no presigned PUT".to_owned());
            return Some(PutForms { accepted, size: unknown(), content_type: unknown(), expiry: unknown() });
        }
        let other_size = |form: &mut PutForm| set(&mut form.headers, "content-length", "6");
        let other_type = |form: &mut PutForm| set(&mut form.headers, "content-type", "text/html");
        Some(PutForms {
            accepted,
            size: told(ask.put_refused(now(), other_size, "longer").await),
            content_type: told(ask.put_refused(now(), other_type, FILE).await),
            expiry: told(ask.put_refused(long_ago(), |_form| {}, FILE).await),
        })
    }

    /// Whether the store has refused to write this key. What counts is what is there, not the status.
    pub(super) async fn refused(&self, answered: Answered, key: &str) -> Result<Shown, StorageError> {
        Ok(match self.content(key).await? {
            Some(_stored) => Shown::No(format!("the store answers {}, and has stored the file", answered.words())),
            None if answered.has_failed() => Shown::Unknown(format!("the store answers {}", answered.words())),
            None => Shown::Yes,
        })
    }
}

/// Asks with one signer.
struct Ask<'a> {
    examination: &'a Examination,
    signer: &'a Signer,
}

impl Ask<'_> {
    async fn post_accepted(&self, checksum: Option<Sha256Checksum>) -> Result<Shown, StorageError> {
        let (image, key) = self.examination.fresh();
        let form = self.signer.post_form(&request(image, now(), checksum)).await.map_err(not_signed)?;
        self.stored(self.send(&form, FILE).await?, &key).await
    }

    /// A form that has expired or is changed after it was signed, or a file that it does not allow.
    async fn post_refused(
        &self,
        signed_at: DateTime<Utc>,
        checksum: Option<Sha256Checksum>,
        spoil: impl FnOnce(&mut PostForm),
        file: &str,
    ) -> Result<Shown, StorageError> {
        let (image, key) = self.examination.fresh();
        let mut form = self.signer.post_form(&request(image, signed_at, checksum)).await.map_err(not_signed)?;
        spoil(&mut form);
        self.examination.refused(self.send(&form, file).await?, &key).await
    }

    async fn post_other_key(&self) -> Result<Shown, StorageError> {
        let ((image, _key), (_other_image, other)) = (self.examination.fresh(), self.examination.fresh());
        let mut form = self.signer.post_form(&request(image, now(), None)).await.map_err(not_signed)?;
        set(&mut form.fields, "key", &other);
        let answered = self.send(&form, FILE).await?;
        self.examination.refused(answered, &other).await
    }

    /// A good form, for a key that the signer's key has no right to.
    async fn post_media(&self) -> Result<Shown, StorageError> {
        let ((image, _key), media) = (self.examination.fresh(), self.examination.fresh_media());
        let form = self.signer.post_form_for(&media, &request(image, now(), None)).await.map_err(not_signed)?;
        let answered = self.send(&form, FILE).await?;
        self.examination.refused(answered, &media).await
    }

    async fn put_accepted(&self) -> Result<Shown, StorageError> {
        let (image, key) = self.examination.fresh();
        let form = self.signer.put_form(&request(image, now(), None)).await.map_err(not_signed)?;
        let answered = put(form, FILE).send(&self.examination.storage).await?;
        self.stored(answered, &key).await
    }

    async fn put_refused(
        &self,
        signed_at: DateTime<Utc>,
        spoil: impl FnOnce(&mut PutForm),
        file: &str,
    ) -> Result<Shown, StorageError> {
        let (image, key) = self.examination.fresh();
        let mut form = self.signer.put_form(&request(image, signed_at, None)).await.map_err(not_signed)?;
        spoil(&mut form);
        let answered = put(form, file).send(&self.examination.storage).await?;
        self.examination.refused(answered, &key).await
    }

    async fn send(&self, form: &PostForm, file: &str) -> Result<Answered, StorageError> {
        Plain::form(form.url.clone(), form, file).send(&self.examination.storage).await
    }

    async fn stored(&self, answered: Answered, key: &str) -> Result<Shown, StorageError> {
        let content = self.examination.content(key).await?;
        Ok(match content.as_deref() {
            Some(FILE) if answered.is_success() => Shown::Yes,
            Some(FILE) => Shown::No(format!("the store answers {}, but has the file", answered.words())),
            _ => Shown::No(format!("the store answers {}, and does not have the file", answered.words())),
        })
    }
}

/// A question that the store failed to answer is an answer, too.
pub(super) fn told(asked: Result<Shown, StorageError>) -> Shown {
    asked.unwrap_or_else(Shown::from)
}

fn sha256(file: &str) -> Option<Sha256Checksum> {
    Some(<[u8; 32]>::from(Sha256::digest(file)).into())
}

/// A form for [`FILE`] alone.
pub(super) fn request(image: ImageId, now: DateTime<Utc>, checksum_sha256: Option<Sha256Checksum>) -> FormRequest {
    let bytes = FILE.len() as u64;
    let expires_at = now + TimeDelta::minutes(FORM_MINUTES);
    FormRequest {
        image,
        format: ImageFormat::Png,
        min_bytes: bytes,
        max_bytes: bytes,
        checksum_sha256,
        now,
        expires_at,
    }
}

/// A presigned PUT of [`FILE`].
pub(super) fn put_file(form: PutForm) -> Plain {
    put(form, FILE)
}

/// A form with [`FILE`].
pub(super) fn post_file(form: &PostForm) -> Plain {
    Plain::form(form.url.clone(), form, FILE)
}

pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

pub(super) fn not_signed(error: FormError) -> StorageError {
    match error {
        FormError::Storage(error) => error,
        error => StorageError::Refused(chain(&error).into()),
    }
}

/// When a form must have been signed to have expired by now, whatever two clocks may differ by.
fn long_ago() -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(2 * FORM_MINUTES)
}

fn put(form: PutForm, file: &str) -> Plain {
    Plain { method: "PUT", url: form.url, headers: form.headers, body: file.to_owned() }
}

/// Replaces the value of this name.
pub(super) fn set(pairs: &mut [(String, String)], name: &str, value: &str) {
    for (_name, old) in pairs.iter_mut().filter(|(found, _value)| found == name) {
        *old = value.to_owned();
    }
}
