//! Buckets as hosts: forms and reads by virtual host reach a real store, from a server that reaches it in the same way.

use serde_json::json;
use upload_sandbox::{Sandbox, samples};

use crate::Setup;

#[tokio::test]
async fn forms_and_reads_by_virtual_host_work_as_by_path() {
    let stand = Sandbox::shared().await.stand().await;
    // Not every store has buckets as hosts.
    let Some(environment) = stand.by_virtual_host() else { return };
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
