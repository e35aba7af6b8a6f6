//! Many deletions in one call, and lists that a store breaks off. The test itself plays the store, because a real one does not give these answers on demand.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use upload_storage::{Listing, Pin, Storage, StorageError};

use crate::stand::stand_without_bucket;

/// A client of a store that the test itself plays.
async fn store() -> (Storage, TcpListener) {
    store_with(Pin::Copy).await
}

async fn store_with(pin: Pin) -> (Storage, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = stand_without_bucket(|settings| settings.pin = pin).await.settings.clone();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    (Storage::new(&settings).await.unwrap(), listener)
}

/// Reads one deletion to its end.
async fn deletion(listener: &TcpListener) -> TcpStream {
    let (mut connection, _address) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"</Delete>") {
        assert_ne!(connection.read_buf(&mut seen).await.unwrap(), 0);
    }
    connection
}

async fn answer(connection: TcpStream, errors: &str) {
    send(connection, &format!("<DeleteResult>{errors}</DeleteResult>")).await;
}

async fn send(mut connection: TcpStream, xml: &str) {
    let body = format!("<?xml version=\"1.0\"?>{xml}");
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn what_a_deletion_names_is_still_there_and_an_error_that_names_nothing_of_it_counts_for_all() {
    let (storage, listener) = store().await;
    let cases: [(&str, &[&str]); 5] = [
        ("", &[]),
        ("<Error><Key>b</Key><Code>AccessDenied</Code></Error>", &["b"]),
        ("<Error><Code>InternalError</Code></Error>", &["a", "b", "c"]),
        ("<Error><Key>b</Key><Code>AccessDenied</Code></Error><Error><Code>SlowDown</Code></Error>", &["a", "b", "c"]),
        ("<Error><Key></Key><Code>InternalError</Code></Error>", &["a", "b", "c"]),
    ];
    for (errors, expected) in cases {
        let asked = keys(&["a", "b", "c"]);
        let (left, ()) = tokio::join!(storage.delete_many(&asked), async {
            answer(deletion(&listener).await, errors).await;
        });
        assert_eq!(left.unwrap(), keys(expected), "{errors}");
    }
}

#[tokio::test]
async fn a_deletion_of_many_objects_may_take_longer_than_a_small_call() {
    let (storage, listener) = store().await;
    let asked = keys(&["a"]);
    let mut deleting = std::pin::pin!(storage.delete_many(&asked));
    let connection = tokio::select! {
        left = &mut deleting => panic!("{left:?}"),
        connection = deletion(&listener) => connection,
    };
    // The call has begun. Now the clock jumps by the time that a small call has for all its attempts.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    tokio::time::resume();
    let (left, ()) = tokio::join!(deleting, answer(connection, ""));
    assert_eq!(left.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deletion_that_is_never_answered_is_a_timeout() {
    let (storage, listener) = store().await;
    let asked = keys(&["a"]);
    let mut deleting = std::pin::pin!(storage.delete_many(&asked));
    let _silent = tokio::select! {
        left = &mut deleting => panic!("{left:?}"),
        connection = deletion(&listener) => connection,
    };
    tokio::time::pause();
    // A call without a limit fails the test, and does not hang it: the paused clock goes to the next timer at once.
    let left = tokio::time::timeout(Duration::from_secs(3600), deleting).await.unwrap();
    assert!(matches!(left, Err(StorageError::Timeout(_))), "{left:?}");
}

/// A list that began again would never end, and one that seemed to end would hide objects.
#[tokio::test]
async fn a_list_that_goes_on_without_saying_where_is_an_error() {
    let (storage, listener) = store().await;
    let more = "<IsTruncated>true</IsTruncated>";
    let versions = format!("<ListVersionsResult>{more}<NextKeyMarker>a</NextKeyMarker></ListVersionsResult>");
    let objects =
        format!("<ListBucketResult>{more}<NextContinuationToken>a</NextContinuationToken></ListBucketResult>");
    for (mut listing, first, second) in [
        (Listing::of_versions(&storage, ""), versions, format!("<ListVersionsResult>{more}</ListVersionsResult>")),
        (Listing::of_objects(&storage, ""), objects, format!("<ListBucketResult>{more}</ListBucketResult>")),
    ] {
        let mut listed = Vec::new();
        for page in [first, second] {
            let (next, ()) = tokio::join!(listing.next_page(), async {
                let (mut connection, _address) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    assert_ne!(connection.read_buf(&mut seen).await.unwrap(), 0);
                }
                send(connection, &page).await;
            });
            listed.push(next);
        }
        assert!(matches!(listed[..], [Ok(Some(_)), Err(StorageError::Unavailable(_))]), "{listed:?}");
    }
}

/// A key may be allowed to list versions and not to ask whether the bucket has any.
#[tokio::test]
async fn with_versions_as_the_setting_nothing_asks_the_bucket_before_a_list() {
    let (storage, listener) = store_with(Pin::Version).await;
    drop(listener);
    // The store is away: a question would fail.
    Listing::of_all(&storage, "").await.unwrap();
}
