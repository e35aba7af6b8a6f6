//! The promises of the sandbox to the tests, the demo and other users.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod clients;
#[cfg(target_os = "linux")] // What is left is looked for in /proc.
mod endings;
mod processes;
mod s3;
mod samples;
mod stands;
