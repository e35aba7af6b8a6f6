#![doc = include_str!("../README.md")]

pub mod advise;
pub mod builds;
pub mod latency;
pub mod limits;
pub mod record;
pub mod report;
pub mod sink;
pub mod stage;
pub mod usage;
pub mod workload;
