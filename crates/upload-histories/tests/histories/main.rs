//! The property: whatever happens, nothing is lost and nothing is left. The README says how to run it.
//!
//! It uses plain proptest with a strategy of scripts, and not proptest-state-machine. There the model computes each state before the test
//! begins, from the steps alone. Here it must learn from the answers: after a fault it cannot know whether a request was carried out, and ids
//! and forms come from the servers. That crate's traits are also not async.

mod aftermath;
mod crashes;
mod faults;
mod history;
mod model;
mod races;
mod script;
mod tally;
mod world;

use std::{
    cell::RefCell,
    env,
    io::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};

use crate::{tally::Tally, world::World};

/// Seeds of histories that failed once. Every run begins with them.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/histories.txt");
const HISTORIES: u64 = 200;
/// How often the program is killed at each point.
const CRASHES: u64 = 3;
/// How many rounds each race has.
const RACES: u64 = 4;
const AT_ONCE: u64 = 3;
const FAULTS_AT_ONCE: u64 = 8;
/// In a debug build, the tree of values of a whole script needs more than a thread usually has.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// A world ends after so many histories, so that the logs of its replicas do not grow for ever.
const HISTORIES_OF_A_WORLD: u32 = 250;
/// How many of a hundred answers may fail because the machine is too slow. With more of them the run has tested something else.
const MOST_SLOW_PERCENT: f64 = 1.0;
/// How many histories have ended, of all workers. It says so after each of these.
static ENDED: AtomicU64 = AtomicU64::new(0);
const PROGRESS: u64 = 100;
/// The most tries to make a failed history shorter.
const MOST_SHRINKS: u32 = 60;

#[test]
fn random_histories_lose_nothing_and_leave_nothing() {
    alone(run_histories);
}

#[test]
fn a_kill_at_any_point_leaves_nothing() {
    alone(run_crashes);
}

#[test]
fn races_have_one_winner() {
    alone(run_races);
}

#[test]
fn each_fault_has_its_answer() {
    alone(run_faults);
}

/// Runs one test at a time. Limits on time are a part of what they test, so they must not slow each other down.
fn alone(test: fn() -> Result<()>) {
    static RUNS: Mutex<()> = Mutex::new(());
    let _alone = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = test() {
        panic!("{error:#}");
    }
}

fn run_histories() -> Result<()> {
    let histories = number("HISTORIES")?.unwrap_or(HISTORIES);
    let at_once = at_once(histories)?;
    let seed = number("HISTORIES_SEED")?.unwrap_or_else(rand::random);
    say(&format!("{histories} histories, {at_once} at once, HISTORIES_SEED={seed}"))?;
    let share = |worker: u64| histories / at_once + u64::from(worker < histories % at_once);
    let tally = in_shares(at_once, |worker| work(share(worker), seed, worker));
    let tally = tally.with_context(|| format!("HISTORIES_SEED={seed}"))?;
    let slow = tally.slow_percent();
    ensure!(
        slow <= MOST_SLOW_PERCENT,
        "HISTORIES_SEED={seed}: {slow:.1}% of the answers failed without a fault after a second or more: the machine is too slow"
    );
    Ok(())
}

fn run_crashes() -> Result<()> {
    let rounds = number("CRASHES")?.unwrap_or(CRASHES);
    let at_once = at_once(rounds)?;
    say(&format!("{rounds} kills at each of {} points, {at_once} at once", crashes::POINTS.len()))?;
    in_shares(at_once, |worker| runtime()?.block_on(crashes::run(rounds, worker, at_once))).map(drop)
}

fn run_races() -> Result<()> {
    let rounds = number("RACES")?.unwrap_or(RACES);
    let at_once = at_once(rounds)?;
    say(&format!("{rounds} rounds of each race, {at_once} at once"))?;
    in_shares(at_once, |worker| runtime()?.block_on(races::run(rounds, worker, at_once))).map(drop)
}

