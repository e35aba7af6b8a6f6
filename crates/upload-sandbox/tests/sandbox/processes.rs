//! How the sandbox treats a process. A shell takes the place of a server.

use upload_sandbox::{Sandbox, Stand, process::Program};

fn shell(stand: &Stand, script: &str) -> Program {
    Program::new("/bin/sh", stand).arg("-c").arg(script)
}

#[tokio::test]
async fn a_server_is_ready_when_it_says_so_and_stops_when_told() {
    let stand = Sandbox::shared().await.stand().await;
    let script = "trap 'kill $!; echo bye >&2; exit 3' TERM; sleep 1000 & \
                  echo listening on http://127.0.0.1:1; echo up >&2; wait";
    let mut server = shell(&stand, script).serve().await.unwrap();
    assert_eq!(server.url, "http://127.0.0.1:1");
    assert_eq!(server.stdout(), ["listening on http://127.0.0.1:1"]);
    assert_eq!(server.wait_for_log(|line| line == "up").await.unwrap(), "up");
    assert_eq!(server.terminate().await.unwrap(), Some(3));
    assert_eq!(server.log(), ["up", "bye"]);
    assert!(server.wait_for_log(|line| line == "never").await.is_err());
}

#[tokio::test]
async fn a_process_has_the_stands_environment_and_no_other() {
    let stand = Sandbox::shared().await.stand().await;
    let program = shell(&stand, "echo \"$S3_BUCKET,$EXTRA,$JWT_SECRET,$CARGO_MANIFEST_DIR\"");
    let finished = program.env("EXTRA", "more").without("JWT_SECRET").run().await.unwrap();
    assert_eq!(finished.stdout, format!("{},more,,", stand.bucket()));
    assert_eq!(finished.code, Some(0));
}

#[tokio::test]
async fn a_server_that_ends_before_it_listens_is_an_error_with_its_last_words() {
    let stand = Sandbox::shared().await.stand().await;
    let error = shell(&stand, "echo 'JWT_SECRET is too short' >&2; exit 2").serve().await.unwrap_err().to_string();
    assert!(error.contains("exit status: 2") && error.contains("JWT_SECRET is too short"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_is_measured_and_a_dropped_server_is_gone() {
    let stand = Sandbox::shared().await.stand().await;
    let server = shell(&stand, "echo listening on http://127.0.0.1:1; exec sleep 1000").serve().await.unwrap();
    assert!(server.resident_bytes().unwrap() > 0);
    server.reset_peak_resident_bytes().unwrap();
    assert!(server.peak_resident_bytes().unwrap() >= server.resident_bytes().unwrap() / 2);
    let process = format!("/proc/{}", server.id());
    assert!(std::fs::exists(&process).unwrap());
    drop(server);
    assert!(!std::fs::exists(&process).unwrap(), "it is killed and reaped");
}
