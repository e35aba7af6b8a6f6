//! If a body is refused for its content, the image stays refused. It does not matter which server found the fault, and when.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use upload_domain::{HEAD_BYTES, ImageFormat, ImagePath, Sha256Checksum, incoming_key};
use upload_sandbox::samples;

use super::subject::{NOTHING, Strategy, Subject, assert_refused, picture};

/// V1 refuses during the upload, V2 at the link. From then on both give the same answer to every request for this image.
pub(super) async fn a_refused_body_is_recorded_on_the_row(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let refusal = (422, "content_mismatch");
    let created = user.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?;
    let id = created.image_id();
    let uploaded = user.upload(created.form(), samples::HTML).await?;
    match subject.strategy {
        Strategy::Streaming => assert_refused("upload", &uploaded, refusal),
        Strategy::Presigned => assert_eq!(uploaded.status, 201),
    }
    let link = async || user.create_post("Title", "", &[id]).await;
    assert_refused("link", &link().await?, refusal);
    assert_eq!(subject.column(id, "refused_code").await?.as_deref(), Some(refusal.1));
    assert_eq!(subject.objects().await?, [""; 0], "what was refused is deleted");
    assert_refused("link again", &link().await?, refusal);
    assert_refused("link to something else", &user.link_profile(id).await?, refusal);
    assert_refused("another form", &user.renew_form(id).await?, refusal);
    assert_refused("read", &user.read(id).await?, (404, "image_not_found"));

    // A good body is too late now, even if the store still takes it.
    let uploaded = user.upload(created.form(), picture(1)).await?;
    match subject.strategy {
        Strategy::Streaming => assert_refused("upload again", &uploaded, refusal),
        Strategy::Presigned => assert_eq!(uploaded.status, 201),
    }
    assert_refused("link a third time", &link().await?, refusal);
    assert_eq!(subject.kept().await?.linked, 0);
    assert_eq!(subject.stand.count("post").await?, 0);
    Ok(())
}

/// The test acts as if the store enforced nothing: it puts each file with the server's own key, without any form or ticket.
pub(super) async fn what_the_store_let_through_is_refused_at_link(subject: &mut Subject) -> Result<()> {
    subject.add_server(&[("MAX_IMAGE_BYTES", "400000")]).await?;
    let user = subject.user().await?;
    let good = picture(1);
    let of_good = Sha256Checksum::from(<[u8; 32]>::from(Sha256::digest(&good)));
    let long_header = samples::jpeg_with_long_header(HEAD_BYTES);
    let cases: [(&str, Value, &str, Vec<u8>, &str); 12] = [
        ("one byte too long", json!({ "byteSize": good.len() - 1 }), "image/png", good.clone(), "size_mismatch"),
        ("one byte too short", json!({ "byteSize": good.len() + 1 }), "image/png", good.clone(), "size_mismatch"),
        ("longer than any", json!({}), "image/jpeg", samples::jpeg_of_exactly(400_001, 1), "size_mismatch"),
        ("empty", json!({}), "image/png", Vec::new(), "empty_file"),
        ("another type", json!({}), "text/html", good.clone(), "content_mismatch"),
        ("another image type", json!({}), "image/jpeg", good.clone(), "content_mismatch"),
        ("a web page", json!({}), "image/png", samples::HTML.to_vec(), "content_mismatch"),
        ("a drawing", json!({}), "image/png", samples::SVG.to_vec(), "content_mismatch"),
        ("a pixel bomb", json!({}), "image/png", samples::pixel_bomb(), "image_too_large"),
        ("a long header", json!({}), "image/jpeg", long_header, "header_too_long"),
        ("another content", json!({ "checksumSha256": of_good }), "image/png", picture(2), "checksum_mismatch"),
        ("a size of another type", json!({ "byteSize": 4 }), "text/html", b"\x89PNG".to_vec(), "content_mismatch"),
    ];
    for (what, more, put_as, bytes, code) in cases {
        let format = if put_as == "image/jpeg" && code != "content_mismatch" { "image/jpeg" } else { "image/png" };
        let mut body = json!({ "path": "user-profile", "format": format });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let created = user.post("/user/images", &body).await?.expect_status(201).context(what)?;
        let id = created.image_id();
        subject.stand.storage.put(&incoming_key(id.parse()?), put_as, bytes.into()).await?;
        for _again in 0..2 {
            assert_refused(what, &user.link_profile(id).await?, (422, code));
        }
        assert_eq!(subject.column(id, "refused_code").await?.as_deref(), Some(code), "{what}");
        assert_eq!(subject.objects().await?, [""; 0], "{what}");
    }
    assert_eq!(subject.kept().await?.linked, NOTHING.linked);
    // A file with the declared size, checksum and type is linked.
    let body = json!({
        "path": "user-profile", "format": "image/png", "byteSize": good.len(), "checksumSha256": of_good,
    });
    let created = user.post("/user/images", &body).await?.expect_status(201)?;
    subject.stand.storage.put(&incoming_key(created.image_id().parse()?), "IMAGE/PNG", good.clone().into()).await?;
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    let served = user.download(created.image_id()).await?;
    assert_eq!((served.body.as_ref(), served.header("content-type")), (good.as_slice(), "image/png"));
    Ok(())
}

pub(super) async fn a_refused_image_spoils_its_post_alone(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let good = [user.upload_for(ImagePath::Post).await?, user.upload_for(ImagePath::Post).await?];
    let bad = user.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?;
    subject.stand.storage.put(&incoming_key(bad.image_id().parse()?), "image/png", samples::PDF.into()).await?;
    let ids = [good[0].as_str(), bad.image_id(), good[1].as_str()];
    for _again in 0..2 {
        let answer = user.create_post("Title", "", &ids).await?;
        assert_refused("one is a document", &answer, (422, "content_mismatch"));
        assert_eq!(answer.json["imageEntityId"], bad.image_id());
    }
    assert_eq!(subject.kept().await?.linked, 0);
    user.create_post("Title", "", &good).await?.expect_status(201)?;
    assert_eq!(subject.kept().await?.linked, 2);
    Ok(())
}
