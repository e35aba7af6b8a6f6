use bytes::Bytes;
use upload_domain::{Role, UserStatus};
use upload_persistence::users;
use upload_sandbox::{Sandbox, tokens};
use upload_storage::bucket;

#[tokio::test]
async fn each_stand_has_a_database_of_its_own_with_every_table() {
    let sandbox = Sandbox::shared().await;
    let (one, other) = tokio::join!(sandbox.stand(), sandbox.stand());
    let user = one.add_user(Role::User, UserStatus::Active).await.unwrap();
    assert_eq!(one.count("\"user\" WHERE role = 'USER' AND status = 'ACTIVE'").await.unwrap(), 1);
    for table in ["\"user\"", "image", "user_profile_image", "competition", "competition_poster_image", "post_image"] {
        assert_eq!(other.count(table).await.unwrap(), 0, "{table}");
    }
    let mut connection = one.database.connection().await.unwrap();
    assert_eq!(users::find_active(&mut connection, user).await.unwrap().unwrap().id, user);
}

#[tokio::test]
async fn each_stand_has_a_bucket_of_its_own() {
    let sandbox = Sandbox::shared().await;
    let (one, other) = tokio::join!(sandbox.stand(), sandbox.stand());
    one.storage.put("incoming/x", "image/png", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(one.storage.list("").await.unwrap(), ["incoming/x"]);
    assert_eq!(other.storage.list("").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_dropped_stand_takes_its_database_and_its_bucket_with_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let keeper = sandbox.stand().await;
    let stand = sandbox.stand().await;
    stand.storage.put("incoming/x", "image/png", Bytes::from_static(b"x")).await.unwrap();
    let (storage, bucket_name) = (stand.storage.clone(), stand.bucket().to_owned());
    let database = stand.database_url.rsplit_once('/').unwrap().1.to_owned();
    let removed = stand.remove();
    removed.await.unwrap();
    assert!(!bucket::look(&storage).await.unwrap().exists, "{bucket_name} is still there");
    let count = keeper.count(&format!("pg_database WHERE datname = '{database}'")).await.unwrap();
    assert_eq!(count, 0, "{database} is still there");
}

#[test]
fn the_sandbox_outlives_the_runtime_of_the_test_that_started_it() {
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stand = Sandbox::shared().await.stand().await;
            stand.database.ping().await.unwrap();
            assert!(bucket::look(&stand.storage).await.unwrap().exists);
        });
    }
}

#[tokio::test]
async fn the_environment_is_whole_and_holds_three_different_keys() {
    let stand = Sandbox::shared().await.stand().await;
    assert_eq!(stand.storage_settings.check(), Ok(()));
    let environment = stand.environment();
    for name in ["DATABASE_URL", "S3_ENDPOINT", "S3_BUCKET", "S3_SIGNER_SECRET_ACCESS_KEY", "PUBLIC_API_URL"] {
        assert!(!environment[name].is_empty(), "{name}");
    }
    assert!(environment["JWT_SECRET"].len() >= 32);
    assert_eq!(environment["JWT_ISSUER"], tokens::ISSUER);
}

#[tokio::test]
async fn a_persons_token_says_who_they_are() {
    let stand = Sandbox::shared().await.stand().await;
    let host = stand.add_person(Role::Host).await.unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.set_issuer(&[tokens::ISSUER]);
    validation.set_audience(&[tokens::AUDIENCE]);
    let key = jsonwebtoken::DecodingKey::from_secret(stand.jwt_secret.as_bytes());
    let token = jsonwebtoken::decode::<upload_domain::Claims>(&host.token, &key, &validation).unwrap();
    assert_eq!((token.claims.user_id, token.claims.user_role.as_str()), (host.id, "HOST"));
}
