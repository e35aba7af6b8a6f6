//! The command line, a file for each subcommand.

mod load;
mod report;

pub use load::LoadCommand;
pub use report::ReportCommand;
