//! What the client reads when something goes wrong, and what only the log records.
//!
//! An [`ApiError`] is a status, a stable code, a text for the client, and the cause for the log. It becomes a problem
//! document (RFC 9457) here, and the boundary logs it, once. A cause is logged through its `Display` chain alone:
//! `Debug` of an SDK error holds whole replies, in which a store may repeat keys and signatures.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use rand::RngExt as _;
use serde::Serialize;
use upload_domain::{ImageFormat, ImageId, Refusal};
use upload_link::{LinkError, Panicked, PostError};
use upload_persistence::{DatabaseError, quotas::NotCreated};
use upload_storage::{StorageError, chain};
use utoipa::ToSchema;

use crate::{Code, Retry, request_id::REQUEST_ID_HEADER, schemas};

const STORAGE_TIMEOUT: &str = "The image store did not answer in time; try again.";

/// A failure as the client sees it, with its cause for the log.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    detail: Cow<'static, str>,
    image: Option<ImageId>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// The body of an error: RFC 9457, with our own members.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem<'a> {
    /// Always `about:blank`; `code` says what went wrong.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    #[schema(value_type = schemas::ProblemCode)]
    code: Code,
    /// What happened, in a sentence for people.
    detail: &'a str,
    /// The request's id, which the server's log also has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, value_type = String)]
    request_id: Option<&'a str>,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// The image that the error is about, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, value_type = Uuid)]
    image_entity_id: Option<ImageId>,
}

impl ApiError {
    /// A failure with its code's status and a text that a client may show.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: code.status(),
            code,
            detail: detail.into(),
            image: None,
            request_id: None,
            retry_after: None,
            cause: None,
        }
    }

    /// 500 `internal_error`: a bug or a broken set-up; the client gets no details.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Code::InternalError, "Something went wrong on the server.").cause(cause)
    }

    /// 400 `invalid_request`.
    pub fn invalid_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// 403 `forbidden`: the caller's row does not allow this.
    pub fn forbidden() -> Self {
        Self::new(Code::Forbidden, "Your account is not allowed to do this.")
    }

    /// 404 `image_not_found`: the image does not exist, or it belongs to another user.
    pub fn image_not_found() -> Self {
        Self::new(Code::ImageNotFound, "There is no such image.")
    }

    /// 404 `competition_not_found`.
    pub(crate) fn competition_not_found() -> Self {
        Self::new(Code::CompetitionNotFound, "There is no such competition.")
    }

    /// 413 `payload_too_large`: a file of more than `max_image_bytes`.
    pub fn payload_too_large(max_image_bytes: u64) -> Self {
        Self::new(Code::PayloadTooLarge, format!("The file is larger than the limit of {max_image_bytes} bytes."))
    }

    /// 415 `unsupported_media_type`: an image format that is not supported.
    pub fn unsupported_format() -> Self {
        Self::new(Code::UnsupportedMediaType, format!("The format must be one of {}.", ImageFormat::WORDS))
    }

    /// 503 `overloaded`.
    pub fn overloaded() -> Self {
        Self::new(Code::Overloaded, "The server is busy; try again.")
    }

    /// 503 `shutting_down`.
    pub fn shutting_down() -> Self {
        Self::new(Code::ShuttingDown, "This server is stopping; try again.")
    }

    /// 401 `invalid_token`, with the challenge that RFC 6750 asks for.
    pub(crate) fn invalid_token() -> Self {
        Self::new(Code::InvalidToken, "A valid bearer token is required.")
    }

    /// Replaces the code's usual status, where S3 uses another one for the same error.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Names the image that the failure is about.
    pub fn image(self, image: ImageId) -> Self {
        Self { image: Some(image), ..self }
    }

    /// Says when to try again. Without it, the code's usual time counts.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Keeps the cause for the log.
    pub fn cause(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn request_id(self, request_id: &str) -> Self {
        Self { request_id: Some(request_id.to_owned()), ..self }
    }

    /// The cause and its causes, for the log; empty without one.
    pub(crate) fn cause_chain(&self) -> String {
        self.cause.as_ref().map_or_else(String::new, |cause| chain(cause.as_ref()))
    }

    /// The image that the failure is about.
    pub(crate) fn about(&self) -> Option<ImageId> {
        self.image
    }

    /// The problem document, with the id under which the failure was logged.
    pub(crate) fn to_response(&self, request_id: Option<&str>) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(request_id) = request_id {
            response.insert_header((REQUEST_ID_HEADER, request_id));
        }
        if let Retry::AfterSeconds(longest) = self.code.retry() {
            let seconds = match self.retry_after {
                Some(wait) => wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
                // Jitter, so that clients that were refused together do not come back together.
                None => rand::rng().random_range(1..=u64::from(longest)),
            };
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if self.code == Code::InvalidToken {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
        }
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            request_id,
            retryable: self.code.retry() != Retry::Never,
            image_entity_id: self.image,
        };
        response
            .insert_header((header::CONTENT_TYPE, "application/problem+json"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .json(problem)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.status.as_u16(), self.code)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.to_response(self.request_id.as_deref())
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Overloaded => Self::overloaded().cause(error),
            DatabaseError::Unavailable(_) => {
                let detail = "The database cannot be reached, or did not finish in time; try again.";
                Self::new(Code::DatabaseUnavailable, detail).cause(error)
            }
            DatabaseError::Query(_) => Self::internal(error),
        }
    }
}

