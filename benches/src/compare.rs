//! The comparison: which targets take part, in which order, and what is kept.
//!
//! Targets take turns within each round, so a machine that slows down slows all of them. The report is written after every round. If
//! the comparison ends early, the measurements until then are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use futures::future::try_join_all;
use nix::sys::statvfs::statvfs;
use tokio_util::sync::CancellationToken;
use upload_sandbox::{Sandbox, Stand};

use crate::{
    client::Failure,
    facts,
    load::check_descriptors,
    payload::Payload,
    record::{Case, Ending, Machine, Report, Run, Skipped, Store, Target, VERSION},
    report::{self, targets},
    round::{self, Ground, Turn},
    screen,
    stage::Stage,
    workload::{Group, Workload},
};

/// Every comparison uses the same image.
pub(crate) const SEED: u64 = 5;
/// The settings that make a deployed Postgres durable. The sandbox turns them off for its tests.
const DURABILITY: [&str; 4] = ["fsync", "synchronous_commit", "full_page_writes", "autovacuum"];
/// Free disk space for our own store, as a multiple of the largest burst: a linked image exists twice until its upload is deleted, and
/// a third time in a proxy that buffers.
const ROOM: u64 = 3;
/// What all clients of a target together may send in a second, in bytes, if its rounds are made side by side with those of others.
const LIGHT_BYTES_PER_SECOND: u64 = 10_000_000;
/// After this many failed rounds with one number of images, the target gets no more rounds with it.
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

/// Runs all rounds of the plan, and returns the report, which may be incomplete.
///
/// # Errors
/// When something other than a target fails. The measurements until then are in the folder.
pub async fn run(plan: &Plan, stage: &Stage, stop: &CancellationToken) -> Result<Report> {
    let workload = &plan.workload;
    if plan.store != Store::Given {
        check_room(workload)?;
    }
    for group in workload.groups() {
        check_descriptors(group.clients().max(workload.warm_up_images), group.line)?;
    }
    screen::say("making the images and starting Postgres");
    let payloads = payloads(workload)?;
    let sandbox = Sandbox::start().await?;
    let (targets, skipped) = taking_part(&workload.all_targets(), stage, &sandbox).await?;
    let mut report = Report {
        version: VERSION,
        started_at: Utc::now(),
        machine: machine(stage, &sandbox, plan.store).await?,
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
        warm_up_images: workload.warm_up_images,
        retry: workload.retry,
        give_up: Duration::from_secs(workload.give_up_seconds),
        stop,
    };
    let turns = turns(workload, &targets);
    let (mut done, all) = (0, turns.iter().map(Vec::len).sum());
    for side_by_side in turns {
        if stop.is_cancelled() {
            break;
        }
        done += side_by_side.len();
        let wanted = side_by_side.iter().filter(|turn| given_up(&report.runs, **turn) < MOST_GIVEN_UP);
        let made = try_join_all(wanted.map(|turn| make_or_repeat(&ground, *turn, &payloads))).await?;
        for mut run in made.into_iter().flatten() {
            if side_by_side.len() > 1 {
                // The targets have shared them.
                (run.store_cpu_ms, run.generator_cpu_ms, run.stolen_ms) = (None, None, None);
            }
            screen::show_round(&run, done, all);
            report.runs.push(run);
        }
        report::write(&report, &plan.folder)?;
    }
    report.complete = !stop.is_cancelled();
    report::write(&report, &plan.folder)?;
    Ok(report)
}

async fn make_or_repeat(ground: &Ground<'_>, turn: Turn, payloads: &BTreeMap<u64, Payload>) -> Result<Option<Run>> {
    let payload = payloads.get(&turn.image_bytes).context("there is no image of this size")?;
    let made = make(ground, turn, payload).await;
    if let Err(error) = &made {
        // The store may still be busy with requests that the previous round broke off.
        screen::say(&format!("trying the round again after an error: {error:#}"));
        return make(ground, turn, payload).await;
    }
    made
}

