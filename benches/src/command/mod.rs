//! The command line, a file for each subcommand.

mod compare;
mod load;
mod report;

pub use compare::CompareCommand;
pub use load::LoadCommand;
pub use report::ReportCommand;
