//! What a user may create before they must wait: so many pending images, and so many bytes in 24 hours.
//!
//! The statement that creates an image asks the function `image_quota_wait`, which locks the user's row. So of two creates at once, the
//! second one counts the first one's image. The migration has the function and its reason.

use std::time::Duration;

use diesel::sql_types::{Array, Bool, Int8, Interval, Nullable, Text, Uuid};
use diesel_async::RunQueryDsl;
use upload_domain::UserId;

use crate::{
    Connection, QueryResult,
    cached::Cached,
    images::NewImage,
    moment::interval,
    stored::{bigint, words},
};

/// The most that one user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Pending images; 0 for any number.
    pub max_pending: u32,
    /// How long an image counts as pending, if it is not linked.
    pub pending_for: Duration,
    /// Bytes of the images that were created in the last 24 hours; 0 for any number. An image counts with its declared or stored length.
    pub max_bytes_per_day: u64,
    /// The length with which an image counts before its length is known.
    pub unknown_bytes: u64,
}

/// Why an image was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCreated {
    /// The user is not ACTIVE, or has no role that may create images for this path.
    Forbidden,
    /// The user has too many pending images. Without a link, the next place becomes free after this time.
    TooManyPending(Duration),
    /// The user has created too many bytes in 24 hours. There is room for this image after this time.
    TooManyBytes(Duration),
}

impl Quota {
    /// No limits.
    pub const UNLIMITED: Self =
        Self { max_pending: 0, pending_for: Duration::ZERO, max_bytes_per_day: 0, unknown_bytes: 0 };

    /// The length with which a new image counts.
    pub(crate) fn counted_bytes(&self, new: &NewImage) -> i64 {
        bigint(new.byte_size.unwrap_or(self.unknown_bytes))
    }
}

/// What [`why_not_created`] reads.
#[derive(diesel::QueryableByName)]
struct Standing {
    #[diesel(sql_type = Bool)]
    may_create: bool,
    #[diesel(sql_type = Nullable<Int8>)]
    pending_wait: Option<i64>,
    #[diesel(sql_type = Nullable<Int8>)]
    bytes_wait: Option<i64>,
}

/// The reason why [`crate::images::insert_pending`] has just created nothing. If there is room again by now, the wait is one second.
pub async fn why_not_created(connection: &mut Connection, new: &NewImage, quota: &Quota) -> QueryResult<NotCreated> {
    let statement = diesel::sql_query(
        "SELECT
             EXISTS (SELECT FROM \"user\" WHERE id = $1 AND status = 'ACTIVE' AND role = ANY ($7)) AS may_create,
             pending_wait, bytes_wait
         FROM image_quota_wait($1, $2, $3, $4, $5, $6)",
    )
    .bind::<Uuid, _>(UserId::uuid(new.user_id))
    .bind::<Int8, _>(quota.counted_bytes(new))
    .bind::<Int8, _>(i64::from(quota.max_pending))
    .bind::<Interval, _>(interval(quota.pending_for))
    .bind::<Int8, _>(bigint(quota.max_bytes_per_day))
    .bind::<Int8, _>(bigint(quota.unknown_bytes))
    .bind::<Array<Text>, _>(words(new.path.creator_roles()));
    let Standing { may_create, pending_wait, bytes_wait } = Cached(statement).get_result(connection).await?;
    let wait = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1));
    Ok(match (pending_wait, bytes_wait) {
        _ if !may_create => NotCreated::Forbidden,
        // Whoever has neither must wait for both.
        (_, Some(bytes)) if bytes >= pending_wait.unwrap_or(0) => NotCreated::TooManyBytes(wait(bytes)),
        (pending, _) => NotCreated::TooManyPending(wait(pending.unwrap_or(0))),
    })
}
