//! The routes of both servers, in URL order, and how their input is read.

mod competitions;
mod images;
mod limits;
mod metrics;
mod posts;
mod users;

use actix_web::{
    HttpRequest,
    error::{JsonPayloadError, PathError},
    web::{self, delete, get, post, resource},
};

use crate::{ApiError, Code, health};

/// Longest JSON body, in bytes.
const JSON_LIMIT: usize = 64 * 1024;

/// Adds the shared routes.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::JsonConfig::default().limit(JSON_LIMIT).error_handler(unreadable_json))
        .app_data(web::PathConfig::default().error_handler(unreadable_path))
        .service(resource("/admin/competitions").route(post().to(competitions::create)))
        .service(resource("/admin/competitions/{id}/poster-image").route(post().to(competitions::link_poster)))
        .service(resource("/competitions/{id}").route(get().to(competitions::show)))
        .service(resource("/health/live").route(get().to(health::live)))
        .service(resource("/health/ready").route(get().to(health::ready)))
        .service(resource("/images/{id}").route(get().to(images::read)))
        .service(resource("/limits").route(get().to(limits::show)))
        .service(resource("/metrics").route(get().to(metrics::show)))
        .service(resource("/posts/{id}").route(get().to(posts::show)))
        .service(resource("/user/images").route(post().to(images::create)))
        .service(resource("/user/images/{id}/form").route(post().to(images::renew_form)))
        .service(resource("/user/posts").route(post().to(posts::create)))
        .service(resource("/user/posts/{id}").route(delete().to(posts::delete)))
        .service(resource("/user/users/me").route(get().to(users::me)))
        .service(
            resource("/user/users/profile-image")
                .route(post().to(users::link_profile_image))
                .route(delete().to(users::delete_profile_image)),
        );
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
        // serde names the field, the place and what it takes instead; there is nothing of ours in it.
        JsonPayloadError::Deserialize(cause) => {
            ApiError::invalid_request(format!("The JSON body does not fit: {cause}"))
        }
        _ => ApiError::invalid_request("The body cannot be read."),
    };
    problem.cause(error.to_string()).into()
}

fn unreadable_path(error: PathError, _request: &HttpRequest) -> actix_web::Error {
    ApiError::new(Code::NotFound, "There is nothing here.").cause(error.to_string()).into()
}
