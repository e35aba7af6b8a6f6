//! The `image` table, from the insert of a row to its link or its sweep.
//!
//! A row is *pending* (with or without a live attempt, with or without a media key), *linked*, or *deleting*. Each function
//! here is one of the arrows between these. The arrow to *linked* is in the files of the link tables, since it is one
//! statement with the link itself. How an attempt claims and releases an image is in [`crate::image_attempts`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, OptionalExtension, QueryDsl, QueryableByName, SelectableHelper,
    dsl::{auto_type, exists, now},
    result::Error,
    sql_types::{Array, Binary, Bool, Int8, Interval, Nullable, Text, Timestamptz, Uuid},
};
use diesel_async::RunQueryDsl;
use upload_domain::{
    AttemptId, Dimensions, ImageFormat, ImageId, ImagePath, LATE_WRITE, LinkKind, LinkTarget, Refusal, Role,
    Sha256Checksum, UserId, UserStatus, media_key,
};

use crate::{
    Connection, QueryResult, Verified,
    cached::Cached,
    image_attempts::{LINK, UPLOAD},
    moment::{Moment, ago, interval},
    one_row::one_row,
    quotas::{NotCreated, Quota},
    schema::{image, user},
    stored::{Stored, bigint, words},
};

/// An image's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, QueryableByName, diesel::Selectable)]
#[diesel(table_name = image, check_for_backend(diesel::pg::Pg))]
pub struct Image {
    /// Identifier.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub id: ImageId,
    /// The owner.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub user_id: UserId,
    /// What the image is for.
    #[diesel(deserialize_as = Stored<ImagePath>)]
    pub path: ImagePath,
    /// The declared format.
    #[diesel(deserialize_as = Stored<ImageFormat>)]
    pub format: ImageFormat,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When it was linked; `None` while pending.
    pub linked_at: Option<DateTime<Utc>>,
    /// Length in bytes: the declared one, or `None`, while pending; the real one once linked.
    #[diesel(deserialize_as = Stored<Option<u64>>)]
    pub byte_size: Option<u64>,
    /// The declared SHA-256.
    #[diesel(deserialize_as = Stored<Option<Sha256Checksum>>)]
    pub checksum_sha256: Option<Sha256Checksum>,
    /// Pixels from left to right, once verified.
    #[diesel(deserialize_as = Stored<Option<u32>>)]
    pub width: Option<u32>,
    /// Pixels from top to bottom, once verified.
    #[diesel(deserialize_as = Stored<Option<u32>>)]
    pub height: Option<u32>,
    /// Where verified bytes are; `None` until they are there.
    pub media_key: Option<String>,
    /// Which version of the media key they are, if a link has pinned a version.
    pub media_version: Option<String>,
    /// Length in bytes of the object under the media key. It is separate from `byte_size`, because without a declared length another
    /// upload before the link may have another length.
    #[diesel(deserialize_as = Stored<Option<u64>>)]
    pub media_byte_size: Option<u64>,
    /// The attempt that holds or last held it.
    #[diesel(deserialize_as = Stored<Option<AttemptId>>)]
    pub attempt: Option<AttemptId>,
    /// Why a body was refused for its content.
    #[diesel(deserialize_as = Stored<Option<Refusal>>)]
    pub refused_code: Option<Refusal>,
}

impl Image {
    /// The values to commit, if verified bytes are already under the media key and an attempt holds the image. A link then
    /// only has to commit.
    pub fn verified(&self) -> Option<Verified<'_>> {
        Some(Verified {
            image: self.id,
            user: self.user_id,
            attempt: self.attempt?,
            media_key: self.media_key.as_deref()?,
            media_version: self.media_version.as_deref(),
            byte_size: self.media_byte_size?,
            dimensions: Dimensions { width: self.width?, height: self.height? },
        })
    }
}

