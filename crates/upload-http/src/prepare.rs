//! From a claimed image to verified bytes under a media key that no client ever held a signature for.
//!
//! Everything is checked as if the store enforced nothing: servers have got POST policies wrong (CVE-2021-21362,
//! CVE-2023-28434 and others), and a presigned form may be replayed until it expires. All of it is tied to one ETag, so
//! what was checked is what is copied. No database connection is held here while the store is asked.

use upload_domain::{AttemptId, HEAD_BYTES, ImageId, Refusal, Sha256Checksum, incoming_key, inspect, media_key};
use upload_persistence::images::{self, Image};
use upload_storage::{Head, VersionError};

use actix_web::http::StatusCode;
use tracing::warn;

use crate::{ApiError, Shared, error::chain};

/// How often a copy that nobody needs is tried to be deleted; after that it is an object in no row.
const DELETE_TRIES: u32 = 3;

/// An image that this request holds, with the attempt that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) image: Image,
    pub(crate) attempt: AttemptId,
}

/// An image that can be committed: its media key, sizes and attempt are set.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) image: Image,
    pub(crate) attempt: AttemptId,
    /// Whether the media key is this attempt's own copy, so that a failure must delete it.
    pub(crate) copied: bool,
}

/// Verifies and copies what a client has uploaded, unless verified bytes are there already. The lease stays held unless
/// the bytes were refused.
pub(crate) async fn prepare(shared: &Shared, claimed: Claimed) -> Result<Prepared, ApiError> {
    let Claimed { image, attempt } = claimed;
    if image.media_key.is_some() {
        return Ok(Prepared { image, attempt, copied: false });
    }
    let id = image.id;
    let target = media_key(id, attempt);
    // Time is left to commit, or to give back, before the lease ends.
    let limit = shared.timing.link_lease * 3 / 4;
    match tokio::time::timeout(limit, verify_and_copy(shared, image, attempt, &target)).await {
        Ok(prepared) => prepared,
        Err(_elapsed) => {
            discard(shared, &target).await;
            let detail = "The image store did not answer in time; try again.";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "storage_timeout", detail))
        }
    }
}

async fn verify_and_copy(
    shared: &Shared,
    mut image: Image,
    attempt: AttemptId,
    target: &str,
) -> Result<Prepared, ApiError> {
    let source = incoming_key(image.id);
    let head = shared.storage.read_head(&source, HEAD_BYTES).await?.ok_or_else(not_uploaded)?;
    let dimensions = match judge(shared, &image, &head) {
        Ok(dimensions) => dimensions,
        Err(refusal) => return Err(refuse(shared, image.id, attempt, refusal).await),
    };
    if let Some(declared) = image.checksum_sha256 {
        match shared.storage.sha256(&source, &head.etag).await {
            Ok(found) if Sha256Checksum::from(found) == declared => {}
            Ok(_other) => return Err(refuse(shared, image.id, attempt, Refusal::ChecksumMismatch).await),
            Err(error) => return Err(version_error(error)),
        }
    }
    if let Err(error) = shared.storage.promote(&source, target, &head.etag, image.format).await {
        // The copy may have been made and only its answer lost. Nothing else ever writes this key, so its size tells.
        if !matches!(shared.storage.size(target).await, Ok(Some(size)) if size == head.total_bytes) {
            discard(shared, target).await;
            return Err(version_error(error));
        }
        warn!(image.id = %image.id, cause = chain(&error), "the copy's answer was lost, but the copy is there");
    }
    image.media_key = Some(target.to_owned());
    image.media_byte_size = Some(head.total_bytes);
    image.width = Some(dimensions.width);
    image.height = Some(dimensions.height);
    Ok(Prepared { image, attempt, copied: true })
}

/// Decides from the first bytes and what the store says of the object.
fn judge(shared: &Shared, image: &Image, head: &Head) -> Result<upload_domain::Dimensions, Refusal> {
    let judged = inspect(&head.bytes, head.total_bytes, image.byte_size, image.format, &shared.limits);
    let as_declared =
        head.content_type.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(image.format.as_str()));
    match judged {
        // The sizes come first, as they do where no store is asked.
        Err(refusal @ (Refusal::EmptyFile | Refusal::SizeMismatch)) => Err(refusal),
        _ if !as_declared => Err(Refusal::ContentMismatch),
        judged => judged,
    }
}

/// Records the refusal, so that every later link answers the same, and deletes what was refused.
async fn refuse(shared: &Shared, id: ImageId, attempt: AttemptId, refusal: Refusal) -> ApiError {
    let recorded = async {
        let mut connection = shared.database.connection().await?;
        Ok::<_, ApiError>(images::refuse(&mut connection, id, attempt, refusal).await?)
    };
    match recorded.await {
        Ok(true) => {
            shared.metrics.refused(refusal.as_str());
            if let Err(error) = shared.storage.delete(&incoming_key(id)).await {
                warn!(image.id = %id, cause = chain(&error), "a refused upload was not deleted");
            }
            refusal.into()
        }
        // The lease is over: another attempt may be reading the same object, so it stays.
        Ok(false) => link_in_progress(),
        Err(error) => error,
    }
}

/// Deletes a copy that no row names; what cannot be deleted stays as an object in no row.
pub(crate) async fn discard(shared: &Shared, key: &str) {
    for attempts_left in (0..DELETE_TRIES).rev() {
        match shared.storage.delete(key).await {
            Ok(()) => return,
            Err(error) => warn!(attempts_left, cause = chain(&error), "a copy that nobody needs was not deleted"),
        }
    }
}

/// Gives the image back, so that the client can try again at once. The lease would end by itself, later.
pub(crate) async fn release(shared: &Shared, id: ImageId, attempt: AttemptId) {
    let released = async {
        let mut connection = shared.database.connection().await?;
        Ok::<_, ApiError>(images::end_attempt(&mut connection, id, attempt).await?)
    };
    if let Err(error) = released.await {
        warn!(image.id = %id, cause = error.cause_chain(), "an image was not given back; its lease will end");
    }
}

fn version_error(error: VersionError) -> ApiError {
    match error {
        VersionError::Changed => {
            let detail = "The image was uploaded again while it was being linked; try again.";
            ApiError::new(StatusCode::CONFLICT, "upload_changed", detail).retryable()
        }
        VersionError::Missing => not_uploaded(),
        VersionError::Storage(error) => error.into(),
    }
}

fn not_uploaded() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "not_uploaded", "Nothing has been uploaded for this image yet.").retryable()
}

pub(crate) fn link_in_progress() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "link_in_progress", "This image is being linked right now.").retry_after(1)
}
