#![doc = include_str!("../README.md")]

pub mod advise;
pub mod builds;
mod client;
pub mod latency;
pub mod limits;
pub mod load;
pub mod payload;
pub mod record;
pub mod report;
pub mod sink;
pub mod stage;
pub mod usage;
pub mod workload;
