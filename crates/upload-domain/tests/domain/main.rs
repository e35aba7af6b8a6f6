//! Compares what we read in the head of a file with what decoders see in the same bytes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod decoders;
mod documents;
mod mutations;
mod sizes;
