//! Uploads, from the form to the bytes that a client reads back.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use upload_domain::{ImageFormat, ImageId, ImagePath, incoming_key};
use upload_sandbox::{client::Client, samples};
use uuid::Uuid;

use super::{
    subject::{Kept, Strategy, Subject, assert_refused, picture, text},
    wire::{self, FormBody},
};

pub(super) async fn one_client_creates_uploads_links_and_reads(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    for (seed, format) in (1..).zip(ImageFormat::ALL.iter().copied()) {
        let file = samples::of_format(format, seed);
        let id = user.create_and_upload(ImagePath::UserProfile, format, file.clone()).await?;
        let linked = user.link_profile(&id).await?.expect_status(201)?;
        assert_eq!(linked.json["userProfileImage"]["imageId"], id.as_str());
        let read = user.download(&id).await?;
        assert_eq!((read.status, read.header("content-type")), (200, format.as_str()));
        assert_eq!(read.body, file, "{format}");
        let row = "media_key || ' ' || byte_size || ' ' || width || 'x' || height";
        let row = subject.column(&id, row).await?.context("all of it is set")?;
        let (size, dimensions) = (file.len(), if format == ImageFormat::Webp { "" } else { "64x48" });
        assert!(row.starts_with(&format!("media/{id}/")) && row.ends_with(dimensions), "{row}");
        assert!(row.contains(&format!(" {size} ")), "{row}");
    }
    let formats = ImageFormat::ALL.len();
    assert_eq!(subject.kept().await?, Kept { rows: formats as u64, linked: formats as u64, media: formats });
    Ok(())
}

pub(super) async fn an_upload_is_answered_as_s3_does(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let answer = user.upload(created.form(), picture(1)).await?.expect_status(201)?;
    let etag = answer.header("etag");
    assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    assert!(answer.header("location").ends_with(created.image_id()), "{}", answer.header("location"));
    let xml = std::str::from_utf8(&answer.body)?;
    assert!(xml.contains("<PostResponse") && xml.contains("</PostResponse>"), "{xml}");
    let key = text(&created.form()["fields"]["key"]);
    assert!(xml.contains(&format!("<Key>{key}</Key>")) && xml.contains("<ETag>"), "{xml}");
    Ok(())
}

/// Sizes around the points at which the servers change their method: the inspected head, the window, one request's buffers.
pub(super) async fn every_size_comes_back_as_it_went(subject: &mut Subject) -> Result<()> {
    const HEAD: usize = upload_domain::HEAD_BYTES;
    let user = subject.user().await?;
    let sizes = [samples::SMALLEST_JPEG, 65_536, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD, 1_000_003, 5_000_000];
    for (seed, size) in (1..).zip(sizes) {
        let file = Bytes::from(samples::jpeg_of_exactly(size, seed));
        for declared in [None, Some(size)] {
            let body = json!({ "path": "user-profile", "format": "image/jpeg", "byteSize": declared });
            let created = user.post("/user/images", &body).await?.expect_status(201)?;
            user.upload(created.form(), file.clone()).await?.expect_status(201)?;
            user.link_profile(created.image_id()).await?.expect_status(201)?;
            assert!(user.download(created.image_id()).await?.body == file, "{size} bytes, declared: {declared:?}");
            assert_eq!(subject.column(created.image_id(), "byte_size").await?, Some(size.to_string()));
        }
    }
    let count = sizes.len() * 2;
    assert_eq!(subject.kept().await?, Kept { rows: count as u64, linked: count as u64, media: count });
    Ok(())
}

