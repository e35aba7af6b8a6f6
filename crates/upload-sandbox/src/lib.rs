#![doc = include_str!("../README.md")]

pub mod bad_input;
pub mod client;
pub mod compose;
pub mod contract;
pub mod disputed;
pub mod encrypted;
pub mod env_example;
pub mod issuer;
pub mod nginx;
pub mod not_tested;
pub mod openapi;
pub mod port;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod s3;
pub mod samples;
pub mod tokens;

mod sandbox;
mod stand;

pub use sandbox::Sandbox;
pub use stand::{Person, Row, Stand};
