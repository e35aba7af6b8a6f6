//! The demo as its user sees it, and tests that need both servers at the same time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behind_nginx;
mod command;
mod crossing;
mod example_environment;
mod once;
mod process;
mod proxied;
mod running;
mod shared_limits;
mod switching;
