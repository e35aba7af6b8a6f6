//! Creating images and their forms.

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use upload_domain::{ImageFormat, ImageLimits, ImagePath, Role, Sha256Checksum};
use upload_sandbox::samples;

use super::subject::{Kept, NOTHING, Strategy, Subject, assert_refused, names, picture, text};

/// Every role may create an image for every path and format, except posters: they are for roles that run competitions.
pub(super) async fn an_image_is_created_for_every_path_and_format(subject: &mut Subject) -> Result<()> {
    let mut rows = 0;
    for role in [Role::Admin, Role::Host, Role::User] {
        let member = subject.member(role).await?;
        for path in ImagePath::ALL.iter().copied() {
            for format in ImageFormat::ALL.iter().copied() {
                let answer = member.create_image(path, format).await?;
                if !path.creator_roles().contains(&role) {
                    assert_refused(&format!("{role} {path}"), &answer, (403, "forbidden"));
                    continue;
                }
                rows += 1;
                assert_eq!(answer.status, 201, "{role} {path} {format}: {}", answer.json);
                assert_eq!(names(&answer.json), ["imageEntity", "presignedPost"]);
                let entity = &answer.json["imageEntity"];
                assert_eq!(names(entity), ["createdAt", "format", "id", "linkedAt", "path", "userId"]);
                assert_eq!(entity["path"], path.as_str());
                assert_eq!(entity["format"], format.as_str());
                assert_eq!(entity["userId"], member.id.to_string());
                assert_eq!(entity["linkedAt"], Value::Null);
                let age = Utc::now() - text(&entity["createdAt"]).parse::<DateTime<Utc>>()?;
                assert!(text(&entity["createdAt"]).ends_with('Z') && age < TimeDelta::minutes(1), "{entity}");
                let row = format!("id = '{}' AND user_id = '{}' AND media_key IS NULL", answer.image_id(), member.id);
                assert_eq!(subject.stand.count(&format!("image WHERE {row}")).await?, 1);
            }
        }
    }
    assert_eq!(subject.kept().await?, Kept { rows, ..NOTHING });
    assert!(subject.objects().await?.is_empty());
    Ok(())
}

pub(super) async fn a_form_has_one_shape_on_both_servers(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Webp).await?.expect_status(201)?;
    let form = created.form();
    assert_eq!(names(form), ["expiresAt", "fields", "method", "url"]);
    assert_eq!(form["method"], "POST");
    let fields = &form["fields"];
    assert_eq!(fields["key"], format!("incoming/{}", created.image_id()));
    assert_eq!(fields["Content-Type"], "image/webp");
    assert_eq!(fields["success_action_status"], "201");
    let lasts = text(&form["expiresAt"]).parse::<DateTime<Utc>>()? - Utc::now();
    assert!(TimeDelta::minutes(4) < lasts && lasts <= TimeDelta::seconds(301), "{form}");

    let own = names(fields);
    let (url, expected): (String, &[&str]) = match subject.strategy {
        Strategy::Streaming => {
            (format!("{}/uploads?ticket=", subject.url()), &["Content-Type", "key", "success_action_status"])
        }
        Strategy::Presigned => {
            let credential = text(&fields["x-amz-credential"]);
            let signer = &subject.stand.environment()["S3_SIGNER_ACCESS_KEY_ID"];
            assert!(credential.starts_with(&format!("{signer}/")), "the signer's key signs: {credential}");
            let endpoint = &subject.stand.environment()["S3_ENDPOINT"];
            let url = format!("{}/{}", endpoint.trim_end_matches('/'), subject.stand.bucket());
            let expected: &[&str] = &[
                "Content-Type",
                "bucket",
                "key",
                "policy",
                "success_action_status",
                "x-amz-algorithm",
                "x-amz-credential",
                "x-amz-date",
                "x-amz-signature",
            ];
            (url, expected)
        }
    };
    match subject.strategy {
        Strategy::Streaming => assert!(text(&form["url"]).starts_with(&url), "{form}"),
        Strategy::Presigned => assert_eq!(text(&form["url"]).trim_end_matches('/'), url),
    }
    // Temporary credentials add their token.
    let own: Vec<&str> = own.into_iter().filter(|name| *name != "x-amz-security-token").collect();
    assert_eq!(own, expected);

    let body = std::str::from_utf8(&created.body)?;
    if subject.strategy == Strategy::Presigned {
        // In the JSON's order the key comes before the policy, as some stores require.
        assert!(body.find("\"key\"") < body.find("\"policy\""), "{body}");
    }
    let server_key = &subject.stand.environment()["S3_ACCESS_KEY_ID"];
    assert!(!body.contains(server_key), "the server's own key is in no form");
    Ok(())
}

