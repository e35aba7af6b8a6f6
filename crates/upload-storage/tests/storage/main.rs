//! The store itself: what our operations do there, and what a form lets a client do. The tests use the embedded S3 store, or the one
//! that `S3_ENDPOINT` and its keys name.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bucket;
mod capabilities;
mod client_body;
mod deletions;
mod forms;
mod liar;
mod lifecycle;
mod objects;
mod policy_matrix;
mod put_matrix;
mod regions;
mod rights;
mod stand;
mod sts;
mod three_keys;
mod upload;
mod versions;
