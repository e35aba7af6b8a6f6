//! The caller and their profile image.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use upload_domain::ImageId;
use upload_link::{Linked, Profile};
use upload_persistence::{profile_images, users};
use utoipa::{ToSchema, openapi::Response};

use super::{ByCaller, LINK, NOT_PENDING};
use crate::{
    ApiError, Caller, Operation, Shared,
    views::{LinkedImage, Me, UserProfileImage},
};

/// The image to link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LinkImage {
    #[schema(value_type = Uuid)]
    pub(super) image_entity_id: ImageId,
}

#[derive(Serialize, ToSchema)]
struct UserBody {
    user: Me,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileImageBody {
    user_profile_image: UserProfileImage,
}

/// The group of these routes.
const TAG: &str = "Users";
/// Stands for an image's id in examples.
pub(super) const EXAMPLE_ID: &str = "0199a0c4-5d3e-7c6a-9b1f-2f6d0c8e4a71";

pub(super) fn link_example() -> (&'static str, Value) {
    ("image", json!({ "imageEntityId": EXAMPLE_ID }))
}

pub(super) fn me_operation() -> Operation {
    Operation::new(TAG, "getMe", "Read the caller")
        .bearer()
        .answers::<UserBody>(StatusCode::OK, "The caller and their profile image, if there is one.")
        .database()
}

pub(super) fn link_profile_image_operation() -> Operation {
    Operation::new(TAG, "createProfileImage", "Link an image to the caller's profile")
        .description("The image's `path` must be `user-profile`.")
        .bearer()
        .json::<LinkImage>(&[link_example()])
        .answers::<ProfileImageBody>(StatusCode::CREATED, "The image is linked and replaces the earlier profile image.")
        .answers::<ProfileImageBody>(StatusCode::OK, "The image was already linked to this profile; nothing changed.")
        .refuses(NOT_PENDING)
        .refuses(LINK)
        .database()
}

pub(super) fn delete_profile_image_operation() -> Operation {
    Operation::new(TAG, "deleteProfileImage", "Remove the profile image")
        .description("The image cannot be linked again.")
        .bearer()
        .answers_with(
            StatusCode::NO_CONTENT,
            Response::new("The caller has no profile image now, whether or not there was one before."),
        )
        .database()
}

/// `GET /user/users/me`.
pub(super) async fn me(caller: Caller, shared: Data<Shared>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    let user = users::find_active(&mut connection, caller.user_id).await?.ok_or_else(ApiError::forbidden)?;
    let live = profile_images::find_live(&mut connection, caller.user_id).await?;
    let images = live.iter().map(|(_link, image)| LinkedImage::new(&shared, image)).collect();
    Ok(HttpResponse::Ok().json(UserBody { user: Me::new(user, images) }))
}

/// `POST /user/users/profile-image`: links an image to the caller's profile, in place of the one before.
pub(super) async fn link_profile_image(
    ByCaller { caller, body }: ByCaller<LinkImage>,
    shared: Data<Shared>,
) -> Result<HttpResponse, ApiError> {
    let linked = shared.links.link(caller.user_id, body.image_entity_id, Profile).await?;
    let (mut response, row) = match linked {
        Linked::Now(row) => (HttpResponse::Created(), row),
        Linked::Before(row) => (HttpResponse::Ok(), row),
    };
    Ok(response.json(ProfileImageBody { user_profile_image: row.into() }))
}

/// `DELETE /user/users/profile-image`: ends the live link, if there is one.
pub(super) async fn delete_profile_image(caller: Caller, shared: Data<Shared>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    users::find_active(&mut connection, caller.user_id).await?.ok_or_else(ApiError::forbidden)?;
    profile_images::delete_live(&mut connection, caller.user_id).await?;
    Ok(HttpResponse::NoContent().finish())
}
