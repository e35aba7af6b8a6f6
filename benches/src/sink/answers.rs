//! S3's answers: those that our servers, the Node servers and the forms need.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::objects::Object;

pub(super) type Answer = Response<Full<Bytes>>;

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    with_body(status, Bytes::new())
}

pub(super) fn with_body(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

pub(super) fn xml(status: StatusCode, body: &str) -> Answer {
    let mut answer = with_body(status, format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// A refusal with one of S3's codes.
pub(super) fn refusal(code: &str) -> Answer {
    let status = match code {
        "NoSuchKey" => StatusCode::NOT_FOUND,
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "InvalidRange" => StatusCode::RANGE_NOT_SATISFIABLE,
        "NotImplemented" => StatusCode::NOT_IMPLEMENTED,
        "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    xml(status, &format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
}

/// Adds a header, if its value is valid.
pub(super) fn header(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Adds the headers of an object.
pub(super) fn of_object(answer: Answer, object: &Object) -> Answer {
    let modified = object.modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let answer = header(answer, "content-type", &object.content_type);
    let answer = header(answer, "etag", &object.etag);
    header(answer, "last-modified", &modified)
}

/// A time in XML.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Text in XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
