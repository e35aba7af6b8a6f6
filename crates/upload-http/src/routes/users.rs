//! The caller and their profile image.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use serde::{Deserialize, Serialize};
use upload_domain::ImageId;
use upload_persistence::{profile_images, users};

use crate::{
    ApiError, Caller, Shared,
    link::{Linked, Profile, link},
    views::{LinkedImage, Me, UserProfileImage},
};

/// Which image to link.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LinkImage {
    pub(super) image_entity_id: ImageId,
}

#[derive(Serialize)]
struct UserBody {
    user: Me,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileImageBody {
    user_profile_image: UserProfileImage,
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
    caller: Caller,
    shared: Data<Shared>,
    body: Json<LinkImage>,
) -> Result<HttpResponse, ApiError> {
    let pipeline = link(Shared::clone(&shared), caller, body.image_entity_id, Profile);
    let (mut response, row) = match shared.background.run(pipeline).await? {
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
