//! The `user_profile_image` table: which image is whose profile image. Replaced ones stay, soft-deleted.
//!
//! Every statement that changes a profile image locks the user's row first, so that two of them cannot deadlock.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
    result::{DatabaseErrorKind, Error},
    sql_types::{Array, Int4, Int8, Nullable, Text, Uuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use upload_domain::{ImageId, ImagePath, Role, UserId};

use crate::{
    Connection, QueryResult, Verified,
    cached::Cached,
    images::Image,
    one_row::one_row,
    schema::{image, user, user_profile_image},
    stored::{bigint, integer, words},
};

/// A profile image's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::QueryableByName, diesel::Selectable)]
#[diesel(table_name = user_profile_image, check_for_backend(diesel::pg::Pg))]
pub struct ProfileImage {
    /// Identifier.
    pub id: uuid::Uuid,
    /// Whose profile.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub user_id: UserId,
    /// The image.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub image_id: ImageId,
    /// When it was linked.
    pub created_at: DateTime<Utc>,
    /// When it was replaced or deleted; `None` while live.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Makes the image its owner's profile image instead of any other, and ends the attempt. `None` if the hold is lost, or the owner
/// is no longer allowed to act: then nothing has changed.
///
/// If one user links two images at the same time, the two statements conflict at the index of live rows. One fails, because its snapshot is
/// older than the other's row. It runs again after it has locked the user's row, with a newer snapshot, and then it cannot fail so.
pub async fn link(connection: &mut Connection, verified: &Verified<'_>) -> QueryResult<Option<ProfileImage>> {
    match link_at_once(connection, verified).await {
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, violation))
            if violation.constraint_name() == Some("user_profile_image_live") => {}
        outcome => return outcome,
    }
    connection
        .transaction(async |connection| {
            let owner = user::table.find(verified.user.uuid()).select(user::id).for_no_key_update();
            owner.first::<uuid::Uuid>(connection).await?;
            link_at_once(connection, verified).await
        })
        .await
}

/// The user's live profile image, with its image.
pub async fn find_live(connection: &mut Connection, user: UserId) -> QueryResult<Option<(ProfileImage, Image)>> {
    user_profile_image::table
        .inner_join(image::table)
        .filter(user_profile_image::user_id.eq(user.uuid()))
        .filter(user_profile_image::deleted_at.is_null())
        .select((ProfileImage::as_select(), Image::as_select()))
        .first(connection)
        .await
        .optional()
}

/// The link of this image to a profile, live or ended.
pub async fn find_by_image(connection: &mut Connection, image: ImageId) -> QueryResult<Option<ProfileImage>> {
    user_profile_image::table
        .filter(user_profile_image::image_id.eq(image.uuid()))
        .select(ProfileImage::as_select())
        .first(connection)
        .await
        .optional()
}

/// Ends the user's live link. `false` if there is none, or the user is not allowed to act.
pub async fn delete_live(connection: &mut Connection, user: UserId) -> QueryResult<bool> {
    let statement = diesel::sql_query(
        "WITH owner AS (
             SELECT id FROM \"user\" WHERE id = $1 AND status = 'ACTIVE' AND role = ANY ($2) FOR NO KEY UPDATE
         ), gone AS (
             UPDATE user_profile_image SET deleted_at = now() FROM owner
             WHERE user_profile_image.user_id = owner.id AND deleted_at IS NULL
             RETURNING user_profile_image.user_id
         )
         UPDATE \"user\" SET profile_image_url_key = NULL, updated_at = now() FROM gone WHERE \"user\".id = gone.user_id",
    )
    .bind::<Uuid, _>(user.uuid())
    .bind::<Array<Text>, _>(words(Role::REGISTERED));
    Ok(Cached(statement).execute(connection).await? > 0)
}

/// Everything in one round trip. The insert reads the number of replaced rows, which makes Postgres replace them first.
async fn link_at_once(connection: &mut Connection, verified: &Verified<'_>) -> QueryResult<Option<ProfileImage>> {
    let statement = diesel::sql_query(
        "WITH owner AS (
             SELECT id FROM \"user\" WHERE id = $1 AND status = 'ACTIVE' AND role = ANY ($2) FOR NO KEY UPDATE
         ), linked AS (
             UPDATE image SET
                 linked_at = now(), media_key = $3, media_version = $10, media_byte_size = $4, byte_size = $4,
                 width = $5, height = $6,
                 attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             FROM owner
             WHERE image.id = $7 AND image.user_id = owner.id AND path = $8
                 AND attempt = $9 AND attempt_until > now()
                 AND linked_at IS NULL AND deleting_at IS NULL AND refused_code IS NULL
             RETURNING image.id, image.user_id
         ), moved AS (
             DELETE FROM image_attempt USING linked WHERE image_attempt.id = $9
         ), replaced AS (
             UPDATE user_profile_image SET deleted_at = now() FROM linked
             WHERE user_profile_image.user_id = linked.user_id AND deleted_at IS NULL
             RETURNING user_profile_image.id
         ), shown AS (
             UPDATE \"user\" SET profile_image_url_key = $3 || coalesce('?versionId=' || $10, ''), updated_at = now() FROM linked
             WHERE \"user\".id = linked.user_id
         )
         INSERT INTO user_profile_image (user_id, image_id)
         SELECT linked.user_id, linked.id FROM linked CROSS JOIN (SELECT count(*) FROM replaced) AS after_replacing
         RETURNING id, user_id, image_id, created_at, deleted_at",
    )
    .bind::<Uuid, _>(verified.user.uuid())
    .bind::<Array<Text>, _>(words(Role::REGISTERED))
    .bind::<Text, _>(verified.media_key)
    .bind::<Int8, _>(bigint(verified.byte_size))
    .bind::<Int4, _>(integer(verified.dimensions.width))
    .bind::<Int4, _>(integer(verified.dimensions.height))
    .bind::<Uuid, _>(verified.image.uuid())
    .bind::<Text, _>(ImagePath::UserProfile.as_str())
    .bind::<Uuid, _>(verified.attempt.uuid())
    .bind::<Nullable<Text>, _>(verified.media_version);
    Cached(statement).load(connection).await.map(one_row)
}
