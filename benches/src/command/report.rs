//! `upload-bench report`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;

use crate::report;

/// Print a report again, and write its page beside it.
#[derive(Debug, Args)]
pub struct ReportCommand {
    /// The report.json of a comparison.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl ReportCommand {
    /// Reads `report.json`, writes `report.html` and `machine.txt`, and prints the report.
    ///
    /// # Errors
    /// When the file is not a report of this version, or its folder cannot be written.
    pub fn run(&self) -> Result<ExitCode> {
        let read = report::read(&self.file)?;
        report::render(&read, self.file.parent().unwrap_or(Path::new("")))?;
        println!("{}", report::terminal(&read)?);
        Ok(ExitCode::SUCCESS)
    }
}
