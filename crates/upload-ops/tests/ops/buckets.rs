//! `bucket`.

use upload_sandbox::{
    Sandbox,
    relay::{Mode, Relay},
};
use upload_storage::{Storage, bucket};

use crate::world::{answer, assert_refused, ops, stand};

#[tokio::test]
async fn a_bucket_is_made_and_set_up_once() {
    let stand = stand().await;
    let mut settings = stand.admin_settings.clone();
    settings.bucket = format!("{}-2", stand.bucket());
    let arguments =
        format!("bucket --s3-bucket {} --cors-origins https://a.example,http://localhost:3000", settings.bucket);
    let (first, second) = (answer(&stand, &arguments).await, answer(&stand, &arguments).await);
    let storage = Storage::new(&settings).await.unwrap();
    assert!(bucket::look(&storage).await.unwrap().exists);
    bucket::empty_and_remove(&storage).await.unwrap();

    let (first, second) = (first.lines().collect::<Vec<_>>(), second.lines().collect::<Vec<_>>());
    assert_eq!(first[0], format!("bucket {}: created", settings.bucket));
    assert_eq!(second[0], format!("bucket {}: exists already", settings.bucket));
    if Sandbox::shared().await.embedded_s3().is_some() {
        assert_eq!(first[1], "CORS: now set for https://a.example,http://localhost:3000");
        assert_eq!(second[1], "CORS: set for https://a.example,http://localhost:3000 already");
    } else if first[1].contains("not supported for a bucket") {
        assert_eq!(first[2].trim(), "MINIO_API_CORS_ALLOW_ORIGIN=https://a.example,http://localhost:3000");
    }
    let (first, second) = (first.last().unwrap(), second.last().unwrap());
    if !first.contains("not supported by the store") {
        assert_eq!(*first, "lifecycle: incoming/ now expires after 1 day");
        assert_eq!(*second, "lifecycle: incoming/ expires after 1 day already");
    }
}

#[tokio::test]
async fn without_origins_cors_is_left_alone() {
    let stand = stand().await;
    let printed = answer(&stand, "bucket").await;
    assert!(printed.contains("exists already"), "{printed}");
    assert!(printed.contains("CORS: not changed, because CORS_ORIGINS is not set"), "{printed}");
}

#[tokio::test]
async fn a_key_that_may_not_make_the_bucket_is_a_wrong_setting() {
    let stand = stand().await;
    let server = stand.environment().into_iter().fold(ops(&stand, "bucket"), |ops, (name, value)| ops.env(name, value));
    let wrong = server.env("S3_BUCKET", format!("{}-2", stand.bucket())).run().await.unwrap();
    assert_refused(&wrong, 2, &["S3_ACCESS_KEY_ID"]);
    let wrong = ops(&stand, "bucket --cors-origins a.example").run().await.unwrap();
    assert_refused(&wrong, 2, &["CORS_ORIGINS", "https://app.example.org"]);
}

#[tokio::test]
async fn versioning_is_enabled_once_and_nothing_expires_uploads_any_more() {
    let stand = stand().await;
    answer(&stand, "bucket").await;
    for (arguments, said) in [
        ("bucket --versioning", ["versioning: now enabled", "lifecycle: the rule that expired incoming/ is removed"]),
        ("bucket --s3-pin version", ["versioning: enabled already", "lifecycle: no rule expires incoming/"]),
        // A later run does not bring the rule back.
        ("bucket", ["lifecycle: no rule expires incoming/"; 2]),
    ] {
        let printed = answer(&stand, arguments).await;
        assert!(said.iter().all(|said| printed.contains(said)), "{arguments}: {printed}");
        assert!(!printed.contains("now expires"), "{arguments}: {printed}");
    }
    assert_eq!(bucket::versioning(&stand.admin).await.unwrap(), bucket::Versioning::Enabled);
}

#[tokio::test]
async fn nothing_expires_while_nobody_knows_whether_there_are_versions() {
    let stand = stand().await;
    let (endpoint, relay) = Relay::before(&stand.admin_environment()["S3_ENDPOINT"]).await.unwrap();
    relay.set(Mode::BreakRequestsWith("?versioning"));
    let failed = ops(&stand, "bucket").env("S3_ENDPOINT", endpoint).run().await.unwrap();
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("get the versioning of the bucket"), "{failed:?}");
    assert!(!failed.stdout.contains("lifecycle"), "{failed:?}");
}
