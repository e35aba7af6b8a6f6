//! The message of a test that tests nothing, because the machine lacks a program or store that, unlike Postgres, cannot be fetched.

use std::{env, io::Write as _, thread};

use anyhow::{Result, bail};

/// For tests that need a MinIO as `scripts/minio` starts it: further keys, buckets as hosts, root's key and `mc`.
pub const MINIO: &str = "SANDBOX_MINIO";

/// For tests that compare the head's verdict with decoders: Python's Pillow and `vipsheader`.
pub const DECODERS: &str = "SANDBOX_DECODERS";

/// Says on stderr, past the test harness's capture, that the test of this thread tests nothing, and why.
///
/// # Errors
/// If `variable` is `required`, as in CI: then the test must test something.
pub fn not_tested(variable: &str, why: &str) -> Result<()> {
    match env::var(variable).as_deref() {
        Err(env::VarError::NotPresent) | Ok("auto" | "") => {}
        Ok("required") => bail!("{variable} is `required`, but {why}"),
        _ => bail!("{variable} must be `auto` or `required`"),
    }
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // In one piece, since other tests write at the same time.
    std::io::stderr().write_all(format!("\nNOT TESTED: {test}: {why}\n").as_bytes())?;
    Ok(())
}
