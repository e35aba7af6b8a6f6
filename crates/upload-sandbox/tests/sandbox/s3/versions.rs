//! Versions and delete markers, as on AWS. The tests of upload-storage compare this store with a MinIO.

use std::sync::Arc;

use futures::future::join_all;
use reqwest::{Method, Response, StatusCode};
use upload_sandbox::s3::EmbeddedS3;

use super::signing::Request;
use super::{get, put, refusal, send, store_with_bucket};

async fn set_versioning(s3: &EmbeddedS3, status: &str) {
    let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    let set = Request::new(Method::PUT, "/bucket").query("versioning=").body(body);
    assert_eq!(set.send(s3, &s3.connection().admin).await.status(), StatusCode::OK);
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn version(response: &Response) -> String {
    header(response, "x-amz-version-id").unwrap()
}

async fn admin(s3: &EmbeddedS3, method: &str, path: &str) -> Response {
    send(s3, &s3.connection().admin, method, path).await
}

#[tokio::test]
async fn a_bucket_without_versioning_shows_no_versions() {
    let (s3, _) = store_with_bucket().await;
    let stored = put(&s3, "media/a", "a").await;
    assert_eq!(header(&stored, "x-amz-version-id"), None);
    assert_eq!(header(&admin(&s3, "DELETE", "/bucket/media/a").await, "x-amz-delete-marker"), None);
    assert!(admin(&s3, "GET", "/bucket?versions=").await.text().await.unwrap().contains("<IsTruncated>false"));
}

#[tokio::test]
async fn each_write_is_a_version_and_a_delete_only_hides() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "media/a", "before").await;
    set_versioning(&s3, "Enabled").await;
    let (one, two) = (version(&put(&s3, "media/a", "one").await), version(&put(&s3, "media/a", "two").await));
    assert_ne!(one, two);
    let hidden = admin(&s3, "DELETE", "/bucket/media/a").await;
    let marker = version(&hidden);
    assert_eq!(header(&hidden, "x-amz-delete-marker").as_deref(), Some("true"));
    assert_eq!(get(&s3, "media/a").await, None);
    assert!(!admin(&s3, "GET", "/bucket?list-type=2").await.text().await.unwrap().contains("<Key>"));
    for (id, bytes) in [("null", "before"), (&one, "one"), (&two, "two")] {
        let path = format!("/bucket/media/a?versionId={id}");
        let head = admin(&s3, "HEAD", &path).await;
        assert_eq!((head.status(), version(&head).as_str()), (StatusCode::OK, id));
        assert_eq!(admin(&s3, "GET", &path).await.text().await.unwrap(), bytes);
    }
    let of_marker = admin(&s3, "GET", &format!("/bucket/media/a?versionId={marker}")).await;
    assert_eq!(refusal(of_marker).await, (405, "MethodNotAllowed".to_owned()));
    let unknown = admin(&s3, "GET", "/bucket/media/a?versionId=unknown").await;
    assert_eq!(refusal(unknown).await, (404, "NoSuchVersion".to_owned()));

    let list = admin(&s3, "GET", "/bucket?versions=").await.text().await.unwrap();
    let places = [&two, &one, "null"].map(|id| list.find(&format!("<VersionId>{id}</VersionId>")).unwrap());
    assert!(places.is_sorted(), "the newest comes first: {list}");
    assert!(list.contains("<DeleteMarker>") && list.contains(&marker), "{list}");
    let removed = admin(&s3, "DELETE", &format!("/bucket/media/a?versionId={marker}")).await;
    assert_eq!(header(&removed, "x-amz-delete-marker").as_deref(), Some("true"));
    assert_eq!(get(&s3, "media/a").await.as_deref(), Some(b"two".as_slice()));
}

#[tokio::test]
async fn without_versioning_again_a_write_replaces_the_version_null_alone() {
    let (s3, _) = store_with_bucket().await;
    set_versioning(&s3, "Enabled").await;
    let kept = version(&put(&s3, "media/a", "kept").await);
    set_versioning(&s3, "Suspended").await;
    for bytes in ["one", "two"] {
        assert_eq!(version(&put(&s3, "media/a", bytes).await), "null");
    }
    assert_eq!(version(&admin(&s3, "DELETE", "/bucket/media/a").await), "null");
    assert_eq!(get(&s3, "media/a").await, None);
    let list = admin(&s3, "GET", "/bucket?versions=").await.text().await.unwrap();
    assert_eq!(list.matches("<VersionId>").count(), 2, "{list}");
    admin(&s3, "DELETE", "/bucket/media/a?versionId=null").await;
    let read = admin(&s3, "GET", "/bucket/media/a").await;
    assert_eq!(version(&read), kept);
}

#[tokio::test]
async fn actions_on_versions_are_rights_of_their_own() {
    let (s3, _) = store_with_bucket().await;
    set_versioning(&s3, "Enabled").await;
    let (incoming, media) = (version(&put(&s3, "incoming/a", "a").await), version(&put(&s3, "media/a", "a").await));
    let keys = s3.keys();
    for (key, method, path, status) in [
        (&keys.reader, "GET", format!("/bucket/incoming/a?versionId={incoming}"), 200),
        (&keys.reader, "GET", "/bucket/incoming/a".to_owned(), 403),
        (&keys.reader, "GET", format!("/bucket/media/a?versionId={media}"), 403),
        (&keys.reader, "GET", "/bucket/incoming/a?versionId=unknown".to_owned(), 403),
        (&keys.reader, "DELETE", format!("/bucket/incoming/a?versionId={incoming}"), 403),
        (&keys.signer, "GET", format!("/bucket/incoming/a?versionId={incoming}"), 403),
        (&keys.server, "DELETE", format!("/bucket/incoming/a?versionId={incoming}"), 204),
    ] {
        assert_eq!(send(&s3, key, method, &path).await.status(), status, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_each_make_a_version_of_their_own_bytes() {
    let (s3, _) = store_with_bucket().await;
    let s3 = Arc::new(s3);
    set_versioning(&s3, "Enabled").await;
    let writers = (0..64).map(|writer| {
        let s3 = Arc::clone(&s3);
        async move { (writer, version(&put(&s3, "incoming/a", format!("writer {writer}")).await)) }
    });
    for (writer, id) in join_all(writers).await {
        let read = admin(&s3, "GET", &format!("/bucket/incoming/a?versionId={id}")).await;
        assert_eq!(read.text().await.unwrap(), format!("writer {writer}"));
    }
}
