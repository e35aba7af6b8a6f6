//! One round: a new database and bucket, a new server, a warm-up, the load, and a check of what it left.
//!
//! Nothing outlives a round, so no target inherits the cache, the connections, the memory or the pending work of another.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::Utc;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use upload_domain::Role;
use upload_sandbox::{Sandbox, Stand};

use crate::{
    load::{self, Caller, Flow, Options, Outcome, Pattern, Progress},
    payload::Payload,
    record::{Ending, Run, Store, Target, Verified},
    report::targets,
    stage::{SinkConnection, Stage, Started},
    store, target,
    usage::{process_cpu_ms, stolen_ms},
    verify::{Told, verify},
};

/// Users that share the images. With many of them, no single row is the bottleneck.
const MOST_CALLERS: u32 = 1000;
/// Users that are added concurrently.
const INSERTS: usize = 8;
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for the exit of a server whose connections have failed.
const END_IS_TOLD: Duration = Duration::from_secs(1);
/// A store is idle once it has used less than [`IDLE_CPU_MS`] for this long. MinIO removes deleted data up to a second later: see
/// `scripts/minio`.
const IDLE: Duration = Duration::from_millis(1200);
/// CPU time of an idle store, in milliseconds.
const IDLE_CPU_MS: f64 = 20.0;
/// The longest wait for an idle store.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What to do if a round cannot begin.
pub(crate) const NO_STAND: &str = "cannot create the database and the bucket of a round: if S3_ENDPOINT or DATABASE_URL is set, \
                                   check that it runs, and that its key or user may create buckets or databases";

/// What all rounds have in common.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The programs and their limits.
    pub stage: &'a Stage,
    /// Postgres and the store.
    pub sandbox: &'a Sandbox,
    /// Which store that is.
    pub store: Store,
    /// The null sink, for rounds on it.
    pub sink: Option<&'a SinkConnection>,
    /// The image.
    pub payload: &'a Payload,
    /// Images that each server gets before the load, not counted.
    pub warm_up_images: u32,
    /// Whether clients follow `Retry-After`.
    pub retry: bool,
    /// After how long without progress a server is given up.
    pub give_up: Duration,
    /// Cancelled when the user asks to stop.
    pub stop: &'a CancellationToken,
}

/// Which round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The target.
    pub target: Target,
    /// Whether it writes to the null sink.
    pub to_sink: bool,
    /// Images at once.
    pub images: u32,
    /// Counted from 1.
    pub round: u32,
}

/// Runs one round. `None` if the user asked to stop before its end.
///
/// # Errors
/// When something other than the target fails: the database, the store, this machine.
pub async fn make(ground: &Ground<'_>, turn: Turn) -> Result<Option<Run>> {
    let stand = ground.sandbox.try_stand().await.context(NO_STAND)?;
    let outcome = on_stand(ground, turn, &stand).await;
    let removed = stand.remove().await.context("cannot remove the database and the bucket of a round");
    let run = outcome?;
    removed?;
    wait_for_idle_store().await;
    Ok(run)
}

/// Waits until the store has finished the work of this round, so that the next one does not pay for it.
async fn wait_for_idle_store() {
    let Some(store) = store::process_id() else { return };
    let until = Instant::now() + LONGEST_WAIT;
    while Instant::now() < until {
        let before = process_cpu_ms(store);
        sleep(IDLE).await;
        match process_cpu_ms(store).zip(before) {
            Some((after, before)) if after - before > IDLE_CPU_MS => {}
            _ => return,
        }
    }
}

