//! A post with its images: all of them are linked, or none and there is no post.
//!
//! Images are claimed in the order of their ids, so that two posts with the same images cannot hold each other up. They are verified
//! and copied two at a time, so that one request cannot take the store for itself.

use std::time::Instant;

use futures::{StreamExt as _, future::join_all, stream};
use upload_domain::{ImageId, LinkTarget, PostId, UserId};
use upload_persistence::{
    Connection, Verified,
    images::Image,
    posts::{self, CreateError, NewPost, Post},
};
use uuid::Uuid;

use crate::{
    Hold, LinkError, Links, NotRecovered,
    one::Claim,
    pin::{Claimed, Pinned},
};

/// How many of a post's images are verified and copied at once.
const AT_ONCE: usize = 2;

/// What a post says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostText {
    /// Its title.
    pub title: String,
    /// Its text.
    pub content: String,
}

/// Why a post was not made.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct PostError {
    /// The image that it is about, where it is about one.
    pub image: Option<ImageId>,
    /// What is wrong.
    #[source]
    pub error: LinkError,
}

impl<E: Into<LinkError>> From<E> for PostError {
    fn from(error: E) -> Self {
        Self { image: None, error: error.into() }
    }
}

impl PostError {
    fn about(image: ImageId, error: impl Into<LinkError>) -> Self {
        Self { image: Some(image), error: error.into() }
    }
}

impl Links {
    /// Makes a post with `images`, in this order. It waits for its turn only as long as the caller does. From then on it runs to its end on
    /// the main runtime, whether or not the caller waits.
    ///
    /// # Errors
    /// As for one image; all images are released.
    pub async fn create_post(
        &self,
        user: UserId,
        text: PostText,
        images: Vec<ImageId>,
    ) -> Result<(Post, Vec<Image>), PostError> {
        let started = Instant::now();
        let turn = match images.len() {
            0 => None,
            images => Some(self.turn(images.min(AT_ONCE)).await?),
        };
        let links = self.clone();
        let work = async move {
            let _turn = turn;
            links.link_all(user, text, images, started).await
        };
        self.background.run(work).await
    }

    async fn link_all(
        &self,
        user: UserId,
        text: PostText,
        ids: Vec<ImageId>,
        started: Instant,
    ) -> Result<(Post, Vec<Image>), PostError> {
        let post = PostId::from(Uuid::now_v7());
        let claimed = self.claim_all(user, post, &ids).await?;
        let mut pinned = self.pin_all(claimed).await?;
        pinned.sort_by_key(|one| ids.iter().position(|id| *id == one.image.id));
        let post = self.commit_all(user, post, &text, &pinned).await?;
        for one in &pinned {
            self.linked(one, started);
        }
        // From here on nothing may fail: the post exists, and a client that tried again would read that its images are already linked.
        let images = pinned.into_iter().map(|one| one.in_post(&post)).collect();
        Ok((post, images))
    }

    async fn claim_all(&self, user: UserId, post: PostId, ids: &[ImageId]) -> Result<Vec<Claimed>, PostError> {
        let mut in_order = ids.to_vec();
        in_order.sort_unstable();
        let mut claimed: Vec<Claimed> = Vec::with_capacity(ids.len());
        let mut connection = self.connection().await?;
        let mut failure = None;
        for id in in_order {
            match self.claim(&mut connection, user, id, LinkTarget::Post(post)).await {
                Ok(Claim::Held(one)) => {
                    claimed.push(*one);
                    continue;
                }
                // The post is new, so the image must be linked to another one.
                Ok(Claim::LinkedHere) => failure = Some(PostError::about(id, LinkError::AlreadyLinked)),
                Err(error) => failure = Some(PostError::about(id, error)),
            }
            break;
        }
        drop(connection);
        let Some(failure) = failure else { return Ok(claimed) };
        join_all(claimed.iter().map(|one| self.release(&one.hold))).await;
        Err(failure)
    }

    async fn pin_all(&self, claimed: Vec<Claimed>) -> Result<Vec<Pinned>, PostError> {
        // Each one runs to its end, even after another has failed: a copy that is dropped half-way would be left behind.
        let outcomes: Vec<_> = stream::iter(claimed)
            .map(|one| async move {
                let id = one.image.id;
                self.pin(one).await.map_err(|error| PostError::about(id, error))
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut failure = None;
        let mut pinned = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Ok(one) => pinned.push(one),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let Some(failure) = failure else { return Ok(pinned) };
        self.undo_all(&pinned).await;
        Err(failure)
    }

    async fn commit_all(
        &self,
        user: UserId,
        post: PostId,
        text: &PostText,
        pinned: &[Pinned],
    ) -> Result<Post, PostError> {
        let verified: Vec<Verified<'_>> = pinned.iter().map(Pinned::verified).collect();
        let new = NewPost { id: post, user_id: user, title: &text.title, content: &text.content };
        let failure = match self.connection().await {
            // Nothing was sent, so nothing was committed.
            Err(error) => error.into(),
            Ok(mut connection) => match posts::create(&mut connection, &new, &verified).await {
                Ok(post) => return Ok(post),
                Err(CreateError::Forbidden) => LinkError::Forbidden.into(),
                Err(CreateError::HoldLost(image)) => match pinned.iter().find(|one| one.image.id == image) {
                    Some(lost) => match self.why_lost(&mut connection, &lost.hold, user).await {
                        Ok(standing) => PostError::about(image, standing),
                        Err(error) => PostError::about(image, error),
                    },
                    None => LinkError::Bug("an image was lost that was never held").into(),
                },
                Err(CreateError::Query(error)) => {
                    drop(connection);
                    let holds: Vec<&Hold> = pinned.iter().map(|one| &one.hold).collect();
                    let find = async |connection: &mut Connection| {
                        Ok(posts::find_live(connection, post).await?.map(|(post, _images)| post))
                    };
                    return self.recover(&holds, error.into(), find).await.map_err(|error| match error {
                        NotRecovered::Failed(error) => error.into(),
                        NotRecovered::Lost(image, standing) => PostError::about(image, standing),
                    });
                }
            },
        };
        self.undo_all(pinned).await;
        Err(failure)
    }

    async fn undo_all(&self, pinned: &[Pinned]) {
        join_all(pinned.iter().map(|one| self.undo(&one.hold))).await;
    }
}
