//! One round: a new database and bucket, a new server, a warm-up, the load, and a check of what it left.
//!
//! Nothing outlives a round, so no target inherits the cache, the connections, the memory or the pending work of another.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::Utc;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use upload_domain::Role;
use upload_sandbox::{Sandbox, Stand};

use crate::{
    limits::Limited,
    load::{self, Caller, Flow, Options, Outcome, Pattern, Progress, stalled},
    payload::Payload,
    record::{Beside, Case, Ending, Line, Run, Store, Target, Usage, Verified},
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

/// How many bytes of images arrive in a second in a crossover: so few that images hardly wait for each other.
const CROSSOVER_BYTES_PER_SECOND: f64 = 50e6;
/// The most images that arrive in a second in a crossover.
const CROSSOVER_IMAGES_PER_SECOND: f64 = 50.0;
/// Fast clients arrive when slow ones have sent this share of their images.
const FAST_AFTER: f64 = 0.25;

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
    /// What the clients do.
    pub case: Case,
    /// Images, without the slow ones of a mixed round.
    pub images: u32,
    /// Slow clients of a mixed round.
    pub slow_images: u32,
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// The lines of the clients; in a mixed round, of the slow ones.
    pub line: Line,
    /// Counted from 1.
    pub round: u32,
}

/// Some of the images of a round, which begin at the same time.
struct Part<'a> {
    flow: &'a Flow,
    callers: &'a [Caller],
    pattern: Pattern,
    line: Line,
    /// How long they begin after the other parts.
    after: Duration,
}

impl<'a> Part<'a> {
    fn burst(flow: &'a Flow, callers: &'a [Caller], images: u32) -> Self {
        Self { flow, callers, pattern: Pattern::Burst { images }, line: Line::default(), after: Duration::ZERO }
    }
}

impl Turn {
    /// What is measured: the images of all clients, or in a mixed round first those of the fast clients, and then those of the slow.
    fn parts<'a>(&self, all: Part<'a>, slow: Part<'a>) -> Vec<Part<'a>> {
        let (line, images) = (self.line, self.images);
        match self.case {
            Case::Burst | Case::Slow => vec![Part { line, ..all }],
            Case::Mixed => {
                let ideal_s = line.ideal_s(self.image_bytes).unwrap_or_default();
                vec![Part { after: Duration::from_secs_f64(ideal_s * FAST_AFTER), ..all }, slow]
            }
            Case::Crossover => {
                let by_bytes = CROSSOVER_BYTES_PER_SECOND / self.image_bytes as f64;
                let per_second = by_bytes.min(CROSSOVER_IMAGES_PER_SECOND);
                vec![Part { line, pattern: Pattern::Open { images, per_second }, ..all }]
            }
        }
    }
}