pub(super) async fn the_last_upload_before_the_link_counts(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    for seed in 1..=4 {
        let size = u32::try_from(seed)? * 8;
        user.upload(created.form(), samples::png(size, size, seed)).await?.expect_status(201)?;
    }
    let id = created.image_id();
    user.link_profile(id).await?.expect_status(201)?;
    assert_eq!(user.download(id).await?.body, samples::png(32, 32, 4));
    assert_eq!(subject.column(id, "width || 'x' || height").await?.as_deref(), Some("32x32"));
    // The earlier objects are gone.
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

/// A form that was changed in any place stores nothing, whether V1 or the store judges it.
pub(super) async fn a_form_works_only_as_it_was_given_out(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let create =
        async || -> Result<_> { user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201) };
    let (created, other) = (create().await?, create().await?);
    let form = created.form();
    let mut forms: Vec<(String, Value)> = Vec::new();
    let mut change = |what: &str, field: &str, value: Option<String>| {
        let mut changed = form.clone();
        if let Some(fields) = changed["fields"].as_object_mut() {
            match value {
                Some(value) => drop(fields.insert(field.to_owned(), json!(value))),
                None => drop(fields.remove(field)),
            }
        }
        forms.push((what.to_owned(), changed));
    };
    for field in form["fields"].as_object().into_iter().flatten().map(|(name, _value)| name) {
        change(&format!("without {field}"), field, None);
        change(&format!("empty {field}"), field, Some(String::new()));
    }
    change("another's key", "key", Some(text(&other.form()["fields"]["key"]).to_owned()));
    change("a served key", "key", Some(format!("media/{}/x", created.image_id())));
    change("a climbing key", "key", Some(format!("incoming/../media/{}", created.image_id())));
    change("another type", "Content-Type", Some("text/html".to_owned()));
    change("another image type", "Content-Type", Some("image/jpeg".to_owned()));
    change("metadata", "x-amz-meta-note", Some("x".to_owned()));
    change("an access list", "acl", Some("public-read".to_owned()));
    if subject.strategy == Strategy::Streaming {
        let url = text(&form["url"]);
        let urls = [
            ("another ticket", text(&other.form()["url"]).to_owned()),
            ("a cut ticket", url[..url.len() - 2].to_owned()),
            ("a longer ticket", format!("{url}AA")),
            ("two tickets", format!("{url}&ticket=x")),
            ("no ticket", format!("{}/uploads", subject.url())),
        ];
        for (what, url) in urls {
            let mut changed = form.clone();
            changed["url"] = json!(url);
            forms.push((what.to_owned(), changed));
        }
    } else {
        let policy = text(&form["fields"]["policy"]);
        change("another policy", "policy", Some(text(&other.form()["fields"]["policy"]).to_owned()));
        change("a cut policy", "policy", Some(policy[..policy.len() - 2].to_owned()));
        change("a longer policy", "policy", Some(format!("{policy}AA")));
        let signature = text(&form["fields"]["x-amz-signature"]);
        let first = if signature.starts_with('0') { '1' } else { '0' };
        change("another signature", "x-amz-signature", Some(format!("{first}{}", &signature[1..])));
        change("another bucket", "bucket", Some("another".to_owned()));
    }
    for (what, changed) in forms {
        // If the form has no valid bucket name, a store may take the name from the URL.
        let harmless = what == "without bucket" || what == "empty bucket" || what == "another bucket";
        let body = FormBody::of(&changed)?.file(&picture(1)).end();
        let answer = by_hand(&changed, &body).await?.with_context(|| format!("{what}: an answer"))?;
        match subject.strategy {
            Strategy::Streaming => {
                assert!((400..=403).contains(&answer.status), "{what}: {}", answer.status);
                let code = answer.code().to_owned();
                assert_refused(&what, &answer, (answer.status, &code));
            }
            Strategy::Presigned if harmless && answer.status == 201 => {
                subject.stand.storage.delete(&incoming_key(created.image_id().parse()?)).await?;
            }
            // The store answers 501 to an algorithm that it does not know.
            Strategy::Presigned => assert!((400..=501).contains(&answer.status), "{what}: {}", answer.status),
        }
        assert_eq!(subject.objects().await?, [""; 0], "{what}");
        assert_refused(&what, &user.link_profile(created.image_id()).await?, (409, "not_uploaded"));
    }
    // The unchanged form still works.
    user.upload(form, picture(1)).await?.expect_status(201)?;
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    assert_eq!(user.download(created.image_id()).await?.body, picture(1));
    Ok(())
}

