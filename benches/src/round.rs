//! One round: a database and a bucket of its own, a server freshly started, the load, and a look at what it left.
//!
//! Nothing outlives a round, so that no target inherits another's cache, connections or memory.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::Utc;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use upload_domain::Role;
use upload_sandbox::{Sandbox, Stand};

use crate::{
    load::{self, Caller, Options, Outcome, Pattern, Progress},
    payload::Payload,
    record::{Ending, Run, Store, Target, Verified},
    report::targets,
    stage::{SinkConnection, Stage, Started},
    store, target,
    usage::process_cpu_ms,
    verify::verify,
};

/// Many users, so that no row of one is the bottleneck; more than so many gain nothing.
const MOST_CALLERS: u32 = 1000;
/// Users that are added at once.
const INSERTS: usize = 8;
/// How long one request may take, longer than any server here lets it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(240);

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
    /// Counted from 1; 0 is the warm-up.
    pub round: u32,
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
    Ok(run)
}

async fn on_stand(ground: &Ground<'_>, turn: Turn, progress: &Progress, stand: &Stand) -> Result<Option<Run>> {
    let sink = ground.sink.filter(|_| turn.to_sink);
    let started = ground.stage.start(turn.target, stand, sink).await;
    let mut started = started.with_context(|| format!("{} does not start", targets::name(turn.target)))?;
    let callers = callers(stand, turn).await?;
    let flow = target::flow(turn.target, started.url.as_ref(), stand, sink, turn.images, ground.payload).await?;
    let options = Options {
        pattern: Pattern::Burst { images: turn.images },
        keep_alive: None,
        retry: ground.retry,
        request_timeout: REQUEST_TIMEOUT,
    };
    if let Some(sink) = sink {
        sink.reset().await?;
    }
    let store_pid = sink.map_or_else(store::process_id, |sink| Some(sink.pid));
    let store_before = store_pid.and_then(process_cpu_ms);
    let started_at = Utc::now();
    if let Some(process) = &started.process {
        process.reset()?;
    }
    let give_up = CancellationToken::new();
    let loading = load::run(&flow, &callers, ground.payload, &options, progress, give_up.clone());
    let mut loading = std::pin::pin!(loading);
    let (outcome, ending) = tokio::select! {
        outcome = &mut loading => (outcome?, Ending::Finished),
        ending = watch(ground, progress, &started) => {
            give_up.cancel();
            (loading.await?, ending)
        }
    };
    if ground.stop.is_cancelled() {
        return Ok(None);
    }
    // What a server still does after its last answer belongs to the images, so it is let finish before CPU times are read.
    let server = match started.process.take() {
        Some(process) => Some(process.finish(ending == Ending::Finished).await?),
        None => None,
    };
    let store_cpu_ms = store_pid.and_then(process_cpu_ms).zip(store_before).map(|(after, before)| after - before);
    let (verified, ending) = look(turn, stand, sink, ground.payload, &outcome, ending).await?;
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
        load: outcome.load,
        server,
        store_cpu_ms,
        server_to_store,
        verified,
    }))
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
    turn: Turn,
    stand: &Stand,
    sink: Option<&SinkConnection>,
    payload: &Payload,
    outcome: &Outcome,
    ending: Ending,
) -> Result<(Option<Verified>, Ending)> {
    if ending != Ending::Finished {
        return Ok((None, ending));
    }
    if let Some(sink) = sink {
        let (objects, bytes) = sink.objects().await?;
        let successes = outcome.load.successes;
        if (objects, bytes) != (successes, successes * payload.file.len() as u64) {
            let reason = format!("{successes} successes, but {objects} objects of {bytes} bytes in all");
            return Ok((None, Ending::Void { reason }));
        }
        return Ok((Some(Verified { objects, rows: None, checksums: 0 }), ending));
    }
    let finding = verify(stand, turn.target, u64::from(turn.images), &outcome.images, payload).await?;
    Ok(match finding {
        Ok(verified) => (Some(verified), ending),
        Err(reason) => (None, Ending::Void { reason }),
    })
}

async fn callers(stand: &Stand, turn: Turn) -> Result<Vec<Caller>> {
    if !target::has_users(turn.target) {
        return Ok(Vec::new());
    }
    let people = (0..turn.images.min(MOST_CALLERS)).map(|_number| stand.add_person(Role::User));
    let people: Vec<_> = stream::iter(people).buffer_unordered(INSERTS).try_collect().await?;
    Ok(people.into_iter().map(|person| Caller { token: person.token }).collect())
}
