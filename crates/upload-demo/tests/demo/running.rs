//! Without `--once`: the printed commands work, and a signal ends the demo with nothing left behind.

use std::{io::ErrorKind, process::Command};

use nix::sys::signal::Signal;

use crate::process::Demo;

/// The lines that a user pastes into a shell.
fn script(text: &str) -> &str {
    let begin = text.find("\nV1=").unwrap();
    let end = text.rfind("Running until").unwrap();
    &text[begin..end]
}

#[test]
fn the_printed_lines_work_as_they_are_and_ctrl_c_leaves_nothing() {
    let mut demo = Demo::new(&[]).on_its_own().start();
    let text = demo.until_running();
    let through_v2 = script(&text).to_owned();
    let through_v1 = through_v2.replace("SERVER=$V2", "SERVER=$V1");
    assert_ne!(through_v1, through_v2);
    for script in [through_v2, through_v1] {
        // The machine that runs the tests may have no curl; the demo itself does not need it.
        if Command::new("curl").arg("--version").output().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            break;
        }
        let output = Command::new("sh").args(["-eu", "-c", &script]).env("no_proxy", "*").output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{stdout}\n{stderr}");
        assert_eq!(stdout.matches("the same bytes").count(), 2, "{script}\n{stdout}\n{stderr}");
        assert_eq!(stdout.matches(r#"{"userProfileImage":{"#).count(), 2, "{stdout}");
        assert_eq!(stderr, "", "curl, sed and cmp have nothing to complain about");
    }
    let (code, stderr) = demo.end_by(Signal::SIGINT);
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn sigterm_leaves_nothing_either() {
    let mut demo = Demo::new(&[]).start();
    demo.until_running();
    let (code, stderr) = demo.end_by(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{stderr}");
}
