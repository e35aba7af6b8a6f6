//! Posts and their images.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use upload_domain::{ImageId, PostId};
use upload_link::PostText;
use upload_persistence::{posts, users};
use utoipa::{
    ToSchema,
    openapi::{Array, Object, Response, schema::ArrayBuilder},
};

use super::{ByCaller, LINK, NOT_PENDING, users::EXAMPLE_ID};
use crate::{ApiError, Caller, Code, Operation, Shared, schemas, views::PostView};

/// Most images of one post.
const MAX_IMAGES: usize = 10;
/// Longest title, in characters.
const MAX_TITLE: usize = 200;
/// Longest content, in characters; with its JSON it fits into the longest body.
const MAX_CONTENT: usize = 10_000;

/// The post to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreatePost {
    #[schema(schema_with = title)]
    title: String,
    #[schema(schema_with = content)]
    content: String,
    #[schema(schema_with = image_ids)]
    image_entity_ids: Vec<ImageId>,
}

#[derive(Serialize, ToSchema)]
struct PostBody {
    post: PostView,
}

impl CreatePost {
    fn check(&self) -> Result<(), ApiError> {
        if !(1..=MAX_TITLE).contains(&self.title.chars().count()) || self.content.chars().count() > MAX_CONTENT {
            return Err(ApiError::invalid_request(format!(
                "The title must have 1 to {MAX_TITLE} characters, and the content at most {MAX_CONTENT}."
            )));
        }
        // Postgres accepts every character in a text except this one.
        if self.title.contains('\0') || self.content.contains('\0') {
            return Err(ApiError::invalid_request("The title and the content must not contain U+0000."));
        }
        let mut distinct = self.image_entity_ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() != self.image_entity_ids.len() || distinct.len() > MAX_IMAGES {
            return Err(ApiError::invalid_request(format!(
                "A post can have at most {MAX_IMAGES} images, and each image only once."
            )));
        }
        Ok(())
    }
}

fn title() -> Object {
    schemas::bounded_text(1, MAX_TITLE)
}

fn content() -> Object {
    schemas::bounded_text(0, MAX_CONTENT)
}

fn image_ids() -> Array {
    let description = "Images with the `path` `post`, in the order in which to show them.";
    let array = ArrayBuilder::new().items(schemas::uuid()).max_items(Some(MAX_IMAGES)).unique_items(true);
    array.description(Some(description)).build()
}

/// The group of these routes.
const TAG: &str = "Posts";

pub(super) fn create_operation() -> Operation {
    let post = json!({ "title": "Sunday", "content": "At the lake", "imageEntityIds": [EXAMPLE_ID] });
    Operation::new(TAG, "createPost", "Create a post with its images")
        .description("Either all images are linked, or none and no post is created; `imageEntityId` in the problem then names the image.")
        .bearer()
        .json::<CreatePost>(&[("post", post)])
        .answers::<PostBody>(StatusCode::CREATED, "The post and its images, in order.")
        .refuses(NOT_PENDING)
        .refuses(LINK)
        .database()
}

pub(super) fn show_operation() -> Operation {
    Operation::new(TAG, "getPost", "Read a post")
        .answers::<PostBody>(StatusCode::OK, "The post and its images, in order.")
        .refuses(&[Code::PostNotFound])
        .database()
}

pub(super) fn delete_operation() -> Operation {
    Operation::new(TAG, "deletePost", "Delete your own post")
        .description("The server no longer serves its images. A bucket URL that a client has kept may still work.")
        .bearer()
        .answers_with(StatusCode::NO_CONTENT, Response::new("Deleted."))
        .refuses(&[Code::PostNotFound])
        .database()
}

/// `POST /user/posts`: a post with its images, or nothing.
pub(super) async fn create(
    ByCaller { caller, body }: ByCaller<CreatePost>,
    shared: Data<Shared>,
) -> Result<HttpResponse, ApiError> {
    body.check()?;
    let CreatePost { title, content, image_entity_ids } = body;
    let (post, images) =
        shared.links.create_post(caller.user_id, PostText { title, content }, image_entity_ids).await?;
    Ok(HttpResponse::Created().json(PostBody { post: PostView::new(&shared, post, &images) }))
}

/// `GET /posts/{id}`.
pub(super) async fn show(shared: Data<Shared>, id: Path<PostId>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    let (post, images) = posts::find_live(&mut connection, *id).await?.ok_or_else(post_not_found)?;
    Ok(HttpResponse::Ok().json(PostBody { post: PostView::new(&shared, post, &images) }))
}

/// `DELETE /user/posts/{id}`: the caller's own; the server no longer shows its images.
pub(super) async fn delete(caller: Caller, shared: Data<Shared>, id: Path<PostId>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    users::find_active(&mut connection, caller.user_id).await?.ok_or_else(ApiError::forbidden)?;
    if !posts::delete(&mut connection, *id, caller.user_id).await? {
        return Err(post_not_found());
    }
    Ok(HttpResponse::NoContent().finish())
}

fn post_not_found() -> ApiError {
    ApiError::new(Code::PostNotFound, "There is no such post.")
}
