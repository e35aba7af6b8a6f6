//! When each image's turn comes, and which client takes it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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
};

/// [`Options`], checked.
#[derive(Debug)]
pub struct Settings {
    /// Between two images; zero when all are due at once.
    interval: Duration,
    bytes_per_second: Option<u64>,
    keep_alive: Option<u32>,
    /// Whether refusals for the moment are followed.
    pub retry: bool,
    /// Of one request with its repetitions.
    pub request_timeout: Duration,
}

impl Settings {
    pub fn new(options: &Options) -> Result<Self> {
        let (interval, bytes_per_second) = match options.pattern {
            Pattern::Burst { .. } => (Duration::ZERO, None),
            Pattern::Open { per_second, .. } => (Duration::try_from_secs_f64(1.0 / check_rate(per_second)?)?, None),
            Pattern::Paced { bytes_per_second, .. } => (Duration::ZERO, Some(bytes_per_second)),
        };
        let Options { keep_alive, retry, request_timeout, .. } = *options;
        Ok(Self { interval, bytes_per_second, keep_alive, retry, request_timeout })
    }
}

/// What the images of a run share.
#[derive(Debug)]
pub struct Run {
    settings: Settings,
    payload: Payload,
    network: Network,
    progress: Progress,
    clients: Option<Clients>,
    stop: CancellationToken,
}

/// Clients that keep their connections, for whose turn images wait in order.
#[derive(Debug)]
struct Clients {
    free: Semaphore,
    idle: Mutex<Vec<Client>>,
}

impl Run {
    pub fn new(settings: Settings, payload: Payload, progress: Progress, stop: CancellationToken) -> Self {
        let clients = settings
            .keep_alive
            .map(|connections| Clients { free: Semaphore::new(connections.max(1) as usize), idle: Mutex::default() });
        let network = Network::new(progress.clone(), settings.bytes_per_second);
        Self { settings, payload, network, progress, clients, stop }
    }

    /// One image, from its parking to its end. The schedule is absolute: nobody's delay moves another's moment.
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
        self.progress.ended(result.is_ok());
        Ended { result, due, at: Instant::now() }
    }

    async fn go(&self, image: &Image, due: Instant) -> Result<Sent, Failure> {
        if due > Instant::now() {
            sleep_until(due).await;
            self.progress.moved();
        }
        let Some(clients) = &self.clients else {
            return self.send(image, &mut Client::default()).await;
        };
        // The semaphore is never closed, and it hands out as many permits as there may be clients.
        let _permit = clients.free.acquire().await.map_err(Failure::connection)?;
        let idle = || clients.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = idle().pop().unwrap_or_default();
        let result = self.send(image, &mut client).await;
        idle().push(client);
        result
    }

    async fn send(&self, image: &Image, client: &mut Client) -> Result<Sent, Failure> {
        let sending = Sending {
            client,
            network: &self.network,
            settings: &self.settings,
            progress: &self.progress,
            payload: &self.payload,
        };
        image.send(sending).await
    }
}
