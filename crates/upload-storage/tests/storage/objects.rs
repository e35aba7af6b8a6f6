//! Each operation, on a real bucket.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::time::Duration;
use upload_domain::ImageFormat;
use upload_storage::{Head, StorageError, VersionError};

use crate::stand::{stand, stand_with, stand_without_bucket};

/// Bytes in which a test can see that one is in the wrong place.
pub fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i / 251 + i) as u8).collect()
}

#[tokio::test]
async fn the_head_of_an_object_says_what_it_is_and_how_long() {
    let stand = stand().await;
    let bytes = pattern(100_000);
    stand.storage.put("incoming/1", "image/png", bytes.clone()).await.unwrap();

    let Head { bytes: head, total_bytes, content_type, etag, version, has_client_headers } =
        stand.storage.read_head("incoming/1", None, 1000).await.unwrap().unwrap();
    assert_eq!(head, bytes[..1000]);
    assert_eq!((total_bytes, content_type.as_deref()), (100_000, Some("image/png")));
    assert_eq!((version, has_client_headers), (None, false));
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");

    let whole = stand.storage.read_head("incoming/1", None, 1_000_000).await.unwrap().unwrap();
    assert_eq!((whole.bytes, whole.total_bytes), (bytes.clone(), 100_000));
    assert_eq!(stand.storage.read("incoming/1").await.unwrap(), Some(bytes));
    assert_eq!(stand.storage.size("incoming/1").await.unwrap(), Some(100_000));
}

#[tokio::test]
async fn the_head_of_an_empty_object_is_empty() {
    let stand = stand().await;
    stand.storage.put("incoming/empty", "image/png", Bytes::new()).await.unwrap();
    let head = stand.storage.read_head("incoming/empty", None, 1000).await.unwrap().unwrap();
    assert_eq!((head.bytes, head.total_bytes), (Bytes::new(), 0));
    assert_eq!(stand.storage.size("incoming/empty").await.unwrap(), Some(0));
    assert_eq!(stand.storage.read("incoming/empty").await.unwrap(), Some(Bytes::new()));
}

#[tokio::test]
async fn a_missing_key_is_an_answer_and_a_missing_bucket_an_error() {
    let stand = stand().await;
    let storage = &stand.storage;
    assert_eq!(storage.read_head("incoming/none", None, 10).await.unwrap(), None);
    assert_eq!(storage.read("incoming/none").await.unwrap(), None);
    assert_eq!(storage.size("incoming/none").await.unwrap(), None);
    assert!(matches!(storage.sha256("incoming/none", None, "\"x\"").await, Err(VersionError::Missing)));
    let promoted = storage.promote("incoming/none", "media/none", "\"x\"", ImageFormat::Png).await;
    assert!(matches!(promoted, Err(VersionError::Missing)), "{promoted:?}");
    storage.delete("incoming/none").await.unwrap();
    assert_eq!(storage.delete_many(&["incoming/none".to_owned()]).await.unwrap(), Vec::<String>::new());

    let lost = stand_without_bucket(|_settings| {}).await;
    assert!(matches!(lost.storage.read_head("incoming/1", None, 10).await, Err(StorageError::Refused(_))));
    assert!(matches!(lost.storage.read("incoming/1").await, Err(StorageError::Refused(_))));
    let digest = lost.storage.sha256("incoming/1", None, "\"x\"").await;
    assert!(matches!(digest, Err(VersionError::Storage(StorageError::Refused(_)))));
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_a_dead_store_unavailable() {
    let stand = stand().await;
    let mut settings = stand.settings.clone();
    settings.secret_access_key = Some("wrong".into());
    let storage = upload_storage::Storage::new(&settings).await.unwrap();
    assert!(matches!(storage.read_head("incoming/1", None, 10).await, Err(StorageError::Refused(_))));

    // Bound but not listening, so no other process can take the port.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    settings.endpoint = format!("http://{}", dead.local_addr().unwrap()).parse().unwrap();
    let storage = upload_storage::Storage::new(&settings).await.unwrap();
    assert!(matches!(storage.read_head("incoming/1", None, 10).await, Err(StorageError::Unavailable(_))));
    assert!(matches!(
        storage.put_buffered("media/1/1", ImageFormat::Png, vec![pattern(10)]).await,
        Err(StorageError::Unavailable(_))
    ));
}

#[tokio::test]
async fn promote_copies_one_version_and_sets_what_is_served() {
    let stand = stand().await;
    let storage = &stand.storage;
    storage.put("incoming/1", "text/html", pattern(3000)).await.unwrap();
    let etag = storage.read_head("incoming/1", None, 1).await.unwrap().unwrap().etag;
    storage.promote("incoming/1", "media/1/1", &etag, ImageFormat::Webp).await.unwrap();

    let url = stand.storage.read_url("media/1/1", None, Duration::from_secs(60)).await.unwrap().url;
    let served = reqwest::get(url).await.unwrap().error_for_status().unwrap();
    let header = |name: &str| served.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("content-type").as_deref(), Some("image/webp"));
    assert_eq!(header("content-disposition").as_deref(), Some("inline"));
    assert_eq!(header("cache-control").as_deref(), Some("public, max-age=31536000, immutable"));
    assert_eq!(served.bytes().await.unwrap(), pattern(3000));
}

