#![doc = include_str!("../README.md")]

pub mod latency;
pub mod record;
pub mod workload;
