//! The forms that this server signs: POST by default, PUT on request.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use upload_domain::{ImageFormat, Sha256Checksum};
use upload_sandbox::samples;

use crate::Setup;

#[tokio::test]
async fn an_image_that_was_put_can_be_linked_and_read() {
    let setup = Setup::start(&[]).await;
    let image = samples::jpeg_of_exactly(300_000, 7);
    let wish = json!({ "path": "user-profile", "format": "image/jpeg", "byteSize": image.len(), "method": "PUT" });
    let created = setup.client.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
    assert_eq!(created.form()["method"], "PUT");
    assert!(created.form()["fields"].is_null() && created.form()["headers"].is_object());

    let longer = [image.as_slice(), b"x"].concat();
    let mut stretched = created.form().clone();
    stretched["headers"]["content-length"] = json!(longer.len().to_string());
    let refused = setup.client.upload(&stretched, longer).await.unwrap();
    assert_eq!(refused.status, 403, "another length than was signed");
    assert_eq!(setup.keys("incoming/").await, Vec::<String>::new());

    assert_eq!(setup.client.upload(created.form(), image.clone()).await.unwrap().status, 200);
    let id = created.image_id();
    setup.client.link_profile(id).await.unwrap().expect_status(201).unwrap();
    assert_eq!(setup.client.download(id).await.unwrap().body, image);
}

#[tokio::test]
async fn a_put_without_a_size_is_refused_before_there_is_a_row() {
    let setup = Setup::start(&[]).await;
    let wish = json!({ "path": "user-profile", "format": "image/jpeg", "method": "PUT" });
    assert_eq!(setup.client.post("/user/images", &wish).await.unwrap().refusal(), (400, "byte_size_required"));
    assert_eq!(setup.stand.count("image").await.unwrap(), 0);
}

#[tokio::test]
async fn a_form_is_for_the_bucket_and_ends_in_time() {
    let setup = Setup::start(&[("FORM_TTL", "60")]).await;
    let wish = json!({ "path": "post", "format": "image/png" });
    let created = setup.client.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
    let form = created.form();
    assert_eq!(form["method"], "POST");
    assert!(form["url"].as_str().unwrap().ends_with(setup.stand.bucket()), "{}", form["url"]);
    assert_eq!(form["fields"]["key"], format!("incoming/{}", created.image_id()));
    let life = "SELECT extract(epoch FROM '{}'::timestamptz - created_at) BETWEEN 58 AND 60 FROM image";
    let life = life.replace("{}", form["expiresAt"].as_str().unwrap());
    assert_eq!(setup.stand.sql(&life).await.unwrap()[0][0].as_deref(), Some("t"));

    let renewed = setup.client.renew_form(created.image_id()).await.unwrap().expect_status(201).unwrap();
    let image = samples::of_format(ImageFormat::Png, 3);
    assert_eq!(setup.client.upload(renewed.form(), image).await.unwrap().status, 201);
    assert_eq!(setup.client.limits().await.unwrap().json["strategy"], "presigned");
}

#[tokio::test]
async fn a_put_with_the_declared_checksum_can_be_linked() {
    let setup = Setup::start(&[]).await;
    let png = samples::png(64, 48, 9);
    let checksum = Sha256Checksum::from(<[u8; 32]>::from(Sha256::digest(&png)));
    let wish = json!({
        "path": "user-profile", "format": "image/png", "byteSize": png.len(), "checksumSha256": checksum, "method": "PUT",
    });
    let created = setup.client.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
    assert_eq!(setup.client.upload(created.form(), png).await.unwrap().status, 200);
    setup.client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
}

/// A signature covers the type, but no other header of a PUT. A copy drops such a header; a version would be served with it.
#[tokio::test]
async fn what_a_client_tells_browsers_about_its_file_is_never_served() {
    let setup = Setup::start(&[]).await;
    setup.stand.enable_versioning().await.unwrap();
    let (_server, pinning) = setup.another(&[("S3_PIN", "version")]).await;
    let png = samples::png(64, 48, 9);
    let wish = json!({ "path": "user-profile", "format": "image/png", "byteSize": png.len(), "method": "PUT" });
    for (name, value) in [("content-disposition", "attachment; filename=\"a.html\""), ("content-encoding", "gzip")] {
        for (client, refusal) in [(&setup.client, (201, "")), (&pinning, (422, "content_mismatch"))] {
            let created = client.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
            let mut form = created.form().clone();
            form["headers"][name] = json!(value);
            assert_eq!(client.upload(&form, png.clone()).await.unwrap().status, 200);
            let id = created.image_id();
            assert_eq!(client.link_profile(id).await.unwrap().refusal(), refusal, "{name}");
            if refusal.0 == 201 {
                let read = client.download(id).await.unwrap();
                assert_eq!((read.header("content-disposition"), read.header("content-encoding")), ("inline", ""));
            }
        }
    }
}