/// Runs one round with this image, which has the size of the turn. `None` if the user asked to stop before its end.
///
/// # Errors
/// When something other than the target fails: the database, the store, this machine.
pub async fn make(ground: &Ground<'_>, turn: Turn, payload: &Payload) -> Result<Option<Run>> {
    let stand = ground.sandbox.try_stand().await.context(NO_STAND)?;
    let outcome = on_stand(ground, turn, payload, &stand).await;
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

async fn on_stand(ground: &Ground<'_>, turn: Turn, payload: &Payload, stand: &Stand) -> Result<Option<Run>> {
    let sink = ground.sink.filter(|_| turn.to_sink);
    let started = ground.stage.start(turn.target, stand, sink).await;
    let mut started = started.with_context(|| format!("cannot start {}", targets::name(turn.target)))?;
    let alone = if turn.case == Case::Mixed { turn.images } else { 0 };
    let images = ground.warm_up_images + alone + turn.slow_images + turn.images;
    let callers = callers(stand, turn.target, images).await?;
    let flow = target::flow(turn.target, started.url.as_ref(), stand, sink, images, payload).await?;
    let (warm_up, flow) = flow.split(ground.warm_up_images);
    let (alone, flow) = flow.split(alone);
    let (slow, flow) = flow.split(turn.slow_images);
    // Slow and fast clients of a mixed round are different users.
    let share = f64::from(turn.slow_images) / f64::from(turn.slow_images + turn.images);
    let (for_slow, for_fast) = callers.split_at((callers.len() as f64 * share) as usize);
    let mut told = Told::default();
    if ground.warm_up_images > 0 {
        let part = Part::burst(&warm_up, &callers, ground.warm_up_images);
        let (outcomes, _ending) = load(ground, payload, &[part], &started).await?;
        outcomes.into_iter().for_each(|outcome| told.add(outcome));
    }
    if let Some(sink) = sink {
        // The sink does not count the warm-up.
        sink.reset().await?;
        told = Told::default();
    }
    let mut beside = None;
    if turn.case == Case::Mixed {
        let part = Part::burst(&alone, for_fast, turn.images);
        let (outcomes, _ending) = load(ground, payload, &[part], &started).await?;
        for outcome in outcomes {
            beside = Some(Beside { alone: outcome.load.clone(), slow_images: turn.slow_images, ..Beside::default() });
            told.add(outcome);
        }
    }
    let parts = turn.parts(
        Part::burst(&flow, for_fast, turn.images),
        Part { line: turn.line, ..Part::burst(&slow, for_slow, turn.slow_images) },
    );
    let store_pid = sink.map_or_else(store::process_id, |sink| Some(sink.pid));
    let store_before = store_pid.and_then(process_cpu_ms);
    let (generator_before, stolen_before) = (process_cpu_ms(std::process::id()), stolen_ms());
    let started_at = Utc::now();
    for process in started.process.iter().chain(&started.proxy) {
        process.reset()?;
    }
    let (outcomes, ending) = load(ground, payload, &parts, &started).await?;
    let since = |before: Option<f64>, after: Option<f64>| after.zip(before).map(|(after, before)| after - before);
    let generator_cpu_ms = since(generator_before, process_cpu_ms(std::process::id()));
    let stolen_ms = since(stolen_before, stolen_ms());
    if ground.stop.is_cancelled() {
        return Ok(None);
    }
    // What a server does after its last answer belongs to the images, so it may finish before its CPU time is read.
    let server = finish(started.process.take(), &ending).await?;
    let proxy = finish(started.proxy.take(), &ending).await?;
    let store_cpu_ms = since(store_before, store_pid.and_then(process_cpu_ms));
    let mut loads = outcomes.iter().map(|outcome| outcome.load.clone());
    let load = loads.next().unwrap_or_default();
    if let (Some(beside), Some(slow)) = (&mut beside, loads.next()) {
        beside.slow = slow;
    }
    outcomes.into_iter().for_each(|outcome| told.add(outcome));
    let (verified, ending) = check(turn.target, stand, sink, payload, &told, ending).await?;
    let server_to_store = match (sink, &server) {
        (Some(sink), Some(_server)) => {
            Some(sink.counts().await?.remove(target::own_key(turn.target)).unwrap_or_default())
        }
        _ => None,
    };
    Ok(Some(Run {
        target: turn.target,
        store: if turn.to_sink { Store::Sink } else { ground.store },
        case: turn.case,
        images: turn.images,
        round: turn.round,
        image_bytes: turn.image_bytes,
        line: turn.line,
        started_at,
        ending,
        load,
        beside,
        server,
        proxy,
        store_cpu_ms,
        generator_cpu_ms,
        stolen_ms,
        server_to_store,
        verified,
    }))
}

async fn finish(process: Option<Limited>, ending: &Ending) -> Result<Option<Usage>> {
    Ok(match process {
        Some(process) => Some(process.finish(*ending == Ending::Finished).await?),
        None => None,
    })
}

/// Releases the images, and gives the target up if it hangs or dies. Returns what the clients of each part saw, and how the load
/// ended.
async fn load(
    ground: &Ground<'_>,
    payload: &Payload,
    parts: &[Part<'_>],
    started: &Started,
) -> Result<(Vec<Outcome>, Ending)> {
    let progress: Vec<Progress> = parts.iter().map(|_part| Progress::new()).collect();
    let give_up = CancellationToken::new();
    let give_up_now = &give_up;
    let loading = try_join_all(parts.iter().zip(&progress).map(|(part, progress)| async move {
        give_up_now.run_until_cancelled(sleep(part.after)).await;
        let Part { pattern, line, .. } = *part;
        let options = Options { pattern, line, retry: ground.retry, request_timeout: REQUEST_TIMEOUT };
        load::run(part.flow, part.callers, payload, &options, progress, give_up_now.clone()).await
    }));
    let mut loading = std::pin::pin!(loading);
    let ending = tokio::select! {
        outcomes = &mut loading => {
            let outcomes = outcomes?;
            let ending = ending_behind(&outcomes, started).await;
            return Ok((outcomes, ending));
        }
        ending = watch(ground, &progress, started) => ending,
    };
    give_up.cancel();
    Ok((loading.await?, ending))
}

/// How a load ended, after it stopped waiting for answers. Clients notice the end of a server before its exit is known.
async fn ending_behind(outcomes: &[Outcome], started: &Started) -> Ending {
    let is_answered = outcomes.iter().all(|outcome| outcome.undecided == 0);
    let Some(process) = started.process.as_ref().filter(|_| !is_answered) else { return Ending::Finished };
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
async fn watch(ground: &Ground<'_>, progress: &[Progress], started: &Started) -> Ending {
    let hung = async {
        let idle = stalled(progress, ground.give_up).await;
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
