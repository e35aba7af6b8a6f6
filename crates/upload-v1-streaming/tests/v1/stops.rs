//! SIGTERM during an upload.

use upload_sandbox::{raw::RawForm, relay::Mode, samples::jpeg_of_exactly};

use crate::rig::{Rig, STREAM, until};

const FILE_BYTES: usize = 1_000_000;

#[tokio::test]
async fn an_upload_in_flight_is_finished_before_the_server_stops() {
    let mut rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(FILE_BYTES, 1);
    let mut upload =
        RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    upload.send(&file[..FILE_BYTES / 2]).await;
    rig.store.requested(200_000).await;
    rig.server.ask_to_stop();
    rig.server.wait_for_log(|line| line.contains("SIGTERM")).await.unwrap();
    upload.send(&file[FILE_BYTES / 2..]).await;
    assert_eq!(upload.finish().await.unwrap().status, 201);
    assert_eq!(rig.server.wait().await.unwrap().code(), Some(0));
    assert!(rig.only_object().await == file);
    assert_eq!(rig.stand.count("image WHERE media_key IS NOT NULL AND attempt IS NULL").await.unwrap(), 1);
}

#[tokio::test]
async fn a_stop_between_put_and_commit_loses_nothing() {
    let mut rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(FILE_BYTES, 2);
    let mut upload =
        RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    upload.send(&file[..FILE_BYTES / 2]).await;
    rig.store.requested(200_000).await;
    rig.database.set(Mode::HoldRequests);
    upload.send(&file[FILE_BYTES / 2..]).await;
    let answer = tokio::spawn(upload.finish());
    // Ask again and again until the object is there. The store never shows a part of it.
    until(async || !rig.keys().await.is_empty()).await;
    rig.server.ask_to_stop();
    rig.server.wait_for_log(|line| line.contains("SIGTERM")).await.unwrap();
    assert_eq!(rig.stand.count("image WHERE media_key IS NOT NULL").await.unwrap(), 0, "not committed yet");
    rig.database.set(Mode::Pass);
    assert_eq!(answer.await.unwrap().unwrap().status, 201);
    assert_eq!(rig.server.wait().await.unwrap().code(), Some(0));
    assert_eq!(rig.stand.count("image WHERE media_key IS NOT NULL AND attempt IS NULL").await.unwrap(), 1);
}

#[tokio::test]
async fn an_upload_that_outlasts_the_stop_is_cut_off_and_the_exit_code_says_so() {
    let mut rig = Rig::start(&[("SHUTDOWN_TIMEOUT", "1")]).await;
    let file = jpeg_of_exactly(FILE_BYTES, 3);
    let mut upload =
        RawForm::of_profile_image().begin(&rig.server.url, STREAM, &rig.person.token, file.len()).await.unwrap();
    upload.send(&file[..FILE_BYTES / 2]).await;
    rig.store.requested(200_000).await;
    rig.server.ask_to_stop();
    assert_eq!(upload.answer().await.unwrap().refusal(), (503, "shutting_down"));
    assert_eq!(rig.server.wait().await.unwrap().code(), Some(3));
    let log = rig.server.log();
    assert!(log.iter().any(|line| line.contains("stopped after SHUTDOWN_TIMEOUT; uploads were cut off\"")), "{log:?}");
    rig.assert_nothing_stored().await;
}
