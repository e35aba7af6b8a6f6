//! `-- command`: it runs beside the servers, and the demo ends with it.

use nix::sys::signal::Signal;

use crate::process::Demo;

#[test]
fn a_command_has_what_it_needs_and_its_exit_code_is_the_demos() {
    let script = r#"
        for name in V1 V2 TOKEN ADMIN_TOKEN PHOTO DATABASE_URL S3_BUCKET S3_SIGNER_ACCESS_KEY_ID TICKET_SECRET; do
            eval "test -n \"\$$name\"" || { echo "$name is not set"; exit 1; }
        done
        test -s "$PHOTO" || exit 1
        exit 7
    "#;
    let output = Demo::new(&["--", "sh", "-c", script]).run();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{}\n{stderr}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty(), "standard output is the command's alone");
}

#[test]
fn a_signal_ends_the_command_too() {
    let mut demo = Demo::new(&["--", "sh", "-c", "echo 'Running until Ctrl-C'; exec sleep 1000"]).start();
    demo.until_running();
    let (code, stderr) = demo.end_by(Signal::SIGTERM);
    assert_eq!(code, Some(128 + 15), "{stderr}");
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let output = Demo::new(&["--", "/nowhere/command"]).run();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("cannot start `/nowhere/command`"), "{stderr}");
}
