//! `POST /uploads`: what V1's own form posts to, answering as an S3 POST Object does
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>), so that one client serves both servers.
//!
//! Errors are problem documents with the status that S3 gives, where S3 has one. One rule differs: a part after the
//! file is refused, where S3 ignores it.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use chrono::{DateTime, Utc};
use serde_json::json;
use upload_domain::{AttemptId, ImageId};
use upload_http::{ApiError, Code, NOT_PENDING, Operation, Shared, header as document_header, schemas};
use upload_link::{Hold, LinkError};
use upload_persistence::{
    Database, image_attempts,
    images::{self, Image},
};
use upload_storage::Storage;
use utoipa::{
    ToSchema,
    openapi::{Content, ResponseBuilder},
};
use uuid::Uuid;

use crate::{
    V1,
    attempt::Attempt,
    form::{BAD_FORM, Form, FormRequest},
    ticket::{Ticket, TicketError, TicketKey},
    transfer::Transfer,
};

/// The status that every form asks for.
pub const SUCCESS_STATUS: &str = "201";

/// The fields of a form that this server issued, then the file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the form is read part by part; this is its shape for the document")]
struct TicketForm {
    key: String,
    #[schema(rename = "Content-Type", value_type = schemas::ImageFormat)]
    content_type: String,
    success_action_status: String,
    file: schemas::FilePart,
}

pub fn operation() -> Operation {
    let created = ResponseBuilder::new()
        .description(
            "The file is uploaded and replaces an earlier upload. The answer has the form of S3's answer to a POST.",
        )
        .content("application/xml", Content::new(Some(schemas::text())));
    Operation::new("Images", "uploadWithForm", "Upload an image's file with the form that the server issued for it")
        .description("The form's `url` points here, so a client does not build this URL itself. No token is needed: anyone who has the form can upload.")
        .query("ticket", "Signed by the server; it says what may be uploaded. Treat it as a secret.")
        .form::<TicketForm>(
            "Send the form's fields unchanged, and the file as the last part.",
            json!({
                "key": "incoming/0199a0c4-5d3e-7c6a-9b1f-2f6d0c8e4a71",
                "Content-Type": "image/jpeg",
                "success_action_status": SUCCESS_STATUS,
                "file": "(bytes)",
            }),
        )
        .answers_with(StatusCode::CREATED, created.build())
        .header(StatusCode::CREATED, "ETag", document_header(schemas::text(), "The file's ETag, in quotation marks."))
        .header(StatusCode::CREATED, "Location", document_header(schemas::uri(), "The form's URL with the key. You cannot read the file there; link the image first."))
        .refuses(BAD_FORM)
        .refuses(&[Code::TooManyParts])
        .refuses_with(
            StatusCode::BAD_REQUEST,
            &[Code::EmptyFile, Code::PayloadTooLarge, Code::SizeMismatch, Code::ChecksumMismatch],
        )
        .refuses_with(StatusCode::FORBIDDEN, &[Code::Forbidden, Code::InvalidForm, Code::FormExpired, Code::UnexpectedField])
        .refuses(NOT_PENDING)
        .database()
}

/// The query of a form's URL.
#[derive(serde::Deserialize)]
pub struct TicketQuery {
    ticket: Option<String>,
}

/// Takes the file of one form. It needs no token: anyone who has the form can upload, as in S3. The ticket is in the URL, so it is checked
/// before the body is read.
pub async fn ticket_upload(
    request: HttpRequest,
    query: Option<web::Query<TicketQuery>>,
    payload: web::Payload,
    shared: web::Data<Shared>,
    v1: web::Data<V1>,
    storage: web::Data<Storage>,
) -> Result<HttpResponse, ApiError> {
    let ticket = query.and_then(|query| query.into_inner().ticket);
    let ticket = check_ticket(&ticket.unwrap_or_default(), &v1.ticket_key, shared.database_now())?;
    let form = FormRequest::check(&request, shared.limits.max_image_bytes)?;
    let held_bytes = form.held_bytes(shared.limits.max_image_bytes);
    let (upload, turn) = v1.enter(&shared, &request, ticket.user, held_bytes).await?;
    let mut form = form.open(&request, payload, v1.body_limits(&shared), turn).await?;
    read_fields(&mut form, &ticket).await?;
    let check_length = |bytes| check_length(bytes, &ticket);
    let file_bytes = form.file_bytes(ticket.exact_bytes());
    file_bytes.map_or(Ok(()), check_length)?;

    let attempt = AttemptId::from(Uuid::now_v7());
    let claimed =
        claim(shared.database.clone(), ticket.image, attempt, v1.attempt_time(&shared), shared.timing.link_cutoff());
    let attempt = Attempt::begin(&shared, attempt, Hold::new, claimed).await?;
    let transfer = Transfer {
        shared: &shared,
        v1: &v1,
        storage: &storage,
        upload: &upload,
        attempt,
        check_length: &check_length,
        format: ticket.format,
        declared_bytes: ticket.exact_bytes(),
        checksum_sha256: ticket.checksum_sha256,
    };
    let (_image, stored) = transfer.receive(&mut form, file_bytes).await?;
    Ok(post_response(&ticket, &stored.etag, &shared))
}