/// The image to insert.
#[derive(Debug, Clone, Copy)]
pub struct NewImage {
    /// The id to give, version 7.
    pub id: ImageId,
    /// The owner.
    pub user_id: UserId,
    /// What the image is for.
    pub path: ImagePath,
    /// The declared format.
    pub format: ImageFormat,
    /// The declared length in bytes.
    pub byte_size: Option<u64>,
    /// The declared SHA-256.
    pub checksum_sha256: Option<Sha256Checksum>,
    /// The upload that begins together with the row, if one does.
    pub upload: Option<UploadAttempt>,
}

/// An upload that begins now.
#[derive(Debug, Clone, Copy)]
pub struct UploadAttempt {
    /// Its id, part of the media key that it writes.
    pub attempt: AttemptId,
    /// How long it may take.
    pub lasts: Duration,
}

/// The state of an image that could not be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does not exist, or it belongs to another user.
    Missing,
    /// It exists, but its owner's role or status does not allow this.
    Forbidden,
    /// It has been linked to this, and that link is live (`true`) or has ended.
    Linked(LinkTarget, bool),
    /// A link is being made.
    LinkInProgress,
    /// An upload is under way.
    UploadInProgress,
    /// It is too old, or being removed without a refusal, or its own upload has failed.
    Expired,
    /// A body was refused for its content.
    Refused(Refusal),
    /// It is available now.
    Pending,
}

/// What is needed to serve an image.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Served {
    /// Where its bytes are.
    #[diesel(sql_type = Text)]
    pub media_key: String,
    /// Which version of the key they are; `None` if there is only one.
    #[diesel(sql_type = Nullable<Text>)]
    pub media_version: Option<String>,
}

/// A linked image whose incoming key a sweep has taken, to empty it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct LinkedIncoming {
    /// Which image, and so its incoming key.
    #[diesel(sql_type = Uuid, deserialize_as = uuid::Uuid)]
    pub id: ImageId,
    /// The version of this key that is served, and that must stay.
    #[diesel(sql_type = Nullable<Text>)]
    pub media_version: Option<String>,
}

/// A row that a sweep has taken. The sweep deletes its objects, and then the row.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Doomed {
    /// Which image, and so its incoming key.
    #[diesel(sql_type = Uuid, deserialize_as = uuid::Uuid)]
    pub id: ImageId,
    /// Where verified bytes are.
    #[diesel(sql_type = Nullable<Text>)]
    pub media_key: Option<String>,
    /// The last attempt, if it never ended. Older servers, which do not write `image_attempt`, keep its key in no other row.
    #[diesel(sql_type = Nullable<Uuid>, deserialize_as = Stored<Option<AttemptId>>)]
    pub attempt: Option<AttemptId>,
}

/// How long a sweep may keep a row before another sweep may take it over.
pub const SWEEP_LEASE: Duration = Duration::from_secs(45);

