//! Linking an image to its owner: claim, verify, promote, commit.
//!
//! A lease, not a lock, is held over the calls to the store: it is fenced by the attempt's own media key, so that a
//! paused server that wakes late can only write a key that nobody reads. Every failure gives the lease back and deletes
//! the copy, except where it is not known whether the commit happened: then nothing is deleted before the row has been
//! read again, and if it cannot be read, nothing is deleted at all. What cannot be deleted here, or appears later, the sweep
//! finds by the attempt's own row ([`upload_persistence::image_attempts`]).
//!
//! These pipelines run to their end on the main runtime (see [`crate::Background`]), whether or not the client waits.

use std::time::Instant;

use tracing::{info, warn};
use upload_domain::{CompetitionId, ImageId, LinkTarget, UserId, incoming_key};
use upload_persistence::{
    Connection, DatabaseError, QueryResult, Verified,
    image_attempts::{self, Left},
    images::{self, Standing},
    poster_images::{self, Permission, PosterImage},
    profile_images::{self, ProfileImage},
};
use uuid::Uuid;

use crate::{
    ApiError, Caller, Code, Shared,
    error::chain,
    prepare::{Claimed, Prepared, link_in_progress, prepare, take_back},
};

/// What an image is linked to, and the statements that do it.
pub(crate) trait Target: Copy + Send + Sync + 'static {
    /// The link's row.
    type Attachment: Send + 'static;

    fn target(self) -> LinkTarget;

    /// Whether the caller may link here at all, asked before the image is claimed.
    fn permit(self, connection: &mut Connection, caller: UserId) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Commits; `None` where the lease is lost or the caller may not link here (any more).
    fn commit(
        self,
        connection: &mut Connection,
        verified: &Verified<'_>,
    ) -> impl Future<Output = QueryResult<Option<Self::Attachment>>> + Send;

    /// The link of this image, live or not.
    fn find(
        self,
        connection: &mut Connection,
        image: ImageId,
    ) -> impl Future<Output = QueryResult<Option<Self::Attachment>>> + Send;
}

/// The caller's own profile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile;

/// A competition's poster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poster(pub(crate) CompetitionId);

/// Whether the link was made now or had been made before.
pub(crate) enum Linked<T> {
    Now(T),
    Before(T),
}

/// What a claim came to.
pub(crate) enum Claim {
    Held(Box<Claimed>),
    /// The image is linked to the wanted target, and that link is live.
    LinkedHere,
}

/// Links one image.
pub(crate) async fn link<T: Target>(
    shared: Shared,
    caller: Caller,
    id: ImageId,
    to: T,
) -> Result<Linked<T::Attachment>, ApiError> {
    let started = Instant::now();
    let claimed = {
        let mut connection = shared.database.connection().await?;
        to.permit(&mut connection, caller.user_id).await?;
        match claim(&shared, &mut connection, caller, id, to.target()).await? {
            Claim::Held(claimed) => claimed,
            Claim::LinkedHere => {
                let found = to.find(&mut connection, id).await?;
                return found.map(Linked::Before).ok_or_else(already_linked);
            }
        }
    };
    let prepared = prepare(&shared, *claimed).await?;
    let attachment = commit(&shared, caller, to, &prepared).await?;
    linked(&shared, &prepared, started);
    Ok(Linked::Now(attachment))
}