async fn on_stand(ground: &Ground<'_>, turn: Turn, stand: &Stand) -> Result<Option<Run>> {
    let sink = ground.sink.filter(|_| turn.to_sink);
    let started = ground.stage.start(turn.target, stand, sink).await;
    let mut started = started.with_context(|| format!("cannot start {}", targets::name(turn.target)))?;
    let images = turn.images + ground.warm_up_images;
    let callers = callers(stand, turn.target, images).await?;
    let flow = target::flow(turn.target, started.url.as_ref(), stand, sink, images, ground.payload).await?;
    let (warm_up, rest) = flow.split(ground.warm_up_images);
    let mut told = Told::default();
    if ground.warm_up_images > 0 {
        let (outcome, _ending) = load(ground, &warm_up, &callers, ground.warm_up_images, &started).await?;
        told.add(outcome);
    }
    if let Some(sink) = sink {
        // The sink does not count the warm-up.
        sink.reset().await?;
        told = Told::default();
    }
    let store_pid = sink.map_or_else(store::process_id, |sink| Some(sink.pid));
    let store_before = store_pid.and_then(process_cpu_ms);
    let (generator_before, stolen_before) = (process_cpu_ms(std::process::id()), stolen_ms());
    let started_at = Utc::now();
    if let Some(process) = &started.process {
        process.reset()?;
    }
    let (outcome, ending) = load(ground, &rest, &callers, turn.images, &started).await?;
    let since = |before: Option<f64>, after: Option<f64>| after.zip(before).map(|(after, before)| after - before);
    let generator_cpu_ms = since(generator_before, process_cpu_ms(std::process::id()));
    let stolen_ms = since(stolen_before, stolen_ms());
    if ground.stop.is_cancelled() {
        return Ok(None);
    }
    // What a server does after its last answer belongs to the images, so it may finish before its CPU time is read.
    let server = match started.process.take() {
        Some(process) => Some(process.finish(ending == Ending::Finished).await?),
        None => None,
    };
    let store_cpu_ms = since(store_before, store_pid.and_then(process_cpu_ms));
    let load = outcome.load.clone();
    told.add(outcome);
    let (verified, ending) = check(turn.target, stand, sink, ground.payload, &told, ending).await?;
    let server_to_store = match (sink, &server) {
        (Some(sink), Some(_server)) => {
            Some(sink.counts().await?.remove(target::own_key(turn.target)).unwrap_or_default())
        }
        _ => None,
    };
    Ok(Some(Run {
        target: turn.target,
        store: if turn.to_sink { Store::Sink } else { ground.store },
        images: turn.images,
        round: turn.round,
        image_bytes: ground.payload.file.len() as u64,
        started_at,
        ending,
        load,
        server,
        store_cpu_ms,
        generator_cpu_ms,
        stolen_ms,
        server_to_store,
        verified,
    }))
}

/// Releases the images, and gives the target up if it hangs or dies. Returns what the clients saw, and how the load ended.
async fn load(
    ground: &Ground<'_>,
    flow: &Flow,
    callers: &[Caller],
    images: u32,
    started: &Started,
) -> Result<(Outcome, Ending)> {
    let progress = Progress::new();
    let options = Options { pattern: Pattern::Burst { images }, retry: ground.retry, request_timeout: REQUEST_TIMEOUT };
    let give_up = CancellationToken::new();
    let loading = load::run(flow, callers, ground.payload, &options, &progress, give_up.clone());
    let mut loading = std::pin::pin!(loading);
    let ending = tokio::select! {
        outcome = &mut loading => {
            let outcome = outcome?;
            let ending = ending_behind(&outcome, started).await;
            return Ok((outcome, ending));
        }
        ending = watch(ground, &progress, started) => ending,
    };
    give_up.cancel();
    Ok((loading.await?, ending))
}

/// How a load ended, after it stopped waiting for answers. Clients notice the end of a server before its exit is known.
async fn ending_behind(outcome: &Outcome, started: &Started) -> Ending {
    let Some(process) = started.process.as_ref().filter(|_| outcome.unanswered > 0) else { return Ending::Finished };
    match timeout(END_IS_TOLD, process.ended()).await {
        Ok(status) => Ending::Died { status },
        // nginx, for instance, replaces a killed process.
        Err(_still_there) if process.killed_for_memory() > 0 => {
            Ending::Died { status: "one of its processes was killed for memory".to_owned() }
        }
        Err(_still_there) => Ending::Finished,
    }
}

/// Ends when the target hangs or dies, or the user asks to stop.
async fn watch(ground: &Ground<'_>, progress: &Progress, started: &Started) -> Ending {
    let hung = async {
        let idle = progress.stalled(ground.give_up).await;
        Ending::Hung { after_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX) }
    };
    let died = async {
        match &started.process {
            Some(process) => Ending::Died { status: process.ended().await },
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ending = hung => ending,
        ending = died => ending,
        () = ground.stop.cancelled() => Ending::Hung { after_ms: 0 },
    }
}

/// Checks what a finished round left. In other rounds, clients do not know whether their images were stored.
async fn check(
    target: Target,
    stand: &Stand,
    sink: Option<&SinkConnection>,
    payload: &Payload,
    told: &Told,
    ending: Ending,
) -> Result<(Option<Verified>, Ending)> {
    if ending != Ending::Finished {
        return Ok((None, ending));
    }
    let finding = match sink {
        Some(sink) => {
            let (objects, bytes) = sink.objects().await?;
            told.sunk(objects, bytes, payload)
        }
        None => verify(stand, target, told, payload).await?,
    };
    Ok(match finding {
        Ok(verified) => (Some(verified), ending),
        Err(reason) => (None, Ending::Void { reason }),
    })
}

async fn callers(stand: &Stand, target: Target, images: u32) -> Result<Vec<Caller>> {
    if !target::has_users(target) {
        return Ok(Vec::new());
    }
    let people = (0..images.min(MOST_CALLERS)).map(|_number| stand.add_person(Role::User));
    let people: Vec<_> = stream::iter(people).buffer_unordered(INSERTS).try_collect().await?;
    Ok(people.into_iter().map(|person| Caller { token: person.token }).collect())
}
