//! Attempts: one try each to bring verified bytes to a media key. Here is the hold that an attempt has on its image, and the
//! `image_attempt` table, the trail of keys that an attempt writes or may have written.
//!
//! A key is in a committed row from before its first byte until its object is gone for good. The claim writes it here, together with
//! the hold. The commit moves it to the image in one statement, and puts the key that it replaces here. What stays here belongs to
//! nobody: once the time of a row is over, a sweep deletes the key's object, and then the row.
//!
//! An attempt that has sent the store no whole write is forgotten when it ends ([`Left::Nothing`]). Any other stays, whatever the store
//! has answered: a request that was given up, or that a retry has overtaken, may still be carried out.

use std::time::Duration;

use diesel::{
    ExpressionMethods, QueryDsl,
    sql_types::{Array, Bool, Int4, Int8, Interval, Nullable, Text, Uuid},
};
use diesel_async::RunQueryDsl;
use upload_domain::{AttemptId, Dimensions, ImageId, LATE_WRITE, Refusal, Role, UserId, media_key};

use crate::{
    Connection, QueryResult,
    cached::Cached,
    images::{Image, SWEEP_LEASE},
    moment::interval,
    one_row::one_row,
    schema::image_attempt,
    stored::{bigint, integer, words},
};

pub(crate) const LINK: &str = "link";
pub(crate) const UPLOAD: &str = "upload";

/// What an attempt may have left under its media key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing: no whole write was sent to the store.
    Nothing,
    /// Perhaps an object, now or a little later.
    PerhapsAnObject,
}

/// The result of an upload: verified bytes under its own media key.
#[derive(Debug, Clone, Copy)]
pub struct FinishedUpload<'a> {
    /// Which image.
    pub id: ImageId,
    /// The attempt that brought them.
    pub attempt: AttemptId,
    /// Where they are.
    pub media_key: &'a str,
    /// Their length, in bytes.
    pub byte_size: u64,
    /// Their size, in pixels.
    pub dimensions: Dimensions,
}

/// A media key that no image names and no attempt writes any more. The sweep deletes its object, if any, and then the row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct Abandoned {
    /// The row.
    #[diesel(sql_type = Uuid)]
    pub id: uuid::Uuid,
    /// The key.
    #[diesel(sql_type = Text)]
    pub key: String,
}

/// Takes the image for a link. `None` if it is not available: [`standing`](crate::images::standing) says why.
pub async fn claim_link(
    connection: &mut Connection,
    id: ImageId,
    user_id: UserId,
    attempt: AttemptId,
    lease: Duration,
    link_cutoff: Duration,
) -> QueryResult<Option<Image>> {
    claim(connection, id, Some(user_id), (attempt, LINK), lease, link_cutoff).await
}

/// Takes the image for an upload, on behalf of its owner. `None` if it is not available: [`standing`](crate::images::standing) says
/// why.
///
/// The image carries the media key of an earlier upload, if there was one.
pub async fn claim_upload(
    connection: &mut Connection,
    id: ImageId,
    attempt: AttemptId,
    lasts: Duration,
    link_cutoff: Duration,
) -> QueryResult<Option<Image>> {
    claim(connection, id, None, (attempt, UPLOAD), lasts, link_cutoff).await
}