fn run_faults() -> Result<()> {
    let all = match env::var("FAULTS").as_deref() {
        Ok("all") => true,
        Ok("off") => return say("FAULTS=off: the fault matrix is not run"),
        Ok(other) => bail!("FAULTS is `{other}`; it may be `all` or `off`"),
        Err(_) => false,
    };
    say(&format!("the fault matrix, {}", if all { "from three places" } else { "from the middle of each operation" }))?;
    // Most of the time they wait.
    in_shares(FAULTS_AT_ONCE, |worker| {
        runtime()?.block_on(faults::run(all, usize::try_from(worker)?, usize::try_from(FAULTS_AT_ONCE)?))
    })
    .map(drop)
}

/// Runs every share in a thread of its own, and says what they have done together.
fn in_shares(shares: u64, work: impl Fn(u64) -> Result<Tally> + Sync) -> Result<Tally> {
    let begun = Instant::now();
    let outcomes = thread::scope(|scope| {
        let work = &work;
        let start =
            |share: u64| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || work(share));
        let workers: Vec<_> = (0..shares).map(start).collect::<std::io::Result<_>>()?;
        anyhow::Ok(workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>())
    })?;
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    for outcome in outcomes {
        match outcome.map_err(|_panic| anyhow!("a worker panicked"))? {
            Ok(own) => tally.add(own),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    say(&format!("{tally}in {:.1} s", begun.elapsed().as_secs_f64()))?;
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(tally)
}

/// Runs a share of the histories, one after another, each on a world that the one before has left empty.
fn work(histories: u64, seed: u64, worker: u64) -> Result<Tally> {
    let runtime = runtime()?;
    let tally = RefCell::new(Tally::default());
    // Without versions, and with.
    let worlds: RefCell<[Option<World>; 2]> = RefCell::default();
    let config = Config {
        cases: u32::try_from(histories)?,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_iters: MOST_SHRINKS,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&worker.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&script::scripts(), |script| {
        let place = usize::from(script.versions);
        let used = worlds.borrow_mut()[place].take();
        let mut own = Tally::default();
        let played = runtime.block_on(async {
            let mut world = match used {
                Some(world) if world.histories < HISTORIES_OF_A_WORLD => world,
                _ => World::start(script.versions).await.context("no world can be made")?,
            };
            world.histories += 1;
            history::run(&mut world, &script, &mut own).await?;
            anyhow::Ok(world)
        });
        tally.borrow_mut().add(own);
        match played {
            // A world in which something went wrong is not used again.
            Err(error) => Err(TestCaseError::fail(format!("{error:#}"))),
            Ok(world) => {
                worlds.borrow_mut()[place] = Some(world);
                tally.borrow_mut().histories += 1;
                let ended = ENDED.fetch_add(1, Ordering::Relaxed) + 1;
                if ended.is_multiple_of(PROGRESS) {
                    say(&format!("{ended} histories")).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
                }
                Ok(())
            }
        }
    });
    {
        // Relays and clients live on this runtime.
        let _context = runtime.enter();
        drop(worlds);
    }
    match outcome {
        Ok(()) => Ok(tally.into_inner()),
        Err(TestError::Fail(reason, script)) => bail!("{reason}\n--- the shortest script that fails\n{script:#?}"),
        Err(TestError::Abort(reason)) => bail!("{reason}"),
    }
}

/// Where a worker's relays and clients live.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn at_once(work: u64) -> Result<u64> {
    Ok(number("HISTORIES_AT_ONCE")?.unwrap_or(AT_ONCE).clamp(1, work.max(1)))
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(value) = env::var(variable) else { return Ok(None) };
    value.parse().map(Some).with_context(|| format!("{variable} is `{value}`; it must be a whole number"))
}

/// Prints past the test harness's capture, in one piece.
fn say(text: &str) -> Result<()> {
    Ok(std::io::stderr().write_all(format!("\n{text}\n").as_bytes())?)
}
