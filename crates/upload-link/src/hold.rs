//! The hold of one attempt on one image: refuse, release, undo, and recover from a lost answer.
//!
//! A link and an upload through V1 hold an image in the same way: by a lease on its row, fenced by the attempt's id. The attempt
//! writes one media key, which no other attempt ever writes. So a server that was paused and wakes late can only write a key that
//! nobody reads.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tracing::warn;
use upload_domain::{AttemptId, ImageId, Refusal, UserId, media_key};
use upload_persistence::{
    Connection, DatabaseError, QueryResult,
    image_attempts::{self, Left},
    images::{self, Standing},
};
use upload_storage::{Head, StorageError, chain};

use crate::Links;

/// How long a client waits for each thing that is left to do after a failure. One call to the store or the database may take 10 s before it
/// fails, and a client has its answer within 12 s.
const MOMENT: Duration = Duration::from_millis(500);

/// An attempt that holds an image.
#[derive(Debug, Clone)]
pub struct Hold {
    image: ImageId,
    attempt: AttemptId,
    may_have_written: Arc<AtomicBool>,
    /// The image was created with this attempt, so it ends with it.
    created_image: bool,
}

/// What an attempt's media key holds after a write that the store did not confirm.
#[derive(Debug)]
pub enum Written {
    /// An object; here are its first bytes.
    Object(Head),
    /// Nothing, so far.
    Nothing,
    /// The store does not say.
    Unknown(StorageError),
}

/// Why a commit whose answer was lost was not found.
#[derive(Debug)]
pub enum NotRecovered {
    /// The database failed. Nothing was committed, or that cannot be found out.
    Failed(DatabaseError),
    /// Nothing was committed, because the attempt had lost this image. The standing is what the image is now.
    Lost(ImageId, Standing),
}

impl Hold {
    /// The hold that a claim has just given to `attempt`.
    pub fn new(image: ImageId, attempt: AttemptId) -> Self {
        Self { image, attempt, may_have_written: Arc::default(), created_image: false }
    }

    /// The hold of an attempt that the image was created with. If it does not commit, nothing can become of the image: nobody else has
    /// been told of it. So it is marked for the sweep, and does not count for its owner's quota.
    pub fn of_new_image(image: ImageId, attempt: AttemptId) -> Self {
        Self { created_image: true, ..Self::new(image, attempt) }
    }

    /// Which image.
    pub fn image(&self) -> ImageId {
        self.image
    }

    /// Which attempt.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The only key that this attempt may write.
    pub fn media_key(&self) -> String {
        media_key(self.image, self.attempt)
    }

    /// Call this before the store gets the last byte of a write to the media key, or the order to copy to it. From then on an
    /// object may be there, whatever the store answers.
    pub fn will_write(&self) {
        self.may_have_written.store(true, Ordering::Release);
    }

    /// Releases the image; `true` if the attempt held it until now.
    async fn release(&self, connection: &mut Connection) -> QueryResult<bool> {
        match self.created_image {
            true => image_attempts::give_up(connection, self.image, self.attempt, None, self.left()).await,
            false => image_attempts::release(connection, self.image, self.attempt, self.left()).await,
        }
    }

    /// Records the refusal, and releases the image; `true` if the attempt held it until now.
    async fn refuse(&self, connection: &mut Connection, refusal: Refusal) -> QueryResult<bool> {
        let (image, attempt, left) = (self.image, self.attempt, self.left());
        match self.created_image {
            true => image_attempts::give_up(connection, image, attempt, Some(refusal), left).await,
            false => image_attempts::refuse(connection, image, attempt, refusal, left).await,
        }
    }

    fn left(&self) -> Left {
        if self.may_have_written.load(Ordering::Acquire) { Left::PerhapsAnObject } else { Left::Nothing }
    }
}

impl Links {
    /// Undoes an attempt that does not commit: releases the image first, then deletes what the attempt may have written.
    pub async fn undo(&self, hold: &Hold) {
        let (links, hold) = (self.clone(), hold.clone());
        self.clean_up(async move {
            links.release_now(&hold).await;
            links.delete_written(&hold).await;
        })
        .await;
    }

    /// Releases the image, so that the client can try again at once, or marks it for the sweep. If that fails, the lease ends by itself.
    /// The store is not asked: a sweep deletes what is left.
    pub async fn release(&self, hold: &Hold) {
        let (links, hold) = (self.clone(), hold.clone());
        self.clean_up(async move { links.release_now(&hold).await }).await;
    }

    /// Lets the client wait a moment for what is left to do when its answer is known. An outage that made an attempt fail also slows its
    /// end. That goes on without the client.
    async fn clean_up(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(timeout(MOMENT, self.background.spawn(work)).await);
    }

    fn release_later(&self, hold: &Hold) {
        let (links, hold) = (self.clone(), hold.clone());
        drop(self.background.spawn(async move { links.release_now(&hold).await }));
    }

    async fn release_now(&self, hold: &Hold) {
        match self.connection().await {
            Ok(mut connection) => self.release_on(&mut connection, hold).await,
            Err(error) => not_released(hold, &error),
        }
    }

    /// Like [`Links::release`], on an open connection.
    pub(crate) async fn release_on(&self, connection: &mut Connection, hold: &Hold) {
        if let Err(error) = hold.release(connection).await {
            not_released(hold, &error);
        }
    }