/// Records the result of an upload and ends its attempt. `None` if the attempt no longer holds the image, its time is over, or the image
/// is linked or being removed. The caller then deletes the object.
pub async fn finish_upload(connection: &mut Connection, finished: &FinishedUpload<'_>) -> QueryResult<Option<Image>> {
    let statement = diesel::sql_query(
        "WITH held AS (
             SELECT id, media_key AS replaced_key FROM image
             WHERE id = $1 AND attempt = $2 AND attempt_until > now() AND deleting_at IS NULL AND linked_at IS NULL
             FOR NO KEY UPDATE
         ), finished AS (
             UPDATE image SET
                 media_key = $3, media_byte_size = $4, width = $5, height = $6,
                 attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             FROM held WHERE image.id = held.id
             RETURNING image.*
         ), moved AS (
             DELETE FROM image_attempt USING held WHERE image_attempt.id = $2
         ), replaced AS (
             INSERT INTO image_attempt (id, image_id, key, until)
             SELECT gen_random_uuid(), id, replaced_key, now() + $7 FROM held WHERE replaced_key IS NOT NULL
         )
         SELECT * FROM finished",
    )
    .bind::<Uuid, _>(finished.id.uuid())
    .bind::<Uuid, _>(finished.attempt.uuid())
    .bind::<Text, _>(finished.media_key)
    .bind::<Int8, _>(bigint(finished.byte_size))
    .bind::<Int4, _>(integer(finished.dimensions.width))
    .bind::<Int4, _>(integer(finished.dimensions.height))
    .bind::<Interval, _>(interval(LATE_WRITE));
    Cached(statement).load(connection).await.map(one_row)
}

/// Releases the image. `false` if the attempt no longer held it.
///
/// It waits for a running commit of this attempt, and prevents one that has not begun. Like a commit, it locks the image's row first: the
/// count in the second part makes Postgres run the first part before it.
pub async fn release(connection: &mut Connection, id: ImageId, attempt: AttemptId, left: Left) -> QueryResult<bool> {
    let statement = diesel::sql_query(
        "WITH released AS (
             UPDATE image SET attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             WHERE id = $1 AND attempt = $2
             RETURNING id
         ), forgotten AS (
             DELETE FROM image_attempt WHERE id = $2 AND $3 AND (SELECT count(*) FROM released) >= 0
         )
         SELECT EXISTS (SELECT FROM released) AS held",
    )
    .bind::<Uuid, _>(id.uuid())
    .bind::<Uuid, _>(attempt.uuid())
    .bind::<Bool, _>(left == Left::Nothing);
    let ended: Ended = one_row(Cached(statement).load(connection).await?).ok_or(diesel::NotFound)?;
    Ok(ended.held)
}

/// Records why a body was refused, for every later link, and ends the attempt. `false` if the attempt no longer held the
/// image.
pub async fn refuse(
    connection: &mut Connection,
    id: ImageId,
    attempt: AttemptId,
    refusal: Refusal,
    left: Left,
) -> QueryResult<bool> {
    let statement = diesel::sql_query(
        "WITH refused AS (
             UPDATE image SET refused_code = $4, attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             WHERE id = $1 AND attempt = $2 AND deleting_at IS NULL AND linked_at IS NULL
             RETURNING id
         ), forgotten AS (
             DELETE FROM image_attempt WHERE id = $2 AND $3 AND (SELECT count(*) FROM refused) >= 0
         )
         SELECT EXISTS (SELECT FROM refused) AS held",
    )
    .bind::<Uuid, _>(id.uuid())
    .bind::<Uuid, _>(attempt.uuid())
    .bind::<Bool, _>(left == Left::Nothing)
    .bind::<Text, _>(refusal.as_str());
    let ended: Ended = one_row(Cached(statement).load(connection).await?).ok_or(diesel::NotFound)?;
    Ok(ended.held)
}

/// Ends the attempt that the image was created with, and marks the image for the sweep: nothing else can become of it, and from now on it
/// does not count for its owner's quota. With a refusal, a link answers that. `false` if the attempt no longer held the image.
///
/// Like [`release`], it waits for a running commit of this attempt, and prevents one that has not begun.
pub async fn give_up(
    connection: &mut Connection,
    id: ImageId,
    attempt: AttemptId,
    refusal: Option<Refusal>,
    left: Left,
) -> QueryResult<bool> {
    let statement = diesel::sql_query(
        "WITH given_up AS (
             UPDATE image SET
                 refused_code = $4, deleting_at = coalesce(deleting_at, now()),
                 attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             WHERE id = $1 AND attempt = $2
             RETURNING id
         ), forgotten AS (
             DELETE FROM image_attempt WHERE id = $2 AND $3 AND (SELECT count(*) FROM given_up) >= 0
         )
         SELECT EXISTS (SELECT FROM given_up) AS held",
    )
    .bind::<Uuid, _>(id.uuid())
    .bind::<Uuid, _>(attempt.uuid())
    .bind::<Bool, _>(left == Left::Nothing)
    .bind::<Nullable<Text>, _>(refusal.map(Refusal::as_str));
    let ended: Ended = one_row(Cached(statement).load(connection).await?).ok_or(diesel::NotFound)?;
    Ok(ended.held)
}

