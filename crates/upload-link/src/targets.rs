//! What an image can be linked to, and the statements that do it. (A post links several images at once: see `post.rs`.)

use upload_domain::{CompetitionId, ImageId, LinkTarget, UserId};
use upload_persistence::{
    Connection, QueryResult, Verified,
    poster_images::{self, Permission, PosterImage},
    profile_images::{self, ProfileImage},
};

use crate::LinkError;

/// One kind of target.
pub trait Target: Copy + Send + Sync + 'static {
    /// The link's row.
    type Attachment: Send + 'static;

    /// Which target.
    fn target(self) -> LinkTarget;

    /// Whether the user may link here at all; asked before the image is claimed.
    fn permit(self, connection: &mut Connection, user: UserId) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Commits. `None` if the hold is lost, or the user may no longer link here.
    fn commit(
        self,
        connection: &mut Connection,
        verified: &Verified<'_>,
    ) -> impl Future<Output = QueryResult<Option<Self::Attachment>>> + Send;

    /// The link of this image to this target, live or ended.
    fn find(
        self,
        connection: &mut Connection,
        image: ImageId,
    ) -> impl Future<Output = QueryResult<Option<Self::Attachment>>> + Send;
}

/// The user's own profile.
#[derive(Debug, Clone, Copy)]
pub struct Profile;

/// A competition's poster.
#[derive(Debug, Clone, Copy)]
pub struct Poster(
    /// Which competition.
    pub CompetitionId,
);

impl Target for Profile {
    type Attachment = ProfileImage;

    fn target(self) -> LinkTarget {
        LinkTarget::Profile
    }

    async fn permit(self, _connection: &mut Connection, _user: UserId) -> Result<(), LinkError> {
        // The owner of the image is the owner of the profile, and the claim reads the owner's row.
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

    async fn permit(self, connection: &mut Connection, user: UserId) -> Result<(), LinkError> {
        match poster_images::may_link(connection, self.0, user).await? {
            Permission::Allowed => Ok(()),
            Permission::Forbidden => Err(LinkError::Forbidden),
            Permission::Missing => Err(LinkError::CompetitionNotFound),
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
