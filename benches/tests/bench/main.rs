//! The tests of `upload-bench`, with real servers and processes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod advise;
#[cfg(target_os = "linux")]
mod baselines;
mod comparison;
mod fixtures;
mod generator;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(unix)]
mod packages;
mod report;
mod sample;
mod sink;
mod verifier;

/// Says which test could not run here, and why. The test harness does not capture it.
fn not_tested(reason: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // In one write, because other tests write, too.
    std::io::stderr().write_all(format!("\nNOT TESTED: {test}: {reason}\n").as_bytes()).unwrap();
}
