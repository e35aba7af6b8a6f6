//! The binary: settings from flags and environment, then one task.

use std::process::ExitCode;

fn main() -> ExitCode {
    upload_ops::run()
}
