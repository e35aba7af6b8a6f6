//! CORS of a bucket, which `s3s` 0.14 stores for a backend but never applies: preflights, and the headers on every other answer.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use s3s::dto::CORSRule;
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode};

/// Answers a preflight, or says why not.
pub(super) fn preflight(rules: &[CORSRule], request: &HeaderMap) -> Result<HttpResponse, S3Error> {
    let (Some(origin), Some(method)) = (text(request, &ORIGIN), text(request, &ACCESS_CONTROL_REQUEST_METHOD)) else {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "A preflight needs Origin and Access-Control-Request-Method",
        ));
    };
    let wanted: Vec<&str> = text(request, &ACCESS_CONTROL_REQUEST_HEADERS)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let rule = matching(rules, origin, method).find(|rule| {
        wanted.iter().all(|name| any_matches(rule.allowed_headers.as_deref(), &name.to_ascii_lowercase()))
    });
    let Some(rule) = rule else {
        let mut refused = S3Error::with_message(
            S3ErrorCode::Custom("AccessForbidden".into()),
            "CORSResponse: This CORS request is not allowed.",
        );
        refused.set_status_code(StatusCode::FORBIDDEN);
        return Err(refused);
    };

    let mut response = HttpResponse::new(Body::empty());
    let headers = response.headers_mut();
    allow(headers, rule, origin);
    set(headers, ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
    if !wanted.is_empty() {
        set(headers, ACCESS_CONTROL_ALLOW_HEADERS, &wanted.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds {
        set(headers, ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    Ok(response)
}

/// Adds the headers that let a page of the request's origin read the answer, if a rule allows the origin and method.
pub(super) fn expose(rules: &[CORSRule], origin: &str, method: &str, response: &mut HeaderMap) {
    if let Some(rule) = matching(rules, origin, method).next() {
        allow(response, rule, origin);
    }
}

fn matching<'a>(rules: &'a [CORSRule], origin: &'a str, method: &'a str) -> impl Iterator<Item = &'a CORSRule> {
    rules.iter().filter(move |rule| {
        rule.allowed_methods.iter().any(|allowed| allowed == method) && any_matches(Some(&rule.allowed_origins), origin)
    })
}

fn allow(headers: &mut HeaderMap, rule: &CORSRule, origin: &str) {
    let anyone = rule.allowed_origins.iter().any(|allowed| allowed == "*");
    set(headers, ACCESS_CONTROL_ALLOW_ORIGIN, if anyone { "*" } else { origin });
    if let Some(exposed) = &rule.expose_headers {
        set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
    }
    set(headers, VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
}

/// Whether one of the patterns, each with at most one `*`, fits the whole value.
fn any_matches(patterns: Option<&[String]>, value: &str) -> bool {
    patterns.unwrap_or_default().iter().any(|pattern| match pattern.to_ascii_lowercase().split_once('*') {
        None => pattern.eq_ignore_ascii_case(value),
        Some((start, end)) => {
            value.len() >= start.len() + end.len() && value.starts_with(start) && value.ends_with(end)
        }
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Rules come from XML and may hold what no header can; such a rule then simply has no effect.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
