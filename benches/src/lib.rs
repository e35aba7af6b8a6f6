#![doc = include_str!("../README.md")]

pub mod advise;
pub mod builds;
mod client;
pub mod command;
pub mod compare;
pub mod facts;
pub mod latency;
pub mod limits;
pub mod load;
pub mod payload;
pub mod record;
pub mod report;
pub mod round;
pub mod screen;
pub mod sink;
pub mod stage;
pub mod store;
pub mod target;
pub mod usage;
pub mod verify;
pub mod workload;
