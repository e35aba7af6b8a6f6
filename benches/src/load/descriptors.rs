//! Every connection needs a file descriptor. Without enough of them, images would fail that the server did not refuse.

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::record::Line;

/// Connections that one image may hold: to the server and to the store.
const CONNECTIONS: u64 = 2;
/// What a relay holds for each connection of a client: its two sides.
const OF_RELAY: u64 = 2;
/// Descriptors for everything else in this process: its runtime, its output, the pipes of a server.
const BESIDE: u64 = 64;

/// Makes sure that this many images can be in flight, by raising the soft limit to the hard one.
///
/// # Errors
///
/// When the hard limit does not allow it.
pub fn check_descriptors(images: u32, line: Line) -> Result<()> {
    let for_each_connection = if line.rtt_ms > 0 { 1 + OF_RELAY } else { 1 };
    let needed = u64::from(images) * CONNECTIONS * for_each_connection + BESIDE;
    let hard = raise_descriptors()?;
    if needed > hard {
        bail!(
            "{images} images at once need {needed} open files, and this process may have {hard}: use fewer images, or raise \
             the limit (ulimit -n)"
        );
    }
    Ok(())
}

/// Raises the limit of open files as far as possible, and returns it.
///
/// # Errors
///
/// When the system refuses.
pub fn raise_descriptors() -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_images_than_there_may_be_open_files_are_refused_in_one_sentence() -> Result<()> {
        check_descriptors(8, Line::default())?;
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if hard < u64::from(u32::MAX) {
            let refused = check_descriptors(u32::MAX, Line::default());
            assert!(refused.is_err_and(|error| error.to_string().contains("ulimit -n")));
        }
        Ok(())
    }
}
