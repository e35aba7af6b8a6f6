//! The binary: reads its flags, runs the demo, and sets the exit code.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use upload_demo::Options;

/// How long blocking work may still take when everything has been stopped, such as a download that nobody needs now.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let options = Options::parse();
    options.log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            upload_demo::say(&format!("upload-demo: cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(upload_demo::run(&options));
    runtime.shutdown_timeout(LAST_WORK);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            upload_demo::say(&format!("upload-demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
