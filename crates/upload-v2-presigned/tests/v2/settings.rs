//! What `--help` says. (What is said of a setting that cannot be used is the contract suite's.)

use upload_sandbox::{Sandbox, process::Program};

use crate::BINARY;

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
