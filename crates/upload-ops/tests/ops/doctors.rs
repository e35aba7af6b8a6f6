//! `doctor`: what it says of a good deployment and of bad ones.

use serde_json::Value;
use upload_sandbox::{
    Stand,
    not_tested::{MINIO, not_tested},
    process::Finished,
    relay::Relay,
};
use upload_storage::bucket::{self, Outcome};

use crate::world::{answer, ops, stand};

/// The check with this id.
fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("there is no check {id} in {report}"))
}

/// Its answer and grade.
fn verdict(report: &Value, id: &str) -> (String, String) {
    let check = check(report, id);
    (check["answer"].as_str().unwrap().to_owned(), check["grade"].as_str().unwrap().to_owned())
}

fn is(report: &Value, id: &str, answer: &str, grade: &str) {
    assert_eq!(verdict(report, id), (answer.to_owned(), grade.to_owned()), "{}", check(report, id));
}

fn report(finished: &Finished, code: i32) -> Value {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

async fn is_empty(stand: &Stand) {
    assert_eq!(stand.admin.list("").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_good_deployment_is_safe_and_nothing_is_left() {
    let stand = stand().await;
    answer(&stand, "bucket --cors-origins https://app.example").await;
    let printed = answer(&stand, "doctor --cors-origins https://app.example").await;
    assert!(printed.ends_with("use S3_PIN=copy\nuse FORM_METHOD=post\nthis deployment is safe"), "{printed}");
    assert!(printed.lines().any(|line| line == "good    does the store take POST forms? yes"), "{printed}");
    assert!(!printed.contains("UNSAFE"), "{printed}");

    let finished = ops(&stand, "doctor --json --cors-origins https://app.example").run().await.unwrap();
    let report = report(&finished, 0);
    assert_eq!((&report["shape"], &report["safe"]), (&1.into(), &true.into()));
    assert_eq!(report["settings"], serde_json::json!({ "S3_PIN": "copy", "FORM_METHOD": "post" }));
    for id in [
        "clocks",
        "keys",
        "unsigned_read",
        "unsigned_list",
        "unsigned_write",
        "forged_post",
        "forged_put",
        "forged_body",
        "post_accepted",
        "post_size",
        "post_key",
        "post_media",
        "post_expiry",
        "post_type",
        "post_checksum",
        "put_accepted",
        "put_size",
        "put_expiry",
        "put_type",
        "copy_if_match",
        "if_none_match",
        "public_read",
        "public_upload",
        "cors",
        "clean_up",
    ] {
        is(&report, id, "yes", "good");
    }
    for id in ["versions_put", "versions_post"] {
        is(&report, id, "no", "note");
    }
    is(&report, "public_differs", "no", "note");
    if stand.has_embedded_store() {
        // A MinIO has one setting for all buckets, and by default it allows every origin.
        is(&report, "cors_foreign", "yes", "good");
    }
    assert_eq!(check(&report, "cors")["subject"], "https://app.example");
    is_empty(&stand).await;
}

#[tokio::test]
async fn a_bucket_with_versions_can_be_used_with_them() {
    let stand = stand().await;
    if bucket::enable_versioning(&stand.admin).await.unwrap() != Outcome::Done {
        return not_tested(MINIO, "the store of S3_ENDPOINT has no versions").unwrap();
    }
    for pin in ["copy", "version"] {
        let report = report(&ops(&stand, "doctor --json").env("S3_PIN", pin).run().await.unwrap(), 0);
        assert_eq!(report["settings"]["S3_PIN"], "version");
        for id in ["versions_put", "versions_post", "lifecycle", "keeps_old_versions"] {
            is(&report, id, "yes", "good");
        }
    }
    assert_eq!(stand.admin.list_versions("").await.unwrap(), []);
    // This rule is for buckets without versions.
    bucket::set_lifecycle(&stand.admin).await.unwrap();
    is(&report(&ops(&stand, "doctor --json").run().await.unwrap(), 1), "lifecycle", "no", "unsafe");
}

#[tokio::test]
async fn a_setting_that_the_store_cannot_fulfil_is_unsafe() {
    let stand = stand().await;
    let finished = ops(&stand, "doctor --json --s3-pin version").run().await.unwrap();
    let report = report(&finished, 1);
    assert_eq!((&report["safe"], &report["settings"]["S3_PIN"]), (&false.into(), &"copy".into()));
    is(&report, "versions_put", "no", "unsafe");
    assert!(finished.stderr.contains("this deployment is unsafe: "), "{finished:?}");
    assert!(finished.stderr.contains("has no versioning"), "{finished:?}");
    let finished = ops(&stand, "doctor --s3-pin version").run().await.unwrap();
    assert!(finished.stdout.ends_with("this deployment is NOT safe"), "{finished:?}");
    is_empty(&stand).await;
}

#[tokio::test]
async fn a_key_that_may_too_much_is_unsafe() {
    let stand = stand().await;
    let admin = stand.admin_key().clone();
    let wide = ops(&stand, "doctor --json")
        .without("S3_SIGNER_SESSION_TOKEN")
        .env("S3_SIGNER_ACCESS_KEY_ID", admin.id)
        .env("S3_SIGNER_SECRET_ACCESS_KEY", admin.secret);
    let report = report(&wide.clone().run().await.unwrap(), 1);
    is(&report, "keys", "no", "unsafe");
    is(&report, "post_media", "no", "unsafe");
    let said = check(&report, "keys")["said"].as_str().unwrap().to_owned();
    assert!(said.contains("the signer's key has the right to put media/*"), "{said}");
    // Where the servers only warn, this is a note. But a MinIO lets everybody use such a key who knows its id.
    let (code, grade, refused) = if stand.has_embedded_store() { (0, "note", "yes") } else { (1, "unsafe", "no") };
    let report = self::report(&wide.env("S3_KEY_CHECK", "warn").run().await.unwrap(), code);
    assert_eq!(check(&report, "forged_body")["answer"], refused);
    is(&report, "keys", "no", grade);
    is(&report, "post_media", "no", grade);
}

#[tokio::test]
async fn one_key_for_everything_is_always_unsafe() {
    let stand = stand().await;
    for key_check in ["enforce", "warn", "off"] {
        let program = ops(&stand, "doctor --json").env("S3_ALLOW_ONE_KEY", "true").env("S3_KEY_CHECK", key_check);
        let report = report(&program.run().await.unwrap(), 1);
        is(&report, "keys", "no", "unsafe");
    }
}

#[tokio::test]
async fn v1_needs_no_signer() {
    let stand = stand().await;
    let variables = ["S3_SIGNER_ACCESS_KEY_ID", "S3_SIGNER_SECRET_ACCESS_KEY", "S3_SIGNER_SESSION_TOKEN"];
    let program = variables.iter().fold(ops(&stand, "doctor --json"), |program, name| program.without(name));
    let report = report(&program.run().await.unwrap(), 0);
    assert_eq!(report["settings"]["FORM_METHOD"], Value::Null);
    for id in ["post_accepted", "put_size", "versions_post", "public_upload", "cors", "forged_put"] {
        is(&report, id, "not_asked", "good");
    }
}

#[tokio::test]
async fn what_clients_cannot_reach_is_unsafe() {
    let stand = stand().await;
    // Nothing listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let program = ops(&stand, "doctor --json").env("S3_PUBLIC_ENDPOINT", format!("http://{nowhere}"));
    let report = report(&program.run().await.unwrap(), 1);
    is(&report, "public_differs", "yes", "good");
    is(&report, "public_read", "no", "unsafe");
    is(&report, "public_upload", "no", "unsafe");
    is_empty(&stand).await;
}

#[tokio::test]
async fn a_store_whose_clock_is_off_is_unsafe() {
    let stand = stand().await;
    let (endpoint, relay) = Relay::before(stand.storage_settings.endpoint.as_str()).await.unwrap();
    relay.shift_dates(60);
    let report = report(&ops(&stand, "doctor --json").env("S3_ENDPOINT", endpoint).run().await.unwrap(), 1);
    is(&report, "clocks", "no", "unsafe");
}
