//! A post with its images: all of them are linked, or none and there is no post.
//!
//! Images are claimed in the order of their ids, so that two posts with the same images cannot hold each other up, and
//! verified and copied two at a time, so that one request cannot take the store for itself.

use std::time::Instant;

use futures::{StreamExt as _, stream};
use tracing::warn;
use upload_domain::{ImageId, LinkTarget, PostId};
use upload_persistence::{
    DatabaseError, Verified,
    image_attempts::Left,
    images::Image,
    posts::{self, CreateError, NewPost, Post},
};
use uuid::Uuid;

use crate::{
    ApiError, Caller, Shared,
    error::chain,
    link::{Claim, already_linked, claim, give_up, linked, undo, why_lost},
    prepare::{Claimed, Prepared, prepare, release},
};

/// How many of a post's images are verified and copied at once.
const AT_ONCE: usize = 2;

/// What a post says.
pub(crate) struct PostText {
    pub(crate) title: String,
    pub(crate) content: String,
}

/// Creates a post with `ids` as its images, in this order.
pub(crate) async fn create_post(
    shared: Shared,
    caller: Caller,
    text: PostText,
    ids: Vec<ImageId>,
) -> Result<(Post, Vec<Image>), ApiError> {
    let started = Instant::now();
    let post = PostId::from(Uuid::now_v7());
    let claimed = claim_all(&shared, caller, post, &ids).await?;
    let mut prepared = prepare_all(&shared, claimed).await?;
    prepared.sort_by_key(|prepared| ids.iter().position(|id| *id == prepared.image.id));
    let post = commit(&shared, caller, post, &text, &prepared).await?;
    for image in &prepared {
        linked(&shared, image, started);
    }
    // From here on nothing may fail: the post is made, and a client that tried again would be told that its images are gone.
    // One statement made the post and linked its images, so both have one time.
    let images = prepared.into_iter().map(|one| Image { linked_at: Some(post.created_at), ..one.image }).collect();
    Ok((post, images))
}

async fn claim_all(shared: &Shared, caller: Caller, post: PostId, ids: &[ImageId]) -> Result<Vec<Claimed>, ApiError> {
    let mut in_order = ids.to_vec();
    in_order.sort_unstable();
    let mut claimed: Vec<Claimed> = Vec::with_capacity(ids.len());
    let failure = {
        let mut connection = shared.database.connection().await?;
        let mut failure = None;
        for id in in_order {
            match claim(shared, &mut connection, caller, id, LinkTarget::Post(post)).await {
                Ok(Claim::Held(one)) => claimed.push(*one),
                // The post is new: whatever the image is linked to is another.
                Ok(Claim::LinkedHere) => failure = Some(already_linked().image(id)),
                Err(error) => failure = Some(error.image(id)),
            }
            if failure.is_some() {
                break;
            }
        }
        failure
    };
    let Some(failure) = failure else { return Ok(claimed) };
    for one in claimed {
        release(shared, one.image.id, one.attempt, Left::Nothing).await;
    }
    Err(failure)
}

async fn prepare_all(shared: &Shared, claimed: Vec<Claimed>) -> Result<Vec<Prepared>, ApiError> {
    // Each is brought to its end, also after one has failed: a copy that is dropped half-way would be left behind.
    let outcomes: Vec<_> = stream::iter(claimed)
        .map(|one| async move {
            let id = one.image.id;
            prepare(shared, one).await.map_err(|error| error.image(id))
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut failure = None;
    let mut prepared = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Ok(one) => prepared.push(one),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let Some(mut failure) = failure else { return Ok(prepared) };
    for one in &prepared {
        failure = undo(shared, one, failure).await;
    }
    Err(failure)
}

async fn commit(
    shared: &Shared,
    caller: Caller,
    post: PostId,
    text: &PostText,
    prepared: &[Prepared],
) -> Result<Post, ApiError> {
    let verified: Vec<Verified<'_>> = prepared.iter().filter_map(|one| one.image.verified()).collect();
    if verified.len() != prepared.len() {
        return Err(undo_all(shared, prepared, ApiError::internal("a prepared image lacks its sizes")).await);
    }
    let mut connection = match shared.database.connection().await {
        Ok(connection) => connection,
        Err(error) => return Err(undo_all(shared, prepared, error.into()).await),
    };
    let new = NewPost { id: post, user_id: caller.user_id, title: &text.title, content: &text.content };
    let failure = match posts::create(&mut connection, &new, &verified).await {
        Ok(post) => return Ok(post),
        Err(CreateError::Forbidden) => ApiError::forbidden(),
        Err(CreateError::LeaseLost(image)) => match prepared.iter().find(|one| one.image.id == image) {
            Some(lost) => why_lost(shared, &mut connection, caller, lost).await.image(image),
            None => ApiError::internal("an image was lost that was never held"),
        },
        Err(CreateError::Query(error)) => {
            drop(connection);
            return settle(shared, post, prepared, error.into()).await;
        }
    };
    drop(connection);
    Err(undo_all(shared, prepared, failure).await)
}

/// The commit failed in a way that leaves open whether it happened, or even whether it still runs: the rows know.
async fn settle(
    shared: &Shared,
    post: PostId,
    prepared: &[Prepared],
    failure: DatabaseError,
) -> Result<Post, ApiError> {
    let read = async {
        let mut connection = shared.database.connection().await?;
        for one in prepared {
            if give_up(&mut connection, one).await? {
                return Ok(None);
            }
        }
        Ok::<_, DatabaseError>(posts::find_live(&mut connection, post).await?)
    };
    match read.await {
        Ok(Some((post, _images))) => {
            warn!(cause = chain(&failure), "the commit's answer was lost, but the post is there");
            Ok(post)
        }
        Ok(None) => Err(undo_all(shared, prepared, failure.into()).await),
        Err(second) => {
            // The copies may be what the rows name: they stay.
            warn!(cause = chain(&second), "whether the post was committed cannot be read");
            Err(failure.into())
        }
    }
}

async fn undo_all(shared: &Shared, prepared: &[Prepared], mut failure: ApiError) -> ApiError {
    for one in prepared {
        failure = undo(shared, one, failure).await;
    }
    failure
}
