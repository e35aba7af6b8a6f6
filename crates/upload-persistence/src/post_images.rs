//! The `post_image` table: which images a post has, in which order. Rows are made with the post, by [`crate::posts::create`].

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;
use upload_domain::{ImageId, PostId};

use crate::{
    Connection, QueryResult,
    images::Image,
    schema::{image, post_image},
    stored::Stored,
};

/// A post image's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = post_image, check_for_backend(diesel::pg::Pg))]
pub struct PostImage {
    /// Identifier.
    pub id: uuid::Uuid,
    /// Whose image.
    #[diesel(deserialize_as = Stored<PostId>)]
    pub post_id: PostId,
    /// The image.
    #[diesel(deserialize_as = Stored<ImageId>)]
    pub image_id: ImageId,
    /// Place in the post, from 0.
    #[diesel(deserialize_as = Stored<u32>)]
    pub sequence: u32,
    /// When it was linked.
    pub created_at: DateTime<Utc>,
}

/// The link of this image to a post, live or not.
pub async fn find_by_image(connection: &mut Connection, image: ImageId) -> QueryResult<Option<PostImage>> {
    post_image::table
        .filter(post_image::image_id.eq(image.uuid()))
        .select(PostImage::as_select())
        .first(connection)
        .await
        .optional()
}

/// The post's images, in their order.
pub async fn list(connection: &mut Connection, post: PostId) -> QueryResult<Vec<Image>> {
    post_image::table
        .inner_join(image::table)
        .filter(post_image::post_id.eq(post.uuid()))
        .order(post_image::sequence)
        .select(Image::as_select())
        .load(connection)
        .await
}