/// Takes the image's row for this upload, or says why it is not available.
async fn claim(
    database: Database,
    image: ImageId,
    attempt: AttemptId,
    lasts: Duration,
    cutoff: Duration,
) -> Result<Image, ApiError> {
    let mut connection = database.connection().await?;
    match image_attempts::claim_upload(&mut connection, image, attempt, lasts, cutoff).await? {
        Some(image) => Ok(image),
        None => Err(LinkError::from(images::standing(&mut connection, image, None, cutoff).await?).into()),
    }
}

fn check_ticket(ticket: &str, key: &TicketKey, now: DateTime<Utc>) -> Result<Ticket, ApiError> {
    key.check(ticket, now).map_err(|error| match error {
        TicketError::Expired => forbidden(Code::FormExpired, "The form has expired; request a new one."),
        TicketError::Invalid(cause) => forbidden(
            Code::InvalidForm,
            "The ticket in the form's URL is missing, was changed or was not signed by this server.",
        )
        .cause(cause),
    })
}

/// Reads the form's fields, up to the file's first byte, and checks them against the ticket.
async fn read_fields(form: &mut Form, ticket: &Ticket) -> Result<(), ApiError> {
    let (mut fields, mut file) = (Vec::new(), None);
    while let Some(mut field) = form.next_part().await? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            file = Some(field);
            break;
        }
        if fields.iter().any(|(known, _value)| *known == name) {
            return Err(forbidden(Code::UnexpectedField, "A field appears twice in the form."));
        }
        let value = form.text(&mut field).await?;
        fields.push((name, value));
    }
    let file = file.ok_or_else(|| ApiError::new(Code::MissingFile, "The form has no part named `file`."))?;
    let value = |name: &str| fields.iter().find(|(known, _value)| known == name).map(|(_name, value)| value.as_str());
    let expected = form_fields(ticket);
    if let Some((name, _value)) = expected.iter().find(|(name, expected)| value(name) != Some(expected.as_str())) {
        return Err(forbidden(
            Code::InvalidForm,
            &format!("The field `{name}` is missing, or differs from the form that the server issued."),
        ));
    }
    let known = |name: &str| expected.iter().any(|(known, _value)| *known == name);
    if fields.iter().any(|(name, _value)| !known(name)) {
        return Err(forbidden(Code::UnexpectedField, "The form has a field that the server did not issue."));
    }
    form.begin_file(file)
}

/// The fields of a ticket's form.
pub fn form_fields(ticket: &Ticket) -> [(&'static str, String); 3] {
    [
        ("key", ticket.key()),
        ("Content-Type", ticket.format.to_string()),
        ("success_action_status", SUCCESS_STATUS.to_owned()),
    ]
}

/// S3 answers a length outside of the policy's range with 400 (EntityTooLarge, EntityTooSmall).
fn check_length(bytes: u64, ticket: &Ticket) -> Result<(), ApiError> {
    let code = match bytes {
        0 => Code::EmptyFile,
        _ if (ticket.min_bytes..=ticket.max_bytes).contains(&bytes) => return Ok(()),
        _ if ticket.exact_bytes().is_none() => Code::PayloadTooLarge,
        _ => Code::SizeMismatch,
    };
    let detail = format!("The form allows a file of {} to {} bytes.", ticket.min_bytes, ticket.max_bytes);
    Err(ApiError::new(code, detail).with_status(StatusCode::BAD_REQUEST))
}

/// S3 answers a policy's unmet condition with 403.
fn forbidden(code: Code, detail: &str) -> ApiError {
    ApiError::new(code, detail.to_owned()).with_status(StatusCode::FORBIDDEN)
}

fn post_response(ticket: &Ticket, etag: &str, shared: &Shared) -> HttpResponse {
    let key = ticket.key();
    let location = format!("{}/uploads/{key}", shared.public_api_url.as_str().trim_end_matches('/'));
    let [etag_text, location_text] = [etag, &location].map(|text| text.replace('&', "&amp;").replace('"', "&quot;"));
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{location_text}</Location>\
         <Bucket>uploads</Bucket><Key>{key}</Key><ETag>{etag_text}</ETag></PostResponse>"
    );
    HttpResponse::Created()
        .insert_header((header::ETAG, etag))
        .insert_header((header::LOCATION, location))
        .content_type("application/xml")
        .body(body)
}