/// Takes an image for a link to `target`, or says why it cannot be had.
pub(crate) async fn claim(
    shared: &Shared,
    connection: &mut Connection,
    caller: Caller,
    id: ImageId,
    target: LinkTarget,
) -> Result<Claim, ApiError> {
    let attempt = Uuid::new_v4().into();
    let (lease, cutoff) = (shared.timing.link_lease, shared.timing.link_cutoff());
    // Time is left to commit, or to give back, before the lease ends.
    let until = tokio::time::Instant::now() + lease * 3 / 4;
    let claimed = image_attempts::claim_link(connection, id, caller.user_id, attempt, lease, cutoff).await?;
    match claimed {
        Some(image) if image.path == target.path() => Ok(Claim::Held(Box::new(Claimed { image, attempt, until }))),
        Some(_image) => {
            if let Err(error) = image_attempts::release(connection, id, attempt, Left::Nothing).await {
                warn!(image.id = %id, cause = chain(&error), "an image was not given back; its lease will end");
            }
            let detail = "This image was not created for this use.";
            Err(ApiError::new(Code::WrongPath, detail))
        }
        None => match images::standing(connection, id, Some(caller.user_id), cutoff).await? {
            Standing::Linked(to, true) if to == target => Ok(Claim::LinkedHere),
            standing => Err(refused_claim(standing)),
        },
    }
}

/// Why an image could not be claimed, for the client. Both servers refuse with the same words.
pub fn refused_claim(standing: Standing) -> ApiError {
    match standing {
        Standing::Missing => ApiError::image_not_found(),
        Standing::Forbidden => ApiError::forbidden(),
        Standing::Linked(..) => already_linked(),
        // Whoever had it has just given it back.
        Standing::LinkInProgress | Standing::Pending => link_in_progress(),
        Standing::UploadInProgress => ApiError::new(Code::UploadInProgress, "This image is being uploaded right now."),
        Standing::Expired => ApiError::new(Code::ImageExpired, "This image was not linked in time; create a new one."),
        Standing::Refused(refusal) => refusal.into(),
    }
}

async fn commit<T: Target>(
    shared: &Shared,
    caller: Caller,
    to: T,
    prepared: &Prepared,
) -> Result<T::Attachment, ApiError> {
    let Some(verified) = prepared.image.verified() else {
        let error = ApiError::internal("a prepared image lacks its sizes").image(prepared.image.id);
        return Err(undo(shared, prepared, error).await);
    };
    let mut connection = match shared.database.connection().await {
        Ok(connection) => connection,
        // Nothing was sent, so the outcome is known.
        Err(error) => return Err(undo(shared, prepared, error.into()).await),
    };
    match to.commit(&mut connection, &verified).await {
        Ok(Some(attachment)) => Ok(attachment),
        Ok(None) => {
            let error = match to.permit(&mut connection, caller.user_id).await {
                Err(error) => error,
                Ok(()) => why_lost(shared, &mut connection, caller, prepared).await,
            };
            drop(connection);
            Err(undo(shared, prepared, error).await)
        }
        Err(error) => {
            drop(connection);
            settle(shared, to, prepared, error.into()).await
        }
    }
}

/// What took the image away while it was being verified. The attempt is ended first, so that it is not itself the answer.
pub(crate) async fn why_lost(
    shared: &Shared,
    connection: &mut Connection,
    caller: Caller,
    prepared: &Prepared,
) -> ApiError {
    let image = prepared.image.id;
    let read = async {
        image_attempts::release(connection, image, prepared.attempt, prepared.left()).await?;
        images::standing(connection, image, Some(caller.user_id), shared.timing.link_cutoff()).await
    };
    match read.await {
        Ok(standing) => refused_claim(standing),
        Err(error) => error.into(),
    }
}

/// The commit failed in a way that leaves open whether it happened, or even whether it still runs: the row knows.
async fn settle<T: Target>(
    shared: &Shared,
    to: T,
    prepared: &Prepared,
    failure: DatabaseError,
) -> Result<T::Attachment, ApiError> {
    let id = prepared.image.id;
    let read = async {
        let mut connection = shared.database.connection().await?;
        if give_up(&mut connection, prepared).await? {
            return Ok((None, None));
        }
        let row = images::find_for_update(&mut connection, id).await?.filter(|row| row.linked_at.is_some());
        let attachment = to.find(&mut connection, id).await?;
        Ok::<_, DatabaseError>((row, attachment))
    };
    match read.await {
        Ok((Some(row), Some(attachment))) if row.media_key == prepared.image.media_key => {
            warn!(image.id = %id, cause = chain(&failure), "the commit's answer was lost, but the link is there");
            Ok(attachment)
        }
        Ok((Some(_row), _)) => Err(undo(shared, prepared, already_linked()).await),
        Ok((None, _)) => Err(undo(shared, prepared, failure.into()).await),
        Err(second) => {
            // The copy may be what the row names: it stays.
            warn!(image.id = %id, cause = chain(&second), "whether the link was committed cannot be read");
            Err(failure.into())
        }
    }
}

