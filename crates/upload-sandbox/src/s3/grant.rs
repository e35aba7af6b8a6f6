//! Rights to a bucket, on a store whose keys have them bucket by bucket.

use std::env;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// Lets the three keys into a new bucket, by the command that `SANDBOX_S3_GRANT` names and that is given the bucket's name; without the
/// variable nothing is needed. On Garage a key has no rights to buckets that were made after it: `scripts/garage` sets the variable.
///
/// # Errors
/// What the command said.
pub async fn grant(bucket: &str) -> Result<()> {
    let Some(program) = env::var_os("SANDBOX_S3_GRANT").filter(|program| !program.is_empty()) else { return Ok(()) };
    let granted = Command::new(program).arg(bucket).output().await.context("SANDBOX_S3_GRANT cannot be run")?;
    ensure!(granted.status.success(), "SANDBOX_S3_GRANT: {}", String::from_utf8_lossy(&granted.stderr));
    Ok(())
}
