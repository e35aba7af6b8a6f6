//! From a claimed image to verified bytes under a media key that no client ever held a signature for.
//!
//! Everything is checked as if the store enforced nothing: servers have got POST policies wrong (CVE-2021-21362,
//! CVE-2023-28434 and others), and a presigned form may be replayed until it expires. So the copy is verified as well as its source.
//! No database connection is held here while the store is asked.

use std::time::Duration;

use upload_domain::{
    AttemptId, Dimensions, HEAD_BYTES, ImageId, Refusal, Sha256Checksum, incoming_key, inspect, media_key,
};
use upload_persistence::{
    image_attempts::{self, Left},
    images::Image,
};
use upload_storage::{Head, StorageError, VersionError};

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{ApiError, Code, Shared, error::chain};

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

/// What was verified, of an upload or of its copy.
struct Checked {
    etag: String,
    byte_size: u64,
    dimensions: Dimensions,
}

impl Checked {
    fn new(head: Head, dimensions: Dimensions) -> Self {
        Self { etag: head.etag, byte_size: head.total_bytes, dimensions }
    }
}

/// Why an image was not prepared, and what the attempt may have left.
struct Failure {
    error: ApiError,
    left: Left,
}

impl<E: Into<ApiError>> From<E> for Failure {
    /// Before the copy was asked for.
    fn from(error: E) -> Self {
        Self { error: error.into(), left: Left::Nothing }
    }
}

impl Failure {
    fn after_the_copy(error: impl Into<ApiError>) -> Self {
        Self { error: error.into(), left: Left::PerhapsAnObject }
    }
}

impl Prepared {
    /// What is left of the attempt if it does not commit.
    pub(crate) fn left(&self) -> Left {
        if self.copied { Left::PerhapsAnObject } else { Left::Nothing }
    }
}

