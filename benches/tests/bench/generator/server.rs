//! A server that answers as a test tells it, and counts what it receives.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::io::{InspectReader, InspectWriter};
use url::Url;

const PATIENCE: Duration = Duration::from_secs(60);

/// An answer. An error closes the connection.
pub type Answer = Result<Response<Full<Bytes>>, &'static str>;

/// A server on a port of its own, until it is dropped.
pub struct Server {
    pub url: Url,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: watch::Sender<u64>,
    requests: watch::Sender<u64>,
    bytes_read: watch::Sender<u64>,
    bytes_written: watch::Sender<u64>,
    read: Mutex<Vec<Read>>,
}

/// A request, as it was read to its end.
#[derive(Debug, Clone)]
pub struct Read {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Read {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request that has arrived.
pub struct Arrived {
    /// Counted from 1, over all connections.
    pub number: u64,
    pub path: String,
    request: Request<Incoming>,
    seen: Arc<Seen>,
}

impl Arrived {
    /// Reads the body, and records the request.
    pub async fn read(self) -> Result<Read, &'static str> {
        let (head, body) = self.request.into_parts();
        let body = body.collect().await.map_err(|_| "the body broke off")?.to_bytes();
        let read = Read { method: head.method, path: self.path, headers: head.headers, body };
        self.seen.read.lock().unwrap().push(read.clone());
        Ok(read)
    }
}

impl Server {
    pub async fn start<A: Future<Output = Answer> + Send + 'static>(
        answer: impl Fn(Arrived) -> A + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (seen, answer) = (Arc::new(Seen::default()), Arc::new(answer));
        let shared = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                seen.connections.send_modify(|connections| *connections += 1);
                connections.spawn(async move {
                    let (reads, writes) = (Arc::clone(&seen), Arc::clone(&seen));
                    let count = |counter: &watch::Sender<u64>, bytes: &[u8]| {
                        counter.send_modify(|counted| *counted += bytes.len() as u64);
                    };
                    let tcp = InspectWriter::new(tcp, move |bytes: &[u8]| count(&writes.bytes_written, bytes));
                    let tcp = InspectReader::new(tcp, move |bytes: &[u8]| count(&reads.bytes_read, bytes));
                    let stream = TokioIo::new(tcp);
                    let service = service_fn(|request: Request<Incoming>| {
                        let mut number = 0;
                        seen.requests.send_modify(|requests| {
                            *requests += 1;
                            number = *requests;
                        });
                        let path = request.uri().path().to_owned();
                        answer(Arrived { number, path, request, seen: Arc::clone(&seen) })
                    });
                    let _broken_off = http1::Builder::new().serve_connection(stream, service).await;
                });
            }
        });
        Self { url, seen, accepting }
    }

    /// A server and store in one, which creates, takes and links every image. Its forms lead to `store`, or to itself.
    pub async fn of_images(store: Option<Url>) -> Self {
        Self::start(move |arrived| {
            let store = store.clone();
            async move {
                let number = arrived.number;
                let read = arrived.read().await?;
                if read.path != "/user/images" {
                    return Ok(status(201));
                }
                let itself = || format!("http://{}", read.headers["host"].to_str().unwrap()).parse().unwrap();
                Ok(created(number, &store.unwrap_or_else(itself), read.text().contains("PUT")))
            }
        })
        .await
    }

    pub fn connections(&self) -> u64 {
        *self.seen.connections.borrow()
    }

    pub fn requests(&self) -> u64 {
        *self.seen.requests.borrow()
    }

    /// Requests to this path that were read to their end.
    pub fn read(&self, path: &str) -> Vec<Read> {
        self.seen.read.lock().unwrap().iter().filter(|read| read.path == path).cloned().collect()
    }

    /// Waits until this many requests have arrived.
    pub async fn has_received(&self, requests: u64) {
        let mut received = self.seen.requests.subscribe();
        timeout(PATIENCE, received.wait_for(|received| *received >= requests)).await.unwrap().unwrap();
    }

    pub fn bytes_read(&self) -> u64 {
        *self.seen.bytes_read.borrow()
    }

    /// Waits for the count: a client may have an answer before the server counts it.
    pub async fn has_written(&self, bytes: u64) {
        let mut written = self.seen.bytes_written.subscribe();
        let come = timeout(PATIENCE, written.wait_for(|written| *written >= bytes)).await.map(|come| *come.unwrap());
        assert_eq!(come, Ok(bytes), "{} bytes were written", *self.seen.bytes_written.borrow());
    }
}

impl Arrived {
    /// Waits until this many requests have arrived, including this one.
    pub async fn arrivals(&self, requests: u64) {
        self.seen.requests.subscribe().wait_for(|arrived| *arrived >= requests).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub fn status(status: u16) -> Response<Full<Bytes>> {
    text(status, "{}")
}

pub fn text(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

pub fn overloaded(retry_after: Option<&str>) -> Response<Full<Bytes>> {
    let mut answer = text(503, r#"{"type":"about:blank","status":503,"code":"overloaded"}"#);
    answer.headers_mut().extend(retry_after.map(|seconds| (hyper::header::RETRY_AFTER, seconds.parse().unwrap())));
    answer
}

pub fn uploaded(number: u64) -> Response<Full<Bytes>> {
    text(201, json!({ "imageEntity": { "id": number.to_string() } }).to_string())
}

/// An answer to `POST /user/images`. Its fields are not in alphabetical order.
fn created(number: u64, store: &Url, is_put: bool) -> Response<Full<Bytes>> {
    let form = if is_put {
        format!(r#"{{"method": "PUT", "url": "{store}object?sig=a%2Fb", "headers": {{"content-type": "image/jpeg"}}}}"#)
    } else {
        format!(r#"{{"method": "POST", "url": "{store}bucket", "fields": {{"key": "k{number}", "bucket": "b"}}}}"#)
    };
    text(201, format!(r#"{{"imageEntity": {{"id": "image-{number}"}}, "presignedPost": {form}}}"#))
}
