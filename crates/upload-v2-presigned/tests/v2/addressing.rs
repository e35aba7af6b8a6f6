//! How a server reaches its store: with buckets as hosts, and by https.

use serde_json::json;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    Sandbox,
    encrypted::EncryptedStore,
    not_tested::{MINIO, not_tested},
    postgres::Certificate,
    process::Program,
    samples,
};

use crate::{BINARY, Setup};

#[tokio::test]
async fn forms_and_reads_by_virtual_host_work_as_by_path() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(environment) = stand.by_virtual_host() else {
        return not_tested(MINIO, "SANDBOX_S3_DOMAIN names no domain below which the store has its buckets as hosts")
            .unwrap();
    };
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let endpoint = stand.domain_endpoint().unwrap();
    let host = endpoint.trim_end_matches('/').replace("http://", &format!("http://{}.", stand.bucket()));
    let setup = Setup::on(stand, &environment).await;

    let png = samples::png(64, 48, 5);
    for (method, stored) in [("POST", 201), ("PUT", 200)] {
        let wish = json!({ "path": "user-profile", "format": "image/png", "byteSize": png.len(), "method": method });
        let created = setup.client.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
        let (form, id) = (created.form(), created.image_id());
        assert!(form["url"].as_str().unwrap().starts_with(&host), "{} does not start with {host}", form["url"]);
        let uploaded = setup.client.upload(form, png.clone()).await.unwrap();
        assert_eq!(uploaded.status, stored, "{}", String::from_utf8_lossy(&uploaded.body));
        if method == "POST" {
            assert_eq!(uploaded.header("location"), format!("{host}/incoming/{id}"));
        }
        assert_eq!(setup.keys(&format!("incoming/{id}")).await.len(), 1);

        setup.client.link_profile(id).await.unwrap().expect_status(201).unwrap();
        let read = setup.client.get(&format!("/images/{id}")).await.unwrap().expect_status(302).unwrap();
        assert!(read.header("location").starts_with(&format!("{host}/media/{id}/")), "{read:?}");
        assert_eq!(setup.client.download(id).await.unwrap().body, png);
    }
    assert_eq!(setup.keys("media/").await.len(), 2);
}

#[tokio::test]
async fn a_store_by_https_serves_where_its_authority_is_known() {
    let stand = Sandbox::shared().await.stand().await;
    let encrypted = EncryptedStore::before(&stand, Certificate::Good).await.unwrap();
    let public_endpoint = stand.storage_settings.endpoint.to_string();
    let environment = [
        ("S3_ENDPOINT", encrypted.endpoint()),
        ("S3_PUBLIC_ENDPOINT", &public_endpoint),
        ("SSL_CERT_FILE", encrypted.authority().to_str().unwrap()),
    ];
    let setup = Setup::on(stand, &environment).await;
    let png = samples::png(64, 48, 5);
    let created = setup.client.create_image(ImagePath::UserProfile, ImageFormat::Png).await.unwrap();
    setup.client.upload(created.form(), png.clone()).await.unwrap();
    setup.client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
    assert_eq!(setup.client.download(created.image_id()).await.unwrap().body, png);
}

#[tokio::test]
async fn a_store_whose_certificate_does_not_verify_is_refused_at_the_start() {
    let stand = Sandbox::shared().await.stand().await;
    let good = EncryptedStore::before(&stand, Certificate::Good).await.unwrap();
    let expired = EncryptedStore::before(&stand, Certificate::Expired).await.unwrap();
    let authority = |store: &EncryptedStore| store.authority().to_str().unwrap().to_owned();
    let table = [
        ("an authority that nobody knows", good.endpoint(), None, "UnknownIssuer"),
        ("a certificate that has expired", expired.endpoint(), Some(authority(&expired)), "expired"),
    ];
    for (case, endpoint, authority, reason) in table {
        let program = Program::new(BINARY, &stand).env("S3_ENDPOINT", endpoint);
        let program = authority.into_iter().fold(program, |program, file| program.env("SSL_CERT_FILE", file));
        let ended = program.run().await.unwrap();
        let told = format!("{case}: {}", ended.stderr);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{told}");
        for part in ["S3_ENDPOINT", "certificate does not verify", reason] {
            assert!(ended.stderr.contains(part), "`{part}` is not in {told}");
        }
        assert_eq!(ended.stderr.lines().count(), 1, "{told}");
    }
}