/// The rows say where the bytes are, so a server need not know which strategy brought them. (The tests of upload-demo, which may know
/// both servers, let the two servers themselves meet.)
pub(super) async fn what_the_other_server_leaves_behind_is_linked(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    // As V2 leaves it: an object under the incoming key.
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let image: ImageId = created.image_id().parse()?;
    subject.stand.storage.put(&incoming_key(image), "image/png", picture(1).into()).await?;
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    assert_eq!(user.download(created.image_id()).await?.body, picture(1));

    // As V1 leaves it: verified bytes under a media key, which the row names.
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let id = created.image_id();
    let key = format!("media/{id}/{}", Uuid::now_v7());
    subject.stand.storage.put(&key, "image/png", picture(2).into()).await?;
    let sizes = format!("media_byte_size = {}, width = 8, height = 8", picture(2).len());
    subject.stand.sql(&format!("UPDATE image SET media_key = '{key}', {sizes} WHERE id = '{id}'")).await?;
    user.link_profile(id).await?.expect_status(201)?;
    assert_eq!(user.download(id).await?.body, picture(2));
    assert_eq!(subject.column(id, "media_key").await?, Some(key), "nothing was copied");
    assert_eq!(subject.kept().await?, Kept { rows: 2, linked: 2, media: 2 });
    Ok(())
}

/// When a form's time is over, it is refused. A new form for the same image then works.
pub(super) async fn a_form_ends_with_its_time(subject: &mut Subject) -> Result<()> {
    subject.add_server(&[("FORM_TTL", "2")]).await?;
    let user = subject.user().await?;
    let (id, form) = new_form(&user.client).await?;
    // Each try is a separate upload; those before the end succeed.
    let refused = loop {
        let uploaded = user.upload(&form, picture(1)).await?;
        if uploaded.status != 201 {
            break uploaded;
        }
    };
    match subject.strategy {
        Strategy::Streaming => assert_refused("ended", &refused, (403, "form_expired")),
        Strategy::Presigned => assert!((400..500).contains(&refused.status), "{}", refused.status),
    }
    let renewed = user.renew_form(&id).await?.expect_status(201)?;
    user.upload(renewed.form(), picture(2)).await?.expect_status(201)?;
    user.link_profile(&id).await?.expect_status(201)?;
    assert_eq!(user.download(&id).await?.body, picture(2));
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

/// An image with a web page behind its end is an image: it is kept whole, and never served as anything else.
pub(super) async fn bytes_after_the_image_are_kept_and_served_as_its_type(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    for tail in [samples::HTML, samples::ZIP, b"<?php phpinfo(); ?>"] {
        let file = [picture(1).as_slice(), tail].concat();
        let id = user.with_profile_image(file.clone()).await?;
        let served = user.download(&id).await?;
        assert_eq!((served.body.as_ref(), served.header("content-type")), (file.as_slice(), "image/png"));
        assert_eq!(served.header("content-disposition"), "inline");
    }
    Ok(())
}

/// Uploads a hand-written form to the server that takes it; `None` if that server closes without an answer.
pub(super) async fn by_hand(form: &Value, body: &[u8]) -> Result<Option<upload_sandbox::client::Answer>> {
    wire::post_form(text(&form["url"]), body, &[]).await
}

/// A hand-written form with a good file.
pub(super) fn good_form(form: &Value) -> Result<FormBody> {
    Ok(FormBody::of(form)?.file(&picture(1)))
}

/// A new image and its form.
pub(super) async fn new_form(client: &Client) -> Result<(String, Value)> {
    let created = client.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    Ok((created.image_id().to_owned(), created.form().clone()))
}