/// Takes at most `limit` keys whose last write is over, so that a sweep deletes their objects. Those that a sweep took and did not
/// [`forget`] come back after [`SWEEP_LEASE`]. Any number of sweeps may run at once: each row goes to one of them.
///
/// A key that its image names is never taken, but its row is deleted. Only older servers, which do not write this table, leave such a row.
pub async fn take_abandoned(connection: &mut Connection, limit: u32) -> QueryResult<Vec<Abandoned>> {
    let statement = diesel::sql_query(
        "WITH due AS MATERIALIZED (
             SELECT id FROM image_attempt
             WHERE until < now() AND NOT EXISTS (
                 SELECT FROM image WHERE image.id = image_attempt.image_id AND image.media_key = image_attempt.key
             )
             ORDER BY until
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         ), committed AS (
             DELETE FROM image_attempt USING image
             WHERE until < now() AND image.id = image_attempt.image_id AND image.media_key = image_attempt.key
         )
         UPDATE image_attempt SET until = now() + $1 FROM due WHERE image_attempt.id = due.id
         RETURNING image_attempt.id, image_attempt.key",
    )
    .bind::<Interval, _>(interval(SWEEP_LEASE))
    .bind::<Int8, _>(i64::from(limit));
    Cached(statement).load(connection).await
}

/// Deletes these rows, and returns how many it deleted. Their objects must be deleted before.
pub async fn forget(connection: &mut Connection, ids: &[uuid::Uuid]) -> QueryResult<usize> {
    diesel::delete(image_attempt::table.filter(image_attempt::id.eq_any(ids))).execute(connection).await
}

/// The hold and its row in `image_attempt`, in one statement. Without `user_id` the image can belong to anybody.
async fn claim(
    connection: &mut Connection,
    id: ImageId,
    user_id: Option<UserId>,
    (attempt, kind): (AttemptId, &str),
    lasts: Duration,
    link_cutoff: Duration,
) -> QueryResult<Option<Image>> {
    let statement = diesel::sql_query(
        "WITH claimed AS (
             UPDATE image SET attempt = $1, attempt_kind = $2, attempt_until = now() + $3
             WHERE id = $4 AND ($5 IS NULL OR user_id = $5)
                 AND linked_at IS NULL AND deleting_at IS NULL AND refused_code IS NULL AND created_at > now() - $6
                 AND (attempt_until IS NULL OR attempt_until < now())
                 AND EXISTS (
                     SELECT FROM \"user\" AS owner
                     WHERE owner.id = image.user_id AND owner.status = 'ACTIVE' AND owner.role = ANY ($7)
                 )
             RETURNING image.*
         ), named AS (
             INSERT INTO image_attempt (id, image_id, key, until)
             SELECT attempt, id, $8, attempt_until + $9 FROM claimed
         )
         SELECT * FROM claimed",
    )
    .bind::<Uuid, _>(attempt.uuid())
    .bind::<Text, _>(kind)
    .bind::<Interval, _>(interval(lasts))
    .bind::<Uuid, _>(id.uuid())
    .bind::<Nullable<Uuid>, _>(user_id.map(UserId::uuid))
    .bind::<Interval, _>(interval(link_cutoff))
    .bind::<Array<Text>, _>(words(Role::REGISTERED))
    .bind::<Text, _>(media_key(id, attempt))
    .bind::<Interval, _>(interval(LATE_WRITE));
    Cached(statement).load(connection).await.map(one_row)
}

/// What [`release`], [`refuse`] and [`give_up`] read.
#[derive(diesel::QueryableByName)]
struct Ended {
    #[diesel(sql_type = Bool)]
    held: bool,
}
