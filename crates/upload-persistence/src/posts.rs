//! The `post` table. A post is made together with its images, all or none, and they are served as long as it lives.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
    sql_types::{Array, Int4, Int8, Nullable, Text, Uuid},
};
use diesel_async::RunQueryDsl;
use upload_domain::{ImageId, ImagePath, PostId, Role, UserId};

use crate::{
    Connection, QueryError, QueryResult, Verified,
    cached::Cached,
    images::Image,
    one_row::one_row,
    post_images,
    schema::post,
    stored::{bigint, integer, words},
};

/// A post's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::QueryableByName, diesel::Selectable)]
#[diesel(table_name = post, check_for_backend(diesel::pg::Pg))]
pub struct Post {
    /// Identifier.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub id: PostId,
    /// Who wrote it.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub user_id: UserId,
    /// Title.
    pub title: String,
    /// Text.
    pub content: String,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
}

/// The post to insert.
#[derive(Debug, Clone, Copy)]
pub struct NewPost<'a> {
    /// The id to give.
    pub id: PostId,
    /// Who writes it.
    pub user_id: UserId,
    /// Title.
    pub title: &'a str,
    /// Text.
    pub content: &'a str,
}

/// Why a post was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Its author is not ACTIVE or not registered.
    #[error("the author may not act")]
    Forbidden,
    /// The attempt on this image does not hold it any more.
    #[error("the hold on image {0} was lost")]
    HoldLost(ImageId),
    /// The database failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Makes a post of these images, in this order, and ends their attempts: all or none, in one statement.
