//! `upload-bench compare`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    compare::{self, Plan},
    facts::workspace,
    record::{Case, Ending},
    report,
    stage::Stage,
    store::{self, Found},
    workload::Workload,
};

/// Compare the targets on this machine, and write a report.
#[derive(Debug, Args)]
pub struct CompareCommand {
    /// Compare five targets in less than three minutes.
    #[arg(long, conflicts_with = "workload")]
    quick: bool,

    /// Your own plan: a file like those in benches/workloads/.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,

    /// The folder for the report [default: a new one in target/upload-bench/].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Measure only these cases of the plan.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CASES")]
    only: Vec<Case>,

    /// Let clients follow Retry-After after a 429 or 503. Their retries are counted apart.
    #[arg(long)]
    retry: bool,

    /// A folder with the binaries of both servers; without it, they are built.
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

impl CompareCommand {
    /// Compares, and prints the report. The exit code is 1 if the user stopped it or a round is void. A server that hung or died is a
    /// result, not an error.
    ///
    /// # Errors
    /// When the plan is wrong, or something other than a target fails.
    pub async fn run(&self, stop: &CancellationToken) -> Result<ExitCode> {
        let mut workload = match &self.workload {
            Some(file) => Workload::read(file)?,
            None if self.quick => Workload::quick()?,
            None => Workload::full()?,
        };
        workload.retry |= self.retry;
        if !self.only.is_empty() {
            workload.keep_only(&self.only);
            ensure!(!workload.groups().is_empty(), "the plan has no such case");
        }
        let Found::Running(store) = store::find() else {
            store::start_again_with_store()?;
            return Ok(ExitCode::FAILURE);
        };
        let stage = Stage::prepare(self.binaries.as_deref(), &workload.all_targets()).await?;
        let folder = self.out.clone().unwrap_or_else(|| compare::default_folder(workspace()));
        let plan = Plan { workload, store, folder };
        let report = compare::run(&plan, &stage, stop).await?;
        println!("{}", report::terminal(&report)?);
        println!("report: {}", plan.folder.join("report.html").display());
        let is_void = report.runs.iter().any(|run| matches!(run.ending, Ending::Void { .. }));
        Ok(if report.complete && !is_void { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
