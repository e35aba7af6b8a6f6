//! A wrong setting ends the program with exit code 2 and one line that names the setting. Databases and stores can be wrong in the
//! same ways for every program, so those cases come from the sandbox's table.

use upload_contract::bad_input::{Wilderness, assert_each_is_refused, may_not_delete, with_password, wrong};

use crate::world::{assert_refused, ops, stand};

#[tokio::test]
async fn a_wrong_or_missing_setting_is_named() {
    let stand = stand().await;
    for (arguments, variable, value, said) in [
        ("migrate", "LOG_FORMAT", "xml", "json, human"),
        ("user add --role USER", "DATABASE_CONNECT_TIMEOUT_MS", "0", "1..=60000"),
        ("user add --role USER", "DATABASE_POOL_SIZE", "many", "DATABASE_POOL_SIZE>': it must be a whole number"),
        ("sweep --once", "FORM_TTL", "5m", "FORM_TTL>': it must be a whole number"),
        ("sweep --once", "FORM_TTL", "99999999999999999999", "it is too large"),
        ("user add --role KING", "DATABASE_POOL_SIZE", "8", "ADMIN, HOST, USER, TEMPORARY_USER"),
        ("token --user nobody", "DATABASE_POOL_SIZE", "8", "--user"),
        ("sweep --once", "PENDING_TTL", "540", "PENDING_TTL"),
        ("sweep --once", "MAX_BODY_TIME", "3600", "PENDING_TTL"),
        ("sweep", "PENDING_TTL", "3600", "--once"),
        ("sweep --every 60", "PENDING_TTL", "3600", "such as 60s"),
        ("sweep --once --every 60s", "PENDING_TTL", "3600", "cannot be used with"),
    ] {
        let finished = ops(&stand, arguments).env(variable, value).run().await.unwrap();
        assert_refused(&finished, 2, &[said]);
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    }
}

#[tokio::test]
async fn a_database_or_a_store_that_cannot_be_used_is_said_in_one_sentence() {
    let stand = stand().await;
    let wilderness = Wilderness::new(&stand).await.unwrap();
    let token = format!("token --user {}", uuid::Uuid::nil());
    // The programs wait for a store that never answers, so all of them run at once.
    let runs =
        ["migrate", "user add --role USER", &token, "bucket", "sweep --once", "sweep --every 60s"].map(|arguments| {
            let databases = wilderness.databases(&stand).unwrap();
            let (empty, stores) = (wilderness.empty_database(&stand).unwrap(), wilderness.stores(&stand));
            let no_bucket =
                wrong("S3_BUCKET", "there-is-no-such-bucket", &["there-is-no-such-bucket", "upload-ops bucket"]);
            let may_not_delete = Vec::from_iter(may_not_delete(&stand).unwrap());
            let table = match arguments {
                "migrate" => databases,
                "bucket" => [stores, with_password("CORS_ORIGINS")].concat(),
                sweep if sweep.starts_with("sweep") => {
                    [databases, vec![empty, no_bucket], stores, may_not_delete].concat()
                }
                _ => [databases, vec![empty]].concat(),
            };
            let program = ops(&stand, arguments);
            async move { assert_each_is_refused(&program, table).await }
        });
    futures::future::join_all(runs).await;
}

#[tokio::test]
async fn a_database_that_is_newer_than_the_binary_is_left_alone() {
    let stand = stand().await;
    stand.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')").await.unwrap();
    for arguments in ["migrate", "user add --role USER", "sweep --once"] {
        let finished = ops(&stand, arguments).run().await.unwrap();
        assert_refused(&finished, 2, &["DATABASE_URL", "99991231000000", "older than the database"]);
    }
    assert_eq!(stand.count("\"user\"").await.unwrap(), 0);
}
