//! The link verifies everything itself, as if the store enforced nothing: here the server's key puts what no form allows.

use serde_json::{Value, json};
use upload_sandbox::samples;

use crate::Setup;

/// Creates an image as `wish` says, has `bytes` put in its place with `content_type`, and links it.
async fn link_what_no_form_allows(
    setup: &Setup,
    wish: &Value,
    content_type: &str,
    bytes: Vec<u8>,
) -> (String, (u16, String)) {
    let created = setup.client.post("/user/images", wish).await.unwrap().expect_status(201).unwrap();
    let id = created.image_id().to_owned();
    setup.stand.storage.put(&format!("incoming/{id}"), content_type, bytes.into()).await.unwrap();
    let answer = setup.client.link_profile(&id).await.unwrap();
    let refusal = (answer.status, answer.code().to_owned());
    (id, refusal)
}

#[tokio::test]
async fn what_differs_from_the_declared_is_refused_recorded_and_deleted() {
    let limits = [("MAX_IMAGE_BYTES", "20000"), ("MAX_WIDTH", "100")];
    let setup = Setup::start(&limits).await;
    let (png, jpeg) = (samples::png(64, 48, 1), samples::jpeg_of_exactly(4_000, 1));
    let wish = |more: Value| {
        let mut wish = json!({ "path": "user-profile", "format": "image/png" });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    let jpeg_wish = |more| {
        wish(more)
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .map(|(name, value)| {
                let value = if name == "format" { json!("image/jpeg") } else { value };
                (name, value)
            })
            .collect::<serde_json::Map<_, _>>()
    };
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let table = [
        ("empty", wish(json!({})), "image/png", Vec::new(), "empty_file"),
        ("too long", jpeg_wish(json!({})).into(), "image/jpeg", samples::jpeg_of_exactly(20_001, 1), "size_mismatch"),
        ("other size", wish(json!({ "byteSize": png.len() + 1 })), "image/png", png.clone(), "size_mismatch"),
        ("other type", wish(json!({})), "text/html", png.clone(), "content_mismatch"),
        ("jpeg as png", wish(json!({})), "image/png", jpeg.clone(), "content_mismatch"),
        ("html", wish(json!({})), "image/png", samples::HTML.to_vec(), "content_mismatch"),
        ("svg", wish(json!({})), "image/png", samples::SVG.to_vec(), "content_mismatch"),
        ("pdf", wish(json!({})), "image/png", samples::PDF.to_vec(), "content_mismatch"),
        ("zip", wish(json!({})), "image/png", samples::ZIP.to_vec(), "content_mismatch"),
        ("bomb", wish(json!({})), "image/png", samples::pixel_bomb(), "image_too_large"),
        ("too wide", wish(json!({})), "image/png", samples::png(101, 1, 1), "image_too_large"),
        ("checksum", wish(json!({ "checksumSha256": zeros })), "image/png", png.clone(), "checksum_mismatch"),
    ];
    for (name, wish, content_type, bytes, code) in table {
        let (id, refusal) = link_what_no_form_allows(&setup, &wish, content_type, bytes).await;
        assert_eq!(refusal, (422, code.to_owned()), "{name}");
        let row = setup.stand.sql(&format!("SELECT refused_code, attempt_until FROM image WHERE id = '{id}'")).await;
        assert_eq!(row.unwrap(), [vec![Some(code.to_owned()), None]], "{name}");
        assert_eq!(setup.keys(&format!("incoming/{id}")).await, Vec::<String>::new(), "{name}");
        assert_eq!(setup.keys(&format!("media/{id}")).await, Vec::<String>::new(), "{name}");
        // Every later request is told the same.
        assert_eq!(setup.client.link_profile(&id).await.unwrap().refusal(), (422, code), "{name}");
        assert_eq!(setup.client.renew_form(&id).await.unwrap().refusal(), (422, code), "{name}");
    }
    let metrics = setup.client.get("/metrics").await.unwrap();
    let line = "image_refusals_total{code=\"content_mismatch\"} 6";
    assert!(String::from_utf8_lossy(&metrics.body).contains(line), "{}", String::from_utf8_lossy(&metrics.body));
}

#[tokio::test]
async fn a_declared_checksum_that_is_met_is_no_obstacle() {
    let setup = Setup::start(&[]).await;
    let png = samples::png(64, 48, 9);
    let checksum = sha256_base64(&png);
    let wish =
        json!({ "path": "user-profile", "format": "image/png", "byteSize": png.len(), "checksumSha256": checksum });
    for method in ["POST", "PUT"] {
        let mut wish = wish.clone();
        wish["method"] = json!(method);
        let created = setup.client.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
        let uploaded = setup.client.upload(created.form(), png.clone()).await.unwrap();
        assert!(uploaded.status < 300, "{method}: {}", String::from_utf8_lossy(&uploaded.body));
        setup.client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
    }
}

fn sha256_base64(bytes: &[u8]) -> String {
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(bytes).into();
    upload_domain::Sha256Checksum::from(digest).to_string()
}
