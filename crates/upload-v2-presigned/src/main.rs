//! The binary: settings from flags and environment, then serve.

use std::process::ExitCode;

use upload_v2_presigned::{Settings, strategy};

fn main() -> ExitCode {
    upload_http::run(|settings: &Settings| &settings.common, strategy)
}
