//! The store with other settings: buckets as hosts, checksums by the SDK, and temporary keys.

use chrono::{SubsecRound as _, TimeDelta, Utc};
use upload_domain::{ImageFormat, ImagePath, Role};
use upload_sandbox::{
    Sandbox,
    client::Client,
    issuer::Issuer,
    not_tested::{MINIO, not_tested},
    process::Program,
    samples,
};

use crate::rig::{BINARY, until};

#[tokio::test]
async fn uploads_by_virtual_host_and_with_checksums_are_stored_linked_and_read() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(environment) = stand.by_virtual_host() else {
        return not_tested(MINIO, "SANDBOX_S3_DOMAIN names no domain below which the store has its buckets as hosts")
            .unwrap();
    };
    let program = Program::new(BINARY, &stand).env("S3_CHECKSUMS", "when_supported");
    let program = environment.into_iter().fold(program, |program, (name, value)| program.env(name, value));
    let server = program.serve().await.unwrap();
    let client = Client::new(&server.url, &stand.add_person(Role::User).await.unwrap().token).unwrap();

    let jpeg = samples::jpeg_of_exactly(700_000, 3);
    let streamed = client.stream(ImagePath::UserProfile, ImageFormat::Jpeg, jpeg.clone()).await.unwrap();
    let streamed = streamed.expect_status(201).unwrap();
    let ticket = client.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
    assert_eq!(client.upload(ticket.form(), jpeg.clone()).await.unwrap().status, 201);
    for created in [streamed, ticket] {
        let id = created.image_id();
        client.link_profile(id).await.unwrap().expect_status(201).unwrap();
        let read = client.get(&format!("/images/{id}")).await.unwrap().expect_status(302).unwrap();
        assert!(read.header("location").starts_with(&format!("http://{}.", stand.bucket())), "{read:?}");
        assert_eq!(client.download(id).await.unwrap().body, jpeg);
    }
    assert_eq!(stand.storage.list("media/").await.unwrap().len(), 2);
}

#[tokio::test]
async fn uploads_go_on_with_renewed_credentials_and_end_with_the_last() {
    let stand = Sandbox::shared().await.stand().await;
    let issuer = Issuer::start(&stand).await.unwrap();
    issuer.set_end("server", Utc::now() + TimeDelta::minutes(4));
    // Several workers share one key. Each has its own connections.
    let server =
        issuer.program(BINARY, &stand).env("HTTP_WORKERS", "3").without("S3_SIGNER_PROFILE").serve().await.unwrap();
    let client = Client::new(&server.url, &stand.add_person(Role::User).await.unwrap().token).unwrap();
    let upload = async || {
        let jpeg = samples::of_format(ImageFormat::Jpeg, 1);
        client.stream(ImagePath::UserProfile, ImageFormat::Jpeg, jpeg).await.unwrap()
    };

    let soon = (Utc::now() + TimeDelta::seconds(20)).trunc_subsecs(0);
    issuer.set_end("server", soon);
    let (mut stored, asked_before) = (0, issuer.asked("server"));
    until(async || {
        assert_eq!(upload().await.status, 201);
        stored += 1;
        issuer.asked("server") > asked_before
    })
    .await;
    issuer.set_silent(true);
    until(async || {
        let answer = upload().await;
        if answer.status == 201 {
            stored += 1;
            return false;
        }
        assert_eq!(answer.refusal(), (503, "storage_unavailable"));
        assert!(!answer.header("retry-after").is_empty());
        true
    })
    .await;
    assert!(Utc::now() < soon, "credentials were used to their very end");
    assert_eq!(stand.storage.list("media/").await.unwrap().len(), stored);
    assert_eq!(stand.count("image WHERE media_key IS NOT NULL").await.unwrap(), stored as u64);
}
