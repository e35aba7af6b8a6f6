//! Objects: stored whole or not at all. Also conditions, decided on the very bytes that they are about, ranges, headers and listings.

use std::sync::Arc;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::signing::{Request, client, sha256_hex};
use super::{get, put, refusal, send, store_with_bucket};

/// `s3s-fs` 0.14 fails this one: its copy reads the bytes after it has accepted their ETag.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_the_bytes_whose_etag_it_accepted_while_others_replace_them() {
    let (s3, _) = store_with_bucket().await;
    let s3 = Arc::new(s3);
    let (first, second) = (vec![b'1'; 40_000], vec![b'2'; 40_000]);
    let etag = put(&s3, "incoming/a", first.clone()).await.headers()["etag"].to_str().unwrap().to_owned();

    let replay = {
        let (s3, first, second) = (Arc::clone(&s3), first.clone(), second.clone());
        tokio::spawn(async move {
            for round in 0..400 {
                put(&s3, "incoming/a", if round % 2 == 0 { second.clone() } else { first.clone() }).await;
            }
        })
    };
    let mut accepted = 0;
    for round in 0..400 {
        let key = format!("media/{round}");
        let copied = Request::new(Method::PUT, format!("/bucket/{key}"))
            .header("x-amz-copy-source", "bucket/incoming/a")
            .header("x-amz-copy-source-if-match", etag.clone())
            .send(&s3, &s3.connection().admin)
            .await;
        match copied.status() {
            StatusCode::OK => {
                accepted += 1;
                assert!(get(&s3, &key).await.unwrap() == first, "copy {round} took other bytes than it accepted");
            }
            StatusCode::PRECONDITION_FAILED => assert_eq!(get(&s3, &key).await, None),
            other => panic!("copy {round}: {other}"),
        }
    }
    replay.await.unwrap();
    assert!(accepted > 0, "no copy met the first bytes, so nothing was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_sixteen_concurrent_writers_creates_the_object() {
    let (s3, _) = store_with_bucket().await;
    let writers = (0..16).map(|writer| {
        let request = Request::new(Method::PUT, "/bucket/media/once").header("if-none-match", "*");
        request.body(format!("writer {writer}")).send(&s3, &s3.connection().admin)
    });
    let statuses: Vec<u16> = join_all(writers).await.iter().map(|response| response.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 15, "{statuses:?}");
}

#[tokio::test]
async fn conditions_are_decided_by_the_etag_that_is_there() {
    let (s3, _) = store_with_bucket().await;
    let etag = put(&s3, "media/a", "first").await.headers()["etag"].to_str().unwrap().to_owned();
    let cases = [
        (Method::GET, "media/a", "if-match", etag.as_str(), 200),
        (Method::GET, "media/a", "if-match", "\"other\"", 412),
        (Method::GET, "media/a", "if-none-match", etag.as_str(), 304),
        (Method::GET, "media/a", "if-none-match", "\"other\"", 200),
        (Method::HEAD, "media/a", "if-match", "\"other\"", 412),
        (Method::PUT, "media/a", "if-match", "\"other\"", 412),
        (Method::PUT, "media/a", "if-none-match", "*", 412),
        (Method::PUT, "media/none", "if-match", etag.as_str(), 404),
        (Method::PUT, "media/new", "if-none-match", "*", 200),
        (Method::PUT, "media/a", "if-match", etag.as_str(), 200),
    ];
    for (method, key, condition, value, expected) in cases {
        let response = Request::new(method.clone(), format!("/bucket/{key}"))
            .header(condition, value)
            .send(&s3, &s3.connection().admin)
            .await;
        assert_eq!(response.status(), expected, "{method} {key} {condition}: {value}");
    }
    assert_eq!(get(&s3, "media/a").await.unwrap(), b"", "the last PUT alone met its condition");
}

