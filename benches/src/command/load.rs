//! `upload-bench load`.

use std::{fs, path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Parser, error::ContextKind};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;
use upload_storage::{Signer, SignerSettings, StorageSettings};
use url::Url;

use crate::{
    compare::SEED,
    latency,
    load::{self, Caller, Flow, Options, Outcome, Pattern, Progress, stalled},
    payload::{Payload, parse_image_size},
    record::{Line, Load, Target},
    target,
};

/// How long a server may take to accept the first connection.
const REACH: Duration = Duration::from_secs(5);
/// The exit code of a shell after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Load a server that is already running: with a burst or at a constant rate, by fast or slow clients.
#[derive(Debug, Args)]
pub struct LoadCommand {
    /// What runs there, which decides the requests of each image.
    #[arg(long, value_enum)]
    target: Target,

    /// Its URL; for `direct`, that of the store.
    #[arg(long, value_name = "URL")]
    server: Url,

    /// How many images.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,

    /// Send this many images a second, instead of all at once.
    #[arg(long, value_name = "RATE")]
    open: Option<f64>,

    /// Limit each client to this many bytes a second.
    #[arg(long, value_name = "BYTES_PER_S", value_parser = clap::value_parser!(u64).range(1..))]
    paced: Option<u64>,

    /// Add this round-trip time to every connection, in milliseconds: half of it each way. There is no slow start.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    rtt: u32,

    /// The size of the image, such as 100kb, 5mb or 5000000.
    #[arg(long, default_value = "5mb", value_parser = parse_image_size)]
    size: usize,

    /// Follow Retry-After after a 429 or 503.
    #[arg(long)]
    retry: bool,

    /// How long one request may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,

    /// Give up after this long without progress.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    give_up: u64,

    /// The bearer token of a user. Repeat it for more users, who take turns.
    #[arg(long)]
    token: Vec<String>,

    /// A file with one token on each line.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    tokens_file: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl LoadCommand {
    /// Loads the server and prints the result. If `stop` ends it early, the exit code is that of Ctrl-C.
    ///
    /// # Errors
    /// When the server cannot be reached, or the options do not fit each other.
    pub async fn run(&self, stop: CancellationToken) -> Result<ExitCode> {
        let callers = self.callers()?;
        self.reach().await?;
        let payload = Payload::jpeg(self.size, SEED);
        let flow = self.flow(&payload).await?;
        let progress = Progress::new();
        let end = stop.child_token();
        let options = self.options();
        let loading = load::run(&flow, &callers, &payload, &options, &progress, end.clone());
        let mut loading = pin!(loading);
        let outcome = tokio::select! {
            outcome = &mut loading => outcome,
            _idle = stalled(std::slice::from_ref(&progress), Duration::from_secs(self.give_up)) => {
                end.cancel();
                loading.await
            }
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
            // clap would print wrong values, and call the variables arguments.
            let names = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            anyhow!(
                "this target needs signed forms: set the variables S3_… and S3_SIGNER_… as for V2; missing or wrong: {names}"
            )
        })?;
        let relay = if self.target == Target::Direct {
            (storage.endpoint, storage.public_endpoint) = (self.server.clone(), None);
            None
        } else {
            Some(&self.server)
        };
        let signer = Signer::new(&storage, &signer).await.context("cannot sign forms with this environment")?;
        target::of_prepared_forms(relay, &signer, self.images, payload).await
    }

    fn callers(&self) -> Result<Vec<Caller>> {
        let tokens = match &self.tokens_file {
            Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
            None => self.token.join("\n"),
        };
        let tokens = tokens.lines().map(str::trim).filter(|token| !token.is_empty());
        let callers: Vec<Caller> = tokens.map(|token| Caller { token: token.to_owned() }).collect();
        if callers.is_empty() && target::has_users(self.target) {
            bail!("this target needs a user: give --token or --tokens-file");
        }
        Ok(callers)
    }

    /// A mistyped address fails at once, not image by image.
    async fn reach(&self) -> Result<()> {
        let address = self.server.socket_addrs(|| None).with_context(|| format!("cannot resolve {}", self.server))?;
        match timeout(REACH, TcpStream::connect(&*address)).await {
            Ok(connected) => connected.map(drop).with_context(|| format!("cannot connect to {}", self.server)),
            Err(_elapsed) => bail!("{} did not answer within {} s", self.server, REACH.as_secs()),
        }
    }

    fn options(&self) -> Options {
        let images = self.images;
        let pattern = match self.open {
            Some(per_second) => Pattern::Open { images, per_second },
            None => Pattern::Burst { images },
        };
        let line = Line { bytes_per_second: self.paced, rtt_ms: self.rtt };
        Options { pattern, line, retry: self.retry, request_timeout: Duration::from_secs(self.timeout) }
    }

    fn print(&self, outcome: &Outcome) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&outcome.load)?);
        } else {
            print!("{}", summary(&outcome.load, self.size)?);
        }
        if let Some(idle) = outcome.hung {
            eprintln!("upload-bench: gave up after {:.1} s without progress", idle.as_secs_f64());
        }
        Ok(())
    }
}

/// The variables with which V2 signs forms.
#[derive(Debug, Parser)]
struct Environment {
    #[command(flatten)]
    storage: StorageSettings,
    #[command(flatten)]
    signer: SignerSettings,
}

/// The result in words and figures.
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
    text += &format!("requests  {}, {} of them repeated\n", load.requests, load.retries);
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
