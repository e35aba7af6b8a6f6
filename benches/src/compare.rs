//! The comparison: who takes part, in which order, and what is kept.
//!
//! Targets take turns within each round, so that a machine that slows down slows all of them. After every round the report is
//! written anew: whatever ends the comparison, what was measured so far is there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use upload_sandbox::Sandbox;

use crate::{
    facts,
    load::{Progress, check_descriptors},
    payload::Payload,
    record::{Ending, Report, Run, Skipped, Store, Target, VERSION},
    report::{self, targets},
    round::{self, Ground, Turn},
    screen::Screen,
    stage::Stage,
    workload::{Burst, Workload},
};

/// The image is the same in every comparison.
const SEED: u64 = 5;
/// A target that could not go on so often at one number of images is not asked again for that number.
const MOST_GIVEN_UP: u32 = 2;

/// What to compare, and where to keep it.
#[derive(Debug)]
pub struct Plan {
    /// What to measure.
    pub workload: Workload,
    /// Which store is there.
    pub store: Store,
    /// The folder of the report.
    pub folder: PathBuf,
}

/// Makes all rounds of the plan, and returns the report as far as it got.
///
/// # Errors
/// When something beside the targets does not work. What was measured until then is in the folder.
pub async fn run(plan: &Plan, stage: &Stage, stop: &CancellationToken) -> Result<Report> {
    let workload = &plan.workload;
    check_descriptors(workload.most_images())?;
    let screen = Screen::new();
    screen.say("making the image, starting Postgres");
    let payload = Payload::jpeg(usize::try_from(workload.image_bytes)?, SEED);
    let sandbox = Sandbox::start().await?;
    let (targets, skipped) = taking_part(workload, stage);
    let mut report = Report {
        version: VERSION,
        started_at: Utc::now(),
        machine: facts::machine(stage.limits(), programs(stage, &sandbox, plan.store).await?),
        workload: workload.clone(),
        runs: Vec::new(),
        skipped,
        complete: false,
    };
    report::write(&report, &plan.folder)?;
    let sink = match workload.sink_bursts.as_slice() {
        [] => None,
        _ => Some(stage.start_sink(&sandbox).await?),
    };
    let ground = Ground {
        stage,
        sandbox: &sandbox,
        store: plan.store,
        sink: sink.as_ref(),
        payload: &payload,
        retry: workload.retry,
        give_up: Duration::from_secs(workload.give_up_seconds),
        stop,
    };
    for turn in turns(workload, &targets) {
        if stop.is_cancelled() {
            break;
        }
        if given_up(&report.runs, turn) >= MOST_GIVEN_UP {
            continue;
        }
        let progress = Progress::new();
        let drawn = screen.turn(turn, &progress);
        let made = round::make(&ground, turn, &progress).await;
        let made = made.with_context(|| format!("{} with {} images", targets::name(turn.target), turn.images))?;
        drop(drawn);
        let Some(run) = made else { break };
        screen.run(&run);
        if turn.round > 0 {
            report.runs.push(run);
            report::write(&report, &plan.folder)?;
        }
    }
    report.complete = !stop.is_cancelled();
    report::write(&report, &plan.folder)?;
    Ok(report)
}

/// Versions of all that takes part. The first stand is made for it, so that a store or a Postgres that does not work is told here.
async fn programs(stage: &Stage, sandbox: &Sandbox, store: Store) -> Result<BTreeMap<String, String>> {
    let mut programs = stage.programs();
    let stand = sandbox.try_stand().await.context(round::NO_STAND)?;
    let version = stand.sql("SHOW server_version").await?.into_iter().flatten().flatten().next();
    programs.extend(version.map(|version| ("postgres".to_owned(), version)));
    stand.remove().await?;
    let minio = if store == Store::Minio { facts::minio() } else { None };
    programs.extend(minio.map(|version| ("minio".to_owned(), version)));
    Ok(programs)
}

/// The targets that can be run here, and why the others cannot.
fn taking_part(workload: &Workload, stage: &Stage) -> (Vec<Target>, Vec<Skipped>) {
    let missing: BTreeMap<Target, String> =
        workload.targets.iter().filter_map(|target| Some((*target, stage.missing(*target)?))).collect();
    let there = workload.targets.iter().copied().filter(|target| !missing.contains_key(target)).collect();
    (there, missing.into_iter().map(|(target, reason)| Skipped { target, reason }).collect())
}

/// Every round in its order: a warm-up of each target, then burst by burst, and last the same on the null sink.
fn turns(workload: &Workload, targets: &[Target]) -> Vec<Turn> {
    let warm_up = Burst { images: workload.warm_up_images, rounds: 1 };
    let mut turns: Vec<Turn> = round_of(targets, warm_up, 0, false).filter(|turn| turn.images > 0).collect();
    for (bursts, to_sink) in [(&workload.bursts, false), (&workload.sink_bursts, true)] {
        for burst in bursts {
            for round in 1..=burst.rounds {
                turns.extend(round_of(targets, *burst, round, to_sink));
            }
        }
    }
    turns
}

fn round_of(targets: &[Target], burst: Burst, round: u32, to_sink: bool) -> impl Iterator<Item = Turn> {
    targets.iter().map(move |target| Turn { target: *target, to_sink, images: burst.images, round })
}

fn given_up(runs: &[Run], turn: Turn) -> u32 {
    let same = runs.iter().filter(|run| {
        run.target == turn.target && run.images == turn.images && (run.store == Store::Sink) == turn.to_sink
    });
    let given_up = same.filter(|run| matches!(run.ending, Ending::Hung { .. } | Ending::Died { .. }));
    u32::try_from(given_up.count()).unwrap_or(u32::MAX)
}

/// Where a report goes unless somebody says otherwise: out of the repository's way.
pub fn default_folder(workspace: &Path) -> PathBuf {
    workspace.join("target/upload-bench").join(Utc::now().format("%Y-%m-%dT%H-%M-%S").to_string())
}
