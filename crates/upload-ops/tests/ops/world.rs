//! A stand, and the binary on it.

use upload_sandbox::{
    Sandbox, Stand,
    process::{Finished, Program},
};

pub async fn stand() -> Stand {
    Sandbox::shared().await.stand().await
}

/// The binary with these arguments, separated by spaces. `bucket` gets the key that may create buckets, which no server has.
pub fn ops(stand: &Stand, arguments: &str) -> Program {
    let mut program = Program::new(env!("CARGO_BIN_EXE_upload-ops"), stand);
    if arguments.starts_with("bucket") {
        let admin = stand.admin_environment();
        program = admin
            .into_iter()
            .fold(program.without("S3_SESSION_TOKEN"), |program, (name, value)| program.env(name, value));
    }
    arguments.split_whitespace().fold(program, |program, argument| program.arg(argument))
}

/// Runs the binary, asserts that it succeeds, and returns its output.
pub async fn answer(stand: &Stand, arguments: &str) -> String {
    let finished = ops(stand, arguments).run().await.unwrap();
    assert_eq!(finished.code, Some(0), "{arguments}: {finished:?}");
    finished.stdout
}

/// Asserts that a run ended with this code, with these texts on stderr and nothing on stdout.
pub fn assert_refused(finished: &Finished, code: i32, said: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    for said in said {
        assert!(finished.stderr.contains(said), "`{said}` is not in {finished:?}");
    }
    assert_eq!(finished.stdout, "");
}
