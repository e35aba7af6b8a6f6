//! The real binary against a real Postgres and a real S3 server.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod audits;
mod buckets;
mod databases;
mod doctors;
mod minio_keys;
mod reconciles;
mod settings;
mod stores;
mod sweeps;
mod tokens;
mod world;
