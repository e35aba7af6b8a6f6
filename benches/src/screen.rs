//! What a comparison shows while it goes on, on stderr: a bar on a terminal, else one line a round in `name=value` form.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::{
    latency,
    load::Progress,
    record::{Ending, Run},
    report::targets,
    round::Turn,
};

const REDRAW: Duration = Duration::from_millis(100);
/// `{msg}` is the turn, in words.
const STYLE: &str = "{msg} [{bar:30}] {pos}/{len} {elapsed}";

/// Where progress is shown.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
}

/// A bar that goes when this is dropped.
#[derive(Debug)]
pub struct Drawn(Option<(ProgressBar, JoinHandle<()>)>);

impl Screen {
    /// stderr, whatever it is.
    pub fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    /// A line.
    pub fn say(&self, text: &str) {
        eprintln!("upload-bench: {text}");
    }

    /// Draws a round while it goes on.
    pub fn turn(&self, turn: Turn, progress: &Progress) -> Drawn {
        if !self.is_terminal {
            return Drawn(None);
        }
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_wrong| ProgressStyle::default_bar());
        let bar = ProgressBar::new(u64::from(turn.images)).with_style(style);
        bar.set_message(format!("{}, {} images, round {}", targets::name(turn.target), turn.images, turn.round));
        let (drawn, progress) = (bar.clone(), progress.clone());
        let drawing = tokio::spawn(async move {
            loop {
                drawn.set_position(progress.done() + progress.failed());
                tokio::time::sleep(REDRAW).await;
            }
        });
        Drawn(Some((bar, drawing)))
    }

    /// How a round went.
    pub fn run(&self, run: &Run) {
        let mut line = format!(
            "images={} round={} target={} store={:?} successes={} makespan_ms={:.0}",
            run.images,
            run.round,
            targets::name(run.target),
            run.store,
            run.load.successes,
            run.load.makespan_ms
        );
        if let Ok(latencies) = latency::decode(&run.load.histogram) {
            line += &format!(" p50_ms={}", latencies.value_at_quantile(0.5) / 1000);
        }
        if let Some(server) = &run.server {
            let cpu = server.cpu_user_ms + server.cpu_system_ms;
            line += &format!(" server_cpu_ms={cpu:.0} peak_rss_mb={}", server.peak_rss_bytes / 1_000_000);
        }
        match &run.ending {
            Ending::Finished => {}
            Ending::Hung { after_ms } => line += &format!(" ended=\"hung: nothing moved for {after_ms} ms\""),
            Ending::Died { status } => line += &format!(" ended=\"died: {status}\""),
            Ending::Void { reason } => line += &format!(" ended=\"void: {reason}\""),
        }
        for (class, count) in &run.load.failures {
            line += &format!(" failed=\"{count} x {class}\"");
        }
        eprintln!("{line}");
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        if let Some((bar, drawing)) = self.0.take() {
            drawing.abort();
            bar.finish_and_clear();
        }
    }
}