impl From<NotCreated> for ApiError {
    fn from(reason: NotCreated) -> Self {
        let (detail, wait) = match reason {
            NotCreated::Forbidden => return Self::forbidden(),
            NotCreated::TooManyPending(wait) => {
                ("You have too many images that are not linked; link some of them first.", wait)
            }
            NotCreated::TooManyBytes(wait) => ("You have created too many bytes in the last 24 hours.", wait),
        };
        Self::new(Code::QuotaExceeded, detail).retry_after(wait)
    }
}

impl From<upload_persistence::QueryError> for ApiError {
    fn from(error: upload_persistence::QueryError) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let (code, detail) = match error {
            StorageError::Timeout(_) => (Code::StorageTimeout, STORAGE_TIMEOUT),
            StorageError::Unavailable(_) | StorageError::Refused(_) => {
                (Code::StorageUnavailable, "The image store cannot be reached, or it failed; try again.")
            }
        };
        Self::new(code, detail).cause(error)
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::ImageNotFound => Self::image_not_found(),
            LinkError::Forbidden => Self::forbidden(),
            LinkError::CompetitionNotFound => Self::competition_not_found(),
            LinkError::WrongPath => Self::new(Code::WrongPath, "The image's path does not match this target."),
            LinkError::AlreadyLinked => {
                Self::new(Code::AlreadyLinked, "This image was linked before; an image can be linked only once.")
            }
            LinkError::LinkInProgress => {
                Self::new(Code::LinkInProgress, "This image is being linked right now; try again.")
            }
            LinkError::UploadInProgress => {
                Self::new(Code::UploadInProgress, "This image is being uploaded right now; try again.")
            }
            LinkError::Expired => Self::new(Code::ImageExpired, "This image was not linked in time; create a new one."),
            LinkError::Refused(refusal) => refusal.into(),
            LinkError::NotUploaded => Self::new(Code::NotUploaded, "No file has been uploaded for this image yet."),
            LinkError::UploadChanged(refusal) => {
                let detail = "A new file was uploaded while the image was being linked; try again.";
                let changed = Self::new(Code::UploadChanged, detail);
                refusal.map(Refusal::as_str).into_iter().fold(changed, Self::cause)
            }
            LinkError::Overloaded => Self::overloaded(),
            LinkError::TooSlow => Self::new(Code::StorageTimeout, STORAGE_TIMEOUT),
            LinkError::Storage(error) => error.into(),
            LinkError::Database(error) => error.into(),
            LinkError::Panicked(_) | LinkError::Bug(_) => Self::internal(error),
        }
    }
}

impl From<PostError> for ApiError {
    fn from(PostError { image, error }: PostError) -> Self {
        image.into_iter().fold(error.into(), Self::image)
    }
}

impl From<Panicked> for ApiError {
    fn from(error: Panicked) -> Self {
        Self::internal(error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let detail = match refusal {
            Refusal::EmptyFile => "The file is empty.",
            Refusal::SizeMismatch => "The file does not have the declared size, or it is larger than the limit.",
            Refusal::ContentMismatch => "The file is not an image of the declared format.",
            Refusal::ImageTooLarge => "The image is too wide, too high or has too many pixels.",
            Refusal::HeaderTooLong => "The image's header does not end within the file's first 256 KiB.",
            Refusal::ChecksumMismatch => "The file's SHA-256 does not match the declared one.",
        };
        Self::new(refusal.into(), detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_answers_say_when_to_come_back_and_others_do_not() {
        let response = ApiError::overloaded().error_response();
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        assert!(seconds.is_some_and(|seconds| (1..=3).contains(&seconds.parse().unwrap_or(0))), "{seconds:?}");
        let response = ApiError::forbidden().error_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn a_cause_is_in_the_log_and_not_in_the_answer() {
        let error = ApiError::internal(std::io::Error::other("the password is wrong"));
        assert_eq!(error.cause_chain(), "the password is wrong");
        assert!(!error.to_string().contains("password") && !error.detail.contains("password"));
    }
}
