//! What a client hears and costs while its upload waits for a turn.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use upload_sandbox::{
    raw::{self, RawForm},
    samples::jpeg_of_exactly,
};

use crate::rig::{FILE_BYTES, Half, Rig, STREAM, until};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A server with one place, and the upload that has it.
async fn rig_with_an_upload() -> (Rig, Half) {
    let rig = Rig::start(&[("UPLOADS_ACTIVE", "1"), ("UPLOADS_OPEN", "1")]).await;
    let half = Half::sent(&rig).await;
    (rig, half)
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_noticed() {
    let (rig, _first) = rig_with_an_upload().await;
    let form = RawForm::of_profile_image();
    let mut second = form.begin(&rig.server.url, STREAM, &rig.person.token, FILE_BYTES).await.unwrap();
    second.send(b"a part of the file").await;
    until(async || rig.metric("uploads_waiting").await == 1).await;
    drop(second);
    until(async || rig.metric("uploads_waiting").await == 0).await;
}

/// curl sends `Expect: 100-continue` with a form of more than a megabyte.
#[tokio::test]
async fn a_client_hears_continue_at_its_turn() {
    let (rig, first) = rig_with_an_upload().await;
    let mut second = expect(&rig, &rig.person.token).await;
    until(async || rig.metric("uploads_waiting").await == 1).await;
    assert!(second.try_read(&mut [0; 100]).is_err(), "nothing is said while it waits");

    let (answer, _image_id) = first.finish().await;
    assert_eq!(answer.status, 201);
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
    // `read_answer` skips a `100 Continue`.
    let mut heard = [0; b"HTTP/1.1 401".len()];
    refused.peek(&mut heard).await.unwrap();
    assert_eq!(&heard, b"HTTP/1.1 401");
    assert_eq!(raw::read_answer(&mut refused).await.unwrap().unwrap().refusal(), (401, "invalid_token"));
}

/// Sends the head of an upload whose client waits for `100 Continue`.
async fn expect(rig: &Rig, token: &str) -> TcpStream {
    let form = RawForm::of_profile_image();
    let body_bytes = form.head().len() + FILE_BYTES + form.tail().len();
    let more = [("Content-Length", body_bytes.to_string()), ("Expect", "100-continue".to_owned())];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    let head = form.request_head(&rig.server.url, STREAM, token, &more).unwrap();
    let address = raw::authority(&rig.server.url.parse().unwrap()).unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&head).await.unwrap();
    client
}