/// Adds a pending image, and the attempt of the upload that begins with it. Or says why not: the user may not create it, or has no room
/// for it. A user who may not create it is not locked, and their images are not counted.
pub async fn insert_pending(
    connection: &mut Connection,
    new: &NewImage,
    quota: &Quota,
) -> QueryResult<Result<Image, NotCreated>> {
    let attempt = new.upload.map(|upload| upload.attempt);
    let statement = diesel::sql_query(
        "WITH standing AS MATERIALIZED (
             SELECT owner.id AS owner_id, quota.pending_wait, quota.bytes_wait
             FROM \"user\" AS owner
             CROSS JOIN LATERAL image_quota_wait(owner.id, $13, $14, $15, $16, $17) AS quota
             WHERE owner.id = $9 AND owner.status = 'ACTIVE' AND owner.role = ANY ($10)
         ), created AS (
             INSERT INTO image (
                 id, user_id, path, format, byte_size, checksum_sha256, attempt, attempt_kind, attempt_until
             )
             SELECT $1, owner_id, $2, $3, $4, $5, $6, $7, now() + $8
             FROM standing WHERE pending_wait IS NULL AND bytes_wait IS NULL
             RETURNING image.*
         ), named AS (
             INSERT INTO image_attempt (id, image_id, key, until)
             SELECT attempt, id, $11, attempt_until + $12 FROM created WHERE attempt IS NOT NULL
         )
         SELECT created.*, standing.owner_id IS NOT NULL AS may_create, standing.pending_wait, standing.bytes_wait
         FROM (VALUES (1)) AS one
         LEFT JOIN standing ON true
         LEFT JOIN created ON true",
    )
    .bind::<Uuid, _>(new.id.uuid())
    .bind::<Text, _>(new.path.as_str())
    .bind::<Text, _>(new.format.as_str())
    .bind::<Nullable<Int8>, _>(new.byte_size.map(bigint))
    .bind::<Nullable<Binary>, _>(new.checksum_sha256.map(|checksum| checksum.as_bytes().to_vec()))
    .bind::<Nullable<Uuid>, _>(attempt.map(AttemptId::uuid))
    .bind::<Nullable<Text>, _>(attempt.map(|_| UPLOAD))
    .bind::<Nullable<Interval>, _>(new.upload.map(|upload| interval(upload.lasts)))
    .bind::<Uuid, _>(new.user_id.uuid())
    .bind::<Array<Text>, _>(words(new.path.creator_roles()))
    .bind::<Nullable<Text>, _>(attempt.map(|attempt| media_key(new.id, attempt)))
    .bind::<Interval, _>(interval(LATE_WRITE))
    .bind::<Int8, _>(quota.counted_bytes(new))
    .bind::<Int8, _>(i64::from(quota.max_pending))
    .bind::<Interval, _>(interval(quota.pending_for))
    .bind::<Int8, _>(bigint(quota.max_bytes_per_day))
    .bind::<Int8, _>(bigint(quota.unknown_bytes));
    let inserted = one_row(Cached(statement).load(connection).await?).ok_or(diesel::NotFound)?;
    let Insertion { image, may_create, pending_wait, bytes_wait } = inserted;
    Ok(image.ok_or_else(|| NotCreated::new(may_create, pending_wait, bytes_wait)))
}

/// The image, if it belongs to this user, the user is allowed to act, and a client can still upload to it. The second value is the
/// database's time, at which a form's lifetime starts.
pub async fn find_pending(
    connection: &mut Connection,
    id: ImageId,
    user_id: UserId,
    link_cutoff: Duration,
) -> QueryResult<Option<(Image, DateTime<Utc>)>> {
    image::table
        .find(id.uuid())
        .filter(image::user_id.eq(user_id.uuid()))
        .filter(open(ago(link_cutoff)))
        .filter(owner_may_act())
        .select((Image::as_select(), now.into_sql::<Timestamptz>()))
        .first(connection)
        .await
        .optional()
}

/// The row, after a running transaction on it has ended. For commits whose outcome is unknown.
pub async fn find_for_update(connection: &mut Connection, id: ImageId) -> QueryResult<Option<Image>> {
    image::table.find(id.uuid()).select(Image::as_select()).for_update().first(connection).await.optional()
}

/// What is served under this id, while a live link to it exists.
pub async fn find_served(connection: &mut Connection, id: ImageId) -> QueryResult<Option<Served>> {
    let statement = diesel::sql_query(
        "SELECT media_key, media_version FROM image
         WHERE id = $1 AND linked_at IS NOT NULL
             AND EXISTS (SELECT FROM image_link WHERE image_id = image.id AND ended_at IS NULL)",
    )
    .bind::<Uuid, _>(id.uuid());
    Cached(statement).load(connection).await.map(one_row)
}

/// Any image that is pinned by version; `None` if there is none. No index has these rows, so without one it reads the whole table.
pub async fn find_pinned_by_version(connection: &mut Connection) -> QueryResult<Option<Served>> {
    let statement =
        diesel::sql_query("SELECT media_key, media_version FROM image WHERE media_version IS NOT NULL LIMIT 1");
    statement.get_result(connection).await.optional()
}

