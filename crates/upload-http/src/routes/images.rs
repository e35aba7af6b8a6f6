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

use super::{ByCaller, NOT_PENDING};
use crate::{
    ApiError, Caller, Code, FormMethod, ImageEntity, IssueForm, Operation, PresignedForm, Shared, header, schemas,
};

/// How long a signed read works.
const READ_TTL: Duration = Duration::from_secs(300);

/// A SHA-256 for examples: that of an empty file.
const EXAMPLE_DIGEST: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// The image to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateImage {
    #[schema(value_type = schemas::ImagePath)]
    path: ImagePath,
    // Parsed by hand, so that an unknown format is a 415 and not an invalid body.
    #[schema(value_type = schemas::ImageFormat)]
    format: String,
    /// The file's length in bytes. Without it, the form allows every size from one byte to the limit.
    #[schema(minimum = 1)]
    byte_size: Option<u64>,
    /// The file's SHA-256 in base64.
    // The last character stands for four bits, so its other two are zero.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
    checksum_sha256: Option<Sha256Checksum>,
    /// The method that you prefer. The answer's `method` decides. PUT needs `byteSize`.
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
    presigned_post: PresignedForm,
}

/// The group of these routes.
const TAG: &str = "Images";

pub(super) fn create_operation(forms: &dyn IssueForm) -> Operation {
    let operation = Operation::new(TAG, "createImage", "Create an image, and get a form to upload it with")
        .description(
            "To use a POST form, send `fields`, and then the file as `file`, by POST to `url`. Only users whose role is ADMIN or \
             HOST can use the path `competition`.",
        )
        .bearer()
        .json::<CreateImage>(&[
            ("image", json!({ "path": "user-profile", "format": "image/jpeg" })),
            ("exact", json!({ "path": "post", "format": "image/png", "byteSize": 183_402, "checksumSha256": EXAMPLE_DIGEST })),
        ])
        .answers::<CreatedImage>(StatusCode::CREATED, "The image, which has no file yet, and the form.")
        .refuses(&[Code::EmptyFile, Code::QuotaExceeded])
        .refuses(forms.failures())
        .database();
    if forms.methods().contains(&FormMethod::Put) { operation.refuses(&[Code::ByteSizeRequired]) } else { operation }
}

pub(super) fn renew_form_operation(forms: &dyn IssueForm) -> Operation {
    let operation = Operation::new(TAG, "renewForm", "Get another form for an image that is not linked")
        .bearer()
        .answers::<RenewedForm>(
            StatusCode::CREATED,
            "The form. The client has no wish here: it gets the server's usual method.",
        )
        .refuses(NOT_PENDING)
        .refuses(forms.failures())
        .database();
    if forms.methods().contains(&FormMethod::Put) { operation.refuses(&[Code::ByteSizeRequired]) } else { operation }
}

pub(super) fn read_operation() -> Operation {
    Operation::new(TAG, "readImage", "Read an image's file")
        .description("Anyone can read an image while it is linked.")
        .answers_with(StatusCode::FOUND, Response::new("`Location` is the file's URL."))
        .header(
            StatusCode::FOUND,
            "Location",
            header(schemas::uri(), "The file's URL. It works for a few minutes or, if the bucket's files are public, without a time limit."),
        )
        .header(StatusCode::FOUND, "Cache-Control", header(schemas::text(), "How long a browser may reuse this answer."))
        .refuses(&[Code::ImageNotFound, Code::StorageUnavailable])
        .database()
}

/// `POST /user/images`: a row, and a form to upload with.
pub(super) async fn create(
    ByCaller { caller, body }: ByCaller<CreateImage>,
    shared: Data<Shared>,
) -> Result<HttpResponse, ApiError> {
    let format: ImageFormat = body.format.parse().map_err(|_unknown| ApiError::unsupported_format())?;
    match body.byte_size {
        Some(0) => return Err(Refusal::EmptyFile.into()),
        Some(size) if size > shared.limits.max_image_bytes => {
            return Err(ApiError::payload_too_large(shared.limits.max_image_bytes));
        }
        _ => {}
    }
    let method = supported(body.method, shared.forms.as_ref());
    check_size(method, body.byte_size)?;
    let new = NewImage {
        id: Uuid::now_v7().into(),
        user_id: caller.user_id,
        path: body.path,
        format,
        byte_size: body.byte_size,
        checksum_sha256: body.checksum_sha256,
        upload: None,
    };
    let image = shared.create_image(&new).await?;
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
    let method = usual(shared.forms.as_ref());
    check_size(method, image.byte_size)?;
    let presigned_post = form(&shared, &image, method, now).await?;
    Ok(HttpResponse::Created().json(RenewedForm { presigned_post }))
}

/// `GET /images/{id}`: where the bytes are, while a live link exists.
pub(super) async fn read(shared: Data<Shared>, id: Path<ImageId>) -> Result<HttpResponse, ApiError> {
    let mut connection = shared.database.connection().await?;
    let served = images::find_served(&mut connection, id.into_inner()).await?;
    drop(connection);
    let served = served.ok_or_else(ApiError::image_not_found)?;
    let read = shared.storage.read_url(&served.media_key, served.media_version.as_deref(), READ_TTL);
    let ReadUrl { url, lasts } = read.await?;
    // A browser may reuse the redirect for a shorter time, so that it never follows a URL that has just expired.
    let max_age = lasts.as_secs() * 4 / 5;
    Ok(HttpResponse::build(StatusCode::FOUND)
        .insert_header((LOCATION, url))
        .insert_header((CACHE_CONTROL, format!("private, max-age={max_age}")))
        .finish())
}

/// The method of the form: what the client prefers, or the usual one if this server does not sign that.
fn supported(preferred: Option<FormMethod>, forms: &dyn IssueForm) -> FormMethod {
    preferred.filter(|method| forms.methods().contains(method)).unwrap_or_else(|| usual(forms))
}

/// The method of a form for which nobody has said a wish.
fn usual(forms: &dyn IssueForm) -> FormMethod {
    forms.methods().first().copied().unwrap_or(FormMethod::Post)
}

/// The length of a PUT is signed.
fn check_size(method: FormMethod, byte_size: Option<u64>) -> Result<(), ApiError> {
    match (method, byte_size) {
        (FormMethod::Put, None) => {
            let detail = "A PUT form needs byteSize, because the exact length is signed.";
            Err(ApiError::new(Code::ByteSizeRequired, detail))
        }
        _ => Ok(()),
    }
}

/// Signs a form that expires after `FORM_TTL`, or when the image can no longer be linked, if that is sooner.
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
    // Stores count whole seconds only: a form that ends within this second would be useless.
    if expires_at.timestamp() <= now.timestamp() {
        return Err(LinkError::Expired.into());
    }
    shared.forms.issue(image, method, now, expires_at).await
}
