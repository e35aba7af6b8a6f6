//! One image to one target: claim, pin, commit.

use std::time::Instant;

use tracing::{info, warn};
use upload_domain::{ImageId, LinkTarget, UserId, incoming_key};
use upload_persistence::{
    Connection, image_attempts,
    images::{self, Standing},
};
use upload_storage::chain;
use uuid::Uuid;

use crate::{
    Event, Hold, LinkError, Links, Target,
    pin::{Claimed, Pinned},
};

/// Whether the link was made now or had been made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked<T> {
    /// Now.
    Now(T),
    /// Before, to the same target; that link is live.
    Before(T),
}

/// The result of a claim.
pub(crate) enum Claim {
    Held(Box<Claimed>),
    /// The image is linked to the wanted target, and that link is live.
    LinkedHere,
}

impl Links {
    /// Links one image. It waits for its turn only as long as the caller does. From then on it runs to its end on the main runtime, whether
    /// or not the caller waits.
    ///
    /// # Errors
    /// The image is not available, its content is refused, or the store or the database failed. The image is released.
    pub async fn link<T: Target>(
        &self,
        user: UserId,
        image: ImageId,
        to: T,
    ) -> Result<Linked<T::Attachment>, LinkError> {
        let started = Instant::now();
        let turn = self.turn(1).await?;
        let links = self.clone();
        let work = async move {
            let _turn = turn;
            links.link_one(user, image, to, started).await
        };
        self.background.run(work).await
    }

    async fn link_one<T: Target>(
        &self,
        user: UserId,
        id: ImageId,
        to: T,
        started: Instant,
    ) -> Result<Linked<T::Attachment>, LinkError> {
        let claimed = {
            let mut connection = self.connection().await?;
            to.permit(&mut connection, user).await?;
            match self.claim(&mut connection, user, id, to.target()).await? {
                Claim::Held(claimed) => claimed,
                Claim::LinkedHere => {
                    let found = to.find(&mut connection, id).await?;
                    return found.map(Linked::Before).ok_or(LinkError::AlreadyLinked);
                }
            }
        };
        let pinned = self.pin(*claimed).await?;
        let attachment = self.commit(user, to, &pinned).await?;
        self.linked(&pinned, started);
        Ok(Linked::Now(attachment))
    }

    /// Takes an image for a link to `target`.
    pub(crate) async fn claim(
        &self,
        connection: &mut Connection,
        user: UserId,
        id: ImageId,
        target: LinkTarget,
    ) -> Result<Claim, LinkError> {
        let attempt = Uuid::new_v4().into();
        let (lease, cutoff) = (self.timing.link_lease, self.timing.link_cutoff());
        // Time is left to commit, or to release the image, before the lease ends.
        let until = tokio::time::Instant::now() + lease * 3 / 4;
        match image_attempts::claim_link(connection, id, user, attempt, lease, cutoff).await? {
            Some(image) => {
                let hold = Hold::new(id, attempt);
                if image.path == target.path() {
                    return Ok(Claim::Held(Box::new(Claimed { image, hold, target, until })));
                }
                self.release_on(connection, &hold).await;
                Err(LinkError::WrongPath)
            }
            None => match images::standing(connection, id, Some(user), cutoff).await? {
                Standing::Linked(to, true) if to == target => Ok(Claim::LinkedHere),
                standing => Err(standing.into()),
            },
        }
    }

    async fn commit<T: Target>(&self, user: UserId, to: T, pinned: &Pinned) -> Result<T::Attachment, LinkError> {
        let failure = match self.connection().await {
            // Nothing was sent, so nothing was committed.
            Err(error) => error.into(),
            Ok(mut connection) => match to.commit(&mut connection, &pinned.verified()).await {
                Ok(Some(attachment)) => return Ok(attachment),
                Ok(None) => match to.permit(&mut connection, user).await {
                    Err(error) => error,
                    Ok(()) => {
                        self.why_lost(&mut connection, &pinned.hold, user).await.map_or_else(Into::into, Into::into)
                    }
                },
                Err(error) => {
                    drop(connection);
                    let find = async |connection: &mut Connection| {
                        let row = images::find_for_update(connection, pinned.image.id).await?;
                        if row.is_some_and(|row| pinned.is_on(&row)) {
                            return to.find(connection, pinned.image.id).await;
                        }
                        Ok(None)
                    };
                    return Ok(self.recover(&[&pinned.hold], error.into(), find).await?);
                }
            },
        };
        self.undo(&pinned.hold).await;
        Err(failure)
    }

    /// Runs after the commit. If what is served is elsewhere, it deletes the object under the incoming key; if that fails, the sweep does
    /// it.
    pub(crate) fn linked(&self, pinned: &Pinned, started: Instant) {
        let image = &pinned.image;
        self.observe(Event::Linked);
        info!(
            image.id = %image.id,
            image.path = image.path.as_str(),
            size_bytes = pinned.byte_size,
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "image linked"
        );
        if pinned.is_incoming() {
            return;
        }
        let (storage, key) = (self.storage.clone(), incoming_key(image.id));
        drop(self.background.spawn(async move {
            if let Err(error) = storage.delete(&key).await {
                warn!(
                    cause = chain(&error),
                    "cannot delete the incoming object of a linked image; a sweep will delete it"
                );
            }
        }));
    }
}