async fn make(ground: &Ground<'_>, turn: Turn, payload: &Payload) -> Result<Option<Run>> {
    let made = round::make(ground, turn, payload).await;
    made.with_context(|| format!("{} with {} images", targets::name(turn.target), turn.images))
}

/// The versions and settings that decide the figures. It makes the first stand, so a store or a Postgres that does not work is reported
/// here. It also turns on the durability of the sandbox's own Postgres.
async fn machine(stage: &Stage, sandbox: &Sandbox, store: Store) -> Result<Machine> {
    let stand = sandbox.try_stand().await.context(round::NO_STAND)?;
    if env::var_os("DATABASE_URL").is_none_or(|url| url.is_empty()) {
        for name in DURABILITY {
            stand.sql(&format!("ALTER SYSTEM SET {name} = on")).await?;
        }
        stand.sql("SELECT pg_reload_conf()").await?;
    }
    let mut machine = facts::machine(stage.limits());
    machine.programs = stage.programs();
    machine.programs.extend(show(&stand, "server_version").await?.map(|version| ("postgres".to_owned(), version)));
    let minio = if store == Store::Minio { facts::minio() } else { None };
    machine.programs.extend(minio.map(|version| ("minio".to_owned(), version)));
    for name in DURABILITY {
        machine.settings.extend(show(&stand, name).await?.map(|value| (format!("postgres {name}"), value)));
    }
    machine.settings.insert("image seed".to_owned(), SEED.to_string());
    stand.remove().await?;
    Ok(machine)
}

/// A setting of Postgres, as a new connection has it.
async fn show(stand: &Stand, name: &str) -> Result<Option<String>> {
    Ok(stand.sql(&format!("SHOW {name}")).await?.into_iter().flatten().flatten().next())
}

/// A full disk in the middle of a round would look like a failure of the target.
fn check_room(workload: &Workload) -> Result<()> {
    let folder = env::temp_dir();
    let disk = statvfs(&folder).with_context(|| format!("cannot read the free space of {}", folder.display()))?;
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    let groups = workload.groups();
    let largest = groups.iter().max_by_key(|group| u64::from(group.clients()) * group.image_bytes);
    let (images, image_bytes) = largest.map_or((0, 0), |group| (group.clients(), group.image_bytes));
    let needed = u64::from(images) * image_bytes * ROOM;
    ensure!(
        free >= needed,
        "{} has {free} bytes free, and {images} images at once need {needed}: free some space, set TMPDIR to a larger disk, or use fewer images",
        folder.display(),
    );
    Ok(())
}

/// The targets that can run here, and why the others cannot.
async fn taking_part(targets: &[Target], stage: &Stage, sandbox: &Sandbox) -> Result<(Vec<Target>, Vec<Skipped>)> {
    let mut missing: BTreeMap<Target, String> =
        targets.iter().filter_map(|target| Some((*target, stage.missing(*target)?))).collect();
    if targets.contains(&Target::V2Version) && !missing.contains_key(&Target::V2Version) {
        let stand = sandbox.try_stand().await.context(round::NO_STAND)?;
        let refused = stand.enable_versioning().await.err();
        stand.remove().await?;
        missing.extend(refused.map(|error| (Target::V2Version, format!("{error:#}"))));
    }
    let there = targets.iter().copied().filter(|target| !missing.contains_key(target)).collect();
    Ok((there, missing.into_iter().map(|(target, reason)| Skipped { target, reason }).collect()))
}

/// One image of each size.
fn payloads(workload: &Workload) -> Result<BTreeMap<u64, Payload>> {
    let sizes: BTreeSet<u64> = workload.groups().iter().map(|group| group.image_bytes).collect();
    sizes.into_iter().map(|bytes| Ok((bytes, Payload::jpeg(usize::try_from(bytes)?, SEED)))).collect()
}