/// The state of the image, read after a failed claim. With `user_id`, another user's image counts as missing.
pub async fn standing(
    connection: &mut Connection,
    id: ImageId,
    user_id: Option<UserId>,
    link_cutoff: Duration,
) -> QueryResult<Standing> {
    let statement = diesel::sql_query(
        "SELECT
             (owner.status = 'ACTIVE' AND owner.role = ANY ($4)) AS may_act,
             image.linked_at IS NOT NULL AS linked,
             (image.deleting_at IS NOT NULL AND image.refused_code IS NULL OR image.created_at <= now() - $3) AS expired,
             CASE WHEN image.attempt_until >= now() THEN image.attempt_kind END AS running,
             image.refused_code,
             link.target,
             link.target_id,
             link.ended_at IS NULL AS live
         FROM image
         JOIN \"user\" AS owner ON owner.id = image.user_id
         LEFT JOIN image_link AS link ON link.image_id = image.id
         WHERE image.id = $1 AND ($2 IS NULL OR image.user_id = $2)",
    )
    .bind::<Uuid, _>(id.uuid())
    .bind::<Nullable<Uuid>, _>(user_id.map(UserId::uuid))
    .bind::<Interval, _>(interval(link_cutoff))
    .bind::<Array<Text>, _>(words(Role::REGISTERED));
    let row: Option<StandingRow> = one_row(Cached(statement).load(connection).await?);
    row.map_or(Ok(Standing::Missing), |row| row.standing())
}

/// Takes at most `limit` pending images that are older than `pending_ttl` and that no live attempt holds: nobody can claim
/// them any more. Also those that a sweep took at least [`SWEEP_LEASE`] ago and did not finish. Any number of sweeps may run at
/// once: each row goes to one of them.
pub async fn mark_expired(connection: &mut Connection, pending_ttl: Duration, limit: u32) -> QueryResult<Vec<Doomed>> {
    let statement = diesel::sql_query(
        "WITH expired AS MATERIALIZED (
             SELECT id FROM image
             WHERE linked_at IS NULL
                 AND created_at < now() - $1
                 AND (attempt_until IS NULL OR attempt_until < now())
                 AND (deleting_at IS NULL OR deleting_at < now() - $2)
             ORDER BY created_at
             LIMIT $3
             FOR UPDATE SKIP LOCKED
         )
         UPDATE image SET deleting_at = now() FROM expired WHERE image.id = expired.id
         RETURNING image.id, image.media_key, image.attempt",
    )
    .bind::<Interval, _>(interval(pending_ttl))
    .bind::<Interval, _>(interval(SWEEP_LEASE))
    .bind::<Int8, _>(i64::from(limit));
    Cached(statement).load(connection).await
}

/// Deletes these rows if they are still marked, and returns how many it deleted. Their objects must be deleted before. Their media keys
/// go to `image_attempt`, because a write that a retry has overtaken may still arrive.
pub async fn delete_marked(connection: &mut Connection, ids: &[ImageId]) -> QueryResult<usize> {
    let statement = diesel::sql_query(
        "WITH gone AS (
             DELETE FROM image WHERE id = ANY ($1) AND deleting_at IS NOT NULL AND linked_at IS NULL
             RETURNING id, media_key
         ), left_over AS (
             INSERT INTO image_attempt (id, image_id, key, until)
             SELECT gen_random_uuid(), id, media_key, now() + $2 FROM gone WHERE media_key IS NOT NULL
         )
         SELECT id FROM gone",
    )
    .bind::<Array<Uuid>, _>(ids.iter().copied().map(ImageId::uuid).collect::<Vec<_>>())
    .bind::<Interval, _>(interval(LATE_WRITE));
    Cached(statement).execute(connection).await
}

/// Takes at most `limit` linked images whose incoming key nobody can write to any more, so that a sweep empties it: a form may be
/// used for `form_life` after the link. Those that a sweep took and did not finish come back after [`SWEEP_LEASE`]; those for
/// which [`incoming_emptied`] was called never do. Any number of sweeps may run at once: each row goes to one of them.
pub async fn take_incoming(
    connection: &mut Connection,
    form_life: Duration,
    limit: u32,
) -> QueryResult<Vec<LinkedIncoming>> {
    let statement = diesel::sql_query(
        "WITH due AS MATERIALIZED (
             SELECT id FROM image
             WHERE linked_at < now() - $1 AND incoming_due_at <= now()
             ORDER BY linked_at
             LIMIT $3
             FOR NO KEY UPDATE SKIP LOCKED
         )
         UPDATE image SET incoming_due_at = now() + $2 FROM due WHERE image.id = due.id
         RETURNING image.id, image.media_version",
    )
    .bind::<Interval, _>(interval(form_life))
    .bind::<Interval, _>(interval(SWEEP_LEASE))
    .bind::<Int8, _>(i64::from(limit));
    Cached(statement).load(connection).await
}

