#![doc = include_str!("../README.md")]

pub mod client;
pub mod encrypted;
pub mod head;
pub mod issuer;
pub mod nginx;
pub mod not_tested;
pub mod port;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod redis;
pub mod relay;
pub mod s3;
pub mod samples;
pub mod tokens;

mod sandbox;
mod stand;

pub use sandbox::Sandbox;
pub use stand::{Person, Row, Stand};
