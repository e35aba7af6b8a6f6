//! V1 through HTTP, on a real Postgres and a real S3 store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod clients;
mod clocks;
mod contract;
mod crashes;
mod crowds;
mod faults;
mod openapi;
mod queue;
mod rig;
mod settings;
mod shares;
mod stops;
mod store_requests;
mod stores;
mod streaming;
