//! The text of `--help`. (The contract suite tests the messages about wrong settings.)

use upload_sandbox::{Sandbox, process::Program};

use crate::BINARY;

#[tokio::test]
async fn help_names_units_and_defaults_and_no_secret() {
    let stand = Sandbox::shared().await.stand().await;
    let program = ["S3_ENDPOINT", "S3_PUBLIC_ENDPOINT", "PUBLIC_API_URL", "MEDIA_PUBLIC_BASE_URL", "CORS_ORIGINS"]
        .into_iter()
        .fold(Program::new(BINARY, &stand), |program, name| program.env(name, "http://user:secret-word@127.0.0.1"));
    let help = program.arg("--help").run().await.unwrap();
    assert_eq!(help.code, Some(0));
    for part in ["in seconds", "in bytes", "FORM_TTL", "[default: 300]", "S3_SIGNER_ACCESS_KEY_ID"] {
        assert!(help.stdout.contains(part), "no `{part}` in {}", help.stdout);
    }
    for (variable, value) in stand.environment() {
        if variable.contains("SECRET") || variable == "DATABASE_URL" {
            assert!(!help.stdout.contains(&value), "{variable} is shown");
        }
    }
    assert!(!help.stdout.contains("secret-word"), "{}", help.stdout);
    let wrong = Program::new(BINARY, &stand).arg("--no-such-flag").run().await.unwrap();
    assert_eq!(wrong.code, Some(2));
}
