//! The promises of the embedded S3: it enforces conditions and checksums, its keys have few rights, and it checks forms as S3 does.

mod forms;
mod objects;
mod permissions;
mod signing;
mod versions;

use reqwest::{Method, Response, StatusCode};
use signing::Request;
use upload_sandbox::s3::{EmbeddedS3, Key};

/// A store of its own with one bucket.
async fn store_with_bucket() -> (EmbeddedS3, &'static str) {
    let s3 = EmbeddedS3::start().await.unwrap();
    let created = Request::new(Method::PUT, "/bucket").send(&s3, &s3.connection().admin).await;
    assert_eq!(created.status(), StatusCode::OK);
    (s3, "bucket")
}

async fn put(s3: &EmbeddedS3, key: &str, body: impl Into<Vec<u8>>) -> Response {
    Request::new(Method::PUT, format!("/bucket/{key}")).body(body).send(s3, &s3.connection().admin).await
}

async fn get(s3: &EmbeddedS3, key: &str) -> Option<Vec<u8>> {
    let response = Request::new(Method::GET, format!("/bucket/{key}")).send(s3, &s3.connection().admin).await;
    match response.status() {
        StatusCode::OK => Some(response.bytes().await.unwrap().to_vec()),
        StatusCode::NOT_FOUND => None,
        other => panic!("GET {key}: {other}"),
    }
}

/// Status and S3's error code.
async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code);
    (status, code.to_owned())
}

async fn send(s3: &EmbeddedS3, key: &Key, method: &str, path: &str) -> Response {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Request::new(method.parse().unwrap(), path).query(query).send(s3, key).await
}
