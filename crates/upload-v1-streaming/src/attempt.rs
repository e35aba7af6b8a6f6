//! One upload's hold on its image's row, and the end of it: commit or give up.
//!
//! Whatever happens to the request, the end runs on the process's main runtime and is awaited at shutdown: a dropped
//! handler (a client that vanished, a worker that stopped) gives the attempt up through [`Drop`].

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{info, warn};
use upload_domain::{AttemptId, ImageId, Refusal, media_key};
use upload_http::{ApiError, Code, Shared, Shutdown, discard, refused_claim, release, take_back};
use upload_persistence::{
    Connection, DatabaseError,
    image_attempts::{self, FinishedUpload, Left},
    images::{self, Image, Standing},
};
use upload_storage::StorageError;

use crate::transfer::{Stored, TransferError};

/// An attempt that has not ended yet.
pub struct Attempt {
    image: ImageId,
    hold: Option<Hold>,
    shutdown: Shutdown,
    /// Whether the request lived long enough to be told how the attempt ended.
    answered: bool,
}

/// What the end of an attempt needs; it outlives the request.
#[derive(Clone)]
struct Hold {
    shared: Shared,
    image: ImageId,
    attempt: AttemptId,
    media_key: String,
    /// The object that this attempt would replace.
    previous_key: Option<String>,
    /// The store was given everything: from here on it may have an object, whatever becomes of the request.
    handed_over: Arc<AtomicBool>,
}

impl Attempt {
    /// Takes the row by `claim`, which gives it `attempt`. The claim runs on the main runtime: if nobody waits for it any
    /// more, the attempt ends as soon as it has begun.
    pub async fn begin<F>(shared: &Shared, attempt: AttemptId, claim: F) -> Result<Self, ApiError>
    where
        F: Future<Output = Result<Image, ApiError>> + Send + 'static,
    {
        let owned = shared.clone();
        shared.background.run(async move { Ok(Self::new(owned, &claim.await?, attempt)) }).await
    }

    fn new(shared: Shared, image: &Image, attempt: AttemptId) -> Self {
        let media_key = media_key(image.id, attempt);
        let previous_key = image.media_key.clone();
        let handed_over = Arc::default();
        let shutdown = shared.shutdown.clone();
        let hold = Hold { shared, image: image.id, attempt, media_key, previous_key, handed_over };
        Self { image: image.id, hold: Some(hold), shutdown, answered: false }
    }

    /// Ends the attempt as `outcome` says.
    pub async fn settle(mut self, outcome: Result<Stored, TransferError>) -> Result<(Image, Stored), ApiError> {
        let Some(hold) = self.hold.take() else { return Err(ApiError::internal("the attempt has ended")) };
        let background = hold.shared.background.clone();
        let settled = background.run(async move {
            match outcome {
                Ok(stored) => hold.commit(stored).await,
                Err(TransferError::Unknown { error, stored }) => match hold.find(error, stored).await {
                    Ok(stored) => hold.commit(stored).await,
                    Err(error) => Err(error),
                },
                Err(TransferError::Refused(refusal)) => Err(hold.refuse(refusal).await),
                Err(TransferError::Failed(error)) => {
                    hold.give_up().await;
                    Err(error)
                }
            }
        });
        let settled = settled.await;
        self.answered = true;
        settled.map_err(|error| error.image(self.image))
    }

    /// The only key that this attempt writes, and the flag to raise before the store is given the last of the file.
    pub fn target(&self) -> (String, Arc<AtomicBool>) {
        self.hold.as_ref().map(|hold| (hold.media_key.clone(), hold.handed_over.clone())).unwrap_or_default()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.answered && !self.shutdown.has_begun() && !std::thread::panicking() {
            // The boundary does not see a request that actix dropped.
            info!(image.id = %self.image, status = 499, code = "client_disconnected", "the client went away");
        }
        let Some(hold) = self.hold.take() else { return };
        let background = hold.shared.background.clone();
        drop(background.spawn(async move { hold.give_up().await }));
    }
}

impl Hold {
    /// What the attempt may have left so far.
    fn left(&self) -> Left {
        if self.handed_over.load(Ordering::Acquire) { Left::PerhapsAnObject } else { Left::Nothing }
    }

