//! Whether the server can do its work: at start-up, for `/health/ready`, and at regular intervals.

mod clocks;
mod health;
mod probe;
mod start_up;

pub(crate) use health::{Health, live, live_operation, ready, ready_operation};
pub(crate) use start_up::check;
