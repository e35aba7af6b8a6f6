//! The limits apply, are measured, and leave nothing behind. Shells stand in for servers.
//!
//! Dropping a server waits for it, so these runtimes have more than one thread.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use upload_bench::{
    limits::{Limited, Limiter, MEMORY_BYTES},
    record::Limits,
    usage::process_cpu_ms,
};
use upload_sandbox::process::Program;

use crate::not_tested;

const PATIENCE: Duration = Duration::from_secs(60);
/// Set in the process that a test kills.
const OTHER: &str = "UPLOAD_BENCH_TEST_OTHER";
const LISTENING: &str = "echo listening on http://127.0.0.1:1; ";

fn shell(script: &str) -> Program {
    Program::bare("/bin/sh", &tokio::runtime::Handle::current()).arg("-c").arg(format!("{LISTENING}{script}"))
}

/// A limiter with cgroups, or a note on stderr.
fn with_cgroups() -> Option<Limiter> {
    let limiter = Limiter::find().unwrap();
    if limiter.limits() == Limits::Taskset {
        not_tested("cgroups cannot be created here");
        return None;
    }
    Some(limiter)
}

/// The folders of a process's groups.
fn groups_of(limited: &Limited) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", limited.id())).unwrap();
    let mounts = ["cpu", "cpuacct", "cpu,cpuacct", "memory", ""].map(|name| PathBuf::from("/sys/fs/cgroup").join(name));
    let ours =
        groups.lines().filter_map(|line| line.rsplit_once(":/").filter(|(_, path)| path.contains("upload-bench-")));
    let folders = ours.flat_map(|(_, path)| mounts.iter().map(move |mount| mount.join(path)));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn number(lines: &str, name: &str) -> u64 {
    let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_more_than_a_gibibyte_is_killed_for_memory() {
    let Some(limiter) = with_cgroups() else { return };
    // `tail` keeps the last line in memory, and this line has no end.
    let limited = limiter.serve(shell("exec tail /dev/zero")).await.unwrap();
    limited.reset().unwrap();
    let status = timeout(PATIENCE, limited.ended()).await.unwrap();
    assert_eq!(status, "signal: 9 (SIGKILL), killed for memory");
    assert_eq!(limited.killed_for_memory(), 1);
    let usage = limited.usage().unwrap();
    let peak = usage.peak_cgroup_bytes.unwrap();
    assert!((MEMORY_BYTES * 9 / 10..=MEMORY_BYTES).contains(&peak), "{peak}");
    assert!(usage.peak_rss_bytes <= MEMORY_BYTES, "{usage:?}");
    assert!(usage.cpu_user_ms + usage.cpu_system_ms > 0.0, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_busy_processes_get_one_cpu_together() {
    let Some(limiter) = with_cgroups() else { return };
    let limited = limiter.serve(shell("while :; do :; done & while :; do :; done")).await.unwrap();
    let folders = groups_of(&limited);
    let stat = folders.iter().map(|folder| folder.join("cpu.stat")).find(|path| path.exists()).unwrap();
    limited.reset().unwrap();
    let at = || fs::read_to_string(&stat).unwrap();
    let before = at();
    let some_periods = async {
        while number(&at(), "nr_periods") < number(&before, "nr_periods") + 5 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, some_periods).await.expect("the quota is counted in periods");
    let usage = limited.usage().unwrap();
    let periods = number(&at(), "nr_periods") - number(&before, "nr_periods");
    let used_ms = usage.cpu_user_ms + usage.cpu_system_ms;
    // The first and the last period are partial, and the count may be late by a slice.
    assert!(used_ms <= (periods + 2) as f64 * 100.0, "{used_ms} ms in {periods} periods");
    assert!(usage.cpu_user_ms > usage.cpu_system_ms, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_group_when_its_server_is_dropped() {
    let Some(limiter) = with_cgroups() else { return };
    // The second process leaves the server's process group, but not the cgroup.
    let limited = limiter.serve(shell("setsid sleep 1000 & exec sleep 1000")).await.unwrap();
    let folders = groups_of(&limited);
    assert!(!folders.is_empty());
    // It becomes `sleep` once it has left.
    let sleeping = || {
        let processes = fs::read_to_string(folders[0].join("cgroup.procs")).unwrap();
        let name = |process: &str| fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        processes.lines().filter(|process| name(process) == "sleep\n").count()
    };
    let both = async {
        while sleeping() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, both).await.expect("the second process starts");
    drop(limited);
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_says_so_and_has_used_what_it_used() {
    let limiter = Limiter::find().unwrap();
    let limited = limiter.serve(shell("while :; do :; done")).await.unwrap();
    limited.reset().unwrap();
    let ended = limited.ended();
    limited.kill().await;
    assert_eq!(timeout(PATIENCE, ended).await.unwrap(), "signal: 9 (SIGKILL)");
    let usage = limited.finish(true).await.unwrap();
    assert!(usage.peak_rss_bytes > 0 && !usage.memory.is_empty(), "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_asked_to_stop_may_finish_its_work() {
    let limiter = Limiter::find().unwrap();
    // Set the trap before printing the address.
    let script = "trap 'dd if=/dev/zero of=/dev/null bs=1M count=10000 2>/dev/null; exit 0' TERM; \
                  echo listening on http://127.0.0.1:1; while :; do sleep 0.01; done";
    let program = Program::bare("/bin/sh", &tokio::runtime::Handle::current()).arg("-c").arg(script);
    let limited = limiter.serve(program).await.unwrap();
    limited.reset().unwrap();
    let usage = limited.finish(true).await.unwrap();
    assert!(usage.cpu_user_ms + usage.cpu_system_ms >= 10.0, "what it did after SIGTERM is counted: {usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_cgroups_a_server_has_one_cpu_and_its_memory_is_still_measured() {
    let Ok(limiter) = Limiter::by_taskset() else { return not_tested("there is no taskset") };
    assert_eq!(limiter.limits(), Limits::Taskset);
    let limited = limiter.serve(shell("while :; do :; done")).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", limited.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    limited.reset().unwrap();
    let busy = async {
        while process_cpu_ms(limited.id()).unwrap() < 100.0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, busy).await.unwrap();
    let usage = limited.usage().unwrap();
    assert!(usage.peak_rss_bytes > 0, "{usage:?}");
    assert_eq!(usage.peak_cgroup_bytes, None);
}

/// The process that the next test kills. On its own, this test does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_process() {
    if env::var_os(OTHER).is_none() {
        return;
    }
    let limited = Limiter::find().unwrap().serve(shell("exec sleep 1000")).await.unwrap();
    let folders = groups_of(&limited).into_iter().map(|folder| folder.display().to_string());
    println!("\nfolders /proc/{} {}", limited.id(), folders.collect::<Vec<_>>().join(" "));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_is_left_when_the_comparison_is_killed() {
    let mut other = Command::new(env::current_exe().unwrap())
        .args(["limits::the_other_process", "--exact", "--nocapture"])
        .env(OTHER, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("folders ")).unwrap();
    let folders: Vec<PathBuf> = line.split(' ').skip(1).map(PathBuf::from).collect();
    assert!(folders.iter().all(|folder| folder.exists()), "{folders:?}");
    other.kill().unwrap();
    other.wait().unwrap();
    let gone = async {
        while folders.iter().any(|folder| folder.exists()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the server and its cgroup go");
}
