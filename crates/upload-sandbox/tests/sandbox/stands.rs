use upload_domain::{Role, UserStatus};
use upload_sandbox::Sandbox;

#[tokio::test]
async fn each_stand_has_a_database_of_its_own_with_every_table() {
    let sandbox = Sandbox::shared().await;
    let (one, other) = tokio::join!(sandbox.stand(), sandbox.stand());
    one.add_user(Role::User, UserStatus::Active).await.unwrap();
    assert_eq!(one.count("\"user\" WHERE role = 'USER' AND status = 'ACTIVE'").await.unwrap(), 1);
    assert_eq!(other.count("\"user\"").await.unwrap(), 0);
    assert_ne!(one.bucket(), other.bucket());
}