pub(super) async fn a_declared_size_and_checksum_are_kept(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let file = picture(7);
    let checksum = Sha256Checksum::from(<[u8; 32]>::from(Sha256::digest(&file)));
    let body = json!({
        "path": "user-profile", "format": "image/png", "byteSize": file.len(), "checksumSha256": checksum,
    });
    let created = user.post("/user/images", &body).await?.expect_status(201)?;
    let id = created.image_id();
    assert_eq!(subject.column(id, "byte_size").await?, Some(file.len().to_string()));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let stored = subject.column(id, "encode(checksum_sha256, 'hex')").await?;
    assert_eq!(stored, Some(hex(checksum.as_bytes())));

    // The form takes no other length and no other content than declared. It takes the declared file.
    for (what, wrong) in [("longer", [file.clone(), vec![0]].concat()), ("shorter", file[..file.len() - 1].to_vec())] {
        let answer = user.upload(created.form(), wrong).await?;
        assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
        assert_refused(what, &user.link_profile(id).await?, (409, "not_uploaded"));
    }
    let other = picture(8);
    assert_eq!(other.len(), file.len());
    let answer = user.upload(created.form(), other).await?;
    assert!((400..500).contains(&answer.status), "another content: {}", answer.status);
    assert_eq!(subject.objects().await?, [""; 0]);
    assert_refused("another content", &user.link_profile(id).await?, (409, "not_uploaded"));

    user.upload(created.form(), file.clone()).await?.expect_status(201)?;
    user.link_profile(id).await?.expect_status(201)?;
    assert_eq!(user.download(id).await?.body, file);
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

pub(super) async fn a_size_that_cannot_be_is_refused_before_there_is_a_row(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let create = async |size: Value| {
        let body = json!({ "path": "post", "format": "image/jpeg", "byteSize": size });
        user.post("/user/images", &body).await
    };
    let max_image_bytes = ImageLimits::default().max_image_bytes;
    assert_refused("0", &create(json!(0)).await?, (422, "empty_file"));
    for size in [max_image_bytes + 1, u64::from(u32::MAX), u64::MAX] {
        assert_refused(&size.to_string(), &create(json!(size)).await?, (413, "payload_too_large"));
    }
    for size in [json!(-1), json!(1.5), json!("5"), json!(1e30), json!(true), json!([5])] {
        assert_refused(&size.to_string(), &create(size).await?, (400, "invalid_request"));
    }
    assert_eq!(subject.kept().await?, NOTHING);
    create(json!(max_image_bytes)).await?.expect_status(201)?;
    create(json!(1)).await?.expect_status(201)?;
    create(Value::Null).await?.expect_status(201)?;
    assert_eq!(subject.kept().await?, Kept { rows: 3, ..NOTHING });
    Ok(())
}

/// The answer's method decides, and the client follows it.
pub(super) async fn put_is_a_wish(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let file = samples::jpeg_of_exactly(5_000, 3);
    let wish = json!({ "path": "user-profile", "format": "image/jpeg", "method": "PUT" });
    let without_size = user.post("/user/images", &wish).await?;
    let mut with_size = wish.clone();
    with_size["byteSize"] = json!(file.len());
    let created = user.post("/user/images", &with_size).await?.expect_status(201)?;
    let form = created.form();
    match subject.strategy {
        Strategy::Streaming => {
            assert_eq!((without_size.status, text(&form["method"])), (201, "POST"));
            assert_eq!(names(form), ["expiresAt", "fields", "method", "url"]);
        }
        Strategy::Presigned => {
            assert_refused("no size", &without_size, (400, "byte_size_required"));
            assert_eq!(names(form), ["expiresAt", "headers", "method", "url"]);
            assert_eq!(form["method"], "PUT");
            assert_eq!(form["headers"]["content-type"], "image/jpeg");
            assert_eq!(form["headers"]["content-length"], file.len().to_string());
            // Length and type are signed.
            let mut other_length = form.clone();
            other_length["headers"]["content-length"] = json!((file.len() + 1).to_string());
            let answer = user.upload(&other_length, [file.clone(), vec![0]].concat()).await?;
            assert!((400..500).contains(&answer.status), "another length: {}", answer.status);
            let mut other_type = form.clone();
            other_type["headers"]["content-type"] = json!("text/html");
            let answer = user.upload(&other_type, file.clone()).await?;
            assert!((400..500).contains(&answer.status), "another type: {}", answer.status);
            assert_eq!(subject.objects().await?, [""; 0]);
        }
    }
    let uploaded = user.upload(form, file.clone()).await?;
    assert!((200..300).contains(&uploaded.status), "{}", uploaded.status);
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    assert_eq!(user.download(created.image_id()).await?.body, file);
    let body = json!({ "path": "user-profile", "format": "image/jpeg", "method": "PATCH" });
    assert_refused("PATCH", &user.post("/user/images", &body).await?, (400, "invalid_request"));
    Ok(())
}

/// `FORM_METHOD=put` is for stores without POST forms. V1's forms never go to the store, so it has no such setting.
pub(super) async fn put_can_be_the_only_way_to_the_store(subject: &mut Subject) -> Result<()> {
    subject.add_server(&[("FORM_METHOD", "put")]).await?;
    let user = subject.user().await?;
    let file = samples::jpeg_of_exactly(5_000, 4);
    let create = json!({ "path": "user-profile", "format": "image/jpeg", "method": "POST" });
    let without_size = user.post("/user/images", &create).await?;
    let mut with_size = create.clone();
    with_size["byteSize"] = json!(file.len());
    let created = user.post("/user/images", &with_size).await?.expect_status(201)?;
    let renewed = user.renew_form(created.image_id()).await?.expect_status(201)?;
    let methods = subject.anybody()?.limits().await?.json["formMethods"].clone();
    match subject.strategy {
        Strategy::Streaming => {
            assert_eq!((without_size.status, methods), (201, json!(["POST"])));
            assert_eq!([text(&created.form()["method"]), text(&renewed.form()["method"])], ["POST"; 2]);
        }
        Strategy::Presigned => {
            assert_refused("no size", &without_size, (400, "byte_size_required"));
            assert_eq!(methods, json!(["PUT"]));
            for form in [created.form(), renewed.form()] {
                assert_eq!(names(form), ["expiresAt", "headers", "method", "url"]);
                assert_eq!(form["method"], "PUT");
            }
        }
    }
    let uploaded = user.upload(renewed.form(), file.clone()).await?;
    assert!((200..300).contains(&uploaded.status), "{}", uploaded.status);
    user.link_profile(created.image_id()).await?.expect_status(201)?;
    assert_eq!(user.download(created.image_id()).await?.body, file);

    // An image from before the setting may have no declared length.
    let earlier = user.post("/user/images", &with_size).await?.expect_status(201)?;
    subject.stand.sql(&format!("UPDATE image SET byte_size = NULL WHERE id = '{}'", earlier.image_id())).await?;
    let renewed = user.renew_form(earlier.image_id()).await?;
    match subject.strategy {
        Strategy::Streaming => assert_eq!(renewed.status, 201),
        Strategy::Presigned => assert_refused("no size", &renewed, (400, "byte_size_required")),
    }
    Ok(())
}

pub(super) async fn a_form_is_renewed_while_the_image_is_pending(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let id = created.image_id();
    let renewed = user.renew_form(id).await?.expect_status(201)?;
    assert_eq!(names(&renewed.json), ["presignedPost"]);
    assert_eq!(renewed.form()["fields"]["key"], created.form()["fields"]["key"]);
    assert_eq!(names(&renewed.form()["fields"]), names(&created.form()["fields"]));
    assert_eq!(subject.kept().await?, Kept { rows: 1, ..NOTHING });

    user.upload(renewed.form(), picture(2)).await?.expect_status(201)?;
    user.renew_form(id).await?.expect_status(201).context("uploaded is still pending")?;
    user.link_profile(id).await?.expect_status(201)?;
    assert_eq!(user.download(id).await?.body, picture(2));
    assert_refused("linked", &user.renew_form(id).await?, (409, "already_linked"));

    for id in ["not-an-id", "..%2f..", "0", "%00"] {
        assert_refused(id, &user.renew_form(id).await?, (404, "not_found"));
    }
    let missing = uuid::Uuid::now_v7().to_string();
    assert_refused("missing", &user.renew_form(&missing).await?, (404, "image_not_found"));
    Ok(())
}

/// An image that is too old, or that the sweep has taken, is gone for a link, a new form, a post and an earlier form.
pub(super) async fn an_image_out_of_time_is_gone(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let gone = (410, "image_expired");
    for change in ["created_at = now() - interval '59 minutes'", "deleting_at = now()"] {
        let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
        let id = created.image_id();
        let in_post = user.upload_for(ImagePath::Post).await?;
        user.upload(created.form(), picture(1)).await?.expect_status(201)?;
        for id in [id, &in_post] {
            subject.stand.sql(&format!("UPDATE image SET {change} WHERE id = '{id}'")).await?;
        }
        assert_refused(change, &user.link_profile(id).await?, gone);
        assert_refused(change, &user.renew_form(id).await?, gone);
        let answer = user.create_post("Title", "", &[&in_post]).await?;
        assert_refused(change, &answer, gone);
        assert_eq!(answer.json["imageEntityId"], in_post);
        if subject.strategy == Strategy::Streaming {
            assert_refused(change, &user.upload(created.form(), picture(2)).await?, gone);
        }
        assert_refused(change, &user.read(id).await?, (404, "image_not_found"));
    }
    assert_eq!(subject.kept().await?.linked, 0);
    assert_eq!(subject.stand.count("post").await?, 0);
    Ok(())
}
