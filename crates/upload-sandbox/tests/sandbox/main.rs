//! What the sandbox promises to the tests, the demo and whoever else starts one.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod stands;
