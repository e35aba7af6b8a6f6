#![doc = include_str!("../README.md")]

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    match std::env::var("PROGRAM").as_deref() {
        Ok("v1") => upload_http::run::<upload_v1_streaming::Settings>(
            |settings| &settings.common,
            upload_v1_streaming::strategy,
        ),
        Ok("v2") => upload_http::run::<upload_v2_presigned::Settings>(
            |settings| &settings.common,
            upload_v2_presigned::strategy,
        ),
        Ok("ops") => upload_ops::run(),
        _ => {
            // If stderr is closed, nobody can read the sentence.
            let _ = std::io::stderr().write_all(b"PROGRAM must be `v1`, `v2` or `ops`\n");
            ExitCode::from(2)
        }
    }
}
