//! The outermost layer of every request, except CORS. It gives each request an id, a span, a log line and metrics.
//! Every failure, wherever in actix it came from, is logged once here and becomes a problem document.

use std::{panic::AssertUnwindSafe, time::Instant};

use actix_web::{
    Error,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web,
};
use futures::FutureExt as _;
use tracing::{Instrument as _, debug, error, error_span, info};

use crate::{
    ApiError, Code, Shared,
    request_id::{REQUEST_ID_HEADER, RequestId},
};

/// Runs one request.
pub(crate) async fn boundary(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(shared) = request.app_data::<web::Data<Shared>>().cloned() else {
        return Err(ApiError::internal("the application data is missing").into());
    };
    let id = RequestId::for_request(&request, &shared.trusted_proxies);
    let method = known_method(request.method());
    // A span at the level of errors is never filtered out, so every line of ours carries the id.
    let span = error_span!("request", request.id = id.as_str(), method);
    let started = Instant::now();
    answer(&shared, &id, method, started, request, next).instrument(span).await
}

async fn answer(
    shared: &Shared,
    id: &RequestId,
    method: &'static str,
    started: Instant,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let encoded = request.headers().get_all(header::CONTENT_ENCODING).any(|coding| coding != "identity");
    let outcome = if encoded {
        let error = ApiError::new(Code::UnsupportedEncoding, "Request bodies must not be compressed.");
        Ok(request.error_response(error))
    } else {
        tokio::select! {
            biased;
            outcome = AssertUnwindSafe(next.call(request)).catch_unwind() => match outcome {
                Ok(outcome) => outcome.map(ServiceResponse::map_into_boxed_body),
                // The panic hook has logged it.
                Err(_panic) => Err(ApiError::internal("a handler panicked").into()),
            },
            () = shared.shutdown.over() => Err(ApiError::shutting_down().into()),
        }
    };
    match outcome {
        Ok(response) => Ok(finish(shared, id, method, started, response)),
        Err(error) => {
            // A response cannot be built here without its request; actix builds it from the error.
            let error = known(id, &error);
            log_failure("none", started, &error);
            shared.metrics.answered(method, "none", error.status().as_u16(), started.elapsed());
            Err(error.into())
        }
    }
}

/// Logs and counts an answer, and turns every failure into a problem document.
fn finish(
    shared: &Shared,
    id: &RequestId,
    method: &'static str,
    started: Instant,
    response: ServiceResponse<BoxBody>,
) -> ServiceResponse<BoxBody> {
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status();
    shared.metrics.answered(method, &route, status.as_u16(), started.elapsed());
    let failure = response.response().error().and_then(|error| error.as_error::<ApiError>());
    let mut response = if let Some(failure) = failure {
        log_failure(&route, started, failure);
        let problem = failure.to_response(Some(id.as_str()));
        response.into_response(problem)
    } else if (status.is_client_error() || status.is_server_error()) && !is_json(&response) {
        let failure = of_status(status);
        log_failure(&route, started, &failure);
        let mut problem = failure.to_response(Some(id.as_str()));
        if let Some(allow) = response.headers().get(header::ALLOW) {
            problem.headers_mut().insert(header::ALLOW, allow.clone());
        }
        response.into_response(problem)
    } else {
        debug!(route, status = status.as_u16(), duration_ms = duration_ms(started), "request answered");
        response
    };
    let headers = response.headers_mut();
    if let Some(id) = id.to_header_value() {
        headers.insert(REQUEST_ID_HEADER, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn is_json(response: &ServiceResponse<BoxBody>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| content_type.contains("json"))
}

/// An error that did not come from a handler's response, with the request's id.
fn known(id: &RequestId, error: &Error) -> ApiError {
    let known = match error.as_error::<ApiError>() {
        Some(error) if error.code() == Code::ShuttingDown => ApiError::shutting_down(),
        Some(error) => {
            ApiError::new(error.code(), "The request failed.").with_status(error.status()).cause(error.cause_chain())
        }
        None => of_status(error.as_response_error().status_code()).cause(error.to_string()),
    };
    known.request_id(id.as_str())
}

/// The problem for a request that actix itself refused.
fn of_status(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(Code::NotFound, "There is no such route."),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(Code::MethodNotAllowed, "This route does not support this method; Allow lists those it does.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::PayloadTooLarge, "The body is too large."),
        status if status.is_client_error() => {
            ApiError::new(Code::InvalidRequest, "The request could not be read.").with_status(status)
        }
        status => ApiError::internal(status.to_string()),
    }
}

/// The one log line of a failure. It is an error if the server failed and someone must act, and info if the client was wrong.
fn log_failure(route: &str, started: Instant, failure: &ApiError) {
    let (status, code, cause) = (failure.status().as_u16(), failure.code().as_str(), failure.cause_chain());
    let image = failure.about().map(tracing::field::display);
    let duration_ms = duration_ms(started);
    if failure.status().is_server_error() && !matches!(failure.code(), Code::Overloaded | Code::ShuttingDown) {
        error!(route, status, code, cause, image.id = image, duration_ms, "request failed");
    } else {
        info!(route, status, code, cause, image.id = image, duration_ms, "request refused");
    }
}

/// A method's name from a fixed set, so that clients cannot add labels to logs and metrics.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn duration_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
