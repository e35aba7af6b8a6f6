//! Images before they are linked, and reading them afterwards.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, LOCATION},
    },
    web::{Data, Path},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use upload_domain::{ImageFormat, ImageId, ImagePath, Refusal, Sha256Checksum};
use upload_link::LinkError;
use upload_persistence::images::{self, Image, NewImage};
use upload_storage::ReadUrl;
use utoipa::{ToSchema, openapi::Response};
use uuid::Uuid;

use super::{Json, NOT_PENDING};
use crate::{
    ApiError, Caller, Code, FormMethod, ImageEntity, IssueForm, Operation, PresignedForm, Shared, header, schemas,
};

/// How long a signed read works.
const READ_TTL: Duration = Duration::from_secs(300);

/// Stands for a file's SHA-256 in examples: that of nothing.
const EXAMPLE_DIGEST: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// An image to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateImage {
    #[schema(value_type = schemas::ImagePath)]
    path: ImagePath,
    // Read by hand: an unknown one is 415, not a malformed body.
    #[schema(value_type = schemas::ImageFormat)]
    format: String,
    /// The file's length in bytes; without it the form allows one byte to the largest size.
    #[schema(minimum = 1)]
    byte_size: Option<u64>,
    /// The file's SHA-256 in base64.
    #[schema(value_type = Option<String>, min_length = 44, max_length = 44)]
    checksum_sha256: Option<Sha256Checksum>,
    /// A wish; the form's own method rules. PUT needs `byteSize`.
    method: Option<FormMethod>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedImage {
    image_entity: ImageEntity,
    presigned_post: PresignedForm,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RenewedForm {
    #[schema(value_type = schemas::PostForm)]
    presigned_post: PresignedForm,
}

/// The group of these routes.
const TAG: &str = "Images";

pub(super) fn create_operation(forms: &dyn IssueForm) -> Operation {
    let operation = Operation::new(TAG, "createImage", "Create an image, and get a form to upload it with")
        .description(
            "The form is used as it says: `fields` and then the file as `file`, by POST to `url`. Path `competition` is for users \
             whose role is ADMIN or HOST.",
        )
        .bearer()
        .json::<CreateImage>(&[
            ("image", json!({ "path": "user-profile", "format": "image/jpeg" })),
            ("exact", json!({ "path": "post", "format": "image/png", "byteSize": 183_402, "checksumSha256": EXAMPLE_DIGEST })),
        ])
        .answers::<CreatedImage>(StatusCode::CREATED, "The image, still without a file, and the form.")
        .refuses(&[Code::EmptyFile])
        .refuses(forms.failures())
        .database();
    if forms.methods().contains(&FormMethod::Put) { operation.refuses(&[Code::ByteSizeRequired]) } else { operation }
}

pub(super) fn renew_form_operation(forms: &dyn IssueForm) -> Operation {
    Operation::new(TAG, "renewForm", "Get another form for an image that is not linked yet")
        .bearer()
        .answers::<RenewedForm>(StatusCode::CREATED, "The form, always for POST.")
        .refuses(NOT_PENDING)
        .refuses(forms.failures())
        .database()
}

pub(super) fn read_operation() -> Operation {
    Operation::new(TAG, "readImage", "Read an image's file")
        .description("Anyone may, while the image is linked.")
        .answers_with(StatusCode::FOUND, Response::new("Where the file is."))
        .header(
            StatusCode::FOUND,
            "Location",
            header(schemas::uri(), "The file, for a few minutes or, where files are public, for good."),
        )
        .header(StatusCode::FOUND, "Cache-Control", header(schemas::text(), "How long this answer may be used again."))
        .refuses(&[Code::ImageNotFound, Code::StorageUnavailable])
        .database()
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
    let method = possible(body.method.unwrap_or(FormMethod::Post), shared.forms.methods());
    if method == FormMethod::Put && body.byte_size.is_none() {
        let detail = "A form for PUT needs byteSize, since the exact length is signed.";
        return Err(ApiError::new(Code::ByteSizeRequired, detail));
    }
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
    let presigned_post = form(&shared, &image, method, image.created_at).await?;
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
        return Err(LinkError::from(standing).into());
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
        .insert_header((LOCATION, url))
        .insert_header((CACHE_CONTROL, format!("private, max-age={max_age}")))
        .finish())
}

/// A wish that cannot be met becomes a POST.
fn possible(wish: FormMethod, methods: &[FormMethod]) -> FormMethod {
    if methods.contains(&wish) { wish } else { FormMethod::Post }
}

/// Signs a form that ends with its time, or with the image's if that is sooner.
async fn form(
    shared: &Shared,
    image: &Image,
    method: FormMethod,
    now: DateTime<Utc>,
) -> Result<PresignedForm, ApiError> {
    let delta = |duration| TimeDelta::from_std(duration).map_err(ApiError::internal);
    let by_form = now + delta(shared.timing.form_ttl)?;
    let by_image = image.created_at + delta(shared.timing.link_cutoff())?;
    let expires_at = by_form.min(by_image);
    // Stores know whole seconds only: a form that ends within this one is of no use.
    if expires_at.timestamp() <= now.timestamp() {
        return Err(LinkError::Expired.into());
    }
    shared.forms.issue(image, method, now, expires_at).await
}
