//! The routes of both servers, in URL order, and how their input is read.

mod competitions;
mod images;
mod limits;
mod metrics;
mod posts;
mod users;

use std::time::Duration;

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::{JsonPayloadError, PathError},
    web,
};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{ApiError, Caller, Code, Endpoint, IssueForm, readiness as health};

/// Longest JSON body, in bytes.
const JSON_LIMIT: usize = 64 * 1024;
/// How long a JSON body may take.
const JSON_TIME: Duration = Duration::from_secs(10);

/// Why an image is not available for a link, an upload or a form.
pub const NOT_PENDING: &[Code] = &[
    Code::ImageNotFound,
    Code::AlreadyLinked,
    Code::LinkInProgress,
    Code::UploadInProgress,
    Code::ImageExpired,
    Code::EmptyFile,
    Code::SizeMismatch,
    Code::ContentMismatch,
    Code::ImageTooLarge,
    Code::HeaderTooLong,
    Code::ChecksumMismatch,
];
/// Why an image cannot be linked, besides [`NOT_PENDING`].
const LINK: &[Code] =
    &[Code::WrongPath, Code::NotUploaded, Code::UploadChanged, Code::StorageTimeout, Code::StorageUnavailable];

/// The caller, and a JSON body that arrived in time. The body of a caller whom the token or a rate limit refuses is not read. actix's own
/// extractor for JSON has no time limit.
struct ByCaller<T> {
    caller: Caller,
    body: T,
}

/// The routes of both servers.
pub(crate) fn endpoints(forms: &dyn IssueForm) -> Vec<Endpoint> {
    use Endpoint as E;
    vec![
        E::post("/admin/competitions", |route| route.to(competitions::create), competitions::create_operation()),
        E::post(
            "/admin/competitions/{id}/poster-image",
            |route| route.to(competitions::link_poster),
            competitions::link_poster_operation(),
        ),
        E::get("/competitions/{id}", |route| route.to(competitions::show), competitions::show_operation()),
        E::get("/health/live", |route| route.to(health::live), health::live_operation()),
        E::get("/health/ready", |route| route.to(health::ready), health::ready_operation()),
        E::get("/images/{id}", |route| route.to(images::read), images::read_operation()),
        E::get("/limits", |route| route.to(limits::show), limits::show_operation()),
        E::get("/metrics", |route| route.to(metrics::show), metrics::show_operation()),
        E::get("/posts/{id}", |route| route.to(posts::show), posts::show_operation()),
        E::post("/user/images", |route| route.to(images::create), images::create_operation(forms)),
        E::post("/user/images/{id}/form", |route| route.to(images::renew_form), images::renew_form_operation(forms)),
        E::post("/user/posts", |route| route.to(posts::create), posts::create_operation()),
        E::delete("/user/posts/{id}", |route| route.to(posts::delete), posts::delete_operation()),
        E::get("/user/users/me", |route| route.to(users::me), users::me_operation()),
        E::post(
            "/user/users/profile-image",
            |route| route.to(users::link_profile_image),
            users::link_profile_image_operation(),
        ),
        E::delete(
            "/user/users/profile-image",
            |route| route.to(users::delete_profile_image),
            users::delete_profile_image_operation(),
        ),
    ]
}

impl<T: DeserializeOwned + 'static> FromRequest for ByCaller<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload);
        // This takes the payload, and reads nothing of it until it is polled.
        let reading = web::Json::<T>::from_request(request, payload);
        let read = async {
            let caller = caller.await?;
            let body = timeout(JSON_TIME, reading).await.map_err(|elapsed| {
                let detail = format!("The JSON body did not arrive within {} seconds.", JSON_TIME.as_secs());
                ApiError::new(Code::BodyTimeout, detail).cause(elapsed.to_string())
            })??;
            Ok(Self { caller, body: body.into_inner() })
        };
        read.boxed_local()
    }
}

/// How input is read.
pub(crate) fn configure_input(config: &mut web::ServiceConfig) {
    config
        .app_data(web::JsonConfig::default().limit(JSON_LIMIT).error_handler(unreadable_json))
        .app_data(web::PathConfig::default().error_handler(unreadable_path));
}

fn unreadable_json(error: JsonPayloadError, _request: &HttpRequest) -> actix_web::Error {
    let problem = match &error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            let detail = format!("The JSON body is longer than {JSON_LIMIT} bytes.");
            ApiError::new(Code::PayloadTooLarge, detail)
        }
        JsonPayloadError::ContentType => {
            let detail = "The body must be sent with Content-Type: application/json.";
            ApiError::new(Code::UnsupportedMediaType, detail)
        }
        // serde names the field, the place and what it expected; the text has nothing internal in it.
        JsonPayloadError::Deserialize(cause) => {
            ApiError::invalid_request(format!("The JSON body is not valid: {cause}"))
        }
        _ => ApiError::invalid_request("The body could not be read."),
    };
    problem.cause(error.to_string()).into()
}

fn unreadable_path(error: PathError, _request: &HttpRequest) -> actix_web::Error {
    ApiError::new(Code::NotFound, "The id in the path is not a UUID.").cause(error.to_string()).into()
}
