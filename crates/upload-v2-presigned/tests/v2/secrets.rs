//! No token, form or key in any log, at any level.

use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::samples;
use upload_storage::bucket;

use crate::Setup;

#[tokio::test]
async fn nothing_secret_is_logged_at_the_finest_level() {
    let setup = Setup::start(&[]).await;
    for format in ["json", "human"] {
        let (mut server, client) = setup.another(&[("LOG_LEVEL", "trace"), ("LOG_FORMAT", format)]).await;
        let created = client.create_image(ImagePath::UserProfile, ImageFormat::Png).await.unwrap();
        client.upload(created.form(), samples::of_format(ImageFormat::Png, 1)).await.unwrap();
        client.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
        let read = client.read(created.image_id()).await.unwrap();
        let location = url::Url::parse(read.header("location")).unwrap();
        let renewed = client.create_image(ImagePath::Post, ImageFormat::Png).await.unwrap();
        client.renew_form(renewed.image_id()).await.unwrap();
        client.link_profile(renewed.image_id()).await.unwrap();
        client.with_token(format!("{}x", setup.member.token)).me().await.unwrap();
        client.get("/nowhere?token=query-secret&X-Amz-Signature=query-secret").await.unwrap();

        // The server logs its own failures with their cause.
        let (mut refused, refusing) = setup.another(&[("LOG_LEVEL", "trace"), ("LOG_FORMAT", format)]).await;
        bucket::empty_and_remove(&setup.stand.admin).await.unwrap();
        let failed = refusing.create_post("title", "", &[renewed.image_id()]).await.unwrap();
        assert_eq!(failed.refusal(), (503, "storage_unavailable"), "{}", failed.json);
        bucket::create(&setup.stand.admin).await.unwrap();

        let mut secrets: Vec<String> = setup
            .stand
            .environment()
            .into_iter()
            .filter_map(|(name, value)| {
                let secret = name.contains("SECRET")
                    || name.ends_with("KEY_ID")
                    || name.ends_with("TOKEN")
                    || name == "DATABASE_URL";
                secret.then_some(value)
            })
            .collect();
        for form in [created.form(), renewed.form()] {
            for field in ["policy", "x-amz-signature", "x-amz-credential"] {
                secrets.push(form["fields"][field].as_str().unwrap().to_owned());
            }
        }
        secrets.extend(
            location
                .query_pairs()
                .filter(|(name, _)| name.starts_with("X-Amz-Sig") || name.starts_with("X-Amz-Cred"))
                .map(|(_, value)| value.into_owned()),
        );
        secrets.push(setup.member.token.clone());
        secrets.extend(["query-secret", "Bearer "].map(str::to_owned));

        assert_eq!(server.terminate().await.unwrap(), Some(0));
        assert_eq!(refused.terminate().await.unwrap(), Some(0));
        for log in [server.log().join("\n"), refused.log().join("\n")] {
            assert!(log.contains("listening"), "{log}");
            for secret in &secrets {
                assert!(!log.contains(secret), "`{secret}` is in the log:\n{log}");
            }
        }
        let log = server.log();
        let linked: Vec<_> = log.iter().filter(|line| line.contains("image linked")).collect();
        assert_eq!(linked.len(), 1, "{log:?}");
        for field in ["image.id", "size_bytes", "duration_ms", "request.id"] {
            assert!(linked[0].contains(field), "{field} is not in {}", linked[0]);
        }
    }
}
