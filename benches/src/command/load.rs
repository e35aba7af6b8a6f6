//! `upload-bench load`.

use std::{
    convert::Infallible,
    fs,
    io::IsTerminal as _,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Parser, error::ContextKind};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;
use upload_storage::{Signer, SignerSettings, StorageSettings};
use url::Url;

use crate::{
    compare::SEED,
    latency,
    load::{self, Caller, Flow, Options, Outcome, Pattern, Progress},
    payload::{Payload, parse_image_size},
    record::{Load, Target},
    target,
};

/// How long a server may take to accept the first connection.
const REACH: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);
const STYLE: &str = "[{bar:30}] {pos}/{len} {elapsed} {msg}";
/// As shells have it for Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Load a server that is already running.
#[derive(Debug, Args)]
pub struct LoadCommand {
    /// What each image goes through, and what listens there.
    #[arg(long, value_enum)]
    target: Target,

    /// Where it listens; for `direct` the store itself.
    #[arg(long, value_name = "URL")]
    server: Url,

    /// How many images.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,

    /// So many images in a second, whatever becomes of them.
    #[arg(long, value_name = "RATE", conflicts_with = "paced")]
    open: Option<f64>,

    /// All at once, each client no faster than so many bytes in a second.
    #[arg(long, value_name = "BYTES_PER_S", value_parser = clap::value_parser!(u64).range(1..))]
    paced: Option<u64>,

    /// The image's size, such as 100kb, 5mb or 5000000.
    #[arg(long, default_value = "5mb", value_parser = parse_image_size)]
    size: usize,

    /// Follow Retry-After when the answer is 429 or 503.
    #[arg(long)]
    retry: bool,

    /// How long one request may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,

    /// How long nothing may move before the rest is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    give_up: u64,

    /// A user's bearer token; once for each user, who take turns.
    #[arg(long)]
    token: Vec<String>,

    /// A file with a token on each line.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    tokens_file: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl LoadCommand {
    /// Loads, and prints what was measured, also when `stop` ends it early; the exit code is then that of Ctrl-C.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or what is asked for cannot be done.
    pub async fn run(&self, stop: CancellationToken) -> Result<ExitCode> {
        let callers = self.callers()?;
        self.reach().await?;
        let payload = Payload::jpeg(self.size, SEED);
        let flow = self.flow(&payload).await?;
        let progress = Progress::new();
        let end = stop.child_token();
        let begun = Instant::now();
        let options = self.options();
        let loading = load::run(&flow, &callers, &payload, &options, &progress, end.clone());
        let mut loading = pin!(loading);
        let outcome = tokio::select! {
            outcome = &mut loading => outcome,
            _idle = progress.stalled(Duration::from_secs(self.give_up)) => {
                end.cancel();
                loading.await
            }
            never = self.show(&progress, begun) => match never {},
        }?;
        self.print(&outcome)?;
        if stop.is_cancelled() {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Ok(if outcome.hung.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    async fn flow(&self, payload: &Payload) -> Result<Flow> {
        if let Some(flow) = target::of_server(self.target, &self.server)? {
            return Ok(flow);
        }
        let Environment { mut storage, signer } = Environment::try_parse_from(["upload-bench"]).map_err(|error| {
            // clap's own words would show a value that cannot be used, and call variables arguments.
            let names = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            anyhow!(
                "The forms for this target are signed here, with the variables S3_… and S3_SIGNER_… that V2 reads; missing or wrong in the \
                 environment: {names}"
            )
        })?;
        let relay = if self.target == Target::Direct {
            (storage.endpoint, storage.public_endpoint) = (self.server.clone(), None);
            None
        } else {
            Some(&self.server)
        };
        let signer = Signer::new(&storage, &signer).await.context("no forms can be signed with this environment")?;
        target::of_prepared_forms(relay, &signer, self.images, payload).await
    }

    fn callers(&self) -> Result<Vec<Caller>> {
        let tokens = match &self.tokens_file {
            Some(file) => fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?,
            None => self.token.join("\n"),
        };
        let tokens = tokens.lines().map(str::trim).filter(|token| !token.is_empty());
        let callers: Vec<Caller> = tokens.map(|token| Caller { token: token.to_owned() }).collect();
        if callers.is_empty() && target::has_users(self.target) {
            bail!("This server wants to know its callers: give it --token or --tokens-file.");
        }
        Ok(callers)
    }

    /// Whoever mistypes an address should not wait for all images to fail.
    async fn reach(&self) -> Result<()> {
        let address = self.server.socket_addrs(|| None).with_context(|| format!("{} cannot be found", self.server))?;
        match timeout(REACH, TcpStream::connect(&*address)).await {
            Ok(connected) => connected.map(drop).with_context(|| format!("{} cannot be reached", self.server)),
            Err(_elapsed) => bail!("{} did not answer within {} s.", self.server, REACH.as_secs()),
        }
    }

    fn options(&self) -> Options {
        let images = self.images;
        let pattern = match (self.open, self.paced) {
            (Some(per_second), _) => Pattern::Open { images, per_second },
            (None, Some(bytes_per_second)) => Pattern::Paced { images, bytes_per_second },
            (None, None) => Pattern::Burst { images },
        };
        Options { pattern, retry: self.retry, request_timeout: Duration::from_secs(self.timeout) }
    }

    /// Shows on stderr how far it is, until it is dropped: a bar for people, lines of JSON for programs.
    async fn show(&self, progress: &Progress, begun: Instant) -> Infallible {
        if !std::io::stderr().is_terminal() {
            let mut line = tokio::time::interval(LINE);
            line.tick().await;
            loop {
                line.tick().await;
                let (done, failed, bytes) = (progress.done(), progress.failed(), progress.bytes());
                let seconds = begun.elapsed().as_secs();
                eprintln!("{}", json!({ "seconds": seconds, "done": done, "failed": failed, "bytes": bytes }));
            }
        }
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_wrong| ProgressStyle::default_bar());
        let bar = ClearedBar(ProgressBar::new(u64::from(self.images)).with_style(style));
        loop {
            bar.0.set_position(progress.done() + progress.failed());
            bar.0.set_message(format!("{} MB", progress.bytes() / 1_000_000));
            tokio::time::sleep(REDRAW).await;
        }
    }

    fn print(&self, outcome: &Outcome) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&outcome.load)?);
        } else {
            print!("{}", summary(&outcome.load, self.size)?);
        }
        if let Some(idle) = outcome.hung {
            eprintln!("upload-bench: ended early; nothing had moved for {:.1} s", idle.as_secs_f64());
        }
        Ok(())
    }
}

