//! The queries on a real Postgres: every change of an image's state, concurrent changes, and the pool under failures.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod attempts;
mod constraints;
mod ended_links;
mod image_links;
mod inventory;
mod links;
mod migrations;
mod pool;
mod posts;
mod quotas;
mod races;
mod standing;
mod statements;
mod sweep;
mod tls;
mod world;
