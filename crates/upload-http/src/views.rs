//! The JSON of rows: names in camelCase, times in RFC 3339, and never an object's key.

use chrono::{DateTime, Utc};
use serde::Serialize;
use upload_domain::{CompetitionId, ImageFormat, ImageId, ImagePath, PostId, Role, UserId, UserStatus};
use upload_persistence::{
    competitions::Competition, images::Image, poster_images::PosterImage, posts::Post, profile_images::ProfileImage,
    users::User,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Shared, schemas};

/// An image, as every route shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageEntity {
    #[schema(value_type = Uuid)]
    id: ImageId,
    #[schema(value_type = schemas::ImagePath)]
    path: ImagePath,
    #[schema(value_type = schemas::ImageFormat)]
    format: ImageFormat,
    created_at: DateTime<Utc>,
    #[schema(required = true)]
    linked_at: Option<DateTime<Utc>>,
    #[schema(value_type = Uuid)]
    user_id: UserId,
}

/// A link of an image to its owner's profile.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserProfileImage {
    id: Uuid,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    #[schema(value_type = Uuid)]
    image_id: ImageId,
    created_at: DateTime<Utc>,
}

/// A link of an image to a competition.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompetitionPosterImage {
    id: Uuid,
    #[schema(value_type = Uuid)]
    competition_id: CompetitionId,
    #[schema(value_type = Uuid)]
    image_id: ImageId,
    created_at: DateTime<Utc>,
}

/// A linked image and where to read it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkedImage {
    image_entity: ImageEntity,
    url: String,
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    #[schema(value_type = Uuid)]
    id: UserId,
    #[schema(value_type = schemas::Role)]
    role: Role,
    #[schema(required = true)]
    sns_auth_provider: Option<String>,
    #[schema(required = true)]
    email: Option<String>,
    #[schema(required = true)]
    name: Option<String>,
    #[schema(required = true)]
    phone_number: Option<String>,
    #[schema(required = true)]
    nickname: Option<String>,
    #[schema(required = true)]
    gender: Option<String>,
    #[schema(required = true)]
    birth: Option<String>,
    #[schema(required = true)]
    belt: Option<String>,
    #[schema(value_type = schemas::UserStatus)]
    status: UserStatus,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    profile_images: Vec<LinkedImage>,
}

/// A competition and its poster.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompetitionView {
    #[schema(value_type = Uuid)]
    id: CompetitionId,
    title: String,
    #[schema(value_type = Uuid)]
    host_user_id: UserId,
    created_at: DateTime<Utc>,
    #[schema(required = true)]
    poster_image: Option<LinkedImage>,
}

/// A post and its images, in order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PostView {
    #[schema(value_type = Uuid)]
    id: PostId,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    title: String,
    content: String,
    created_at: DateTime<Utc>,
    post_images: Vec<LinkedImage>,
}

impl From<&Image> for ImageEntity {
    fn from(image: &Image) -> Self {
        Self {
            id: image.id,
            path: image.path,
            format: image.format,
            created_at: image.created_at,
            linked_at: image.linked_at,
            user_id: image.user_id,
        }
    }
}

impl From<ProfileImage> for UserProfileImage {
    fn from(row: ProfileImage) -> Self {
        Self { id: row.id, user_id: row.user_id, image_id: row.image_id, created_at: row.created_at }
    }
}

impl From<PosterImage> for CompetitionPosterImage {
    fn from(row: PosterImage) -> Self {
        Self { id: row.id, competition_id: row.competition_id, image_id: row.image_id, created_at: row.created_at }
    }
}

impl LinkedImage {
    pub(crate) fn new(shared: &Shared, image: &Image) -> Self {
        Self { image_entity: image.into(), url: shared.image_url(image.id) }
    }
}

impl Me {
    pub(crate) fn new(user: User, profile_images: Vec<LinkedImage>) -> Self {
        Self {
            id: user.id,
            role: user.role,
            sns_auth_provider: user.sns_auth_provider,
            email: user.email,
            name: user.name,
            phone_number: user.phone_number,
            nickname: user.nickname,
            gender: user.gender,
            birth: user.birth,
            belt: user.belt,
            status: user.status,
            created_at: user.created_at,
            updated_at: user.updated_at,
            profile_images,
        }
    }
}

impl CompetitionView {
    pub(crate) fn new(competition: Competition, poster_image: Option<LinkedImage>) -> Self {
        Self {
            id: competition.id,
            title: competition.title,
            host_user_id: competition.host_user_id,
            created_at: competition.created_at,
            poster_image,
        }
    }
}

impl PostView {
    pub(crate) fn new(shared: &Shared, post: Post, images: &[Image]) -> Self {
        Self {
            id: post.id,
            user_id: post.user_id,
            title: post.title,
            content: post.content,
            created_at: post.created_at,
            post_images: images.iter().map(|image| LinkedImage::new(shared, image)).collect(),
        }
    }
}
