//! Images before they are linked, and reading them afterwards.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::{Data, Json, Path},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use upload_domain::{ImageFormat, ImageId, ImagePath, Refusal, Sha256Checksum};
use upload_persistence::images::{self, Image, NewImage, Standing};
use upload_storage::ReadUrl;
use uuid::Uuid;

use crate::{ApiError, Caller, FormMethod, ImageEntity, PresignedForm, Shared, refused_claim};

/// How long a signed read works.
const READ_TTL: Duration = Duration::from_secs(300);

/// An image to be. The format is read by hand: an unknown one is 415, not a malformed body.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateImage {
    path: ImagePath,
    format: String,
    byte_size: Option<u64>,
    checksum_sha256: Option<Sha256Checksum>,
    method: Option<FormMethod>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedImage {
    image_entity: ImageEntity,
    presigned_post: PresignedForm,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenewedForm {
    presigned_post: PresignedForm,
}

/// `POST /user/images`: a row, and a form to upload with.
pub(super) async fn create(
    caller: Caller,
    shared: Data<Shared>,
    body: Json<CreateImage>,
) -> Result<HttpResponse, ApiError> {
    let body = body.into_inner();
    let format: ImageFormat = body.format.parse().map_err(|_unknown| ApiError::unsupported_format())?;
    match body.byte_size {
        Some(0) => return Err(Refusal::EmptyFile.into()),
        Some(size) if size > shared.limits.max_image_bytes => {
            return Err(ApiError::payload_too_large(shared.limits.max_image_bytes));
        }
        _ => {}
    }
    let wish = body.method.unwrap_or(FormMethod::Post);
    shared.forms.check(wish, body.byte_size)?;
    let new = NewImage {
        id: Uuid::now_v7().into(),
        user_id: caller.user_id,
        path: body.path,
        format,
        byte_size: body.byte_size,
        checksum_sha256: body.checksum_sha256,
        upload: None,
    };
    let mut connection = shared.database.connection().await?;
    let inserted = images::insert_pending(&mut connection, &new).await?;
    drop(connection);
    let image = inserted.ok_or_else(ApiError::forbidden)?;
    // The row's time is the database's, which the store's clock is compared with.
    let presigned_post = form(&shared, &image, wish, image.created_at).await?;
    Ok(HttpResponse::Created().json(CreatedImage { image_entity: (&image).into(), presigned_post }))
}

/// `POST /user/images/{id}/form`: another form while the image is pending.
pub(super) async fn renew_form(
    caller: Caller,
    shared: Data<Shared>,
    id: Path<ImageId>,
) -> Result<HttpResponse, ApiError> {
    let (id, cutoff) = (id.into_inner(), shared.timing.link_cutoff());
    let mut connection = shared.database.connection().await?;
    let Some((image, now)) = images::find_pending(&mut connection, id, caller.user_id, cutoff).await? else {
        let standing = images::standing(&mut connection, id, Some(caller.user_id), cutoff).await?;
        return Err(refused_claim(standing));
    };
    drop(connection);
    let presigned_post = form(&shared, &image, FormMethod::Post, now).await?;
    Ok(HttpResponse::Created().json(RenewedForm { presigned_post }))
}

/// `GET /images/{id}`: where the bytes are, while a live link exists.
pub(super) async fn read(shared: Data<Shared>, id: Path<ImageId>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    let served = images::find_served(&mut connection, id.into_inner()).await?;
    drop(connection);
    let served = served.ok_or_else(ApiError::image_not_found)?;
    let ReadUrl { url, lasts } = shared.storage.read_url(&served.media_key, READ_TTL).await?;
    // A browser may use the redirect again for less than that, so that it never follows one that has just ended.
    let max_age = lasts.as_secs() * 4 / 5;
    Ok(HttpResponse::build(StatusCode::FOUND)
        .insert_header((header::LOCATION, url))
        .insert_header((header::CACHE_CONTROL, format!("private, max-age={max_age}")))
        .finish())
}

/// Signs a form that ends with its time, or with the image's if that is sooner.
async fn form(shared: &Shared, image: &Image, wish: FormMethod, now: DateTime<Utc>) -> Result<PresignedForm, ApiError> {
    let delta = |duration| TimeDelta::from_std(duration).map_err(ApiError::internal);
    let by_form = now + delta(shared.timing.form_ttl)?;
    let by_image = image.created_at + delta(shared.timing.link_cutoff())?;
    let expires_at = by_form.min(by_image);
    // Stores know whole seconds only: a form that ends within this one is of no use.
    if expires_at.timestamp() <= now.timestamp() {
        return Err(refused_claim(Standing::Expired));
    }
    shared.forms.issue(image, wish, now, expires_at).await
}
