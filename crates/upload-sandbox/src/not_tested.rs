//! What is said where a test tests nothing, since a part of the world is missing that cannot be fetched as Postgres is.

use std::{env, io::Write as _, thread};

use anyhow::{Result, bail};

/// What tests need that a MinIO has as `scripts/minio` starts it: further keys, buckets as hosts, root's key and `mc`.
pub const MINIO: &str = "SANDBOX_MINIO";

/// What tests need that compare the head's verdict with decoders: Python's Pillow and `vipsheader`.
pub const DECODERS: &str = "SANDBOX_DECODERS";

/// Says on stderr, past the test harness's capture, that the test of this thread tests nothing, and why.
///
/// # Errors
/// Where `variable` is `required`, as in CI: then it must test something.
pub fn not_tested(variable: &str, why: &str) -> Result<()> {
    match env::var(variable).as_deref() {
        Err(env::VarError::NotPresent) | Ok("auto" | "") => {}
        Ok("required") => bail!("{variable} is `required`, but {why}"),
        _ => bail!("{variable} must be `auto` or `required`"),
    }
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // In one piece, since other tests write, too.
    std::io::stderr().write_all(format!("\nNOT TESTED: {test}: {why}\n").as_bytes())?;
    Ok(())
}
