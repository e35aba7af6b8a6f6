//! Logs, to stderr: stdout is for answers. Libraries log only warnings and errors, because their finer levels print signed requests.
//! AWS's SDK (`aws_…`) logs nothing: it also returns each failure that it warns of, and that is reported once.

use tracing_subscriber::{EnvFilter, fmt};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object on each line
    Json,
    /// Plain lines for people
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