#[tokio::test]
async fn a_version_that_has_gone_is_neither_promoted_nor_hashed() {
    let stand = stand().await;
    let storage = &stand.storage;
    storage.put("incoming/1", "image/png", pattern(3000)).await.unwrap();
    let etag = storage.read_head("incoming/1", None, 1).await.unwrap().unwrap().etag;
    let digest: [u8; 32] = Sha256::digest(pattern(3000)).into();
    assert_eq!(storage.sha256("incoming/1", None, &etag).await.unwrap(), digest);

    storage.put("incoming/1", "image/png", pattern(3001)).await.unwrap();
    assert!(matches!(storage.sha256("incoming/1", None, &etag).await, Err(VersionError::Changed)));
    let promoted = storage.promote("incoming/1", "media/1/1", &etag, ImageFormat::Png).await;
    assert!(matches!(promoted, Err(VersionError::Changed)), "{promoted:?}");
    assert_eq!(storage.read("media/1/1").await.unwrap(), None);
}

#[tokio::test]
async fn many_objects_are_listed_page_by_page_and_deleted_at_once() {
    let stand = stand().await;
    let storage = &stand.storage;
    // More than one page of a listing, and more than one batch of a deletion.
    let keys: Vec<String> = (0..1003).map(|i| format!("incoming/{i:04}")).collect();
    let puts = keys.iter().map(|key| storage.put(key, "image/png", Bytes::from_static(b"x")));
    use futures::StreamExt;
    let mut puts = futures::stream::iter(puts).buffer_unordered(16);
    while let Some(put) = puts.next().await {
        put.unwrap();
    }
    storage.put("media/1/1", "image/png", Bytes::from_static(b"x")).await.unwrap();

    let mut listed = storage.list("incoming/").await.unwrap();
    listed.sort();
    assert_eq!(listed, keys);
    assert_eq!(storage.delete_many(&keys).await.unwrap(), Vec::<String>::new());
    assert_eq!(storage.list("").await.unwrap(), ["media/1/1"]);
    storage.delete("media/1/1").await.unwrap();
    assert_eq!(storage.list("").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_signed_url_reads_one_media_key_until_it_ends_and_nothing_else() {
    let stand = stand().await;
    let storage = &stand.storage;
    for key in ["media/1/1", "media/2/1", "incoming/1"] {
        storage.put(key, "image/png", Bytes::from(key)).await.unwrap();
    }
    let lasts = Duration::from_secs(60);
    let url = storage.read_url("media/1/1", None, lasts).await.unwrap().url;
    let status = async |url: &str| reqwest::get(url).await.unwrap().status().as_u16();
    assert_eq!(status(&url).await, 200);
    assert!(url.contains(&stand.reader_key.id) && !url.contains(&stand.server_key.id));
    let unsigned = url.split('?').next().unwrap();
    let cases = [
        unsigned.to_owned(),
        url.replace("media/1/1", "media/2/1"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"),
        storage.read_url("incoming/1", None, lasts).await.unwrap().url,
    ];
    for case in cases {
        assert_eq!(status(&case).await, 403, "{case}");
    }
    // The reader may not write, even with a URL signed for it.
    let put = reqwest::Client::new().put(&url).body("x").send().await.unwrap();
    assert_eq!(put.status().as_u16(), 403);
    assert_eq!(storage.read("media/1/1").await.unwrap(), Some(Bytes::from("media/1/1")));
}

#[tokio::test]
async fn a_public_address_needs_no_signature() {
    let stand = stand_with(|settings| {
        settings.media_public_base_url = Some("https://cdn.example/pictures/".parse().unwrap());
    })
    .await;
    let url = stand.storage.read_url("media/1/1", None, Duration::from_secs(60)).await.unwrap().url;
    assert_eq!(url, "https://cdn.example/pictures/media/1/1");
}
