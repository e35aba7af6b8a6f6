//! Which objects the rows name, for the two commands that compare the bucket with the database.

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
    sql_types::{Array, Nullable, Text, Uuid},
};
use diesel_async::RunQueryDsl;
use upload_domain::{AttemptId, ImageFormat, ImageId};

use crate::{Connection, QueryResult, cached::Cached, schema::image, stored::Stored};

/// A key that was found in the bucket, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// The key.
    pub key: String,
    /// The image in it.
    pub image: ImageId,
    /// The attempt in it; `None` in an incoming key.
    pub attempt: Option<AttemptId>,
}

/// A key that a row names.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct Named {
    /// The key.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// If this is set, the row names only this version of the key. Without it, all are named.
    #[diesel(sql_type = Nullable<Text>)]
    pub only_version: Option<String>,
}

/// A linked image and what should be in the bucket for it.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = image, check_for_backend(diesel::pg::Pg))]
pub struct LinkedObject {
    /// Which image.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub id: ImageId,
    /// Its format.
    #[diesel(deserialize_as = Stored<ImageFormat>)]
    pub format: ImageFormat,
    /// Where its bytes are; a linked image always has a key.
    pub media_key: Option<String>,
    /// Which version of the key they are; `None` if there is only one.
    pub media_version: Option<String>,
    /// Their length in bytes; a linked image always has one.
    #[diesel(deserialize_as = Stored<Option<u64>>)]
    pub media_byte_size: Option<u64>,
}

/// Those of these keys that a row names: an image, its running attempt, or the trail of attempts. The incoming key of an image is named as
/// long as a client may write to it or a sweep has yet to empty it. After that, the row names only the version that it pins, if any.
///
/// If an old object's key is not named now, it never will be: a row names a key before the first byte of its object, and no key is used
/// twice.
pub async fn find_named(connection: &mut Connection, found: &[FoundKey]) -> QueryResult<Vec<Named>> {
    let statement = diesel::sql_query(
        "SELECT found.key, CASE WHEN NOT swept.later AND found.attempt IS NULL THEN image.media_version END AS only_version
         FROM unnest($1, $2, $3) AS found (key, image_id, attempt)
         LEFT JOIN image ON image.id = found.image_id
         CROSS JOIN LATERAL (
             SELECT image.linked_at IS NULL OR image.incoming_due_at IS NOT NULL OR image.deleting_at IS NOT NULL AS later
         ) AS swept
         WHERE image.media_key = found.key
             OR (image.id IS NOT NULL AND found.attempt IS NULL AND swept.later)
             OR image.attempt = found.attempt
             OR EXISTS (SELECT FROM image_attempt WHERE image_attempt.key = found.key)",
    )
    .bind::<Array<Text>, _>(found.iter().map(|found| found.key.as_str()).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(found.iter().map(|found| found.image.uuid()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Uuid>>, _>(found.iter().map(|found| found.attempt.map(AttemptId::uuid)).collect::<Vec<_>>());
    Cached(statement).load(connection).await
}

/// At most `limit` linked images after this one, by id. Images that a sweep removes are left out.
pub async fn list_linked(
    connection: &mut Connection,
    after: Option<ImageId>,
    limit: u32,
) -> QueryResult<Vec<LinkedObject>> {
    let after = after.map_or(uuid::Uuid::nil(), ImageId::uuid);
    image::table
        .filter(image::id.gt(after))
        .filter(image::linked_at.is_not_null())
        .filter(image::deleting_at.is_null())
        .order(image::id)
        .limit(i64::from(limit))
        .select(LinkedObject::as_select())
        .load(connection)
        .await
}

/// The same of one image, read again; `None` if a sweep removes it or has removed it.
pub async fn find_linked(connection: &mut Connection, id: ImageId) -> QueryResult<Option<LinkedObject>> {
    image::table
        .find(id.uuid())
        .filter(image::linked_at.is_not_null())
        .filter(image::deleting_at.is_null())
        .select(LinkedObject::as_select())
        .first(connection)
        .await
        .optional()
}
