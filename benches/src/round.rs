//! One round: a database and a bucket of its own, a server freshly started and warmed up, the load, and a look at what it left.
//!
//! Nothing outlives a round, so that no target inherits another's cache, connections or memory, nor what the store still has to do for it.

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

/// Many users, so that no row of one is the bottleneck; more than so many gain nothing.
const MOST_CALLERS: u32 = 1000;
/// Users that are added at once.
const INSERTS: usize = 8;
/// How long one request may take: whoever has waited for two minutes has gone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a server's end may take to be told, once its connections have failed.
const END_IS_TOLD: Duration = Duration::from_secs(1);
/// A store has done what it had to do once it has used no more than a tick's worth of CPU for so long. MinIO removes the
/// deleted objects' data later, by then a second: see `scripts/minio`.
const QUIET: Duration = Duration::from_millis(1200);
/// How much that is, in milliseconds.
const QUIET_CPU_MS: f64 = 20.0;
/// A store that is never quiet is not waited for longer.
const LONGEST_SETTLING: Duration = Duration::from_secs(30);

/// What to do where a round cannot begin.
pub(crate) const NO_STAND: &str = "a round's database and bucket cannot be made: check that the store of S3_ENDPOINT and the Postgres of \
                        DATABASE_URL, where they are set, run and let their key and user make buckets and databases";

/// What all rounds share.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The programs and their limits.
    pub stage: &'a Stage,
    /// Postgres and the store.
    pub sandbox: &'a Sandbox,
    /// Which store that is.
    pub store: Store,
    /// The null sink, for rounds that end there.
    pub sink: Option<&'a SinkConnection>,
    /// The image.
    pub payload: &'a Payload,
    /// How many images a server gets before those that count.
    pub warm_up_images: u32,
    /// Whether clients follow `Retry-After`.
    pub retry: bool,
    /// How long nothing may move before a server is given up.
    pub give_up: Duration,
    /// Cancelled when somebody asks to stop.
    pub stop: &'a CancellationToken,
}

/// Which round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Who carries the bytes.
    pub target: Target,
    /// Whether they end in the null sink.
    pub to_sink: bool,
    /// Images at once.
    pub images: u32,
    /// Counted from 1.
    pub round: u32,
}

/// What the clients of some images saw, and how it ended.
struct Loaded {
    outcome: Outcome,
    ending: Ending,
}

/// Makes one round; `None` when somebody has asked to stop before its end, since half a round says nothing.
///
/// # Errors
/// When something beside the target does not work: the database, the store, this machine.
pub async fn make(ground: &Ground<'_>, turn: Turn, progress: &Progress) -> Result<Option<Run>> {
    let stand = ground.sandbox.try_stand().await.context(NO_STAND)?;
    let outcome = on_stand(ground, turn, progress, &stand).await;
    let removed = stand.remove().await.context("a round's database and bucket are left behind");
    let run = outcome?;
    removed?;
    settle().await;
    Ok(run)
}

/// Waits until the store has done what the round left it to do, so that no other round pays for it.
async fn settle() {
    let Some(store) = store::process_id() else { return };
    let until = Instant::now() + LONGEST_SETTLING;
    while Instant::now() < until {
        let before = process_cpu_ms(store);
        sleep(QUIET).await;
        match process_cpu_ms(store).zip(before) {
            Some((after, before)) if after - before > QUIET_CPU_MS => {}
            _ => return,
        }
    }
}

async fn on_stand(ground: &Ground<'_>, turn: Turn, progress: &Progress, stand: &Stand) -> Result<Option<Run>> {
    let sink = ground.sink.filter(|_| turn.to_sink);
    let started = ground.stage.start(turn.target, stand, sink).await;
    let mut started = started.with_context(|| format!("{} does not start", targets::name(turn.target)))?;
    let images = turn.images + ground.warm_up_images;
    let callers = callers(stand, turn.target, images).await?;
    let flow = target::flow(turn.target, started.url.as_ref(), stand, sink, images, ground.payload).await?;
    let (warm_up, rest) = flow.split(ground.warm_up_images);
    let mut told = Told::default();
    if ground.warm_up_images > 0 {
        let warmed = load(ground, &warm_up, &callers, ground.warm_up_images, &Progress::new(), &started).await?;
        told.add(warmed.outcome);
    }
    if let Some(sink) = sink {
        // The objects of the warm-up are not among those that are counted.
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
    let Loaded { outcome, ending } = load(ground, &rest, &callers, turn.images, progress, &started).await?;
    let since = |before: Option<f64>, after: Option<f64>| after.zip(before).map(|(after, before)| after - before);
    let generator_cpu_ms = since(generator_before, process_cpu_ms(std::process::id()));
    let stolen_ms = since(stolen_before, stolen_ms());
    if ground.stop.is_cancelled() {
        return Ok(None);
    }
    // What a server still does after its last answer belongs to the images, so it is let finish before CPU times are read.
    let server = match started.process.take() {
        Some(process) => Some(process.finish(ending == Ending::Finished).await?),
        None => None,
    };
    let store_cpu_ms = since(store_before, store_pid.and_then(process_cpu_ms));
    let load = outcome.load.clone();
    told.add(outcome);
    let (verified, ending) = look(turn.target, stand, sink, ground.payload, &told, ending).await?;
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

/// Releases images at once, and gives the target up where it is to be.
async fn load(
    ground: &Ground<'_>,
    flow: &Flow,
    callers: &[Caller],
    images: u32,
    progress: &Progress,
    started: &Started,
) -> Result<Loaded> {
    let options = Options { pattern: Pattern::Burst { images }, retry: ground.retry, request_timeout: REQUEST_TIMEOUT };
    let give_up = CancellationToken::new();
    let loading = load::run(flow, callers, ground.payload, &options, progress, give_up.clone());
    let mut loading = std::pin::pin!(loading);
    let ending = tokio::select! {
        outcome = &mut loading => {
            let outcome = outcome?;
            let ending = ending_behind(&outcome, started).await;
            return Ok(Loaded { outcome, ending });
        }
        ending = watch(ground, progress, started) => ending,
    };
    give_up.cancel();
    Ok(Loaded { outcome: loading.await?, ending })
}

/// How a load ended that has all of its answers, or none to wait for: a server's end is seen by its clients before anybody is told.
async fn ending_behind(outcome: &Outcome, started: &Started) -> Ending {
    let Some(process) = started.process.as_ref().filter(|_| outcome.unanswered > 0) else { return Ending::Finished };
    match timeout(END_IS_TOLD, process.ended()).await {
        Ok(status) => Ending::Died { status },
        // A program such as nginx goes on with new processes in their place.
        Err(_still_there) if process.killed_for_memory() > 0 => {
            Ending::Died { status: "one of its processes was killed for memory".to_owned() }
        }
        Err(_still_there) => Ending::Finished,
    }
}

/// Ends when the target is to be given up, or somebody has asked to stop.
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

/// Finished rounds only: of the others no client knows what became of its image.
async fn look(
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
