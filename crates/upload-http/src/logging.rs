//! Logs, to stderr. Only `main` sets the subscriber.
//!
//! The log never contains a secret. Our own lines have named fields of known types, and never a header, a query, a body or
//! a raw path. Libraries log only warnings and errors, at any `LOG_LEVEL`, because the HTTP client's finer levels print
//! signed requests. AWS's SDK logs nothing: it also returns each failure that it warns of, and the caller logs that once.
//! So if the store makes a start fail, the refusal is the only line.

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    HttpSettings,
    settings::{LogFormat, LogLevel},
};

/// What the names of this project's crates begin with.
const OWN_TARGETS: &str = "upload_";
/// What the names of the SDK's crates begin with.
const SDK_TARGETS: &str = "aws_";
/// actix logs an error here for each request that it cannot parse, and answers with 400 itself. Nobody has to act on these,
/// and any client could fill the log with them.
const BROKEN_REQUESTS: &str = "actix_http::h1::dispatcher";

/// Sets the process's subscriber, and logs panics through it.
pub(crate) fn init(settings: &HttpSettings) {
    let level = match settings.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let filter = Targets::new()
        .with_target(OWN_TARGETS, level)
        .with_target(SDK_TARGETS, LevelFilter::OFF)
        .with_target(BROKEN_REQUESTS, LevelFilter::OFF)
        .with_default(LevelFilter::WARN.min(level.into()));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match settings.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Human => lines.boxed(),
    };
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_err() {
        tracing::warn!("another tracing subscriber is already set; LOG_FORMAT and LOG_LEVEL have no effect");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(panic.place = place, panic.text = text, "a task panicked");
    }));
}
