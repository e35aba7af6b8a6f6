//! The requests of the sink: recognised, checked and answered.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderMap, IF_MATCH, RANGE},
    http::request::Parts,
};
use serde_json::json;

use super::{
    answers::{self, Answer, empty, escaped, header, of_object, refusal, xml},
    form,
    objects::{Beginning, Object, Objects},
    signature::{Keys, Refusal},
    traffic::{Books, Connection, Role},
};

/// The source of a copy.
const COPY_SOURCE: &str = "x-amz-copy-source";
const DEFAULT_TYPE: &str = "binary/octet-stream";

/// The sink's one store.
#[derive(Debug)]
pub(super) struct Service {
    keys: Keys,
    books: Arc<Books>,
    objects: Objects,
}

impl Service {
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, books: Arc::default(), objects: Objects::default() }
    }

    pub(super) fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// Answers after the whole body was read: an earlier answer could reset a client that still sends.
    pub(super) async fn answer(&self, request: Request<Incoming>, connection: &Connection) -> Answer {
        let (head, mut body) = request.into_parts();
        if head.uri.path().starts_with("/-/") {
            connection.belongs_to(Role::Observer);
            return self.observe(&head);
        }
        let answer = self.operate(&head, &mut body, connection).await.unwrap_or_else(refusal);
        while let Some(Ok(_frame)) = body.frame().await {}
        answer
    }

    fn observe(&self, head: &Parts) -> Answer {
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/-/counts") => {
                let (objects, bytes) = self.objects.totals();
                let counts = json!({ "traffic": self.books.traffic(), "objects": objects, "bytes": bytes });
                let answer = answers::with_body(StatusCode::OK, counts.to_string());
                header(answer, "content-type", "application/json")
            }
            (&Method::POST, "/-/reset") => {
                self.objects.clear();
                self.books.reset();
                empty(StatusCode::NO_CONTENT)
            }
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    async fn operate(&self, head: &Parts, body: &mut Incoming, connection: &Connection) -> Result<Answer, Refusal> {
        let path = head.uri.path().trim_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if let Some(content_type) = form_type(head) {
            return self.post_form(bucket, content_type, body, connection).await;
        }
        let signed = self.keys.who_signed(head);
        let operation = operation(head, key);
        connection.request(signed.unwrap_or(Role::Other), operation);
        signed?;
        match operation {
            "PutObject" => self.put(head, path, body).await,
            "CopyObject" => self.copy(head, path),
            "GetObject" => self.get(head, path),
            "HeadObject" => {
                let object = self.found(head, path)?;
                let answer = header(empty(StatusCode::OK), "content-length", &object.length.to_string());
                Ok(of_object(answer, &object))
            }
            "DeleteObject" => {
                self.objects.remove(path);
                Ok(empty(StatusCode::NO_CONTENT))
            }
            "HeadBucket" | "CreateBucket" => Ok(header(empty(StatusCode::OK), "x-amz-bucket-region", "us-east-1")),
            _ => Err("NotImplemented"),
        }
    }

    async fn put(&self, head: &Parts, path: &str, body: &mut Incoming) -> Result<Answer, Refusal> {
        let mut beginning = Beginning::default();
        let mut length = 0;
        // The SDK's chunks have signatures or checksums between the bytes.
        let in_chunks = text(&head.headers, "x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-"));
        while let Some(frame) = body.frame().await {
            let bytes = frame.map_err(|_broken| "IncompleteBody")?.into_data().unwrap_or_default();
            length += bytes.len() as u64;
            if !in_chunks {
                beginning.add(&bytes);
            }
        }
        if in_chunks {
            let decoded = text(&head.headers, "x-amz-decoded-content-length").and_then(|length| length.parse().ok());
            length = decoded.ok_or("MissingContentLength")?;
        }
        let etag = self.objects.put(path.to_owned(), length, content_type(head), beginning.of_length(length));
        Ok(header(empty(StatusCode::OK), "etag", &etag))
    }

    fn copy(&self, head: &Parts, path: &str) -> Result<Answer, Refusal> {
        let source = text(&head.headers, COPY_SOURCE).unwrap_or_default().trim_start_matches('/');
        let object = self.objects.get(source).ok_or("NoSuchKey")?;
        if text(&head.headers, "x-amz-copy-source-if-match").is_some_and(|etag| etag != object.etag) {
            return Err("PreconditionFailed");
        }
        let replaced = text(&head.headers, "x-amz-metadata-directive") == Some("REPLACE");
        let content_type = if replaced { content_type(head) } else { object.content_type };
        let etag = self.objects.put(path.to_owned(), object.length, content_type, object.beginning);
        let (etag, modified) = (escaped(&etag), answers::time(chrono::Utc::now()));
        let body = format!("<ETag>{etag}</ETag><LastModified>{modified}</LastModified>");
        Ok(xml(StatusCode::OK, &format!("<CopyObjectResult>{body}</CopyObjectResult>")))
    }

    /// A range within the beginning, or the whole of a small object: the sink keeps no other bytes.
    fn get(&self, head: &Parts, path: &str) -> Result<Answer, Refusal> {
        let object = self.found(head, path)?;
        let Some(range) = text(&head.headers, RANGE.as_str()) else {
            let whole = object.length == object.beginning.len() as u64;
            let body = if whole { object.beginning.clone() } else { return Err("NotImplemented") };
            return Ok(of_object(answers::with_body(StatusCode::OK, body), &object));
        };
        let range = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let (first, last) = range.ok_or("InvalidRange")?;
        let first: u64 = first.parse().map_err(|_error| "InvalidRange")?;
        if first >= object.length {
            return Err("InvalidRange");
        }
        let last = last.parse().unwrap_or(u64::MAX).min(object.length - 1);
        let body = slice(&object.beginning, first, last).ok_or("NotImplemented")?;
        let answer = answers::with_body(StatusCode::PARTIAL_CONTENT, body);
        let content_range = format!("bytes {first}-{last}/{}", object.length);
        Ok(of_object(header(answer, "content-range", &content_range), &object))
    }

    fn found(&self, head: &Parts, path: &str) -> Result<Object, Refusal> {
        let object = self.objects.get(path).ok_or("NoSuchKey")?;
        match text(&head.headers, IF_MATCH.as_str()) {
            Some(etag) if etag != object.etag => Err("PreconditionFailed"),
            _ => Ok(object),
        }
    }

    async fn post_form(
        &self,
        bucket: &str,
        content_type: &str,
        body: &mut Incoming,
        connection: &Connection,
    ) -> Result<Answer, Refusal> {
        let fields = form::read_fields(content_type, body).await;
        let signed = fields.as_ref().map_err(|refusal| *refusal);
        let signed = signed.and_then(|fields| self.keys.who_signed_form(&fields.values));
        connection.request(signed.unwrap_or(Role::Other), "PostObject");
        let fields = fields?;
        signed?;
        let field = |name: &str| fields.values.get(name).map(String::as_str);
        let key = field("key").ok_or("InvalidArgument")?;
        let (length, beginning) = fields.read_file(body).await?;
        let file_type = field("content-type").unwrap_or(DEFAULT_TYPE).to_owned();
        let etag = self.objects.put(format!("{bucket}/{key}"), length, file_type, beginning);
        let location = format!("/{bucket}/{key}");
        let answer = match field("success_action_status") {
            Some("201") => {
                let parts = [("Location", &*location), ("Bucket", bucket), ("Key", key), ("ETag", &*etag)];
                let parts = parts.map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value))).concat();
                xml(StatusCode::CREATED, &format!("<PostResponse>{parts}</PostResponse>"))
            }
            Some("200") => empty(StatusCode::OK),
            _ => empty(StatusCode::NO_CONTENT),
        };
        Ok(header(header(answer, "etag", &etag), "location", &location))
    }
}

