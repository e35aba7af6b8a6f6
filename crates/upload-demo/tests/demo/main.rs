//! The demo as its user meets it, and what only two servers at once can show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behind_nginx;
mod command;
mod crossing;
mod example_environment;
mod once;
mod process;
mod proxied;
mod running;
mod switching;