    /// Ends the attempt without a commit, and deletes what the store may have kept.
    async fn give_up(&self) {
        take_back(&self.shared, self.image, self.attempt, self.left()).await;
    }

    /// Records why the body may not be kept, so that a link answers the same, and ends the attempt.
    async fn refuse(&self, refusal: Refusal) -> ApiError {
        let recorded = async {
            let mut connection = self.shared.database.connection().await?;
            let refused = image_attempts::refuse(&mut connection, self.image, self.attempt, refusal, self.left()).await;
            Ok::<_, DatabaseError>(refused?)
        };
        match recorded.await {
            Ok(_still_held) => refusal.into(),
            Err(error) => error.into(),
        }
    }

    /// Looks for an object that the store did not confirm; it counts if it has the right size.
    async fn find(&self, error: StorageError, stored: Stored) -> Result<Stored, ApiError> {
        match self.shared.storage.read_head(&self.media_key, 1).await {
            Ok(Some(head)) if head.total_bytes == stored.byte_size => Ok(Stored { etag: head.etag, ..stored }),
            Ok(_) => {
                self.give_up().await;
                Err(error.into())
            }
            Err(second) => {
                warn!(image.id = %self.image, error = &second as &dyn Error, "left to the sweep: the store does not answer");
                release(&self.shared, self.image, self.attempt, self.left()).await;
                Err(error.into())
            }
        }
    }

    /// Writes to the row what was stored, and takes the object back where the row no longer wants it or cannot be told.
    async fn commit(&self, stored: Stored) -> Result<(Image, Stored), ApiError> {
        let mut connection = match self.shared.database.connection().await {
            Ok(connection) => connection,
            // Nothing was sent, so nothing can have been committed.
            Err(error) => {
                self.give_up().await;
                return Err(error.into());
            }
        };
        match self.finish(&mut connection, &stored).await {
            Ok(Some(image)) => {
                drop(connection);
                Ok((self.committed(image).await, stored))
            }
            Ok(None) => {
                let cutoff = self.shared.timing.link_cutoff();
                let standing = images::standing(&mut connection, self.image, None, cutoff).await;
                drop(connection);
                self.give_up().await;
                Err(match standing? {
                    // Nobody has taken it, so it was its time that was over.
                    Standing::Pending => ApiError::new(Code::UploadTimeout, "The upload took too long; try again."),
                    standing => refused_claim(standing),
                })
            }
            Err(error) => {
                drop(connection);
                self.find_commit(error, stored).await
            }
        }
    }

    /// Finds out, on a new connection, whether a commit whose answer was lost took place. Ending the attempt waits for a
    /// commit that still runs and shuts out one that has not begun: only then may anything be deleted.
    async fn find_commit(&self, error: DatabaseError, stored: Stored) -> Result<(Image, Stored), ApiError> {
        let found = async {
            let mut connection = self.shared.database.connection().await?;
            if image_attempts::release(&mut connection, self.image, self.attempt, self.left()).await? {
                return Ok(None);
            }
            Ok::<_, DatabaseError>(images::find_for_update(&mut connection, self.image).await?)
        };
        match found.await {
            Ok(Some(image)) if image.media_key.as_ref() == Some(&self.media_key) => {
                Ok((self.committed(image).await, stored))
            }
            Ok(_) => {
                discard(&self.shared, &self.media_key).await;
                Err(error.into())
            }
            Err(second) => {
                warn!(image.id = %self.image, error = &second as &dyn Error, "left to the sweep: the database does not answer");
                Err(error.into())
            }
        }
    }

    async fn finish(&self, connection: &mut Connection, stored: &Stored) -> Result<Option<Image>, DatabaseError> {
        let finished = FinishedUpload {
            id: self.image,
            attempt: self.attempt,
            media_key: &self.media_key,
            byte_size: stored.byte_size,
            dimensions: stored.dimensions,
        };
        Ok(image_attempts::finish_upload(connection, &finished).await?)
    }

    /// The image names the new object. The one before it can go at once; the commit left its key to the sweep, too.
    async fn committed(&self, image: Image) -> Image {
        if let Some(key) = &self.previous_key {
            discard(&self.shared, key).await;
        }
        image
    }
}
