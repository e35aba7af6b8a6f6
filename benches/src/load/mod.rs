//! The load generator: it sends images all at once or at a constant rate, each from its first request to its last answer.
//!
//! The file, the requests and the tasks are made before the clock starts. The latency of an image counts from the moment at which it
//! was due, so a server that stops for a while shows in the latencies of all images that were due meanwhile (coordinated omission:
//! <https://github.com/giltene/wrk2#acknowledgements>). Failures are results, too.

mod descriptors;
mod image;
mod progress;
mod release;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    client::Failure,
    latency,
    payload::Payload,
    record::{Line, Load},
};

pub use crate::client::Role;
pub use descriptors::check_descriptors;
use descriptors::raise_descriptors;
pub use progress::{Progress, stalled};

use image::{Image, Sent, images};
use release::{Run, Settings};

/// When images are released.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// All at once.
    Burst {
        /// How many.
        images: u32,
    },
    /// At a constant rate, even if earlier images are still in flight.
    Open {
        /// How many in all.
        images: u32,
        /// How many a second.
        per_second: f64,
    },
}

impl Pattern {
    /// How many images there are.
    pub const fn images(&self) -> u32 {
        match self {
            Self::Burst { images } | Self::Open { images, .. } => *images,
        }
    }
}

/// How to load.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// When.
    pub pattern: Pattern,
    /// The line of each client.
    pub line: Line,
    /// Whether to wait for `Retry-After` and repeat the request after a 429 or 503.
    pub retry: bool,
    /// How long one request may take, with its connection and its repetitions.
    pub request_timeout: Duration,
}

/// The requests of one image.
#[derive(Debug, Clone)]
pub enum Flow {
    /// `POST /user/images`, then the form of its answer, then the link.
    Form {
        /// Where the server listens.
        server: Url,
        /// The method to ask for. The answer may choose another one.
        method: FormMethod,
        /// Whether to link the image to its caller's profile.
        link: bool,
    },
    /// One multipart request.
    Multipart {
        /// Its URL.
        url: Url,
        /// The fields before the file.
        fields: Vec<(String, String)>,
        /// The name of the file's field.
        file_field: String,
    },
    /// One POST of a form that was signed beforehand.
    Prepared {
        /// The bucket's URL, or the same path of a relay.
        url: Url,
        /// Which of the two, since their traffic is counted apart.
        to: Role,
        /// At least as many as there are images.
        forms: Vec<PreparedForm>,
    },
}

impl Flow {
    /// One flow for the first `images` images and one for the rest. Each prepared form is used once.
    pub fn split(self, images: u32) -> (Self, Self) {
        match self {
            Self::Prepared { url, to, mut forms } => {
                let rest = forms.split_off(forms.len().min(images as usize));
                (Self::Prepared { url: url.clone(), to, forms }, Self::Prepared { url, to, forms: rest })
            }
            other => (other.clone(), other),
        }
    }
}

/// How a form is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormMethod {
    /// Its fields, then the file.
    Post,
    /// The file alone.
    Put,
}

/// A form that needs no server.
#[derive(Clone)]
pub struct PreparedForm {
    /// The key of its object. It names the image in [`Outcome::images`].
    pub key: String,
    /// The fields before the file, in order.
    pub fields: Vec<(String, String)>,
}

/// A user. Images take turns with the users.
#[derive(Clone)]
pub struct Caller {
    /// The bearer token.
    pub token: String,
}

// Tokens and forms are never printed.
impl std::fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Caller")
    }
}

impl std::fmt::Debug for PreparedForm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PreparedForm({})", self.key)
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What the clients saw.
    pub load: Load,
    /// Ids of the images that succeeded, or their keys with prepared forms, in no order.
    pub images: Vec<String>,
    /// Images that failed, but may have been stored all the same: the client got no answer, or the server got none from the store.
    pub undecided: u64,
    /// How long there had been no progress when the run was stopped. `None` if it was not stopped.
    pub hung: Option<Duration>,
}

