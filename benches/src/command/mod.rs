//! The subcommands, one file each.

mod compare;
mod load;
mod report;

pub use compare::CompareCommand;
pub use load::LoadCommand;
pub use report::ReportCommand;
