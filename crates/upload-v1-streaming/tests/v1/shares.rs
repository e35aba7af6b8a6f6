//! One user cannot have everything, with the default limits.

use futures::future::join_all;
use upload_domain::{ImageFormat, ImagePath, Role};
use upload_sandbox::{
    client::{Answer, Client},
    raw::{RawForm, RawRequest},
    samples::jpeg_of_exactly,
};

use crate::rig::{Rig, STREAM, UNHURRIED, UPLOADS_PER_USER, until};

/// If each of them had `MAX_IMAGE_BYTES` of the buffer, there would be no room for another (`BUFFER_BUDGET_BYTES`).
const CHUNKED_FORMS: usize = 6;

#[tokio::test]
async fn one_user_takes_neither_every_place_nor_the_whole_buffer() {
    let rig = Rig::start(&[UNHURRIED]).await;
    let file = jpeg_of_exactly(600_000, 1);
    let created = rig.create().await;

    // One chunked form may become as large as an image may be. Two are more than a user's share of the buffer.
    let mut held = vec![begin_chunked(&rig).await];
    until(async || rig.metric("uploads_active").await == 1).await;
    let more = (1..CHUNKED_FORMS).map(async |_form| begin_chunked(&rig).await.answer().await.unwrap());
    join_all(more).await.iter().for_each(assert_too_many);
    while held.len() < UPLOADS_PER_USER {
        let mut upload =
            RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
        upload.send(&file[..10_000]).await;
        held.push(upload);
    }
    until(async || rig.metric("uploads_active").await == UPLOADS_PER_USER as u64).await;
    assert_too_many(&stream(&rig.client(), &file).await);
    assert_too_many(&rig.client().upload(created.form(), file.clone()).await.unwrap());

    let other = rig.stand.add_person(Role::User).await.unwrap();
    let client = rig.client().with_token(&other.token);
    let streamed = stream(&client, &file).await.expect_status(201).unwrap();
    client.link_profile(streamed.image_id()).await.unwrap().expect_status(201).unwrap();
    let chunked = RawForm::of_profile_image().send_chunked(&rig.server.url, STREAM, &other.token, &file).await;
    assert_eq!(chunked.unwrap().status, 201);
    assert_eq!((rig.uploads("streamed").await, rig.uploads("buffered").await), (1, 1));
    assert_eq!(rig.metric("uploads_active").await, UPLOADS_PER_USER as u64, "they were all there");
}

/// A form whose length nobody knows, of which only the beginning comes.
async fn begin_chunked(rig: &Rig) -> RawRequest {
    RawForm::of_profile_image().begin_chunked(&rig.server.url, STREAM, &rig.person.token).await.unwrap()
}

async fn stream(client: &Client, file: &[u8]) -> Answer {
    client.stream(ImagePath::UserProfile, ImageFormat::Jpeg, file.to_vec()).await.unwrap()
}

fn assert_too_many(answer: &Answer) {
    assert_eq!(answer.refusal(), (429, "too_many_uploads"));
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
}
