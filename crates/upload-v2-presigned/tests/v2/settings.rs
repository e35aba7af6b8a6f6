//! Settings that cannot be used: one sentence that names the variable, exit code 2.

use upload_sandbox::{Sandbox, process::Program};

use crate::BINARY;

#[tokio::test]
async fn a_wrong_value_ends_the_process_with_code_2_and_a_sentence() {
    let stand = Sandbox::shared().await.stand().await;
    let signer = stand.environment()["S3_SIGNER_ACCESS_KEY_ID"].clone();
    let table: [(&str, &str, &[&str]); 14] = [
        ("BIND_ADDRESS", "nowhere", &["host:port"]),
        ("PUBLIC_API_URL", "api.example.org", &["https://"]),
        ("CORS_ORIGINS", "https://a.example,b.example", &["b.example", "origin"]),
        ("TRUSTED_PROXIES", "10.0.0.0/99", &["network"]),
        ("JWT_SECRET", "short", &["at least 32"]),
        ("JWT_ALGORITHM", "none", &["HS256, RS256, ES256, EdDSA"]),
        ("JWT_ISSUER", "", &["must be set"]),
        ("MAX_IMAGE_BYTES", "20MB", &["20MB"]),
        ("PENDING_TTL", "60", &["longer"]),
        ("SHUTDOWN_TIMEOUT", "soon", &["soon"]),
        ("DATABASE_URL", "mysql://localhost/x", &["postgres://"]),
        ("DATABASE_URL", "postgres://u:hunter2@localhost/x?sslmode=verify-ca", &["sslmode=verify-full"]),
        ("S3_ENDPOINT", "127.0.0.1", &["127.0.0.1"]),
        ("S3_ACCESS_KEY_ID", &signer, &["S3_SIGNER_ACCESS_KEY_ID", "different"]),
    ];
    for (variable, value, expected) in table {
        let ended = Program::new(BINARY, &stand).env(variable, value).run().await.unwrap();
        let told = format!("{variable}={value}: {}", ended.stderr);
        assert_eq!(ended.code, Some(2), "{told}");
        assert!(ended.stderr.contains(variable), "{told}");
        assert!(expected.iter().all(|part| ended.stderr.contains(part)), "{told} lacks {expected:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{told}");
        assert_eq!(ended.stdout, "", "{told}");
        assert!(!ended.stderr.contains("hunter2") && !ended.stderr.contains("`short`"), "{told}");
    }
    for variable in ["PUBLIC_API_URL", "JWT_SECRET", "DATABASE_URL", "S3_BUCKET", "S3_SIGNER_SECRET_ACCESS_KEY"] {
        let ended = Program::new(BINARY, &stand).without(variable).run().await.unwrap();
        assert_eq!(ended.code, Some(2), "{variable}: {}", ended.stderr);
        assert!(ended.stderr.contains(variable), "{variable}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn help_names_units_and_defaults_and_no_secret() {
    let stand = Sandbox::shared().await.stand().await;
    let help = Program::new(BINARY, &stand).arg("--help").run().await.unwrap();
    assert_eq!(help.code, Some(0));
    for part in ["in seconds", "in bytes", "FORM_TTL", "[default: 300]", "S3_SIGNER_ACCESS_KEY_ID"] {
        assert!(help.stdout.contains(part), "no `{part}` in {}", help.stdout);
    }
    for (variable, value) in stand.environment() {
        if variable.contains("SECRET") || variable == "DATABASE_URL" {
            assert!(!help.stdout.contains(&value), "{variable} is shown");
        }
    }
    let wrong = Program::new(BINARY, &stand).arg("--no-such-flag").run().await.unwrap();
    assert_eq!(wrong.code, Some(2));
}
