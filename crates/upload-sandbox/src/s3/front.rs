//! Stands before `s3s` 0.14 and does what `s3s` does not do:
//!
//! - CORS: answers preflights, and adds the headers to every other answer;
//! - refuses session tokens, which no key of this store has (except in forms, where they are ordinary fields);
//! - refuses SigV2, and credentials for another region or service than `us-east-1/s3` (`s3s` takes any);
//! - refuses `x-amz-*` headers that a signature does not cover, as AWS does: `x-amz-copy-source` beside a presigned PUT would
//!   turn it into a copy;
//! - refuses a POST without `Content-Length`, and writes the full `Location` and quoted `ETag` into the XML of a 201;
//! - reads on for a moment if an answer comes before the end of the body: hyper closes such a connection with bytes unread,
//!   and the reset that follows can overtake the answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::dto::PostResponse;
use s3s::service::S3Service;
use s3s::{Body, HttpResponse, S3Error, S3Result, s3_error, xml};
use tokio::net::TcpListener;

use super::backend::Posted;
use super::store::Store;
use super::{EXPIRED_TOKEN, cors, host};

/// How much of a body the store still reads after the answer is known, and for how long.
const LARGEST_REST_BYTES: u64 = 64 * 1024 * 1024;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The largest frame of a body. If a frame ends with a possible start of a boundary, `s3s` takes at most 64 KiB behind it (its
/// `http/multipart.rs`). hyper's own frames have up to 408 KiB.
const MAX_FRAME_BYTES: usize = 32 * 1024;

#[derive(Clone)]
pub(super) struct Front {
    s3: S3Service,
    store: Arc<Store>,
    region: &'static str,
}

impl Front {
    pub(super) fn new(s3: S3Service, store: Arc<Store>, region: &'static str) -> Self {
        Self { s3, store, region }
    }

    /// Accepts connections until the runtime ends.
    pub(super) async fn serve(self, listener: TcpListener) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Either a connection closed before it was accepted, or there is no file descriptor left. The next may succeed.
                    tracing::warn!(%error, "the embedded S3 could not accept a connection");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let front = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let front = front.clone();
                    async move { Ok::<_, Infallible>(front.answer(request).await) }
                });
                if let Err(error) = http1::Builder::new()
                    .max_buf_size(MAX_FRAME_BYTES)
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                {
                    tracing::debug!(%error, "a connection to the embedded S3 broke");
                }
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> HttpResponse {
        let in_path = || request.uri().path().split('/').nth(1).unwrap_or_default();
        let bucket = host::bucket_of(request.headers()).unwrap_or_else(in_path).to_owned();
        if !bucket.is_empty() {
            self.store.traffic.sender(&bucket).send_modify(|traffic| traffic.requests += 1);
        }
        let rules = self.store.bucket(&bucket).map(|bucket| bucket.cors()).unwrap_or_default();
        if request.method() == Method::OPTIONS {
            return cors::preflight(&rules, request.headers()).unwrap_or_else(refuse);
        }

        let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok()).map(str::to_owned);
        let method = request.method().clone();
        let (head, body) = request.into_parts();
        let body = SharedBody(Arc::new(Mutex::new(Some(body))));
        let mut response = match check(&head, self.region) {
            Err(error) => refuse(error),
            Ok(()) => {
                let request = Request::from_parts(head, Body::http_body_unsync(body.clone()));
                match self.s3.call(request).await {
                    Ok(response) => complete_post(response),
                    Err(error) => refuse(S3Error::with_source(s3s::S3ErrorCode::InternalError, error.into())),
                }
            }
        };
        body.read_rest().await;
        if let Some(origin) = origin {
            cors::expose(&rules, &origin, method.as_str(), response.headers_mut());
        }
        response
    }
}

