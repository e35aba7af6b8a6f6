//! Rights to a bucket, on a store with rights per bucket.

use std::env;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// Gives the three keys rights to a new bucket: runs the command that `SANDBOX_S3_GRANT` names, with the bucket's name. Without the
/// variable it does nothing. On Garage a key has no rights to buckets that are newer than the key: `scripts/garage` sets the variable.
///
/// # Errors
/// The command's message, if it fails.
pub async fn grant(bucket: &str) -> Result<()> {
    let Some(program) = env::var_os("SANDBOX_S3_GRANT").filter(|program| !program.is_empty()) else { return Ok(()) };
    let granted = Command::new(program).arg(bucket).output().await.context("SANDBOX_S3_GRANT cannot be run")?;
    ensure!(granted.status.success(), "SANDBOX_S3_GRANT: {}", String::from_utf8_lossy(&granted.stderr));
    Ok(())
}
