//! The `competition_poster_image` table: which image is which competition's poster. Replaced ones stay, soft-deleted.
//!
//! Every statement that changes a poster locks the competition's row first, so that two of them cannot deadlock.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
    result::{DatabaseErrorKind, Error},
    sql_types::{Bool, Int4, Int8, Nullable, Text, Uuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use upload_domain::{CompetitionId, ImageId, ImagePath, UserId};

use crate::{
    Connection, QueryResult, Verified,
    cached::Cached,
    images::Image,
    one_row::one_row,
    schema::{competition, competition_poster_image, image},
    stored::{bigint, integer},
};

/// A poster's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::QueryableByName, diesel::Selectable)]
#[diesel(table_name = competition_poster_image, check_for_backend(diesel::pg::Pg))]
pub struct PosterImage {
    /// Identifier.
    pub id: uuid::Uuid,
    /// Whose poster.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub competition_id: CompetitionId,
    /// The image.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub image_id: ImageId,
    /// When it was linked.
    pub created_at: DateTime<Utc>,
    /// When it was replaced; `None` while live.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Whether a user may set a competition's poster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// There is no such competition.
    Missing,
    /// The user is neither an ADMIN nor the competition's HOST, or not ACTIVE.
    Forbidden,
    /// The user may.
    Allowed,
}

/// Whether `user` may set the poster of `competition`: an ADMIN of any, a HOST of their own.
pub async fn may_link(
    connection: &mut Connection,
    competition: CompetitionId,
    user: UserId,
) -> QueryResult<Permission> {
    let statement = diesel::sql_query(
        "SELECT coalesce(
             caller.status = 'ACTIVE'
                 AND (caller.role = 'ADMIN' OR (caller.role = 'HOST' AND competition.host_user_id = caller.id)),
             false
         ) AS allowed
         FROM competition LEFT JOIN \"user\" AS caller ON caller.id = $2
         WHERE competition.id = $1",
    )
    .bind::<Uuid, _>(competition.uuid())
    .bind::<Uuid, _>(user.uuid());
    let row: Option<AllowedRow> = one_row(Cached(statement).load(connection).await?);
    Ok(match row {
        None => Permission::Missing,
        Some(AllowedRow { allowed: false }) => Permission::Forbidden,
        Some(AllowedRow { allowed: true }) => Permission::Allowed,
    })
}

/// Makes the image the competition's poster instead of any other, and ends the attempt. `None` if the hold is lost, or `caller`
/// is not allowed to set this poster: then nothing has changed.
///
/// As with profile images, two concurrent links conflict at the index of live rows; the one that fails runs again with a lock.
pub async fn link(
    connection: &mut Connection,
    competition: CompetitionId,
    caller: UserId,
    verified: &Verified<'_>,
) -> QueryResult<Option<PosterImage>> {
    match link_at_once(connection, competition, caller, verified).await {
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, violation))
            if violation.constraint_name() == Some("competition_poster_image_live") => {}
        outcome => return outcome,
    }
    connection
        .transaction(async |connection| {
            let locked = competition::table.find(competition.uuid()).select(competition::id).for_no_key_update();
            locked.first::<uuid::Uuid>(connection).await?;
            link_at_once(connection, competition, caller, verified).await
        })
        .await
}

/// The competition's live poster, with its image.
pub async fn find_live(
    connection: &mut Connection,
    competition: CompetitionId,
) -> QueryResult<Option<(PosterImage, Image)>> {
    competition_poster_image::table
        .inner_join(image::table)
        .filter(competition_poster_image::competition_id.eq(competition.uuid()))
        .filter(competition_poster_image::deleted_at.is_null())
        .select((PosterImage::as_select(), Image::as_select()))
        .first(connection)
        .await
        .optional()
}

/// The link of this image to a competition, live or ended.
pub async fn find_by_image(connection: &mut Connection, image: ImageId) -> QueryResult<Option<PosterImage>> {
    competition_poster_image::table
        .filter(competition_poster_image::image_id.eq(image.uuid()))
        .select(PosterImage::as_select())
        .first(connection)
        .await
        .optional()
}

#[derive(diesel::QueryableByName)]
struct AllowedRow {
    #[diesel(sql_type = Bool)]
    allowed: bool,
}

async fn link_at_once(
    connection: &mut Connection,
    competition: CompetitionId,
    caller: UserId,
    verified: &Verified<'_>,
) -> QueryResult<Option<PosterImage>> {
    let statement = diesel::sql_query(
        "WITH permitted AS (
             SELECT competition.id, caller.id AS caller_id
             FROM competition JOIN \"user\" AS caller ON caller.id = $2
             WHERE competition.id = $1 AND caller.status = 'ACTIVE'
                 AND (caller.role = 'ADMIN' OR (caller.role = 'HOST' AND competition.host_user_id = caller.id))
             FOR NO KEY UPDATE OF competition
         ), linked AS (
             UPDATE image SET
                 linked_at = now(), media_key = $3, media_version = $10, media_byte_size = $4, byte_size = $4,
                 width = $5, height = $6,
                 attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             FROM permitted
             WHERE image.id = $7 AND image.user_id = permitted.caller_id AND path = $8
                 AND attempt = $9 AND attempt_until > now()
                 AND linked_at IS NULL AND deleting_at IS NULL AND refused_code IS NULL
             RETURNING image.id, permitted.id AS competition_id
         ), moved AS (
             DELETE FROM image_attempt USING linked WHERE image_attempt.id = $9
         ), replaced AS (
             UPDATE competition_poster_image SET deleted_at = now() FROM linked
             WHERE competition_poster_image.competition_id = linked.competition_id AND deleted_at IS NULL
             RETURNING competition_poster_image.id
         )
         INSERT INTO competition_poster_image (competition_id, image_id)
         SELECT linked.competition_id, linked.id
         FROM linked CROSS JOIN (SELECT count(*) FROM replaced) AS after_replacing
         RETURNING id, competition_id, image_id, created_at, deleted_at",
    )
    .bind::<Uuid, _>(competition.uuid())
    .bind::<Uuid, _>(caller.uuid())
    .bind::<Text, _>(verified.media_key)
    .bind::<Int8, _>(bigint(verified.byte_size))
    .bind::<Int4, _>(integer(verified.dimensions.width))
    .bind::<Int4, _>(integer(verified.dimensions.height))
    .bind::<Uuid, _>(verified.image.uuid())
    .bind::<Text, _>(ImagePath::Competition.as_str())
    .bind::<Uuid, _>(verified.attempt.uuid())
    .bind::<Nullable<Text>, _>(verified.media_version);
    Cached(statement).load(connection).await.map(one_row)
}
