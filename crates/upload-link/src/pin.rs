//! From a claimed image to a pinned one: verified bytes that nobody can change. They are a copy under a media key, which no client ever
//! had a signature for, or one version of the upload (`S3_PIN`).
//!
//! With `S3_PIN=version`, an upload that has no version of its own is copied, too: it was made before the bucket had versions. Each row says
//! how its image is pinned.
//!
//! For a copy, both the source and the copy are verified. It is not enough that the store copies the version that an ETag names: most ETags are MD5,
//! and MD5 has collisions, so a client could swap two files between the check and the copy. The link uses only verified bytes.
//!
//! No database connection is held here while the store is asked.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::warn;
use upload_domain::{Dimensions, HEAD_BYTES, LinkTarget, Refusal, Sha256Checksum, incoming_key};
use upload_persistence::{self as persistence, images::Image, posts::Post};
use upload_storage::{Head, Pin, StorageError, VersionError, chain};

use crate::{Hold, LinkError, Links, Written, one::Claim, verify::Checked};

/// How much of a version a link reads at first, in bytes. It holds the headers of nearly all images.
const FIRST_BYTES: usize = 64 * 1024;

/// How long ago the store must have served another image to count as busy, not as down.
const LATELY: Duration = Duration::from_secs(3);

/// An image that this link holds.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) image: Image,
    pub(crate) hold: Hold,
    pub(crate) target: LinkTarget,
    /// When it must be pinned, so that time is left to commit.
    pub(crate) until: Instant,
}

/// An image that can be committed.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) image: Image,
    pub(crate) hold: Hold,
    media_key: String,
    media_version: Option<String>,
    pub(crate) byte_size: u64,
    dimensions: Dimensions,
}

impl Pinned {
    /// What the commit writes.
    pub(crate) fn verified(&self) -> persistence::Verified<'_> {
        persistence::Verified {
            image: self.image.id,
            user: self.image.user_id,
            attempt: self.hold.attempt(),
            media_key: &self.media_key,
            media_version: self.media_version.as_deref(),
            byte_size: self.byte_size,
            dimensions: self.dimensions,
        }
    }

    /// The row of the image as the commit of `post` has left it.
    pub(crate) fn in_post(self, post: &Post) -> Image {
        Image {
            // One statement made the post and linked its images, so both have one time.
            linked_at: Some(post.created_at),
            byte_size: Some(self.byte_size),
            width: Some(self.dimensions.width),
            height: Some(self.dimensions.height),
            media_key: Some(self.media_key),
            media_version: self.media_version,
            media_byte_size: Some(self.byte_size),
            attempt: None,
            ..self.image
        }
    }

    /// Whether the row of the image names what this attempt would commit.
    pub(crate) fn is_on(&self, row: &Image) -> bool {
        row.linked_at.is_some()
            && row.media_key.as_deref() == Some(&self.media_key)
            && row.media_version == self.media_version
    }

    /// Whether what is served is under the incoming key.
    pub(crate) fn is_incoming(&self) -> bool {
        self.media_version.is_some()
    }
}

impl Links {
    /// Verifies the client's upload, and copies it or takes its version. If V1 has already stored verified bytes, nothing is left to do. A
    /// failure undoes the attempt.
    ///
    /// If the store has not answered in time, but is only busy, the link begins again. Its new attempt has a media key of its own, since the
    /// store may still carry out the copy of the last one. All attempts together have the time of one.
    pub(crate) async fn pin(&self, mut claimed: Claimed) -> Result<Pinned, LinkError> {
        let until = claimed.until;
        loop {
            let Claimed { image, hold, target, until: _ } = claimed;
            if let Some(verified) = image.verified() {
                let (byte_size, dimensions) = (verified.byte_size, verified.dimensions);
                let media_key = verified.media_key.to_owned();
                return Ok(Pinned { image, hold, media_key, media_version: None, byte_size, dimensions });
            }
            let error = match self.verify_and_pin(&image, &hold, until).await {
                Ok(Checked { etag: _, version: media_version, byte_size, dimensions }) => {
                    self.turns.made_progress();
                    let media_key = if media_version.is_some() { incoming_key(image.id) } else { hold.media_key() };
                    return Ok(Pinned { image, hold, media_key, media_version, byte_size, dimensions });
                }
                Err(error) => error,
            };
            if !matches!(error, LinkError::Storage(_) | LinkError::TooSlow) {
                self.turns.made_progress();
            }
            if !self.is_only_busy(&error) || Instant::now() >= until {
                self.undo(&hold).await;
                return Err(error);
            }
            self.release(&hold).await;
            let Ok(mut connection) = self.connection().await else { return Err(error) };
            claimed = match self.claim(&mut connection, image.user_id, image.id, target).await {
                Ok(Claim::Held(next)) => *next,
                Ok(Claim::LinkedHere) | Err(_) => return Err(error),
            };
        }
    }

    /// Whether the store works, and has only not answered this link in time: it has served another image just before. A store that serves
    /// nobody is not asked again, so that the client hears of it soon.
    fn is_only_busy(&self, error: &LinkError) -> bool {
        matches!(error, LinkError::Storage(StorageError::Timeout(_))) && self.serves_others()
    }