/// Records that nothing but a pinned version is under the incoming keys of these linked images, and never will be. Returns for how many
/// that was new.
pub async fn incoming_emptied(connection: &mut Connection, ids: &[ImageId]) -> QueryResult<usize> {
    let ids: Vec<uuid::Uuid> = ids.iter().copied().map(ImageId::uuid).collect();
    let never: Option<DateTime<Utc>> = None;
    let target = image::table
        .filter(image::id.eq_any(ids))
        .filter(image::linked_at.is_not_null())
        .filter(image::incoming_due_at.is_not_null());
    Cached(diesel::update(target).set(image::incoming_due_at.eq(never))).execute(connection).await
}

/// A client may still upload to it and link it.
#[auto_type(no_type_alias)]
fn open(youngest: Moment) -> _ {
    image::linked_at
        .is_null()
        .and(image::deleting_at.is_null())
        .and(image::refused_code.is_null())
        .and(image::created_at.gt(youngest))
}

/// What [`insert_pending`] reads: the image, or why there is none.
#[derive(QueryableByName)]
struct Insertion {
    #[diesel(embed)]
    image: Option<Image>,
    #[diesel(sql_type = Bool)]
    may_create: bool,
    #[diesel(sql_type = Nullable<Int8>)]
    pending_wait: Option<i64>,
    #[diesel(sql_type = Nullable<Int8>)]
    bytes_wait: Option<i64>,
}

/// What [`standing`] reads.
#[derive(QueryableByName)]
struct StandingRow {
    #[diesel(sql_type = Bool)]
    may_act: bool,
    #[diesel(sql_type = Bool)]
    linked: bool,
    #[diesel(sql_type = Bool)]
    expired: bool,
    #[diesel(sql_type = Nullable<Text>)]
    running: Option<String>,
    #[diesel(sql_type = Nullable<Text>, deserialize_as = Stored<Option<Refusal>>)]
    refused_code: Option<Refusal>,
    #[diesel(sql_type = Nullable<Text>, deserialize_as = Stored<Option<LinkKind>>)]
    target: Option<LinkKind>,
    #[diesel(sql_type = Nullable<Uuid>)]
    target_id: Option<uuid::Uuid>,
    #[diesel(sql_type = Bool)]
    live: bool,
}

impl StandingRow {
    fn standing(&self) -> QueryResult<Standing> {
        Ok(match self {
            Self { may_act: false, .. } => Standing::Forbidden,
            Self { linked: true, target: Some(kind), target_id: Some(id), live, .. } => {
                Standing::Linked(LinkTarget::new(*kind, *id), *live)
            }
            Self { linked: true, .. } => {
                return Err(Error::DeserializationError(
                    "the image is linked, but image_link does not say to what".into(),
                ));
            }
            Self { running: Some(kind), .. } if kind == LINK => Standing::LinkInProgress,
            Self { running: Some(_upload), .. } => Standing::UploadInProgress,
            Self { expired: true, .. } => Standing::Expired,
            Self { refused_code: Some(refusal), .. } => Standing::Refused(*refusal),
            Self { .. } => Standing::Pending,
        })
    }
}

/// Its owner is ACTIVE and registered.
#[auto_type(no_type_alias)]
fn owner_may_act() -> _ {
    let active: &'static str = UserStatus::Active.as_str();
    let registered: Vec<&'static str> = words(Role::REGISTERED);
    exists(
        user::table
            .filter(user::id.eq(image::user_id))
            .filter(user::status.eq(active))
            .filter(user::role.eq_any(registered)),
    )
}
