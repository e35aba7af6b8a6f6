//! Links that ended long ago: what a sweep removes, because nothing shows it any more.
//!
//! A link that has ended never begins again, so a sweep needs no lock against the servers. It marks images as it marks expired ones, deletes
//! their objects, and then the rows: of the link and of the image. A deleted post goes when it has no images any more.
//!
//! No key goes to the trail. An image's forms and its last write are older than its link, and the link ended at least
//! [`LATE_WRITE`](upload_domain::LATE_WRITE) and a form's life ago: `upload-ops sweep` refuses a shorter `PURGE_AFTER`. So nothing can come any more.

use std::time::Duration;

use diesel::sql_types::{Array, Int8, Interval, Nullable, Text, Uuid};
use diesel_async::RunQueryDsl;
use upload_domain::ImageId;

use crate::{Connection, QueryResult, cached::Cached, images::SWEEP_LEASE, moment::interval};

/// An image that a sweep has taken, because its link ended long ago.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct Ended {
    /// Which image, and so its incoming key.
    #[diesel(sql_type = Uuid, deserialize_as = uuid::Uuid)]
    pub id: ImageId,
    /// Where its bytes are.
    #[diesel(sql_type = Text)]
    pub media_key: String,
    /// Which version of the key they are; `None` if there is only one.
    #[diesel(sql_type = Nullable<Text>)]
    pub media_version: Option<String>,
}

/// Takes at most `limit` images whose link ended more than `purge_after` ago. Also those that a sweep took at least [`SWEEP_LEASE`] ago and
/// did not finish. The oldest links come first. Any number of sweeps may run at once: each row goes to one of them.
pub async fn mark(connection: &mut Connection, purge_after: Duration, limit: u32) -> QueryResult<Vec<Ended>> {
    let statement = diesel::sql_query(
        "WITH ended AS MATERIALIZED (
             SELECT image.id FROM image_link AS link JOIN image ON image.id = link.image_id
             WHERE link.ended_at < now() - $1 AND (image.deleting_at IS NULL OR image.deleting_at < now() - $2)
             ORDER BY link.ended_at
             LIMIT $3
             FOR UPDATE OF image SKIP LOCKED
         )
         UPDATE image SET deleting_at = now() FROM ended WHERE image.id = ended.id
         RETURNING image.id, image.media_key, image.media_version",
    )
    .bind::<Interval, _>(interval(purge_after))
    .bind::<Interval, _>(interval(SWEEP_LEASE))
    .bind::<Int8, _>(i64::from(limit));
    Cached(statement).load(connection).await
}

/// Deletes these images, if they are still marked, and their links. Returns how many images it deleted. Their objects must be deleted before.
pub async fn delete_marked(connection: &mut Connection, ids: &[ImageId]) -> QueryResult<usize> {
    let statement = diesel::sql_query(
        "WITH marked AS MATERIALIZED (
             SELECT id FROM image WHERE id = ANY ($1) AND deleting_at IS NOT NULL AND linked_at IS NOT NULL FOR UPDATE
         ), profiles AS (
             DELETE FROM user_profile_image USING marked WHERE image_id = marked.id
         ), posters AS (
             DELETE FROM competition_poster_image USING marked WHERE image_id = marked.id
         ), in_posts AS (
             DELETE FROM post_image USING marked WHERE image_id = marked.id
         ), gone AS (
             DELETE FROM image USING marked WHERE image.id = marked.id
             RETURNING image.id
         )
         SELECT id FROM gone",
    )
    .bind::<Array<Uuid>, _>(ids.iter().copied().map(ImageId::uuid).collect::<Vec<_>>());
    Cached(statement).execute(connection).await
}

/// Deletes at most `limit` posts that were deleted more than `purge_after` ago and have no images any more. Returns how many it deleted.
pub async fn delete_posts(connection: &mut Connection, purge_after: Duration, limit: u32) -> QueryResult<usize> {
    let statement = diesel::sql_query(
        "WITH ended AS MATERIALIZED (
             SELECT id FROM post
             WHERE deleted_at < now() - $1 AND NOT EXISTS (SELECT FROM post_image WHERE post_id = post.id)
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         )
         DELETE FROM post USING ended WHERE post.id = ended.id",
    )
    .bind::<Interval, _>(interval(purge_after))
    .bind::<Int8, _>(i64::from(limit));
    Cached(statement).execute(connection).await
}
