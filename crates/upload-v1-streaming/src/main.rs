//! The V1 server: reads its settings, serves, stops.

use std::process::ExitCode;

use upload_v1_streaming::{Settings, strategy};

fn main() -> ExitCode {
    upload_http::run::<Settings>(|settings| &settings.common, strategy)
}