    /// Records why the content is refused, so that every later link answers the same, and releases the image. Returns `false` if the
    /// attempt had already lost the image; then nothing is recorded.
    ///
    /// # Errors
    /// The database failed; the lease will end by itself.
    pub async fn refuse(&self, hold: &Hold, refusal: Refusal) -> Result<bool, DatabaseError> {
        let mut connection = self.connection().await?;
        Ok(hold.refuse(&mut connection, refusal).await?)
    }

    /// Why the attempt lost the image before it could commit. This releases the image first, so that the answer is not the attempt itself.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn why_lost(
        &self,
        connection: &mut Connection,
        hold: &Hold,
        user: UserId,
    ) -> QueryResult<Standing> {
        hold.release(connection).await?;
        images::standing(connection, hold.image, Some(user), self.timing.link_cutoff()).await
    }

    /// Looks for an object that the store did not confirm. If the write has `timed_out`, and the store serves nobody else, it is asked only
    /// for a moment: the client has waited long enough.
    pub async fn find_unconfirmed(&self, hold: &Hold, first_bytes: usize, timed_out: bool) -> Written {
        let look = self.find_written(hold, first_bytes);
        if !timed_out || self.serves_others() {
            return look.await;
        }
        timeout(MOMENT, look).await.unwrap_or_else(|elapsed| Written::Unknown(StorageError::timeout(elapsed)))
    }

    /// Looks for an object under the attempt's key. No other attempt writes this key, so an object there is this attempt's.
    pub(crate) async fn find_written(&self, hold: &Hold, first_bytes: usize) -> Written {
        match self.storage.read_head(&hold.media_key(), None, first_bytes).await {
            Ok(Some(head)) => Written::Object(head),
            Ok(None) => Written::Nothing,
            Err(error) => Written::Unknown(error),
        }
    }

    /// Finds out whether a commit whose answer was lost took place, and undoes the attempts if it did not.
    ///
    /// This takes a moment at most. If the database does not answer by then, the images are released without the client.
    ///
    /// The commit may still be running. A release waits for a running commit, and prevents one that has not begun. If one image could
    /// be released, nothing was committed. Otherwise `find` reads the result of the commit. If the rows cannot be read, nothing is
    /// deleted, because they may name the objects that the attempts wrote.
    ///
    /// # Errors
    /// Nothing was committed, or that cannot be found out.
    pub async fn recover<T>(
        &self,
        holds: &[&Hold],
        failure: DatabaseError,
        find: impl AsyncFnOnce(&mut Connection) -> QueryResult<Option<T>>,
    ) -> Result<T, NotRecovered> {
        let (mut uncommitted, mut lost) = (false, None);
        let read = async {
            let mut connection = self.connection().await?;
            let mut not_held = Vec::new();
            for hold in holds {
                if hold.release(&mut connection).await? {
                    uncommitted = true;
                } else {
                    not_held.push(hold.image);
                }
            }
            if !uncommitted {
                let committed = find(&mut connection).await?;
                if committed.is_some() {
                    return Ok(committed);
                }
                uncommitted = true;
            }
            for image in not_held {
                let standing = images::standing(&mut connection, image, None, self.timing.link_cutoff()).await?;
                if standing != Standing::Pending {
                    lost = Some((image, standing));
                    break;
                }
            }
            Ok::<_, DatabaseError>(None)
        };
        let read = match timeout(MOMENT, read).await {
            Ok(read) => read,
            Err(elapsed) => {
                for hold in holds {
                    self.release_later(hold);
                }
                Err(DatabaseError::Unavailable(Box::new(elapsed)))
            }
        };
        match read {
            Ok(Some(committed)) => {
                warn!(image.id = %ids(holds), cause = chain(&failure), "the answer to a commit was lost, but the commit succeeded");
                Ok(committed)
            }
            Err(second) if !uncommitted => {
                warn!(image.id = %ids(holds), cause = chain(&second), "cannot find out whether a commit took place; a sweep will clean up if it did not");
                Err(NotRecovered::Failed(failure))
            }
            Ok(None) | Err(_) => {
                for hold in holds {
                    self.delete_written(hold).await;
                }
                let Some((image, standing)) = lost else { return Err(NotRecovered::Failed(failure)) };
                warn!(image.id = %image, cause = chain(&failure), "the answer to a commit was lost, and the image is no longer held");
                Err(NotRecovered::Lost(image, standing))
            }
        }
    }

    /// Deletes an object that no row names any more, so that it is gone at once. If that fails, or the object appears later, a
    /// sweep deletes it by the row of its attempt ([`upload_persistence::image_attempts`]).
    pub async fn delete_unused(&self, media_key: &str) {
        let (links, media_key) = (self.clone(), media_key.to_owned());
        self.clean_up(async move { links.delete_media(&media_key).await }).await;
    }

    async fn delete_media(&self, media_key: &str) {
        if let Err(error) = self.storage.delete(media_key).await {
            warn!(cause = chain(&error), "cannot delete an object that no image uses; a sweep will delete it");
        }
    }

    /// Deletes the object that an attempt without a commit may have written.
    async fn delete_written(&self, hold: &Hold) {
        if hold.left() == Left::PerhapsAnObject {
            self.delete_media(&hold.media_key()).await;
        }
    }
}

fn not_released(hold: &Hold, error: &(dyn Error + 'static)) {
    warn!(image.id = %hold.image, cause = chain(error), "cannot release an image; it is free again when its lease ends");
}

fn ids(holds: &[&Hold]) -> String {
    holds.iter().map(|hold| hold.image.to_string()).collect::<Vec<_>>().join(", ")
}