/// What V2 signs forms with, from the variables that it reads.
#[derive(Debug, Parser)]
struct Environment {
    #[command(flatten)]
    storage: StorageSettings,
    #[command(flatten)]
    signer: SignerSettings,
}

/// A bar that does not stay on the terminal.
struct ClearedBar(ProgressBar);

impl Drop for ClearedBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A run in words and figures.
fn summary(load: &Load, image_bytes: usize) -> Result<String> {
    let failed: u64 = load.failures.values().sum();
    let all = load.successes + failed;
    let seconds = load.makespan_ms / 1000.0;
    let per_second = if seconds > 0.0 { load.successes as f64 / seconds } else { 0.0 };
    let megabytes = per_second * image_bytes as f64 / 1e6;
    let latencies = latency::decode(&load.histogram)?;
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let mut text = format!("images    {} of {all} succeeded\n", load.successes);
    for (class, count) in &load.failures {
        text += &format!("          {count} failed: {class}\n");
    }
    text += &format!("makespan  {seconds:.3} s, {per_second:.1} images/s, {megabytes:.1} MB/s\n");
    if !latencies.is_empty() {
        let max = latencies.max() as f64 / 1000.0;
        text += &format!("latency   p50 {:.1}, p90 {:.1}, p99 {:.1}, max {max:.1} ms\n", at(0.5), at(0.9), at(0.99));
    }
    text += &format!("requests  {}, of which {} again\n", load.requests, load.retries);
    text += &format!("server    {} bytes to it, {} from it\n", load.bytes_to_server, load.bytes_from_server);
    text += &format!("store     {} bytes to it, {} from it\n", load.bytes_to_store, load.bytes_from_store);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_succeeded_what_failed_and_how_fast() -> Result<()> {
        let mut latencies = latency::histogram()?;
        latencies.record_n(250_000, 8)?;
        let load = Load {
            successes: 8,
            failures: [("503 overloaded".to_owned(), 2)].into(),
            requests: 26,
            makespan_ms: 2_000.0,
            bytes_to_store: 8_000_000,
            histogram: latency::encode(&latencies)?,
            ..Load::default()
        };
        let text = summary(&load, 1_000_000)?;
        assert!(text.starts_with("images    8 of 10 succeeded\n          2 failed: 503 overloaded\n"), "{text}");
        assert!(text.contains("2.000 s, 4.0 images/s, 4.0 MB/s"), "{text}");
        assert!(text.contains("p50 250."), "{text}");
        assert!(summary(&Load::default(), 1)?.contains("0 of 0"));
        Ok(())
    }
}
