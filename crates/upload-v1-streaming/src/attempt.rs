//! One upload's attempt on its image, and the end of it: commit or give up.
//!
//! Whatever happens to the request, the end runs on the process's main runtime and is awaited at shutdown: a dropped
//! handler (a client that vanished, a worker that stopped) gives the attempt up through [`Drop`].

use tracing::{info, warn};
use upload_domain::{AttemptId, ImageId, Refusal};
use upload_http::{ApiError, Code, Shared, Shutdown};
use upload_link::{Hold, LinkError, Links, Written};
use upload_persistence::{
    Connection, QueryResult,
    image_attempts::{self, FinishedUpload},
    images::{self, Image, Standing},
};
use upload_storage::{StorageError, chain};

use crate::transfer::{Stored, TransferError};

/// An attempt that has not ended yet.
pub struct Attempt {
    hold: Hold,
    upload: Option<Upload>,
    shutdown: Shutdown,
    /// Whether the request still existed when the attempt ended.
    answered: bool,
}

/// What the end of an attempt needs; it outlives the request.
struct Upload {
    links: Links,
    hold: Hold,
    /// The object that this attempt would replace.
    previous_key: Option<String>,
}

impl Attempt {
    /// Runs `claim`, which takes the row for `attempt`; `hold` says whether it also creates the row. It runs on the main runtime. If the
    /// request is gone by then, the attempt ends at once.
    pub async fn begin<F>(
        shared: &Shared,
        attempt: AttemptId,
        hold: fn(ImageId, AttemptId) -> Hold,
        claim: F,
    ) -> Result<Self, ApiError>
    where
        F: Future<Output = Result<Image, ApiError>> + Send + 'static,
    {
        let (links, shutdown) = (shared.links.clone(), shared.shutdown.clone());
        let begun = async move {
            let image = claim.await?;
            let hold = hold(image.id, attempt);
            let upload = Upload { links, hold: hold.clone(), previous_key: image.media_key };
            Ok(Self { hold, upload: Some(upload), shutdown, answered: false })
        };
        shared.background.run(begun).await
    }

    /// Commits what was stored, or ends the attempt as `outcome` says.
    pub async fn finish(mut self, outcome: Result<Stored, TransferError>) -> Result<(Image, Stored), ApiError> {
        let Some(upload) = self.upload.take() else { return Err(ApiError::internal("the attempt has ended")) };
        let background = upload.links.background.clone();
        let finished = background.run(async move {
            match outcome {
                Ok(stored) => upload.commit(stored).await,
                Err(TransferError::Unknown { error, stored }) => match upload.find(error, stored).await {
                    Ok(stored) => upload.commit(stored).await,
                    Err(error) => Err(error.into()),
                },
                Err(TransferError::Refused(refusal)) => Err(upload.refuse(refusal).await),
                Err(TransferError::Failed(error)) => {
                    upload.undo().await;
                    Err(error)
                }
            }
        });
        let finished = finished.await;
        self.answered = true;
        finished.map_err(|error| error.image(self.hold.image()))
    }

    /// The hold, whose media key is the only key that this attempt writes.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.answered && !self.shutdown.has_begun() && !std::thread::panicking() {
            // The boundary does not see a request that actix has dropped.
            info!(image.id = %self.hold.image(), status = 499, code = "client_disconnected", "the client disconnected");
        }
        let Some(upload) = self.upload.take() else { return };
        let background = upload.links.background.clone();
        drop(background.spawn(async move { upload.undo().await }));
    }
}

impl Upload {
    async fn undo(&self) {
        self.links.undo(&self.hold).await;
    }

    /// Records why the body is refused, so that a link answers the same.
    async fn refuse(&self, refusal: Refusal) -> ApiError {
        match self.links.refuse(&self.hold, refusal).await {
            Ok(_still_held) => refusal.into(),
            Err(error) => error.into(),
        }
    }

    /// Looks for an object that the store did not confirm. It is accepted if it has the right size.
    async fn find(&self, error: StorageError, stored: Stored) -> Result<Stored, StorageError> {
        let timed_out = matches!(error, StorageError::Timeout(_));
        match self.links.find_unconfirmed(&self.hold, 1, timed_out).await {
            Written::Object(head) if head.total_bytes == stored.byte_size => Ok(Stored { etag: head.etag, ..stored }),
            Written::Object(_) | Written::Nothing => {
                self.undo().await;
                Err(error)
            }
            Written::Unknown(second) => {
                warn!(image.id = %self.hold.image(), cause = chain(&second), "the store did not say whether the object exists; a sweep will delete it");
                self.links.release(&self.hold).await;
                Err(error)
            }
        }
    }

    /// Writes the facts about the stored file to the row. If the row no longer accepts them, it deletes the object.
    async fn commit(&self, stored: Stored) -> Result<(Image, Stored), ApiError> {
        let failure = match self.links.connection().await {
            // Nothing was sent, so nothing was committed.
            Err(error) => error.into(),
            Ok(mut connection) => match self.finish(&mut connection, &stored).await {
                Ok(Some(image)) => {
                    drop(connection);
                    return Ok((self.committed(image).await, stored));
                }
                Ok(None) => match self.standing(&mut connection).await {
                    // No other attempt has taken the image, so this attempt's time was over.
                    Ok(Standing::Pending) => ApiError::new(Code::UploadTimeout, "The upload took too long; try again."),
                    Ok(standing) => LinkError::from(standing).into(),
                    Err(error) => error.into(),
                },
                Err(error) => {
                    drop(connection);
                    let find = async |connection: &mut Connection| {
                        let row = images::find_for_update(connection, self.hold.image()).await?;
                        Ok(row.filter(|row| row.media_key == Some(self.hold.media_key())))
                    };
                    let image = self.links.recover(&[&self.hold], error.into(), find).await.map_err(LinkError::from)?;
                    return Ok((self.committed(image).await, stored));
                }
            },
        };
        self.undo().await;
        Err(failure)
    }

    async fn finish(&self, connection: &mut Connection, stored: &Stored) -> QueryResult<Option<Image>> {
        let finished = FinishedUpload {
            id: self.hold.image(),
            attempt: self.hold.attempt(),
            media_key: &self.hold.media_key(),
            byte_size: stored.byte_size,
            dimensions: stored.dimensions,
        };
        image_attempts::finish_upload(connection, &finished).await
    }

    async fn standing(&self, connection: &mut Connection) -> QueryResult<Standing> {
        images::standing(connection, self.hold.image(), None, self.links.timing.link_cutoff()).await
    }

    /// The image names the new object now, so the previous one can be deleted at once. The commit also left its key to the
    /// sweep.
    async fn committed(&self, image: Image) -> Image {
        if let Some(key) = &self.previous_key {
            self.links.delete_unused(key).await;
        }
        image
    }
}