/// S3's name of the operation.
fn operation(head: &Parts, key: &str) -> &'static str {
    match (&head.method, key.is_empty()) {
        (&Method::PUT, false) if head.headers.contains_key(COPY_SOURCE) => "CopyObject",
        (&Method::PUT, false) => "PutObject",
        (&Method::GET, false) => "GetObject",
        (&Method::HEAD, false) => "HeadObject",
        (&Method::DELETE, false) => "DeleteObject",
        (&Method::HEAD, true) => "HeadBucket",
        (&Method::PUT, true) => "CreateBucket",
        _ => "Other",
    }
}

fn form_type(head: &Parts) -> Option<&str> {
    let content_type = text(&head.headers, CONTENT_TYPE.as_str())?;
    let is_form = head.method == Method::POST && content_type.starts_with("multipart/form-data");
    is_form.then_some(content_type)
}

fn content_type(head: &Parts) -> String {
    text(&head.headers, CONTENT_TYPE.as_str()).unwrap_or(DEFAULT_TYPE).to_owned()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Both ends are included.
fn slice(bytes: &Bytes, first: u64, last: u64) -> Option<Bytes> {
    let (first, end) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?.checked_add(1)?);
    (first <= end && end <= bytes.len()).then(|| bytes.slice(first..end))
}
