//! `POST /user/images/upload`: a form with `path`, optionally `byteSize`, then `file`; the answer is the image.

use actix_multipart::Field;
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde_json::json;
use upload_domain::{AttemptId, ImageFormat, ImageId, ImageLimits, ImagePath, Refusal};
use upload_http::{ApiError, Caller, Code, ImageEntity, Operation, Shared, schemas};
use upload_link::Hold;
use upload_persistence::images::{NewImage, UploadAttempt};
use upload_storage::Storage;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    V1,
    attempt::Attempt,
    form::{BAD_FORM, Form, FormRequest, unexpected_field},
    transfer::Transfer,
};

/// The form that a client sends.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the form is read part by part; this is its shape for the document")]
struct UploadForm {
    path: schemas::ImagePath,
    /// The file's length in bytes. Declare it if the server answers `multipart_length_mismatch` without it.
    #[schema(minimum = 1)]
    byte_size: Option<u64>,
    file: schemas::FilePart,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Uploaded {
    image_entity: ImageEntity,
}

/// What the form says before its file.
struct Fields {
    path: ImagePath,
    byte_size: Option<u64>,
    format: ImageFormat,
}

pub fn operation() -> Operation {
    Operation::new("Images", "uploadImage", "Create an image and upload its file in one request")
        .description("Then link the image. Only users whose role is ADMIN or HOST can use the path `competition`.")
        .bearer()
        .form::<UploadForm>(
            "Send the fields, and the file as the last part. The part's `Content-Type` is the image's format.",
            json!({ "path": "user-profile", "byteSize": 183_402, "file": "(bytes)" }),
        )
        .answers::<Uploaded>(StatusCode::CREATED, "The image, whose file is uploaded.")
        .refuses(BAD_FORM)
        .refuses(&[
            Code::InvalidRequest,
            Code::UnsupportedMediaType,
            Code::EmptyFile,
            Code::SizeMismatch,
            Code::ContentMismatch,
            Code::ImageTooLarge,
            Code::HeaderTooLong,
            Code::QuotaExceeded,
        ])
        .database()
}

/// Takes one image. The caller's token is checked before the body is read.
pub async fn stream_upload(
    request: HttpRequest,
    caller: Caller,
    payload: web::Payload,
    shared: web::Data<Shared>,
    v1: web::Data<V1>,
    storage: web::Data<Storage>,
) -> Result<HttpResponse, ApiError> {
    let limits = shared.limits;
    let form = FormRequest::check(&request, limits.max_image_bytes)?;
    let held_bytes = form.held_bytes(limits.max_image_bytes);
    let (upload, turn) = v1.enter(&shared, &request, caller.user_id, held_bytes).await?;
    let mut form = form.open(&request, payload, v1.body_limits(&shared), turn).await?;
    let Fields { path, byte_size, format } = Fields::read(&mut form, &limits).await?;
    let check_length = |bytes| check_length(bytes, byte_size, &limits);
    let file_bytes = form.file_bytes(byte_size);
    file_bytes.map_or(Ok(()), check_length)?;

    let attempt = AttemptId::from(Uuid::now_v7());
    let new = NewImage {
        id: ImageId::from(Uuid::now_v7()),
        user_id: caller.user_id,
        path,
        format,
        byte_size,
        checksum_sha256: None,
        upload: Some(UploadAttempt { attempt, lasts: v1.attempt_time(&shared) }),
    };
    let creator = shared.clone();
    let created = async move { creator.create_image(&new).await };
    let attempt = Attempt::begin(&shared, attempt, Hold::of_new_image, created).await?;
    let transfer = Transfer {
        shared: &shared,
        v1: &v1,
        storage: &storage,
        upload: &upload,
        attempt,
        check_length: &check_length,
        format,
        declared_bytes: byte_size,
        checksum_sha256: None,
    };
    let (image, _stored) = transfer.receive(&mut form, file_bytes).await?;
    Ok(HttpResponse::Created().json(Uploaded { image_entity: ImageEntity::from(&image) }))
}

impl Fields {
    /// Reads up to the file's first byte.
    async fn read(form: &mut Form, limits: &ImageLimits) -> Result<Self, ApiError> {
        let (mut path, mut byte_size) = (None, None);
        while let Some(mut field) = form.next_part().await? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "path" if path.is_none() => path = Some(parse_path(&form.text(&mut field).await?)?),
                "byteSize" if byte_size.is_none() => {
                    byte_size = Some(parse_byte_size(&form.text(&mut field).await?, limits)?);
                }
                "file" => {
                    let Some(path) = path else {
                        return Err(unexpected_field("The field `path` must come before the file."));
                    };
                    let format = file_format(&field)?;
                    form.begin_file(field)?;
                    return Ok(Self { path, byte_size, format });
                }
                _ => {
                    return Err(unexpected_field(
                        "Send the fields `path`, `byteSize` (optional) and last `file`, each only once.",
                    ));
                }
            }
        }
        Err(ApiError::new(Code::MissingFile, "The form has no part named `file`."))
    }
}

fn parse_path(text: &str) -> Result<ImagePath, ApiError> {
    text.parse().map_err(|unknown: upload_domain::UnknownWord| {
        ApiError::invalid_request(format!("`path` must be one of {}.", unknown.expected))
    })
}

fn parse_byte_size(text: &str, limits: &ImageLimits) -> Result<u64, ApiError> {
    let bytes = text.parse().map_err(|_not_a_number: std::num::ParseIntError| {
        ApiError::invalid_request("`byteSize` must be a whole number of bytes.")
    })?;
    check_length(bytes, None, limits).map(|()| bytes)
}

/// The format that the file's part declares.
fn file_format(file: &Field) -> Result<ImageFormat, ApiError> {
    let declared = file.content_type().map(|media_type| media_type.essence_str());
    declared.and_then(|media_type| media_type.parse().ok()).ok_or_else(ApiError::unsupported_format)
}

fn check_length(bytes: u64, declared_bytes: Option<u64>, limits: &ImageLimits) -> Result<(), ApiError> {
    match declared_bytes {
        _ if bytes > limits.max_image_bytes => Err(ApiError::payload_too_large(limits.max_image_bytes)),
        _ if bytes == 0 => Err(Refusal::EmptyFile.into()),
        Some(declared) if declared != bytes => Err(Refusal::SizeMismatch.into()),
        _ => Ok(()),
    }
}