/// The checks of a request that need no body.
fn check(head: &hyper::http::request::Parts, region: &str) -> S3Result<()> {
    let query: Vec<(String, String)> = match head.uri.query() {
        // Any base URL works here: only the query matters.
        Some(query) => url::Url::parse(&format!("http://s3/?{query}"))
            .map(|url| url.query_pairs().into_owned().collect())
            .map_err(|_| s3_error!(InvalidURI))?,
        None => Vec::new(),
    };
    let parameter = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let authorization = match head.headers.get(AUTHORIZATION) {
        Some(value) => Some(value.to_str().map_err(|_| s3_error!(InvalidRequest))?),
        None => None,
    };

    let is_form = head.method == Method::POST
        && head.headers.get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes().get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
        });
    if is_form && !head.headers.contains_key(CONTENT_LENGTH) {
        return Err(s3_error!(MissingContentLength));
    }
    if parameter("Signature").is_some() || authorization.is_some_and(|value| value.starts_with("AWS ")) {
        return Err(s3_error!(InvalidRequest, "Please use AWS4-HMAC-SHA256."));
    }
    let signed = match (authorization, parameter("X-Amz-Credential")) {
        (Some(authorization), _) => {
            Some((part_of(authorization, "Credential="), part_of(authorization, "SignedHeaders=")))
        }
        (None, Some(credential)) => Some((credential, parameter("X-Amz-SignedHeaders").unwrap_or_default())),
        // Unsigned, or a form: the access hook decides.
        (None, None) => None,
    };
    let Some((credential, signed_headers)) = signed else { return Ok(()) };
    if !credential.ends_with(&format!("/{region}/s3/aws4_request")) {
        return Err(s3_error!(AuthorizationHeaderMalformed, "The credential must be for {region}/s3/aws4_request"));
    }
    let in_header = head.headers.get("x-amz-security-token").map(HeaderValue::as_bytes);
    // No key of this store has a token.
    match in_header.or(parameter("X-Amz-Security-Token").map(str::as_bytes)) {
        None => {}
        Some(token) if token == EXPIRED_TOKEN.as_bytes() => {
            return Err(s3_error!(ExpiredToken, "The provided token has expired."));
        }
        Some(_unknown) => {
            return Err(s3_error!(InvalidToken, "The provided token is malformed or otherwise invalid."));
        }
    }
    for name in head.headers.keys().filter(|name| name.as_str().starts_with("x-amz-")) {
        if !signed_headers.split(';').any(|signed| signed.eq_ignore_ascii_case(name.as_str())) {
            return Err(s3_error!(
                AccessDenied,
                "There were headers present in the request which were not signed: {name}"
            ));
        }
    }
    Ok(())
}

/// `value` of `… name=value, …` in an `Authorization` header.
fn part_of<'a>(authorization: &'a str, name: &str) -> &'a str {
    let rest = authorization.split_once(name).map_or("", |(_, rest)| rest);
    rest.split(',').next().unwrap_or_default().trim()
}

fn complete_post(mut response: HttpResponse) -> HttpResponse {
    let Some(posted) = response.extensions_mut().remove::<Posted>() else { return response };
    if response.status() != StatusCode::CREATED {
        return response;
    }
    let answer =
        PostResponse { location: &posted.location, bucket: &posted.bucket, key: &posted.key, etag: &posted.etag };
    let mut body = Vec::new();
    let mut serializer = xml::Serializer::new(&mut body);
    if let Err(error) = serializer.decl().and_then(|()| xml::Serialize::serialize(&answer, &mut serializer)) {
        return refuse(S3Error::internal_error(error));
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
    response
}

fn refuse(error: S3Error) -> HttpResponse {
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// A request body that `s3s` reads, and that still exists when `s3s` has dropped it.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Option<Incoming>>>);

impl SharedBody {
    async fn read_rest(&self) {
        let rest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut rest) = rest.filter(|rest| !rest.is_end_stream()) else { return };
        let mut bytes = 0;
        let read = async {
            while let Some(Ok(frame)) = rest.frame().await {
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if bytes > LARGEST_REST_BYTES {
                    break;
                }
            }
        };
        // A client that holds back the rest still gets its answer, and then a closed connection.
        if tokio::time::timeout(LONGEST_REST, read).await.is_err() {
            tracing::debug!("a client did not send the rest of a body that the embedded S3 had already answered");
        }
    }
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