pub async fn create(
    connection: &mut Connection,
    new: &NewPost<'_>,
    images: &[Verified<'_>],
) -> Result<Post, CreateError> {
    if let Some(post) = create_at_once(connection, new, images).await? {
        return Ok(post);
    }
    // The reason is read afterwards: an attempt that has lost its image never gets it back.
    let held = list_held(connection, new.user_id, images).await?;
    let lost = images.iter().map(|verified| verified.image).find(|image| !held.contains(&image.uuid()));
    Err(lost.map_or(CreateError::Forbidden, CreateError::HoldLost))
}

/// The post, unless it has been deleted, and its images in their order.
pub async fn find_live(connection: &mut Connection, id: PostId) -> QueryResult<Option<(Post, Vec<Image>)>> {
    let found = post::table
        .find(id.uuid())
        .filter(post::deleted_at.is_null())
        .select(Post::as_select())
        .first(connection)
        .await
        .optional()?;
    let Some(post) = found else { return Ok(None) };
    let images = post_images::list(connection, id).await?;
    Ok(Some((post, images)))
}

/// Deletes the user's post. `false` if it does not exist, belongs to another user, or the user is not allowed to act.
pub async fn delete(connection: &mut Connection, id: PostId, user: UserId) -> QueryResult<bool> {
    let statement = diesel::sql_query(
        "UPDATE post SET deleted_at = now() FROM \"user\" AS author
         WHERE post.id = $1 AND post.user_id = $2 AND deleted_at IS NULL
             AND author.id = post.user_id AND author.status = 'ACTIVE' AND author.role = ANY ($3)",
    )
    .bind::<Uuid, _>(id.uuid())
    .bind::<Uuid, _>(user.uuid())
    .bind::<Array<Text>, _>(words(Role::REGISTERED));
    Ok(Cached(statement).execute(connection).await? == 1)
}

/// Locks the images in id order, then writes only where every one of them is held.
async fn create_at_once(
    connection: &mut Connection,
    new: &NewPost<'_>,
    images: &[Verified<'_>],
) -> QueryResult<Option<Post>> {
    let statement = diesel::sql_query(
        "WITH given AS (
             SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $13) WITH ORDINALITY
                 AS given (image_id, attempt, media_key, byte_size, width, height, media_version, place)
         ), author AS (
             SELECT id FROM \"user\" WHERE id = $7 AND status = 'ACTIVE' AND role = ANY ($8)
         ), held AS (
             SELECT image.id
             FROM given
             JOIN image ON image.id = given.image_id AND image.attempt = given.attempt
             JOIN author ON author.id = image.user_id
             WHERE image.path = $9 AND image.attempt_until > now()
                 AND image.linked_at IS NULL AND image.deleting_at IS NULL AND image.refused_code IS NULL
             ORDER BY image.id
             FOR NO KEY UPDATE OF image
         ), created AS (
             INSERT INTO post (id, user_id, title, content)
             SELECT $10, author.id, $11, $12 FROM author
             WHERE (SELECT count(*) FROM held) = (SELECT count(*) FROM given)
             RETURNING *
         ), linked AS (
             UPDATE image SET
                 linked_at = now(), media_key = given.media_key, media_version = given.media_version,
                 media_byte_size = given.byte_size, byte_size = given.byte_size, width = given.width, height = given.height,
                 attempt = NULL, attempt_kind = NULL, attempt_until = NULL
             FROM given, created
             WHERE image.id = given.image_id
             RETURNING image.id, given.place, created.id AS post_id
         ), moved AS (
             DELETE FROM image_attempt USING given, created WHERE image_attempt.id = given.attempt
         ), placed AS (
             INSERT INTO post_image (post_id, image_id, sequence)
             SELECT post_id, id, (place - 1)::integer FROM linked
         )
         SELECT id, user_id, title, content, created_at FROM created",
    )
    .bind::<Array<Uuid>, _>(images.iter().map(|verified| verified.image.uuid()).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(images.iter().map(|verified| verified.attempt.uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(images.iter().map(|verified| verified.media_key).collect::<Vec<_>>())
    .bind::<Array<Int8>, _>(images.iter().map(|verified| bigint(verified.byte_size)).collect::<Vec<_>>())
    .bind::<Array<Int4>, _>(images.iter().map(|verified| integer(verified.dimensions.width)).collect::<Vec<_>>())
    .bind::<Array<Int4>, _>(images.iter().map(|verified| integer(verified.dimensions.height)).collect::<Vec<_>>())
    .bind::<Uuid, _>(new.user_id.uuid())
    .bind::<Array<Text>, _>(words(Role::REGISTERED))
    .bind::<Text, _>(ImagePath::Post.as_str())
    .bind::<Uuid, _>(new.id.uuid())
    .bind::<Text, _>(new.title)
    .bind::<Text, _>(new.content)
    .bind::<Array<Nullable<Text>>, _>(images.iter().map(|verified| verified.media_version).collect::<Vec<_>>());
    Cached(statement).load(connection).await.map(one_row)
}

/// Which of these images their attempts still hold.
async fn list_held(connection: &mut Connection, user: UserId, images: &[Verified<'_>]) -> QueryResult<Vec<uuid::Uuid>> {
    let statement = diesel::sql_query(
        "SELECT image.id
         FROM unnest($1, $2) AS given (image_id, attempt)
         JOIN image ON image.id = given.image_id AND image.attempt = given.attempt
         WHERE image.user_id = $3 AND image.path = $4 AND image.attempt_until > now()
             AND image.linked_at IS NULL AND image.deleting_at IS NULL AND image.refused_code IS NULL",
    )
    .bind::<Array<Uuid>, _>(images.iter().map(|verified| verified.image.uuid()).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(images.iter().map(|verified| verified.attempt.uuid()).collect::<Vec<_>>())
    .bind::<Uuid, _>(user.uuid())
    .bind::<Text, _>(ImagePath::Post.as_str());
    let held: Vec<HeldRow> = Cached(statement).load(connection).await?;
    Ok(held.into_iter().map(|row| row.id).collect())
}

#[derive(diesel::QueryableByName)]
struct HeldRow {
    #[diesel(sql_type = Uuid)]
    id: uuid::Uuid,
}
