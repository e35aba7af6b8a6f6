//! Logs, to stderr: stdout is for answers. Libraries may say warnings and errors only, as their finer levels print signed requests, and
//! AWS's SDK (`aws_…`) nothing: each failure that it warns of it also returns, and that is told once.

use tracing_subscriber::{EnvFilter, fmt};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line
    Json,
    /// Lines for people
    Human,
}

/// Sets the process's subscriber.
pub(crate) fn init(format: LogFormat) {
    let lines = fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(EnvFilter::new("warn,aws=off,upload_ops=info,upload_persistence=info,upload_storage=info"));
    match format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Human => lines.init(),
    }
}
