//! The `post_image` table: which images a post has, in which order. Rows are made with the post, by [`crate::posts::create`].

use diesel::{ExpressionMethods, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;
use upload_domain::PostId;

use crate::{
    Connection, QueryResult,
    images::Image,
    schema::{image, post_image},
};

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