/// Verifies and copies what a client has uploaded, unless verified bytes are there already. A failure gives the image back.
pub(crate) async fn prepare(shared: &Shared, claimed: Claimed) -> Result<Prepared, ApiError> {
    let Claimed { image, attempt, until } = claimed;
    if image.media_key.is_some() {
        return Ok(Prepared { image, attempt, copied: false });
    }
    let id = image.id;
    match verify_and_copy(shared, image, attempt, until).await {
        Ok(prepared) => Ok(prepared),
        Err(Failure { error, left }) => {
            take_back(shared, id, attempt, left).await;
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
    let source = timeout_at(until, verify(shared, &image, attempt)).await.map_err(|_elapsed| storage_timeout())??;
    // A time-out lets its future begin, also when the time is over: then a sweep may have forgotten the key.
    if Instant::now() >= until {
        return Err(storage_timeout().into());
    }
    let target = media_key(image.id, attempt);
    let copied = timeout_at(until, copy(shared, &image, attempt, &source, &target)).await;
    let copied = copied.map_err(|_elapsed| storage_timeout()).flatten().map_err(Failure::after_the_copy)?;
    image.media_key = Some(target);
    image.media_byte_size = Some(copied.byte_size);
    image.width = Some(copied.dimensions.width);
    image.height = Some(copied.dimensions.height);
    Ok(Prepared { image, attempt, copied: true })
}

/// Looks at what the client has uploaded, so that nearly all that must be refused is refused before it is copied.
async fn verify(shared: &Shared, image: &Image, attempt: AttemptId) -> Result<Checked, ApiError> {
    let head = shared.storage.read_head(&incoming_key(image.id), HEAD_BYTES).await?.ok_or_else(not_uploaded)?;
    match judge(shared, image, &head) {
        Ok(dimensions) => Ok(Checked::new(head, dimensions)),
        Err(refusal) => Err(refuse(shared, image.id, attempt, refusal, Left::Nothing).await),
    }
}

/// Copies, and then verifies the copy: what is linked is what was looked at. That the store copies what the ETag names is not enough:
/// most ETags are MD5, of which there are collisions, so that two files may be swapped between the look and the copy.
async fn copy(
    shared: &Shared,
    image: &Image,
    attempt: AttemptId,
    source: &Checked,
    target: &str,
) -> Result<Checked, ApiError> {
    let asked = shared.storage.promote(&incoming_key(image.id), target, &source.etag, image.format).await;
    // The copy may have been made and only its answer lost. Nothing else ever writes this key, so a look tells.
    let found = shared.storage.read_head(target, HEAD_BYTES).await;
    let copy = match (asked, found) {
        (Ok(()), Err(error)) => return Err(error.into()),
        (Ok(()), Ok(None)) => return Err(StorageError::unavailable("the store has not kept its copy").into()),
        (Ok(()), Ok(Some(head))) => {
            let dimensions = judge(shared, image, &head).map_err(|refusal| upload_changed().cause(refusal.as_str()))?;
            Checked::new(head, dimensions)
        }
        (Err(error), Err(second)) => {
            warn!(image.id = %image.id, cause = chain(&second), "whether the copy is there cannot be read");
            return Err(version_error(error));
        }
        (Err(error), Ok(head)) => {
            let verified = head.and_then(|head| {
                let dimensions = judge(shared, image, &head).ok()?;
                Some(Checked::new(head, dimensions))
            });
            let Some(copy) = verified else { return Err(version_error(error)) };
            warn!(image.id = %image.id, cause = chain(&error), "the copy's answer was lost, but the copy is there");
            copy
        }
    };
    if let Some(declared) = image.checksum_sha256 {
        let found = shared.storage.sha256(target, &copy.etag).await.map_err(|error| match error {
            VersionError::Storage(error) => error.into(),
            // Nobody but the server writes there.
            other => ApiError::from(StorageError::unavailable(other)),
        })?;
        if Sha256Checksum::from(found) != declared {
            return Err(refuse(shared, image.id, attempt, Refusal::ChecksumMismatch, Left::PerhapsAnObject).await);
        }
    }
    Ok(copy)
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
async fn refuse(shared: &Shared, id: ImageId, attempt: AttemptId, refusal: Refusal, left: Left) -> ApiError {
    let recorded = async {
        let mut connection = shared.database.connection().await?;
        Ok::<_, ApiError>(image_attempts::refuse(&mut connection, id, attempt, refusal, left).await?)
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

/// Deletes what an attempt may have left, so that it is gone at once. If that fails, or the object appears later, a sweep deletes it: the
/// attempt's row names the key until no write can come any more.
pub async fn discard(shared: &Shared, key: &str) {
    if let Err(error) = shared.storage.delete(key).await {
        warn!(cause = chain(&error), "what an attempt left is not deleted; a sweep does it");
    }
}

/// Ends an attempt that does not commit: gives the image back first, and then deletes what may be left.
pub async fn take_back(shared: &Shared, id: ImageId, attempt: AttemptId, left: Left) {
    release(shared, id, attempt, left).await;
    if left == Left::PerhapsAnObject {
        discard(shared, &media_key(id, attempt)).await;
    }
}

/// Gives the image back, so that the client can try again at once. The lease would end by itself, later.
pub async fn release(shared: &Shared, id: ImageId, attempt: AttemptId, left: Left) {
    let released = async {
        let mut connection = shared.database.connection().await?;
        Ok::<_, ApiError>(image_attempts::release(&mut connection, id, attempt, left).await?)
    };
    if let Err(error) = released.await {
        warn!(image.id = %id, cause = error.cause_chain(), "an image was not given back; its lease will end");
    }
}

fn version_error(error: VersionError) -> ApiError {
    match error {
        VersionError::Changed => upload_changed(),
        VersionError::Missing => not_uploaded(),
        VersionError::Storage(error) => error.into(),
    }
}

fn upload_changed() -> ApiError {
    let detail = "The image was uploaded again while it was being linked; try again.";
    ApiError::new(Code::UploadChanged, detail)
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
