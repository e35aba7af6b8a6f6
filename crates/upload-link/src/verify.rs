//! Verification: checks an object's first bytes, and what the store says about it, before it may be served.
//!
//! Everything is checked as if the store enforced nothing. Servers have got POST policies wrong (CVE-2021-21362, CVE-2023-28434
//! and others), and a client may use a presigned form again until it expires.

use tracing::warn;
use upload_domain::{Dimensions, HEAD_BYTES, Refusal, incoming_key, inspect};
use upload_persistence::images::Image;
use upload_storage::{Head, chain};

use crate::{Event, Hold, LinkError, Links};

/// An object that passed.
pub(crate) struct Checked {
    pub(crate) etag: String,
    /// Its version, if that was pinned.
    pub(crate) version: Option<String>,
    pub(crate) byte_size: u64,
    pub(crate) dimensions: Dimensions,
}

impl Links {
    /// Verifies the client's upload, so that nearly every bad file is refused before it is copied.
    pub(crate) async fn verify(&self, image: &Image, hold: &Hold) -> Result<Checked, LinkError> {
        let head = self.storage.read_head(&incoming_key(image.id), None, HEAD_BYTES).await?;
        let head = head.ok_or(LinkError::NotUploaded)?;
        match self.judge(image, &head) {
            Ok(verified) => Ok(verified),
            Err(refusal) => Err(self.refuse_upload(hold, refusal).await),
        }
    }

    /// Decides by the first bytes, the length and the content type.
    pub(crate) fn judge(&self, image: &Image, head: &Head) -> Result<Checked, Refusal> {
        let judged = inspect(&head.bytes, head.total_bytes, image.byte_size, image.format, &self.limits);
        let as_declared =
            head.content_type.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(image.format.as_str()));
        let dimensions = match judged {
            // The sizes come first, as in V1, which has no store to ask.
            Err(refusal @ (Refusal::EmptyFile | Refusal::SizeMismatch)) => return Err(refusal),
            _ if !as_declared => return Err(Refusal::ContentMismatch),
            judged => judged?,
        };
        Ok(Checked { etag: head.etag.clone(), version: None, byte_size: head.total_bytes, dimensions })
    }

    /// Records the refusal, and deletes the refused upload.
    pub(crate) async fn refuse_upload(&self, hold: &Hold, refusal: Refusal) -> LinkError {
        match self.refuse(hold, refusal).await {
            Ok(true) => {
                self.observe(Event::Refused(refusal));
                if let Err(error) = self.storage.delete(&incoming_key(hold.image())).await {
                    warn!(image.id = %hold.image(), cause = chain(&error), "cannot delete a refused upload; a sweep will delete it");
                }
                LinkError::Refused(refusal)
            }
            // The hold is lost: another attempt may be reading the same object, so it stays.
            Ok(false) => LinkError::LinkInProgress,
            Err(error) => error.into(),
        }
    }
}
