//! What V1 never logs. (The contract suite tests the messages about wrong settings.)

use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::samples::jpeg_of_exactly;

use crate::rig::Rig;

#[tokio::test]
async fn nothing_secret_is_logged_at_the_finest_level() {
    let mut rig = Rig::start(&[("LOG_LEVEL", "trace")]).await;
    let created = rig.create().await;
    let file = jpeg_of_exactly(400_000, 1);
    assert_eq!(rig.client().upload(created.form(), file.clone()).await.unwrap().status, 201);
    let mut tampered = created.form().clone();
    tampered["fields"]["Content-Type"] = "image/png".into();
    assert_eq!(rig.client().upload(&tampered, file.clone()).await.unwrap().status, 403);
    let streamed = rig.client().stream(ImagePath::UserProfile, ImageFormat::Jpeg, file).await.unwrap();
    assert_eq!(streamed.status, 201);
    assert_eq!(rig.server.terminate().await.unwrap(), Some(0));

    let environment = rig.stand.environment();
    let secret = |name: &str| name.contains("SECRET") || name.ends_with("KEY_ID") || name.ends_with("TOKEN");
    let settings = environment.iter().filter(|(name, _value)| secret(name)).map(|(_name, value)| value.as_str());
    let (_url, ticket) = created.form()["url"].as_str().unwrap().split_once("ticket=").unwrap();
    let log = rig.server.log().join("\n");
    for secret in settings.chain([ticket, &rig.person.token, "Bearer "]) {
        assert!(!log.contains(secret), "`{secret}` is in the log:\n{log}");
    }
    assert_eq!(log.matches("image uploaded").count(), 2, "one line an upload:\n{log}");
}
