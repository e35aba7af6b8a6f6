//! Either server as a process of its own: `SERVER=v1` or `SERVER=v2`, and the server's own settings.
//!
//! Only for this package's tests, which need both as they are deployed, with logs, signals and exit codes. Cargo builds the
//! servers' own binaries for the tests of their own packages alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::var("SERVER").as_deref() {
        Ok("v1") => upload_http::run::<upload_v1_streaming::Settings>(
            |settings| &settings.common,
            upload_v1_streaming::strategy,
        ),
        Ok("v2") => upload_http::run::<upload_v2_presigned::Settings>(
            |settings| &settings.common,
            upload_v2_presigned::strategy,
        ),
        _ => {
            upload_demo::say("SERVER must be `v1` or `v2`");
            ExitCode::from(2)
        }
    }
}
