//! From a claimed image to verified bytes under a media key that no client ever held a signature for.
//!
//! Everything is checked as if the store enforced nothing: servers have got POST policies wrong (CVE-2021-21362,
//! CVE-2023-28434 and others), and a presigned form may be replayed until it expires. All of it is tied to one ETag, so
//! what was checked is what is copied. No database connection is held here while the store is asked.

use std::time::Duration;

use upload_domain::{
    AttemptId, Dimensions, HEAD_BYTES, ImageId, Refusal, Sha256Checksum, incoming_key, inspect, media_key,
};
use upload_persistence::images::{self, Image};
use upload_storage::{Head, VersionError};

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{ApiError, Code, Shared, error::chain};

/// How often a copy that nobody needs is tried to be deleted.
const DELETE_TRIES: u32 = 3;
/// How long a link may wait for its turn. The image is held meanwhile, so what is left of the lease must be enough for the rest.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// An image that this request holds, with the attempt that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) image: Image,
    pub(crate) attempt: AttemptId,
    /// When it must be prepared.
    pub(crate) until: Instant,
}

/// An image that can be committed: its media key, sizes and attempt are set.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) image: Image,
    pub(crate) attempt: AttemptId,
    /// Whether the media key is this attempt's own copy, so that a failure must delete it.
    pub(crate) copied: bool,
}

/// What was verified.
struct Checked {
    etag: String,
    byte_size: u64,
    dimensions: Dimensions,
}

/// Why an image was not prepared.
enum Failure {
    /// Nothing of the attempt is left.
    Clean(ApiError),
    /// A copy may be in the store, or come to be there.
    CopyLeft(ApiError),
}

impl<E: Into<ApiError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Clean(error.into())
    }
}

/// Verifies and copies what a client has uploaded, unless verified bytes are there already. A failure gives the image back,
/// except where a copy may be left: then the row goes on naming its key until the lease ends, for the sweep to find.
pub(crate) async fn prepare(shared: &Shared, claimed: Claimed) -> Result<Prepared, ApiError> {
    let Claimed { image, attempt, until } = claimed;
    if image.media_key.is_some() {
        return Ok(Prepared { image, attempt, copied: false });
    }
    let id = image.id;
    match verify_and_copy(shared, image, attempt, until).await {
        Ok(prepared) => Ok(prepared),
        Err(Failure::Clean(error)) => {
            release(shared, id, attempt).await;
            Err(error)
        }
        Err(Failure::CopyLeft(error)) => {
            warn!(image.id = %id, "an image stays held, because a copy of it may be left; its lease will end");
            Err(error)
        }
    }
}

/// Waits for its turn, so that what all links hold in memory is bounded, and then has until `until`.
async fn verify_and_copy(
    shared: &Shared,
    mut image: Image,
    attempt: AttemptId,
    until: Instant,
) -> Result<Prepared, Failure> {
    let wait = timeout_at(until.min(Instant::now() + LONGEST_WAIT), shared.link_turns.acquire());
    let Ok(Ok(_turn)) = wait.await else { return Err(ApiError::overloaded().into()) };
    let checked = timeout_at(until, verify(shared, &image, attempt)).await.map_err(|_elapsed| storage_timeout())??;
    let target = media_key(image.id, attempt);
    match timeout_at(until, copy(shared, &image, &checked, &target)).await {
        Ok(copied) => copied?,
        Err(_elapsed) => return Err(take_back(shared, &target, storage_timeout()).await),
    }
    image.media_key = Some(target);
    image.media_byte_size = Some(checked.byte_size);
    image.width = Some(checked.dimensions.width);
    image.height = Some(checked.dimensions.height);
    Ok(Prepared { image, attempt, copied: true })
}

async fn verify(shared: &Shared, image: &Image, attempt: AttemptId) -> Result<Checked, ApiError> {
    let source = incoming_key(image.id);
    let head = shared.storage.read_head(&source, HEAD_BYTES).await?.ok_or_else(not_uploaded)?;
    let dimensions = match judge(shared, image, &head) {
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
    Ok(Checked { etag: head.etag, byte_size: head.total_bytes, dimensions })
}

async fn copy(shared: &Shared, image: &Image, checked: &Checked, target: &str) -> Result<(), Failure> {
    let source = incoming_key(image.id);
    let Err(error) = shared.storage.promote(&source, target, &checked.etag, image.format).await else { return Ok(()) };
    // The copy may have been made and only its answer lost. Nothing else ever writes this key, so its size tells.
    if matches!(shared.storage.size(target).await, Ok(Some(size)) if size == checked.byte_size) {
        warn!(image.id = %image.id, cause = chain(&error), "the copy's answer was lost, but the copy is there");
        return Ok(());
    }
    Err(take_back(shared, target, version_error(error)).await)
}

/// Deletes a copy of which nobody knows whether it was made.
async fn take_back(shared: &Shared, target: &str, error: ApiError) -> Failure {
    if discard(shared, target).await { Failure::Clean(error) } else { Failure::CopyLeft(error) }
}

/// Decides from the first bytes and what the store says of the object.
fn judge(shared: &Shared, image: &Image, head: &Head) -> Result<Dimensions, Refusal> {
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

/// Deletes an object that nobody needs; whether it is gone.
pub async fn discard(shared: &Shared, key: &str) -> bool {
    for attempts_left in (0..DELETE_TRIES).rev() {
        match shared.storage.delete(key).await {
            Ok(()) => return true,
            Err(error) => warn!(attempts_left, cause = chain(&error), "an object that nobody needs was not deleted"),
        }
    }
    false
}

/// Gives the image back, so that the client can try again at once. The lease would end by itself, later.
pub async fn release(shared: &Shared, id: ImageId, attempt: AttemptId) {
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
            ApiError::new(Code::UploadChanged, detail)
        }
        VersionError::Missing => not_uploaded(),
        VersionError::Storage(error) => error.into(),
    }
}

fn storage_timeout() -> ApiError {
    let detail = "The image store did not answer in time; try again.";
    ApiError::new(Code::StorageTimeout, detail)
}

fn not_uploaded() -> ApiError {
    ApiError::new(Code::NotUploaded, "Nothing has been uploaded for this image yet.")
}

pub(crate) fn link_in_progress() -> ApiError {
    ApiError::new(Code::LinkInProgress, "This image is being linked right now.")
}
