#![doc = include_str!("../README.md")]

pub mod builds;
pub mod latency;
pub mod limits;
pub mod record;
pub mod sink;
pub mod stage;
pub mod usage;
pub mod workload;
