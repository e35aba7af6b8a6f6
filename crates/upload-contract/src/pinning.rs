//! `S3_PIN`: a link pins by a copy or by a version, and each row says how it is pinned. (All other cases run with copies, the default.)
//!
//! With V1 the cases put an upload where V2's form would: V1 links it in the same way.

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use upload_domain::{ImageFormat, ImageId, ImagePath, incoming_key};
use upload_sandbox::{client::Answer, head::RequestHead, relay::Relay, samples};

use super::subject::{Kept, Member, Strategy, Subject, assert_refused, picture, text};

const BY_VERSION: (&str, &str) = ("S3_PIN", "version");

/// More than a link reads of a version at first, and less than the headers of an image may have.
const LONG_HEADER_BYTES: usize = 100_000;

/// Makes the bucket keep versions, and starts a server that pins by them.
async fn by_version(subject: &mut Subject) -> Result<()> {
    subject.stand.enable_versioning().await?;
    subject.add_server(&[BY_VERSION]).await?;
    Ok(())
}

/// Writes the incoming key, as a form of V2 does.
async fn upload(subject: &Subject, user: &Member, created: &Answer, file: Vec<u8>) -> Result<()> {
    match subject.strategy {
        Strategy::Presigned => {
            let status = user.upload(created.form(), file).await?.status;
            anyhow::ensure!((200..300).contains(&status), "the store answers {status}");
        }
        Strategy::Streaming => {
            let key = incoming_key(created.image_id().parse()?);
            subject.stand.storage.put(&key, "image/png", file.into()).await?;
        }
    }
    Ok(())
}

pub(super) async fn what_is_linked_by_version_stays_whatever_its_form_writes(subject: &mut Subject) -> Result<()> {
    by_version(subject).await?;
    let user = subject.user().await?;
    let size = picture(1).len();
    for method in ["POST", "PUT"] {
        let body = json!({ "path": "user-profile", "format": "image/png", "byteSize": size, "method": method });
        let created = user.post("/user/images", &body).await?.expect_status(201)?;
        let id = created.image_id();
        upload(subject, &user, &created, picture(1)).await?;
        let linked = user.link_profile(id).await?.expect_status(201)?;
        let key = incoming_key(id.parse()?);
        assert_eq!(subject.column(id, "media_key").await?.as_ref(), Some(&key));
        let version = subject.column(id, "media_version").await?.context("a version")?;
        let location = user.read(id).await?.expect_status(302)?.header("location").to_owned();
        assert!(location.contains(&format!("/{key}?versionId={version}&")), "{location}");

        upload(subject, &user, &created, picture(2)).await?;
        assert_eq!(user.download(id).await?.body, picture(1), "{method}: after another upload");
        assert_eq!(user.link_profile(id).await?.expect_status(200)?.json, linked.json);
        subject.stand.hide(&key).await?;
        assert_eq!(user.download(id).await?.body, picture(1), "{method}: behind a delete marker");
        upload(subject, &user, &created, picture(3)).await?;
        assert_eq!(subject.stand.storage.list_versions(&key).await?.len(), 4);
        if subject.strategy == Strategy::Presigned && method == "POST" {
            // No signature covers the query of a form's URL. A MinIO would write the version that it names.
            let mut form = created.form().clone();
            form["url"] = format!("{}?versionId={version}", text(&form["url"])).into();
            user.upload(&form, picture(4)).await?;
            assert_eq!(user.download(id).await?.body, picture(1), "{method}: to the URL of the version");
        }
        assert_eq!(subject.stand.sweep_incoming().await?, 1);
        let served = user.download(id).await?;
        assert_eq!((served.body.as_ref(), served.header("content-type")), (picture(1).as_slice(), "image/png"));
        assert_eq!(served.header("content-disposition"), "inline");
        assert_eq!(subject.stand.storage.list_versions(&key).await?, [(key, version)], "{method}: after the sweep");
    }
    assert_eq!(subject.kept().await?, Kept { rows: 2, linked: 2, media: 0 });
    Ok(())
}

pub(super) async fn rows_of_both_modes_are_read_by_either(subject: &mut Subject) -> Result<()> {
    let copying = subject.user().await?;
    let mut images = Vec::new();
    let mut link = async |subject: &Subject, user: &Member, seed: u64, is_pinned: bool| -> Result<()> {
        let created = user.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?;
        upload(subject, user, &created, picture(seed)).await?;
        user.create_post("Title", "", &[created.image_id()]).await?.expect_status(201)?;
        let version = subject.column(created.image_id(), "media_version").await?;
        assert_eq!(version.is_some(), is_pinned, "picture {seed}");
        images.push((created.image_id().to_owned(), seed));
        Ok(())
    };
    link(subject, &copying, 1, false).await?;
    by_version(subject).await?;
    let pinning = subject.user().await?;
    link(subject, &pinning, 2, true).await?;
    // Back to copies, in the bucket that has versions now.
    link(subject, &copying, 3, false).await?;
    subject.add_server(&[]).await?;
    let restarted = subject.user().await?;
    link(subject, &restarted, 4, false).await?;
    for (id, seed) in &images {
        for (what, user) in [("copies", &copying), ("versions", &pinning), ("copies again", &restarted)] {
            assert_eq!(user.download(id).await?.body, picture(*seed), "picture {seed} by the server with {what}");
        }
    }
    assert_eq!(subject.stand.sweep_incoming().await?, 4);
    for (id, seed) in &images {
        assert_eq!(restarted.download(id).await?.body, picture(*seed), "picture {seed} after the sweep");
    }
    let (key, version) = (subject.column(&images[1].0, "media_key"), subject.column(&images[1].0, "media_version"));
    let pinned = key.await?.zip(version.await?).context("a version")?;
    assert_eq!(
        subject.stand.storage.list_versions("incoming/").await?,
        [pinned],
        "the sweep leaves this version alone"
    );
    assert_eq!(subject.kept().await?, Kept { rows: 4, linked: 4, media: 3 });
    Ok(())
}