/// Ends the attempt. This waits for a commit that has the row's lock, and shuts out one that has not come so far: `true`
/// says that the commit will never happen, `false` that it has, or that the lease was lost.
pub(crate) async fn give_up(connection: &mut Connection, prepared: &Prepared) -> Result<bool, DatabaseError> {
    Ok(image_attempts::release(connection, prepared.image.id, prepared.attempt, prepared.left()).await?)
}

/// Takes back what an attempt did that is known not to have been committed, and hands on why.
pub(crate) async fn undo(shared: &Shared, prepared: &Prepared, error: ApiError) -> ApiError {
    take_back(shared, prepared.image.id, prepared.attempt, prepared.left()).await;
    error
}

/// After the commit: one line, and what clients may have put under the incoming key goes, best effort (the sweep repeats it).
pub(crate) fn linked(shared: &Shared, prepared: &Prepared, started: Instant) {
    let image = &prepared.image;
    shared.metrics.linked(1);
    info!(
        image.id = %image.id,
        image.path = image.path.as_str(),
        size_bytes = image.media_byte_size,
        duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "image linked"
    );
    let (storage, key) = (shared.storage.clone(), incoming_key(image.id));
    drop(shared.background.spawn(async move {
        if let Err(error) = storage.delete(&key).await {
            warn!(cause = chain(&error), "a linked upload's incoming object was not deleted");
        }
    }));
}

pub(crate) fn already_linked() -> ApiError {
    ApiError::new(Code::AlreadyLinked, "This image has been linked before; an image is linked once.")
}

impl Target for Profile {
    type Attachment = ProfileImage;

    fn target(self) -> LinkTarget {
        LinkTarget::Profile
    }

    async fn permit(self, _connection: &mut Connection, _caller: UserId) -> Result<(), ApiError> {
        // The image's owner is the target's, and the claim reads the owner's row.
        Ok(())
    }

    async fn commit(self, connection: &mut Connection, verified: &Verified<'_>) -> QueryResult<Option<ProfileImage>> {
        profile_images::link(connection, verified).await
    }

    async fn find(self, connection: &mut Connection, image: ImageId) -> QueryResult<Option<ProfileImage>> {
        profile_images::find_by_image(connection, image).await
    }
}

impl Target for Poster {
    type Attachment = PosterImage;

    fn target(self) -> LinkTarget {
        LinkTarget::Poster(self.0)
    }

    async fn permit(self, connection: &mut Connection, caller: UserId) -> Result<(), ApiError> {
        match poster_images::may_link(connection, self.0, caller).await? {
            Permission::Allowed => Ok(()),
            Permission::Forbidden => Err(ApiError::forbidden()),
            Permission::Missing => Err(competition_not_found()),
        }
    }

    async fn commit(self, connection: &mut Connection, verified: &Verified<'_>) -> QueryResult<Option<PosterImage>> {
        poster_images::link(connection, self.0, verified.user, verified).await
    }

    async fn find(self, connection: &mut Connection, image: ImageId) -> QueryResult<Option<PosterImage>> {
        let found = poster_images::find_by_image(connection, image).await?;
        Ok(found.filter(|poster| poster.competition_id == self.0))
    }
}

pub(crate) fn competition_not_found() -> ApiError {
    ApiError::new(Code::CompetitionNotFound, "There is no such competition.")
}