    /// Whether the store has just served another link.
    pub(crate) fn serves_others(&self) -> bool {
        self.turns.made_progress_within(LATELY)
    }

    /// Works until `until` at the latest.
    async fn verify_and_pin(&self, image: &Image, hold: &Hold, until: Instant) -> Result<Checked, LinkError> {
        if self.storage.pin() == Pin::Version {
            let taken =
                timeout_at(until, self.take_version(image, hold)).await.map_err(|_elapsed| LinkError::TooSlow)?;
            if let Some(version) = taken? {
                return Ok(version);
            }
        }
        let source = timeout_at(until, self.verify(image, hold)).await.map_err(|_elapsed| LinkError::TooSlow)??;
        // `timeout_at` lets its future begin even when the time is over. By then a sweep may have forgotten the key.
        if Instant::now() >= until {
            return Err(LinkError::TooSlow);
        }
        hold.will_write();
        timeout_at(until, self.copy(image, hold, &source)).await.map_err(|_elapsed| LinkError::TooSlow)?
    }

    /// Verifies the newest version of the client's upload. Nobody can change a version, so nothing is written, and nothing is read twice.
    /// `None` if the upload has no version of its own.
    async fn take_version(&self, image: &Image, hold: &Hold) -> Result<Option<Checked>, LinkError> {
        let key = incoming_key(image.id);
        let mut head = self.storage.read_head(&key, None, FIRST_BYTES).await?.ok_or(LinkError::NotUploaded)?;
        let Some(version) = head.version.take() else { return Ok(None) };
        let mut judged = self.judge_version(image, &head);
        if matches!(judged, Err(Refusal::HeaderTooLong)) && head.bytes.len() < HEAD_BYTES {
            let longer = self.storage.read_head(&key, Some(&version), HEAD_BYTES).await?;
            head = longer.ok_or(LinkError::UploadChanged(None))?;
            judged = self.judge_version(image, &head);
        }
        let checked = match judged {
            Ok(checked) => checked,
            Err(refusal) => return Err(self.refuse_upload(hold, refusal).await),
        };
        if let Some(declared) = image.checksum_sha256
            && Sha256Checksum::from(self.storage.sha256(&key, Some(&version), &checked.etag).await?) != declared
        {
            return Err(self.refuse_upload(hold, Refusal::ChecksumMismatch).await);
        }
        Ok(Some(Checked { version: Some(version), ..checked }))
    }

    /// As [`Links::judge`]. A copy drops what the client told browsers about its upload, but a version is served as it is.
    fn judge_version(&self, image: &Image, head: &Head) -> Result<Checked, Refusal> {
        let checked = self.judge(image, head)?;
        if head.has_client_headers { Err(Refusal::ContentMismatch) } else { Ok(checked) }
    }

    /// Copies, and then verifies the copy.
    async fn copy(&self, image: &Image, hold: &Hold, source: &Checked) -> Result<Checked, LinkError> {
        let (from, to) = (incoming_key(image.id), hold.media_key());
        let asked = self.storage.promote(&from, &to, &source.etag, image.format).await;
        let found = match &asked {
            Ok(()) => self.find_written(hold, HEAD_BYTES).await,
            Err(failure) => {
                let timed_out = matches!(failure, VersionError::Storage(StorageError::Timeout(_)));
                self.find_unconfirmed(hold, HEAD_BYTES, timed_out).await
            }
        };
        let copy = match (asked, found) {
            (Ok(()), Written::Object(head)) => {
                self.judge(image, &head).map_err(|refusal| LinkError::UploadChanged(Some(refusal)))?
            }
            (Ok(()), Written::Nothing) => {
                return Err(StorageError::unavailable("the store confirmed a copy but does not have it").into());
            }
            (Ok(()), Written::Unknown(error)) => return Err(error.into()),
            (Err(error), Written::Object(head)) => match self.judge(image, &head) {
                Ok(copy) => {
                    warn!(image.id = %image.id, cause = chain(&error), "the answer to a copy was lost, but the copy exists");
                    copy
                }
                Err(_refusal) => return Err(error.into()),
            },
            (Err(error), Written::Nothing) => return Err(error.into()),
            (Err(error), Written::Unknown(second)) => {
                warn!(image.id = %image.id, cause = chain(&second), "the store did not say whether the copy exists");
                return Err(error.into());
            }
        };
        match image.checksum_sha256 {
            Some(declared) if self.checksum(&to, &copy.etag).await? != declared => {
                Err(self.refuse_upload(hold, Refusal::ChecksumMismatch).await)
            }
            _ => Ok(copy),
        }
    }

    /// Reads the whole copy. Only this attempt writes there, so if the copy is missing or has changed, the store made a mistake.
    async fn checksum(&self, media_key: &str, etag: &str) -> Result<Sha256Checksum, LinkError> {
        match self.storage.sha256(media_key, None, etag).await {
            Ok(digest) => Ok(digest.into()),
            Err(VersionError::Storage(error)) => Err(error.into()),
            Err(other) => Err(StorageError::unavailable(other).into()),
        }
    }
}