/// The reader's key here may read no version. A server that copies needs that right only for links that were made by version.
pub(super) async fn a_server_that_copies_checks_what_is_pinned_by_version(subject: &mut Subject) -> Result<()> {
    let set = subject.stand.environment();
    let mut narrow = vec![("S3_KEY_CHECK", "off"), ("S3_ALLOW_ONE_KEY", "true")];
    for (reader, signer) in [
        ("S3_READER_ACCESS_KEY_ID", "S3_SIGNER_ACCESS_KEY_ID"),
        ("S3_READER_SECRET_ACCESS_KEY", "S3_SIGNER_SECRET_ACCESS_KEY"),
        ("S3_READER_SESSION_TOKEN", "S3_SIGNER_SESSION_TOKEN"),
    ] {
        narrow.extend(set.get(signer).map(|value| (reader, value.as_str())));
    }
    by_version(subject).await?;
    let user = subject.user().await?;
    subject.add_server(&narrow).await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    upload(subject, &user, &created, picture(1)).await?;
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    let says = ["S3_READER_ACCESS_KEY_ID: the reader's key lacks the right to get versions of incoming/*"];
    subject.refused_at_start(&narrow, &says).await
}

pub(super) async fn a_link_asks_the_store_as_often_as_its_mode_says(subject: &mut Subject) -> Result<()> {
    subject.stand.enable_versioning().await?;
    let public = subject.stand.environment()["S3_ENDPOINT"].clone();
    let short = samples::jpeg_of_exactly(300_000, 1);
    let long = samples::jpeg_with_long_header(LONG_HEADER_BYTES);
    let by_copy = ["GET bytes=0-262143", "COPY", "GET bytes=0-262143", "DELETE"];
    let by_copy_with_checksum = ["GET bytes=0-262143", "COPY", "GET bytes=0-262143", "GET", "DELETE"];
    for (pin, file, declared, requests) in [
        ("copy", &short, false, by_copy.as_slice()),
        ("copy", &long, false, &by_copy),
        ("copy", &short, true, &by_copy_with_checksum),
        ("version", &short, false, &["GET bytes=0-65535"]),
        ("version", &long, false, &["GET bytes=0-65535", "GET bytes=0-262143"]),
        ("version", &short, true, &["GET bytes=0-65535", "GET"]),
    ] {
        let (endpoint, relay) = Relay::before(&public).await?;
        subject.add_server(&[("S3_PIN", pin), ("S3_ENDPOINT", &endpoint), ("S3_PUBLIC_ENDPOINT", &public)]).await?;
        let user = subject.user().await?;
        let checksum = declared.then(|| base64_of(Sha256::digest(file).as_ref()));
        let body = json!({ "path": "user-profile", "format": "image/jpeg", "checksumSha256": checksum });
        relay.keep_heads();
        let created = user.post("/user/images", &body).await?.expect_status(201)?;
        assert_eq!(relay.take_heads(), [], "a form is made without the store");
        let key = incoming_key(created.image_id().parse()?);
        subject.stand.storage.put(&key, "image/jpeg", Bytes::from(file.clone())).await?;
        let before = relay.passed();
        user.link_profile(created.image_id()).await?.expect_status(201)?;
        // A stop waits for what the link does after its answer.
        subject.server()?.ask_to_stop();
        subject.retire_server().await?;
        let asked: Vec<String> = relay.take_heads().iter().map(kind).collect();
        assert_eq!(asked, requests, "{pin}, {} bytes, declared: {declared}", file.len());
        assert_eq!(relay.passed().since(before).requests, asked.len() as u64);
    }
    Ok(())
}

/// What a request wants of an object: its method, and the range of its bytes.
fn kind(head: &RequestHead) -> String {
    match (head.method.as_str(), head.header("x-amz-copy-source"), head.header("range")) {
        ("PUT", Some(_source), None) => "COPY".to_owned(),
        (method, None, Some(range)) => format!("{method} {range}"),
        (method, ..) => method.to_owned(),
    }
}

pub(super) async fn a_version_that_is_refused_is_gone(subject: &mut Subject) -> Result<()> {
    by_version(subject).await?;
    let user = subject.user().await?;
    let wrong_digest = base64_of(&[7; 32]);
    for (what, file, checksum, code) in [
        ("no image", samples::HTML.to_vec(), None, "content_mismatch"),
        ("another checksum", picture(1), Some(wrong_digest), "checksum_mismatch"),
    ] {
        let body = json!({ "path": "user-profile", "format": "image/png", "checksumSha256": checksum });
        let created = user.post("/user/images", &body).await?.expect_status(201)?;
        // The store itself would refuse the wrong checksum.
        let image: ImageId = created.image_id().parse()?;
        for content in [picture(9), file] {
            subject.stand.storage.put(&incoming_key(image), "image/png", content.into()).await?;
        }
        for _again in 0..2 {
            assert_refused(what, &user.link_profile(created.image_id()).await?, (422, code));
        }
        assert_eq!(subject.stand.storage.list_versions(&incoming_key(image)).await?, [], "{what}");
    }
    assert_eq!(subject.kept().await?, Kept { rows: 2, linked: 0, media: 0 });
    Ok(())
}

fn base64_of(digest: &[u8]) -> String {
    BASE64_STANDARD.encode(digest)
}
