//! `upload-bench report`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::report;

/// Print a report again, and write its page anew beside it.
#[derive(Debug, Args)]
pub struct ReportCommand {
    /// The report.json of a comparison.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl ReportCommand {
    /// Reads, writes, prints.
    ///
    /// # Errors
    /// When the file is no report of this version, or its folder cannot be written.
    pub fn run(&self) -> Result<ExitCode> {
        let read = report::read(&self.file)?;
        if let Some(folder) = self.file.parent() {
            report::write(&read, folder)?;
        }
        println!("{}", report::terminal(&read));
        Ok(ExitCode::SUCCESS)
    }
}
