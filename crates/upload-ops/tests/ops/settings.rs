//! What is wrong with a setting is said with its name, and the exit code is 2.

use crate::world::{assert_refused, ops, stand};

#[tokio::test]
async fn a_wrong_or_missing_setting_is_named() {
    let stand = stand().await;
    for (arguments, variable, value, said) in [
        ("migrate", "DATABASE_URL", "", "DATABASE_URL"),
        ("migrate", "DATABASE_URL", "mysql://x", "postgres://user:password@host:5432/database"),
        ("migrate", "DATABASE_URL", "postgres://host/db?sslmode=verify-ca", "sslmode=verify-full"),
        ("migrate", "DATABASE_POOL_SIZE", "many", "DATABASE_POOL_SIZE"),
        ("migrate", "LOG_FORMAT", "xml", "json, human"),
        ("user add --role USER", "DATABASE_CONNECT_TIMEOUT_MS", "0", "1..=60000"),
        ("user add --role KING", "DATABASE_POOL_SIZE", "8", "ADMIN, HOST, USER, TEMPORARY_USER"),
        ("token --user nobody", "DATABASE_POOL_SIZE", "8", "--user"),
        ("bucket", "S3_ENDPOINT", "127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("bucket", "S3_BUCKET", "", "S3_BUCKET"),
        ("sweep --once", "S3_BUCKET", "no bucket", "S3_BUCKET"),
        ("sweep --once", "PENDING_TTL", "540", "PENDING_TTL"),
        ("sweep --once", "MAX_BODY_TIME", "3600", "PENDING_TTL"),
        ("sweep", "PENDING_TTL", "3600", "--once"),
        ("sweep --every 60", "PENDING_TTL", "3600", "such as 60s"),
        ("sweep --once --every 60s", "PENDING_TTL", "3600", "cannot be used with"),
    ] {
        let finished = ops(&stand, arguments).env(variable, value).run().await.unwrap();
        assert_refused(&finished, 2, &[said]);
    }
}
