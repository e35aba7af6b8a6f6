//! The queries against a real Postgres: every arrow between an image's states, the races for them, and the pool's bad days.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod attempts;
mod constraints;
mod image_links;
mod links;
mod migrations;
mod pool;
mod posts;
mod races;
mod standing;
mod statements;
mod sweep;
mod tls;
mod world;
