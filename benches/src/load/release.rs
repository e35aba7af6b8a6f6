//! When each image is sent.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Ended, Image, Options, Pattern, Progress, Released, check_rate,
    image::{Sending, Sent},
};
use crate::{
    client::{Client, Failure, Network},
    payload::Payload,
    record::Line,
};

/// The checked [`Options`].
#[derive(Debug)]
pub struct Settings {
    /// Between two images; zero if all are due at once.
    interval: Duration,
    line: Line,
    /// Whether to repeat requests after a 429 or 503.
    pub retry: bool,
    /// For one request with its repetitions.
    pub request_timeout: Duration,
}

impl Settings {
    pub fn new(options: &Options) -> Result<Self> {
        let interval = match options.pattern {
            Pattern::Burst { .. } => Duration::ZERO,
            Pattern::Open { per_second, .. } => Duration::try_from_secs_f64(1.0 / check_rate(per_second)?)?,
        };
        let Options { line, retry, request_timeout, .. } = *options;
        Ok(Self { interval, line, retry, request_timeout })
    }
}

/// What the images of a run have in common.
#[derive(Debug)]
pub struct Run {
    settings: Settings,
    payload: Payload,
    network: Network,
    progress: Progress,
    stop: CancellationToken,
}

impl Run {
    pub fn new(settings: Settings, payload: Payload, progress: Progress, stop: CancellationToken) -> Self {
        let network = Network::new(progress.clone(), settings.line);
        Self { settings, payload, network, progress, stop }
    }

    /// One image, from its start to its end. The schedule is absolute: a late image does not delay the next one.
    pub async fn image(
        self: Arc<Self>,
        number: usize,
        image: Image,
        parked: Arc<Semaphore>,
        mut released: Released,
    ) -> Ended {
        parked.add_permits(1);
        let start = released.wait_for(Option::is_some).await.ok().and_then(|start| *start);
        let start = start.unwrap_or_else(Instant::now);
        let due = start + self.settings.interval.mul_f64(number as f64);
        let result = self.stop.run_until_cancelled(self.go(&image, due)).await;
        let result = result.unwrap_or(Err(Failure::GivenUp));
        if result.is_ok() {
            self.progress.succeeded();
        }
        Ended { result, due, at: Instant::now() }
    }

    async fn go(&self, image: &Image, due: Instant) -> Result<Sent, Failure> {
        if due > Instant::now() {
            sleep_until(due).await;
            self.progress.moved();
        }
        let mut client = Client::default();
        let sending = Sending {
            client: &mut client,
            network: &self.network,
            settings: &self.settings,
            progress: &self.progress,
            payload: &self.payload,
        };
        image.send(sending).await
    }
}
