//! What a client hears and costs while its upload waits for a turn.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use upload_sandbox::{
    raw::{self, RawForm, RawRequest},
    samples::jpeg_of_exactly,
};

use crate::rig::{Rig, STREAM, until};

const FILE_BYTES: usize = 600_000;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A server with one turn, and the upload that has it.
async fn rig_with_an_upload() -> (Rig, RawRequest) {
    let rig = Rig::start(&[("UPLOADS_ACTIVE", "1"), ("UPLOADS_OPEN", "1")]).await;
    let upload = begin(&rig).await;
    until(async || rig.metrics().await.contains("uploads_active 1")).await;
    (rig, upload)
}

/// An upload that has sent a part of its file.
async fn begin(rig: &Rig) -> RawRequest {
    let form = RawForm::of_profile_image();
    let mut upload = form.begin(&rig.server.url, STREAM, &rig.person.token, FILE_BYTES).await.unwrap();
    upload.send(&jpeg_of_exactly(FILE_BYTES, 1)[..100_000]).await;
    upload
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_noticed() {
    let (rig, _first) = rig_with_an_upload().await;
    let second = begin(&rig).await;
    until(async || rig.metrics().await.contains("uploads_waiting 1")).await;
    drop(second);
    until(async || rig.metrics().await.contains("uploads_waiting 0")).await;
}

/// curl sends `Expect: 100-continue` with a form of more than a megabyte.
#[tokio::test]
async fn a_client_hears_continue_at_its_turn() {
    let (rig, mut first) = rig_with_an_upload().await;
    let mut second = expect(&rig, &rig.person.token).await;
    until(async || rig.metrics().await.contains("uploads_waiting 1")).await;
    assert!(second.try_read(&mut [0; 100]).is_err(), "nothing is said while it waits");

    first.send(&jpeg_of_exactly(FILE_BYTES, 1)[100_000..]).await;
    assert_eq!(first.finish().await.unwrap().status, 201);
    let mut heard = [0; CONTINUE.len()];
    second.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, CONTINUE);
    let form = RawForm::of_profile_image();
    second.write_all(&[form.head(), jpeg_of_exactly(FILE_BYTES, 2), form.tail()].concat()).await.unwrap();
    assert_eq!(raw::read_answer(&mut second).await.unwrap().unwrap().status, 201);
}

#[tokio::test]
async fn a_client_that_is_refused_does_not_hear_continue() {
    let rig = Rig::start(&[]).await;
    let mut refused = expect(&rig, "no token").await;
    assert_eq!(raw::read_answer(&mut refused).await.unwrap().unwrap().refusal(), (401, "invalid_token"));
}

/// Sends the head of an upload whose client waits for `100 Continue`.
async fn expect(rig: &Rig, token: &str) -> TcpStream {
    let form = RawForm::of_profile_image();
    let body_bytes = form.head().len() + FILE_BYTES + form.tail().len();
    let url = format!("{}{STREAM}", rig.server.url);
    let headers = [
        ("Authorization", format!("Bearer {token}")),
        ("Content-Type", format!("multipart/form-data; boundary={}", form.boundary)),
        ("Content-Length", body_bytes.to_string()),
        ("Expect", "100-continue".to_owned()),
    ];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let address = raw::authority(&url.parse().unwrap()).unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&raw::request("POST", &url, &headers, b"").unwrap()).await.unwrap();
    client
}
