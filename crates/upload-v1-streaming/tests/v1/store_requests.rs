//! What V1 sends to the store, as bytes on the wire.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use upload_domain::Sha256Checksum;
use upload_sandbox::{client::Answer, head::RequestHead, raw::RawForm, relay::Passed, samples::jpeg_of_exactly};

use crate::rig::{Rig, STREAM};

/// Long enough to be streamed.
const LONG_BYTES: usize = 700_000;
/// Short enough to be held in memory, although its length is known.
const SHORT_BYTES: usize = 200_000;

#[tokio::test]
async fn an_upload_is_one_put_of_the_files_own_bytes() {
    let rig = Rig::start(&[]).await;
    rig.store.keep_heads();
    for bytes in [LONG_BYTES, SHORT_BYTES] {
        let file = jpeg_of_exactly(bytes, 1);
        for is_chunked in [false, true] {
            let what = format!("{bytes} bytes by the stream route, chunked: {is_chunked}");
            let before = rig.store.passed();
            by_stream_route(&rig, &file, is_chunked).await;
            assert_one_put(&rig, before, &file, &what);
            for is_declared in [false, true] {
                let what = format!("{bytes} bytes by ticket, chunked: {is_chunked}, checksum: {is_declared}");
                let created = create(&rig, is_declared.then_some(&file)).await;
                assert_eq!(rig.store.take_heads(), [], "{what}: a form is made without the store");
                let before = rig.store.passed();
                by_ticket(&rig, &created, &file, is_chunked).await;
                assert_one_put(&rig, before, &file, &what);
            }
        }
    }
    assert_eq!((rig.uploads("streamed").await, rig.uploads("buffered").await), (3, 9));
}

/// What a form of V2 may have written at the incoming key is removed after the answer.
#[tokio::test]
async fn a_link_of_an_upload_reads_and_copies_nothing() {
    let mut rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(LONG_BYTES, 2);
    let streamed = by_stream_route(&rig, &file, false).await;
    let created = create(&rig, None).await;
    by_ticket(&rig, &created, &file, false).await;
    rig.store.keep_heads();
    let ids = [streamed.image_id(), created.image_id()];
    for id in ids {
        rig.client().link_profile(id).await.unwrap().expect_status(201).unwrap();
    }
    // A stop waits for what a link does after its answer.
    assert_eq!(rig.server.terminate().await.unwrap(), Some(0));
    let heads = rig.store.take_heads();
    let mut asked: Vec<_> = heads.iter().map(|head| (head.method.as_str(), path(head))).collect();
    asked.sort();
    let bucket = rig.stand.bucket();
    let wanted = ids.map(|id| ("DELETE", format!("/{bucket}/incoming/{id}")));
    assert_eq!(asked, wanted);
}

/// The only request to the store was a PUT that signs no payload, and frames, hashes and adds nothing.
fn assert_one_put(rig: &Rig, before: Passed, file: &[u8], what: &str) {
    let heads = rig.store.take_heads();
    let [put] = heads.as_slice() else { panic!("{what}: {heads:?}") };
    assert_eq!(put.method, "PUT", "{what}");
    assert!(put.target.starts_with(&format!("/{}/media/", rig.stand.bucket())), "{what}: {put:?}");
    assert_eq!(put.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "{what}");
    assert_eq!(put.header("content-length"), Some(file.len().to_string().as_str()), "{what}");
    assert_eq!(put.header("content-type"), Some("image/jpeg"), "{what}");
    for absent in ["content-encoding", "transfer-encoding", "expect", "x-amz-trailer", "x-amz-decoded-content-length"] {
        assert_eq!(put.header(absent), None, "{what}: {absent}");
    }
    assert!(!put.headers.keys().any(|name| name.as_str().contains("checksum")), "{what}: {put:?}");
    let sent = rig.store.passed().since(before);
    let bytes = (put.bytes + file.len()) as u64;
    assert_eq!((sent.requests, sent.requested_bytes), (1, bytes), "{what}: every byte is the head's or the file's");
}

/// The path of a request's target, without its query.
fn path(head: &RequestHead) -> String {
    head.target.split('?').next().unwrap_or_default().to_owned()
}

/// Creates an image to upload with a ticket, and declares this file's checksum.
async fn create(rig: &Rig, declared: Option<&Vec<u8>>) -> Answer {
    let checksum = declared.map(|file| Sha256Checksum::from(<[u8; 32]>::from(Sha256::digest(file))).to_string());
    let body = json!({ "path": "user-profile", "format": "image/jpeg", "checksumSha256": checksum });
    rig.client().post("/user/images", &body).await.unwrap().expect_status(201).unwrap()
}

async fn by_stream_route(rig: &Rig, file: &[u8], is_chunked: bool) -> Answer {
    send(rig, &RawForm::of_profile_image(), STREAM, file, is_chunked).await
}

async fn by_ticket(rig: &Rig, created: &Answer, file: &[u8], is_chunked: bool) {
    let (form, target) = (RawForm::of_ticket(created.form()).unwrap(), RawForm::target(created.form()).unwrap());
    send(rig, &form, &target, file, is_chunked).await;
}

async fn send(rig: &Rig, form: &RawForm, target: &str, file: &[u8], is_chunked: bool) -> Answer {
    let (url, token) = (&rig.server.url, &rig.person.token);
    let answer = if is_chunked {
        form.send_chunked(url, target, token, file).await
    } else {
        let mut upload = form.begin(url, target, token, file.len()).await.unwrap();
        upload.send(file).await;
        upload.finish().await
    };
    answer.unwrap().expect_status(201).unwrap()
}