#[tokio::test]
async fn a_body_that_is_shorter_than_declared_stores_nothing() {
    let (s3, bucket) = store_with_bucket().await;
    put(&s3, "media/a", "what was there").await;
    let request = Request::new(Method::PUT, "/bucket/media/a").header("content-length", "1000");
    let mut raw = String::from("PUT /bucket/media/a HTTP/1.1\r\n");
    for (name, value) in &request.signed_headers(&s3, &s3.connection().admin, "us-east-1") {
        raw.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let mut connection = TcpStream::connect(s3.endpoint().trim_start_matches("http://")).await.unwrap();
    connection.write_all(format!("{raw}\r\n").as_bytes()).await.unwrap();
    connection.write_all(&[b'x'; 999]).await.unwrap();
    let mut traffic = s3.traffic(bucket);
    traffic.wait_for(|traffic| traffic.received_bytes == 14 + 999).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();

    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(get(&s3, "media/a").await.unwrap(), b"what was there");
    assert_eq!(s3.traffic(bucket).borrow().uploads_stored, 1);
}

#[tokio::test]
async fn bytes_can_be_awaited_while_their_sender_holds_back_the_rest() {
    let (s3, bucket) = store_with_bucket().await;
    let mut traffic = s3.traffic(bucket);
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    let length = 5_000_000;
    let headers = Request::new(Method::PUT, "/bucket/media/a")
        .header("content-length", length.to_string())
        .signed_headers(&s3, &s3.connection().admin, "us-east-1");
    let upload = client()
        .put(format!("{}/bucket/media/a", s3.endpoint()))
        .headers(headers)
        .body(reqwest::Body::wrap_stream(receiver))
        .send();
    let upload = tokio::spawn(upload);
    sender.unbounded_send(Ok(vec![7; length / 2])).unwrap();
    let seen = *traffic.wait_for(|traffic| traffic.received_bytes >= 1 << 20).await.unwrap();
    assert_eq!((seen.uploads_started, seen.uploads_stored), (1, 0));

    sender.unbounded_send(Ok(vec![7; length / 2])).unwrap();
    drop(sender);
    assert_eq!(upload.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(traffic.borrow().received_bytes, 5_000_000);
    assert_eq!(get(&s3, "media/a").await.unwrap().len(), length);
}

#[tokio::test]
async fn a_wrong_checksum_stores_nothing() {
    let (s3, _) = store_with_bucket().await;
    // The checksums of "abc" and of an empty body.
    let cases = [
        ("content-md5", "kAFQmDzST7DWlj99KOF/cg==", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        (
            "x-amz-checksum-sha256",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ),
        ("x-amz-checksum-crc32", "NSRBwg==", "AAAAAA=="),
    ];
    let key = &s3.connection().admin;
    for (header, right, wrong) in cases {
        let request = |value: &str| {
            Request::new(Method::PUT, format!("/bucket/media/{header}")).header(header, value).body("abc")
        };
        assert_eq!(refusal(request(wrong).send(&s3, key).await).await, (400, "BadDigest".into()), "{header}");
        assert_eq!(get(&s3, &format!("media/{header}")).await, None, "{header}");
        assert_eq!(request(right).send(&s3, key).await.status(), StatusCode::OK, "{header}");
    }
    let payload = |hash: String| {
        Request::new(Method::PUT, "/bucket/media/signed").header("x-amz-content-sha256", hash).body("abc")
    };
    assert_eq!(refusal(payload(sha256_hex(b"abd")).send(&s3, key).await).await.0, 400);
    assert_eq!(get(&s3, "media/signed").await, None);
    assert_eq!(payload(sha256_hex(b"abc")).send(&s3, key).await.status(), StatusCode::OK);
}

/// The SDK sends a stream so when it adds checksums: `aws-chunked`, with the checksum after the last chunk.
#[tokio::test]
async fn a_checksum_in_the_trailer_is_proven_too() {
    let (s3, _) = store_with_bucket().await;
    let upload = |key: &str, trailer: &str| {
        Request::new(Method::PUT, format!("/bucket/{key}"))
            .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .header("x-amz-decoded-content-length", "3")
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("content-encoding", "aws-chunked")
            .body(format!("3\r\nabc\r\n0\r\n{trailer}\r\n"))
    };
    let key = &s3.connection().admin;
    let right = upload("media/right", "x-amz-checksum-crc32:NSRBwg==\r\n").send(&s3, key).await;
    assert_eq!(right.status(), StatusCode::OK);
    assert_eq!(get(&s3, "media/right").await.unwrap(), b"abc");
    for (name, trailer) in [("wrong", "x-amz-checksum-crc32:AAAAAA==\r\n"), ("missing", "")] {
        let refused = upload(&format!("media/{name}"), trailer).send(&s3, key).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{name}");
        assert_eq!(get(&s3, &format!("media/{name}")).await, None, "{name}");
    }
}

#[tokio::test]
async fn ranges_are_served_and_empty_ones_are_refused() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "media/ten", "0123456789").await;
    put(&s3, "media/empty", "").await;
    let cases = [
        ("media/ten", "bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
        ("media/ten", "bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("media/ten", "bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("media/ten", "bytes=0-262143", 206, "0123456789", Some("bytes 0-9/10")),
        ("media/ten", "bytes=10-", 416, "", Some("bytes */10")),
        ("media/empty", "bytes=0-262143", 416, "", Some("bytes */0")),
        ("media/empty", "bytes=-1", 416, "", Some("bytes */0")),
    ];
    for (key, range, status, body, content_range) in cases {
        let request = Request::new(Method::GET, format!("/bucket/{key}")).header("range", range);
        let response = request.send(&s3, &s3.connection().admin).await;
        assert_eq!(response.status(), status, "{key} {range}");
        let found = response.headers().get("content-range").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(found.as_deref(), content_range, "{key} {range}");
        match status {
            206 => assert_eq!(response.text().await.unwrap(), body, "{key} {range}"),
            _ => assert_eq!(refusal(response).await.1, "InvalidRange"),
        }
    }
}

#[tokio::test]
async fn headers_are_served_as_uploaded_and_a_copy_replaces_them() {
    let (s3, _) = store_with_bucket().await;
    let key = &s3.connection().admin;
    let upload = Request::new(Method::PUT, "/bucket/incoming/a")
        .header("content-type", "text/html")
        .header("cache-control", "no-store")
        .header("content-disposition", "attachment")
        .header("x-amz-meta-colour", "green")
        .body("<b>");
    assert_eq!(upload.send(&s3, key).await.status(), StatusCode::OK);
    let served = async |name: &str| {
        let response = send(&s3, key, "HEAD", &format!("/bucket/{name}")).await;
        ["content-type", "cache-control", "content-disposition", "x-amz-meta-colour", "content-length"]
            .map(|name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
            .map(Option::unwrap_or_default)
    };
    assert_eq!(served("incoming/a").await, ["text/html", "no-store", "attachment", "green", "3"]);

    let copy = |target: &str| {
        Request::new(Method::PUT, format!("/bucket/{target}"))
            .header("x-amz-copy-source", "bucket/incoming/a")
            .header("content-type", "image/png")
            .header("cache-control", "max-age=1")
    };
    assert_eq!(copy("media/kept").send(&s3, key).await.status(), StatusCode::OK);
    assert_eq!(served("media/kept").await, ["text/html", "no-store", "attachment", "green", "3"]);
    let replaced = copy("media/replaced").header("x-amz-metadata-directive", "REPLACE").send(&s3, key).await;
    assert!(replaced.text().await.unwrap().contains("<ETag>"));
    assert_eq!(served("media/replaced").await, ["image/png", "max-age=1", "", "", "3"]);
    assert_eq!(refusal(copy("incoming/a").send(&s3, key).await).await, (400, "InvalidRequest".into()));
}

#[tokio::test]
async fn listings_have_pages_prefixes_and_folders() {
    let (s3, _) = store_with_bucket().await;
    for key in ["incoming/1", "incoming/2", "media/a/1", "media/a/2", "media/b/1", "other"] {
        put(&s3, key, key).await;
    }
    let list = async |query: &str| {
        let path = format!("/bucket?list-type=2&{query}");
        send(&s3, &s3.connection().admin, "GET", &path).await.text().await.unwrap()
    };
    let keys = |page: &str| -> Vec<String> {
        let tags = ["<Key>", "<Prefix>"];
        let entries = page.split_once("<Contents>").map_or(page, |_| page);
        tags.iter()
            .flat_map(|tag| entries.split(tag).skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()))
            .collect()
    };
    assert_eq!(keys(&list("prefix=incoming%2F").await), ["incoming/1", "incoming/2", "incoming/"]);
    assert_eq!(keys(&list("delimiter=%2F&prefix=media%2F").await), ["media/", "media/a/", "media/b/"]);

    let mut found = Vec::new();
    let mut query = "max-keys=2".to_owned();
    for pages in 1.. {
        let page = list(&query).await;
        found.extend(keys(&page));
        let Some((_, token)) = page.split_once("<NextContinuationToken>") else {
            assert!(page.contains("<IsTruncated>false</IsTruncated>"));
            assert_eq!(pages, 3);
            break;
        };
        let token = token.split('<').next().unwrap().replace('/', "%2F");
        query = format!("max-keys=2&continuation-token={token}");
    }
    assert_eq!(found, ["incoming/1", "incoming/2", "media/a/1", "media/a/2", "media/b/1", "other"]);
}

#[tokio::test]
async fn deletes_are_idempotent_and_a_bucket_goes_only_when_it_is_empty() {
    let (s3, _) = store_with_bucket().await;
    let key = &s3.connection().admin;
    put(&s3, "incoming/a", "a").await;
    put(&s3, "incoming/b", "b").await;
    assert_eq!(refusal(send(&s3, key, "DELETE", "/bucket").await).await, (409, "BucketNotEmpty".into()));
    for _ in 0..2 {
        assert_eq!(send(&s3, key, "DELETE", "/bucket/incoming/a").await.status(), StatusCode::NO_CONTENT);
        let many = "<Delete><Object><Key>incoming/b</Key></Object><Object><Key>incoming/none</Key></Object></Delete>";
        let deleted = Request::new(Method::POST, "/bucket").query("delete").body(many).send(&s3, key).await;
        assert_eq!(deleted.text().await.unwrap().matches("<Deleted>").count(), 2);
    }
    assert_eq!(get(&s3, "incoming/b").await, None);
    assert_eq!(send(&s3, key, "DELETE", "/bucket").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(send(&s3, key, "HEAD", "/bucket").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(refusal(put(&s3, "incoming/a", "a").await).await, (404, "NoSuchBucket".into()));
}

#[tokio::test]
async fn a_lifecycle_is_kept_and_shown() {
    let (s3, _) = store_with_bucket().await;
    let key = &s3.connection().admin;
    assert_eq!(refusal(send(&s3, key, "GET", "/bucket?lifecycle").await).await.1, "NoSuchLifecycleConfiguration");
    let rules = "<LifecycleConfiguration><Rule><ID>incoming</ID><Status>Enabled</Status>\
        <Filter><Prefix>incoming/</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    let set = Request::new(Method::PUT, "/bucket").query("lifecycle").body(rules).send(&s3, key).await;
    assert_eq!(set.status(), StatusCode::OK);
    let shown = send(&s3, key, "GET", "/bucket?lifecycle").await.text().await.unwrap();
    assert!(shown.contains("<Days>1</Days>") && shown.contains("<Prefix>incoming/</Prefix>"), "{shown}");
}

#[tokio::test]
async fn a_store_ends_with_its_value() {
    let (s3, _) = store_with_bucket().await;
    let address = s3.endpoint().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&address).await.unwrap();
    drop(s3);
    // Its tasks end, and their sockets with them, so the client sees the end sooner or later.
    assert_eq!(connection.read(&mut [0]).await.unwrap_or(0), 0);
}