/// All rounds in order. Those in one list are made side by side: cells of the crossover in which the machine has almost nothing to do.
fn turns(workload: &Workload, there: &[Target]) -> Vec<Vec<Turn>> {
    let mut turns = Vec::new();
    for mut group in workload.groups() {
        group.targets.retain(|target| there.contains(target));
        let rate = group.line.bytes_per_second.map(|each| each * u64::from(group.images));
        let is_light = group.case == Case::Crossover && rate.is_some_and(|rate| rate <= LIGHT_BYTES_PER_SECOND);
        for round in 1..=group.rounds {
            let of_round = round_of(&group, round);
            if is_light {
                turns.push(of_round.collect());
            } else {
                turns.extend(of_round.map(|turn| vec![turn]));
            }
        }
    }
    turns
}

/// Each round starts with the next target, and every second round goes backwards: a target leaves the machine warm or busy for the next.
fn round_of(group: &Group, round: u32) -> impl Iterator<Item = Turn> {
    let mut targets = group.targets.clone();
    let first = round.saturating_sub(1) as usize % targets.len().max(1);
    targets.rotate_left(first);
    if round.is_multiple_of(2) {
        targets.reverse();
    }
    let Group { case, to_sink, images, slow_images, image_bytes, line, .. } = *group;
    let turn = move |target| Turn { target, to_sink, case, images, slow_images, image_bytes, line, round };
    targets.into_iter().map(turn)
}

fn given_up(runs: &[Run], turn: Turn) -> u32 {
    let same = runs.iter().filter(|run| {
        let of_run = (run.target, run.case, run.images, run.image_bytes, run.line, run.store == Store::Sink);
        of_run == (turn.target, turn.case, turn.images, turn.image_bytes, turn.line, turn.to_sink)
    });
    // A server that answers too slowly keeps a round going until its clients time out.
    let given_up = same.filter(|run| {
        matches!(run.ending, Ending::Hung { .. } | Ending::Died { .. })
            || run.load.failures.contains_key(&Failure::Timeout.to_string())
    });
    u32::try_from(given_up.count()).unwrap_or(u32::MAX)
}

/// Where a report goes without `--out`.
pub fn default_folder(workspace: &Path) -> PathBuf {
    workspace.join("target/upload-bench").join(Utc::now().format("%Y-%m-%dT%H-%M-%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Crossover, Size};

    #[test]
    fn no_target_always_follows_the_same_other() -> Result<()> {
        let workload = Workload { targets: vec![Target::Direct, Target::V1, Target::Nginx], ..Workload::quick()? };
        let turns = turns(&workload, &workload.targets);
        let round = |round| -> Vec<Target> {
            let of_round = turns
                .iter()
                .flatten()
                .filter(|turn| (turn.case, turn.images, turn.round, turn.to_sink) == (Case::Burst, 100, round, false));
            of_round.map(|turn| turn.target).collect()
        };
        assert_eq!(round(1), [Target::Direct, Target::V1, Target::Nginx]);
        assert_eq!(round(2), [Target::Direct, Target::Nginx, Target::V1]);
        assert_eq!(round(3), [Target::Nginx, Target::Direct, Target::V1]);
        Ok(())
    }

    #[test]
    fn the_servers_of_a_cell_take_turns_side_by_side_only_if_its_clients_send_little() -> Result<()> {
        let crossover = Crossover {
            sizes: vec![Size { image_bytes: 5_000_000, images: 40 }, Size { image_bytes: 50_000, images: 41 }],
            rtt_ms: vec![0],
            bytes_per_second: vec![None, Some(250_000)],
            rounds: 1,
        };
        let targets = vec![Target::V1, Target::V2Post];
        let plan = Workload { targets, bursts: vec![], sink_bursts: vec![], slow: vec![], ..Workload::quick()? };
        let turns = turns(&Workload { crossover: Some(crossover), ..plan.clone() }, &plan.targets);
        // Without a limit one after another, 40 × 250,000 bytes side by side, 41 × 250,000 bytes one after another.
        assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1, 2, 1, 1]);
        Ok(())
    }
}
