//! What an upload leaves when its server dies, or when the store does late what was given up: an object that the trail names, until a
//! sweep removes both.

use upload_sandbox::{
    client::{Answer, Client},
    relay::Mode,
    samples::jpeg_of_exactly,
};

use crate::rig::{Rig, until};

const PUT: &str = "PUT /";
const DELETE: &str = "DELETE /";
/// Long enough to be streamed.
const FILE_BYTES: usize = 300_000;

/// Uploads through the rig's server, which dies when the store holds something back on its way.
async fn upload_until_death(rig: &mut Rig, created: &Answer, file: Vec<u8>) {
    let (client, form) = (rig.client(), created.form().clone());
    let upload = tokio::spawn(async move { client.upload(&form, file).await });
    rig.store.holds(1).await;
    rig.server.kill();
    rig.server.wait().await.unwrap();
    assert!(upload.await.unwrap().is_err(), "a server that is dead has answered");
    rig.store.set(Mode::Down);
}

async fn link_and_sweep(rig: &Rig, client: &Client, created: &Answer, file: &[u8], swept: usize) {
    client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
    assert_eq!(rig.stand.sweep_attempts().await.unwrap(), swept);
    assert_eq!(rig.only_object().await, file);
    assert!(client.download(created.image_id()).await.unwrap().body == file);
}

#[tokio::test]
async fn an_object_whose_server_died_before_the_commit_is_swept() {
    let mut rig = Rig::start(&[]).await;
    let created = rig.create().await;
    rig.store.set(Mode::HoldAnswersTo(PUT));
    upload_until_death(&mut rig, &created, jpeg_of_exactly(FILE_BYTES, 1)).await;
    assert_eq!(rig.keys().await.len(), 1);

    let (_server, client) = rig.another().await;
    assert_eq!(client.link_profile(created.image_id()).await.unwrap().refusal(), (409, "upload_in_progress"));
    rig.stand.sql("UPDATE image SET attempt_until = now() - interval '1 s'").await.unwrap();
    assert_eq!(client.link_profile(created.image_id()).await.unwrap().refusal(), (409, "not_uploaded"));
    let again = jpeg_of_exactly(FILE_BYTES, 2);
    let form = client.renew_form(created.image_id()).await.unwrap();
    client.upload(form.form(), again.clone()).await.unwrap().expect_status(201).unwrap();
    assert_eq!(rig.keys().await.len(), 2);
    link_and_sweep(&rig, &client, &created, &again, 1).await;
}

#[tokio::test]
async fn the_object_before_a_second_upload_is_swept_where_its_server_died_before_deleting_it() {
    let mut rig = Rig::start(&[]).await;
    let created = rig.create().await;
    rig.client().upload(created.form(), jpeg_of_exactly(FILE_BYTES, 1)).await.unwrap().expect_status(201).unwrap();
    rig.store.set(Mode::HoldRequestsWith(DELETE));
    let second = jpeg_of_exactly(FILE_BYTES, 2);
    upload_until_death(&mut rig, &created, second.clone()).await;
    assert_eq!(rig.keys().await.len(), 2);
    let (_server, client) = rig.another().await;
    link_and_sweep(&rig, &client, &created, &second, 1).await;
}

#[tokio::test]
async fn the_object_before_a_second_upload_is_swept_where_it_could_not_be_deleted() {
    let rig = Rig::start(&[]).await;
    let created = rig.create().await;
    let second = jpeg_of_exactly(FILE_BYTES, 2);
    rig.client().upload(created.form(), jpeg_of_exactly(FILE_BYTES, 1)).await.unwrap().expect_status(201).unwrap();
    rig.store.set(Mode::BreakRequestsWith(DELETE));
    rig.client().upload(created.form(), second.clone()).await.unwrap().expect_status(201).unwrap();
    assert_eq!(rig.keys().await.len(), 2);
    link_and_sweep(&rig, &rig.client(), &created, &second, 1).await;
}

#[tokio::test]
async fn an_object_that_the_store_keeps_after_it_was_given_up_is_swept() {
    let rig = Rig::start(&[("STORAGE_STALL_SECONDS", "1")]).await;
    let created = rig.create().await;
    rig.store.set(Mode::HoldRequestsWith(PUT));
    let file = jpeg_of_exactly(FILE_BYTES, 1);
    let answer = rig.client().upload(created.form(), file.clone()).await.unwrap();
    assert_eq!(answer.refusal(), (503, "storage_timeout"));
    rig.assert_nothing_stored().await;
    // The image was released, and nobody has to wait for what may come.
    let (_server, client) = rig.another().await;
    let form = client.renew_form(created.image_id()).await.unwrap();
    client.upload(form.form(), file.clone()).await.unwrap().expect_status(201).unwrap();
    rig.store.set(Mode::Pass);
    until(async || rig.keys().await.len() == 2).await;
    link_and_sweep(&rig, &client, &created, &file, 1).await;
}