/// Sends all images and waits for the last answer. Without callers, requests have no token. When `stop` is cancelled, all unfinished
/// images fail with the class `given up`, and the run ends at once.
///
/// # Errors
/// When the run cannot begin: a URL that is not http, too few forms, too few file descriptors.
pub async fn run(
    flow: &Flow,
    callers: &[Caller],
    payload: &Payload,
    options: &Options,
    progress: &Progress,
    stop: CancellationToken,
) -> Result<Outcome> {
    let count = options.pattern.images();
    match options.pattern {
        // How many images are in flight at once is what it measures.
        Pattern::Open { .. } => drop(raise_descriptors()?),
        Pattern::Burst { .. } => check_descriptors(count, options.line)?,
    }
    let images = images(flow, callers, payload, count)?;
    let settings = Settings::new(options)?;
    let (release, released) = watch::channel(None);
    let parked = Arc::new(Semaphore::new(0));
    let run = Arc::new(Run::new(settings, payload.clone(), progress.clone(), stop));
    let mut tasks = JoinSet::new();
    for (number, image) in images.into_iter().enumerate() {
        tasks.spawn(Arc::clone(&run).image(number, image, Arc::clone(&parked), released.clone()));
    }
    parked.acquire_many(count).await.context("the tasks of the images have ended")?.forget();
    let start = Instant::now();
    release.send_replace(Some(start));
    progress.moved();
    let results = collect(&mut tasks).await?;
    tally(&results, start, progress)
}

/// How one image ended.
#[derive(Debug)]
struct Ended {
    result: Result<Sent, Failure>,
    due: Instant,
    at: Instant,
}

async fn collect(tasks: &mut JoinSet<Ended>) -> Result<Vec<Ended>> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        results.push(ended.context("the task of an image failed")?);
    }
    Ok(results)
}

fn tally(results: &[Ended], start: Instant, progress: &Progress) -> Result<Outcome> {
    let mut latencies = latency::histogram()?;
    let mut steps = BTreeMap::new();
    let mut images = Vec::new();
    let mut failures = BTreeMap::new();
    for ended in results {
        match &ended.result {
            Ok(sent) => {
                // An image with steps ends with the answer to its last step, so its steps add up to its latency.
                let end = sent.answered.last().map_or(ended.at, |(_step, at)| *at);
                record(&mut latencies, end - ended.due)?;
                let mut before = ended.due;
                for (step, at) in &sent.answered {
                    record(steps.entry(*step).or_insert(latency::histogram()?), *at - before)?;
                    before = *at;
                }
                images.push(sent.name.clone());
            }
            Err(failure) => *failures.entry(failure.to_string()).or_insert(0) += 1,
        }
    }
    let undecided = results.iter().filter(|ended| ended.result.as_ref().is_err_and(Failure::is_undecided)).count();
    let is_given_up = results.iter().any(|ended| ended.result == Err(Failure::GivenUp));
    let last = results.iter().map(|ended| ended.at).max().unwrap_or(start);
    let load = Load {
        successes: images.len() as u64,
        failures,
        makespan_ms: (last - start).as_secs_f64() * 1000.0,
        histogram: latency::encode(&latencies)?,
        steps: steps.iter().map(|(step, latencies)| Ok((*step, latency::encode(latencies)?))).collect::<Result<_>>()?,
        ..progress.load()
    };
    Ok(Outcome { load, images, undecided: undecided as u64, hung: is_given_up.then(|| progress.idle()) })
}

fn record(latencies: &mut Histogram<u64>, latency: Duration) -> Result<()> {
    let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    latencies.record(microseconds.max(1)).context("cannot record a latency")
}

fn check_rate(per_second: f64) -> Result<f64> {
    if per_second.is_finite() && per_second > 0.0 {
        return Ok(per_second);
    }
    bail!("{per_second} images a second is not a rate: give a number above 0")
}

type Released = watch::Receiver<Option<Instant>>;
